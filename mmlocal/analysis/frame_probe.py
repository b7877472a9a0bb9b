"""What a linear classifier reads from each frame of a waveform."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmlocal.registry import MEASURES

from .features import Features
from .linear_head import Chosen, FeatureHead, train_and_read
from .linear_probe import Probe, check_finite, count_classes
from .seeded import hold_out_groups, seeded

# Waveforms whose features are in memory at once.
BATCH = 64


@MEASURES.register_module()
class FrameProbe(Probe):
    """Top-1 accuracy of a linear classifier of frames of 10 ms.

    Frames are what data samples have labels of, ``gt_frames``: phones. A
    sequence with other positions than frames is averaged over each frame, see
    :func:`mmlocal.models.frames.to_frames`. The head is trained on a fixed
    choice of frames, as many of each waveform, and tested on all. Held out
    are waveforms, not frames.

    It gives ``accuracy`` and ``train_accuracy`` in percent, and the chosen
    setting.

    Args:
        num_frames (int): Of all training data together, those without label
            among them, which do not count. Their features are in memory.
            Defaults to 100,000.
        **kwargs: See :class:`~mmlocal.analysis.linear_probe.Probe`; the
            protocol 'audio_phones' is that of Greedy InfoMax.
    """

    name = 'frames'
    form = 'frames'

    def __init__(self, *args: Any, num_frames: int = 100_000, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.num_frames = num_frames

    def probe(self, train: Features, val: Features, index: int) -> Chosen:
        device = self.device
        feats, labels, waves = sample_frames(
            train, index, self.num_frames, self.seed
        )
        feats, labels = feats.to(device), labels.to(device)
        num_classes = count_classes(train, val)
        head = FeatureHead(feats, labels, num_classes, self.head, self.seed)
        return train_and_read(
            head,
            self.head,
            len(feats),
            parts=lambda: hold_out_groups(
                waves, len(train), self.holdout, self.seed
            ),
            read=lambda: {
                'accuracy': _accuracy(head, val, index),
                'train_accuracy': head.accuracy(feats, labels),
            },
        )


def sample_frames(
    features: Features, index: int, num_frames: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Features of some frames.

    Args:
        features (Features): Frames (N, C, T) and labels (N, T).
        index (int): Of the module.
        num_frames (int): Of all waveforms together; of each the same number,
            all that it has at most.
        seed (int): Which frames depends on it alone.

    Returns:
        tuple[Tensor, Tensor, Tensor]: Features (P, C), classes (P,) and
        indices of the waveforms (P,), without frames that have no label.

    Raises:
        ValueError: If there are no frames, or none has a label.
    """
    values, labels = features.values[index], features.labels
    if values.ndim != 3 or labels.shape != (len(values), values.shape[2]):
        raise ValueError(
            'FrameProbe reads frames (N, C, T) and labels (N, T), not '
            f'{values.shape} and {labels.shape}; for classes of whole '
            'waveforms there is LinearProbe.'
        )
    num, total = labels.shape
    each = min(max(num_frames // num, 1), total)
    generator = seeded(seed)
    chosen = torch.stack(
        [torch.randperm(total, generator=generator)[:each] for _ in range(num)]
    ).numpy()
    classes = np.take_along_axis(labels, chosen, 1)
    waves, places = np.nonzero(classes != features.ignore_index)
    if not len(waves):
        raise ValueError('no frame of the training data has a label.')
    found = np.concatenate(
        [
            np.take_along_axis(
                values[first : first + BATCH],
                chosen[first : first + BATCH, None],
                2,
            )
            for first in range(0, num, BATCH)
        ]
    )
    rows = np.float32(found[waves, :, places])
    check_finite(rows, features.modules[index])
    return (
        torch.from_numpy(rows),
        torch.from_numpy(classes[waves, places].astype(np.int64)),
        torch.from_numpy(waves),
    )


def _accuracy(head: FeatureHead, features: Features, index: int) -> float:
    """Over all frames that have a label, in percent."""
    right = total = 0
    for first in range(0, len(features), BATCH):
        part = slice(first, first + BATCH)
        values = np.array(features.values[index][part], np.float32)
        check_finite(values, features.modules[index])
        labels = np.array(features.labels[part])
        counts = labels != features.ignore_index
        rows = torch.from_numpy(values.transpose(0, 2, 1)[counts])
        predicted = head.logits(rows.to(head.weight.device)).argmax(1)
        right += int((predicted.cpu().numpy() == labels[counts]).sum())
        total += int(counts.sum())
    return 100 * right / max(total, 1)
