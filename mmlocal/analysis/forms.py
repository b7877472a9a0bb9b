"""How a feature is laid out for a measure."""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor

from mmlocal.models.frames import FRAME, to_frames

# Features with more numbers than this are projected to SKETCH numbers.
LARGEST = 1 << 16
SKETCH = 1 << 12


def pooled(feat: Tensor, images: Tensor) -> Tensor:
    """The mean over positions (and patches) of each image.

    Args:
        feat (Tensor): Map (N, C, h, w), tokens (N, L, C), sequence (N, C, L)
            of a signal, or vectors (N, C); with P patches an image, P times
            as many rows.
        images (Tensor): The N images or signals, whose dimensions tell
            tokens from sequences.

    Returns:
        Tensor: (N, C).
    """
    if feat.ndim == 4:
        feat = feat.mean((2, 3))
    elif feat.ndim == 3:
        feat = feat.mean(2 if images.ndim == 3 else 1)
    return _by_image(feat, images).mean(1)


def flattened(feat: Tensor, images: Tensor) -> Tensor:
    """All numbers of an image's feature; (N, D), see :func:`sketched`."""
    return sketched(_by_image(feat, images).flatten(1))


def as_map(feat: Tensor, images: Tensor) -> Tensor:
    """The feature as (N, C, h, w); tokens go back on their grid.

    Raises:
        ValueError: If it is neither a map nor tokens that fill a grid of the
            image's proportions, with up to 2 extra tokens in front.
    """
    if feat.ndim == 4 and len(feat) == len(images):
        return feat
    height, width = images.shape[-2:]
    if feat.ndim == 3 and images.ndim == 4 and len(feat) == len(images):
        for extra in range(3):
            count = feat.shape[1] - extra
            h = isqrt(count * height // width)
            if h and count % h == 0 and h * width == count // h * height:
                grid = feat[:, extra:].transpose(1, 2)
                return grid.unflatten(2, (h, count // h))
    raise ValueError(
        f'a feature of shape {tuple(feat.shape)} for images of shape '
        f'{tuple(images.shape)} is no map: choose other modules, or a '
        "measure that reads form='pool' or 'flat'."
    )


def sketched(rows: Tensor) -> Tensor:
    """Rows of at most :data:`LARGEST` numbers.

    Larger ones are projected at random, the same in each call: every number
    is added, with a random sign, to one of :data:`SKETCH` (count sketch,
    https://arxiv.org/abs/0902.2206). Inner products and squared distances
    stay, on average.

    Args:
        rows (Tensor): (N, D).
    """
    dim = rows.shape[1]
    if dim <= LARGEST:
        return rows
    generator = torch.Generator().manual_seed(dim)
    places = torch.randint(SKETCH, (dim,), generator=generator)
    signs = torch.randint(2, (dim,), generator=generator) * 2 - 1
    sketch = rows.new_zeros(len(rows), SKETCH)
    signed = rows * signs.to(rows)
    return sketch.index_add_(1, places.to(rows.device), signed)


def _by_image(feat: Tensor, images: Tensor) -> Tensor:
    """(N * P, ...) as (N, P, ...)."""
    return feat.unflatten(0, (len(images), -1))


def as_frames(feat: Tensor, waves: Tensor) -> Tensor:
    """The feature at 100 frames a second of audio at 16 kHz.

    Args:
        feat (Tensor): Sequence (N, C, L) of the waveforms.
        waves (Tensor): (N, channels, samples).

    Returns:
        Tensor: (N, C, samples // 160).

    Raises:
        ValueError: If it is no sequence of a waveform.
    """
    if feat.ndim != 3 or waves.ndim != 3 or len(feat) != len(waves):
        raise ValueError(
            f'a feature of shape {tuple(feat.shape)} for inputs of shape '
            f'{tuple(waves.shape)} is no sequence of a waveform: choose '
            "other modules, or a measure that reads form='pool' or 'flat'."
        )
    return to_frames(feat, waves.shape[2] // FRAME)


FORMS = {
    'pool': pooled,
    'flat': flattened,
    'map': as_map,
    'frames': as_frames,
}
