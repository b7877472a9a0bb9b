"""Where a recorder counts what a step makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from mmlocal.models.module_training import ModuleTraining

from .recorder import Recorder


class InBands(ModuleTraining):
    """Counts what each module makes in a band of its own."""

    def __init__(self, recorder: Recorder, bands: list[str], *args):
        super().__init__(*args)
        self.recorder, self.bands = recorder, bands

    def at_boundary(self, index: int, feat: Tensor) -> Tensor:
        """Train a module; what comes then belongs to the next."""
        passed = super().at_boundary(index, feat)
        self.recorder.band = self.bands[index + 1]
        return passed


@contextmanager
def in_phase(recorder: Recorder, phase: str) -> Iterator[None]:
    """Set the recorder's phase for a while."""
    before, recorder.phase = recorder.phase, phase
    try:
        yield
    finally:
        recorder.phase = before


def watch_outputs(
    backbone: nn.Module, recorder: Recorder
) -> dict[str, tuple[int, int]]:
    """Number and size of each output's storage, once the backbone has run."""
    found: dict[str, tuple[int, int]] = {}

    def note(module: nn.Module, args: tuple, outputs: Any) -> None:
        handle.remove()
        if not isinstance(outputs, (tuple, list)):
            return
        for index, output in enumerate(outputs):
            if isinstance(output, Tensor):
                size, _ = recorder.find(output)
                found[f'outs[{index}]'] = (recorder.serial(output), size)
        recorder.read.clear()

    handle = backbone.register_forward_hook(note)
    return found
