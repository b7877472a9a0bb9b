"""Mutual information of two sets of vectors, by a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean

import torch
from torch import Tensor

from mmlocal.analysis.seeded import hold_out, seeded

from .bounds import BOUNDS, Bound
from .setting import MineSetting
from .statistics_net import CRITICS, Critic

# Other partners of each held-out pair, where more cost more.
SHIFTS = 10


@dataclass(frozen=True)
class Estimate:
    """Mutual information in nats.

    Attributes:
        value (float): The bound, on held-out pairs if there are any.
        in_sample (float): On the training batches of the last steps.
        ceiling (float): Above which ``value`` says nothing.
    """

    value: float
    in_sample: float
    ceiling: float


def estimate(
    a: Tensor, b: Tensor, setting: MineSetting, seed: int = 0
) -> Estimate:
    """Train a critic on pairs, and read the bound.

    The held-out pairs are in two halves. Each tells after how many steps the
    network was best, for the other to be read at; the value is the mean of
    the two. So no pair that the value is read from has had a say.

    Args:
        a (Tensor): (N, A), float32.
        b (Tensor): (N, B), the partners in order, on the same device.
        setting (MineSetting): How.
        seed (int): Of the parts, the network and the batches. Random numbers
            come from the CPU, and are the same on any device.

    Raises:
        ValueError: If there are too few pairs, or values are not finite or
            become so.
    """
    fit, halves = _parts(len(a), setting, seed)
    sides = [_Side(side, fit, setting.standardize) for side in (a, b)]
    critic = _critic((a.shape[1], b.shape[1]), setting, seed).to(a.device)
    bound = _bound(setting)
    held = [tuple(side[half] for side in sides) for half in halves]

    def look() -> list[tuple[float, float]]:
        return [_read(bound, critic, *pairs, setting) for pairs in held]

    history, looks = [], [look()]
    for step, seen in enumerate(
        _train(critic, bound, sides, fit, setting, seed), 1
    ):
        history.append(seen)
        if step % setting.interval == 0:
            looks.append(look())
    in_sample = fmean(value for value, _ in history[-setting.window :])
    if not held:
        return Estimate(in_sample, in_sample, ceiling=history[-1][1])
    one, other = zip(*looks, strict=True)
    return Estimate(
        fmean((other[_best(one)][0], one[_best(other)][0])),
        in_sample,
        ceiling=one[0][1],
    )


class _Side:
    """Rows of one of the two, standardized as they are asked for."""

    def __init__(self, rows: Tensor, fit: Tensor, standardize: bool):
        self.rows = rows
        self.mean, self.std = rows.new_zeros(()), rows.new_ones(())
        if standardize:
            std, self.mean = torch.std_mean(
                rows[fit.to(rows.device)], 0, correction=0
            )
            self.std = std.where(std > 0, 1)

    def __getitem__(self, indices: Tensor) -> Tensor:
        rows = self.rows[indices.to(self.rows.device)]
        return (rows - self.mean) / self.std


def _parts(
    num: int, setting: MineSetting, seed: int
) -> tuple[Tensor, list[Tensor]]:
    """Indices to train on, and the halves of the others, shuffled."""
    fit, halves = torch.arange(num), []
    if setting.holdout:
        fit, held = hold_out(num, setting.holdout, seed)
        # Neighbours become partners, and may be of one class in the data.
        held = held[torch.randperm(len(held), generator=seeded(seed, 0))]
        halves = list(held.tensor_split(2))
    if min(map(len, [fit, *halves])) < 2:
        raise ValueError(
            f'{num} images are too few for mutual information: give more.'
        )
    return fit, halves


def _critic(dims: tuple[int, int], setting: MineSetting, seed: int) -> Critic:
    kwargs = {} if setting.separable else {'init_std': setting.init_std}
    return CRITICS['separable' if setting.separable else 'concat'](
        dims,
        seeded(seed, 1),
        hidden=setting.hidden,
        num_layers=setting.num_layers,
        **kwargs,
    )


def _bound(setting: MineSetting) -> Bound:
    kwargs = {'rate': setting.ema} if setting.bound == 'dv' else {}
    return BOUNDS[setting.bound](**kwargs)


def _train(
    critic: Critic,
    bound: Bound,
    sides: list[_Side],
    fit: Tensor,
    setting: MineSetting,
    seed: int,
) -> Iterator[tuple[float, float]]:
    """Yields the bound on each batch, before its step, and the ceiling."""
    generator = seeded(seed, 2)
    size = min(setting.batch_size, len(fit))
    optimizer = torch.optim.Adam(critic.parameters(), lr=setting.lr)

    def draw() -> Tensor:
        return fit[torch.randperm(len(fit), generator=generator)[:size]]

    for _ in range(setting.iterations):
        chosen = draw()
        with torch.enable_grad():
            joint, marginal = critic.scores(*(side[chosen] for side in sides))
            if setting.marginals == 'independent':
                marginal = critic(*(side[draw()] for side in sides))[:, None]
            loss = bound.loss(joint, marginal)
            optimizer.zero_grad()
            loss.backward()
        value = bound.value(joint.detach(), marginal.detach()).item()
        if not isfinite(value):
            raise ValueError(
                'the estimate of mutual information is not finite: write a '
                f'smaller lr than {setting.lr}, and look whether features '
                'are finite.'
            )
        optimizer.step()
        yield value, bound.ceiling(size, marginal.shape[1])


@torch.no_grad()
def _read(
    bound: Bound, critic: Critic, a: Tensor, b: Tensor, setting: MineSetting
) -> tuple[float, float]:
    """The bound on these pairs, in batches as in training; its ceiling."""
    batches = max(len(a) // setting.batch_size, 1)
    size = len(a) // batches
    scores = [
        critic.scores(a[first : first + size], b[first : first + size], SHIFTS)
        for first in range(0, batches * size, size)
    ]
    joint, marginal = map(torch.cat, zip(*scores, strict=True))
    value = bound.value(joint, marginal).item()
    return value, bound.ceiling(len(joint), marginal.shape[1])


def _best(looks: Sequence[tuple[float, float]]) -> int:
    return max(range(len(looks)), key=lambda index: looks[index][0])
