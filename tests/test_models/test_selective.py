"""What selective checkpointing keeps is what backward needs."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from mmlocal.models.checkpointing import checkpoint_blocks, watch_changes


class Attention(nn.Module):
    """Adds to products in place, as MViT does to its attention."""

    def __init__(self):
        super().__init__()
        self.query = nn.Linear(8, 8, bias=False)
        self.key = nn.Linear(8, 8)
        self.table = nn.Parameter(torch.randn(4, 4))

    def forward(self, x):
        query = self.query(x)
        query += x
        scores = query @ self.key(x).transpose(1, 2)
        view = scores[:, :, :]
        view += self.table
        return x + scores.softmax(2) @ x


class Fickle(nn.Module):
    """Changes its input or a product in place when it is told to."""

    changes = ''

    def __init__(self):
        super().__init__()
        self.key = nn.Linear(8, 8)
        self.table = nn.Parameter(torch.randn(4, 4))

    def forward(self, x):
        if self.changes == 'its input':
            x += 1
        scores = x @ self.key(x).transpose(1, 2)
        if self.changes == 'a product':
            scores += self.table
        else:
            scores = scores + self.table
        return x + scores.softmax(2) @ x


def gradients(net, x, passes=1, amp=False):
    net.zero_grad()
    with torch.autocast('cpu', torch.bfloat16, enabled=amp):
        loss = sum(net(x).float().square().sum() for _ in range(passes))
    loss.backward()
    return [weight.grad.clone() for weight in net.parameters()]


@pytest.fixture
def nets():
    """A net, and the same with checkpointed blocks."""
    torch.manual_seed(0)
    plain = nn.Sequential(Attention(), Attention())
    saving = deepcopy(plain)
    checkpoint_blocks(saving, dict.fromkeys(('0', '1'), 'selective'))
    return plain, saving


def test_products_that_are_changed_in_place(nets):
    plain, saving = nets
    x = torch.randn(2, 4, 8)
    expected = gradients(plain, x)
    # The first forward finds out, the second knows.
    for _ in range(2):
        for found, value in zip(gradients(saving, x), expected, strict=True):
            assert torch.equal(found, value)


def test_a_plain_forward_finds_them_too(nets):
    plain, saving = nets
    x = torch.randn(2, 4, 8)
    with watch_changes(saving), torch.no_grad():
        saving.eval()(x)
    saving.train()
    for found, value in zip(
        gradients(saving, x), gradients(plain, x), strict=True
    ):
        assert torch.equal(found, value)


def test_mixed_precision_with_two_passes(nets):
    """Autocast has the weights of the second pass cast already."""
    plain, saving = nets
    x = torch.randn(2, 4, 8)
    expected = gradients(plain, x, 2, amp=True)
    for _ in range(2):
        found = gradients(saving, x, 2, amp=True)
        for value, other in zip(found, expected, strict=True):
            assert torch.allclose(value, other, rtol=0.02, atol=0.02)


@pytest.mark.parametrize('mode', ['block', 'selective'])
@pytest.mark.parametrize('what', ['its input', 'a product'])
def test_a_block_that_changes_more_than_in_its_first_forward(mode, what):
    """Right gradients, or an error."""
    plain = nn.Sequential(nn.Linear(8, 8), Fickle())
    saving = deepcopy(plain)
    checkpoint_blocks(saving, {'1': mode})
    x = torch.randn(2, 4, 8)
    gradients(saving, x)
    for net in (plain, saving):
        net[1].changes = what
    if (mode, what) == ('block', 'a product'):
        for found, value in zip(
            gradients(saving, x), gradients(plain, x), strict=True
        ):
            assert torch.equal(found, value)
        return
    with pytest.raises(RuntimeError, match=f'Fickle changes {what} in place'):
        gradients(saving, x)
    saving[1].changes = ''
    gradients(saving, x)
