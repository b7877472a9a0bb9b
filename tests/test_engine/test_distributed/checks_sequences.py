"""InfoNCE of waveforms on two ranks, each with negatives of its own."""

from __future__ import annotations

from pathlib import Path

from checks_gradients import compare, small_buckets
from conftest import audio_cfg
from worker import PREBUILT, check

LAYERS = ['layers.1', 'layers.2', 'layers.3', 'layers.4']
MODULES = audio_cfg([*LAYERS, 'autoregressor'])
# The encoding goes from the backbone to the head of the same module.
WHOLE = audio_cfg([], bptt=False)
PREBUILT += [MODULES, WHOLE]


@check()
def gradients_of_sequences(rank: int, folder: Path) -> None:
    for counts in (1, 2):
        compare(MODULES, counts, steps=2)
    compare(MODULES, 1, small_buckets, steps=2)
    compare(WHOLE, steps=2)
