"""Weights as they were when a batch came by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn


class PastWeights:
    """A copy of weights, for a backward pass after they have changed.

    Args:
        weights (Iterable[nn.Parameter]): Copied as they are now.
    """

    def __init__(self, weights: Iterable[nn.Parameter]):
        self._weights = list(weights)
        # By storage: what autograd saves may be a view, as of a linear
        # layer's weight.
        storages = {
            weight.untyped_storage().data_ptr(): weight.untyped_storage()
            for weight in self._weights
        }
        self._copies = {key: each.clone() for key, each in storages.items()}
        self._past = [self.find(weight.data) for weight in self._weights]

    def find(self, tensor: Tensor) -> Tensor | None:
        """The same view of the copy; None if it views no weight.

        Args:
            tensor (Tensor): A weight, or a view of one.
        """
        copy = self._copies.get(tensor.untyped_storage().data_ptr())
        if copy is None:
            return None
        return tensor.new_empty(0).set_(
            copy, tensor.storage_offset(), tensor.size(), tensor.stride()
        )

    @contextmanager
    def restored(self) -> Iterator[None]:
        """In here the weights have the values of the copy.

        Gradients go to the weights themselves.
        """
        now = [weight.data for weight in self._weights]
        _set(self._weights, self._past)
        try:
            yield
        finally:
            _set(self._weights, now)

    def storages(self) -> dict[int, int]:
        """Bytes by address."""
        return {
            copy.data_ptr(): copy.nbytes() for copy in self._copies.values()
        }


def saving(past: PastWeights, held: dict[int, int]) -> AbstractContextManager:
    """In here graphs are made that outlive a change of the weights.

    Autograd saves the copies in place of the weights.

    Args:
        past (PastWeights): Of the weights as they are now.
        held (dict[int, int]): Is given the bytes, by address, of what else
            autograd saves.
    """

    def pack(tensor: Tensor) -> Callable[[], Tensor]:
        copy = past.find(tensor)
        if copy is not None:
            return lambda: copy
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        # Detached, as an output that its own node keeps would never go.
        kept, version = tensor.detach(), tensor._version

        def unpack() -> Tensor:
            # Torch checks this only where there are no hooks.
            if kept._version != version:
                raise RuntimeError(
                    f'a tensor of shape {tuple(kept.shape)} that the '
                    'backward of a module needs was changed in place, '
                    'perhaps by the first layer of the next module: set '
                    'inplace=False there, or cut elsewhere'
                )
            return kept

        return unpack

    return torch.autograd.graph.saved_tensors_hooks(
        pack, lambda unpack: unpack()
    )


def _set(weights: list[nn.Parameter], values: list[Tensor]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.data = value
    # Autocast keeps the weights that it has cast.
    torch.clear_autocast_cache()
