"""What finished modules make of the training set, computed once."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mmengine.dist as dist
import numpy as np
import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.utils import ProgressBar
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from mmlocal.random_state import kept_random_state
from mmlocal.step import local_backbone, unwrap

from .cached_loader import (
    CachedDataset,
    LoaderTwins,
    SeededDataset,
    arrays,
)
from .feature_file import FeatureFile

# Images that are drawn twice, to see whether they are the same.
PROBE = 32
DTYPES = {
    None: None,
    'float16': torch.float16,
    'bfloat16': torch.bfloat16,
    'float32': torch.float32,
}


class FeatureCache:
    """The input of each module but the first, for all images, on disk.

    What a module takes in is computed from what the one before it took in,
    whose file is removed then: at most two are on the disk. All ranks share
    one file and compute a part of it each.

    Args:
        runner (Runner): Of the training.
        loader (DataLoader): Of the training set.
        by_epoch (bool): Whether training begins with it again in each epoch.
        dir (str, optional): Where a folder with the name of the work
            directory is made; a fast disk, if possible. Defaults to None,
            the work directory itself.
        as_drawn (bool): Allow random augmentation. From the second module
            on, each image is drawn with a seed of its own, so that it is the
            same in all epochs, in a run that is resumed, and in what is
            stored. Defaults to False.
        dtype (str, optional): What features are stored in: 'float16',
            'bfloat16' or 'float32'; modules get them as they were computed.
            Defaults to None, as they were computed.

    Raises:
        ValueError: If ``dtype`` is none of these, or the loader has no
            numbered images.
    """

    def __init__(
        self,
        runner: Runner,
        loader: DataLoader,
        by_epoch: bool,
        dir: str | None = None,
        as_drawn: bool = False,
        dtype: str | None = None,
    ):
        if dtype not in DTYPES:
            raise ValueError(
                f'train_cfg.cache.dtype={dtype!r}: write one of '
                f'{[*DTYPES][1:]}, or leave it out.'
            )
        self.runner = runner
        self.model = unwrap(runner.model)
        self.backbone = local_backbone(self.model)
        self.twins = LoaderTwins(loader, by_epoch)
        self.as_drawn = as_drawn
        self.dtype = DTYPES[dtype]
        work_dir = Path(runner.work_dir)
        self.dir = work_dir if dir is None else Path(dir) / work_dir.name
        self.dir /= 'features'

    def prepare(self) -> None:
        """See, before anything is trained, whether it will work.

        Raises:
            ValueError: If the backbone is no chain, images are drawn at
                random without ``as_drawn``, batches are mixed, the disk is
                too small, or the backbone sees more than the image.
        """
        if getattr(self.model, 'alters_inputs', False):
            raise ValueError(
                f'train_cfg.cache: {type(self.model).__name__} puts labels '
                'into its images, other ones in each epoch, so that no '
                'module has one output for an image: remove cache.'
            )
        self.dataset: Dataset = self.twins.dataset
        if self.as_drawn:
            (seed,) = _from_rank_0(self.runner.seed)
            self.dataset = SeededDataset(self.dataset, seed)
        count = len(self.dataset)
        with kept_random_state():
            probe = self._draw_probe(
                np.linspace(0, count - 1, min(PROBE, count)).round()
            )
        self.files: dict[int, FeatureFile] = {}
        self._dtypes: dict[int, torch.dtype] = {}
        self._patches: dict[int, int] = {}
        with self._evaluating():
            feat = self._inputs(probe)
            images = len(feat)
            self._probe = hashlib.sha256(_bytes(feat)).hexdigest()
            for index in range(1, self.backbone.num_modules):
                feat = self.backbone.run_module(index - 1, feat)
                self._dtypes[index] = feat.dtype
                self._patches[index] = len(feat) // images
                rows = self._by_image(index, feat)
                self.files[index] = FeatureFile(
                    self.dir / f'outputs_of_module_{index}.npy',
                    count,
                    rows.shape[1:],
                    self.dtype or feat.dtype,
                )
        self._check_disk()

    def loader(self, index: int) -> DataLoader:
        """The training set, with what a module takes in.

        Args:
            index (int): Of the module, from 1; those before it are finished.

        Raises:
            ValueError: If the disk is too small, or not seen by all ranks.
        """
        file, fingerprint = self.files[index], self._fingerprint(index)
        if not _from_rank_0(file.holds(fingerprint))[0]:
            self._fill(index, fingerprint)
        if dist.is_main_process():
            for other in self.files.values():
                if other is not file:
                    other.remove()
        dist.barrier()
        self.runner.logger.info(
            f'module {index + 1} trains from {file.path} '
            f'({_size(file.nbytes)})'
        )
        return self.twins.training(CachedDataset(self.dataset, file))

    def restore(self, index: int, feat: Tensor) -> Tensor:
        """A batch of features as the module before has computed it."""
        device = next(self.model.parameters()).device
        feat = feat.to(device, non_blocking=True)
        if self._patches[index] > 1:
            feat = feat.flatten(0, 1)
        return feat.to(self._dtypes[index])

    def remove(self) -> None:
        """From the disk."""
        dist.barrier()
        if dist.is_main_process():
            shutil.rmtree(self.dir, ignore_errors=True)

    def _fill(self, index: int, fingerprint: str) -> None:
        file = self.files[index]
        self._check_disk(index)
        self.runner.logger.info(
            f'storing what module {index + 1} takes in: '
            f'{file.count} features of {"x".join(map(str, file.shape))}, '
            f'{file.dtype}, {_size(file.nbytes)} in {self.dir}'
        )
        if dist.is_main_process():
            file.create()
        dist.barrier()
        if not all(dist.all_gather_object(file.part.exists())):
            raise ValueError(
                f'train_cfg.cache.dir: {self.dir} is not the same folder on '
                'all ranks: name one on a disk that all of them see.'
            )
        rank, world = dist.get_dist_info()
        rows = range(rank, file.count, world)
        with self._evaluating():
            done = 0
            for feats in self._outputs(index, rows):
                part = list(rows[done : done + len(feats)])
                file.write(part, feats)
                done += len(feats)
        file.flush()
        dist.barrier()
        if dist.is_main_process():
            file.complete(fingerprint)
        dist.barrier()

    def _outputs(self, index: int, rows: range) -> Iterator[Tensor]:
        """Of the module before, for these images, batch by batch."""
        before, size = self.files.get(index - 1), self.twins.batch_size
        known = before is not None and before.holds(
            self._fingerprint(index - 1)
        )
        # All look before one of them goes on.
        first = index - 1 if all(dist.all_gather_object(known)) else 0
        if first:
            parts: Any = range(0, len(rows), size)
        else:
            parts = self.twins.in_order(Subset(self.dataset, rows))
        bar = ProgressBar(len(parts)) if dist.is_main_process() else None
        for part in parts:
            if first:
                feat = before[list(rows[part : part + size])]
                feat = self.restore(first, feat)
            else:
                feat = self._inputs(part)
            for number in range(first, index):
                feat = self.backbone.run_module(number, feat)
            yield self._by_image(index, feat)
            if bar is not None:
                bar.update()

    def _by_image(self, index: int, feat: Tensor) -> Tensor:
        """A row an image, which holds its patches where it has several."""
        patches = self._patches[index]
        return feat if patches == 1 else feat.unflatten(0, (-1, patches))

    def _inputs(self, batch: Any) -> Tensor:
        data = self.model.data_preprocessor(batch, training=True)
        return data['inputs']

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """As frozen modules run in training: eval mode, mixed precision."""
        model, training = self.runner.model, self.model.training
        wrapper: OptimWrapper = self.runner.optim_wrapper
        model.eval()
        try:
            with (
                kept_random_state(),
                torch.no_grad(),
                wrapper.optim_context(model),
            ):
                yield
        finally:
            model.train(training)

    def _draw_probe(self, indices: np.ndarray) -> Any:
        """Some images, once they are known to be always the same."""
        augments = getattr(self.model.data_preprocessor, 'batch_augments', 0)
        if augments:
            raise ValueError(
                'train_cfg.cache: batch_augments of the data preprocessor '
                'mixes other images in each epoch: remove batch_augments, '
                'or cache.'
            )
        items = []
        for index in indices.astype(int).tolist():
            item, again = self.dataset[index], self.dataset[index]
            items.append(item)
            first, second = (
                [value.tobytes() for value in arrays(each)]
                for each in (item, again)
            )
            if first == second:
                continue
            if self.as_drawn:
                raise ValueError(
                    'train_cfg.cache.as_drawn: train_dataloader.dataset '
                    f'draws image {index} otherwise with the same seed of '
                    'random, numpy.random and torch: remove what draws from '
                    'elsewhere, or cache.'
                )
            raise ValueError(
                'train_cfg.cache: train_dataloader.dataset draws image '
                f'{index} at random, and features are stored once: remove '
                'random transforms from its pipeline, or write '
                'cache=dict(as_drawn=True), which draws each image once for '
                'all modules but the first.'
            )
        return self.twins.collate(items[: self.twins.batch_size])

    def _check_disk(self, index: int | None = None) -> None:
        """Whether there is room, for one file or for the whole run."""
        sizes = {0: 0} | {i: file.nbytes for i, file in self.files.items()}
        if index is None:
            self.runner.logger.info(
                'features of finished modules will take '
                + ', '.join(_size(sizes[i]) for i in self.files)
                + f' in {self.dir}, at most two at a time'
            )
            need = max(
                (sizes[i - 1] + sizes[i] for i in self.files), default=0
            )
        else:
            need = sizes[index]
        # What will be overwritten does not count; what the next one is
        # computed from stays.
        old = [
            path
            for i, file in self.files.items()
            for path in (file.path, file.part)
            if index is None or i == index
        ]
        free, total = _from_rank_0(*_room(self.dir, old))
        if need > free:
            raise ValueError(
                f'train_cfg.cache: {_size(need)} of features do not fit on '
                f'the disk of {self.dir}, which has {_size(free)} free of '
                f'{_size(total)}: write cache=dict(dir=...) with a folder on '
                "a larger disk, dtype='float16', or remove cache."
            )

    def _fingerprint(self, index: int) -> str:
        """Of all that the input of a module depends on."""
        wrapper = self.runner.optim_wrapper
        precision = getattr(wrapper, 'cast_dtype', None)
        digest = hashlib.sha256()
        for what in (
            self._probe,
            list(self.backbone.boundary_modules)[:index],
            getattr(self.dataset, 'seed', None) if self.as_drawn else None,
            (type(wrapper).__name__, str(precision)),
        ):
            digest.update(repr(what).encode())
        for number in range(index):
            state = self.backbone.module_state(number)
            for name, value in state.items():
                digest.update(name.encode())
                digest.update(_bytes(value))
        return digest.hexdigest()


def _from_rank_0(*values: Any) -> list[Any]:
    found = list(values)
    dist.broadcast_object_list(found)
    return found


def _bytes(value: Tensor) -> bytes:
    value = value.detach().cpu().contiguous()
    return value.flatten().view(torch.uint8).numpy().tobytes()


def _room(folder: Path, old: list[Path]) -> tuple[int, int]:
    """Free and all bytes of the disk; files to be overwritten are free."""
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    taken = sum(path.stat().st_size for path in old if path.exists())
    return usage.free + taken, usage.total


def _size(count: float) -> str:
    for unit in ('B', 'KiB', 'MiB', 'GiB', 'TiB'):
        if count < 1024 or unit == 'TiB':
            break
        count /= 1024
    return f'{count:.1f} {unit}'
