"""Predictions for images, of the network and of each of its modules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope

from mmlocal.config import type_name
from mmlocal.visualization import Prediction, predictions_of

from .zoo import get_model


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
        return predictions_of(
            self.model, inputs, samples, self.rgb, self.modules
        )


def _batches(inputs: list[dict], batch_size: int) -> Iterator[list[dict]]:
    """Neighbours of one size, together."""
    for _, group in groupby(inputs, lambda item: item['inputs'].shape):
        same = list(group)
        for start in range(0, len(same), batch_size):
            yield same[start : start + batch_size]
