"""VGG nets whose every layer is a block with a loss of its own."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import build_activation_layer, build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmlocal.registry import MODELS

# Widths of the convolutions; M is pooling over 2x2.
ARCHITECTURES: dict[str, list[int | str]] = {
    'vgg6b': [128, 'M', 256, 'M', 512, 'M', 512, 'M'],
    'vgg8b': [128, 256, 'M', 256, 512, 'M', 512, 'M', 512, 'M'],
    'vgg11b': [
        *(128, 128, 128, 256, 'M', 256, 512, 'M', 512, 512, 'M', 512, 'M')
    ],
    'vgg11': [
        *(64, 'M', 128, 'M', 256, 256, 'M', 512, 512, 'M', 512, 512, 'M')
    ],
    'vgg13': [
        *(64, 64, 'M', 128, 128, 'M', 256, 256, 'M'),
        *(512, 512, 'M', 512, 512, 'M'),
    ],
    'vgg16': [
        *(64, 64, 'M', 128, 128, 'M', 256, 256, 256, 'M'),
        *(512, 512, 512, 'M', 512, 512, 512, 'M'),
    ],
}

RELU = {'type': 'ReLU', 'inplace': True}


@MODELS.register_module()
class LayerwiseVGG(BaseModule):
    """VGG as it is trained layer by layer.

    Blocks of a 3x3 convolution, norm, activation and dropout, pooling without
    parameters between them, then blocks of a linear layer with the same. Each
    is an element of ``features``; a pooling opens the module that follows
    it.

    Args:
        arch (str | Sequence[int | str]): ``vgg6b``, ``vgg8b``, ``vgg11b``,
            ``vgg11``, ``vgg13`` or ``vgg16``; or widths of convolutions with
            'M' where to pool. Defaults to 'vgg11b'.
        image_size (int): Side of the images, which the first linear layer is
            made for. Defaults to 32.
        fc_channels (Sequence[int]): Widths of the linear blocks. Defaults to
            (512, 512).
        norm (bool): Whether blocks have BatchNorm. Defaults to True.
        act_cfg (dict, optional): Activation. Defaults to
            ``dict(type='ReLU', inplace=True)``.
        drop_rate (float): Dropout of each block. Defaults to 0.2.
        in_channels (int): Channels of the image. Defaults to 3.
        init_cfg (dict | list[dict], optional): Initialization of mmengine.
            Defaults to torch's own, as published.

    Raises:
        ValueError: If the architecture is unknown, or pools more often than
            the image's side can be halved.
    """

    def __init__(
        self,
        arch: str | Sequence[int | str] = 'vgg11b',
        image_size: int = 32,
        fc_channels: Sequence[int] = (512, 512),
        norm: bool = True,
        act_cfg: dict | None = RELU,
        drop_rate: float = 0.2,
        in_channels: int = 3,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        layers = _layers(arch, image_size)
        self.features = nn.Sequential()
        channels = in_channels
        for width in layers:
            if width == 'M':
                self.features.append(nn.MaxPool2d(2))
                continue
            conv = nn.Conv2d(channels, width, 3, padding=1)
            self.features.append(
                LayerwiseBlock(conv, width, 'BN', norm, act_cfg, drop_rate)
            )
            channels = width
        self.features.append(nn.Flatten())
        channels *= (image_size >> layers.count('M')) ** 2
        for width in fc_channels:
            linear = nn.Linear(channels, width)
            self.features.append(
                LayerwiseBlock(linear, width, 'BN1d', norm, act_cfg, drop_rate)
            )
            channels = width

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Images (N, C, H, W) to one vector each, (N, fc_channels[-1])."""
        return (self.features(x),)


class LayerwiseBlock(nn.Module):
    """A layer with norm, activation and dropout, each optional.

    Args:
        layer (nn.Module): Convolution or linear layer.
        channels (int): That it returns.
        norm_type (str): Of mmcv.
        norm (bool): Whether there is one.
        act_cfg (dict, optional): Activation.
        drop_rate (float): Dropout.
    """

    def __init__(
        self,
        layer: nn.Module,
        channels: int,
        norm_type: str,
        norm: bool,
        act_cfg: dict | None,
        drop_rate: float,
    ):
        super().__init__()
        self.layer = layer
        self.norm = nn.Identity()
        if norm:
            self.norm = build_norm_layer({'type': norm_type}, channels)[1]
        self.act = nn.Identity()
        if act_cfg is not None:
            self.act = build_activation_layer(act_cfg)
        self.dropout = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """As the layer, (N, C, h, w) or (N, C)."""
        return self.dropout(self.act(self.norm(self.layer(x))))


def _layers(
    arch: str | Sequence[int | str], image_size: int
) -> list[int | str]:
    if isinstance(arch, str) and arch not in ARCHITECTURES:
        raise ValueError(
            f'backbone.arch={arch!r} is unknown: write one of '
            f'{tuple(ARCHITECTURES)}, or a list of widths with '
            "'M' where to pool"
        )
    layers = list(ARCHITECTURES[arch] if isinstance(arch, str) else arch)
    if not image_size >> layers.count('M'):
        raise ValueError(
            f'backbone.image_size={image_size} cannot be halved '
            f'{layers.count("M")} times, as backbone.arch asks: write '
            f'{2 ** layers.count("M")} or more'
        )
    return layers
