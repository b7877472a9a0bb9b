"""Fake steps of the uncut network, and of modules of one unit each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmlocal.fake_tensors import tensors_of
from mmlocal.models.structure import map_leaves

from .probe import AtCuts, Probe, band_of, finished_outputs
from .recorder import GRADIENTS
from .simulator import Simulator


class Whole(Probe):
    """The step without cuts: what units take inside of a module.

    Attributes:
        kept, inner, sides (list[int]): As of a :class:`Unit`, by its number.
        flops (list[int]): Of each unit's backward, and the tail's.
    """

    def before_step(self) -> None:
        """Nothing is known of units that no gradient reaches."""
        self.count = len(self.simulator.candidates)
        self.kept, self.inner = [0] * self.count, [0] * self.count
        self.sides, self._pending = [0] * self.count, [0] * self.count
        self.flops = [0] * (self.count + 1)

    def prepare(self) -> Iterator[RemovableHandle]:
        """Watch what the first submodule of each unit takes."""
        inner = self.simulator.backbone.backbone
        for index, name in enumerate(self.simulator.candidates):
            yield inner.get_submodule(name).register_forward_pre_hook(
                partial(self._enter, index), with_kwargs=True
            )

    def at_start(self) -> None:
        """The first unit begins."""
        self.recorder.band = band_of(0)

    def before_backward(self) -> None:
        """What is kept of each unit."""
        live, total = self.recorder.live, self.recorder.total
        self.kept = [live[band_of(i)] for i in range(self.count)]
        tail = live[band_of(self.count)]
        self._base = total - sum(self.kept) - tail - live[GRADIENTS]
        self._open(self.count, total)

    def before_update(self) -> None:
        """The gradients that wait for a unit, from those for all before."""
        self._close()
        for index in range(self.count - 1):
            waits = self._pending[index + 1] - self._pending[index]
            self.sides[index] = max(waits, 0)

    def _enter(
        self, index: int, module: nn.Module, args: tuple, kwargs: dict
    ) -> None:
        """The next unit begins; ask to be told when the gradient comes."""
        self.recorder.band = band_of(index + 1)
        for feat in tensors_of((args, kwargs)):
            if feat.requires_grad:
                feat.register_hook(partial(self._at_gradient, index))

    def _at_gradient(self, index: int, grad: Tensor) -> None:
        if index >= self._window:
            # Of several tensors, the first to come tells.
            return
        self._close()
        recorder = self.recorder
        size, _ = recorder.find(grad)
        # Its output may be gone already.
        own = recorder.live[band_of(index)]
        self._open(index, recorder.total - size - own)
        before = self._base + sum(self.kept[:index])
        pending = self._below - before - recorder.live[GRADIENTS]
        self._pending[index] = pending

    def _open(self, window: int, below: int) -> None:
        self._window, self._below = window, below
        self._flops = self.recorder.flops['backward']
        self.recorder.restart_peaks()

    def _close(self) -> None:
        recorder, window = self.recorder, self._window
        self.flops[window] = recorder.flops['backward'] - self._flops
        if window < self.count:
            self.inner[window] = recorder.since_mark.peak - self._below


class Alone(Probe):
    """Modules of one unit each, as they train: the FLOPs of their backward.

    Args:
        simulator (Simulator): Of the config.
        mode (str, optional): Of checkpointing, for all blocks.
        side (int, optional): Of the outputs of earlier units, by number, the
            one whose gradient is asked for.

    Attributes:
        flops (list[int]): Of each unit and of the tail.
    """

    def __init__(
        self,
        simulator: Simulator,
        mode: str | None,
        side: int | None = None,
    ):
        super().__init__(simulator, mode)
        self.side = side
        self.flops: list[int] = []

    def at_cut(self, training: AtCuts, index: int, feat: Tensor) -> Tensor:
        """Train the unit."""
        training.finish(feat)
        before = self.recorder.flops['backward']
        if feat.requires_grad:
            self.propagate(feat)
        flops = self.recorder.flops['backward'] - before
        if self.passes == 1:
            self.flops.append(0)
        self.flops[index] += flops
        return feat.detach()

    def at_end(self, module: Any, args: tuple, outputs: Any) -> Any:
        """Ask for the gradient of one output."""
        found = finished_outputs(outputs)
        if self.side is None or self.side >= len(found):
            return outputs
        old = found[self.side]
        new = old.detach().requires_grad_()
        return map_leaves(outputs, lambda out: new if out is old else out)

    def before_backward(self) -> None:
        """The tail's comes now."""
        self._before = self.recorder.flops['backward']

    def before_update(self) -> None:
        """The tail's is over."""
        flops = self.recorder.flops['backward'] - self._before
        self.flops.append(flops)
