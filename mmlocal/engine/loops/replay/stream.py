"""The batches of a data loader, one pass after another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader


class BatchStream:
    """Reads a data loader over and over, and knows where it stands.

    Each pass is shuffled as an epoch of mmengine's loops is.

    Args:
        dataloader (DataLoader): What is read.

    Attributes:
        passes (int): Passes that are done.
        taken (int): Batches of this pass that are taken.
    """

    def __init__(self, dataloader: DataLoader):
        self.dataloader = dataloader
        self.passes = 0
        self.taken = 0
        self._iterator: Iterator | None = None

    def __next__(self) -> Any:
        if self._iterator is None:
            self._iterator = self._open()
        try:
            batch = next(self._iterator)
        except StopIteration:
            self.passes, self.taken = self.passes + 1, 0
            self._iterator = self._open()
            batch = next(self._iterator)
        self.taken += 1
        return batch

    def _open(self) -> Iterator:
        sampler = self._sampler()
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(self.passes)
        size = self.dataloader.batch_size
        # An InfiniteSampler's one pass may be long.
        if self.taken and size and hasattr(sampler, 'skip'):
            sampler.skip(self.taken * size)
            return iter(self.dataloader)
        iterator = iter(self.dataloader)
        for _ in range(self.taken):
            next(iterator)
        return iterator

    def _sampler(self) -> Any:
        sampler = self.dataloader.sampler
        if hasattr(sampler, 'set_epoch'):
            return sampler
        return getattr(self.dataloader.batch_sampler, 'sampler', sampler)

    def state_dict(self) -> dict[str, int]:
        """Where it stands."""
        return {'passes': self.passes, 'taken': self.taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there: what was taken is read again and dropped."""
        self.passes, self.taken = state['passes'], state['taken']
        self._iterator = None
