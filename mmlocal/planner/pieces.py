"""A fake step in which every piece of a network trains on its own.

A *unit* is what lies between two neighbouring cut points, the *tail* what
lies behind the last one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from mmlocal.models.module_training import ask_for_gradient
from mmlocal.models.structure import map_leaves
from mmlocal.step import LocalStep

from .probe import AtCuts, Probe, band_of, finished_outputs
from .recorder import GRADIENTS, OPTIMIZER, SIDES, Window
from .simulator import Simulator
from .units import Head, Side, Tail, Unit

HEADS = 'local heads'
KEPT = 'kept by local heads'
PIXELS = 'pixels'


@dataclass(frozen=True)
class _Before:
    """Figures before a unit's backward."""

    forward: Window
    total: int
    gradients: int
    recompute: int
    flops: int


class Pieces(Probe):
    """Each unit on its own, given the gradient of its output.

    Args:
        simulator (Simulator): Of the config.
        mode (str, optional): Of checkpointing, for all blocks.
        heads (bool): Whether to try the local heads.

    Attributes:
        units (list[Unit]), heads (list[Head]), tail (Tail): What was found.
        flops (list[int]): Of each unit's backward, and the tail's, with the
            gradient of its input.
        pixels, update (int): As of a :class:`Profile`.
    """

    def __init__(self, simulator: Simulator, mode: str | None, heads: bool):
        super().__init__(simulator, mode)
        self.units: list[Unit] = []
        self.heads: list[Head] = []
        self.flops: list[int] = []
        self.tail: Tail | None = None
        self.pixels = self.update = 0
        self._tried = []
        if heads:
            names = simulator.candidates
            self._tried = list(map(simulator.trial_head, names))
        self._entry = self._tail_entry = self._kept = 0
        self._trains = False
        self._sides: list[Side] = []

    def before_step(self) -> None:
        """Count the weights of heads apart."""
        for head in self._tried:
            weights = [*head.parameters(), *head.buffers()]
            self.recorder.track_all(weights, HEADS)
        # The share of a head's weights in state is that of the network's.
        weights = sum(
            self.recorder.find(weight)[0]
            for weight in self.simulator.model.parameters()
            if weight.requires_grad
        )
        state = self.recorder.live[OPTIMIZER]
        self._state_share = state / max(weights, 1)

    def at_start(self) -> None:
        """The first unit begins."""
        self._enter()
        if self.passes == 1:
            self._tail_entry = self._entry

    def at_cut(self, training: AtCuts, index: int, feat: Tensor) -> Tensor:
        """Train a unit alone, then try the head on its output."""
        training.finish(feat)
        recorder = self.recorder
        before = self._begin_backward()
        if feat.requires_grad:
            self._trains = True
            self.propagate(feat)
        if self.passes == 1:
            self._append(index, before)
            self.flops.append(0)
        else:
            # The second pass is as the first.
            unit = self.units[index]
            more = recorder.flops['recompute'] - before.recompute
            self.units[index] = replace(unit, recompute=unit.recompute + more)
        self.flops[index] += recorder.flops['backward'] - before.flops
        attached, feat = feat.requires_grad, feat.detach()
        if self._tried and self.passes == 1:
            recorder.band = KEPT
            head = self._tried[index]
            self.heads.append(self._try(head, training.step, feat, attached))
        # Nothing asks for the gradient of what frozen layers return.
        if self._trains:
            recorder.band = HEADS
            feat = ask_for_gradient(feat)
        self._enter()
        if self.passes == 1:
            self._tail_entry = self._entry
        return feat

    def at_end(self, module: Any, args: tuple, outputs: Any) -> Any:
        """Heads propagate to what earlier units gave."""
        leaves: dict[int, Tensor] = {}
        for number, output in enumerate(finished_outputs(outputs)):
            _, band = self.recorder.find(output)
            leaf = leaves[id(output)] = output.detach().requires_grad_()
            leaf.register_post_accumulate_grad_hook(
                partial(self._at_side, number)
            )
            # Until a gradient comes, nothing reads it.
            self._sides.append(Side(_unit(band), 0))
        return map_leaves(outputs, lambda out: leaves.get(id(out), out))

    def before_backward(self) -> None:
        """Behind the whole forward."""
        self._forward = self.recorder.since_mark
        self._flops = self.recorder.flops['backward']
        self.recorder.restart_peaks()

    def before_update(self) -> None:
        """Behind the last backward."""
        recorder, window = self.recorder, self.recorder.since_mark
        gradients = sum(unit.gradients for unit in self.units)
        recompute = sum(unit.recompute for unit in self.units)
        self.flops.append(recorder.flops['backward'] - self._flops)
        if self.passes > 1:
            # Local heads, too, run in every pass.
            self.heads = [
                replace(head, flops=self.passes * head.flops)
                for head in self.heads
            ]
        self.tail = Tail(
            entry=self._tail_entry,
            saved=self._forward.new,
            forward=self._forward.new_peak,
            backward=window.new_peak,
            alone=window.own_peak,
            gradients=recorder.live[GRADIENTS] - gradients,
            recompute=recorder.flops['recompute'] - recompute,
            freed=_by_unit(self._forward.freed),
            sides=self._sides,
        )
        recorder.mark()

    def behind_update(self) -> None:
        """What the optimizer took."""
        self.update = self.recorder.since_mark.new_peak

    def _begin_backward(self) -> _Before:
        recorder = self.recorder
        before = _Before(
            recorder.since_mark,
            recorder.total,
            recorder.live[GRADIENTS],
            recorder.flops['recompute'],
            recorder.flops['backward'],
        )
        recorder.restart_peaks()
        return before

    def _append(self, index: int, before: _Before) -> None:
        forward, recorder = before.forward, self.recorder
        live = recorder.live
        held = {unit: live[band_of(unit)] for unit in range(index + 1)}
        backward = recorder.since_mark.peak - before.total
        self.units.append(
            Unit(
                entry=self._entry,
                saved=forward.new,
                forward=forward.new_peak,
                backward=forward.new + backward,
                gradients=live[GRADIENTS] - before.gradients,
                recompute=recorder.flops['recompute'] - before.recompute,
                freed=_by_unit(forward.freed),
                held={unit: size for unit, size in held.items() if size},
                trains=self._trains,
            )
        )

    def _at_side(self, number: int, leaf: Tensor) -> None:
        self.recorder.move(leaf.grad, SIDES)
        size, _ = self.recorder.find(leaf.grad)
        side = self._sides[number]
        self._sides[number] = replace(side, size=size)

    def _enter(self) -> None:
        recorder = self.recorder
        recorder.band = band_of(len(self.units))
        extra = recorder.live[GRADIENTS] + recorder.live[HEADS]
        self._entry = recorder.total - extra - self._kept - self.pixels
        recorder.mark()

    def _try(
        self, head: Any, step: LocalStep, feat: Tensor, attached: bool
    ) -> Head:
        recorder = self.recorder
        had_pixels = 'pixels' in vars(step)
        before, flops = recorder.total, sum(recorder.flops.values())
        recorder.mark()
        leaf = feat.detach().requires_grad_(attached)
        losses = head.loss(leaf, step.inputs, step.data_samples)
        loss = sum(
            value.mean() for key, value in losses.items() if 'loss' in key
        )
        self.propagate(loss)
        peak = recorder.since_mark.new_peak
        gradients = 0
        for weight in head.parameters():
            if weight.grad is not None:
                gradients += recorder.find(weight.grad)[0]
                weight.grad = None
        del losses, loss, leaf
        kept = recorder.total - before
        if not had_pixels and 'pixels' in vars(step):
            self.pixels = recorder.find(step.pixels)[0]
            recorder.move(step.pixels, PIXELS)
            peak -= self.pixels
            kept -= self.pixels
        self._kept += kept
        weights = [*head.parameters(), *head.buffers()]
        static = sum(recorder.find(weight)[0] for weight in weights)
        state = sum(
            recorder.find(weight)[0]
            for weight in head.parameters()
            if weight.requires_grad
        )
        if self.simulator.setting.ema:
            static *= 2
        return Head(
            peak,
            gradients,
            static + round(state * self._state_share),
            kept,
            sum(recorder.flops.values()) - flops,
            head.needs_gradient,
        )


def _unit(band: str | None) -> int:
    kind, _, index = str(band).partition(' ')
    return int(index) if kind == 'unit' else -1


def _by_unit(freed: dict[str, int]) -> dict[int, int]:
    found: Counter[int] = Counter()
    for band, size in freed.items():
        if band not in (HEADS, KEPT, PIXELS):
            found[_unit(band)] += size
    return dict(found)
