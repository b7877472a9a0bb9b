"""Operators on fake tensors, and what makes and fills these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from itertools import repeat
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from .layouts import remembered
from .private import (
    DynamicOutputShapeException,
    FakeCopyMode,
    FakeTensor,
    FakeTensorMode,
    TorchDispatchMode,
    UnsupportedOperatorException,
    _engine_run_backward,
    no_modes,
    tree_map_only,
)

aten = torch.ops.aten
# Half of what autograd asks for, and nothing that runs.
ASKS_DEVICE = torch.ops.prim.device.default
RANDOM_FILLS = {
    aten.uniform_.default,
    aten.normal_.default,
    aten.random_.default,
    aten.bernoulli_.float,
}


# Tensors of so many integers or truth values are computed for real.
MAX_KNOWN = 2**22


class FakeOps(TorchDispatchMode):
    """Runs what fake tensors alone cannot, with upper bounds.

    Integers and truth values that depend on no data, as the mask that leaves
    an image out of its own negatives, are known. Another mask selects
    everything; a number read from a tensor is 1, an integer 0, a truth value
    False; and an operator without a fake implementation runs once on zeros.

    Args:
        mode (FakeTensorMode, optional): Of the tensors that come by; None if
            they are real, and operators run as they are.

    Attributes:
        guessed (set[str]): Operators that had to run on zeros.

    Raises:
        ValueError: At the end, in place of a RuntimeError after a mask.
    """

    def __init__(self, mode: FakeTensorMode | None):
        super().__init__()
        self.mode = mode
        self.guessed: set[str] = set()
        self._selected = False

    def __exit__(self, kind, error, trace) -> None:
        """Say what may be behind sizes that do not fit."""
        super().__exit__(kind, error, trace)
        if self._selected and isinstance(error, RuntimeError):
            raise ValueError(
                f'{error} (On fake tensors a mask that depends on data '
                'selects everything: a model that counts on how many entries '
                'it has is not planned. It can be cut and trained all the '
                'same.)'
            ) from error

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        if func is ASKS_DEVICE:
            return args[0].device
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: tuple, kwargs: dict) -> Any:
        """Run an operator.

        Raises:
            RuntimeError: If the operator cannot run on fake tensors.
            ValueError: If it takes a tensor that is none.
        """
        if self.mode is None:
            return func(*args, **kwargs)
        result = self._run_fake(func, args, kwargs)
        outputs = tensors_of(result)
        if outputs and all(map(_can_be_known, outputs)):
            real = self._run_on_known(func, args, kwargs)
            values = repeat(None) if real is None else tensors_of(real)
            for output, value in zip(outputs, values, strict=False):
                output.known_value = value
        return result

    def _run_fake(self, func: Any, args: tuple, kwargs: dict) -> Any:
        if func is aten._local_scalar_dense.default:
            dtype, value = args[0].dtype, known(args[0])
            if value is not None:
                with no_modes():
                    return value.item()
            if dtype is torch.bool:
                return False
            return 1.0 if dtype.is_floating_point else 0
        if func in (aten.index.Tensor, aten.index_put_.default):
            places = [self._without_mask(index) for index in args[1]]
            args = (args[0], [i for each in places for i in each], *args[2:])
        elif func is aten.nonzero.default:
            shape = (self._count(args[0]), args[0].ndim)
            return args[0].new_empty(shape, dtype=torch.int64)
        elif func is aten.masked_select.default:
            shape = torch.broadcast_shapes(args[0].shape, args[1].shape)
            return args[0].new_empty(self._count(args[1], shape))
        return remembered(self.mode, func, args, kwargs, self._work_out)

    def _work_out(self, func: Any, args: tuple, kwargs: dict) -> Any:
        if func in SHORT_CUTS and args[0].device.type in ('cpu', 'meta'):
            return SHORT_CUTS[func](*args)
        try:
            return func(*args, **kwargs)
        except DynamicOutputShapeException:
            real = self._run_on_known(func, args, kwargs)
            if real is None:
                raise
            return tree_map_only(Tensor, self.mode.from_tensor, real)
        except (UnsupportedOperatorException, NotImplementedError):
            return self._run_on_zeros(func, args, kwargs)
        except AssertionError as error:
            if 'convert all Tensors to FakeTensors' not in str(error):
                raise
            raise ValueError(_of_another(func, args, kwargs)) from error
        except RuntimeError as error:
            # What torch.library says of an operator defined in Python.
            if 'no fake impl registered' not in str(error):
                raise
            return self._run_on_zeros(func, args, kwargs)

    def _without_mask(self, index: Tensor | None) -> list[Tensor | None]:
        """Positions in place of a mask."""
        if index is None or index.dtype not in (torch.bool, torch.uint8):
            return [index]
        count = self._count(index)
        return [index.new_empty(count, dtype=torch.int64)] * index.ndim

    def _count(self, mask: Tensor, shape: Sequence[int] = ()) -> int:
        """How many entries a mask selects, broadcast to a shape."""
        shape = tuple(shape) or tuple(mask.shape)
        value = known(mask)
        if value is None:
            self._selected = True
            return prod(shape)
        with no_modes():
            return int(value.expand(shape).count_nonzero())

    def _run_on_known(self, func: Any, args: tuple, kwargs: dict) -> Any:
        """What comes of known values; None if one is not known."""
        if func is aten.lift_fresh.default:
            with no_modes():
                return args[0].clone()
        values = [known(tensor) for tensor in tensors_of((args, kwargs))]
        is_random = torch.Tag.nondeterministic_seeded in func.tags
        if is_random or any(value is None for value in values):
            return None
        with no_modes():
            args, kwargs = tree_map_only(Tensor, known, (args, kwargs))
            return func(*args, **kwargs)

    def _run_on_zeros(self, func: Any, args: tuple, kwargs: dict) -> Any:
        try:
            # The tensors are no fake ones here, and no mode sees them.
            with no_modes():
                real = tree_map_only(Tensor, _zeros, (args, kwargs))
                result = func(*real[0], **real[1])
        except Exception as error:
            raise RuntimeError(
                f'the operator {func} has no fake implementation, and does '
                f'not run on zeros either ({error}): register one with '
                'torch.library.register_fake, or plan the model without the '
                'layer that calls it.'
            ) from error
        self.guessed.add(str(func))
        return tree_map_only(Tensor, self.mode.from_tensor, result)


def fake_mode() -> FakeTensorMode:
    """A mode that leaves unknown operators to :class:`FakeOps`."""
    return FakeTensorMode(allow_fallback_kernels=False)


def fake_input(tensor: Tensor, mode: FakeTensorMode) -> Tensor:
    """A fake tensor in place of one of a batch.

    A mask of the patches of an image, integers or truth values (H, W), is
    known.
    """
    fake = mode.from_tensor(tensor)
    if tensor.ndim == 2 and not tensor.is_floating_point():
        fake.known_value = tensor
    return fake


def known(tensor: Tensor) -> Tensor | None:
    """What is known of a fake tensor's values; torch knows single numbers."""
    value = getattr(tensor, 'known_value', None)
    return getattr(tensor, 'constant', None) if value is None else value


def fake_copy(module: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """A copy whose parameters and buffers take no memory."""
    with FakeCopyMode(mode):
        return deepcopy(module)


def tensors_of(value: Any) -> list[Tensor]:
    """All tensors in nested lists, tuples and dicts."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return []
    return [tensor for each in value for tensor in tensors_of(each)]


def run_backward(
    loss: Tensor,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """``loss.backward()``, without asking modes that override functions.

    A mode is off while it handles a call; this one leaves it on for what
    checkpointed blocks recompute.
    """
    _engine_run_backward(
        (loss,),
        (torch.ones_like(loss),),
        create_graph if retain_graph is None else retain_graph,
        create_graph,
        (),
        allow_unreachable=True,
        accumulate_grad=True,
    )


@contextmanager
def uninitialized_weights() -> Iterator[None]:
    """Leave weights as they are allocated, where only shapes matter."""
    with _SkipRandomFills():
        yield


class _SkipRandomFills(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        if func in RANDOM_FILLS:
            return args[0]
        return func(*args, **(kwargs or {}))


def _of_another(func: Any, args: tuple, kwargs: dict) -> str:
    """What is wrong with real tensors among fake ones."""
    shapes = [
        str(tuple(tensor.shape))
        for tensor in tensors_of((args, kwargs))
        if not isinstance(tensor, FakeTensor)
    ]
    return (
        f'{func} takes a tensor {" and ".join(shapes)} that the model does '
        'not hold, but a class, or a Python module does: what it takes is not '
        'planned. Let the layer that makes it keep it, as with '
        'register_buffer.'
    )


def _can_be_known(tensor: Tensor) -> bool:
    return (
        not (tensor.is_floating_point() or tensor.is_complex())
        and tensor.numel() <= MAX_KNOWN
        and tensor.device.type == 'cpu'
    )


def _zeros(value: Tensor) -> Tensor:
    shape = tuple(int(side) for side in value.shape)
    return torch.zeros(shape, dtype=value.dtype)


def _batch_norm(
    feat: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    *others: float,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype, size = feat.dtype, feat.shape[1]
    if feat.device.type == 'meta':
        dtype = torch.promote_types(dtype, torch.float32)
    elif not training:
        size = 0
    mean = feat.new_empty(size, dtype=dtype)
    return torch.empty_like(feat), mean, torch.empty_like(mean)


def _batch_norm_backward(
    grad: Tensor, feat: Tensor, weight: Tensor | None, *others: Any
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    *_, (_, of_weight, of_bias) = others
    like = feat if weight is None else weight
    return (
        torch.empty_like(feat),
        like.new_empty(feat.shape[1]) if of_weight else None,
        like.new_empty(feat.shape[1]) if of_bias else None,
    )


# On fake tensors torch runs the dozens of operators that these are made of:
# more than half the time of finding the cuts of a ResNet.
SHORT_CUTS = {
    aten.native_batch_norm.default: _batch_norm,
    aten.native_batch_norm_backward.default: _batch_norm_backward,
}
