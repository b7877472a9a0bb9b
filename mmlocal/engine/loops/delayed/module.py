"""A module whose gradient comes some steps after its forward."""

from __future__ import annotations

from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmlocal.step import LocalBackbone, LocalStep

from .past_weights import PastWeights, saving

KEEP = ('weights', 'graph', 'input')


@dataclass
class _Past:
    """A batch that waits for its gradient.

    Attributes:
        output (Tensor): Of the module, attached to its graph.
        weights (PastWeights, optional): With which the graph was made.
        held (dict[int, int]): Bytes by address of what is in memory for it,
            without the weights.
    """

    output: Tensor
    weights: PastWeights | None
    held: dict[int, int] = field(default_factory=dict)


class DelayedModule:
    """Runs a module on a batch, and trains it on an earlier one.

    Args:
        backbone (LocalBackbone): Whose module it is.
        index (int): Of the module, from 0.
        delay (int): Steps after which the gradient comes, 1 or more.
        keep (str): See :class:`DelayedGradientTrainLoop`.
        skips_overflow (bool): Leave out a batch whose gradient is not
            finite, which under a loss scale is no error.
    """

    def __init__(
        self,
        backbone: LocalBackbone,
        index: int,
        delay: int,
        keep: str,
        skips_overflow: bool = False,
    ):
        self.backbone = backbone
        self.index = index
        self.delay = delay
        self.keep = keep
        self.skips_overflow = skips_overflow
        self._queue: deque[_Past] = deque()
        self._gradient: Tensor | None = None
        self._step: LocalStep | None = None

    def train(self, feat: Tensor, step: LocalStep) -> Tensor:
        """Go on by a batch.

        Args:
            feat (Tensor): What the module takes in.
            step (LocalStep): The current one.

        Returns:
            Tensor: What the next module takes in. Its gradient is that of
            the output, and trains the module ``delay`` steps later.
        """
        self._step = step
        self._queue.append(self._run(feat))
        passed = self._queue[-1].output.detach().requires_grad_()
        passed.register_post_accumulate_grad_hook(self._receive)
        gradient, self._gradient = self._gradient, None
        if len(self._queue) > self.delay:
            past = self._queue.popleft()
            if gradient is not None:
                self._train_on(past, gradient)
        return passed

    def _run(self, feat: Tensor) -> _Past:
        weights, held = None, {}
        if self.keep != 'input':
            weights = PastWeights(self.backbone.module_weights(self.index))
        keeps_graph = self.keep == 'graph'
        with saving(weights, held) if keeps_graph else nullcontext():
            output = self.backbone.run_module(
                self.index, feat, recompute=not keeps_graph
            )
        held |= _storage(output)
        if not keeps_graph:
            held |= _storage(feat)
        return _Past(output, weights, held)

    def _train_on(self, past: _Past, gradient: Tensor) -> None:
        if not past.output.requires_grad:
            return
        # In fp32 at least, as losses are.
        dtype = torch.promote_types(past.output.dtype, torch.float32)
        loss = (past.output.to(dtype) * gradient).sum()
        with past.weights.restored() if past.weights else nullcontext():
            self._step.propagate(loss)

    def _receive(self, passed: Tensor) -> None:
        """Take the gradient, which comes in the next module's backward."""
        gradient, passed.grad = self._step.unscale(passed.grad), None
        if not self.skips_overflow or gradient.isfinite().all():
            self._gradient = gradient

    @property
    def is_full(self) -> bool:
        """Whether as many batches wait as ever will."""
        return len(self._queue) == self.delay

    def held(self) -> tuple[dict[int, int], dict[int, int]]:
        """Bytes by address of what waits: batches, and weights."""
        batches, weights = {}, {}
        for past in self._queue:
            batches |= past.held
            if past.weights is not None:
                weights |= past.weights.storages()
        return batches, weights

    def clear(self) -> None:
        """Let go of all batches that wait."""
        self._queue.clear()
        self._gradient = None


def _storage(tensor: Tensor) -> dict[int, int]:
    storage = tensor.untyped_storage()
    return {storage.data_ptr(): storage.nbytes()}
