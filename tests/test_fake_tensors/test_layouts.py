"""What is remembered is what torch works out."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from mmlocal.fake_tensors import FakeOps, fake_mode
from mmlocal.fake_tensors.layouts import LAYOUTS

IMAGES = (2, 3, 8, 6)
OPERATORS = {
    'new': lambda x: torch.zeros(2, 3),
    'cast': lambda x: x.to(torch.bfloat16),
    'mixed types': lambda x: x.half() * x.double(),
    'comparison': lambda x: x > 1,
    'pooling': lambda x: F.max_pool2d(x, 2, return_indices=True),
    'convolution': lambda x: F.conv2d(x, x[:, :, :3, :3]),
    'channels last': lambda x: F.avg_pool2d(
        x.to(memory_format=torch.channels_last), 2
    ),
    'view': lambda x: x[:, 1:].transpose(1, 2),
    'view of a view': lambda x: x[1:].flatten(1)[:, 2:],
    'views': lambda x: x.unbind(1),
    'joined': lambda x: torch.cat([x, x], 1),
    'expanded': lambda x: x[:, :1].expand(2, 5, 8, 6),
    'in place': lambda x: x.clone().add_(1).relu_(),
    'statistics': lambda x: torch.var_mean(x, (0, 2, 3)),
    'dropout': lambda x: F.dropout(x, 0.5),
}


def lie(outs, x) -> list:
    """How outputs lie, and which is where x is."""
    outs = outs if isinstance(outs, tuple) else (outs,)
    return [
        (
            *(out.shape, out.stride(), out.storage_offset(), out.dtype),
            out.untyped_storage().nbytes(),
            out.untyped_storage()._cdata == x.untyped_storage()._cdata,
        )
        for out in outs
    ]


@pytest.mark.parametrize('name', OPERATORS)
def test_operators_give_what_they_give_on_real_tensors(name):
    """The first time they run, the second one it is remembered."""
    real = torch.rand(IMAGES)
    expected = lie(OPERATORS[name](real), real)
    LAYOUTS.clear()
    mode = fake_mode()
    for _ in range(2):
        with mode, FakeOps(mode):
            x = torch.empty(IMAGES)
            assert lie(OPERATORS[name](x), x) == expected
    assert LAYOUTS


def test_modes_do_not_share_tensors():
    for mode in (fake_mode(), fake_mode()):
        with mode, FakeOps(mode):
            out = torch.empty(3) * 2
        assert out.fake_mode is mode


def test_numbers_of_other_types_are_other_operators():
    mode = fake_mode()
    with mode, FakeOps(mode):
        x = torch.empty(3, dtype=torch.int64)
        found = [(x * number).dtype for number in (2, 2.0, 2, 2.0, True)]
    integer, single = torch.int64, torch.float32
    assert found == [integer, single, integer, single, integer]


def test_known_values_are_not_confused():
    """Integers that depend on no data are computed, not remembered."""
    mode = fake_mode()
    with mode, FakeOps(mode):
        counts = [int((torch.arange(4) < n).sum()) for n in (1, 3)]
    assert counts == [1, 3]


def test_outputs_have_storages_of_their_own():
    mode = fake_mode()
    with mode, FakeOps(mode):
        x = torch.empty(3)
        outs = [x * 2, x * 2, x * 2]
    assert len({out.untyped_storage()._cdata for out in outs}) == 3
