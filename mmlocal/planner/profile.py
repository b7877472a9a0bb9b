"""What each piece of a network takes on its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from mmengine.model import ModuleList
from torch import Tensor

from mmlocal.models.cut_points import Split
from mmlocal.models.freed_outputs import graph_nodes
from mmlocal.models.module_training import ModuleTraining, ask_for_gradient
from mmlocal.step import LocalStep

from .recorder import GRADIENTS, OPTIMIZER, PARAMETERS, SIDES, Recorder
from .simulator import Simulator, in_phase

HEADS = 'local heads'
PIXELS = 'pixels'


@dataclass(frozen=True)
class Unit:
    """A piece of the backbone between two neighbouring cut points, in bytes.

    Attributes:
        entry (int): In memory before its forward, without gradients of
            weights, if everything before has trained.
        saved (int): Kept by its forward.
        forward (int): Peak of its forward, above ``entry``.
        backward (int): Peak of its backward, above ``entry + saved``; the
            gradient that it is given counts.
        gradients (int): Of its weights.
        recompute (int): FLOPs that its backward runs again.
        freed (dict[int, int]): What its forward lets go of, by the unit that
            made it (-1: what comes before the backbone).
    """

    entry: int
    saved: int
    forward: int
    backward: int
    gradients: int
    recompute: int
    freed: dict[int, int]


@dataclass(frozen=True)
class Head:
    """A local head at a cut point, in bytes.

    Attributes:
        peak (int): Of its forward and backward, above what is in memory when
            it starts.
        gradients (int): Of its weights.
        static (int): Weights, buffers and optimizer state.
        kept (int): What stays in memory until the end of the forward.
        flops (int): Of its forward and backward.
    """

    peak: int = 0
    gradients: int = 0
    static: int = 0
    kept: int = 0
    flops: int = 0


@dataclass(frozen=True)
class Tail:
    """What follows the last cut point, with the network's own heads.

    Attributes:
        entry, gradients, recompute, freed: As of a :class:`Unit`.
        forward (int): Peak of its forward, above ``entry``.
        backward (int): Peak of its backward, above ``entry``.
        alone (int): As ``backward``, without the gradients of ``sides``.
        sides (list[tuple[int, int]]): Units that its heads read as well, and
            the bytes of the gradient that comes back.
    """

    entry: int
    forward: int
    backward: int
    alone: int
    gradients: int
    recompute: int
    freed: dict[int, int]
    sides: list[tuple[int, int]]


@dataclass
class Profile:
    """One step, piece by piece, in one mode of checkpointing.

    Attributes:
        names (list[str]): Cut points; unit i ends before ``names[i]``.
        units (list[Unit]): One a cut point.
        heads (list[Head]): The local head at each; empty if left out.
        tail (Tail): Behind the last cut point.
        pixels (int): Bytes that heads share once one has run.
        update (int): Peak of the optimizer step, above weights, states and
            gradients.
    """

    names: list[str]
    units: list[Unit] = field(default_factory=list)
    heads: list[Head] = field(default_factory=list)
    tail: Tail | None = None
    pixels: int = 0
    update: int = 0


def profile(
    simulator: Simulator, mode: str | None, heads: bool = True
) -> Profile:
    """Run one fake step in which each unit trains on its own.

    Args:
        simulator (Simulator): Of the config.
        mode (str, optional): Of checkpointing, for all blocks.
        heads (bool): Whether to run the local heads, too; what they take
            does not depend on the mode. Defaults to True.
    """
    backbone = simulator.backbone
    backbone.set_split(Split([], mode), ModuleList(), simulator.points)
    # The last module's own local head is the same in all plans.
    backbone.local_end = False
    tried = []
    if heads:
        tried = list(map(simulator.trial_head, simulator.candidates))
    with simulator.step(simulator.setting.batch_size) as (
        recorder,
        wrap,
        batch,
    ):
        probe = _Probe(simulator, recorder, tried)
        backbone.boundaries = list(simulator.candidates)
        backbone.module_training = partial(_Units, probe)
        handles = [
            backbone.register_forward_pre_hook(probe.at_start),
            backbone.register_forward_hook(probe.at_end),
        ]
        wrap.during = probe.during
        try:
            simulator.model.train_step(batch, wrap)
        finally:
            for handle in handles:
                handle.remove()
            backbone.boundaries = []
            backbone.local_end = simulator.setting.local_end
            del backbone.module_training
    return probe.profile


class _Units(ModuleTraining):
    """Lets a probe train each piece of the network."""

    def __init__(self, probe: _Probe, *args):
        super().__init__(*args)
        self.probe = probe

    def at_boundary(self, index: int, feat: Tensor) -> Tensor:
        """Train the piece alone; what the next one gets."""
        self.finished.update(graph_nodes(feat, self.finished))
        return self.probe.at_cut(self.step, index, feat)


class _Probe:
    """Takes the figures while the step runs."""

    def __init__(self, simulator: Simulator, recorder: Recorder, heads: list):
        self.simulator, self.recorder = simulator, recorder
        self.heads = heads
        for head in heads:
            weights = [*head.parameters(), *head.buffers()]
            recorder.track_all(weights, HEADS)
        self.profile = Profile(list(simulator.candidates))
        self.entry = self.kept = 0
        self.sides: list[tuple[int, int]] = []
        live = recorder.live
        # The share of a head's weights in state is that of the network's.
        self.state_share = live[OPTIMIZER] / max(live[PARAMETERS], 1)

    def at_start(self, *args) -> None:
        """Before the backbone."""
        self._enter()

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Take the figures of the last backward and of the update."""
        if phase == 'backward':
            self.before_backward()
        else:
            self.before_update()
        with in_phase(self.recorder, phase):
            yield
        if phase == 'update':
            self.profile.update = self.recorder.since_mark.new_peak

    def at_cut(self, step: LocalStep, index: int, feat: Tensor) -> Tensor:
        """Train a unit alone, then try the head on its output."""
        recorder = self.recorder
        forward = recorder.since_mark
        before, gradients = recorder.total, recorder.live[GRADIENTS]
        recomputed = recorder.flops['recompute']
        self._propagate(feat, torch.empty_like(feat))
        self.profile.units.append(
            Unit(
                entry=self.entry,
                saved=forward.new,
                forward=forward.new_peak,
                backward=recorder.since_mark.peak - before,
                gradients=recorder.live[GRADIENTS] - gradients,
                recompute=recorder.flops['recompute'] - recomputed,
                freed=_by_unit(forward.freed),
            )
        )
        feat = feat.detach()
        if self.heads:
            self.profile.heads.append(self._try_head(step, index, feat))
        self._enter()
        return ask_for_gradient(feat)

    def at_end(self, module: Any, args: tuple, outputs: Any) -> Any:
        """Behind the backbone: heads propagate to what earlier units gave."""
        if not isinstance(outputs, (list, tuple)):
            return outputs
        found = []
        for output in outputs:
            if isinstance(output, Tensor) and not output.requires_grad:
                size, band = self.recorder.find(output)
                self.sides.append((_unit(band), size))
                output = output.detach().requires_grad_()
                output.register_post_accumulate_grad_hook(
                    lambda leaf: self.recorder.move(leaf.grad, SIDES)
                )
            found.append(output)
        return type(outputs)(found)

    def before_backward(self) -> None:
        """Behind the whole forward."""
        self.forward = self.recorder.since_mark
        self.recorder.restart_peaks()

    def before_update(self) -> None:
        """Behind the last backward."""
        recorder, units = self.recorder, self.profile.units
        gradients = sum(unit.gradients for unit in units)
        recompute = sum(unit.recompute for unit in units)
        self.profile.tail = Tail(
            entry=self.entry,
            forward=self.forward.new_peak,
            backward=recorder.since_mark.new_peak,
            alone=recorder.since_mark.own_peak,
            gradients=recorder.live[GRADIENTS] - gradients,
            recompute=recorder.flops['recompute'] - recompute,
            freed=_by_unit(self.forward.freed),
            sides=self.sides,
        )
        recorder.mark()

    def _enter(self) -> None:
        recorder = self.recorder
        recorder.band = f'unit {len(self.profile.units)}'
        extra = recorder.live[GRADIENTS] + recorder.live[HEADS]
        self.entry = recorder.total - extra - self.kept - self.profile.pixels
        recorder.mark()

    def _try_head(self, step: LocalStep, index: int, feat: Tensor) -> Head:
        recorder = self.recorder
        head = self.heads[index]
        had_pixels = 'pixels' in vars(step)
        before, flops = recorder.total, sum(recorder.flops.values())
        recorder.mark()
        leaf = feat.detach().requires_grad_()
        losses = head.loss(leaf, step.inputs, step.data_samples)
        loss = sum(
            value.mean() for key, value in losses.items() if 'loss' in key
        )
        self._propagate(loss)
        peak = recorder.since_mark.new_peak
        gradients = 0
        for weight in head.parameters():
            if weight.grad is not None:
                gradients += recorder.find(weight.grad)[0]
                weight.grad = None
        del losses, loss, leaf
        kept = recorder.total - before
        if not had_pixels and 'pixels' in vars(step):
            self.profile.pixels = recorder.find(step.pixels)[0]
            recorder.move(step.pixels, PIXELS)
            peak -= self.profile.pixels
            kept -= self.profile.pixels
        self.kept += kept
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
            static + round(state * self.state_share),
            kept,
            sum(recorder.flops.values()) - flops,
        )

    def _propagate(
        self, output: Tensor, gradient: Tensor | None = None
    ) -> None:
        with (
            in_phase(self.recorder, 'backward'),
            torch.autocast('cpu', enabled=False),
        ):
            output.backward(gradient)


def _unit(band: str | None) -> int:
    kind, _, index = str(band).partition(' ')
    return int(index) if kind == 'unit' else -1


def _by_unit(freed: dict[str, int]) -> dict[int, int]:
    found: Counter[int] = Counter()
    for band, size in freed.items():
        if band == PIXELS:
            continue
        found[_unit(band)] += size
    return dict(found)
