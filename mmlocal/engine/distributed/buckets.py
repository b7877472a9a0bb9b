"""Gradients that travel together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn


class Work(Protocol):
    """What an asynchronous collective returns."""

    def wait(self) -> object: ...


class Bucket:
    """Parameters of one module whose gradients are reduced in one call.

    The gradients become views into one flat tensor. It is allocated when the
    first gradient of a step arrives and lives as long as the gradients: a
    module that has not run yet has none, as on one GPU.

    Args:
        params (Sequence[nn.Parameter]): Of one dtype, on one device.
        module (int): The module that trains them, counted from 0.
    """

    def __init__(self, params: Sequence[nn.Parameter], module: int):
        self.params = list(params)
        self.module = module
        self.reset()

    def reset(self) -> None:
        """Let go of the last step; its gradients stay where they are."""
        self.launched = False
        # A dict, for its order: a set would differ between ranks.
        self.missing = dict.fromkeys(range(len(self.params)))
        self._forget()

    def add(self, place: int) -> None:
        """Take over the gradient of ``params[place]``, 0 without one."""
        if self._flat is None:
            self._allocate()
        param, view = self.params[place], self._views[place]
        if param.grad is None:
            view.zero_()
        else:
            view.copy_(param.grad)
        param.grad = view
        del self.missing[place]

    def launch(
        self,
        all_reduce: Callable[[Tensor], Work],
        world_size: int,
        dtype: torch.dtype | None,
    ) -> None:
        """Send the average's share of this rank on its way.

        Args:
            all_reduce (Callable[[Tensor], Work]): Starts to sum a tensor over
                the ranks, in place.
            world_size (int): Number of ranks.
            dtype (torch.dtype, optional): What the gradients travel in.
        """
        for place in list(self.missing):
            self.add(place)
        # Before the sum, so that fp16 holds the average, not the sum.
        self._flat.div_(world_size)
        self._message = self._flat if dtype is None else self._flat.to(dtype)
        self.launched = True
        self._work = all_reduce(self._message)

    def finish(self) -> None:
        """Wait until the gradients are the average over the ranks.

        On a GPU the current stream waits, not the host.
        """
        if self._work is None:
            return
        self._work.wait()
        if self._message is not self._flat:
            self._flat.copy_(self._message)
        self._forget()

    def _forget(self) -> None:
        self._flat: Tensor | None = None
        self._views: list[Tensor] = []
        self._message: Tensor | None = None
        self._work: Work | None = None

    def _allocate(self) -> None:
        sizes = [param.numel() for param in self.params]
        self._flat = self.params[0].new_empty(sum(sizes))
        self._views = [
            _like(part, param)
            for part, param in zip(
                self._flat.split(sizes), self.params, strict=True
            )
        ]


def make_buckets(
    members: Sequence[tuple[nn.Parameter, int]], cap: float
) -> list[Bucket]:
    """Put parameters into buckets, in the order in which these get full.

    Args:
        members (Sequence[tuple[nn.Parameter, int]]): Parameters with the
            number of their module, in the order of their gradients.
        cap (float): Bytes at which a bucket is closed.

    Returns:
        list[Bucket]: None spans two modules, dtypes or devices.
    """
    buckets: list[Bucket] = []
    opened: dict[tuple, list[nn.Parameter]] = {}
    current = None
    for param, module in members:
        if module != current:
            buckets += [Bucket(p, current) for p in opened.values()]
            opened, current = {}, module
        kind = (param.dtype, param.device)
        params = opened.setdefault(kind, [])
        params.append(param)
        if sum(p.numel() for p in params) * param.element_size() >= cap:
            buckets.append(Bucket(opened.pop(kind), module))
    return buckets + [Bucket(p, current) for p in opened.values()]


def _like(part: Tensor, param: Tensor) -> Tensor:
    """A view with the shape and, if it has no gaps, the strides of param."""
    if param.dim() == 4 and param.is_contiguous(
        memory_format=torch.channels_last
    ):
        return part.as_strided(
            param.size(), param.stride(), part.storage_offset()
        )
    return part.view_as(param)
