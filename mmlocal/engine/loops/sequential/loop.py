"""Modules trained one after another, each to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from mmengine.logging import MessageHub
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from mmlocal.engine.distributed import LocalDistributedDataParallel
from mmlocal.engine.optim import LocalStepMixin
from mmlocal.registry import LOOPS
from mmlocal.step import (
    LocalBackbone,
    Stopped,
    local_backbone,
    only_module,
    unwrap,
)

from ..checks import plain_wrapper, uncut_model
from .cached_loader import CachedBatch
from .feature_cache import FeatureCache
from .phases import FreshOptimizer, Phase, Phases

CACHE_OPTIONS = {'dir', 'as_drawn', 'dtype'}
LOOP = "train_cfg.type='mmlocal.SequentialTrainLoop'"


class SequentialMixin:
    """What both loops do: which module trains follows from the time alone.

    So a run is resumed like any other. A checkpoint holds the optimizer and
    the schedulers of the phase in which it was written; at the border of two
    phases they are passed over.
    """

    def prepare(
        self,
        runner: Runner,
        lengths: int | Sequence[int],
        own_head: int | None,
        moving_statistics: bool,
    ) -> int:
        """Look at what is to be trained, before the Runner builds the rest.

        Args:
            runner (Runner): Of the training.
            lengths (int | Sequence[int]): Of the modules' phases.
            own_head (int, optional): Of that of the model's own head.
            moving_statistics (bool): See the loop.

        Returns:
            int: Epochs or iterations of the run.

        Raises:
            ValueError: If the model or its wrapper cannot train like this, or
                the lengths do not fit.
        """
        self._phase: Phase | None = None
        self._cache: FeatureCache | None = None
        self._only = ExitStack()
        self._backbone = _check_model(runner.model)
        self._fresh = FreshOptimizer(runner)
        self._moving = moving_statistics
        if own_head is not None and not self._backbone.local_end:
            raise ValueError(
                f'train_cfg.head_{self.unit}={own_head}: the last module is '
                "trained by the model's own head: remove it, or give the "
                'module a local head by model.backbone.local_end=True.'
            )
        self._phases = Phases(
            lengths, self._backbone.num_modules, self.unit, own_head
        )
        return self._phases.total

    def use_cache(
        self, cache: str | dict | None, own_head: int | None
    ) -> None:
        """Store features, if it says so.

        Raises:
            ValueError: If it is neither 'disk' nor arguments of
                :class:`FeatureCache`.
        """
        if cache is None:
            return
        options = {} if cache == 'disk' else cache
        if not isinstance(options, dict) or not {*options} <= CACHE_OPTIONS:
            raise ValueError(
                f"train_cfg.cache={cache!r}: write 'disk', or a dict of "
                f'{", ".join(sorted(CACHE_OPTIONS))}.'
            )
        for key, on in [
            ('moving_statistics', self._moving),
            (f'head_{self.unit}', own_head is not None),
        ]:
            if on:
                raise ValueError(
                    f'train_cfg.{key}: modules before the one that trains '
                    'run in each iteration, which train_cfg.cache spares '
                    'them: remove one of the two.'
                )
        by_epoch = self.unit == 'epochs'
        self._cache = FeatureCache(
            self.runner, self.dataloader, by_epoch, **options
        )

    def run(self) -> nn.Module:
        """Train all modules.

        Raises:
            ValueError: If the optimizer wrapper is no local one, or features
                cannot be stored.
        """
        for problem in plain_wrapper(self.runner.optim_wrapper):
            raise ValueError(problem)
        if self._cache is not None:
            self._cache.prepare()
        with self._only:
            model = super().run()
        if self._cache is not None:
            self._cache.remove()
        return model

    def enter_phase(self, now: int) -> None:
        """Begin a phase, if it is time.

        Args:
            now (int): Epoch or iteration.
        """
        phase = self._phases.at(now)
        if phase == self._phase:
            return
        self._phase = phase
        # An optimizer has all weights, whatever its constructor thinks of
        # frozen ones, so that checkpoints of all phases are alike.
        self._only.close()
        count, total = self.iterations(now - phase.begin, phase.length)
        wrapper = self.runner.optim_wrapper
        # In the middle of a phase the Runner has loaded them.
        if now == phase.begin:
            wrapper = self._fresh.build(self.epochs(phase.length), total)
            _forget_losses(self.runner.message_hub)
        if self._cache is not None and phase.index > 0:
            self.dataloader = self._cache.loader(phase.index)
        self._only.enter_context(
            only_module(unwrap(self.runner.model), phase.index, self._moving)
        )
        wrapper.initialize_count_status(self.runner.model, count, total)
        count, which = self._backbone.num_modules, "the model's own head"
        if phase.index < count:
            which = f'module {phase.index + 1} of {count}'
        self.runner.logger.info(
            f'{which} trains: {phase.length} {self.unit}, the others are '
            'frozen'
        )

    def train_one(
        self, run_iter: Callable[[Any], None], batch_idx: int, data_batch: Any
    ) -> None:
        """One iteration, whose forward may end behind the module.

        Args:
            run_iter (Callable): mmengine's, which is left in the middle then.
            batch_idx (int): As hooks get it.
            data_batch (Any): From the data loader.
        """
        try:
            with self._input(data_batch) as data_batch:
                run_iter(data_batch)
        except Stopped:
            wrapper = self.runner.optim_wrapper
            wrapper.finish()
            self.runner.call_hook(
                'after_train_iter',
                batch_idx=batch_idx,
                data_batch=data_batch,
                outputs={'loss': _total_loss(wrapper)},
            )
            self._iter += 1

    @contextmanager
    def _input(self, data_batch: Any) -> Iterator[Any]:
        """The batch; in here stored features are what the module takes in."""
        if not isinstance(data_batch, CachedBatch):
            yield data_batch
            return
        index = self._phase.index
        feat = self._cache.restore(index, data_batch.feat)
        with self._backbone.alone(index, feat):
            yield data_batch.batch


@LOOPS.register_module()
class SequentialTrainLoop(SequentialMixin, EpochBasedTrainLoop):
    """Trains the modules of a backbone one after another.

    While a module trains, those before it are frozen, in eval mode, and
    compute its input; those behind it do not run. Each begins with a fresh
    optimizer and fresh schedulers, which end with its epochs unless told
    otherwise, and whose epochs count from its first one. The last module is
    trained by the model's own head.

    Args:
        runner (Runner): Of the training.
        dataloader (DataLoader | dict): The training set.
        epochs (int | Sequence[int]): Of each module; K numbers, or one for
            all. A module of 0 stays as it was loaded (``load_from``), so
            that ``[0, 50, 0]`` trains the second one in a run of its own.
        cache (str | dict, optional): 'disk' computes the input of each
            module once, for all images, and trains from there: neither the
            modules before nor their heads run in training. A dict has
            arguments of :class:`FeatureCache`: ``dir``, ``as_drawn``,
            ``dtype``. Needs a backbone that is a chain, and no random
            augmentation unless ``as_drawn``. Defaults to None.
        head_epochs (int, optional): With ``local_end`` of the backbone, train
            the model's own head once more, when all modules are frozen, for
            so many epochs. Before it has trained with the last module.
            Defaults to None.
        moving_statistics (bool): Leave the modules before the one that
            trains in train mode, so that their BatchNorm statistics move on
            and their dropout stays active, as published of E2E-info's
            layers. Defaults to False.
        **kwargs: Passed to :class:`mmengine.runner.EpochBasedTrainLoop`;
            epochs there are those of the whole run.

    Raises:
        ValueError: If ``epochs`` or ``cache`` does not fit; the model has no
            :class:`LocalSupervisedBackbone`, or a local head that needs more
            than its own module; or the optimizer wrapper or the model
            wrapper is not one of MMLocal's.

    Example:
        >>> train_cfg = dict(type='mmlocal.SequentialTrainLoop', epochs=50)
    """

    unit = 'epochs'

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        epochs: int | Sequence[int],
        cache: str | dict | None = None,
        head_epochs: int | None = None,
        moving_statistics: bool = False,
        **kwargs,
    ):
        _refuse_total(kwargs, 'max_epochs', self.unit)
        total = self.prepare(runner, epochs, head_epochs, moving_statistics)
        super().__init__(runner, dataloader, total, **kwargs)
        self.use_cache(cache, head_epochs)

    def run_epoch(self) -> None:
        """Train a module for an epoch."""
        self.enter_phase(self._epoch)
        super().run_epoch()

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Train a module on a batch."""
        run_iter = partial(super().run_iter, idx)
        self.train_one(run_iter, idx, data_batch)

    def iterations(self, *epochs: int) -> list[int]:
        """In so many epochs."""
        return [each * len(self.dataloader) for each in epochs]

    def epochs(self, length: int) -> int:
        """Of a phase, as schedulers count them."""
        return length


@LOOPS.register_module()
class SequentialIterTrainLoop(SequentialMixin, IterBasedTrainLoop):
    """As :class:`SequentialTrainLoop`, counted in iterations.

    The batches of a phase are those that come next, as if there were no
    border.

    Args:
        runner (Runner): Of the training.
        dataloader (DataLoader | dict): The training set.
        iters (int | Sequence[int]): Of each module; K numbers, or one for
            all, as ``epochs`` there.
        cache (str | dict, optional): As in :class:`SequentialTrainLoop`.
        head_iters (int, optional): As ``head_epochs`` there.
        moving_statistics (bool): As there. Defaults to False.
        **kwargs: Passed to :class:`mmengine.runner.IterBasedTrainLoop`;
            iterations there are those of the whole run.

    Raises:
        ValueError: As in :class:`SequentialTrainLoop`.

    Example:
        >>> train_cfg = dict(
        ...     type='mmlocal.SequentialIterTrainLoop', iters=20000)
    """

    unit = 'iters'

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        iters: int | Sequence[int],
        cache: str | dict | None = None,
        head_iters: int | None = None,
        moving_statistics: bool = False,
        **kwargs,
    ):
        _refuse_total(kwargs, 'max_iters', self.unit)
        total = self.prepare(runner, iters, head_iters, moving_statistics)
        super().__init__(runner, dataloader, total, **kwargs)
        self.dataloader_iterator = _PhasedBatches(self)
        self.use_cache(cache, head_iters)

    def enter(self) -> None:
        """Begin a phase, if it is time."""
        self.enter_phase(self._iter)

    def run_iter(self, data_batch: Any) -> None:
        """Train a module on a batch."""
        self.train_one(super().run_iter, self._iter, data_batch)

    def iterations(self, *iters: int) -> list[int]:
        """They are what is counted."""
        return [*iters]

    def epochs(self, length: int) -> int:
        """mmengine takes a run of iterations for one epoch."""
        return 1


class _PhasedBatches:
    """The batches of a run, from the loader of each phase.

    A phase begins before its first batch is drawn; another loader goes on
    where the last one stood.
    """

    def __init__(self, loop: SequentialIterTrainLoop):
        self.loop = loop
        self._kind = type(loop.dataloader_iterator)
        self._loader: DataLoader | None = None

    def __next__(self) -> Any:
        loop = self.loop
        loop.enter()
        if self._loader is not loop.dataloader:
            self._loader = loop.dataloader
            self._batches = self._kind(self._loader)
            if not loop.fast_forward_on_resume:
                self._batches.skip_iter(loop.iter)
        return next(self._batches)

    def skip_iter(self, num_iters: int) -> None:
        """Of a run that is resumed: the next batch is that of its time."""


def _check_model(model: nn.Module) -> LocalBackbone:
    if is_model_wrapper(model) and not isinstance(
        model, LocalDistributedDataParallel
    ):
        raise ValueError(
            f'model_wrapper_cfg: {type(model).__name__} reduces gradients '
            'at the end of a forward that modules trained one at a time '
            "never reach: write dict(type='mmlocal."
            "LocalDistributedDataParallel')."
        )
    for problem in uncut_model(model, LOOP, '...'):
        raise ValueError(problem)
    # Refuses heads that do not work alone.
    with only_module(unwrap(model), 0):
        return local_backbone(unwrap(model))


def _refuse_total(kwargs: dict, total: str, each: str) -> None:
    if total in kwargs:
        raise ValueError(
            f'train_cfg.{total}: each module has a length of its own: write '
            f'{each}, a number for all modules or a list, and remove {total}.'
        )


def _total_loss(wrapper: LocalStepMixin) -> torch.Tensor:
    """Of the module that was trained."""
    log = wrapper.step_log
    return sum(value for key, value in log.items() if 'loss' in key)


def _forget_losses(message_hub: MessageHub) -> None:
    """Keep those of another module out of the log, and out of means."""
    values = message_hub.log_scalars
    for key in [*values]:
        if key.startswith('train/local_') or 'loss' in key:
            del values[key]
