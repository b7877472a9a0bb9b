"""Losses of pixels, at the resolution of one image at a time."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


def imagewise_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int,
    align_corners: bool,
    class_weight: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of pixels, of logits that are resized to the labels.

    The values and gradients of ``F.interpolate`` and ``F.cross_entropy``, in
    less memory: they run for an image at a time, and once more in backward,
    so that at no time logits of more than one image are in memory at the
    labels' size. In float32 with C classes that saves about 12 C bytes a
    pixel of each further image; what comes on top, one more interpolation and
    softmax, is small beside any convolution at that size.

    Args:
        logits (Tensor): (N, C, h, w).
        labels (Tensor): Class indices (N, H, W).
        ignore_index (int): Pixels with this label have loss 0.
        align_corners (bool): As of ``F.interpolate``.
        class_weight (Tensor, optional): Factors (C, ) of the classes.

    Returns:
        Tensor: (N, H, W), not reduced, of the dtype of ``F.cross_entropy``.
    """
    one_image = partial(
        _cross_entropy,
        weight=class_weight,
        ignore_index=ignore_index,
        align_corners=align_corners,
    )
    losses = [
        checkpoint(
            one_image, *pair, use_reentrant=False, preserve_rng_state=False
        )
        for pair in zip(logits.split(1), labels.split(1), strict=True)
    ]
    return torch.cat(losses)


def cell_accuracy(
    logits: Tensor, labels: Tensor, ignore_index: int, align_corners: bool
) -> Tensor:
    """Share of right pixels, in percent, without resizing the logits.

    Looks at the one pixel in the middle of each cell of the logits: all of
    them if both are of one size.

    Args:
        logits (Tensor): (N, C, h, w).
        labels (Tensor): Class indices (N, H, W).
        ignore_index (int): Pixels with this label do not count.
        align_corners (bool): Where cells lie, as of ``F.interpolate``.

    Returns:
        Tensor: Scalar, 0 where no pixel counts.
    """
    rows, columns = (
        _centres(cells, pixels, align_corners, labels.device)
        for cells, pixels in zip(
            logits.shape[-2:], labels.shape[-2:], strict=True
        )
    )
    labels = labels[:, rows[:, None], columns]
    valid = labels != ignore_index
    correct = (logits.detach().argmax(1) == labels) & valid
    return 100 * correct.sum() / valid.sum().clamp(min=1)


def _cross_entropy(
    logits: Tensor, labels: Tensor, align_corners: bool, **kwargs
) -> Tensor:
    logits = F.interpolate(
        logits,
        labels.shape[-2:],
        mode='bilinear',
        align_corners=align_corners,
    )
    return F.cross_entropy(logits, labels, reduction='none', **kwargs)


def _centres(
    cells: int, pixels: int, align_corners: bool, device: torch.device
) -> Tensor:
    """The pixels, of a side, in the middle of cells."""
    if align_corners:
        return (
            torch.linspace(0, pixels - 1, cells, device=device).round().long()
        )
    steps = 2 * torch.arange(cells, device=device) + 1
    return steps * pixels // (2 * cells)
