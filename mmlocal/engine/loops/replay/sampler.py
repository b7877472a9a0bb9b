"""Which module trains next."""

from __future__ import annotations

from typing import Any

import torch


class ModuleSampler:
    r"""Draws modules, or takes them in turn.

    Drawn, each module has the same chance, but for one that is slower by a
    factor :math:`S`: :math:`p_s \propto 1/S`, which is :math:`1 - noise` in
    Algorithm 2 of `Decoupled Greedy Learning
    <https://arxiv.org/abs/1901.08164>`_.

    Args:
        num_modules (int): K.
        order (str): 'random', or 'round_robin': 0, 1, ..., K-1, 0, ...
            Defaults to 'random'.
        slow (dict, optional): ``module``, its number from 0, and ``factor``,
            S >= 1. Defaults to None.
        seed (int): Of the draws. Defaults to 0.

    Raises:
        ValueError: If the order is unknown, or ``slow`` does not fit.
    """

    def __init__(
        self,
        num_modules: int,
        order: str = 'random',
        slow: dict | None = None,
        seed: int = 0,
    ):
        if order not in ('random', 'round_robin'):
            raise ValueError(
                f"sampler.order={order!r} is unknown: write 'random' or "
                "'round_robin'"
            )
        self.num_modules = num_modules
        self.order = order
        weights = torch.ones(num_modules, dtype=torch.float64)
        if slow is not None:
            module, factor = _check_slow(slow, num_modules, order)
            weights[module] /= factor
        self.probabilities = weights / weights.sum()
        self._generator = torch.Generator().manual_seed(seed)
        self._waiting: list[int] = []
        self._turn = 0

    def warm_up(self) -> None:
        """Next come 0, 0, 1, 1, ..., K-1, K-1, so that all buffers fill."""
        self._waiting = [i for i in range(self.num_modules) for _ in range(2)]

    def next(self) -> int:
        """The module, from 0."""
        if self._waiting:
            return self._waiting.pop(0)
        if self.order == 'random':
            draw = torch.multinomial(
                self.probabilities, 1, generator=self._generator
            )
            return int(draw)
        turn = self._turn
        self._turn = (turn + 1) % self.num_modules
        return turn

    def state_dict(self) -> dict[str, Any]:
        """Where it stands."""
        return {
            'generator': self._generator.get_state(),
            'waiting': [*self._waiting],
            'turn': self._turn,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._generator.set_state(state['generator'].cpu())
        self._waiting = [*state['waiting']]
        self._turn = state['turn']


def _check_slow(slow: dict, num_modules: int, order: str) -> tuple[int, float]:
    if order != 'random':
        raise ValueError(
            'sampler.slow makes a module be drawn less often, but '
            f'sampler.order={order!r} draws none: remove slow, or write '
            "order='random' (and a buffer.size above 0)"
        )
    if set(slow) != {'module', 'factor'}:
        raise ValueError(
            f'sampler.slow={slow!r}: write dict(module=3, factor=1.2)'
        )
    module, factor = slow['module'], slow['factor']
    if module not in range(num_modules):
        raise ValueError(
            f'sampler.slow.module={module!r}: there are {num_modules} '
            'modules, from 0'
        )
    if not factor >= 1:
        raise ValueError(
            f'sampler.slow.factor={factor!r}: write how many times slower '
            'the module is, from 1 on'
        )
    return module, factor
