"""ResNets for 32x32 images, with a stem that drops units."""

from __future__ import annotations

from typing import Any

from mmpretrain.models.backbones import ResNet_CIFAR
from torch import Tensor, nn

from mmlocal.registry import MODELS


@MODELS.register_module()
class LayerwiseResNet(ResNet_CIFAR):
    """mmpretrain's ResNet_CIFAR as it is trained layer by layer.

    The stem is a block of its own: 3x3 convolution, norm, activation and
    dropout. Residual blocks have no dropout. Four stages of widths 64 to
    512 at strides 1 to 8; the parameters are named as in ResNet_CIFAR.

    Args:
        depth (int): 18, 34, 50, 101 or 152. Defaults to 18.
        drop_rate (float): Dropout of the stem. Defaults to 0.2.
        base_channels (int): Width of the first stage and of the stem.
            Defaults to 64.
        zero_init_residual (bool): Begin with residual branches that give 0,
            so that a block's first local loss sees its shortcut alone.
            Defaults to False, as published.
        init_cfg (dict | list[dict], optional): Initialization of mmengine.
            Defaults to torch's own, as published.
        **kwargs: Of mmpretrain's ResNet_CIFAR.

    Example:
        >>> backbone = dict(type='mmlocal.LayerwiseResNet', depth=50)
    """

    def __init__(
        self,
        depth: int = 18,
        drop_rate: float = 0.2,
        base_channels: int = 64,
        zero_init_residual: bool = False,
        init_cfg: dict | list[dict] | None = None,
        **kwargs: Any,
    ):
        kwargs.setdefault('stem_channels', base_channels)
        super().__init__(
            depth,
            base_channels=base_channels,
            zero_init_residual=zero_init_residual,
            init_cfg=init_cfg,
            **kwargs,
        )
        self.dropout = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images (N, C, H, W) to the maps of ``out_indices``.

        The last has ``8 * base_channels`` channels (times 4 from a depth of
        50 on) at stride 8.
        """
        x = self.dropout(self.relu(self.norm1(self.conv1(x))))
        outs = []
        for index, name in enumerate(self.res_layers):
            x = getattr(self, name)(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)
