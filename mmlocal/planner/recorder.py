"""What is in memory at every moment of a training step."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from mmlocal.fake_tensors import FakeOps, FakeTensorMode, tensors_of

PARAMETERS = 'parameters'
GRADIENTS = 'gradients'
OPTIMIZER = 'optimizer state'
BATCH = 'batch'
TEMPORARY = 'temporary'
# Gradients of outputs that heads read besides the last one.
SIDES = 'sides'


@dataclass(frozen=True)
class Window:
    """A stretch of a step.

    Attributes:
        peak (int): Most bytes of all.
        new (int): Bytes, at its end, of storages made within it.
        new_peak (int): Most bytes of storages made within it.
        own_peak (int): As ``new_peak``, without the band :data:`SIDES`.
        freed (dict[str, int]): Bytes, by band, of storages made before and
            let go of within it.
    """

    peak: int
    new: int
    new_peak: int
    own_peak: int
    freed: dict[str, int]


@dataclass(frozen=True)
class Moment:
    """A point of a step.

    Attributes:
        operator (int): How many have run.
        total (int): Bytes in memory.
        phase (str): 'forward', 'backward' or 'update'.
        bands (dict[str, int]): What ``total`` is made of.
    """

    operator: int
    total: int
    phase: str
    bands: dict[str, int]


@dataclass
class _Storage:
    size: int
    band: str
    serial: int
    gone: weakref.ref


class Recorder(FakeOps):
    """Follows the life of every storage, in bands.

    A storage counts once, however many tensors view it, from the operator
    that makes it until Python and autograd have let go of it. torch's
    ``MemTracker`` counts alike (a test holds the two together), but keeps
    peaks alone, by module of the network, where a plan needs the course of
    the step, by local module.

    Args:
        mode (FakeTensorMode, optional): Of the tensors that come by; None if
            they are real.
        granularity (int): Bytes to which a storage is rounded up: 512 for
            CUDA's caching allocator. Defaults to 1.

    Attributes:
        band (str): Where storages go that are made in forward.
        phase (str): 'forward', 'backward' or 'update'.
        live (Counter[str]): Bytes by band.
        total (int): Bytes.
        peak (int): Most of ``total`` so far.
        peak_bands (dict[str, int]): ``live`` at that moment.
        course (list[Moment]): After each operator that changed something, if
            ``keep``.
        operators (int): How many have run.
        flops (Counter[str]): By 'forward', 'recompute' and 'backward'.
        read (set[int]): Storages that operators have read, by serial number.
    """

    def __init__(self, mode: FakeTensorMode | None, granularity: int = 1):
        super().__init__(mode)
        self.granularity = granularity
        self.band = PARAMETERS
        self.phase = 'forward'
        self.live: Counter[str] = Counter()
        self.total = 0
        self.peak = 0
        self.peak_bands: dict[str, int] = {}
        self.course: list[Moment] = []
        self.operators = 0
        self.keep = False
        self.flops: Counter[str] = Counter()
        self.read: set[int] = set()
        self._mark = self._serial = self._new = 0
        self._window = self._new_peak = self._own_peak = 0
        self._freed: Counter[str] = Counter()
        self._known: dict[int, _Storage] = {}

    def run(self, func: Any, args: tuple, kwargs: dict) -> Any:
        """Run an operator and note what it makes."""
        out = super().run(func, args, kwargs)
        self.operators += 1
        for tensor in tensors_of((args, kwargs)):
            self.read.add(self.serial(tensor))
        before = self.total
        band = self._band()
        for tensor in tensors_of(out):
            self.track(tensor, band)
        if self.keep and self.total != before:
            self.course.append(
                Moment(self.operators, self.total, self.phase, dict(self.live))
            )
        flops = flop_registry.get(func._overloadpacket)
        if flops is not None:
            self.flops[self._kind()] += flops(*args, **kwargs, out_val=out)
        return out

    def track(self, tensor: Tensor, band: str) -> None:
        """Count a tensor's storage, unless it is counted already."""
        key = _key(tensor)
        if key in self._known:
            return
        storage = tensor.untyped_storage()
        size = -(-storage.nbytes() // self.granularity) * self.granularity
        gone = weakref.ref(storage, lambda _: self._forget(key))
        self._serial += 1
        self._known[key] = _Storage(size, band, self._serial, gone)
        self.live[band] += size
        self.total += size
        self._new += size
        self._window = max(self._window, self.total)
        self._new_peak = max(self._new_peak, self._new)
        own = self._new - self.live[SIDES]
        self._own_peak = max(self._own_peak, own)
        if self.total > self.peak:
            self.peak = self.total
            self.peak_bands = dict(self.live)

    def track_all(self, tensors: Iterable[Tensor], band: str) -> None:
        """Count tensors that were there before."""
        for tensor in tensors:
            self.track(tensor, band)

    def move(self, tensor: Tensor, band: str) -> None:
        """Count a tensor's storage in another band from now on."""
        self.track(tensor, band)
        storage = self._known[_key(tensor)]
        self.live[storage.band] -= storage.size
        self.live[band] += storage.size
        storage.band = band

    def mark(self) -> None:
        """Start to look at what comes from now on."""
        self._mark, self._new = self._serial, 0
        self._freed = Counter()
        self.restart_peaks()

    def restart_peaks(self) -> None:
        """Look for peaks anew, without a new mark."""
        self._window, self._new_peak = self.total, self._new
        self._own_peak = self._new - self.live[SIDES]

    @property
    def since_mark(self) -> Window:
        """What has come since the mark."""
        freed = dict(self._freed)
        return Window(
            self._window, self._new, self._new_peak, self._own_peak, freed
        )

    def find(self, tensor: Tensor) -> tuple[int, str | None]:
        """Size and band of a tensor's storage; (0, None) if not counted."""
        storage = self._known.get(_key(tensor))
        return (storage.size, storage.band) if storage else (0, None)

    def serial(self, tensor: Tensor) -> int:
        """Number of a tensor's storage, never used again; 0 if unknown."""
        storage = self._known.get(_key(tensor))
        return storage.serial if storage else 0

    def _band(self) -> str:
        if self.phase == 'forward' or self._kind() == 'recompute':
            return self.band
        return TEMPORARY

    def _kind(self) -> str:
        """Autograd builds no graph in backward, except where it recomputes."""
        if self.phase == 'backward' and torch.is_grad_enabled():
            return 'recompute'
        return self.phase

    def _forget(self, key: int) -> None:
        storage = self._known.pop(key)
        self.live[storage.band] -= storage.size
        self.total -= storage.size
        if storage.serial > self._mark:
            self._new -= storage.size
        else:
            self._freed[storage.band] += storage.size


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
