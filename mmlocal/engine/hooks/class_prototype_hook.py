"""Class prototypes, computed before training."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any

import mmengine.dist as dist
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mmlocal.config import innermost_dataset
from mmlocal.registry import HOOKS
from mmlocal.step import unwrap


@HOOKS.register_module()
class ClassPrototypeHook(Hook):
    """Has the label embedding of a model learn a prototype of each class.

    In ``before_train``, from all images of the training set, preprocessed,
    in the order of the data set and without augmentation; an example of a
    class is the first one. A run that is resumed keeps those of its
    checkpoint.

    Args:
        pipeline (list[dict], optional): Transforms in place of the training
            set's. By default those of ``val_dataloader``.
        as_published (bool): Take the batches of the training itself:
            shuffled, and augmented. Defaults to False.

    Raises:
        ValueError: In ``before_train``, if the model has no label embedding,
            there is no pipeline, or no image of a class.

    Example:
        >>> custom_hooks = [
        ...     dict(type='mmlocal.LocalLossHook'),
        ...     dict(type='mmlocal.ClassPrototypeHook')]
    """

    def __init__(
        self, pipeline: list[dict] | None = None, as_published: bool = False
    ) -> None:
        self.pipeline = pipeline
        self.as_published = as_published

    def before_train(self, runner: Runner) -> None:
        model = unwrap(runner.model)
        embedding = getattr(model, 'embedding', None)
        if not hasattr(embedding, 'learn'):
            raise ValueError(
                'custom_hooks: ClassPrototypeHook computes what a label '
                f'embedding needs, and {type(model).__name__} has none: '
                "remove it, or write model=dict(type='mmlocal."
                "FFClassifier', ...)."
            )
        if not embedding.has_prototypes:
            return
        if runner._resume and embedding.known:
            return
        embedding.learn(self._batches(runner))
        for buffer in embedding.buffers():
            dist.broadcast(buffer)  # of ranks that draw images of their own

    def _batches(self, runner: Runner) -> Iterator[tuple[Tensor, Tensor]]:
        loader = runner.train_dataloader
        if not self.as_published:
            loader = DataLoader(
                _with_pipeline(loader.dataset, self._transforms(runner)),
                batch_size=loader.batch_size,
                collate_fn=pseudo_collate,
            )
        preprocess = unwrap(runner.model).data_preprocessor
        for batch in loader:
            data = preprocess(batch, False)
            labels = [sample.gt_label for sample in data['data_samples']]
            yield data['inputs'], torch.cat(labels)

    def _transforms(self, runner: Runner) -> Any:
        if self.pipeline is not None:
            return self.pipeline
        validation = runner.cfg.get('val_dataloader')
        if not validation:
            raise ValueError(
                'custom_hooks: ClassPrototypeHook takes the transforms of '
                'val_dataloader, which have no augmentation, and there is '
                'none: write its pipeline=[...].'
            )
        return innermost_dataset(validation['dataset'])['pipeline']


def _with_pipeline(dataset: Dataset, pipeline: list[dict]) -> Dataset:
    """The images of a data set through other transforms."""
    dataset = copy(dataset)
    if hasattr(dataset, 'dataset'):
        # One that repeats or balances another.
        dataset.dataset = _with_pipeline(dataset.dataset, pipeline)
    elif hasattr(dataset, 'pipeline'):
        dataset.pipeline = Compose(pipeline)
    else:
        raise ValueError(
            f'train_dataloader.dataset: {type(dataset).__name__} has no '
            'pipeline that ClassPrototypeHook could replace: write its '
            'as_published=True.'
        )
    return dataset
