"""A recurrent context, with and without gradients through time."""

import pytest
import torch
from torch import nn

from mmlocal.models.gru_context import GRUContext


@pytest.mark.parametrize('bptt', [True, False])
def test_equals_a_loop_over_a_cell(bptt):
    """Without bptt the state of each position is detached."""
    context = GRUContext(5, 3, bptt)
    cell = nn.GRUCell(5, 3)
    cell.load_state_dict(
        {k.removesuffix('_l0'): v for k, v in context.state_dict().items()}
    )
    feat = torch.randn(2, 5, 7, requires_grad=True)
    state, states = torch.zeros(2, 3), []
    for column in feat.unbind(2):
        state = cell(column, state if bptt else state.detach())
        states.append(state)
    expected, found = torch.stack(states, 2), context(feat)
    torch.testing.assert_close(found, expected)
    inputs = feat, context.weight_hh_l0
    grads = torch.autograd.grad(found.square().sum(), inputs)
    inputs = feat, cell.weight_hh
    references = torch.autograd.grad(expected.square().sum(), inputs)
    for grad, reference in zip(grads, references, strict=True):
        torch.testing.assert_close(grad, reference)


def test_a_context_does_not_see_what_comes():
    context, feat = GRUContext(5, 3), torch.randn(1, 5, 7)
    changed = feat.clone()
    changed[:, :, 4:] += 1
    before, after = context(feat), context(changed)
    assert torch.equal(before[:, :, :4], after[:, :, :4])
    assert (before[:, :, 4:] != after[:, :, 4:]).any()
