"""Ends a training whose losses are no numbers any more."""

from __future__ import annotations

import math
from collections.abc import Mapping


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
