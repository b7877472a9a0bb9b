"""How far each module has come."""

from __future__ import annotations

from typing import Any


class ModuleProgress:
    """Counts what each module has done.

    A module epoch is as many batches as the data loader has, whichever they
    were. When a module has trained for all its epochs it only feeds those
    behind it, as long as one of them trains.

    Args:
        num_modules (int): K.
        epoch_length (int): Batches of the data loader.
        max_epochs (int): Module epochs to train.

    Attributes:
        trained (list[int]): Batches on which each module has been trained.
        fed (list[int]): Batches that it has passed on without training.
        empty (list[int]): Draws that came to nothing, since the module's
            buffer held no batch.
        used_up (list[int]): Those where every batch had been used as often
            as is allowed.
    """

    def __init__(self, num_modules: int, epoch_length: int, max_epochs: int):
        self.epoch_length = epoch_length
        self.max_epochs = max_epochs
        self.trained = [0] * num_modules
        self.fed = [0] * num_modules
        self.empty = [0] * num_modules
        self.used_up = [0] * num_modules

    def trains(self, index: int) -> bool:
        """Whether a module has epochs before it."""
        return self.trained[index] < self.max_epochs * self.epoch_length

    def is_needed(self, index: int) -> bool:
        """Whether it trains, or feeds one that does."""
        return any(map(self.trains, range(index, len(self.trained))))

    def begins_epoch(self, index: int) -> int | None:
        """The module epoch that is about to begin, None within one."""
        epoch, within = divmod(self.trained[index], self.epoch_length)
        return None if within else epoch

    def epochs(self, index: int) -> float:
        """Module epochs done, with fractions."""
        return self.trained[index] / self.epoch_length

    def all_reached(self, epoch: int) -> bool:
        """Whether every module has done so many epochs."""
        return min(self.trained) >= epoch * self.epoch_length

    def skipped(self, index: int) -> int:
        """Draws that came to nothing."""
        return self.empty[index] + self.used_up[index]

    def __str__(self) -> str:
        lines = [f'batches trained {self.trained}']
        names = {
            'fed in eval mode': self.fed,
            'skipped, buffer empty': self.empty,
            'skipped, buffer used up': self.used_up,
        }
        lines += [
            f'{name} {count}' for name, count in names.items() if any(count)
        ]
        return '; '.join(lines) + ' (one number a module)'

    def state_dict(self) -> dict[str, Any]:
        """The counters."""
        names = ('trained', 'fed', 'empty', 'used_up')
        return {name: [*getattr(self, name)] for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        for name, counts in state.items():
            setattr(self, name, [*counts])
