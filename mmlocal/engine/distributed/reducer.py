"""Averages the gradients of a module while the next one computes."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import mmengine.dist
import torch
import torch.distributed as dist
from torch import Tensor, nn

from .buckets import Bucket, Work, make_buckets

COMPRESSIONS = {None: None, 'fp16': torch.float16, 'bf16': torch.bfloat16}
NONE = -1


class GradientReducer:
    """Replaces gradients by their average over the ranks, in buckets.

    In the first step it observes in which module and in which order the
    gradients come, and reduces them at its end. From then on every module has
    buckets of its own, in the order that rank 0 has seen; a bucket is sent as
    soon as it is full and all before it are sent, so that all ranks issue the
    same collectives in the same order, whatever each of them computes. What
    is not full at the end is sent then, with 0 for gradients that did not
    come on this rank.

    Which parameter belongs to which module is not guessed from the order of
    registration: in ConvNeXt this is another one than that of the forward.

    A step is ``begin``, the backward passes with ``end_module`` after each
    but the last, and ``wait``.

    Args:
        module (nn.Module): The model.
        bucket_cap_mb (float): Size at which a bucket is closed, in MiB.
            Defaults to 25.
        compression (str, optional): 'fp16' or 'bf16': what the gradients
            travel in. Defaults to None, their own dtype.
        group (dist.ProcessGroup, optional): Where they travel. Defaults to
            None, the default group.

    Raises:
        ValueError: If ``bucket_cap_mb`` is not positive, or ``compression``
            unknown.
    """

    def __init__(
        self,
        module: nn.Module,
        bucket_cap_mb: float = 25.0,
        compression: str | None = None,
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
        self._cap = bucket_cap_mb * 2**20
        self._dtype = COMPRESSIONS[compression]
        self._group = group
        self._world_size = dist.get_world_size(group)
        self._all = dict(module.named_parameters())
        self._names: list[str] = []
        self._handles: list = []
        self._sync = False
        self._module = 0

    def begin(self, sync: bool = True) -> None:
        """Start a forward whose backward passes bring gradients.

        Args:
            sync (bool): Whether these are reduced, with what earlier
                forwards have accumulated, or accumulated themselves.

        Raises:
            RuntimeError: If no one waited for the gradients of the last one.
        """
        if self._sync and self._came:
            raise RuntimeError(
                'a training forward begins before the gradients of the last '
                'one were waited for: train with `mmlocal.LocalOptimWrapper` '
                'or `LocalAmpOptimWrapper`, one forward a step.'
            )
        self._sync = sync
        if not sync:
            return
        names = [name for name, p in self._all.items() if p.requires_grad]
        if names != self._names:
            self._observe(names)
        self._came: dict[int, int] = {}
        self._twice: dict[int, int] = {}
        self._reduced: dict[int, None] = {}
        self._module = self._next = 0

    def end_module(self) -> None:
        """Say that the backward of a module is done and another one comes."""
        self._module += 1

    def wait(self, params: Iterable[nn.Parameter] | None = None) -> None:
        """Wait until gradients are the average over the ranks.

        All ranks must call this at the same point of a step.

        Args:
            params (Iterable[nn.Parameter], optional): Wait for these only,
                the same ones on all ranks; their gradients have all come.
                Defaults to None: for all, which ends the step.

        Raises:
            RuntimeError: If in the observed step a parameter got no gradient
                on any rank, or from two modules; or if a rank has ended or
                does not answer within the timeout of the process group.
        """
        if not self._sync:
            return
        if self._buckets is None:
            self._wait_observed(params)
        else:
            count = len(self._buckets)
            if params is not None:
                found = [self._where[i][0] for i in self._positions(params)]
                count = max(found, default=-1) + 1
            for bucket in self._buckets[self._next : count]:
                self._launch(bucket)
            self._next = max(self._next, count)
            self._finish(self._buckets[:count])
        if params is None:
            for bucket in self._buckets:
                bucket.reset()
            self._sync = False

    def all_reduce(self, tensor: Tensor) -> Work:
        """Start to sum a tensor over the ranks, in place."""
        return dist.all_reduce(tensor, group=self._group, async_op=True)

    def _observe(self, names: list[str]) -> None:
        for handle in self._handles:
            handle.remove()
        self._names = names
        self._params = [self._all[name] for name in names]
        self._position = {id(p): i for i, p in enumerate(self._params)}
        self._buckets: list[Bucket] | None = None
        self._handles = [
            p.register_post_accumulate_grad_hook(partial(self._take, i))
            for i, p in enumerate(self._params)
        ]

    def _take(self, position: int, param: nn.Parameter) -> None:
        """Hook: the gradient of a parameter has come."""
        if not self._sync:
            return
        if position in self._came:
            self._twice.setdefault(position, self._module)
            if self._buckets is None:  # Told by `wait`, on all ranks.
                return
            raise RuntimeError(self._twice_message([position], self._came))
        self._came[position] = self._module
        if self._buckets is None:
            return
        number, place = self._where[position]
        bucket = self._buckets[number]
        if bucket.launched:
            raise RuntimeError(
                f'the gradient of {self._names[position]} came after it was '
                'waited for.'
            )
        bucket.add(place)
        while self._next < len(self._buckets):
            bucket = self._buckets[self._next]
            if bucket.missing:
                return
            self._launch(bucket)
            self._next += 1

    def _launch(self, bucket: Bucket) -> None:
        dtype = None
        if bucket.params[0].dtype == torch.float32:
            dtype = self._dtype
        bucket.launch(self.all_reduce, self._world_size, dtype)

    def _finish(self, buckets: list[Bucket]) -> None:
        try:
            for bucket in buckets:
                bucket.finish()
        except RuntimeError as error:
            raise RuntimeError(
                f'rank {dist.get_rank()}: the gradients were not reduced. '
                'Another rank has ended (see its output), or did not answer '
                'within the timeout (env_cfg.dist_cfg.timeout, in seconds; '
                'model_wrapper_cfg.timeout with own_group=True).'
            ) from error

    def _positions(self, params: Iterable[nn.Parameter]) -> list[int]:
        found = (self._position.get(id(param)) for param in params)
        return sorted(i for i in found if i is not None)

    def _wait_observed(self, params: Iterable[nn.Parameter] | None) -> None:
        if params is None:
            members = self._gather_record()
            positions = range(len(self._params))
        else:
            positions = self._positions(params)
        todo = [
            (self._params[i], 0) for i in positions if i not in self._reduced
        ]
        self._reduced.update(dict.fromkeys(positions))
        buckets = make_buckets(todo, self._cap)
        for bucket in buckets:
            self._launch(bucket)
        self._finish(buckets)
        if params is None:
            self._build(members)

    def _gather_record(self) -> list[tuple[int, int]]:
        """Positions and modules of parameters, in the order of rank 0.

        What rank 0 has not seen is taken from the first rank that has.
        """
        count = len(self._params)
        # A module's gradients have the keys module * count + 0, 1, 2, ...
        record = torch.full((2, count), NONE)
        for i, param in enumerate(self._params):
            if param.grad is not None:
                # Accumulated earlier only: where the step ends.
                record[0, i] = self._module * count + count - 1
        for place, (i, module) in enumerate(self._came.items()):
            record[0, i] = module * count + place
        for i, module in self._twice.items():
            record[1, i] = module
        device = self._params[0].device
        gathered = mmengine.dist.all_gather(record.to(device), self._group)
        keys, twice = torch.stack(gathered).cpu().unbind(1)
        self._check(keys, twice)
        rank = (keys != NONE).int().argmax(0, keepdim=True)
        keys = keys.gather(0, rank)[0].tolist()
        order = sorted(range(count), key=lambda i: (keys[i], i))
        return [(i, keys[i] // count) for i in order]

    def _check(self, keys: Tensor, twice: Tensor) -> None:
        never = (keys == NONE).all(0).nonzero().flatten().tolist()
        if never:
            raise RuntimeError(
                f'{self._list(never)} got no gradient on any rank in the '
                'first step. Take the layer out of the config; let the loss '
                'use it (an output of a finished module trains its own '
                'layers only if a head reads it: see `out_indices`); or '
                'freeze it with requires_grad=False.'
            )
        both = (twice != NONE).any(0).nonzero().flatten().tolist()
        if both:
            rank = (twice[:, both[0]] != NONE).int().argmax().item()
            first = {both[0]: keys[rank, both[0]].item() // len(self._params)}
            self._twice[both[0]] = twice[rank, both[0]].item()
            raise RuntimeError(self._twice_message(both, first))

    def _twice_message(self, twice: list[int], first: dict[int, int]) -> str:
        a, b = first[twice[0]], self._twice[twice[0]]
        return (
            f'the gradient of {self._list(twice)} came twice in one step, '
            f'from modules {a} and {b}: a parameter is trained by one '
            'module. Give each module a copy of its own, or detach one of '
            'the uses. (Twice in one module: a weight that two reentrant '
            'checkpoints share; use one checkpoint around both.)'
        )

    def _build(self, members: list[tuple[int, int]]) -> None:
        buckets = make_buckets(
            [(self._params[i], module) for i, module in members], self._cap
        )
        self._where = {
            self._position[id(param)]: (number, place)
            for number, bucket in enumerate(buckets)
            for place, param in enumerate(bucket.params)
        }
        self._buckets = buckets

    def _list(self, positions: list[int]) -> str:
        names = [self._names[i] for i in positions[:8]]
        more = f' and {len(positions) - 8} more' if positions[8:] else ''
        return ', '.join(names) + more
