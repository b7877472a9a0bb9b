"""When the weights of a sharded model are whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import Partial, Replicate

from .shards import shard, shard_like


class Gathering:
    """Frees the units of a module when it is trained, gathers the next ahead.

    Units run in the same order in each step, which the first one shows. A
    unit that begins asks for the one behind it in the same module, so that
    its weights travel while this one computes. Where a step takes another
    way, the order is learned again.

    Args:
        units (Sequence[FSDPModule]): Each a root of its own.
        prefetch (bool): Whether to gather ahead.
    """

    def __init__(self, units: Sequence[FSDPModule], prefetch: bool):
        self.units = list(units)
        self.prefetch = prefetch
        # Units of a step, with the module that they belong to.
        self._order: list[tuple[FSDPModule, int]] = []
        self._seen: list[tuple[FSDPModule, int]] | None = None
        self._usual = True
        self._module = 0
        # Dicts, which keep the order that all ranks have alike.
        self._touched: dict[FSDPModule, None] = {}
        self._asked: dict[FSDPModule, None] = {}
        self._whole: dict[FSDPModule, list[_Weight]] = {}
        for unit in units:
            unit.register_forward_pre_hook(self._before)
            unit.register_forward_hook(self._after)
        self._prefetch_in_backward()

    def begin(self) -> None:
        """A forward in training begins."""
        self.end_module()
        self._module = 0
        self._seen, self._usual = [], True

    def end_module(self) -> None:
        """A module has been trained: free what its backward has not."""
        for unit in self._asked:
            unit.unshard()  # waits
        for unit in self._touched:
            unit.reshard()
        self._asked.clear()
        self._touched.clear()
        self._module += 1

    def finish(self) -> None:
        """The last module has been trained, too."""
        self.end_module()
        if self._seen is not None and self._order != self._seen:
            self._order = self._seen
            self._prefetch_in_backward()
        self._seen = None

    def reduce_late_gradients(self) -> None:
        """Reduce what arrived when its unit's backward was over.

        As those of a layer between a finished module and an output, which
        has a backward of its own inside of another one.
        """
        self.end_module()
        for unit in self.units:
            for weight in self._whole.get(unit, ()):
                weight.reduce()

    def _before(self, unit: FSDPModule, args: tuple) -> None:
        self._touched[unit] = None
        if unit not in self._whole:
            self._whole[unit] = [
                _Weight(module, name, whole)
                for module in unit.modules()
                for name, whole in module._parameters.items()
                if whole is not None
            ]
        self._asked.pop(unit, None)
        if self._seen is None or not torch.is_grad_enabled():
            return
        place = len(self._seen)
        self._seen.append((unit, self._module))
        self._usual &= self._order[place : place + 1] == self._seen[-1:]
        if not (self.prefetch and self._usual):
            return
        for following, module in self._order[place + 1 : place + 2]:
            if module == self._module and following not in self._touched:
                following.unshard(async_op=True)
                self._touched[following] = self._asked[following] = None

    def _after(self, unit: FSDPModule, args: tuple, output: Any) -> None:
        if not torch.is_grad_enabled():
            unit.reshard()

    def _prefetch_in_backward(self) -> None:
        """Let each unit ask for the one that is next in backward.

        torch does so by itself within one root; with roots that share a
        context it would go on into modules that have been trained.
        """
        before = {unit: unit for unit in self.units}
        last: tuple[FSDPModule | None, int] = (None, -1)
        for unit, module in self._order if self.prefetch else ():
            if module == last[1]:
                before[unit] = last[0]
            last = (unit, module)
        for unit, previous in before.items():
            unit.set_modules_to_backward_prefetch([previous])


@dataclass
class _Weight:
    """Of a unit; ``whole`` is what autograd knows, the same in each step."""

    module: nn.Module
    name: str
    whole: nn.Parameter

    def reduce(self) -> None:
        """Average the gradient that is left on it, into that of the shard."""
        grad, self.whole.grad = self.whole.grad, None
        if grad is None:
            return
        dist.all_reduce(grad)
        weight = self.module._parameters[self.name]
        grad = grad.to(weight.dtype) / dist.get_world_size()
        grad = shard_like(grad, weight)
        weight.grad = grad if weight.grad is None else weight.grad + grad


class LooseWeights:
    """Weights of a module that units are part of, whole for its forward.

    As the class token and the position embedding of a ViT. They are sharded
    along their longest side. Their gradients are averaged in each backward.

    Args:
        holder (nn.Module): Its forward uses them.
        names (Iterable[str]): Of the weights in it.
        mesh (DeviceMesh): Over which they are sharded.
    """

    def __init__(
        self, holder: nn.Module, names: Iterable[str], mesh: DeviceMesh
    ):
        self.names = list(names)
        for name in self.names:
            weight = holder._parameters[name]
            longest = max(range(weight.ndim), key=weight.shape.__getitem__)
            holder._parameters[name] = nn.Parameter(
                shard(weight, mesh, longest), weight.requires_grad
            )
        holder.register_forward_pre_hook(self._gather, prepend=True)
        holder.register_forward_hook(self._free, always_call=True)

    def _gather(self, holder: nn.Module, args: tuple) -> None:
        for name in self.names:
            # Found before the parameter, which stays for those who list it.
            vars(holder)[name] = _whole_for_forward(holder._parameters[name])

    def _free(self, holder: nn.Module, args: tuple, output: Any) -> None:
        for name in self.names:
            vars(holder).pop(name, None)


def _whole_for_forward(weight: nn.Parameter) -> Tensor:
    size = weight.device_mesh.size()
    whole = weight.redistribute(placements=[Replicate()])
    whole = whole.to_local(grad_placements=[Partial()])
    if whole.requires_grad:
        # gloo has no average.
        whole.register_hook(lambda grad: grad / size)
    return whole
