"""A backbone as a chain of submodules, whose modules run alone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmlocal.fake_tensors import FakeTensorMode
from mmlocal.step import Stopped

from .cut_forward import cut_forward
from .tracing import flatten, plain_eval


class Chain:
    """Hands the modules of a cut backbone out as callables.

    One run on fake tensors finds the outermost submodules that follow one
    another, each taking exactly the tensor that the last one returned; none
    of them holds a boundary. Their names are resolved at each call, since
    SyncBN conversion and the like replace modules. What lies before the first
    boundary need not be such a chain: the backbone's own forward runs there,
    and ends at the boundary.

    Args:
        backbone (nn.Module): Returns one tensor, alone or in a list or tuple.
        boundaries (Sequence[str]): The first submodule of each next module,
            in forward order.
        input_shape (tuple[int, ...]): Of one input, as (C, H, W).

    Attributes:
        names (list[list[str]]): The submodules of each module, in order;
            none for a first module that is no chain.

    Raises:
        ValueError: If the backbone is no such chain; names the gap.

    Example:
        >>> chain = Chain(resnet, ['layer2', 'layer3'], (3, 224, 224))
        >>> feat = chain.run(1, chain.run(0, images))
    """

    def __init__(
        self,
        backbone: nn.Module,
        boundaries: Sequence[str],
        input_shape: tuple[int, ...],
    ):
        self.backbone = backbone
        self.boundaries = list(boundaries)
        record = _Record(backbone, tuple(input_shape))
        self.names: list[list[str]] = [[]]
        for name, opens_module in record.links(self.boundaries):
            if opens_module:
                self.names.append([])
            self.names[-1].append(name)
        if len(self.names) != len(self.boundaries) + 1:
            raise ValueError(record.gap(None, 0))
        self._structure = _without_tensor(record.outputs)

    def blocks(self, index: int) -> list[nn.Module]:
        """The submodules of a module, in forward order."""
        return [self.backbone.get_submodule(n) for n in self.names[index]]

    def run(self, index: int, feat: Tensor) -> Tensor:
        """A module's output.

        Args:
            index (int): Of the module, from 0.
            feat (Tensor): What it takes in: the images, or the output of the
                module before it.
        """
        if not self.names[index]:
            return self._run_beginning(feat)
        for block in self.blocks(index):
            feat = block(feat)
        return feat

    def _run_beginning(self, x: Tensor) -> Tensor:
        found: list[Tensor] = []

        def stop(index: int, feat: Tensor) -> Tensor:
            found.append(feat)
            raise Stopped

        first = self.backbone.get_submodule(self.boundaries[0])
        with suppress(Stopped):
            cut_forward(self.backbone, [first], x, stop)
        return found[0]

    def wrap(self, feat: Tensor) -> Any:
        """The last module's output, as the backbone returns it."""
        return _fill(self._structure, feat)


@dataclass
class _Call:
    """One call of a submodule: what it took, what it returned, and when."""

    name: str
    begin: int
    taken: Tensor | None
    end: int = 0
    returned: Tensor | None = None


class _Record:
    """All calls of submodules in one forward on fake tensors."""

    def __init__(self, backbone: nn.Module, input_shape: tuple[int, ...]):
        self.kind = type(backbone).__name__
        self.calls: list[_Call] = []
        self._open: list[_Call] = []
        self._time = 0
        handles = []
        for name, module in backbone.named_modules():
            if name:
                begin = partial(self._begin, name)
                handles += [
                    module.register_forward_pre_hook(begin, with_kwargs=True),
                    module.register_forward_hook(self._end),
                ]
        try:
            with (
                plain_eval(backbone),
                FakeTensorMode(allow_non_fake_inputs=True),
                torch.no_grad(),
            ):
                self.image = torch.zeros(2, *input_shape)
                self.outputs = backbone(self.image)
        finally:
            for handle in handles:
                handle.remove()

    def links(self, boundaries: Sequence[str]) -> list[tuple[str, bool]]:
        """The chain's submodules, and whether each opens a module.

        Raises:
            ValueError: If there is a gap.
        """
        found: list[tuple[str, bool]] = []
        last, tensor, time, place = self._last(), self.image, 0, None
        while tensor is not last or self._goes_on(tensor, time):
            link = self._next(tensor, time, boundaries)
            if link is not None:
                call, opens = link
                found.append((call.name, opens))
                tensor, time, place = call.returned, call.end, call.name
                continue
            if not boundaries or any(opens for _, opens in found):
                raise ValueError(self.gap(place, time))
            # The first module is no chain; go on at its end.
            found, place = [], boundaries[0]
            call = next(call for call in self.calls if call.name == place)
            if call.taken is None or call.begin <= time:
                raise ValueError(self.gap(place, time))
            tensor, time = call.taken, call.begin
        return found

    def _next(
        self, tensor: Tensor, time: int, boundaries: Sequence[str]
    ) -> tuple[_Call, bool] | None:
        """The outermost submodule that takes the tensor and returns one."""
        opens = False
        for call in self.calls:
            if call.begin < time or call.taken is not tensor:
                continue
            opens |= call.name in boundaries
            holds = any(b.startswith(f'{call.name}.') for b in boundaries)
            if not holds and call.returned is not None:
                return call, opens
        return None

    def _begin(
        self, name: str, module: nn.Module, args: tuple, kwargs: dict
    ) -> None:
        self._time += 1
        alone = len(args) == 1 and not kwargs and isinstance(args[0], Tensor)
        call = _Call(name, self._time, args[0] if alone else None)
        self.calls.append(call)
        self._open.append(call)

    def _end(self, module: nn.Module, args: tuple, output: Any) -> None:
        self._time += 1
        call = self._open.pop()
        call.end = self._time
        call.returned = output if isinstance(output, Tensor) else None

    def _last(self) -> Tensor:
        tensors = [t for t in flatten(self.outputs) if isinstance(t, Tensor)]
        if len(tensors) != 1:
            raise ValueError(
                f'model.backbone: {self.kind} returns {len(tensors)} '
                'tensors, so that its last module does not run from its '
                'input alone: set out_indices to the last stage (and the '
                "heads' in_index with it)."
            )
        return tensors[0]

    def _goes_on(self, tensor: Tensor, time: int) -> bool:
        """Whether a layer in place comes yet, as a last ReLU."""
        return any(
            call.begin >= time
            and call.taken is tensor
            and call.returned is tensor
            for call in self.calls
        )

    def gap(self, last: str | None, time: int) -> str:
        """Says where the chain ends."""
        behind = f'at {last!r}' if last else 'at its beginning'
        later = [call.name for call in self.calls if call.begin >= time]
        before = f' (next is {later[0]!r})' if later else ''
        return (
            f'model.backbone: {self.kind} is no chain of submodules '
            f'{behind}{before}: none takes exactly the one tensor that came '
            'before, because the forward itself computes there or passes '
            'more than one value. What runs modules alone (cached features, '
            'replay, delayed gradients) needs a chain, as ResNet, VGG or '
            'MobileNetV2 are; all modules at once and one after another '
            'without a cache train any backbone.'
        )


def _without_tensor(outputs: Any) -> Any:
    if isinstance(outputs, (list, tuple)):
        return type(outputs)(_without_tensor(value) for value in outputs)
    return None


def _fill(structure: Any, feat: Tensor) -> Any:
    if structure is None:
        return feat
    return type(structure)(_fill(value, feat) for value in structure)
