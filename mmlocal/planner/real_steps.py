"""Training steps of a config on real tensors, to hold plans to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmlocal.models.blocks import innermost_blocks
from mmlocal.models.cut_points import Split

from .simulator import Simulator
from .training_setting import TrainingSetting


@dataclass(frozen=True)
class Timing:
    """What steps took on a device.

    Attributes:
        seconds (list[float]): Of each step.
        allocated (int): Peak bytes of tensors; 0 where it is not known.
        reserved (int): Peak bytes that the allocator held; 0 likewise.
    """

    seconds: list[float]
    allocated: int = 0
    reserved: int = 0


class RealSteps(Simulator):
    """Runs the steps that a :class:`Simulator` runs, for real.

    :meth:`measure` counts the storages of real tensors then, operator by
    operator, and is exact for what kernels hand out; scratch that a kernel
    frees before it returns is not seen.

    Images are noise, and the learning rate is 0, so that steps are alike.

    Args:
        setting (TrainingSetting): What is trained, and how.
        where (str): Device of the tensors. Defaults to 'cpu'.
        compiled (bool): Compile the stages of the backbone, by
            ``torch.compile``. Defaults to False.
    """

    def __init__(
        self,
        setting: TrainingSetting,
        where: str = 'cpu',
        compiled: bool = False,
    ):
        self.where = torch.device(where)
        self.prepared: Split | None = None
        super().__init__(setting)
        if compiled:
            for stage in _stages(self.backbone.backbone):
                stage.compile()

    def make_mode(self) -> None:
        """They are real."""

    def adopt(self, module: nn.Module) -> nn.Module:
        """A copy on the device."""
        module = deepcopy(module)
        module.init_weights()
        return module.to(self.where)

    def prepare(self, split: Split) -> None:
        """Cut the model, unless it is cut so already.

        What is compiled would be compiled again.
        """
        if split != self.prepared:
            super().prepare(split)
            self.prepared = split

    @contextmanager
    def trainer(self, batch_size: int) -> Iterator[tuple[OptimWrapper, dict]]:
        """Optimizer and batch."""
        noise = torch.Generator().manual_seed(0)
        with super().trainer(batch_size) as (wrap, batch):
            for image in batch['inputs']:
                image.random_(256, generator=noise)
            for group in wrap.optimizer.param_groups:
                group['lr'] = 0.0
            yield wrap, batch

    def time(
        self, split: Split, batch_size: int, steps: int, warmup: int = 2
    ) -> Timing:
        """Time steps, and weigh them where the device can tell.

        Args:
            split (Split): Where to cut and what to checkpoint.
            batch_size (int): Images.
            steps (int): How many are timed.
            warmup (int): How many run before. Defaults to 2.
        """
        self.prepare(split)
        return self._time(self.model.train_step, batch_size, steps, warmup)

    def time_modules(
        self,
        split: Split,
        batch_size: int,
        steps: int,
        warmup: int = 2,
        cached: bool = False,
    ) -> Timing:
        """As :meth:`time`, of modules that are trained one after another.

        Args:
            split (Split): Where to cut and what to checkpoint.
            batch_size (int): Images.
            steps (int): How many of each module are timed.
            warmup (int): How many run before. Defaults to 2.
            cached (bool): Whether modules read stored features.

        Returns:
            Timing: A step of every module, and the largest peak.
        """
        self.prepare(split)
        timings = []
        for index in range(len(split.boundaries) + 1):
            with self.module_step(index, batch_size, cached) as (train, _):
                timings.append(self._time(train, batch_size, steps, warmup))
        return Timing(
            list(map(sum, zip(*(t.seconds for t in timings), strict=True))),
            max(timing.allocated for timing in timings),
            max(timing.reserved for timing in timings),
        )

    def _time(
        self,
        train_step: Callable[[dict, OptimWrapper], object],
        batch_size: int,
        steps: int,
        warmup: int,
    ) -> Timing:
        on_cuda = self.where.type == 'cuda'
        seconds = []
        with self.trainer(batch_size) as (wrap, batch):
            for index in range(warmup + steps):
                if index == warmup and on_cuda:
                    torch.cuda.reset_peak_memory_stats()
                begin = time.perf_counter()
                train_step(batch, wrap)
                if on_cuda:
                    torch.cuda.synchronize()
                if index >= warmup:
                    seconds.append(time.perf_counter() - begin)
        if not on_cuda:
            return Timing(seconds)
        return Timing(
            seconds,
            torch.cuda.max_memory_allocated(),
            torch.cuda.max_memory_reserved(),
        )


def _stages(backbone: nn.Module) -> Iterator[nn.Module]:
    """The largest modules with a forward of their own that hold blocks."""
    blocks = innermost_blocks(backbone)
    tops = dict.fromkeys(name.partition('.')[0] for name in blocks)
    for name in tops:
        stage = backbone.get_submodule(name)
        yield from stage if isinstance(stage, nn.ModuleList) else [stage]
