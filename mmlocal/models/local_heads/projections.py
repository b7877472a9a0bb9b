"""The nets between a layer and its loss in layer-wise training, by name.

``linear``, ``mlp``
    Average pooling to a limited number of values, then one linear layer, or
    two with a ReLU between.
``conv``, ``conv_2``
    A 3x3 convolution that keeps the channels, or two with a ReLU between.
``identity``
    Nothing, or the pooling alone where a vector is needed.
"""

from __future__ import annotations

from torch import Tensor, empty, nn

from .base import Boundary

NETS = ('linear', 'mlp', 'conv', 'conv_2', 'identity')


def projection(
    net: str,
    boundary: Boundary,
    out_features: int | None,
    max_features: int = 2048,
    vector: bool = False,
) -> nn.Sequential:
    """Build one.

    Args:
        net (str): One of :data:`NETS`. Behind a layer that gives vectors
            ``conv`` and ``conv_2`` are ``linear``.
        boundary (Boundary): Where the feature comes from.
        out_features (int, optional): Of the linear layers; None for as many
            as they take in.
        max_features (int): Limit of what these take in. Defaults to 2048.
        vector (bool): Whether ``identity`` pools. Defaults to False.

    Returns:
        nn.Sequential: From (N, C, h, w) to (N, out_features), or, from
        ``conv``, ``conv_2`` and ``identity``, to (N, C, h, w).
    """
    channels = boundary.channels
    if boundary.layout == 'vector' and net.startswith('conv'):
        net = 'linear'
    if net in ('conv', 'conv_2'):
        layers: list[nn.Module] = [nn.Conv2d(channels, channels, 3, padding=1)]
        if net == 'conv_2':
            again = nn.Conv2d(channels, channels, 3, padding=1)
            layers += [nn.ReLU(inplace=True), again]
        return nn.Sequential(*layers)
    if net == 'identity' and not vector:
        return nn.Sequential()
    pool = PooledVector(boundary, max_features)
    width = pool.out_features
    hidden: list[nn.Module] = []
    if net == 'mlp':
        hidden = [nn.Linear(width, width), nn.ReLU(inplace=True)]
    last: list[nn.Module] = []
    if net != 'identity':
        last = [nn.Linear(width, out_features or width)]
    return nn.Sequential(pool, *hidden, *last)


def pixel_classifier(
    net: str, boundary: Boundary, num_classes: int
) -> nn.Sequential:
    """``linear`` or ``mlp`` at each place: (N, C, h, w) to (N, K, h, w)."""
    channels = boundary.channels
    hidden: list[nn.Module] = []
    if net == 'mlp':
        hidden = [nn.Conv2d(channels, channels, 1), nn.ReLU(inplace=True)]
    return nn.Sequential(*hidden, nn.Conv2d(channels, num_classes, 1))


class PooledVector(nn.Module):
    """Average pooling to a limited number of values, flattened.

    Args:
        boundary (Boundary): Where the feature comes from; of maps as large as
            it says.
        max_features (int): The limit.

    Attributes:
        out_features (int): How many there are.
    """

    def __init__(self, boundary: Boundary, max_features: int):
        super().__init__()
        self.boundary = boundary
        channels, side = boundary.channels, boundary.side
        kernel = pooling_kernel(channels, side, max_features)
        padding = tuple((k * (-(-side // k) - side // k)) // 2 for k in kernel)
        self.pool = nn.AvgPool2d(kernel, padding=padding)
        # With padding, not what the sides divided by the kernel give.
        probe = empty(1, channels, side, side, device='meta')
        self.out_features = self.pool(probe).numel()

    def forward(self, feat: Tensor) -> Tensor:
        """(N, C, h, w) to (N, out_features).

        Raises:
            ValueError: If the map has another size.
        """
        vector = self.pool(feat).flatten(1)
        if vector.shape[1] != self.out_features:
            side = self.boundary.side
            raise ValueError(
                f'the local head at {self.boundary.name!r} was made for '
                f'{side}x{side} cells and gets {feat.shape[2]}x'
                f'{feat.shape[3]}: write the size of the images that are '
                'trained on as model.backbone.input_shape=(3, height, '
                'width), and validate at the same size'
            )
        return vector


def pooling_kernel(
    channels: int, side: int, max_features: int
) -> tuple[int, int]:
    """Height and width of the window.

    They are doubled in turn, the height first, until few enough values are
    left.
    """
    kernel = [1, 1]

    def count() -> int:
        return channels * -(-side // kernel[0]) * -(-side // kernel[1])

    while count() > max_features and kernel[0] < side:
        for axis in range(2):
            if count() > max_features:
                kernel[axis] *= 2
    return tuple(kernel)
