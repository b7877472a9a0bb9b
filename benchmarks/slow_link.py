"""A gloo process group behind a link of a given speed.

    dist.init_process_group('slow_gloo', ...)

What a rank sends leaves it one message after the other, and takes no less time
than its bytes need; what comes in does not wait. Collectives count as what
their best algorithms send: an all-reduce of n bytes over w ranks as 2n(w-1)/w,
what gathers or scatters as half of that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import Work


class Link:
    """What leaves a rank.

    Attributes:
        speed (float): Bytes a second; infinite: as fast as gloo is here.
        sent (float): Bytes that have left.
    """

    def __init__(self) -> None:
        self.speed = float('inf')
        self.sent = 0.0
        self._thread = ThreadPoolExecutor(1)

    def send(
        self, call: Callable[[], Work], size: float, result: Any
    ) -> SlowWork:
        """Begin to send; ``result`` is what the future is to have."""
        future: torch.futures.Future = torch.futures.Future()
        self.sent += size

        def run() -> None:
            end = time.monotonic() + size / self.speed
            try:
                call().wait()
            except RuntimeError as error:
                future.set_exception(error)
                return
            time.sleep(max(end - time.monotonic(), 0))
            future.set_result(result)

        self._thread.submit(run)
        return SlowWork(future)


class SlowWork(Work):
    """A message on its way."""

    def __init__(self, future: torch.futures.Future):
        super().__init__()
        self.future = future

    def wait(self, timeout: Any = None) -> bool:
        """Wait until it has left."""
        self.future.wait()
        return True

    def is_completed(self) -> bool:
        """Whether it has."""
        return self.future.done()

    def get_future(self) -> torch.futures.Future:
        """Of its tensors."""
        return self.future


class SlowGroup(dist.ProcessGroup):
    """Gloo behind :data:`LINK`.

    Args:
        gloo (dist.ProcessGroupGloo): Sends.
        rank (int): In the group.
        size (int): Of the group.
    """

    def __init__(self, gloo: Any, rank: int, size: int):
        super().__init__(rank, size)
        self.gloo, self.others = gloo, (size - 1) / size

    def getBackendName(self) -> str:
        """As torch names it."""
        return 'slow_gloo'

    def setGroupName(self, name: str) -> None:
        """Torch names groups."""
        self.name = name

    def getGroupName(self) -> str:
        """As torch named it."""
        return self.name

    def _get_backend(self, device: torch.device) -> Any:
        # Asked whether several sends go as one.
        return self.gloo

    def allreduce(self, tensors: list[Tensor], opts: Any = None) -> Work:
        """Counts twice."""
        opts = opts or dist.AllreduceOptions()
        return self._collective('allreduce', tensors, 2, tensors, opts)

    def allreduce_coalesced(self, tensors: list[Tensor], opts: Any) -> Work:
        """Counts twice."""
        return self._collective(
            'allreduce_coalesced', tensors, 2, tensors, opts
        )

    def broadcast(self, tensors: list[Tensor], opts: Any) -> Work:
        """Counts once."""
        return self._collective('broadcast', tensors, 1, tensors, opts)

    def allgather(self, outputs: list, inputs: list, opts: Any = None) -> Work:
        """Counts once."""
        opts = opts or dist.AllgatherOptions()
        return self._collective(
            'allgather', outputs[0], 1, outputs, inputs, opts
        )

    def all_gather_single(
        self, output: Tensor, input: Tensor, opts: Any
    ) -> Work:
        """Counts once."""
        name = _name(self.gloo, 'all_gather_single', '_allgather_base')
        return self._collective(name, [output], 1, output, input, opts)

    def reduce_scatter_single(
        self, output: Tensor, input: Tensor, opts: Any
    ) -> Work:
        """Counts once."""
        name = _name(
            self.gloo, 'reduce_scatter_single', '_reduce_scatter_base'
        )
        return self._collective(name, [input], 1, output, input, opts)

    # As older versions of torch call them.
    _allgather_base = all_gather_single
    _reduce_scatter_base = reduce_scatter_single

    def gather(self, outputs: list, inputs: list, opts: Any) -> Work:
        """Counts once."""
        return self._collective('gather', inputs, 1, outputs, inputs, opts)

    def barrier(self, opts: Any = None) -> Work:
        """Counts nothing, but waits for what has been sent before."""
        opts = opts or dist.BarrierOptions()
        return LINK.send(lambda: self.gloo.barrier(opts), 0, None)

    def send(self, tensors: list[Tensor], rank: int, tag: int) -> Work:
        """Counts once."""
        size = sum(tensor.nbytes for tensor in tensors)
        return LINK.send(
            lambda: self.gloo.send(tensors, rank, tag), size, tensors
        )

    def recv(self, tensors: list[Tensor], rank: int, tag: int) -> Work:
        """Does not wait for what leaves."""
        return self.gloo.recv(tensors, rank, tag)

    def _collective(
        self, name: str, tensors: list[Tensor], times: int, *args: Any
    ) -> Work:
        size = times * self.others * sum(tensor.nbytes for tensor in tensors)
        call = getattr(self.gloo, name)
        return LINK.send(lambda: call(*args), size, tensors)


def _name(gloo: Any, new: str, old: str) -> str:
    return new if hasattr(gloo, new) else old


def _create(opts: Any, backend_options: Any = None) -> SlowGroup:
    gloo = dist.ProcessGroupGloo(
        opts.store, opts.group_rank, opts.group_size, timeout=opts.timeout
    )
    return SlowGroup(gloo, opts.group_rank, opts.group_size)


LINK = Link()
dist.Backend.register_backend(
    'slow_gloo', _create, extended_api=True, devices=['cpu']
)
