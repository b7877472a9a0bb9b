"""The network on which synthetic gradients are compared."""

from __future__ import annotations

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmlocal.registry import MODELS


@MODELS.register_module()
class DNIConvNet(BaseModule):
    """Three blocks of a 5x5 convolution, BatchNorm, ReLU and 3x3 pooling.

    The CIFAR-10 net of `DNI <https://arxiv.org/abs/1608.05343>`_: the first
    block pools by the maximum, the others by the average, each with stride 3
    and without padding, so that 32x32 pixels become 10x10, 3x3 and 1x1
    cells. It can be cut before ``features.1`` and ``features.2``.

    Args:
        channels (int): Width of all blocks. Defaults to 128.
        in_channels (int): Channels of the image. Defaults to 3.
        init_cfg (dict | list[dict], optional): Initialization of mmengine.
            Defaults to torch's own, as published.
    """

    def __init__(
        self,
        channels: int = 128,
        in_channels: int = 3,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        self.features = nn.Sequential(
            PooledBlock(in_channels, channels, nn.MaxPool2d(3)),
            PooledBlock(channels, channels, nn.AvgPool2d(3)),
            PooledBlock(channels, channels, nn.AvgPool2d(3)),
        )

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Images (N, C, H, W) to one map, (N, channels, H / 27, W / 27)."""
        return (self.features(x),)


class PooledBlock(nn.Module):
    """5x5 convolution, BatchNorm, ReLU, pooling.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        pool (nn.Module): What comes last.
    """

    def __init__(self, in_channels: int, out_channels: int, pool: nn.Module):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 5, padding=2)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Map of ``in_channels`` to a third of its side."""
        return self.pool(self.relu(self.bn(self.conv(x))))
