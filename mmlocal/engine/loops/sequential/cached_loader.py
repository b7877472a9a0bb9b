"""Data loaders that hand out stored features beside their batches."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mmlocal.random_state import kept_random_state


class CachedBatch(NamedTuple):
    """What the loader would have handed out, and the features of its images.

    Attributes:
        batch (Any): As the dataset's items are collated.
        feat (Tensor): (N, ...).
    """

    batch: Any
    feat: Tensor


class SeededDataset(Dataset):
    """Draws each item with a seed of its own: always the same one.

    Args:
        dataset (Dataset): Draws from the random states of Python, NumPy and
            torch.
        seed (int): Of all items.
    """

    def __init__(self, dataset: Dataset, seed: int):
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        with kept_random_state():
            words = np.random.SeedSequence([self.seed, index])
            seed = int(words.generate_state(1)[0])
            random.seed(seed)
            np.random.seed(seed)
            torch.default_generator.manual_seed(seed)
            return self.dataset[index]

    def __getattr__(self, name: str) -> Any:
        return _ask(self, name)


class CachedDataset(Dataset):
    """Items, each with a feature.

    Args:
        dataset (Dataset): Of the items; answers for whatever is asked of
            this one.
        features (Sequence[Tensor]): As many.
    """

    def __init__(self, dataset: Dataset, features: Sequence[Tensor]):
        self.dataset = dataset
        self.features = features

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, Tensor]:
        return self.dataset[index], self.features[index]

    def __getattr__(self, name: str) -> Any:
        return _ask(self, name)


class LoaderTwins:
    """Makes loaders that differ from a given one in what they load.

    It keeps no reference to that loader, whose workers may end.

    Args:
        loader (DataLoader): The model for all others.
        by_epoch (bool): Whether training begins with it again in each epoch.

    Raises:
        ValueError: If it does not load a dataset of known length in batches.
    """

    def __init__(self, loader: DataLoader, by_epoch: bool):
        if loader.batch_sampler is None or not hasattr(
            loader.dataset, '__len__'
        ):
            raise ValueError(
                'train_cfg.cache: features are stored by the number of the '
                'image, and train_dataloader hands out no batches of '
                'numbered images: give it a dataset with a length and a '
                'batch_size, or remove cache.'
            )
        self.dataset = loader.dataset
        self.collate: Callable[[list], Any] = loader.collate_fn
        self.batch_sampler = loader.batch_sampler
        self.batch_size: int = loader.batch_sampler.batch_size
        self._options = {
            name: getattr(loader, name)
            for name in (
                'num_workers',
                'pin_memory',
                'timeout',
                'worker_init_fn',
                'multiprocessing_context',
                'generator',
                'prefetch_factor',
            )
        }
        self._persistent = loader.persistent_workers
        # What begins once draws the seed of its workers once, and others in
        # its place must not draw from the state of the training again.
        self._begins_once = self._persistent or not by_epoch

    def training(self, dataset: CachedDataset) -> DataLoader:
        """The same images in the same batches, with their features."""
        options = dict(self._options)
        if self._begins_once:
            options['generator'] = torch.Generator()
        return DataLoader(
            dataset,
            batch_sampler=self.batch_sampler,
            collate_fn=_Collate(self.collate),
            persistent_workers=self._persistent,
            **options,
        )

    def in_order(self, dataset: Dataset) -> DataLoader:
        """Each item once."""
        return DataLoader(
            dataset, self.batch_size, collate_fn=self.collate, **self._options
        )


class _Collate:
    """Of items with features; a class, so that it can be sent to workers."""

    def __init__(self, collate: Callable[[list], Any]):
        self.collate = collate

    def __call__(self, pairs: list[tuple[Any, Tensor]]) -> CachedBatch:
        items, features = zip(*pairs, strict=True)
        return CachedBatch(self.collate(list(items)), torch.stack(features))


def arrays(value: Any) -> Iterator[np.ndarray]:
    """All that is not constant text in an item: tensors, arrays, numbers."""
    if isinstance(value, Tensor):
        yield value.detach().cpu().numpy()
    elif isinstance(value, (np.ndarray, np.generic, int, float)):
        yield np.asarray(value)
    elif isinstance(value, dict):
        for key in value:
            yield from arrays(value[key])
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from arrays(each)
    elif hasattr(value, 'all_items'):  # mmengine's data elements
        for _, each in value.all_items():
            yield from arrays(each)


def _ask(dataset: Any, name: str) -> Any:
    """Of the dataset inside, once there is one."""
    if name.startswith('__') or 'dataset' not in vars(dataset):
        raise AttributeError(name)
    return getattr(dataset.dataset, name)
