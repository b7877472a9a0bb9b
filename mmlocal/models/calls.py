"""Which submodule of a backbone takes what another one returned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmlocal.fake_tensors import FakeOps, FakeTensorMode

from .structure import flatten, map_leaves
from .tracing import outputs_of, plain_eval


@dataclass
class Call:
    """One call of a submodule.

    Attributes:
        name (str): The submodule.
        begin (int): When it was called, in calls and returns.
        taken (int, optional): Number of the one tensor it took and nothing
            else.
        end (int): When it returned.
        returned (int, optional): Number of the one tensor it returned.
    """

    name: str
    begin: int
    taken: int | None
    end: int = 0
    returned: int | None = None


class Calls:
    """All calls of submodules in one forward on fake tensors.

    Tensors are told apart by identity, and numbered.

    Args:
        backbone (nn.Module): What runs, in eval mode.
        input_shape (tuple[int, ...]): Of one input, as (C, H, W).

    Attributes:
        calls (list[Call]): In the order in which they begin.
        outputs (Any): The backbone's, with numbers in place of tensors.
    """

    def __init__(self, backbone: nn.Module, input_shape: tuple[int, ...]):
        self.kind = type(backbone).__name__
        self.calls: list[Call] = []
        self._time = 0
        numbers = _Numbers()
        opened: list[Call] = []

        def begin(name: str, module: nn.Module, args: tuple, kwargs: dict):
            self._time += 1
            alone = len(args) == 1 and not kwargs
            taken = numbers.of(args[0]) if alone else None
            opened.append(Call(name, self._time, taken))
            self.calls.append(opened[-1])

        def end(module: nn.Module, args: tuple, output: Any) -> None:
            self._time += 1
            call = opened.pop()
            call.end, call.returned = self._time, numbers.of(output)

        handles = []
        for name, module in backbone.named_modules():
            if name:
                handles += [
                    module.register_forward_pre_hook(
                        partial(begin, name), with_kwargs=True
                    ),
                    module.register_forward_hook(end),
                ]
        # May come in the middle of a training step: on an accelerator, and
        # where autocast would keep fake copies of weights.
        weight = next(backbone.parameters(), torch.empty(0))
        # Where weights take no memory, there is no autocast.
        device = 'cpu' if weight.is_meta else weight.device.type
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        try:
            with (
                plain_eval(backbone),
                torch.autocast(device, enabled=False),
                mode,
                FakeOps(mode),
                torch.no_grad(),
            ):
                image = weight.new_zeros((2, *input_shape))
                self._first = numbers.of(image)
                outputs = outputs_of(backbone, image)
        finally:
            for handle in handles:
                handle.remove()
        self.outputs = map_leaves(outputs, numbers.of)
        self.output_numbers = [
            number for number in flatten(self.outputs) if number is not None
        ]

    def links(self, boundaries: Sequence[str]) -> list[list[Call]]:
        """The calls that make up each module of a chain, in order.

        Raises:
            ValueError: If there is a gap.
        """
        modules: list[list[Call]] = [[]]
        tensor, time, place = self._first, 0, None
        while not self._is_end(tensor, time):
            link = self._next(tensor, time, boundaries)
            if link is not None:
                call, opens = link
                modules += [[]] * opens
                modules[-1] = [*modules[-1], call]
                tensor, time, place = call.returned, call.end, call.name
                continue
            if not boundaries or len(modules) > 1:
                raise ValueError(self.gap(place, time))
            # The first module is no chain; go on at its end.
            modules, place = [[]], boundaries[0]
            call = next(call for call in self.calls if call.name == place)
            if call.taken is None or call.begin <= time:
                raise ValueError(self.gap(place, time))
            tensor, time = call.taken, call.begin
        if len(modules) != len(boundaries) + 1:
            raise ValueError(self.gap(None, 0))
        self._check_outputs(modules)
        return modules

    def _next(
        self, tensor: int, time: int, boundaries: Sequence[str]
    ) -> tuple[Call, bool] | None:
        """The outermost submodule that takes the tensor and returns one."""
        opens = False
        for call in self.calls:
            if call.begin < time or call.taken != tensor:
                continue
            opens |= call.name in boundaries
            holds = any(b.startswith(f'{call.name}.') for b in boundaries)
            if not holds and call.returned is not None:
                return call, opens
        return None

    def _is_end(self, tensor: int, time: int) -> bool:
        """Whether no link comes any more.

        A layer in place may come yet, as a last ReLU: it returns the tensor
        that it took.
        """
        return tensor == self.output_numbers[-1] and not any(
            call.begin >= time and call.taken == tensor == call.returned
            for call in self.calls
        )

    def _check_outputs(self, modules: list[list[Call]]) -> None:
        of_last = {call.returned for call in modules[-1]}
        missing = [n for n in self.output_numbers if n not in of_last]
        if missing:
            index = self.output_numbers.index(missing[0])
            raise ValueError(
                f'model.backbone: outs[{index}] of {self.kind} does not come '
                'from its last module alone, which therefore does not run '
                'from its input alone: leave it out of out_indices (and '
                "shift the heads' in_index), or cut before it."
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


class _Numbers:
    """Numbers tensors by identity; keeps them, so that none is used twice."""

    def __init__(self):
        self._seen: dict[int, tuple[int, Tensor]] = {}

    def of(self, value: Any) -> int | None:
        """The number of a tensor; None of anything else."""
        if not isinstance(value, Tensor):
            return None
        new = len(self._seen), value
        return self._seen.setdefault(id(value), new)[0]
