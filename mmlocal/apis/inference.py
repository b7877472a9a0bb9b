"""Predictions for images, of the network and of each of its modules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from torch import Tensor
from torch.nn import functional as F

from mmlocal.config import type_name
from mmlocal.step import to_pixels

from .zoo import get_model


@dataclass
class View:
    """What a module, or the network, sees in an image.

    Args:
        name (str): Of the submodule before which the module ends.
        labels (np.ndarray, optional): Classes (H, W), of a segmentation.
        scores (np.ndarray, optional): Probabilities (num_classes,), of a
            classification.
        reconstruction (np.ndarray, optional): RGB (h, w, 3), uint8.
    """

    name: str
    labels: np.ndarray | None = None
    scores: np.ndarray | None = None
    reconstruction: np.ndarray | None = None


@dataclass
class Prediction(View):
    """What the network predicts, and its modules on the way.

    Args:
        seen (np.ndarray, optional): The image as the network got it, RGB
            (h, w, 3), uint8.
        modules (list[View]): One a boundary, if they were asked for.
    """

    seen: np.ndarray | None = None
    modules: list[View] = field(default_factory=list)


class Predictor:
    """A trained model of mmseg or mmpretrain, for images in memory.

    Args:
        name (str | Path | Config): Name in the model zoo, or config.
        checkpoint (str | Path, optional): By default the published weights.
        device (str, optional): By default the accelerator, else the CPU.
        modules (bool): Also ask the local heads. Defaults to False.

    Raises:
        ValueError: As :func:`get_model`; or if there are no local heads to
            ask, or the checkpoint has none.
    """

    def __init__(
        self,
        name: str | Path | Config,
        checkpoint: str | Path | None = None,
        device: str | None = None,
        modules: bool = False,
    ):
        weights = True if checkpoint is None else checkpoint
        self.model = get_model(name, weights, device, local_heads=modules)
        cfg = self.model.cfg
        self.modules = modules
        if modules and not getattr(self.model.backbone, 'boundaries', None):
            raise ValueError(
                f'{name} has no local modules to show: give a config whose '
                'backbone is a mmlocal.LocalSupervisedBackbone.'
            )
        preprocessor = cfg.model.get('data_preprocessor') or {}
        # What mmseg and mmpretrain call it; OpenCV reads BGR.
        self.rgb = any(preprocessor.get(k) for k in ('bgr_to_rgb', 'to_rgb'))
        meta = self.model.dataset_meta
        self.classes: Sequence[str] | None = meta.get('classes')
        self.palette: Sequence[Sequence[int]] | None = meta.get('palette')
        pipeline = cfg.test_dataloader.dataset.pipeline
        pipeline = [
            transform
            for transform in pipeline
            if not type_name(transform['type']).startswith('Load')
        ]
        self.scope = cfg.get('default_scope', 'mmengine')
        with DefaultScope.overwrite_default_scope(self.scope):
            self.pipeline = Compose(pipeline)

    def __call__(
        self, images: Sequence[np.ndarray], batch_size: int = 1
    ) -> list[Prediction]:
        """Predict.

        Args:
            images (Sequence[np.ndarray]): BGR (H, W, 3), uint8, as OpenCV
                reads them.
            batch_size (int): Images of one size go through the network
                together, up to this many. Defaults to 1.
        """
        inputs = [self._prepare(image) for image in images]
        results: list[Prediction] = []
        for batch in _batches(inputs, batch_size):
            results += self._predict(batch)
        return results

    def _prepare(self, image: np.ndarray) -> dict[str, Any]:
        shape = image.shape[:2]
        return self.pipeline(dict(img=image, img_shape=shape, ori_shape=shape))

    @torch.no_grad()
    def _predict(self, batch: list[dict]) -> list[Prediction]:
        data = pseudo_collate(batch)
        samples = self.model.test_step(data)
        inputs = self.model.data_preprocessor(data, False)['inputs']
        seen = self._to_images(to_pixels(inputs, self._preprocessor))
        results = []
        for sample, image in zip(samples, seen, strict=True):
            result = Prediction('', seen=image)
            if 'pred_sem_seg' in sample:
                result.labels = sample.pred_sem_seg.data[0].cpu().numpy()
            else:
                result.scores = sample.pred_score.cpu().numpy()
            results.append(result)
        if self.modules:
            for view in self._module_views(inputs, samples):
                for result, module in zip(results, view, strict=True):
                    result.modules.append(module)
        return results

    @property
    def _preprocessor(self) -> Any:
        return self.model.data_preprocessor

    def _module_views(
        self, inputs: Tensor, samples: Sequence[Any]
    ) -> Iterator[list[View]]:
        """For each boundary, what its head sees in each image."""
        predictions = self.model.backbone.predict_local(inputs)
        for index, seen in enumerate(predictions):
            name = self.model.backbone.boundaries[index]
            views = [View(name) for _ in samples]
            if (recon := seen.get('reconstruction')) is not None:
                images = self._to_images(recon)
                for view, image in zip(views, images, strict=True):
                    view.reconstruction = image
            logits = seen.get('logits')
            if logits is not None and logits.ndim == 4:
                labels = _label_maps(logits.float(), inputs, samples)
                for view, label in zip(views, labels, strict=True):
                    view.labels = label
            elif logits is not None:
                scores = logits.float().softmax(1).cpu().numpy()
                for view, score in zip(views, scores, strict=True):
                    view.scores = score
            yield views

    def _to_images(self, pixels: Tensor) -> list[np.ndarray]:
        """(N, 3, H, W) in [0, 1] as RGB images."""
        pixels = pixels if self.rgb else pixels.flip(1)
        array = (pixels.float() * 255).round().byte().permute(0, 2, 3, 1)
        return list(array.cpu().numpy())


def _batches(inputs: list[dict], batch_size: int) -> Iterator[list[dict]]:
    """Neighbours of one size, together."""
    for _, group in groupby(inputs, lambda item: item['inputs'].shape):
        same = list(group)
        for start in range(0, len(same), batch_size):
            yield same[start : start + batch_size]


def _label_maps(
    logits: Tensor, inputs: Tensor, samples: Sequence[Any]
) -> Iterator[np.ndarray]:
    """Classes at the size of each image, without what was padded."""
    logits = F.interpolate(logits, size=inputs.shape[-2:], mode='bilinear')
    for row, sample in zip(logits, samples, strict=True):
        height, width = sample.img_shape[:2]
        row = F.interpolate(
            row[None, :, :height, :width],
            size=tuple(sample.ori_shape[:2]),
            mode='bilinear',
        )
        yield row.argmax(1)[0].cpu().numpy()
