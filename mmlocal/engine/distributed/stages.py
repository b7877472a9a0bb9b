"""Which rank trains which modules."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.amp.grad_scaler import OptState
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.distributed_c10d import _set_pg_timeout
from torch.nn.utils import clip_grads_with_norm_, get_total_norm


class Stages:
    """A mesh of stages x replicas: rank = stage * replicas + replica.

    A stage is one or more modules that follow one another. The ranks of one
    replica are a pipeline; those of one stage average their gradients.

    Args:
        sizes (Sequence[int]): Modules of each stage.
        device (torch.device): Of this rank.
        timeout (float, optional): Seconds after which what is sent or reduced
            fails. Defaults to None, that of torch.

    Attributes:
        index (int): The stage of this rank.
        modules (range): What it trains.
        replicas (int): Ranks of each stage.
        pipeline (list[int]): The ranks of this replica, by stage.
        across (dist.ProcessGroup): The same ranks.
        across_on_host (dist.ProcessGroup): The same, for what is on the host.
        within (dist.ProcessGroup): The ranks of this stage.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        device: torch.device,
        timeout: float | None = None,
    ):
        self.sizes = list(sizes)
        self.device = device
        self.replicas = dist.get_world_size() // len(sizes)
        mesh = init_device_mesh(
            device.type,
            (len(sizes), self.replicas),
            mesh_dim_names=('stage', 'replica'),
        )
        self.index = mesh.get_local_rank('stage')
        self.replica = mesh.get_local_rank('replica')
        self.across = mesh.get_group('stage')
        self.within = mesh.get_group('replica')
        self.pipeline = dist.get_process_group_ranks(self.across)
        self.modules = self.modules_of(self.index)
        self.across_on_host = self._on_host()
        if timeout is not None:
            for group in (self.across, self.within, self.across_on_host):
                # A mesh takes none, so as torchtitan does
                # (https://github.com/pytorch/pytorch/issues/119613).
                _set_pg_timeout(timedelta(seconds=timeout), group)

    @property
    def count(self) -> int:
        """S."""
        return len(self.sizes)

    @property
    def is_last(self) -> bool:
        """Whether this one has the last module and the model's own head."""
        return self.index == self.count - 1

    def modules_of(self, stage: int) -> range:
        """What a stage trains."""
        begin = sum(self.sizes[:stage])
        return range(begin, begin + self.sizes[stage])

    def one_more_group(self) -> dist.ProcessGroup:
        """Another group of the ranks of this stage; all ranks ask for it."""
        count = self.replicas
        ranks = [range(s * count, (s + 1) * count) for s in range(self.count)]
        return dist.new_subgroups_by_enumeration([[*r] for r in ranks])[0]

    def clip_grad_norm(
        self,
        params: Sequence[Tensor],
        max_norm: float,
        norm_type: float = 2.0,
        error_if_nonfinite: bool = False,
        foreach: bool | None = None,
    ) -> Tensor:
        """:func:`torch.nn.utils.clip_grad_norm_` over all stages."""
        grads = [param.grad for param in params]
        norm = torch.zeros((), device=self.device)
        if grads:
            norm = get_total_norm(grads, norm_type, False, foreach)
        if norm_type == float('inf'):
            dist.all_reduce(norm, dist.ReduceOp.MAX, self.across)
        else:
            norm = norm**norm_type
            dist.all_reduce(norm, group=self.across)
            norm = norm ** (1 / norm_type)
        if error_if_nonfinite and not norm.isfinite():
            raise RuntimeError(f'the norm of all gradients is {norm.item()}')
        clip_grads_with_norm_(params, max_norm, norm, foreach)
        return norm

    def scaler_like(self, other: Any) -> torch.amp.GradScaler:
        """A loss scaler like another one, which all stages agree on."""
        if not other.is_enabled():
            return other
        scaler = _StageGradScaler(self)
        scaler.load_state_dict(other.state_dict())
        # Also where a step brings no gradient.
        scaler.scale(torch.zeros((), device=self.device))
        return scaler

    def _on_host(self) -> dist.ProcessGroup:
        if self.device.type == 'cpu':
            return self.across
        count, step = dist.get_world_size(), self.replicas
        ranks = [[*range(first, count, step)] for first in range(step)]
        return dist.new_subgroups_by_enumeration(ranks, backend='gloo')[0]


class _StageGradScaler(torch.amp.GradScaler):
    """An overflow in any stage skips the step of all."""

    def __init__(self, stages: Stages):
        super().__init__(stages.device.type)
        self._stages = stages

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        super().unscale_(optimizer)
        state = self._per_optimizer_states[id(optimizer)]
        found = state['found_inf_per_device']
        device = self._stages.device
        if not found:
            found[device] = torch.zeros((), device=device)
        for flag in found.values():
            dist.all_reduce(flag, dist.ReduceOp.MAX, self._stages.across)

    def step(
        self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any
    ) -> float | None:
        state = self._per_optimizer_states[id(optimizer)]
        if state['stage'] is OptState.READY:
            # Fused optimizers would look for overflows of their own.
            self.unscale_(optimizer)
        return super().step(optimizer, *args, **kwargs)


def number_of_stages(
    stages: int | Sequence[int] | None, modules: int, ranks: int
) -> int:
    """Into how many stages ranks are divided.

    Args:
        stages (int | Sequence[int], optional): As in the config.
        modules (int): K.
        ranks (int): In all.

    Raises:
        ValueError: If modules or ranks cannot be divided like that.
    """
    key = 'model_wrapper_cfg.stages'
    fitting = [s for s in range(2, modules + 1) if ranks % s == 0]
    hint = (
        f'write one of {fitting}'
        if fitting
        else f'start another number of ranks than {ranks}'
    )
    if modules < 2:
        raise ValueError(
            'model.backbone.boundaries is empty: there is one module, and '
            'nothing to distribute. Write where to cut, or model_wrapper_cfg='
            "dict(type='mmlocal.LocalDistributedDataParallel')."
        )
    if stages is None:
        if ranks % modules and ranks > modules:
            raise ValueError(
                f'{ranks} ranks cannot be divided evenly among {modules} '
                f'modules: for {key} (several modules a stage) {hint}.'
            )
        return min(modules, ranks)
    if isinstance(stages, int):
        count = stages
    else:
        count = len(stages)
        if sum(stages) != modules or min(stages, default=0) < 1:
            raise ValueError(
                f'{key}={list(stages)} are modules of each stage, in order: '
                f'there are {modules}, and each stage has at least one.'
            )
    if count > modules:
        raise ValueError(
            f'{key}: {count} stages are more than the {modules} modules; '
            f'{hint}.'
        )
    if count < 1 or ranks % count:
        raise ValueError(
            f'{key}: {ranks} ranks cannot be divided into {count} stages; '
            f'{hint}.'
        )
    return count


def sizes_of(
    stages: int | Sequence[int] | None, modules: int, ranks: int
) -> list[int] | None:
    """Modules of each stage; None if that is to be planned.

    Raises:
        ValueError: As :func:`number_of_stages`.
    """
    count = number_of_stages(stages, modules, ranks)
    if count == modules:
        return [1] * count
    if count == 1:
        return [modules]
    return None if stages is None or isinstance(stages, int) else list(stages)
