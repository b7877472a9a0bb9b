"""Plain convolutional networks for 32x32 images."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmlocal.registry import MODELS


@MODELS.register_module()
class CIFARConvNet(BaseModule):
    """The VGG-like nets on which DGL is studied.

    Blocks of a 3x3 convolution, BatchNorm and ReLU. A block that downsamples
    does so first, and doubles the width; see
    `DGL <https://arxiv.org/abs/1901.08164>`_. The net can be cut before any
    block: ``features.1`` is the second.

    Args:
        depth (int): Number of blocks. Defaults to 6.
        base_channels (int): Width of the first block. Defaults to 128.
        downsample (Sequence[int]): Blocks that halve height and width, from
            1 on; the first block is number 0. Defaults to (1, 3).
        downsampling (str): By which they do: ``max`` or ``avg`` pooling over
            2x2, a ``stride`` of 2 in the convolution, or ``space-to-depth``,
            which puts the four neighbours into channels. Defaults to 'max'.
        conv_bias (bool): Whether convolutions have a bias, though BatchNorm
            follows. Defaults to True.
        in_channels (int): Channels of the image. Defaults to 3.
        init_cfg (dict | list[dict], optional): Initialization of mmengine.
            Defaults to torch's own, as published.

    Raises:
        ValueError: If a block is none of the net's, or the downsampling is
            unknown.
    """

    def __init__(
        self,
        depth: int = 6,
        base_channels: int = 128,
        downsample: Sequence[int] = (1, 3),
        downsampling: str = 'max',
        conv_bias: bool = True,
        in_channels: int = 3,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        outside = set(downsample) - set(range(1, depth))
        if outside:
            raise ValueError(
                f'backbone.downsample={tuple(downsample)} names block '
                f'{min(outside)}: write blocks from 1 to depth - 1 = '
                f'{depth - 1}'
            )
        if downsampling not in DOWNSAMPLING:
            raise ValueError(
                f'backbone.downsampling={downsampling!r} is unknown: write '
                f'one of {tuple(DOWNSAMPLING)}'
            )
        self.features = nn.Sequential()
        channels = base_channels
        for index in range(depth):
            kind = downsampling if index in downsample else None
            channels *= 2 if kind else 1
            self.features.append(
                ConvBlock(in_channels, channels, kind, conv_bias)
            )
            in_channels = channels

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Images (N, C, H, W) to one map.

        It has ``base_channels * 2^d`` channels at stride 2^d after d
        downsamplings.
        """
        return (self.features(x),)


class ConvBlock(nn.Module):
    """Downsampling, convolution, BatchNorm, ReLU.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        downsampling (str, optional): See :class:`CIFARConvNet`; None keeps
            the size.
        bias (bool): Of the convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        downsampling: str | None,
        bias: bool,
    ):
        super().__init__()
        pool = DOWNSAMPLING.get(downsampling)
        self.pool = pool() if pool else None
        if downsampling == 'space-to-depth':
            in_channels *= 4
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            3,
            stride=2 if downsampling == 'stride' else 1,
            padding=1,
            bias=bias,
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map of ``in_channels`` to one of ``out_channels``."""
        if self.pool is not None:
            x = self.pool(x)
        return self.relu(self.bn(self.conv(x)))


class SpaceToDepth(nn.Module):
    """2x2 neighbours into channels, (dy, dx, c) from slow to fast.

    ``torch.pixel_unshuffle`` orders them (c, dy, dx).
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) of even sides to (N, 4 C, h / 2, w / 2)."""
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4)
        return x.reshape(n, 4 * c, h // 2, w // 2)


# What stands before the convolution; None where it does it itself.
DOWNSAMPLING = {
    'max': lambda: nn.MaxPool2d(2),
    'avg': lambda: nn.AvgPool2d(2),
    'stride': None,
    'space-to-depth': SpaceToDepth,
}
