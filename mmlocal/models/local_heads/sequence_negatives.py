"""Where the wrong answers of contrastive predictive coding come from."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F


class Negatives(metaclass=ABCMeta):
    """Wrong targets for every position and step, in one forward.

    Targets are the vectors of B sequences of L positions, in rows, one
    sequence after another.

    Args:
        batch (int): B.
        length (int): L.
        window (int): T positions of each, predicted from and predicted.
        count (int): N, wrong targets of each position.
        device (torch.device): Of the targets.

    Attributes:
        places (Tensor): Rows of the wrong targets (..., N), int64, as far as
            they are known before the first step.
    """

    def __init__(
        self,
        batch: int,
        length: int,
        window: int,
        count: int,
        device: torch.device,
    ):
        self.batch = batch
        self.length = length
        self.window = window
        self.count = count
        self.places = self.draw(device)

    @abstractmethod
    def draw(self, device: torch.device) -> Tensor:
        """The places, drawn when all of the above is there."""

    @abstractmethod
    def scores(
        self, predicted: Tensor, targets: Tensor, table: Tensor
    ) -> list[Tensor]:
        """How well wrong targets fit what is predicted.

        Args:
            predicted (Tensor): (B, T, K, C), at k for k + 1 positions later;
                the last k + 1 positions are not read.
            targets (Tensor): Of the window, (B, T, C).
            table (Tensor): The vectors at :attr:`places` (..., N, C).

        Returns:
            list[Tensor]: For each step k, from 1, the dot products
            (B * (T - k), N), sequence by sequence.
        """

    def orders(self, num: int, device: torch.device) -> Tensor:
        """N permutations of so many places, side by side (num, N)."""
        orders = [
            torch.randperm(num, device=device) for _ in range(self.count)
        ]
        return torch.stack(orders, 1)


class OffsetNegatives(Negatives):
    """Other targets of the same step, never the right one.

    Of the n = B * (T - k) targets in the window, the i-th has those at
    (i + offset) mod n, with offsets from 1 to n - 1.
    """

    def draw(self, device: torch.device) -> Tensor:
        return torch.empty(0, self.count, dtype=torch.int64, device=device)

    def scores(
        self, predicted: Tensor, targets: Tensor, table: Tensor
    ) -> list[Tensor]:
        return [
            self._score(targets[:, k:].flatten(0, 1), guess.flatten(0, 1))
            for k, guess in each_step(predicted)
        ]

    def _score(self, targets: Tensor, guess: Tensor) -> Tensor:
        num, device = len(targets), targets.device
        if num < 2:
            raise ValueError(
                "local_heads.sampler='offset': the only target of a step has "
                'no other beside it: raise train_dataloader.batch_size, or '
                'window.'
            )
        offsets = torch.randint(1, num, (num, self.count), device=device)
        places = torch.arange(num, device=device)[:, None] + offsets
        wrong = take_rows(targets, places % num)
        return (wrong @ guess[:, :, None])[:, :, 0]


class PermutationNegatives(Negatives):
    """Any vectors of the batch, in N random orders.

    The orders are of all B * L vectors, and drawn once; step k has the last
    B * (T - k) of each.
    """

    def draw(self, device: torch.device) -> Tensor:
        orders = self.orders(self.batch * self.length, device)
        # No step takes more.
        return orders[-self.batch * (self.window - 1) :]

    def scores(
        self, predicted: Tensor, targets: Tensor, table: Tensor
    ) -> list[Tensor]:
        guesses = [guess.flatten(0, 1) for _, guess in each_step(predicted)]
        # All steps at once, each at the end of the table.
        missing = [len(table) - len(guess) for guess in guesses]
        aligned = [
            F.pad(guess, (0, 0, count, 0))
            for guess, count in zip(guesses, missing, strict=True)
        ]
        scores = table @ torch.stack(aligned, 2)
        return [scores[count:, :, k] for k, count in enumerate(missing)]


class SequenceNegatives(Negatives):
    """Vectors of the same sequence, in N random orders for the whole batch.

    Of each order there is a window of T places, which lies elsewhere than
    that of the targets and does not keep neighbours together; step k leaves
    out its first k places.
    """

    def draw(self, device: torch.device) -> Tensor:
        orders = self.orders(self.length, device)
        first = draw_start(self.length, self.window)
        begins = self.length * torch.arange(self.batch, device=device)
        return begins[:, None, None] + orders[first : first + self.window]

    def scores(
        self, predicted: Tensor, targets: Tensor, table: Tensor
    ) -> list[Tensor]:
        aligned = [
            F.pad(guess, (0, 0, k, 0)) for k, guess in each_step(predicted)
        ]
        scores = table @ torch.stack(aligned, 3)
        return [
            scores[:, k:, :, k - 1].flatten(0, 1)
            for k, _ in each_step(predicted)
        ]


SAMPLERS: dict[str, type[Negatives]] = {
    'offset': OffsetNegatives,
    'permutation': PermutationNegatives,
    'sequence': SequenceNegatives,
}


def draw_start(length: int, window: int) -> int:
    """Where a window begins; never at the last place, as published.

    Args:
        length (int): Of the sequence.
        window (int): Of the window; as long as the sequence, it begins at 0.
    """
    if window == length:
        return 0
    return int(torch.randint(0, length - window, ()))


def each_step(predicted: Tensor) -> list[tuple[int, Tensor]]:
    """Steps k, from 1, and what is predicted by k positions.

    Args:
        predicted (Tensor): (B, T, K, C).

    Returns:
        list[tuple[int, Tensor]]: k, and (B, T - k, C).
    """
    return [
        (k, guess[:, :-k]) for k, guess in enumerate(predicted.unbind(2), 1)
    ]


def take_rows(table: Tensor, places: Tensor) -> Tensor:
    """Rows (..., C) of a table (R, C), at places (...)."""
    # Its backward adds rows up without sorting them first, unlike indexing.
    found = table.index_select(0, places.flatten())
    return found.unflatten(0, places.shape)
