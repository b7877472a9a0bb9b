"""Sequences of features at the rate of labels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

# Samples of a waveform for which there is one label: 10 ms at 16 kHz.
FRAME = 160
# Samples that CPC takes in: 1.28 s.
LENGTH = 128 * FRAME


def to_frames(feat: Tensor, num_frames: int) -> Tensor:
    """Means over the positions of each frame.

    Args:
        feat (Tensor): (N, C, L). What has fewer positions than frames has
            them repeated.
        num_frames (int): T.

    Returns:
        Tensor: (N, C, T); ``feat`` itself where L is T.
    """
    if feat.shape[2] == num_frames:
        return feat
    return F.adaptive_avg_pool1d(feat, num_frames)
