from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from mmlocal.fake_tensors import (
    FakeOps,
    fake_copy,
    fake_input,
    fake_mode,
    uninitialized_weights,
)


def test_masks_select_all_and_numbers_are_known():
    mode = fake_mode()
    with mode, FakeOps(mode):
        x = torch.randn(2, 3, 4)
        mask = x[:, 0] > 0
        assert x.transpose(1, 2)[mask].shape == (8, 3)
        assert x.masked_select(x > 0).shape == (24,)
        assert (x > 0).nonzero().shape == (24, 3)
        assert x.sum().item() == 1.0
        assert not (x > 0).any()
        x[x > 0] = 0


def negatives():
    """A mask as contrastive losses make it."""
    mask = 1 - torch.eye(4, dtype=torch.uint8)
    mask[(torch.arange(4), 2 * torch.arange(2).repeat(2))] = 0
    return mask


def test_masks_that_depend_on_no_data_are_known():
    count = int(negatives().sum())
    hidden = (torch.rand(2, 9) < 0.3).int()
    visible = 18 - int(hidden.sum())
    mode = fake_mode()
    with mode, FakeOps(mode):
        x, mask = torch.randn(3, 4, 4), negatives()
        assert x[:, mask == 1].shape == (3, count)
        assert x.masked_select(mask.bool()).shape == (3 * count,)
        assert mask.nonzero().shape == (count, 2)
        assert mask.sum().item() == count
        mask.random_(2)
        assert x[:, mask == 1].shape == (3, 16)
        # Of crops of two sizes, as SwAV finds them.
        sides = torch.tensor([8, 8, 4, 4, 4])
        counts = torch.unique_consecutive(sides, return_counts=True)[1]
        assert [int(end) for end in counts.cumsum(0)] == [2, 5]
        # Of patches, drawn by a pipeline.
        seen = ~fake_input(hidden, mode).bool()
        assert torch.randn(2, 9, 5)[seen].shape == (visible, 5)


def test_sizes_behind_a_mask_that_do_not_fit():
    mode = fake_mode()
    other = torch.ones(3)
    reason = 'broadcast.*mask that depends on data'
    with pytest.raises(ValueError, match=reason), mode, FakeOps(mode):
        x = torch.randn(8)
        x[x > 0] + mode.from_tensor(other)
    with pytest.raises(RuntimeError, match='broadcast'), mode, FakeOps(mode):
        torch.ones(8) + mode.from_tensor(other)


def test_unknown_operators_run_on_zeros_and_are_named():
    @torch.library.custom_op('mmlocal_test::double', mutates_args=())
    def double(x: torch.Tensor) -> torch.Tensor:
        return x.repeat(2)

    @torch.library.custom_op('mmlocal_test::broken', mutates_args=())
    def broken(x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError('no CPU kernel')

    mode = fake_mode()
    ops = FakeOps(mode)
    with mode, ops:
        assert double(torch.ones(3)).shape == (6,)
        with pytest.raises(RuntimeError, match='broken.*has no fake'):
            broken(torch.ones(3))
    assert ops.guessed == {'mmlocal_test.double.default'}


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('affine', [True, False])
@pytest.mark.parametrize('device', ['cpu', 'meta'])
def test_batch_norm_is_as_torch_takes_it_apart(training, affine, device):
    """Outputs, gradients and what backward keeps, by shape and strides."""
    mode = fake_mode()
    with mode, torch.device(device):
        feat = torch.empty(2, 3, 4, 5, dtype=torch.bfloat16)
        feat = feat.to(memory_format=torch.channels_last)
        grad = torch.empty_like(feat)
        affines = [torch.empty(3) if affine else None for _ in range(2)]
        running = [torch.empty(3) for _ in range(2)]
        forward = (feat, *affines, *running, training, 0.1, 1e-5)
        found, taken_apart = (
            run_batch_norm(forward, grad, ops)
            for ops in (FakeOps(mode), nullcontext())
        )
    assert found == taken_apart


def run_batch_norm(forward, grad, ops):
    """How all that comes out of it lies."""
    aten = torch.ops.aten
    feat, weight, _, mean, var, training, _, eps = forward
    with ops:
        outs = aten.native_batch_norm(*forward)
        backward = (grad, feat, weight, mean, var, *outs[1:], training, eps)
        affine = weight is not None
        outs += aten.native_batch_norm_backward(
            *backward, [True, affine, affine]
        )
    return [
        None
        if out is None
        else (out.shape, out.stride(), out.dtype, out.device)
        for out in outs
    ]


def test_copies_take_no_memory_and_are_apart():
    mode = fake_mode()
    real = nn.Linear(4, 4)
    first, second = (fake_copy(real, mode) for _ in range(2))
    assert first.weight.shape == (4, 4)
    assert isinstance(first.weight, nn.Parameter)
    storages = {m.weight.untyped_storage()._cdata for m in (first, second)}
    assert len(storages) == 2


def test_weights_are_left_alone():
    state = torch.get_rng_state()
    with uninitialized_weights():
        nn.Conv2d(3, 8, 3)
    assert torch.equal(torch.get_rng_state(), state)
