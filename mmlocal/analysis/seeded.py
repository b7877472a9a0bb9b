"""Chance that comes from a generator of its own, on the CPU."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def seeded(*seeds: int) -> torch.Generator:
    """A generator whose numbers no other draws; the global one stays.

    Args:
        *seeds (int): The seed, and what tells one use of it from another.
    """
    mixed = 0
    for seed in seeds:
        mixed = (mixed * 1_000_003 + seed + 1) % 2**63
    return torch.Generator().manual_seed(mixed)


def linear(
    num_inputs: int,
    num_outputs: int,
    generator: torch.Generator,
    init: str | float = 'default',
) -> nn.Linear:
    """A linear layer on the CPU, initialised from a generator.

    Args:
        num_inputs (int): Features in.
        num_outputs (int): Features out.
        generator (torch.Generator): Of :func:`seeded`.
        init (str | float): 'default', as ``nn.Linear``; 'xavier_normal', or
            the standard deviation of a normal distribution, these two with
            the biases 0.
    """
    layer = nn.utils.skip_init(nn.Linear, num_inputs, num_outputs)
    if init == 'default':
        bound = 1 / math.sqrt(num_inputs)
        for param in layer.parameters():
            nn.init.uniform_(param, -bound, bound, generator=generator)
        return layer
    std = init
    if init == 'xavier_normal':
        std = math.sqrt(2 / (num_inputs + num_outputs))
    nn.init.normal_(layer.weight, 0, std, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def hold_out_groups(
    groups: Tensor, num: int, fraction: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Set all samples of some groups aside, as the pixels of some images.

    Args:
        groups (Tensor): Of each sample, the group that it belongs to.
        num (int): How many groups there are.
        fraction (float): Of the groups, to be set aside, in (0, 1).
        seed (int): What is drawn depends on it alone.

    Returns:
        tuple[Tensor, Tensor]: As of :func:`hold_out`.
    """
    stay, aside = hold_out(num, fraction, seed)
    return (
        torch.isin(groups, stay).nonzero()[:, 0],
        torch.isin(groups, aside).nonzero()[:, 0],
    )


def hold_out(
    num: int, fraction: float, seed: int, labels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Set a part of some samples aside.

    Args:
        num (int): How many samples there are.
        fraction (float): To be set aside, in (0, 1).
        seed (int): What is drawn depends on it alone.
        labels (Tensor, optional): Classes (num,): the fraction is taken of
            each class; of a class with one sample, none.

    Returns:
        tuple[Tensor, Tensor]: Indices of those that stay and of those set
        aside, each in order.

    Raises:
        ValueError: If one of the two would be empty.
    """
    order = torch.randperm(num, generator=seeded(seed))
    if labels is None:
        groups = [order]
    else:
        shuffled = labels[order]
        groups = [order[shuffled == label] for label in labels.unique()]
    held = torch.cat(
        [group[: round(len(group) * fraction)] for group in groups]
    )
    aside = torch.zeros(num, dtype=torch.bool)
    aside[held] = True
    if aside.all() or not aside.any():
        raise ValueError(
            f'holdout={fraction}: of {num} samples none would be '
            f'{"left" if aside.all() else "held out"}; give more samples, '
            'or a fraction nearer to a half.'
        )
    return (~aside).nonzero()[:, 0], aside.nonzero()[:, 0]
