"""Several features at one boundary, as a local head reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from .boundary import Boundary


def joined_boundary(parts: Sequence[Boundary]) -> Boundary | None:
    """What a head is told of features that it reads together.

    Their channels add up; side and stride are those of the largest.

    Args:
        parts (Sequence[Boundary]): Of each feature.

    Returns:
        Boundary | None: None if they cannot be joined, since some are
        sequences and others not, or they come from other patches.
    """
    if len(parts) == 1 and parts[0].layout != 'grid':
        return parts[0]
    largest = max(parts, key=lambda part: part.side)
    layouts = {part.layout for part in parts}
    if len({part.patches for part in parts}) > 1:
        return None
    if 'sequence' in layouts and len(layouts) > 1:
        return None
    layout = layouts.pop() if layouts <= {'sequence', 'vector'} else 'map'
    channels = sum(part.channels for part in parts)
    return replace(
        largest, channels=channels, layout=layout, parts=tuple(parts)
    )


def join(
    feats: Sequence[Tensor],
    parts: Sequence[Boundary],
    image_size: tuple[int, int],
) -> Tensor:
    """Features resized to the largest and concatenated along channels.

    Bilinear (linear for sequences), corners not aligned. Tokens are put back
    on their grid first, a vector fills its map.

    Args:
        feats (Sequence[Tensor]): One a part.
        parts (Sequence[Boundary]): As of :func:`joined_boundary`.
        image_size (tuple[int, int]): H and W of the image.

    Returns:
        Tensor: (N, sum of C, H, W), or (N, sum of C, L) of sequences.
    """
    if all(part.layout == 'vector' for part in parts):
        return torch.cat(list(feats), 1)
    if parts[0].layout != 'sequence':
        feats = [
            part.to_map(feat, image_size)
            for part, feat in zip(parts, feats, strict=True)
        ]
    size = max((feat.shape[2:] for feat in feats), key=lambda s: s.numel())
    return torch.cat([_resize(feat, size) for feat in feats], 1)


def _resize(feat: Tensor, size: torch.Size) -> Tensor:
    if feat.shape[2:] == size:
        return feat
    if feat.shape[2:].numel() == 1:
        return feat.expand(*feat.shape[:2], *size)
    mode = 'linear' if len(size) == 1 else 'bilinear'
    return F.interpolate(feat, size, mode=mode, align_corners=False)
