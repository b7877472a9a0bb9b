"""Which modules go to one rank, by what they compute."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log

from mmlocal.random_state import kept_random_state
from mmlocal.registry import PARTITIONS


@PARTITIONS.register_module()
class BalancedStages:
    """Stages of modules whose slowest one has the least to compute.

    For :class:`mmlocal.ModuleParallel`. A module's FLOPs are those of a
    training step of it alone, with its local head, or, for the last one, the
    model's own.

    Args:
        num_stages (int): S.
    """

    def __init__(self, num_stages: int):
        self.num_stages = num_stages

    def sizes_for(self, cfg: dict) -> list[int]:
        """How many modules each stage has.

        The main process counts, and tells the others; call it on all.

        Args:
            cfg (dict): The whole config.

        Raises:
            ValueError: If the config does not say what a step is.
        """
        answers: list[Any] = [None]
        if is_main_process():
            try:
                answers = [module_flops(cfg)]
            except (ValueError, RuntimeError) as error:
                # The others wait for an answer.
                answers = [error]
        broadcast_object_list(answers)
        if isinstance(answers[0], Exception):
            raise answers[0]
        flops = answers[0]
        sizes = balance(flops, self.num_stages)
        ends = list(accumulate(sizes, initial=0))
        shares = [
            sum(flops[a:b]) / sum(flops)
            for a, b in zip(ends, ends[1:], strict=False)
        ]
        print_log(
            f'modules of each stage: {sizes}; their share of the FLOPs: '
            + ', '.join(f'{share:.0%}' for share in shares),
            logger='current',
        )
        return sizes


def module_flops(cfg: dict) -> list[int]:
    """FLOPs of one training step of each module, on fake tensors.

    Args:
        cfg (dict): The whole config.
    """
    from mmlocal.planner import Simulator, TrainingSetting

    with kept_random_state():
        simulator = Simulator(TrainingSetting(cfg))
        split = simulator.own_split
        return [
            simulator.measure_module(split, index, cached=True).total_flops
            for index in range(len(split.boundaries) + 1)
        ]


def balance(costs: Sequence[float], count: int) -> list[int]:
    """Divide a row into parts whose largest sum is least.

    Args:
        costs (Sequence[float]): In order.
        count (int): Parts, each of one element or more.

    Returns:
        list[int]: Elements of each part.
    """
    total = list(accumulate(costs, initial=0))
    # Largest sum and sizes, of the best way for the first `end` elements.
    best = {end: (total[end], [end]) for end in range(1, len(costs) + 1)}
    for parts in range(2, count + 1):
        best = {
            end: min(
                (
                    max(best[begin][0], total[end] - total[begin]),
                    [*best[begin][1], end - begin],
                )
                for begin in range(parts - 1, end)
            )
            for end in range(parts, len(costs) + 1)
        }
    return best[len(costs)][1]
