"""The networks on which Signal Propagation is studied."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from mmlocal.registry import MODELS

RESNETS = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
POOL = 'M'
VGGS = {
    'vgg6b': '128 M 256 M 512 M 512 M',
    'vgg8b': '128 256 M 256 512 M 512 M 512 M',
    'vgg11b': '128 128 128 256 M 256 512 M 512 512 M 512 M',
    'vgg11': '64 M 128 M 256 256 M 512 512 M 512 512 M',
    'vgg13': '64 64 M 128 128 M 256 256 M 512 512 M 512 512 M',
    'vgg16': '64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M',
}


class SigPropNet(BaseModule):
    """Blocks in a row, of which the first one takes the image.

    It is a 3x3 convolution, BatchNorm and ReLU; signals have one of their
    own. All others take images and signals. The net can be cut before each,
    ``layers.1`` and on.

    Args:
        blocks (Sequence[nn.Module]): All blocks.
        init_cfg (dict | list[dict], optional): Initialization of mmengine.
            Defaults to torch's own, as published.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        self.layers = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Images (N, C, H, W) to one map, 1x1 behind a linear layer."""
        return (self.layers(x),)


@MODELS.register_module()
class SigPropConvNet(SigPropNet):
    """Two 3x3 convolutions without padding, pooling, and a linear layer.

    Args:
        in_channels (int): Channels of the image. Defaults to 3.
        image_size (int): Its side. Defaults to 32.
        drop_rate (float): Dropout behind each block. Defaults to 0.2.
        init_cfg (dict | list[dict], optional): Initialization of mmengine.
    """

    def __init__(
        self,
        in_channels: int = 3,
        image_size: int = 32,
        drop_rate: float = 0.2,
        init_cfg: dict | list[dict] | None = None,
    ):
        side = (image_size - 4) // 2
        blocks = [
            input_block(in_channels, 32),
            map_block(nn.Conv2d(32, 32, 3), 32, drop_rate),
            map_block(nn.Conv2d(32, 64, 3), 64, drop_rate),
            linear_block(64 * side**2, 128, drop_rate, pooled=True),
        ]
        super().__init__(blocks, init_cfg)


@MODELS.register_module()
class SigPropResNet(SigPropNet):
    """A ResNet for small images, with a norm of its own behind each block.

    The blocks are torchvision's, of widths 64, 128, 256 and 512.

    Args:
        depth (int): 18, 34, 50, 101 or 152. Defaults to 18.
        in_channels (int): Channels of the image. Defaults to 3.
        drop_rate (float): Dropout behind each block. Defaults to 0.2.
        base_channels (int): Width of the first stage. Defaults to 64.
        init_cfg (dict | list[dict], optional): Initialization of mmengine.

    Raises:
        ValueError: If the depth is none of these.
    """

    def __init__(
        self,
        depth: int = 18,
        in_channels: int = 3,
        drop_rate: float = 0.2,
        base_channels: int = 64,
        init_cfg: dict | list[dict] | None = None,
    ):
        if depth not in RESNETS:
            raise ValueError(
                f'backbone.depth={depth} is unknown: write one of '
                f'{tuple(RESNETS)}.'
            )
        kind, counts = RESNETS[depth]
        blocks = [input_block(in_channels, base_channels)]
        channels = base_channels
        for stage, count in enumerate(counts):
            width = base_channels * 2**stage
            for index in range(count):
                stride = 2 if stage and not index else 1
                out_channels = width * kind.expansion
                shortcut = None
                if stride > 1 or channels != out_channels:
                    shortcut = nn.Sequential(
                        nn.Conv2d(
                            channels, out_channels, 1, stride, bias=False
                        ),
                        nn.BatchNorm2d(out_channels),
                    )
                block = kind(channels, width, stride, shortcut)
                blocks.append(map_block(block, out_channels, drop_rate))
                channels = out_channels
        super().__init__(blocks, init_cfg)


@MODELS.register_module()
class SigPropVGG(SigPropNet):
    """A VGG-like net: 3x3 convolutions, poolings, and a linear layer.

    The first convolution of a list comes behind the block that takes the
    image, and keeps its width.

    Args:
        arch (str): vgg6b, vgg8b, vgg11b, vgg11, vgg13 or vgg16. Defaults to
            'vgg8b'.
        in_channels (int): Channels of the image. Defaults to 3.
        image_size (int): Its side. Defaults to 32.
        drop_rate (float): Dropout behind each block. Defaults to 0.2.
        init_cfg (dict | list[dict], optional): Initialization of mmengine.

    Raises:
        ValueError: If there is no such net.
    """

    def __init__(
        self,
        arch: str = 'vgg8b',
        in_channels: int = 3,
        image_size: int = 32,
        drop_rate: float = 0.2,
        init_cfg: dict | list[dict] | None = None,
    ):
        if arch not in VGGS:
            raise ValueError(
                f'backbone.arch={arch!r} is unknown: write one of '
                f'{tuple(VGGS)}.'
            )
        layers = VGGS[arch].split()
        channels, side, pooled = int(layers[0]), image_size, False
        blocks = [input_block(in_channels, channels)]
        for layer in layers:
            if layer == POOL:
                side, pooled = side // 2, True
                continue
            conv = nn.Conv2d(channels, int(layer), 3, padding=1)
            channels = int(layer)
            blocks.append(map_block(conv, channels, drop_rate, pooled))
            pooled = False
        blocks.append(
            linear_block(channels * side**2, 1024, drop_rate, pooled)
        )
        super().__init__(blocks, init_cfg)


def input_block(in_channels: int, channels: int) -> nn.Sequential:
    """What takes the image."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


def map_block(
    layer: nn.Module, channels: int, drop_rate: float, pooled: bool = False
) -> nn.Sequential:
    """A layer that gives a map, and what follows each."""
    return nn.Sequential(
        *([nn.MaxPool2d(2)] if pooled else []),
        layer,
        nn.InstanceNorm2d(channels, affine=True),
        nn.LeakyReLU(),
        nn.Dropout(drop_rate),
    )


def linear_block(
    in_features: int, units: int, drop_rate: float, pooled: bool
) -> nn.Sequential:
    """A linear layer, likewise; its units are channels of a 1x1 map."""
    return nn.Sequential(
        *([nn.MaxPool2d(2)] if pooled else []),
        nn.Flatten(),
        nn.Linear(in_features, units),
        nn.LayerNorm(units),
        nn.LeakyReLU(),
        nn.Dropout(drop_rate),
        nn.Unflatten(1, (units, 1, 1)),
    )
