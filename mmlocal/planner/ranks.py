"""What a rank holds where weights are sharded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor, nn

from mmlocal.models.cut_points import Split
from mmlocal.units import find_units, loose_weights

from .recorder import BATCH, GRADIENTS, OPTIMIZER, PARAMETERS, Moment
from .simulator import Simulator

# Of a unit in backward: its gradients, their copy on its way, and the weights
# that are gathered ahead of them.
UNITS_IN_BACKWARD = 3


@dataclass(frozen=True)
class RankMemory:
    """Of one rank, in bytes.

    Attributes:
        ranks (int): How many share the model.
        weights (int): Its shards of them.
        gathered (int): Most of weights and gradients that are whole at a
            time; an upper bound.
        peak (int): Most of all; an upper bound.
    """

    ranks: int
    weights: int
    gathered: int
    peak: int


def sharded_memory(
    simulator: Simulator,
    split: Split,
    ranks: int,
    wrapper: Mapping[str, Any] | None = None,
) -> RankMemory:
    """One training step of one rank under ``LocalFSDP``.

    Weights, gradients and optimizer state are divided by the ranks, as is
    what the optimizer needs for its update; activations, buffers and the
    batch are those of a single process with the batch of a rank. On top come
    the weights of the largest module and the gradients of its largest unit.
    (Without sharding a rank takes what a single process does.)

    Args:
        simulator (Simulator): Of the config; its batch is that of a rank.
        split (Split): Where the network is cut.
        ranks (int): 1 or more.
        wrapper (Mapping, optional): ``model_wrapper_cfg`` of ``LocalFSDP``.

    Raises:
        ValueError: If there are no ranks, or the model cannot be sharded.
    """
    if ranks < 1:
        raise ValueError(f'ranks={ranks}: write 1 or more.')
    options = dict(wrapper or {})
    report = simulator.measure(split, keep=True)
    model = simulator.model
    units = find_units(model, options.get('units', ()))
    shards = sum(_shards(model, units, ranks))
    size = sum(weight.nbytes for weight in model.parameters())
    share = shards / size
    copies = 2 if simulator.setting.ema else 1
    gathered = 0
    if ranks > 1:
        gathered = _gathered(simulator, units, options)
    kept = options.get('accumulate') == 'whole' and 'accumulative_counts' in (
        simulator.setting.optim_cfg
    )

    def at(moment: Moment) -> float:
        bands = moment.bands
        weights = copies * (size - shards)
        states = bands.get(OPTIMIZER, 0)
        gradients = bands.get(GRADIENTS, 0) * (not kept)
        total = moment.total - weights - (states + gradients) * (1 - share)
        if moment.phase != 'update':
            return total + gathered
        fixed = (PARAMETERS, OPTIMIZER, GRADIENTS, BATCH)
        rest = moment.total - sum(bands.get(band, 0) for band in fixed)
        return total - rest * (1 - share)

    peak = max(map(at, report.course))
    return RankMemory(ranks, shards, gathered, round(peak))


def _shards(
    model: nn.Module, units: dict[str, nn.Module], ranks: int
) -> list[int]:
    """Bytes of each weight on the rank with the most."""
    loose = {
        holder._parameters[name]
        for _, holder, names in loose_weights(model, units)
        for name in names
    }
    return [
        _part(weight, ranks, max(weight.shape) if weight in loose else None)
        for weight in model.parameters()
    ]


def _part(weight: Tensor, ranks: int, side: int | None) -> int:
    side = weight.shape[0] if side is None else side
    row = weight.nbytes // max(side, 1)
    return -(-side // ranks) * row


def _gathered(
    simulator: Simulator, units: dict[str, nn.Module], options: dict
) -> int:
    half = 2 if options.get('param_dtype') else 1
    unit = max(_size(unit.parameters()) for unit in units.values())
    if options.get('reshard_after_forward'):
        return UNITS_IN_BACKWARD * unit // half
    backbone = simulator.backbone
    modules = [
        _size(backbone.module_weights(index))
        for index in range(backbone.num_modules)
    ]
    # The model's own head is trained with the last module.
    modules[-1] += _size(simulator.model.parameters()) - sum(modules)
    return (max(modules) + unit) // half


def _size(weights: Any) -> int:
    return sum(prod(w.shape) * w.element_size() for w in weights)
