"""The weights of a stage, and the whole model's, on one rank at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from mmengine.utils import apply_to
from torch import Tensor, nn
from torch.optim import Optimizer

from mmlocal.step import LocalBackbone

from .records import listing
from .stages import Stages


class StageWeights:
    """Keeps what a stage trains, and gives the memory of the rest back.

    In the place of a weight of another stage there is one on the meta device,
    in the optimizer too: that has all weights, in the order in which one
    process has them, and states of its own alone.

    Args:
        model (nn.Module): Whole, and alike on all ranks.
        backbone (LocalBackbone): Of the model.
        stages (Stages): Who trains what.

    Raises:
        ValueError: If two stages share a weight.
    """

    def __init__(
        self, model: nn.Module, backbone: LocalBackbone, stages: Stages
    ):
        self._model, self._stages = model, stages
        self._keys = list(model.state_dict())
        self._stage_of = _Owners(model, backbone, stages)
        self._check_shared()
        # By the identity of weights that optimizers may still have.
        self._in_place_of: dict[int, Tensor] = {}
        model.register_state_dict_post_hook(_leave_out)

    def settle(self) -> None:
        """Move what this stage has to its device; release the rest."""
        stages = self._stages
        for prefix, module in self._model.named_modules():
            for held in (module._parameters, module._buffers):
                for name, tensor in held.items():
                    if tensor is None:
                        continue
                    stage = self._stage_of(f'{prefix}.{name}'.lstrip('.'))
                    if stage in (stages.index, None):
                        # As `nn.Module.to`: it stays the same object.
                        tensor.data = tensor.data.to(stages.device)
                    else:
                        held[name] = self._released(tensor)
        for module in self._model.modules():
            # Moves also what is no buffer, as the device of its inputs.
            if hasattr(module, 'cast_data'):
                module.to(stages.device)

    def settle_optimizer(self, optimizer: Optimizer) -> None:
        """Let an optimizer go of the weights of other stages."""
        for group in optimizer.param_groups:
            for place, weight in enumerate(group['params']):
                if id(weight) in self._in_place_of:
                    optimizer.state.pop(weight, None)
                    group['params'][place] = self._in_place_of[id(weight)]
        # Moves those of this stage to where the weights are.
        optimizer.load_state_dict(optimizer.state_dict())

    def _released(self, tensor: Tensor) -> Tensor:
        """A tensor without memory, the same one wherever it is shared."""
        meta = torch.empty_like(tensor, device='meta', requires_grad=False)
        if isinstance(tensor, nn.Parameter):
            meta = nn.Parameter(meta, requires_grad=False)
        return self._in_place_of.setdefault(id(tensor), meta)

    def gather(self, optimizer: Optimizer | None) -> dict[str, Any] | None:
        """Weights, buffers and states of the optimizer of all stages.

        All ranks of the first replica must call this.

        Returns:
            dict | None: On rank 0, ``state_dict`` with the keys and the order
            of the whole model, and ``state`` of the optimizer; on the host.
        """
        states: dict[int, Any] = {}
        if optimizer is not None:
            states = _to_host(optimizer.state_dict()['state'])
        mine = _to_host(self._model.state_dict()), states
        stages = self._stages
        if stages.replica:
            return None
        parts = [None] * stages.count if stages.index == 0 else None
        group = stages.across_on_host
        dist.gather_object(mine, parts, stages.pipeline[0], group)
        if parts is None:
            return None
        tensors, whole = {}, {}
        for own, state in parts:
            # What no module reads is on all stages: rank 0's.
            tensors = own | tensors
            whole |= state
        return {
            'state_dict': {key: tensors[key] for key in self._keys},
            'state': dict(sorted(whole.items())),
        }

    def _check_shared(self) -> None:
        owners: dict[int, dict[int | None, str]] = {}
        for name, tensor in _named_tensors(self._model, True):
            stage = self._stage_of(name)
            owners.setdefault(id(tensor), {})[stage] = name
        shared = [list(o.values()) for o in owners.values() if len(o) > 1]
        if shared:
            raise ValueError(
                f'{listing(shared[0])} are one weight, in modules of two '
                'stages: each rank has the weights of its own stage. Give '
                'each a weight of its own, or train with model_wrapper_cfg='
                "dict(type='mmlocal.LocalDistributedDataParallel')."
            )


class _Owners:
    """The stage of a parameter or buffer, by its name; None if all have it."""

    def __init__(
        self, model: nn.Module, backbone: LocalBackbone, stages: Stages
    ):
        prefix = next(n for n, m in model.named_modules() if m is backbone)
        prefix = f'{prefix}.' if prefix else ''
        found: dict[str, set[int]] = {}
        for stage in range(stages.count):
            for index in stages.modules_of(stage):
                names = [f'backbone.{n}' for n in backbone.module_state(index)]
                if index in backbone.module_heads:
                    head = backbone.module_heads[index]
                    inside = [n for n, _ in _named_tensors(head, True)]
                    names += [f'local_heads.{index}.{n}' for n in inside]
                for name in names:
                    found.setdefault(prefix + name, set()).add(stage)
        # Not of a module: the model's own heads. What is not in checkpoints,
        # as the mean of the images, is everywhere.
        for name in model.state_dict():
            found.setdefault(name, {stages.count - 1})
        self._found = found

    def __call__(self, name: str) -> int | None:
        stages = self._found.get(name, ())
        return next(iter(stages)) if len(stages) == 1 else None


def _named_tensors(
    module: nn.Module, twice: bool = False
) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers; a shared one under one or all of its names."""
    for named in (module.named_parameters, module.named_buffers):
        yield from named(remove_duplicate=not twice)


def _leave_out(
    module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict
) -> None:
    """What other stages have."""
    for key, value in list(state.items()):
        if isinstance(value, Tensor) and value.is_meta:
            del state[key]


def _to_host(value: Any) -> Any:
    return apply_to(
        value,
        lambda item: isinstance(item, Tensor),
        lambda tensor: tensor.detach().cpu(),
    )
