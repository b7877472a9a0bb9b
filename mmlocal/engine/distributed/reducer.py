"""Averages the gradients of a module while the next one computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .buckets import Bucket, Work, make_buckets
from .parameters import Agreement, Parameters
from .records import (
    EARLIER,
    NONE,
    Records,
    listing,
    twice_message,
    warn_of_unused,
)
from .weights import broadcast

COMPRESSIONS = {None: None, 'fp16': torch.float16, 'bf16': torch.bfloat16}


class GradientReducer:
    """Replaces gradients by their average over the ranks, in buckets.

    In the first step it observes in which module and in which order the
    gradients come, and reduces them at its end. From then on every module has
    buckets of its own, in the order that rank 0 has seen. A bucket is sent as
    soon as it is full and all before it are sent; at the end of its module,
    with 0 for gradients that did not come on this rank. So all ranks issue
    the same collectives in the same order, and a module's are issued before
    the next one runs, whatever each of them computes.

    Which parameter belongs to which module is not guessed from the order of
    registration: in ConvNeXt this is another one than that of the forward.
    A parameter that no rank has used yet is looked for at the end of each
    step, and has no gradient until then.

    A step is ``begin``, the backward passes with ``end_module`` after each
    but the last, and ``wait``; or ``abort``.

    Args:
        module (nn.Module): The model, the same one on all ranks.
        bucket_cap_mb (float): Size at which a bucket is closed, in MiB.
            Defaults to 25.
        compression (str, optional): 'fp16' or 'bf16': what the gradients
            travel in. Defaults to None, their own dtype.
        own_group (bool, optional): Whether they travel in a process group
            of their own. Defaults to None: if in the observed step the model
            communicates in the default group.
        timeout (float, optional): Of the own group, in seconds. Defaults to
            None, that of torch.
        group (dist.ProcessGroup, optional): Ranks with the same model, among
            others. Defaults to None: all.

    Raises:
        ValueError: If ``bucket_cap_mb`` is not positive, or ``compression``
            unknown.
    """

    def __init__(
        self,
        module: nn.Module,
        bucket_cap_mb: float = 25.0,
        compression: str | None = None,
        own_group: bool | None = None,
        timeout: float | None = None,
        group: dist.ProcessGroup | None = None,
    ):
        if bucket_cap_mb <= 0:
            raise ValueError(
                f'model_wrapper_cfg.bucket_cap_mb={bucket_cap_mb}: write a '
                'number of MiB above 0, as 25.'
            )
        if compression not in COMPRESSIONS:
            raise ValueError(
                f'model_wrapper_cfg.compression={compression!r}: write one '
                f'of {tuple(COMPRESSIONS)}.'
            )
        self._model = module
        self._cap = bucket_cap_mb * 2**20
        self._dtype = COMPRESSIONS[compression]
        self._timeout = None if timeout is None else timedelta(seconds=timeout)
        self._group = group
        self._may_move = own_group is None and group is None
        if own_group:
            self._move()
        self._world_size = dist.get_world_size(group)
        self._all = Parameters(module)
        self._observed = 0
        self._handles: list = []
        self._buckets: list[Bucket] = []
        self._came: dict[int, int] = {}
        self._failure: Exception | None = None
        self._sync = self._sent = self._announced = False
        self._module = self._next = 0

    def begin(self, sync: bool = True) -> None:
        """Start a forward whose backward passes bring gradients.

        Args:
            sync (bool): Whether these are reduced, with what earlier
                forwards have accumulated, or accumulated themselves.

        Raises:
            RuntimeError: If no one waited for the gradients of the last one,
                or it has failed and other ranks wait for the rest; or if
                other parameters are to be trained than on the other ranks.
        """
        if self._sent:
            self._refuse()
        if self._sync and self._came:
            raise RuntimeError(
                'a training forward begins before the gradients of the last '
                'one were waited for: train with `mmlocal.LocalOptimWrapper` '
                'or `LocalAmpOptimWrapper`, one forward a step.'
            )
        self._failure, self._sync = None, sync
        if not sync:
            return
        before, self._all = self._all, Parameters(self._model)
        self._changes = self._all.changes(before)
        if self._changes or not self._observed:
            self._observe()
        self._came.clear()
        self._twice: dict[int, int] = {}
        self._reduced: dict[int, None] = {}
        self._module = self._next = 0
        if not self._announced:
            self._agreement: Agreement | None = Agreement(
                f'{self._observed} {self._all}', self._all.device, self._group
            )
            self._announced = True
        if self._changes:
            self._agree()
            broadcast(self._all.not_in(before), self._group)
        self._spoken, self._issued = _spoken(), 0

    def end_module(self) -> None:
        """Say that the backward of a module is done and another one comes."""
        if self._sync:
            count = sum(b.module <= self._module for b in self._buckets)
            self._send(count)
        self._module += 1

    def wait(self, params: Iterable[nn.Parameter] | None = None) -> None:
        """Wait until gradients are the average over the ranks.

        All ranks must call this at the same point of a step.

        Args:
            params (Iterable[nn.Parameter], optional): Wait for these only,
                the same ones on all ranks; their gradients have all come.
                Defaults to None: for all, which ends the step.

        Raises:
            RuntimeError: If the step has failed; if a parameter got a
                gradient from two modules; if other ranks train other
                parameters, have ended, or do not answer within the timeout
                of the process group.
        """
        self._refuse()
        if not self._sync:
            return
        try:
            self._agree()
            if params is not None:
                self._wait_for(params)
                return
            self._send(len(self._buckets))
            self._finish(self._buckets)
            self._settle()
        except Exception as error:
            self._sent = True
            self.abort(error)
            raise
        for bucket in self._buckets:
            bucket.reset()
        self._sync = self._sent = self._announced = False

    def abort(self, error: Exception) -> None:
        """Forget a step that an exception has ended.

        Its batch may be skipped as long as nothing of it is sent: the next
        forward takes its place.
        """
        if self._sync:
            self._failure, self._sync = error, False
            for bucket in self._buckets:
                bucket.reset()

    def all_reduce(self, tensor: Tensor) -> Work:
        """Start to sum a tensor over the ranks, in place."""
        return dist.all_reduce(tensor, group=self._group, async_op=True)

    def _observe(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._observed += 1
        trainable = self._all.trainable
        self._names, self._params = [*trainable], [*trainable.values()]
        self._position = {id(p): i for i, p in enumerate(self._params)}
        self._keys: dict[int, int] = {}
        self._build()
        self._handles = [
            p.register_post_accumulate_grad_hook(partial(self._take, i))
            for i, p in enumerate(self._params)
        ]

    def _agree(self) -> None:
        if self._agreement is None:
            return
        others = self._answered(self._agreement.others)
        self._agreement = None
        if others:
            self._sent = True
            here = self._changes or 'nothing has changed since the last step'
            raise RuntimeError(
                f'rank {listing([str(rank) for rank in others])} does not '
                f'train the parameters of rank {dist.get_rank()}, where '
                f'{here}. Freeze, release, add or replace parameters on all '
                'ranks at the same step.'
            )

    def _take(self, position: int, param: nn.Parameter) -> None:
        """Hook: the gradient of a parameter has come."""
        if not self._sync:
            return
        name = self._names[position]
        known = position in self._where
        if position in self._came:
            self._twice.setdefault(position, self._module)
            if not known:  # Told by `wait`, on all ranks.
                return
            first = self._came[position]
            raise RuntimeError(twice_message([name], first, self._module))
        self._came[position] = self._module
        if not known:
            return
        number, place = self._where[position]
        bucket = self._buckets[number]
        if bucket.launched:
            raise RuntimeError(
                f'the gradient of {name} came in module {self._module}, after '
                f'those of module {bucket.module} had been sent, which has '
                'trained it before: a parameter is trained by one module, the '
                'same one in all steps and on all ranks.'
            )
        bucket.add(place)
        count = self._next
        while count < len(self._buckets) and not self._buckets[count].missing:
            count += 1
        self._send(count)

    def _send(self, count: int) -> None:
        """Launch what is left of the first ``count`` buckets."""
        while self._next < count:
            self._launch(self._buckets[self._next])
            self._next += 1

    def _launch(self, bucket: Bucket) -> None:
        dtype = None
        if bucket.params[0].dtype == torch.float32:
            dtype = self._dtype
        self._sent = True
        self._issued += 1
        bucket.launch(self.all_reduce, self._world_size, dtype)

    def _finish(self, buckets: Sequence[Bucket]) -> None:
        for bucket in buckets:
            self._answered(bucket.finish)

    def _answered(self, wait: Callable[[], Any]) -> Any:
        try:
            return wait()
        except RuntimeError as error:
            raise RuntimeError(
                f'rank {dist.get_rank()}: the gradients were not reduced. '
                'Another rank has ended (see its output), or did not answer '
                'within the timeout (env_cfg.dist_cfg.timeout, in seconds; '
                'model_wrapper_cfg.timeout with own_group=True).'
            ) from error

    def _refuse(self) -> None:
        if self._failure is None:
            return
        error = self._failure
        raise RuntimeError(
            f'the last step has failed on rank {dist.get_rank()}, with '
            f'{type(error).__name__}: {error}\nThe other ranks wait for its '
            'gradients: its batch cannot be skipped. Remove the cause and '
            'go on from the last checkpoint (--resume).'
        ) from error

    def _wait_for(self, params: Iterable[nn.Parameter]) -> None:
        found = (self._position.get(id(param)) for param in params)
        positions = sorted(i for i in found if i is not None)
        numbers = [self._where[i][0] for i in positions if i in self._where]
        count = max(numbers, default=-1) + 1
        self._send(count)
        self._finish(self._buckets[:count])
        self._reduce_at_once(i for i in positions if i not in self._where)

    def _reduce_at_once(self, positions: Iterable[int]) -> None:
        todo = [i for i in positions if i not in self._reduced]
        self._reduced.update(dict.fromkeys(todo))
        buckets = make_buckets([(self._params[i], 0) for i in todo], self._cap)
        for bucket in buckets:
            self._launch(bucket)
        self._finish(buckets)

    def _settle(self) -> None:
        """Reduce what has come of parameters without module; give them one."""
        unknown = [i for i in range(len(self._params)) if i not in self._keys]
        if not unknown:
            return
        talks = self._may_move and not self._keys and self._model_talks()
        stride = len(self._params)
        places = {i: place for place, i in enumerate(self._came)}

        def key(i: int) -> int:
            if i in self._came:
                return self._came[i] * stride + places[i]
            # 0 if it was waited for alone, and did not come here.
            grad = None if i in self._reduced else self._params[i].grad
            return NONE if grad is None else EARLIER

        records = Records(
            [self._names[i] for i in unknown],
            [key(i) for i in unknown],
            [self._twice.get(i, NONE) for i in unknown],
            talks,
            stride,
            self._all.device,
            self._group,
        )
        records.check()
        found = records.found(self._module * stride + stride - 1)
        self._reduce_at_once(unknown[i] for i in found)
        if not self._keys:
            warn_of_unused([self._names[i] for i in unknown if i not in found])
        self._keys.update({unknown[i]: key for i, key in found.items()})
        if found:
            self._build()
        if records.talks:
            self._move()

    def _build(self) -> None:
        stride = len(self._params)
        order = sorted(self._keys, key=lambda i: (self._keys[i], i))
        self._buckets = make_buckets(
            [(self._params[i], self._keys[i] // stride) for i in order],
            self._cap,
        )
        self._where = {
            self._position[id(param)]: (number, place)
            for number, bucket in enumerate(self._buckets)
            for place, param in enumerate(bucket.params)
        }

    def _model_talks(self) -> bool:
        """Whether others than the reducer have used the default group."""
        spoken = _spoken()
        if spoken is None or self._spoken is None:
            return True
        return spoken - self._spoken != self._issued

    def _move(self) -> None:
        """Let gradients travel in a group of their own."""
        self._may_move = False
        self._group = dist.new_group(timeout=self._timeout)


def _spoken() -> int | None:
    """Collectives that the default group has seen, None if it cannot say."""
    try:
        return dist.group.WORLD._get_sequence_number_for_group()
    except RuntimeError:
        return None
