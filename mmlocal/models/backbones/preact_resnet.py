"""The encoder of Greedy InfoMax: pre-activation, and no norm."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmlocal.registry import MODELS


@MODELS.register_module()
class PreActResNet(BaseModule):
    """The first three stages of a ResNet-34 or -50 without normalization.

    ReLU comes before a block's convolutions, which have biases, and none
    comes behind the last block, so that features are signed (`identity
    mappings <https://arxiv.org/abs/1603.05027>`_, the block of `Greedy
    InfoMax <https://arxiv.org/abs/1905.11786>`_). The stem is a 5x5
    convolution with stride 1, the strides of the stages are 1, 2 and 2. It
    can be cut before any block: ``stages.1`` is the second stage.

    Args:
        depth (int): 34, of two 3x3 convolutions a block, or 50, of
            bottlenecks. Defaults to 50.
        in_channels (int): Channels of the image; 1 in most of what is
            published. Defaults to 3.
        base_channels (int): Width of the stem and of the first stage, before
            the expansion of bottlenecks; stages double it. Defaults to 64.
        stage_blocks (Sequence[int]): Blocks of each stage. Defaults to
            (3, 4, 6).
        out_indices (Sequence[int], optional): Stages whose output is
            returned. Defaults to the last.
        init_cfg (dict | list[dict], optional): Initialization of mmengine.
            Defaults to torch's own, as published.

    Raises:
        ValueError: If the depth is another one, a stage has no block, or an
            output is none of the stages'.
    """

    def __init__(
        self,
        depth: int = 50,
        in_channels: int = 3,
        base_channels: int = 64,
        stage_blocks: Sequence[int] = (3, 4, 6),
        out_indices: Sequence[int] | None = None,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        if depth not in BLOCKS:
            raise ValueError(
                f'backbone.depth={depth} is unknown: write one of '
                f'{tuple(BLOCKS)}, and stage_blocks for other numbers of '
                'blocks'
            )
        if not stage_blocks or min(stage_blocks) < 1:
            raise ValueError(
                f'backbone.stage_blocks={tuple(stage_blocks)}: write 1 or '
                'more for each stage, as (3, 4, 6)'
            )
        last = len(stage_blocks) - 1
        self.out_indices = (last,) if out_indices is None else out_indices
        if not {*self.out_indices} <= {*range(last + 1)}:
            raise ValueError(
                f'backbone.out_indices={tuple(self.out_indices)}: write '
                f'stages from 0 to {last}'
            )
        self.stem = nn.Conv2d(in_channels, base_channels, 5, padding=2)
        self.stages = nn.ModuleList()
        channels = base_channels
        for index, count in enumerate(stage_blocks):
            width = base_channels * 2**index
            stage = nn.Sequential()
            for number in range(count):
                stride = 2 if index and not number else 1
                stage.append(BLOCKS[depth](channels, width, stride))
                channels = stage[-1].out_channels
            self.stages.append(stage)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images (N, C, H, W) to the maps of ``out_indices``.

        By default one of 1024 channels at stride 4 (256 for depth 34).
        """
        x = self.stem(x)
        outs = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)


class PreActBlock(nn.Module):
    """ReLU and convolution, twice or more, added to the input.

    Where width or size change, the shortcut is a 1x1 convolution of the
    input behind the first ReLU, else the input itself.

    Args:
        in_channels (int): Channels of the input.
        width (int): Channels of the inner maps.
        stride (int): Of the first 3x3 convolution.
    """

    def __init__(self, in_channels: int, width: int, stride: int):
        super().__init__()
        self.out_channels = self.build(in_channels, width, stride)
        self.relu = nn.ReLU()
        self.downsample = None
        if stride != 1 or in_channels != self.out_channels:
            self.downsample = nn.Conv2d(
                in_channels, self.out_channels, 1, stride
            )

    def build(self, in_channels: int, width: int, stride: int) -> int:
        """Make the convolutions; returns the channels of the last."""
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        return width

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, out_channels, h, w) / stride."""
        out = self.relu(x)
        shortcut = x if self.downsample is None else self.downsample(out)
        return self.residual(out) + shortcut

    def residual(self, out: Tensor) -> Tensor:
        """All convolutions, of what is behind the first ReLU."""
        return self.conv2(self.relu(self.conv1(out)))


class PreActBottleneck(PreActBlock):
    """1x1, 3x3 and 1x1 convolutions, of which the last has 4 * width."""

    def build(self, in_channels: int, width: int, stride: int) -> int:
        self.conv1 = nn.Conv2d(in_channels, width, 1)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1)
        self.conv3 = nn.Conv2d(width, 4 * width, 1)
        return 4 * width

    def residual(self, out: Tensor) -> Tensor:
        return self.conv3(self.relu(super().residual(out)))


BLOCKS = {34: PreActBlock, 50: PreActBottleneck}
