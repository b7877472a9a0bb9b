"""Accuracy over frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric

from mmlocal.registry import METRICS


@METRICS.register_module()
class FrameAccuracy(BaseMetric):
    """Percentage of frames that are classified right, ``frames/accuracy``.

    Every frame counts the same, of whatever waveform it is.

    Args:
        ignore_index (int): Frames with this label do not count. Defaults to
            255.
        **kwargs: Of mmengine's BaseMetric.
    """

    default_prefix = 'frames'

    def __init__(self, ignore_index: int = 255, **kwargs: Any):
        super().__init__(**kwargs)
        self.ignore_index = ignore_index

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count ``pred_frames`` of :class:`mmlocal.FrameClsHead`.

        Raises:
            ValueError: If there are none.
        """
        for sample in data_samples:
            if 'pred_frames' not in sample or 'gt_frames' not in sample:
                raise ValueError(
                    'val_evaluator: FrameAccuracy needs gt_frames of the '
                    'data set and pred_frames of the head: write '
                    "model.head=dict(type='mmlocal.FrameClsHead', ...), or "
                    "val_evaluator=dict(type='Accuracy')."
                )
            labels = sample['gt_frames']
            counts = labels != self.ignore_index
            right = counts & (sample['pred_frames'] == labels)
            self.results.append((int(right.sum()), int(counts.sum())))

    def compute_metrics(
        self, results: list[tuple[int, int]]
    ) -> dict[str, float]:
        """Accuracy over all of them."""
        right, total = map(sum, zip(*results, strict=True))
        return {'accuracy': 100 * right / max(total, 1)}
