"""What is known of the place where a network is cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isqrt, log2

from torch import Tensor

LAYOUTS = ('map', 'tokens', 'sequence', 'vector')
# Name of the place behind the last module.
END = 'end'


@dataclass(frozen=True)
class Boundary:
    """The end of a module, as its head knows it when the backbone is built.

    Args:
        name (str): The submodule whose input is cut, as ``layer3.13``, or
            'end' behind the last module.
        channels (int): C of the feature.
        stride (int): Input pixels (or samples) that a cell of the feature
            spans, along a side.
        layout (str): 'map' (N, C, H, W), 'tokens' (N, L, C), 'sequence'
            (N, C, L) or 'vector' (N, C). Defaults to 'map'. Among ``parts``
            also 'grid' (N, H, W, C), which heads read as a map.
        patches (int): How many features an image has in the batch axis,
            where a backbone takes it apart. Defaults to 1.
        index (int): Of the module, from 0. Defaults to 0.
        count (int): How many modules have a local head: K - 1, or K with
            ``local_end``. Defaults to 1.
        image_channels (int): C of the images. Defaults to 3.
        side (int): Cells along a side, for the input with which the backbone
            was looked at. Defaults to 1.
        parts (tuple[Boundary, ...]): Of each of the features that are joined
            to this one, where a submodule takes several, or one that is laid
            out otherwise. Defaults to ().
    """

    name: str
    channels: int
    stride: int
    layout: str = 'map'
    patches: int = 1
    index: int = 0
    count: int = 1
    # Both follow from that input.
    image_channels: int = field(default=3, compare=False)
    side: int = field(default=1, compare=False)
    parts: tuple[Boundary, ...] = field(default=(), compare=False)

    def interpolate(self, value: float | tuple[float, float]) -> float:
        """A weight at this boundary.

        A pair is read as (first, last) and interpolated linearly in the
        boundary *index*, not in depth (InfoPro's schedule); with a single
        boundary the first counts. A number is the same everywhere.
        """
        if isinstance(value, (int, float)):
            return float(value)
        first, last = value
        t = self.index / (self.count - 1) if self.count > 1 else 0.0
        return (1 - t) * first + t * last

    def feature_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the feature of an image (rounded up)."""
        if self.layout == 'vector':
            return (1, 1)
        return tuple(-(-side // self.stride) for side in image_size)

    def to_map(self, feat: Tensor, image_size: tuple[int, int]) -> Tensor:
        """A feature of images as (N, C, H, W); tokens go back on their grid.

        Leading extra tokens (class, distillation) are left out; a vector is
        a map of one cell.

        Args:
            feat (Tensor): (N, C, H, W), (N, H, W, C), (N, L, C) or (N, C).
            image_size (tuple[int, int]): H and W of the image.

        Raises:
            ValueError: If the feature is a sequence, or the tokens do not
                fill the grid that the stride and the image size give.
        """
        if self.layout == 'map':
            return feat
        if self.layout == 'grid':
            return feat.permute(0, 3, 1, 2)
        if self.layout == 'vector':
            return feat[:, :, None, None]
        if self.layout == 'sequence':
            raise ValueError(
                f'boundary {self.name!r} carries a sequence (N, C, L), and '
                'the local head there works on maps of images: choose a head '
                'for sequences.'
            )
        h, w = self.feature_size(image_size)
        extra = feat.shape[1] - h * w
        if not 0 <= extra <= 2:
            raise ValueError(
                f'boundary {self.name!r} carries {feat.shape[1]} tokens, '
                f'which is no {h}x{w} grid (image {tuple(image_size)}, '
                f'stride {self.stride}) with up to 2 extra tokens: choose an '
                'image size that is a multiple of the stride, or another '
                'boundary; where masked patches are left out, a head that '
                "takes tokens as they are, as GreedyHead with net='linear'."
            )
        feat = feat[:, extra:].transpose(1, 2)
        return feat.reshape(feat.shape[0], -1, h, w)


class Layouts:
    """Tells how features lie, by the dimensions of the network's input.

    Of images (N, C, H, W) come maps and tokens, of signals (N, C, L)
    sequences, of both vectors.

    Args:
        input_shape (tuple[int, ...]): (C, H, W) with H = W, or (C, L).
        batch_size (int): N of the input.
        features (Iterable[Tensor]): All, in forward order: the first with
            more rows than N is as large as the patches.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        batch_size: int,
        features: list[Tensor],
    ):
        self.input_shape = input_shape
        self.batch_size = batch_size
        self.sides = {1: input_shape[-1]}
        for feat in features:
            if feat.ndim > 2 and feat.shape[0] % batch_size == 0:
                patches = feat.shape[0] // batch_size
                self.sides.setdefault(patches, feat.shape[-1])

    def boundary(self, name: str, feat: Tensor) -> Boundary | None:
        """What is known of a feature; None if it has none of the layouts."""
        patches, rest = divmod(feat.shape[0], self.batch_size)
        if rest or not patches:
            return None
        side = self.sides.get(patches, self.input_shape[-1])
        layout, channels, length = None, 0, 0
        if feat.ndim == 2:
            layout, channels, length = 'vector', feat.shape[1], 1
        elif len(self.input_shape) == 2:
            if feat.ndim == 3:
                layout, (channels, length) = 'sequence', feat.shape[1:]
        elif feat.ndim == 4 and feat.shape[2] == feat.shape[3]:
            layout, channels, length = 'map', *feat.shape[1:3]
        elif feat.ndim == 4 and feat.shape[1] == feat.shape[2]:
            if patches == 1:
                layout, (length, channels) = 'grid', feat.shape[2:]
        elif feat.ndim == 3:
            length = token_grid_side(feat.shape[1])
            layout, channels = 'tokens', feat.shape[2]
        if layout is None or not length:
            return None
        stride = round(side / length)
        if layout == 'map':
            stride = _power_of_two(side, length) or stride
        return Boundary(
            name,
            channels,
            stride,
            layout,
            patches,
            image_channels=self.input_shape[0],
            side=length,
        )

    @property
    def expected(self) -> str:
        """The layouts that a feature may have, for messages."""
        if len(self.input_shape) == 2:
            return '(N, C, L) nor (N, C)'
        return '(N, C, H, W), (N, L, C) nor (N, C)'


def _power_of_two(side: int, length: int) -> int:
    """The stride of a map, where rounding hides that it is one; else 0.

    Strides of two round up (7 cells to 4), or a padding adds a cell (ICNet)
    and its lack takes one (AlexNet).
    """
    power = 2 ** round(log2(side / length))
    difference = abs(-(-side // power) - length)
    if power > side or difference > 1:
        return 0
    is_sure = length > 4 and side % length > 0
    return power if is_sure or not difference else 0


def token_grid_side(num_tokens: int) -> int:
    """Side of a square grid with up to 2 extra tokens; 0 if there is none."""
    for extra in range(3):
        side = isqrt(max(num_tokens - extra, 0))
        if side and side * side == num_tokens - extra:
            return side
    return 0
