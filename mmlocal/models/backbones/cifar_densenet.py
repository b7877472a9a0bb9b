"""Densely connected networks for 32x32 images."""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmlocal.registry import MODELS


@MODELS.register_module()
class CIFARDenseNet(BaseModule):
    """DenseNet-BC for small images.

    A 3x3 stem of 2k channels, three blocks of (depth - 4) / 6 bottleneck
    layers at strides 1, 2 and 4, and halved channels in between; see
    `DenseNet <https://arxiv.org/abs/1608.06993>`_. Each layer passes on its
    input joined with its output, so that the network can be cut before any:
    ``dense2.3`` is the fourth layer of the second block.

    Args:
        depth (int): 6n + 4. Defaults to 100.
        growth_rate (int): k, the channels that a layer adds. Defaults to 12.
        in_channels (int): Channels of the image. Defaults to 3.
        init_cfg (dict | list[dict], optional): Initialization of mmengine.
            Defaults to He's for convolutions, N(0, 2 / (k * k * C_out)).

    Raises:
        ValueError: If the depth is not 6n + 4.
    """

    def __init__(
        self,
        depth: int = 100,
        growth_rate: int = 12,
        in_channels: int = 3,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg or {'type': 'Kaiming', 'layer': 'Conv2d'})
        num_layers, rest = divmod(depth - 4, 6)
        if rest or num_layers < 1:
            raise ValueError(
                f'backbone.depth={depth} is not 6n + 4: write 40, 100 or 190'
            )
        channels = 2 * growth_rate
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.dense1 = _block(channels, growth_rate, num_layers)
        channels += num_layers * growth_rate
        self.transition1 = Transition(channels)
        channels //= 2
        self.dense2 = _block(channels, growth_rate, num_layers)
        channels += num_layers * growth_rate
        self.transition2 = Transition(channels)
        channels //= 2
        self.dense3 = _block(channels, growth_rate, num_layers)
        channels += num_layers * growth_rate
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Images (N, C, H, W) to one map at stride 4.

        It has 342 channels at depth 100 and growth rate 12.
        """
        x = self.transition1(self.dense1(self.conv1(x)))
        x = self.transition2(self.dense2(x))
        x = self.dense3(x)
        return (self.relu(self.bn(x)),)


class DenseLayer(nn.Module):
    """1x1 convolution to 4k channels and 3x3 to k, joined to the input.

    Args:
        in_channels (int): Channels of the input.
        growth_rate (int): k, the channels added.
    """

    def __init__(self, in_channels: int, growth_rate: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, 4 * growth_rate, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth_rate)
        self.conv2 = nn.Conv2d(
            4 * growth_rate, growth_rate, 3, padding=1, bias=False
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map of C channels to one of C + k."""
        out = self.conv1(self.relu(self.bn1(x)))
        out = self.conv2(self.relu(self.bn2(out)))
        return torch.cat([x, out], 1)


class Transition(nn.Module):
    """Halves channels, height and width.

    Args:
        in_channels (int): Channels of the input.
    """

    def __init__(self, in_channels: int):
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(in_channels, in_channels // 2, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, C // 2, h // 2, w // 2)."""
        return self.pool(self.conv(self.relu(self.bn(x))))


def _block(
    in_channels: int, growth_rate: int, num_layers: int
) -> nn.Sequential:
    return nn.Sequential(
        *(
            DenseLayer(in_channels + i * growth_rate, growth_rate)
            for i in range(num_layers)
        )
    )
