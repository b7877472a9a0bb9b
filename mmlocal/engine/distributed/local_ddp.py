"""The wrapper of a locally trained model on several GPUs and machines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from mmlocal.registry import MODEL_WRAPPERS

from .model_wrapper import LocalModelWrapper
from .reducer import GradientReducer
from .weights import broadcast, check_same_parameters


@MODEL_WRAPPERS.register_module()
class LocalDistributedDataParallel(LocalModelWrapper):
    """Averages gradients over ranks, each module's while the next computes.

    For a model with a ``LocalSupervisedBackbone`` what
    ``MMDistributedDataParallel`` is for others. Torch's DDP reduces what one
    backward after the forward brings; local modules run theirs inside of the
    forward, so that it needs ``find_unused_parameters=True`` and sends
    nothing before the forward is over. Here hooks of the parameters fill
    buckets, which are sent at once and waited for in
    ``LocalOptimWrapper.step``. Every rank sends the bytes of its trainable
    parameters once a step.

    A parameter that gets no gradient on one rank counts as 0 there. One that
    has not had one on any rank yet has none, as in one process; one that had
    and gets none in a later step has a gradient of 0: weight decay and
    momentum go on. One that two modules train is an error. All ranks train
    the same parameters: to freeze, release, add or replace some of them,
    between two steps, is for all ranks at once.

    Args:
        module (nn.Module): The model. Its parameters and buffers become
            those of rank 0.
        bucket_cap_mb (float): Size at which a bucket is closed, in MiB.
            Defaults to 25.
        compression (str, optional): 'fp16' or 'bf16' halves the bytes of
            float32 gradients and rounds them. Defaults to None.
        own_group (bool, optional): Whether gradients have a process group
            of their own, so that the collectives of SyncBN neither queue
            behind them nor meet them in another order on another rank.
            Defaults to None: if the model is seen to communicate in the
            first step.
        timeout (float, optional): Seconds after which a collective of the
            own group fails. Defaults to None: the default of torch.
        broadcast_buffers (bool): Whether each forward in training begins
            with the buffers (running statistics) of rank 0. Defaults to
            False, as mmengine's Runner sets it for DDP.

    Raises:
        RuntimeError: If there is no process group, or the ranks' models have
            different parameters.
        ValueError: If ``bucket_cap_mb`` is not positive, ``compression``
            unknown, or ``timeout`` given without ``own_group=True``.

    Example:
        >>> model_wrapper_cfg = dict(
        ...     type='mmlocal.LocalDistributedDataParallel')
    """

    def __init__(
        self,
        module: nn.Module,
        bucket_cap_mb: float = 25.0,
        compression: str | None = None,
        own_group: bool | None = None,
        timeout: float | None = None,
        broadcast_buffers: bool = False,
    ):
        super().__init__(module)
        if not dist.is_initialized():
            raise RuntimeError(
                'LocalDistributedDataParallel is for several processes: '
                'start them with tools/dist_train.sh, or with one leave it '
                'out.'
            )
        if timeout is not None and not own_group:
            raise ValueError(
                'model_wrapper_cfg.timeout is that of the own group: write '
                'own_group=True too, or env_cfg.dist_cfg.timeout instead.'
            )
        self.broadcast_buffers = broadcast_buffers
        self._require_sync = self._buffers_are_old = True
        check_same_parameters(module)
        broadcast([*module.parameters(), *module.buffers()])
        self.gradient_reducer = GradientReducer(
            module, bucket_cap_mb, compression, own_group, timeout
        )

    def forward(self, *args, **kwargs) -> Any:
        """The model's; in training, the beginning of a step."""
        if self.training and torch.is_grad_enabled():
            if self.broadcast_buffers and self._buffers_are_old:
                broadcast(self.module.buffers())
            # As in DDP: no broadcast between forwards that accumulate.
            self._buffers_are_old = self._require_sync
            self.gradient_reducer.begin(self._require_sync)
        return self.module(*args, **kwargs)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Accumulate the gradients of forwards in here, reduce them later.

        ``OptimWrapper.optim_context`` enters it where ``should_sync`` says
        no; the next forward outside reduces the total.
        """
        before, self._require_sync = self._require_sync, False
        try:
            yield
        finally:
            self._require_sync = before
