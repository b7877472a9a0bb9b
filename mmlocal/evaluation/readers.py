"""What the modules of a cut network predict for one batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmlocal.step import LocalBackbone, Stopped

from .ensemble import Ensemble

# Fields of a data sample as a metric sees them, in place of its own.
Fields = dict[str, Any]


class Reader(ABC):
    """Reads all modules out in one forward.

    The forward is the model's own, and so is its prediction. While one
    module trains alone, the forward ends behind it, and what its local head
    predicts takes the place of the model's prediction.

    Args:
        model (nn.Module): Without distributed wrapper.
        backbone (LocalBackbone): Its backbone.
        inputs (Tensor): The preprocessed batch (N, ...).
        data_samples (list): Its N data samples; they take up predictions.
    """

    # Axes of logits.
    ndim: int

    def __init__(
        self,
        model: nn.Module,
        backbone: LocalBackbone,
        inputs: Tensor,
        data_samples: list,
    ):
        self.model = model
        self.backbone = backbone
        self.inputs = inputs
        self.samples = data_samples
        self._found: list[list[Fields]] = []

    def run(self) -> list:
        """Run the forward.

        Returns:
            list: The data samples with the prediction of the model, or of
            the module that trains alone.

        Raises:
            ValueError: If that module predicts no classes.
        """
        only = self.backbone.only
        last = self.backbone.num_modules - 1
        with self.backbone.reading_out(only, logits_only=True) as self._found:
            if only is None or only >= last:
                self.samples = self.model(
                    self.inputs, self.samples, mode='predict'
                )
            else:
                self.predict_with(only)
        return self.samples

    def read(self, kind: str | None) -> tuple[list[dict[str, Fields]], list]:
        """What the modules predict.

        A module is read out by its local head. The last one has none,
        unless with ``local_end``: there the model's own prediction counts.

        Args:
            kind (str, optional): Of :class:`Ensemble`; None for no ensembles.

        Returns:
            tuple[list[dict[str, dict]], list[int]]: For each data sample the
            fields by read-out (``module_1``, ``module_2``, ``ensemble_2``,
            ...), and the numbers, from 0, of modules that have none.
        """
        last = self.backbone.num_modules - 1
        if self.backbone.only is not None:
            last = min(last, self.backbone.only)
        rows: list[dict[str, Fields]] = [{} for _ in self.samples]
        missing, ensemble = [], Ensemble(kind) if kind else None

        def put(name: str, fields: list[Fields]) -> None:
            for row, each in zip(rows, fields, strict=True):
                row[name] = each

        for index in range(last + 1):
            if (logits := self.logits(index)) is not None:
                fields, logits = self.classify(logits)
            elif index == self.backbone.num_modules - 1:
                fields, logits = [{} for _ in rows], self.own_logits()
            else:
                missing.append(index)
                continue
            put(f'module_{index + 1}', fields)
            if ensemble is not None:
                ensemble.add(index, logits)
                if ensemble.count > 1:
                    put(f'ensemble_{index + 1}', self.combine(ensemble))
        return rows, missing

    def logits(self, index: int) -> list[Tensor] | None:
        """What a local head gives in each forward; None if no class scores."""
        logits = [
            heads[index].get('logits') if index < len(heads) else None
            for heads in self._found
        ]
        if any(each is None or each.ndim != self.ndim for each in logits):
            return None
        logits = self.join(logits)
        for each in logits:
            # Patches of images lie along the batch, too.
            if len(each) != len(self.samples):
                return None
        return logits

    def join(self, logits: list[Tensor]) -> list[Tensor]:
        """What belongs together, of forwards that had a part each."""
        return logits

    def head_logits(self, index: int) -> list[Tensor]:
        """As :meth:`logits`, of the module that trains alone.

        Raises:
            ValueError: If it predicts no classes.
        """
        logits = self.logits(index)
        if logits is None:
            raise ValueError(
                f'module {index + 1} trains alone, and its local head '
                f'({type(self.backbone.module_heads[index]).__name__}) '
                'predicts no classes, so that there is nothing to validate: '
                'write train_cfg.val_begin=... , the first epoch or '
                "iteration of the last module's phase, or a local head that "
                'classifies.'
            )
        return logits

    @abstractmethod
    def predict_with(self, index: int) -> None:
        """Run up to a module; its prediction becomes the data samples'."""

    @abstractmethod
    def classify(
        self, logits: list[Tensor]
    ) -> tuple[list[Fields], list[Tensor]]:
        """The prediction of a local head, as the model's own head gives it.

        Args:
            logits (list[Tensor]): Of each forward.

        Returns:
            tuple[list[dict], list[Tensor]]: Fields for each data sample, and
            the logits in batches, for an ensemble.
        """

    @abstractmethod
    def own_logits(self) -> list[Tensor]:
        """The logits of the model's prediction, likewise."""

    @abstractmethod
    def combine(self, ensemble: Ensemble) -> list[Fields]:
        """The prediction of an ensemble, for each data sample."""


class ClassReader(Reader):
    """Of classifiers, as mmpretrain's: logits (N, C)."""

    ndim = 2

    def join(self, logits: list[Tensor]) -> list[Tensor]:
        # Of a model that takes the batch in parts.
        return [torch.cat(logits)]

    def predict_with(self, index: int) -> None:
        with suppress(Stopped):
            self.model.extract_feat(self.inputs)
        fields, _ = self.classify(self.head_logits(index))
        for sample, each in zip(self.samples, fields, strict=True):
            sample.set_pred_score(each['pred_score'])
            sample.set_pred_label(each['pred_label'])

    def classify(
        self, logits: list[Tensor]
    ) -> tuple[list[Fields], list[Tensor]]:
        (scores,) = logits
        return _class_fields(scores.float().softmax(1)), logits

    def own_logits(self) -> list[Tensor]:
        # But for a constant in each row, which no ensemble shows.
        scores = [sample.pred_score.float() for sample in self.samples]
        scores = torch.stack(scores)
        return [scores.clamp(min=torch.finfo(scores.dtype).tiny).log()]

    def combine(self, ensemble: Ensemble) -> list[Fields]:
        (mean,) = ensemble.mean
        # The order of classes stays, and scores are probabilities, which
        # thresholds of metrics need.
        return _class_fields(
            mean.softmax(1) if ensemble.kind == 'logit' else mean
        )


class PixelReader(Reader):
    """Of mmseg's segmentors: logits (N, C, h, w), a forward a window."""

    ndim = 4

    def predict_with(self, index: int) -> None:
        def logits_of(crop: Tensor) -> Tensor:
            with suppress(Stopped):
                self.model.extract_feat(crop)
            return self.head_logits(index)[-1]

        self._segmentor(logits_of).predict(self.inputs, self.samples)

    def classify(
        self, logits: list[Tensor]
    ) -> tuple[list[Fields], list[Tensor]]:
        windows = iter(logits)
        segmentor = self._segmentor(lambda crop: next(windows))
        segmentor.out_channels = logits[0].shape[1]
        # With what postprocessing looks at.
        samples = [type(each)(metainfo=each.metainfo) for each in self.samples]
        samples = segmentor.predict(self.inputs, samples)
        fields = [_pixel_fields(each.pred_sem_seg.data) for each in samples]
        return fields, [each.seg_logits.data[None] for each in samples]

    def own_logits(self) -> list[Tensor]:
        return [sample.seg_logits.data[None] for sample in self.samples]

    def combine(self, ensemble: Ensemble) -> list[Fields]:
        return [_pixel_fields(mean.argmax(1)) for mean in ensemble.mean]

    def _segmentor(self, logits_of: Callable[[Tensor], Tensor]) -> nn.Module:
        """The segmentor, but for what decodes a window.

        Windows, padding, flips and the size are its own matter.
        """
        segmentor = copy(self.model)

        def encode_decode(crop: Tensor, batch_img_metas: list) -> Tensor:
            return F.interpolate(
                logits_of(crop),
                crop.shape[2:],
                mode='bilinear',
                align_corners=self.model.align_corners,
            )

        segmentor.encode_decode = encode_decode
        return segmentor


def make_reader(
    model: nn.Module,
    backbone: LocalBackbone,
    inputs: Tensor,
    data_samples: list,
) -> Reader:
    """The reader for a model, see :class:`Reader`."""
    reader = PixelReader if hasattr(model, 'encode_decode') else ClassReader
    return reader(model, backbone, inputs, data_samples)


def _class_fields(scores: Tensor) -> list[Fields]:
    """From probabilities (N, C)."""
    scores = scores.cpu()  # at once, not one by one
    labels = scores.argmax(1, keepdim=True)
    return [
        {'pred_score': score, 'pred_label': label}
        for score, label in zip(scores, labels, strict=True)
    ]


def _pixel_fields(labels: Tensor) -> Fields:
    """From labels (1, H, W), in a type that holds any ignore_index."""
    return {'pred_sem_seg': {'data': labels.to(torch.int16)}}
