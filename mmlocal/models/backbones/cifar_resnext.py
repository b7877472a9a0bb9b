"""ResNeXt for 32x32 images."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmlocal.registry import MODELS


@MODELS.register_module()
class CIFARResNeXt(BaseModule):
    """ResNeXt for small images, as in knowledge distillation on CIFAR-100.

    A 3x3 stem without pooling, then three stages of bottlenecks at strides
    1, 2 and 4, whose outputs are 4, 8 and 16 times as wide as the stem; see
    `ResNeXt <https://arxiv.org/abs/1611.05431>`_. The defaults are what is
    published as ResNeXt32-16x4d, of 1.112 M parameters with 100 classes: it
    has the 15 blocks of a ResNet-32, each a bottleneck. Submodules are named
    as in torchvision's ResNet: ``layer2.0`` is the first block of the second
    stage.

    Args:
        num_blocks (int): Bottlenecks a stage. Defaults to 5.
        groups (int): Cardinality of the 3x3 convolutions. Defaults to 16.
        width_per_group (int): Channels of a group where a bottleneck's own
            width is 64; with the default width the groups of the three
            stages have 2, 4 and 8. Defaults to 4.
        base_channels (int): Channels of the stem. Defaults to 32.
        in_channels (int): Channels of the image. Defaults to 3.
        out_indices (Sequence[int]): Which maps to return: 0 for the stem, 1
            to 3 for the stages. Defaults to (3, ).
        init_cfg (dict | list[dict], optional): Initialization of mmengine.
            Defaults to He's for convolutions, N(0, 2 / (k * k * C_out)).

    Raises:
        ValueError: If the groups would have no channel, or an index is
            unknown.
    """

    def __init__(
        self,
        num_blocks: int = 5,
        groups: int = 16,
        width_per_group: int = 4,
        base_channels: int = 32,
        in_channels: int = 3,
        out_indices: Sequence[int] = (3,),
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg or {'type': 'Kaiming', 'layer': 'Conv2d'})
        if base_channels * width_per_group < 64:
            raise ValueError(
                f'backbone.width_per_group={width_per_group} leaves no '
                f'channel a group at base_channels={base_channels}: write '
                f'{-(-64 // base_channels)} or more'
            )
        self.out_indices = check_indices(out_indices, 3)
        self.conv1 = nn.Conv2d(
            in_channels, base_channels, 3, padding=1, bias=False
        )
        self.bn1 = nn.BatchNorm2d(base_channels)
        self.relu = nn.ReLU(inplace=True)
        channels = base_channels
        for stage in range(3):
            planes = base_channels << stage
            width = groups * (planes * width_per_group // 64)
            blocks = []
            for index in range(num_blocks):
                stride = 2 if stage and not index else 1
                blocks.append(
                    Bottleneck(channels, width, 4 * planes, groups, stride)
                )
                channels = 4 * planes
            self.add_module(f'layer{stage + 1}', nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images (N, C, H, W) to the maps of ``out_indices``.

        By default one, (N, 16 * base_channels, ceil(H/4), ceil(W/4)). All
        are after a ReLU.
        """
        x = self.relu(self.bn1(self.conv1(x)))
        maps = [x]
        for layer in self.layer1, self.layer2, self.layer3:
            x = layer(x)
            maps.append(x)
        return tuple(maps[index] for index in self.out_indices)


class Bottleneck(nn.Module):
    """1x1, grouped 3x3 and 1x1 convolution around a shortcut.

    Args:
        in_channels (int): Channels of the input.
        width (int): Channels of the grouped convolution.
        out_channels (int): Channels of the output.
        groups (int): Cardinality.
        stride (int): Of the grouped convolution and the shortcut.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        groups: int,
        stride: int,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(
            width, width, 3, stride, padding=1, groups=groups, bias=False
        )
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map of ``in_channels`` to one of ``out_channels``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


def check_indices(out_indices: Sequence[int], last: int) -> tuple[int, ...]:
    """The indices of maps as a tuple.

    Raises:
        ValueError: If there is none, or one is not within 0 and ``last``.
    """
    if not out_indices or not set(out_indices) <= set(range(last + 1)):
        raise ValueError(
            f'backbone.out_indices={out_indices!r}: write some of '
            f'{tuple(range(last + 1))}'
        )
    return tuple(out_indices)
