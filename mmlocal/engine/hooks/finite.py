"""Ends a training whose losses are no numbers any more."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from mmlocal.step import LocalBackbone

# What local heads report, in the log.
LOCAL_KEY = re.compile(
    r'(?:(?P<backbone>.+)\.)?local_(?P<index>\d+)\.(?P<name>.+)'
)


class FiniteLosses:
    """Counts, for each module, the iterations whose loss was NaN or infinite.

    Under a loss scale a single overflow is normal: the step is skipped and
    the scale lowered. Many in a row are none of that.

    Args:
        limit (int): Iterations in a row that end the training; 0 for never.

    Raises:
        ValueError: If the limit is below 0.
    """

    def __init__(self, limit: int) -> None:
        if limit < 0:
            raise ValueError(
                f'LocalLossHook.max_nonfinite is {limit}: write a number of '
                'iterations, or 0 to go on whatever the losses are.'
            )
        self.limit = limit
        # The first of the iterations in a row, by module.
        self._since: dict[str, int] = {}

    def check(self, iteration: int, losses: Mapping[str, list[float]]) -> None:
        """Look at an iteration.

        Args:
            iteration (int): Counted from 1.
            losses (Mapping[str, list[float]]): By what a reader calls the
                module.

        Raises:
            RuntimeError: If a module has reached the limit; names it.
        """
        for module, values in losses.items():
            wrong = [value for value in values if not math.isfinite(value)]
            if not wrong:
                self._since.pop(module, None)
                continue
            first = self._since.setdefault(module, iteration)
            count = iteration - first + 1
            if self.limit and count >= self.limit:
                raise RuntimeError(
                    f'the loss of {module} is {wrong[0]} for {count} '
                    f'iterations in a row, since iteration {first}: nothing '
                    'is learnt any more. Go on from a checkpoint before, '
                    'with a lower optim_wrapper.optimizer.lr, a warm-up, or '
                    'optim_wrapper.clip_grad. (LocalLossHook.max_nonfinite '
                    f'is {self.limit}.)'
                )


def losses_by_module(
    values: dict[str, float], backbones: Mapping[str, LocalBackbone]
) -> dict[str, list[float]]:
    """The losses by module, called as a reader counts them.

    Args:
        values (dict[str, float]): By their keys in the log.
        backbones (Mapping[str, LocalBackbone]): Of the model, by name.
    """
    losses: dict[str, list[float]] = {}
    for key, value in values.items():
        place = LOCAL_KEY.fullmatch(key)
        name = place['name'] if place else key
        if 'loss' in name:
            module = _describe(place, backbones)
            losses.setdefault(module, []).append(value)
    return losses


def _describe(
    place: re.Match | None, backbones: Mapping[str, LocalBackbone]
) -> str:
    """The module that a loss is of."""
    if len(backbones) > 1 and place is None:
        return "the model's own heads"
    only = next(iter(backbones), '')
    backbone = (place and place['backbone']) or only
    cuts = list(backbones[backbone].boundaries) if backbones else []
    index = int(place['index']) if place else len(cuts)
    module = f'module {index + 1} of {len(cuts) + 1}'
    if len(backbones) > 1:
        module += f' of {backbone}'
    if index < len(cuts):
        module += f', which ends before {cuts[index]!r},'
    return module
