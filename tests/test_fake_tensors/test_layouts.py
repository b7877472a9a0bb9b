"""What is remembered is what torch works out."""

from __future__ import annotations

import re

import pytest
import torch
from torch.nn import functional as F

from mmlocal.fake_tensors import FakeOps, FakeTensorMode, fake_mode
from mmlocal.fake_tensors.layouts import OUTPUTS

IMAGES = (2, 3, 8, 6)


def halved(x) -> list:
    """As optimizers do it."""
    outs = [x.clone(), x[:, 1:].clone()]
    torch._foreach_mul_(outs, 0.5)
    return outs


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
    'lists': lambda x: torch._foreach_add([x, x.mT], [x, x.mT], alpha=2),
    'lists of two types': lambda x: torch._foreach_mul([x, x.half()], 2.0),
    'lists behind a number': lambda x: torch._foreach_pow(0.9, [x, x[0]]),
    'lists in place': halved,
}


def lie(outs, x) -> list:
    """How outputs lie, and which is where x is."""
    outs = [outs] if isinstance(outs, torch.Tensor) else outs
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
    OUTPUTS.clear()
    mode = fake_mode()
    for _ in range(2):
        with mode, FakeOps(mode):
            x = torch.empty(IMAGES)
            assert lie(OPERATORS[name](x), x) == expected
    assert OUTPUTS


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


def test_weights_may_be_real():
    """As when a network is looked at before it is cut."""
    conv, scale = (
        torch.nn.Conv2d(3, 4, 3, stride=2),
        torch.tensor(2.0).double(),
    )
    expected = lie(conv(torch.rand(IMAGES)) * scale, scale)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    OUTPUTS.clear()
    with mode, FakeOps(mode):
        x = torch.empty(IMAGES)
        for _ in range(2):
            assert lie(conv(x) * scale, scale) == expected
            view = conv.weight.mT.flatten(2)
            assert (view.shape, view.device) == ((4, 3, 9), scale.device)
    remembered = {key[0] for key, value in OUTPUTS.items() if value}
    aten = torch.ops.aten
    assert aten.convolution.default in remembered
    # A number that was written has a weaker type; weights stay where they lie.
    assert not remembered & {aten.mul.Tensor, aten.transpose.int}
    mode, words = fake_mode(), r'(4, 3, 3, 3) and (4,) that the model does not'
    with (
        mode,
        FakeOps(mode),
        pytest.raises(ValueError, match=re.escape(words)),
    ):
        conv(torch.empty(IMAGES))


def test_sparse_tensors_are_left_to_torch():
    mode = fake_mode()
    with mode, FakeOps(mode):
        sparse = torch.eye(4).to_sparse()
        for _ in range(2):
            assert torch.sparse.mm(sparse, torch.empty(4, 2)).shape == (4, 2)


def test_lists_are_remembered_tensor_by_tensor():
    mode = fake_mode()
    OUTPUTS.clear()
    with mode, FakeOps(mode):
        x, y = torch.empty(3), torch.empty(2, 5)
        first = torch._foreach_sqrt([x, y])
        remembered = {key: value for key, value in OUTPUTS.items() if value}
        second = torch._foreach_sqrt([y, x, y])
    assert [key[0] for key in remembered].count(
        torch.ops.aten._foreach_sqrt.default
    ) == len(first)
    assert remembered == {**OUTPUTS}
    assert [out.shape for out in second] == [y.shape, x.shape, y.shape]


def test_outputs_have_storages_of_their_own():
    mode = fake_mode()
    with mode, FakeOps(mode):
        x = torch.empty(3)
        outs = [x * 2, x * 2, x * 2]
    assert len({out.untyped_storage()._cdata for out in outs}) == 3
