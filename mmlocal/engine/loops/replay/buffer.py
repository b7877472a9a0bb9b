"""A ring of mini-batches that a module reads, each perhaps many times."""

from __future__ import annotations

from typing import Any


class RingBuffer:
    """Keeps the last items written; hands out the least used of them.

    Of those that were handed out least often, it takes the one written last
    (``priority_lifo`` in the code of DGL, Algorithm 2 of `Decoupled Greedy
    Learning <https://arxiv.org/abs/1901.08164>`_). What is written to a full
    ring replaces the oldest item, read or not.

    Args:
        size (int): M, the number of items that the ring holds. Defaults to 1.
        max_reuse (int, optional): How often an item is handed out; None is
            without limit. Defaults to None.
        as_published (bool): Count as the authors' code does: writing is the
            first use, so that an item is handed out ``max_reuse - 1`` times;
            a ring of one item never counts; and in a full ring the oldest
            item is taken for the newest. Defaults to False.

    Attributes:
        items (list): In the order of their slots.
        uses (list[int]): How often each was used.

    Raises:
        ValueError: If ``size`` or ``max_reuse`` is no whole number above 0,
            or nothing would ever be handed out.
    """

    def __init__(
        self,
        size: int = 1,
        max_reuse: int | None = None,
        as_published: bool = False,
    ):
        if not _is_count(size):
            raise ValueError(
                f'buffer.size={size!r}: write how many mini-batches a buffer '
                'holds, from 1 on'
            )
        if max_reuse is not None and not _is_count(max_reuse):
            raise ValueError(
                f'buffer.max_reuse={max_reuse!r}: write how often a '
                'mini-batch is used, from 1 on, or None for no limit'
            )
        if as_published and max_reuse == 1:
            raise ValueError(
                'buffer.max_reuse=1 as published counts writing as the one '
                'use, so that no module but the first would ever train: '
                'write 2, or remove as_published'
            )
        self.size = size
        self.max_reuse = max_reuse
        self.as_published = as_published
        self.items: list[Any] = []
        self.uses: list[int] = []
        self._next = 0

    def __len__(self) -> int:
        return len(self.items)

    def write(self, item: Any) -> None:
        """Put an item in, in place of the oldest if the ring is full."""
        uses = int(self.as_published)
        if len(self) < self.size:
            self.items.append(item)
            self.uses.append(uses)
        else:
            self.items[self._next] = item
            self.uses[self._next] = uses
        self._next = (self._next + 1) % self.size

    def read(self) -> Any | None:
        """The item that is due; None if all are used up, or there is none."""
        if not self.items:
            return None
        slot = min(range(len(self)), key=self._rank)
        if self.max_reuse is not None and self.uses[slot] >= self.max_reuse:
            return None
        if self.size > 1 or not self.as_published:
            self.uses[slot] += 1
        return self.items[slot]

    def _rank(self, slot: int) -> tuple[int, int]:
        """Uses, then age."""
        # As published, the age is off by one: in a full ring the slot that
        # is written next, which holds the oldest item, has age 0.
        newest = self._next - (0 if self.as_published else 1)
        return self.uses[slot], (newest - slot) % self.size

    def state_dict(self) -> dict[str, Any]:
        """All of it; items are not copied."""
        return {
            'size': self.size,
            'items': [*self.items],
            'uses': [*self.uses],
            'next': self._next,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            ValueError: If it is that of a ring of another size.
        """
        if state['size'] != self.size:
            raise ValueError(
                f'buffer.size={self.size}, but the checkpoint holds buffers '
                f'of {state["size"]}: resume with that size'
            )
        self.items, self.uses = [*state['items']], [*state['uses']]
        self._next = state['next']


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 1
