"""Objects with tensors in them, sent from one rank to another."""

from __future__ import annotations

import io
import pickle
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .buckets import Work

# Of each message the two parts have a tag of their own: the second may be
# waited for before the first has come.
TAGS = {'batch': 10, 'feature': 20, 'prediction': 30}
ALIGNMENT = 16


@dataclass(frozen=True)
class Way:
    """How messages of one kind go from one rank to another.

    Args:
        peer (int): The other rank.
        kind (str): One of :data:`TAGS`.
        on_host (dist.ProcessGroup): Has both, and sends from the host.
        group (dist.ProcessGroup): Has both, and sends tensors.
        device (torch.device): From which it does.
    """

    peer: int
    kind: str
    on_host: dist.ProcessGroup
    group: dist.ProcessGroup
    device: torch.device

    @property
    def tag(self) -> int:
        """Of headers; that of tensors is the next one."""
        return TAGS[self.kind]


class Outbox:
    """Sends messages, without waiting until they have come.

    Args:
        way (Way): To whom.
        limit (int): Messages that may be under way. The next one waits for
            the oldest of them.
    """

    def __init__(self, way: Way, limit: int):
        self.way, self.limit = way, limit
        self.sent = 0
        self._pending: deque[list[tuple[Work, Tensor]]] = deque()
        self._usual = 0

    def send(self, value: Any) -> None:
        """Send any object; its tensors go as they are, without a graph."""
        while len(self._pending) >= self.limit:
            self._finish(self._pending.popleft())
        way = self.way
        header, payload = _pack(value, way.device)
        sizes = torch.tensor([header.numel(), payload.numel()])
        parts = [
            self._isend(sizes, way.on_host, way.tag),
            self._isend(header, way.on_host, way.tag),
        ]
        # The receiver expects as much as the last time.
        usual, self._usual = self._usual, payload.numel()
        if payload.numel() < usual:
            padding = payload.new_empty(usual - payload.numel())
            payload = torch.cat([payload, padding])
        for part in (payload[:usual], payload[usual:]):
            if part.numel():
                parts.append(self._isend(part, way.group, way.tag + 1))
        self._pending.append(parts)

    def flush(self) -> None:
        """Wait until all messages have come."""
        while self._pending:
            self._finish(self._pending.popleft())

    def _isend(
        self, tensor: Tensor, group: dist.ProcessGroup, tag: int
    ) -> tuple[Work, Tensor]:
        self.sent += tensor.nbytes
        work = _answered(
            self.way.peer, dist.isend, tensor, self.way.peer, group, tag
        )
        return work, tensor

    def _finish(self, parts: list[tuple[Work, Tensor]]) -> None:
        for work, _ in parts:
            _answered(self.way.peer, work.wait)


class Inbox:
    """Receives what an :class:`Outbox` sends.

    Args:
        way (Way): From whom.
    """

    def __init__(self, way: Way):
        self.way = way
        self._usual = 0
        self._coming: tuple[Tensor, Work] | None = None

    def expect(self) -> None:
        """Let the next message come while something else is computed.

        There must be one: what comes is :meth:`take`'s.
        """
        if self._usual and self._coming is None:
            self._coming = self._irecv(self._usual)

    def take(self) -> Any:
        """Wait for the next message."""
        self.expect()
        way = self.way
        sizes = torch.empty(2, dtype=torch.int64)
        self._receive(sizes)
        header_size, size = sizes.tolist()
        header = torch.empty(header_size, dtype=torch.uint8)
        self._receive(header)
        parts = []
        if self._coming is not None:
            payload, work = self._coming
            _answered(way.peer, work.wait)
            parts.append(payload)
        if size > self._usual:
            rest, work = self._irecv(size - self._usual)
            _answered(way.peer, work.wait)
            parts.append(rest)
        self._coming, self._usual = None, size
        payload = parts[0] if len(parts) == 1 else None
        if len(parts) > 1:
            payload = torch.cat(parts)
        return _unpack(header, payload)

    def _irecv(self, size: int) -> tuple[Tensor, Work]:
        way = self.way
        part = torch.empty(size, dtype=torch.uint8, device=way.device)
        work = _answered(
            way.peer, dist.irecv, part, way.peer, way.group, way.tag + 1
        )
        return part, work

    def _receive(self, tensor: Tensor) -> None:
        way = self.way
        work = _answered(
            way.peer, dist.irecv, tensor, way.peer, way.on_host, way.tag
        )
        _answered(way.peer, work.wait)


@dataclass(frozen=True)
class _Form:
    """How a tensor lies in the bytes of a message."""

    shape: torch.Size
    dtype: torch.dtype
    channels_last: bool

    @classmethod
    def of(cls, tensor: Tensor) -> _Form:
        last = tensor.dim() == 4 and not tensor.is_contiguous()
        last = last and tensor.is_contiguous(memory_format=torch.channels_last)
        return cls(tensor.shape, tensor.dtype, last)

    @property
    def size(self) -> int:
        return self.shape.numel() * self.dtype.itemsize

    def to_bytes(self, tensor: Tensor) -> Tensor:
        if self.channels_last:
            tensor = tensor.permute(0, 2, 3, 1)
        return tensor.contiguous().view(-1).view(torch.uint8)

    def from_bytes(self, part: Tensor) -> Tensor:
        flat = part.view(self.dtype)
        if not self.channels_last:
            return flat.view(self.shape)
        n, c, h, w = self.shape
        return flat.view(n, h, w, c).permute(0, 3, 1, 2)


class _Pickler(pickle.Pickler):
    """Leaves tensors out, and keeps them."""

    def __init__(self, file: io.BytesIO):
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.tensors: list[Tensor] = []

    def persistent_id(self, value: Any) -> int | None:
        if not isinstance(value, Tensor):
            return None
        self.tensors.append(value.detach())
        return len(self.tensors) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, tensors: Sequence[Tensor]):
        super().__init__(file)
        self.tensors = tensors

    def persistent_load(self, index: int) -> Tensor:
        return self.tensors[index]


def _pack(value: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """The bytes of an object without its tensors, and those of these."""
    body = io.BytesIO()
    pickler = _Pickler(body)
    pickler.dump(value)
    forms = [_Form.of(tensor) for tensor in pickler.tensors]
    parts = [torch.empty(0, dtype=torch.uint8, device=device)]
    for form, tensor in zip(forms, pickler.tensors, strict=True):
        part = form.to_bytes(tensor.to(device))
        parts += [part, part.new_zeros(-form.size % ALIGNMENT)]
    header = bytearray(pickle.dumps((forms, body.getvalue())))
    return torch.frombuffer(header, dtype=torch.uint8), torch.cat(parts)


def _unpack(header: Tensor, payload: Tensor | None) -> Any:
    # From a rank of the same job, as of torch's `recv_object_list`.
    forms, body = pickle.loads(header.numpy().tobytes())
    tensors, begin = [], 0
    for form in forms:
        if form.size == 0:
            empty = torch.empty(form.shape, dtype=form.dtype)
            tensors.append(empty if payload is None else empty.to(payload))
            continue
        part = payload[begin : begin + form.size]
        if 2 * form.size < payload.numel():
            # Whoever keeps a label shall not keep the feature beside it.
            part = part.clone()
        tensors.append(form.from_bytes(part))
        begin += form.size + -form.size % ALIGNMENT
    return _Unpickler(io.BytesIO(body), tensors).load()


def _answered(peer: int, call: Any, *args: Any) -> Any:
    try:
        return call(*args)
    except RuntimeError as error:
        raise RuntimeError(
            f'rank {dist.get_rank()}: nothing comes from or goes to rank '
            f'{peer}. It has ended (see its output), or did not answer within '
            'the timeout (model_wrapper_cfg.timeout, in seconds).'
        ) from error
