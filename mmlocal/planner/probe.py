"""A fake step that is looked at wherever a network can be cut."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from mmlocal.models.cut_points import Split
from mmlocal.models.freed_outputs import graph_nodes
from mmlocal.models.module_training import ModuleTraining, check_graph
from mmlocal.models.structure import floats

from .bands import in_phase
from .recorder import Recorder
from .simulator import Simulator


class Probe:
    """Watches one step at every cut point.

    Args:
        simulator (Simulator): Of the config.
        mode (str, optional): Of checkpointing, for all blocks.

    Attributes:
        recorder (Recorder): Of the step, once it runs.
        passes (int): How often the backbone has begun to run with gradient.
    """

    recorder: Recorder
    passes = 0

    def __init__(self, simulator: Simulator, mode: str | None):
        self.simulator, self.mode = simulator, mode

    def run(self) -> None:
        """Run the step."""
        backbone = self.simulator.backbone
        # The last module's own local head is the same in all plans.
        backbone.local_end = False
        # A block in which the network may be cut is not recomputed.
        names = self.simulator.candidates
        modes = [self.mode] * (len(names) + 1)
        self.simulator.set_split(Split(names, modes), [])
        backbone.boundaries = []
        size = self.simulator.setting.batch_size
        with self.simulator.step(size) as (recorder, wrap, batch):
            self.recorder = recorder
            self.before_step()
            handles = [
                backbone.register_forward_pre_hook(self._begin),
                backbone.register_forward_hook(self.at_end),
                *self.prepare(),
            ]
            wrap.during = self.during
            try:
                self.simulator.model.train_step(batch, wrap)
            finally:
                for handle in handles:
                    handle.remove()
                backbone.boundaries = []
                backbone.local_end = self.simulator.setting.local_end
                vars(backbone).pop('module_training', None)

    def prepare(self) -> Iterator[RemovableHandle]:
        """Cut the backbone wherever it can be; hooks to remove again."""
        backbone = self.simulator.backbone
        backbone.boundaries = list(self.simulator.candidates)
        backbone.module_training = partial(AtCuts, self)
        return iter(())

    def _begin(self, *args) -> None:
        if torch.is_grad_enabled():
            self.passes += 1
            self.at_start()

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Look at the last backward and at the update."""
        if phase == 'backward':
            self.before_backward()
        else:
            self.before_update()
        with in_phase(self.recorder, phase):
            yield
        if phase == 'update':
            self.behind_update()

    def before_step(self) -> None:
        """Before all of it."""

    def at_start(self) -> None:
        """Before the backbone."""

    def at_cut(
        self, training: ModuleTraining, index: int, feat: Tensor
    ) -> Tensor:
        """At a cut point; what goes on."""
        return feat

    def at_end(self, module: Any, args: tuple, outputs: Any) -> Any:
        """Behind the backbone; its outputs."""

    def before_backward(self) -> None:
        """Behind the whole forward."""

    def before_update(self) -> None:
        """Behind the last backward."""

    def behind_update(self) -> None:
        """At the end of the step."""

    def propagate(self, output: Tensor) -> None:
        """Train what lies before a tensor.

        Given a loss, or a feature, to which a gradient of any values comes.
        """
        with (
            in_phase(self.recorder, 'backward'),
            torch.autocast('cpu', enabled=False),
        ):
            loss = output if output.ndim == 0 else _AnyGradient.apply(output)
            del output
            loss.backward()


class _AnyGradient(torch.autograd.Function):
    """Makes a gradient that nobody holds on to while it is used."""

    @staticmethod
    def forward(ctx, feat: Tensor) -> Tensor:
        ctx.layout = feat.shape, feat.stride()
        ctx.options = {'dtype': feat.dtype, 'device': feat.device}
        return feat.new_zeros(())

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return torch.empty_strided(*ctx.layout, **ctx.options)


class AtCuts(ModuleTraining):
    """Calls a probe where modules could end."""

    def __init__(self, probe: Probe, *args):
        super().__init__(*args)
        self.probe = probe

    def at_boundary(self, index: int, feat: Tensor) -> Tensor:
        """What the probe makes of it."""
        check_graph(self.probe.simulator.candidates[index])
        return self.probe.at_cut(self, index, feat)

    def finish(self, feat: Tensor) -> None:
        """Note that what lies before a tensor is freed."""
        self.finished.update(graph_nodes(feat, self.finished))


def band_of(unit: int) -> str:
    """Where the tensors of a unit are counted."""
    return f'unit {unit}'


def finished_outputs(outputs: Any) -> list[Tensor]:
    """Outputs that stem from earlier units."""
    return [out for out in floats(outputs).values() if not out.requires_grad]
