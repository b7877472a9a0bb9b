"""Residual networks for 32x32 images."""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from mmlocal.registry import MODELS


@MODELS.register_module()
class CIFARResNet(BaseModule):
    """ResNet of 6n + 2 layers for small images, of widths 16, 32 and 64.

    A 3x3 stem without pooling, then three stages of n basic blocks at strides
    1, 2 and 4. See section 4.2 of
    `Deep Residual Learning <https://arxiv.org/abs/1512.03385>`_. Submodules
    are named as in torchvision's ResNet: ``layer2.0`` is the first block of
    the second stage.

    Args:
        depth (int): 6n + 2: 20, 32, 44, 56, 110, ... Defaults to 32.
        in_channels (int): Channels of the image. Defaults to 3.
        drop_rate (float): Dropout between the two convolutions of a block.
            Defaults to 0.
        shortcut (str): Where a shortcut changes the shape: ``projection``, a
            1x1 convolution with BatchNorm, or ``pad``, every second place
            and zeros for the new channels (option A of the paper, without
            parameters). Defaults to 'projection'.
        init_cfg (dict | list[dict], optional): Initialization of mmengine.
            Defaults to He's for convolutions, N(0, 2 / (k * k * C_out)).

    Raises:
        ValueError: If the depth is not 6n + 2, or the shortcut unknown.
    """

    def __init__(
        self,
        depth: int = 32,
        in_channels: int = 3,
        drop_rate: float = 0.0,
        shortcut: str = 'projection',
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg or {'type': 'Kaiming', 'layer': 'Conv2d'})
        num_blocks, rest = divmod(depth - 2, 6)
        if rest or num_blocks < 1:
            raise ValueError(
                f'backbone.depth={depth} is not 6n + 2: write 20, 32, 44, '
                '56 or 110'
            )
        if shortcut not in SHORTCUTS:
            raise ValueError(
                f'backbone.shortcut={shortcut!r} is unknown: write one of '
                f'{tuple(SHORTCUTS)}'
            )
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(16, 16, num_blocks, 1, drop_rate, shortcut)
        self.layer2 = _stage(16, 32, num_blocks, 2, drop_rate, shortcut)
        self.layer3 = _stage(32, 64, num_blocks, 2, drop_rate, shortcut)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Images (N, C, H, W) to one map, (N, 64, ceil(H/4), ceil(W/4))."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        return (x,)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Of the first convolution and the shortcut.
        drop_rate (float): Dropout between the convolutions.
        shortcut (str): See :class:`CIFARResNet`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        drop_rate: float,
        shortcut: str,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(
            in_channels, out_channels, 3, stride, padding=1, bias=False
        )
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(drop_rate)
        self.conv2 = nn.Conv2d(
            out_channels, out_channels, 3, padding=1, bias=False
        )
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = SHORTCUTS[shortcut](
                in_channels, out_channels, stride
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map of ``in_channels`` to one of ``out_channels``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.dropout(self.relu(self.bn1(self.conv1(x))))
        x = self.bn2(self.conv2(x))
        return self.relu(x + shortcut)


class PadShortcut(nn.Module):
    """Every ``stride``-th place, and zeros for the new channels.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Of the places.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.new_channels = out_channels - in_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map of ``in_channels`` to one of ``out_channels``."""
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.new_channels))


def _projection(
    in_channels: int, out_channels: int, stride: int
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
        nn.BatchNorm2d(out_channels),
    )


SHORTCUTS = {'projection': _projection, 'pad': PadShortcut}


def _stage(
    in_channels: int,
    out_channels: int,
    num_blocks: int,
    stride: int,
    drop_rate: float,
    shortcut: str,
) -> nn.Sequential:
    widths = [in_channels] + [out_channels] * num_blocks
    return nn.Sequential(
        *(
            BasicBlock(
                widths[i],
                out_channels,
                1 if i else stride,
                drop_rate,
                shortcut,
            )
            for i in range(num_blocks)
        )
    )
