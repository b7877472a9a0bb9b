"""What operators give, remembered by the shapes that they take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

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
PLAIN = int, float, str, torch.dtype, torch.device, torch.memory_format


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


# torch remembers it, too, and takes much of the time of a step to look it up.
LAYOUTS: dict[tuple, list[_Layout | None] | _Layout | None] = {}


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
    tensors: list[Tensor] = []
    key = _key(func, args, kwargs, mode, tensors)
    if key is None:
        return run(func, args, kwargs)
    if key not in LAYOUTS:
        result = run(func, args, kwargs)
        LAYOUTS[key] = _layouts(result, tensors)
        return result
    found = LAYOUTS[key]
    if found is None:
        return run(func, args, kwargs)
    if func in IN_PLACE:
        return tensors[0]
    if isinstance(found, _Layout):
        return found.build(mode, tensors)
    return tuple(each and each.build(mode, tensors) for each in found)


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
        if isinstance(value, FakeTensor):
            if value.fake_mode is not mode or value.constant is not None:
                return None
            tensors.append(value)
            offset = value.storage_offset()
            key += value.shape, value.stride(), offset, value.dtype
            key.append(value.device)
        elif isinstance(value, list | tuple):
            if not all(type(each) in (int, float, bool) for each in value):
                return None
            key += len(value), *map(type, value), *value
        elif value is None or isinstance(value, PLAIN):
            key += type(value), value
        else:
            return None
    return tuple(key)


@cache
def _depends_on_shapes(func: Any) -> bool:
    """Whether an operator changes nothing, and returns tensors alone."""
    schema = func._schema
    return (
        func.namespace == 'aten'
        and not schema.is_mutable
        and func is not aten.lift_fresh.default
        and torch.Tag.dynamic_output_shape not in func.tags
        and torch.Tag.data_dependent_output not in func.tags
        and bool(schema.returns)
        and all(str(value.type) == 'Tensor' for value in schema.returns)
    )


def _layouts(
    result: Any, tensors: Sequence[Tensor]
) -> list[_Layout | None] | _Layout | None:
    if isinstance(result, Tensor):
        return _Layout.of(result, tensors)
    found = []
    for out in result:
        layout = None if out is None else _Layout.of(out, tensors)
        if layout is None and out is not None:
            return None
        found.append(layout)
    return found


def _extent(tensor: Tensor) -> int:
    """Elements from the first to the last one."""
    if not tensor.numel():
        return 0
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return 1 + sum((size - 1) * stride for size, stride in pairs)
