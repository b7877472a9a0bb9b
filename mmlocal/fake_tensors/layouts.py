"""What operators give, remembered by the shapes that they take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .private import FakeTensor, FakeTensorMode, no_dispatch

aten = torch.ops.aten
# They return what they change, which lies as it did.
IN_PLACE = {
    aten.add_.Tensor,
    aten.addcdiv_.default,
    aten.addcmul_.default,
    aten.copy_.default,
    aten.div_.Tensor,
    aten.mul_.Tensor,
    aten.relu_.default,
    aten.zero_.default,
}
PLAIN = (
    int,
    float,
    str,
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
)


class _Layout(NamedTuple):
    """How an output lies, in a storage of its own or in an argument's."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    offset: int
    source: int | None

    @classmethod
    def of(cls, out: Tensor, tensors: Sequence[Tensor]) -> _Layout | None:
        """None where that does not say all of it."""
        if out.is_complex() or out.constant is not None:
            return None
        if out.layout is not torch.strided:
            return None
        storage = out.untyped_storage()
        size, offset = storage.nbytes(), out.storage_offset()
        sources = [tensor.untyped_storage()._cdata for tensor in tensors]
        source = None
        if storage._cdata in sources:
            source = sources.index(storage._cdata)
        elif offset or size != _extent(out) * out.itemsize:
            return None
        form = out.shape, out.stride(), out.dtype, out.device
        return cls(*form, offset, source)

    def build(self, mode: FakeTensorMode, tensors: Sequence[Tensor]) -> Tensor:
        with no_dispatch():
            if self.source is None:
                meta = torch.empty_strided(
                    *(self.shape, self.stride),
                    dtype=self.dtype,
                    device='meta',
                )
            else:
                storage = tensors[self.source].untyped_storage()
                meta = torch.empty(0, dtype=self.dtype, device='meta')
                meta.set_(storage, self.offset, self.shape, self.stride)
            return FakeTensor(mode, meta, self.device)


class _Outputs(NamedTuple):
    """What an operator returns: tensors, in a list or tuple, or nothing."""

    kind: type
    layouts: list[_Layout | None]

    @classmethod
    def of(cls, result: Any, tensors: Sequence[Tensor]) -> _Outputs | None:
        """None where layouts do not say all of it."""
        if result is None:
            return cls(type(None), [])
        kind = type(result) if isinstance(result, list | tuple) else Tensor
        outs = [result] if kind is Tensor else result
        layouts = [
            None if out is None else _Layout.of(out, tensors) for out in outs
        ]
        for out, layout in zip(outs, layouts, strict=True):
            if layout is None and out is not None:
                return None
        return cls(kind, layouts)

    def build(self, mode: FakeTensorMode, tensors: Sequence[Tensor]) -> Any:
        outs = [each and each.build(mode, tensors) for each in self.layouts]
        if self.kind is type(None):
            return None
        return outs[0] if self.kind is Tensor else self.kind(outs)


# torch remembers it, too, and takes much of the time of a step to look it up.
OUTPUTS: dict[tuple, _Outputs | None] = {}


def remembered(
    mode: FakeTensorMode,
    func: Any,
    args: tuple,
    kwargs: dict,
    run: Callable[[Any, tuple, dict], Any],
) -> Any:
    """What an operator gives.

    Args:
        mode (FakeTensorMode): Of the tensors.
        func (Any): The operator.
        args (tuple): Of it.
        kwargs (dict): Of it.
        run (Callable): Runs it, where that cannot be told from what it gave
            to tensors of these shapes and to these numbers before.
    """
    if _takes_lists(func) and _length(args) != 1:
        outs = [
            remembered(mode, func, *each, run)
            for each in _one_by_one(args, kwargs)
        ]
        return [out for (out,) in outs] if func._schema.returns else None
    tensors: list[Tensor] = []
    key = _key(func, args, kwargs, mode, tensors)
    if key is None:
        return run(func, args, kwargs)
    if key not in OUTPUTS:
        result = run(func, args, kwargs)
        OUTPUTS[key] = _Outputs.of(result, tensors)
        return result
    found = OUTPUTS[key]
    if found is None:
        return run(func, args, kwargs)
    if func in IN_PLACE:
        return tensors[0]
    return found.build(mode, tensors)


def _key(
    func: Any,
    args: tuple,
    kwargs: dict,
    mode: FakeTensorMode,
    tensors: list[Tensor],
) -> tuple | None:
    """What the outputs depend on; None if that may be more than shapes.

    Args:
        tensors (list[Tensor]): The arguments' are added.
    """
    if func not in IN_PLACE and not _depends_on_shapes(func):
        return None
    key = [func, torch.get_default_dtype()]
    values = (*args, *kwargs, *kwargs.values()) if kwargs else args
    for value in values:
        if isinstance(value, list | tuple):
            key.append(len(value))
            parts = value
        else:
            parts = (value,)
        for part in parts:
            if isinstance(part, Tensor) and part.layout is not torch.strided:
                return None
            if isinstance(part, FakeTensor):
                if part.fake_mode is not mode or part.constant is not None:
                    return None
                tensors.append(part)
                key += _form(part)
            elif isinstance(part, Tensor):
                if not (_is_weight(part) and mode.allow_non_fake_inputs):
                    return None
                if _gives_views(func):
                    return None
                key += _form(part)
            elif part is None or isinstance(part, PLAIN):
                key += type(part), part
            else:
                return None
    return tuple(key)


def _is_weight(tensor: Tensor) -> bool:
    """Of a network whose weights are real; no number that was written, which
    has a weaker type."""
    return tensor.ndim > 0 and type(tensor) in (Tensor, nn.Parameter)


def _form(tensor: Tensor) -> tuple:
    return (
        *(tensor.shape, tensor.stride(), tensor.storage_offset()),
        *(tensor.dtype, tensor.device),
    )


@cache
def _gives_views(func: Any) -> bool:
    return any(value.alias_info for value in func._schema.returns)


@cache
def _takes_lists(func: Any) -> bool:
    """Whether an operator treats the tensors of a list one by one."""
    return func._schema.name.startswith('aten::_foreach_')


def _length(args: tuple) -> int:
    """Of the lists among arguments; there is one at least."""
    return next(len(v) for v in args if isinstance(v, list | tuple))


def _one_by_one(args: tuple, kwargs: dict) -> Iterator[tuple[tuple, dict]]:
    """Arguments with lists of one."""
    for place in range(_length(args)):
        one = slice(place, place + 1)
        yield (
            tuple(v[one] if isinstance(v, list | tuple) else v for v in args),
            kwargs,
        )


@cache
def _depends_on_shapes(func: Any) -> bool:
    """Whether an operator changes nothing, and returns tensors alone; or is
    one in place on lists of tensors, and returns nothing."""
    schema = func._schema
    returns = [str(value.type) for value in schema.returns]
    if func.namespace != 'aten':
        return False
    if schema.is_mutable:
        return _takes_lists(func) and not returns
    return (
        func is not aten.lift_fresh.default
        and torch.Tag.dynamic_output_shape not in func.tags
        and torch.Tag.data_dependent_output not in func.tags
        and returns in (['List[Tensor]'], ['Tensor'] * len(returns))
        and bool(returns)
    )


def _extent(tensor: Tensor) -> int:
    """Elements from the first to the last one."""
    if not tensor.numel():
        return 0
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return 1 + sum((size - 1) * stride for size, stride in pairs)
