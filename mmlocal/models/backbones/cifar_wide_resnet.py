"""Wide residual networks for 32x32 images."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmlocal.registry import MODELS

from .cifar_resnext import check_indices


@MODELS.register_module()
class CIFARWideResNet(BaseModule):
    """WRN-d-k for small images, of pre-activation blocks.

    A 3x3 stem of 16 channels, then three stages of (depth - 4) / 6 blocks of
    16k, 32k and 64k channels at strides 1, 2 and 4; see
    `Wide Residual Networks <https://arxiv.org/abs/1605.07146>`_. WRN-28-4 has
    5.872 M parameters with 100 classes. Submodules are named as in
    torchvision's ResNet: ``layer2.0`` is the first block of the second stage.

    Args:
        depth (int): 6n + 4. Defaults to 28.
        widen_factor (int): k. Defaults to 4.
        in_channels (int): Channels of the image. Defaults to 3.
        drop_rate (float): Dropout between the two convolutions of a block.
            Defaults to 0.
        out_indices (Sequence[int]): Which maps to return: 0 for the stem, 1
            to 3 for the stages, all before the BatchNorm that follows them,
            and 4 for the third behind BatchNorm and ReLU. Defaults to (4, ).
        init_cfg (dict | list[dict], optional): Initialization of mmengine.
            Defaults to He's for convolutions, N(0, 2 / (k * k * C_out)).

    Raises:
        ValueError: If the depth is not 6n + 4, or an index is unknown.
    """

    def __init__(
        self,
        depth: int = 28,
        widen_factor: int = 4,
        in_channels: int = 3,
        drop_rate: float = 0.0,
        out_indices: Sequence[int] = (4,),
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg or {'type': 'Kaiming', 'layer': 'Conv2d'})
        num_blocks, rest = divmod(depth - 4, 6)
        if rest or num_blocks < 1:
            raise ValueError(
                f'backbone.depth={depth} is not 6n + 4: write 10, 16, 22, '
                '28 or 40'
            )
        self.out_indices = check_indices(out_indices, 4)
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        channels = 16
        for stage in range(3):
            width = 16 * widen_factor << stage
            blocks = []
            for index in range(num_blocks):
                stride = 2 if stage and not index else 1
                blocks.append(PreActBlock(channels, width, stride, drop_rate))
                channels = width
            self.add_module(f'layer{stage + 1}', nn.Sequential(*blocks))
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images (N, C, H, W) to the maps of ``out_indices``.

        By default one, (N, 64k, ceil(H/4), ceil(W/4)).
        """
        x = self.conv1(x)
        maps = [x]
        for layer in self.layer1, self.layer2, self.layer3:
            x = layer(x)
            maps.append(x)
        maps.append(self.relu(self.bn1(x)))
        return tuple(maps[index] for index in self.out_indices)


class PreActBlock(nn.Module):
    """BatchNorm, ReLU and a 3x3 convolution, twice, around a shortcut.

    Where the width changes, the shortcut is a 1x1 convolution of the
    activated input.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Of the first convolution and the shortcut.
        drop_rate (float): Dropout between the convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        drop_rate: float,
    ):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(
            in_channels, out_channels, 3, stride, padding=1, bias=False
        )
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.dropout = nn.Dropout(drop_rate)
        self.conv2 = nn.Conv2d(
            out_channels, out_channels, 3, padding=1, bias=False
        )
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if in_channels != out_channels:
            self.downsample = nn.Conv2d(
                in_channels, out_channels, 1, stride, bias=False
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map of ``in_channels`` to one of ``out_channels``."""
        out = self.relu(self.bn1(x))
        shortcut = x if self.downsample is None else self.downsample(out)
        out = self.relu(self.bn2(self.conv1(out)))
        return self.conv2(self.dropout(out)) + shortcut
