"""Where to cut for memory, planned before the model is built."""

from __future__ import annotations

import hashlib
import json
import random
from abc import ABCMeta, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log

from mmlocal.config import trained_model
from mmlocal.models.checkpointing import MODES
from mmlocal.models.cut_points import CutPoints, Split
from mmlocal.registry import PARTITIONS
from mmlocal.version import __version__

if TYPE_CHECKING:
    from mmlocal.planner import Planner

FILE = 'memory_plan.json'
# What a plan depends on.
KEYS = (
    'custom_hooks',
    'data_preprocessor',
    'default_scope',
    'model',
    'optim_wrapper',
    'train_dataloader',
    'train_pipeline',
)


class _PlannedPartition(metaclass=ABCMeta):
    """Asks a planner where to cut, once a run.

    What a split takes depends on more than the backbone: on the other heads,
    the batch, the crop, the optimizer and the precision. So the whole config
    is needed: a :class:`LocalRunner` hands it to :meth:`split_for`, and
    writes the answer into it. Called with cut points alone, as every
    partition, it needs ``config``.
    """

    needs_config = True

    def __init__(self, config: str | dict | None = None):
        self.config = config

    def __call__(self, points: CutPoints) -> Split:
        """Choose by ``config``.

        Raises:
            ValueError: If there is none, or no split will do.
        """
        if self.config is None:
            raise ValueError(
                f'model.backbone.boundaries: {type(self).__name__} needs the '
                'whole config (batch, crop, optimizer, heads) before the '
                'model is built. Train with tools/train.py, or write '
                "runner_type='mmlocal.LocalRunner' and build the Runner with "
                'RUNNERS.build(cfg). Without a Runner, write the boundaries '
                'that a run has put into the config in its work dir, or that '
                'tools/plan_memory.py names, or add '
                "config='path/to/config.py' to the partition."
            )
        return self.split_for({})

    def split_for(self, cfg: dict, work_dir: str | None = None) -> Split:
        """Choose for a config.

        The main process plans, as for a GPU, and tells the others; call it
        on all of them.

        Args:
            cfg (dict): The whole config; ``config`` of the partition goes
                first.
            work_dir (str, optional): The plan is kept in its
                ``memory_plan.json``, and recalled if it was made for the
                same config.

        Raises:
            ValueError: If no split will do.
        """
        answers: list[Any] = [None]
        if is_main_process():
            try:
                answers = [self._recall_or_plan(self._parts(cfg), work_dir)]
            except (ValueError, RuntimeError) as error:
                # The others wait for an answer.
                answers = [error]
        broadcast_object_list(answers)
        if isinstance(answers[0], Exception):
            raise answers[0]
        return Split(**answers[0])

    @abstractmethod
    def plan(self, planner: Planner) -> Split:
        """Choose a split."""

    def _parts(self, cfg: dict) -> dict[str, Any]:
        if isinstance(self.config, str):
            cfg = Config.fromfile(self.config)
        elif self.config is not None:
            cfg = self.config
        parts = {key: cfg.get(key) for key in KEYS}
        parts['model'] = trained_model(parts['model'])
        return parts

    def _recall_or_plan(
        self, cfg: dict, work_dir: str | None
    ) -> dict[str, list]:
        key = self._fingerprint(cfg)
        path = Path(work_dir, FILE) if work_dir else None
        if path is not None and path.is_file():
            known = json.loads(path.read_text())
            if known['for'] == key:
                print_log(f'boundaries as in {path}', logger='current')
                return known['split']
        from mmlocal.planner import Planner, Simulator, TrainingSetting, report

        print_log('planning where to cut for memory ...', logger='current')
        with _random_numbers_kept():
            setting = TrainingSetting(cfg)
            if setting.checkpointing is not None:
                raise ValueError(_both_checkpointing(self))
            planner = Planner(Simulator(setting))
            split = self.plan(planner)
            found = planner.measure(split)
        share = found.peak / planner.end_to_end.peak
        print_log(
            f'planned: {found.peak / 2**30:.2f} GiB a GPU (prediction), '
            f'{share:.3f} of end to end',
            logger='current',
        )
        answer = {
            'boundaries': list(split.boundaries),
            'checkpointing': list(split.checkpointing),
        }
        if path is not None:
            content = {'for': key, 'split': answer}
            report.write_json(path, content | report.to_dict(found))
        return answer

    def _fingerprint(self, parts: dict[str, Any]) -> str:
        asked = {k: v for k, v in vars(self).items() if k != 'config'}
        text = json.dumps(
            [type(self).__name__, asked, parts, __version__],
            sort_keys=True,
            default=str,
        )
        return hashlib.sha256(text.encode()).hexdigest()


@PARTITIONS.register_module()
class MemoryBalanced(_PlannedPartition):
    """K modules, cut so that the peak of memory is lowest.

    Args:
        num_modules (int): K.
        checkpointing (str, optional): Of all modules; see
            :class:`LocalSupervisedBackbone`. Defaults to None.
        config (str | dict, optional): The whole config, or its file, where
            no :class:`LocalRunner` builds the model.

    Raises:
        ValueError: If K or the mode is impossible.
    """

    def __init__(
        self,
        num_modules: int,
        checkpointing: str | None = None,
        config: str | dict | None = None,
    ):
        super().__init__(config)
        if checkpointing not in MODES:
            raise ValueError(
                f'boundaries.checkpointing: {checkpointing!r} is unknown; '
                "write 'block', 'selective' or None."
            )
        self.num_modules = num_modules
        self.checkpointing = checkpointing

    def plan(self, planner: Planner) -> Split:
        """The split of the lowest peak."""
        return planner.balanced(self.num_modules, self.checkpointing).split


@PARTITIONS.register_module()
class MemoryBudget(_PlannedPartition):
    """The split that fits into a budget with the least extra compute.

    It chooses K, the boundaries and which modules are checkpointed.

    Args:
        budget (str | float): '10GiB', or a fraction of end to end's memory.
            On a GPU leave 1 to 2 GB of the card for CUDA itself.
        max_modules (int): Largest K. Defaults to 6.
        config (str | dict, optional): The whole config, or its file, where
            no :class:`LocalRunner` builds the model.

    Raises:
        ValueError: If the budget is no size, or nothing fits.
    """

    def __init__(
        self,
        budget: str | float,
        max_modules: int = 6,
        config: str | dict | None = None,
    ):
        super().__init__(config)
        self.budget = budget
        self.max_modules = max_modules

    def plan(self, planner: Planner) -> Split:
        """The plan of the least extra compute."""
        from mmlocal.planner import describe_floor, parse_budget

        size = parse_budget(self.budget, planner.end_to_end.peak)
        found, fits = planner.within(size, self.max_modules)
        if not fits:
            raise ValueError(
                'model.backbone.boundaries: nothing fits into budget='
                f'{self.budget!r} ({size / 2**30:.2f} GiB). The closest is '
                f'{found.peak / 2**30:.2f} GiB with '
                f'{found.split.describe()}; what holds it there: '
                f'{describe_floor(found)}. Raise the budget, or lower '
                'train_dataloader.batch_size or the crop.'
            )
        return found.split


def _both_checkpointing(partition: _PlannedPartition) -> str:
    message = (
        'model.backbone.checkpointing (or with_cp of the inner backbone) is '
        f'for {type(partition).__name__} to choose: remove it'
    )
    if 'checkpointing' in vars(partition):
        message += ", or write boundaries.checkpointing='block' in its place"
    return f'{message}.'


@contextmanager
def _random_numbers_kept() -> Iterator[None]:
    """Planned or recalled, the model is initialized alike."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
