"""InfoPro's decoders: from a feature back to the image.

They return logits; the sigmoid belongs to the loss and to ``predict``.
"""

from __future__ import annotations

from math import log2

from torch import Tensor, nn
from torch.nn import functional as F

from .base import Boundary
from .layers import conv_norm_relu


class CIFARDecoder(nn.Module):
    """The decoder of the CIFAR, SVHN and STL-10 experiments.

    Resizes the feature to the image at once, then two 3x3 convolutions at
    full resolution. Takes any stride and any feature size.

    Args:
        boundary (Boundary): Where the feature comes from.
        norm_cfg (dict): Norm layer.
        widen (float): Factor on the 12 hidden channels. Defaults to 1.
    """

    def __init__(
        self,
        boundary: Boundary,
        norm_cfg: dict,
        widen: float = 1.0,
    ):
        super().__init__()
        hidden = int(12 * widen)
        self.decoder = nn.Sequential(
            *conv_norm_relu(boundary.channels, hidden, 3, norm_cfg, bias=True),
            nn.Conv2d(hidden, boundary.image_channels, 3, padding=1),
        )

    def forward(self, feat: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (N, C_image, *size) of a feature (N, C, h, w)."""
        return self.decoder(_resize(feat, size))


class ProgressiveDecoder(nn.Module):
    """The decoder of the ImageNet and Cityscapes experiments.

    A 1x1 convolution to 128 channels, then one 3x3 convolution after every
    doubling of the resolution; the last gives the image. The published net is
    that for stride 8: 128, 32 and 12 channels. Other strides have one width
    for every doubling too, by the same scheme:

    ======  ==========================
    stride  channels
    ======  ==========================
    1, 2    128
    4       128, 12
    8       128, 32, 12
    16      128, 64, 32, 12
    32, ..  128, 128, ..., 64, 32, 12
    ======  ==========================

    With L doublings the k-th one ends at ceil(image / 2^(L - k)), so that an
    image need not be a multiple of the stride if the backbone rounds up:
    769 px at stride 8 go 97, 193, 385, 769. The first doubling takes up what a
    feature has more or less, as paddings and convolutions without them make,
    and what a stride lacks of a power of two: 224 px at stride 14 go 16, 28,
    56, 112, 224.

    Args:
        boundary (Boundary): Where the feature comes from.
        norm_cfg (dict): Norm layer.

    Raises:
        ValueError: If a single cell has all of an image, as behind a global
            pooling, and its side is no power of two.
    """

    def __init__(self, boundary: Boundary, norm_cfg: dict):
        super().__init__()
        stride = boundary.stride
        if boundary.side == 1 and stride & (stride - 1):
            raise ValueError(
                f'boundary {boundary.name!r} carries a single cell of '
                f'{stride} px, which is no power of two, and the decoder '
                'doubles the resolution step by step: write '
                "local_heads.preset='cifar', whose decoder resizes at once "
                '(with aux_net or task for another task net), or choose '
                'another boundary'
            )
        self.boundary = boundary
        self.doublings = round(log2(stride))
        self.blocks = nn.ModuleList()
        channels, kernel = boundary.channels, 1
        for width in _widths(self.doublings):
            self.blocks.append(
                nn.Sequential(
                    *conv_norm_relu(
                        channels, width, kernel, norm_cfg, bias=True
                    )
                )
            )
            channels, kernel = width, 3
        self.to_image = nn.Conv2d(
            channels, boundary.image_channels, 3, padding=1
        )

    def forward(self, feat: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (N, C_image, *size) of a feature (N, C, h, w).

        Raises:
            ValueError: If the feature is not ceil(size / stride) large, and
                not a cell or a quarter more or less along a side.
        """
        expected = self.boundary.feature_size(size)
        pairs = zip(feat.shape[-2:], expected, strict=True)
        if any(abs(side - known) > max(1, known / 4) for side, known in pairs):
            stride = self.boundary.stride
            raise ValueError(
                f'the feature before {self.boundary.name!r} is '
                f'{_show(feat.shape[-2:])} for an image of {_show(size)}; '
                f'the decoder reaches the image from {_show(expected)} '
                f'(stride {stride}, rounded up), a quarter more or less: '
                f'make the image a multiple of {stride}, by crop_size (the '
                'RandomCrop of the pipeline) or by size_divisor of '
                'data_preprocessor, or write '
                "local_heads.preset='cifar', whose decoder takes any size"
            )
        for k, block in enumerate(self.blocks, 1):
            feat = block(feat)
            if k <= self.doublings:
                scale = 2 ** (self.doublings - k)
                feat = _resize(feat, [-(-side // scale) for side in size])
        return self.to_image(feat)


def _widths(doublings: int) -> tuple[int, ...]:
    """Channels before each doubling, see :class:`ProgressiveDecoder`."""
    if doublings < 3:
        return ((128,), (128,), (128, 12))[doublings]
    if doublings == 3:
        return (128, 32, 12)
    return (128,) * (doublings - 3) + (64, 32, 12)


def _resize(feat: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(
        feat, size=tuple(size), mode='bilinear', align_corners=True
    )


def _show(size: tuple[int, int]) -> str:
    return 'x'.join(str(side) for side in size)
