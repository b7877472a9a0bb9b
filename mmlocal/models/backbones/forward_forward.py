"""The networks on which Forward-Forward is studied."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmlocal.registry import MODELS


@MODELS.register_module()
class FFMLP(BaseModule):
    """Linear layers, each of which takes in a direction alone.

    See :class:`FFLayer`. Cut before each layer, ``layers.1`` and on, they are
    the modules of Forward-Forward.

    Args:
        in_features (int): Pixels of an image, in all channels. Defaults to
            784, those of MNIST.
        widths (Sequence[int]): Units of each layer; the last one has as many
            as there are classes in what was published. Defaults to
            (1000, 1000, 1000, 1000, 10).
        init_cfg (dict | list[dict], optional): Initialization of mmengine.
            Defaults to torch's own, as published.
    """

    def __init__(
        self,
        in_features: int = 784,
        widths: Sequence[int] = (1000, 1000, 1000, 1000, 10),
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        self.layers = nn.Sequential(*linear_layers(in_features, widths))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Images (N, C, H, W) to one map (N, widths[-1], 1, 1)."""
        return (self.layers(x),)


@MODELS.register_module()
class FFConvNet(BaseModule):
    """3x3 convolutions without padding, pooling, and linear layers.

    See :class:`FFLayer`, each of which is a module of Forward-Forward.

    Args:
        in_channels (int): Channels of the image. Defaults to 1.
        image_size (int): Its side. Defaults to 28, that of MNIST.
        conv_widths (Sequence[int]): Channels of each convolution. Defaults
            to (32, 64).
        widths (Sequence[int]): Units of each linear layer, the first behind
            2x2 pooling. Defaults to (128, 10).
        init_cfg (dict | list[dict], optional): Initialization of mmengine.
            Defaults to torch's own, as published.
    """

    def __init__(
        self,
        in_channels: int = 1,
        image_size: int = 28,
        conv_widths: Sequence[int] = (32, 64),
        widths: Sequence[int] = (128, 10),
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        self.layers = nn.Sequential()
        for width in conv_widths:
            self.layers.append(FFLayer(nn.Conv2d(in_channels, width, 3)))
            in_channels = width
        side = (image_size - 2 * len(conv_widths)) // 2
        self.layers.extend(
            linear_layers(in_channels * side**2, widths, nn.MaxPool2d(2))
        )

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Images (N, C, H, W) to one map (N, widths[-1], 1, 1)."""
        return (self.layers(x),)


class FFLayer(nn.Module):
    r"""A layer that takes in the direction of its input, not its length.

    .. math::
        h = \mathrm{ReLU}(W \hat x + b), \qquad
        \hat x = x / (\lVert x \rVert_2 + 10^{-4})

    over all units of a sample: how good the layer before it found a pair
    must not be handed on.

    Args:
        layer (nn.Module): Convolution or linear layer.
        before (nn.Module, optional): What comes first, as a pooling.
    """

    def __init__(self, layer: nn.Module, before: nn.Module | None = None):
        super().__init__()
        self.before = before
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) to a map (N, C, h, w); 1x1 of a linear layer."""
        if self.before is not None:
            x = self.before(x)
        length = x.flatten(1).norm(dim=1) + 1e-4
        x = x / length.view(-1, *[1] * (x.ndim - 1))
        if isinstance(self.layer, nn.Linear):
            return self.layer(x.flatten(1)).relu()[:, :, None, None]
        return self.layer(x).relu()


def linear_layers(
    in_features: int, widths: Sequence[int], before: nn.Module | None = None
) -> list[FFLayer]:
    """Linear layers in a row, with something before the first."""
    layers = []
    for width in widths:
        layers.append(FFLayer(nn.Linear(in_features, width), before))
        in_features, before = width, None
    return layers
