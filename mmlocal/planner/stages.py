"""What a rank holds that trains some of the modules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from torch import Tensor, nn

from mmlocal.engine.distributed.stages import number_of_stages, sizes_of
from mmlocal.models.cut_points import Split
from mmlocal.partition.stages import balance

from .batch import batch_tensors
from .recorder import GRADIENTS, OPTIMIZER, PARAMETERS
from .simulator import Simulator
from .step_report import StepReport

# As of the wrapper.
QUEUE = 2
# What stays from step to step, and gradients.
STATIC = (PARAMETERS, GRADIENTS, OPTIMIZER)


@dataclass(frozen=True)
class StageMemory:
    """Of a rank of one stage, in bytes.

    Attributes:
        modules (int): How many it trains.
        weights (int): Theirs, with their local heads and buffers.
        under_way (int): Messages that it receives ahead or is still sending.
        peak (int): Most of all; an upper bound.
    """

    modules: int
    weights: int
    under_way: int
    peak: int


def stages_memory(
    simulator: Simulator,
    split: Split,
    ranks: int,
    wrapper: Mapping[str, Any] | None = None,
) -> list[StageMemory]:
    """One training step of a rank of each stage under ``ModuleParallel``.

    A stage has weights, gradients and optimizer state of its modules, and of
    one of them at a time the activations, for one batch. The next batch may
    be there already, and ``queue`` of those that it has finished are still
    being sent: feature, images and annotations.

    Args:
        simulator (Simulator): Of the config; its batch is that of a rank.
        split (Split): Where the network is cut.
        ranks (int): In all.
        wrapper (Mapping, optional): ``model_wrapper_cfg`` of
            ``ModuleParallel``.

    Raises:
        ValueError: If modules or ranks cannot be divided into such stages, or
            the backbone is no chain.
    """
    options = dict(wrapper or {})
    count, stages = len(split.boundaries) + 1, options.get('stages')
    sizes = sizes_of(stages, count, ranks)
    reports = [
        simulator.measure_module(split, index, cached=True, keep=True)
        for index in range(count)
    ]
    if sizes is None:
        flops = [report.total_flops for report in reports]
        sizes = balance(flops, number_of_stages(stages, count, ranks))
    queue = options.get('queue', QUEUE)
    weights = _weights(simulator, count)
    ends = list(accumulate(sizes, initial=0))
    messages = [_message(simulator, begin) for begin in ends[:-1]]
    found = []
    for stage, size in enumerate(sizes):
        mine = range(ends[stage], ends[stage + 1])
        under_way = messages[stage] if stage else 0
        if stage + 1 < len(sizes):
            under_way += queue * messages[stage + 1]
        held = sum(weights[index] for index in mine)
        trained = sum(_kept(reports[index]) for index in mine)
        working = max(_working(reports[index]) for index in mine)
        peak = held + trained + working + under_way
        found.append(StageMemory(size, held, under_way, peak))
    return found


def _weights(simulator: Simulator, count: int) -> list[int]:
    """Bytes of weights and buffers of each module, the heads among them."""
    backbone, rest = simulator.backbone, _tensors(simulator.model)
    inner, found = _tensors(backbone.backbone), []
    for index in range(count):
        names = backbone.module_state(index)
        mine = [tensor for name, tensor in inner.items() if name in names]
        if index in backbone.module_heads:
            mine += _tensors(backbone.module_heads[index]).values()
        found.append(_size(mine))
        taken = {id(tensor) for tensor in mine}
        rest = {n: t for n, t in rest.items() if id(t) not in taken}
    # The model's own head is trained with the last module.
    found[-1] += _size(rest.values())
    return found


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _message(simulator: Simulator, index: int) -> int:
    """Bytes of what a stage that begins with this module takes in."""
    size = simulator.setting.batch_size
    images = simulator.module_input(0, size)
    # Sent on as the network takes them, in place of raw ones.
    batch = {**simulator.setting.batch(size), 'inputs': [images]}
    tensors = batch_tensors(batch)
    if index:
        tensors.append(simulator.module_input(index, size))
    return _size(tensors)


def _kept(report: StepReport) -> int:
    """Gradients and optimizer state of a module, when its step is over."""
    states = max(m.bands.get(OPTIMIZER, 0) for m in report.course)
    return states + max(m.bands.get(GRADIENTS, 0) for m in report.course)


def _working(report: StepReport) -> int:
    """Most of what is neither weights, gradients nor optimizer state."""
    return max(
        moment.total - sum(moment.bands.get(band, 0) for band in STATIC)
        for moment in report.course
    )


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
