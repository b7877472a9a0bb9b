"""Measures modules while they train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mmengine.dist as dist
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmlocal.registry import HOOKS
from mmlocal.step import unwrap

from .extract import Extractor, Source
from .measure import Values
from .record import NAME, MeasureFile
from .session import build_measures, measure_modules
from .taps import Taps


@HOOKS.register_module()
class ModuleMeasureHook(Hook):
    """Measures the modules every few epochs or iterations.

    Values go into the log, into the visualizer's backends (TensorBoard) as
    ``module_1/probe/accuracy``, and all, with the tables between modules, into
    ``measures.json`` of the work dir. The training does not notice: modes,
    statistics and random states are afterwards as before. On several ranks
    the first one measures, and the others wait.

    Images are those of ``val_dataloader``, and for some measures of
    ``train_dataloader``, without augmentation.

    Args:
        measures (Sequence[dict]): Configs of measures, as
            ``[dict(type='NHSICPlane', num_batches=4)]``.
        interval (int): Epochs, or iterations, between measurements. Defaults
            to 1.
        by_epoch (bool): False counts iterations. Defaults to True.
        begin (bool): Also before the first step. Defaults to True.
        boundaries (Sequence[str], optional): See :class:`Taps`.
        outputs (Sequence[str], optional): See :class:`Taps`.
        batch_size (int, optional): By default that of ``val_dataloader``.

    Raises:
        ValueError: If a measure or submodule does not exist, or, in
            ``before_train``, the config has no such images.
    """

    # Behind hooks that log and save.
    priority = 'VERY_LOW'

    def __init__(
        self,
        measures: Sequence[Mapping[str, Any]],
        interval: int = 1,
        by_epoch: bool = True,
        begin: bool = True,
        boundaries: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
        batch_size: int | None = None,
    ):
        if interval < 1:
            raise ValueError(f'interval={interval} must be 1 or more.')
        self.measures = build_measures(measures)
        self.interval = interval
        self.by_epoch = by_epoch
        self.begin = begin
        self.boundaries = boundaries
        self.outputs = outputs
        self.batch_size = batch_size
        self._source: Source | None = None
        self._file: MeasureFile | None = None

    def before_train(self, runner: Runner) -> None:
        """Build what is looked at, and measure the first weights.

        Raises:
            ValueError: If the model is sharded.
        """
        if getattr(runner.model, 'is_sharded', False):
            raise ValueError(
                'custom_hooks: ModuleMeasureHook measures on rank 0, which '
                f'has a shard under {type(runner.model).__name__}: '
                'remove it and measure checkpoints by tools/analysis_tools/'
                'measure_modules.py, or write model_wrapper_cfg='
                "dict(type='mmlocal.LocalDistributedDataParallel')."
            )
        if dist.is_main_process():
            self._source = Source(runner.cfg, self.batch_size)
            self._file = MeasureFile(Path(runner.work_dir, NAME))
            for measure in self.measures:
                for reading in measure.readings.values():
                    self._source.batches(reading)
        if self.begin and runner.iter == 0:
            self._measure(runner, epoch=0, iteration=0)

    def after_train_epoch(self, runner: Runner) -> None:
        """Measure, if it is time."""
        if self.by_epoch and self.every_n_epochs(runner, self.interval):
            self._measure(runner, runner.epoch + 1, runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any
    ) -> None:
        """Measure, if it is time."""
        if not self.by_epoch and self.every_n_train_iters(
            runner, self.interval
        ):
            self._measure(runner, runner.epoch, runner.iter + 1)

    def _measure(self, runner: Runner, epoch: int, iteration: int) -> None:
        if dist.is_main_process():
            model = unwrap(runner.model)
            taps = Taps(model, self.boundaries, self.outputs)
            with TemporaryDirectory() as folder:
                extractor = Extractor(model, taps, self._source, Path(folder))
                values = measure_modules(self.measures, extractor)
            place = {'checkpoint': None, 'epoch': epoch, 'iter': iteration}
            self._file.add(place, taps.names, self.measures, values)
            self._report(runner, taps.names, values, epoch, iteration)
        dist.barrier()

    def _report(
        self,
        runner: Runner,
        modules: Sequence[str],
        values: Mapping[str, Values],
        epoch: int,
        iteration: int,
    ) -> None:
        step = epoch if self.by_epoch else iteration
        unit = 'epoch' if self.by_epoch else 'iteration'
        for index, module in enumerate(modules):
            row = dict(_of_module(values, index))
            text = '  '.join(f'{key}: {row[key]:.4g}' for key in row)
            runner.logger.info(f'{unit} {step}, {module}  {text}')
            runner.visualizer.add_scalars(
                {f'module_{index + 1}/{key}': row[key] for key in row},
                step=step,
            )


def _of_module(
    values: Mapping[str, Values], index: int
) -> Iterator[tuple[str, float]]:
    """The single numbers of a module, by measure and name."""
    for measure, found in values.items():
        for name, column in found.items():
            if isinstance(column[index], (int, float)):
                yield f'{measure}/{name}', column[index]
