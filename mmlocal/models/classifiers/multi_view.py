"""Classifiers whose batches hold several views of each image."""

from __future__ import annotations

from typing import Any

import torch
from mmpretrain.models import ClsDataPreprocessor, ImageClassifier
from torch import Tensor

from mmlocal.registry import MODELS


@MODELS.register_module()
class MultiViewDataPreprocessor(ClsDataPreprocessor):
    """mmpretrain's ClsDataPreprocessor, which also takes several views.

    What mmpretrain's ``MultiView`` packs, V images for one label, becomes a
    batch of V * N images, one whole view after another, with N data samples.
    A batch of single images, as in validation, stays what it was.

    Args:
        **kwargs: Of mmpretrain's ClsDataPreprocessor.

    Raises:
        ValueError: With ``batch_augments``, which would mix each view with
            another image.

    Example:
        >>> model = dict(type='mmlocal.MultiViewClassifier', ...)
        >>> data_preprocessor = dict(type='mmlocal.MultiViewDataPreprocessor')
        >>> train_pipeline = [
        ...     dict(type='MultiView', num_views=2, transforms=[[...]]),
        ...     dict(type='PackInputs'),
        ... ]
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        if self.batch_augments is not None:
            raise ValueError(
                'data_preprocessor.batch_augments: Mixup and CutMix would '
                'mix the views of an image with different images: remove '
                "them, or write type='ClsDataPreprocessor' for one view"
            )

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalize, and put views together.

        Args:
            data (dict): ``inputs``: N images (C, H, W), a batch of them, or
                V times one of these; ``data_samples`` of the N images.
            training (bool): As in mmpretrain.

        Returns:
            dict: ``inputs`` (V * N, C, H, W), and ``data_samples``.
        """
        views = data['inputs']
        if not _are_views(views):
            return super().forward(data, training)
        batches = [
            super(MultiViewDataPreprocessor, self).forward(
                {'inputs': view, 'data_samples': None}, training
            )
            for view in views[1:]
        ]
        first = super().forward({**data, 'inputs': views[0]}, training)
        inputs = [batch['inputs'] for batch in (first, *batches)]
        return {**first, 'inputs': torch.cat(inputs)}


@MODELS.register_module()
class MultiViewClassifier(ImageClassifier):
    """mmpretrain's ImageClassifier, whose head learns from the first view.

    Where local heads compare views, so that the backbone learns from all of
    them, the model's own head is a classifier of single images.
    """

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Compute the head's losses.

        Args:
            inputs (Tensor): Images (V * N, C, H, W).
            data_samples (list[DataSample]): Of the N images.
        """
        feats = _first_rows(self.extract_feat(inputs), len(data_samples))
        return self.head.loss(feats, data_samples)


def _are_views(inputs: Any) -> bool:
    if isinstance(inputs, Tensor):
        return False
    return not isinstance(inputs[0], Tensor) or inputs[0].ndim == 4


def _first_rows(feats: Any, count: int) -> Any:
    if isinstance(feats, (list, tuple)):
        return type(feats)(_first_rows(feat, count) for feat in feats)
    return feats[:count]
