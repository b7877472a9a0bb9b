"""What CPC's contexts see, and how the gated PixelCNN is wired."""

import pytest
import torch
from torch.nn import functional as F

from mmlocal.models.local_heads import GatedPixelCNN


def test_published_parameters():
    """All but the vertical residual of the last layer, which nobody reads."""
    with torch.device('meta'):
        net = GatedPixelCNN(1024)
    total = sum(p.numel() for p in net.parameters())
    assert total == 129_010_688 - 2_099_200


def test_what_a_context_sees():
    """Rows r-4 to r, columns q-4 to q+4, clipped; nothing below."""
    net = GatedPixelCNN(2).double()
    for row, column in (8, 5), (1, 10), (0, 0):
        grid = torch.randn(1, 2, 11, 11, dtype=torch.double)
        grid.requires_grad_()
        net(grid)[0, :, row, column].sum().backward()
        seen = grid.grad[0].abs().sum(0) > 0
        expected = torch.zeros(11, 11, dtype=torch.bool)
        columns = slice(max(column - 4, 0), column + 5)
        expected[max(row - 4, 0) : row + 1, columns] = True
        assert torch.equal(seen, expected)


def test_wiring():
    """With whole kernels under masks, from the equations."""
    net = GatedPixelCNN(3).double()
    grid = torch.randn(2, 3, 5, 5, dtype=torch.double)

    def gate(x):
        return x[:, :3].tanh() * x[:, 3:].sigmoid()

    vertical = horizontal = grid
    for index, layer in enumerate(net.layers):
        mask = torch.ones(3, 3, dtype=torch.double)
        mask[2] = 0
        down = F.conv2d(
            vertical, layer.down.weight * mask, layer.down.bias, padding=1
        )
        across = layer.across(horizontal) + layer.down_to_across(down)
        out = layer.out(gate(across))
        if index:
            out = out + horizontal
        if 0 < index < 3:
            down = down + layer.down_residual(vertical)
        vertical, horizontal = gate(down), out
    torch.testing.assert_close(net(grid), net.out(horizontal))


def test_all_weights_train_but_masked_ones():
    net = GatedPixelCNN(3)
    net(torch.randn(2, 3, 5, 5)).square().sum().backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None and weight.grad.any(), name
    for layer in net.layers:
        assert not layer.down.weight.grad[:, :, 2].any()


@pytest.mark.parametrize('layers', [1, 2])
def test_fewer_layers_see_less(layers):
    net = GatedPixelCNN(2, num_layers=layers)
    grid = torch.randn(1, 2, 7, 7, requires_grad=True)
    net(grid)[0, :, 4, 3].sum().backward()
    seen = grid.grad[0].abs().sum(0) > 0
    assert seen.sum() == (layers + 1) * (2 * layers + 1)


def test_a_layer_at_least():
    with pytest.raises(ValueError, match='num_layers=0 must be 1 or more'):
        GatedPixelCNN(2, num_layers=0)
