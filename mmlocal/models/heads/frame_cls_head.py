"""Classes of frames, along a sequence."""

from __future__ import annotations

from typing import Any

from mmpretrain.models import ClsHead
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn import functional as F

from mmlocal.registry import MODELS

from ..frames import to_frames
from ..local_heads.targets import frame_labels


@MODELS.register_module()
class FrameClsHead(ClsHead):
    """A linear classifier of every position of a sequence.

    Data samples say in ``gt_frames`` (T,) what class each frame of their
    waveform has. Where a sequence has more or fewer positions than frames,
    logits are averaged over each frame, see
    :func:`mmlocal.models.frames.to_frames`.

    Args:
        num_classes (int): How many.
        in_channels (int): C of the sequence.
        ignore_index (int): Frames with this label do not count. Defaults to
            255.
        init_cfg (dict, optional): Initialization of mmengine. Defaults to
            torch's own.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        ignore_index: int = 255,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg=init_cfg)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.fc = nn.Conv1d(in_channels, num_classes, 1)

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Logits (N, num_classes, L) of the last sequence (N, C, L)."""
        return self.fc(self.pre_logits(feats))

    def loss(
        self,
        feats: tuple[Tensor, ...],
        data_samples: list[DataSample],
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Cross-entropy and accuracy, over all frames.

        Args:
            feats (tuple[Tensor]): The last one counts, (N, C, L).
            data_samples (list[DataSample]): With ``gt_frames``.
            **kwargs: Not read.

        Returns:
            dict[str, Tensor]: ``loss``, and ``acc`` in percent.

        Raises:
            ValueError: If data samples have no such labels, or none of
                frames that count.
        """
        labels = frame_labels(data_samples)
        logits = to_frames(self(feats), labels.shape[1])
        counts = labels != self.ignore_index
        right = logits.argmax(1)[counts] == labels[counts]
        # The mean over no frame at all would be NaN.
        total = F.cross_entropy(
            logits, labels, ignore_index=self.ignore_index, reduction='sum'
        )
        num = counts.sum().clamp(min=1)
        return {'loss': total / num, 'acc': 100 * right.sum() / num}

    def predict(
        self,
        feats: tuple[Tensor, ...],
        data_samples: list[DataSample | None] | None = None,
    ) -> list[DataSample]:
        """The class of every frame, ``pred_frames`` (T,) int64.

        There are as many as ``gt_frames`` of the data samples; without
        these, as many as positions.
        """
        logits = self(feats)
        samples = data_samples or [None] * len(logits)
        if samples[0] is not None and 'gt_frames' in samples[0]:
            logits = to_frames(logits, len(samples[0].gt_frames))
        found = []
        for sample, label in zip(samples, logits.argmax(1), strict=True):
            sample = DataSample() if sample is None else sample
            sample.set_field(label, 'pred_frames')
            found.append(sample)
        return found
