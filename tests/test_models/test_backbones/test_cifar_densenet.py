import pytest
import torch
from torch import nn

from mmlocal.models.backbones.cifar_densenet import CIFARDenseNet
from mmlocal.registry import MODELS


def test_parameters():
    """The 0.77 M of the paper, with a classifier of ten classes."""
    with torch.device('meta'):
        net, fc = CIFARDenseNet(), nn.Linear(342, 10)
    params = [*net.parameters(), *fc.parameters()]
    assert sum(p.numel() for p in params) == 769_162


@pytest.mark.parametrize(('side', 'out'), [(32, 8), (96, 24)])
def test_output(side, out):
    net = MODELS.build({'type': 'mmlocal.CIFARDenseNet', 'depth': 40})
    (feat,) = net(torch.randn(2, 3, side, side))
    assert feat.shape[2:] == (out, out)
    assert feat.shape[1] == net.bn.num_features


def test_depth_counts_weight_layers():
    net = CIFARDenseNet(depth=40)
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) + 1 == 40  # and the classifier
    assert [len(b) for b in (net.dense1, net.dense2, net.dense3)] == [6] * 3


def test_layers_pass_their_input_on():
    """So that a single tensor links any layer to the next."""
    net = CIFARDenseNet(depth=40).eval()
    feat = torch.randn(2, 24, 8, 8)
    out = net.dense1[0](feat)
    assert out.shape == (2, 36, 8, 8)
    assert torch.equal(out[:, :24], feat)


@pytest.mark.parametrize('depth', [4, 101, 121])
def test_bad_depth(depth):
    with pytest.raises(ValueError, match=f'depth={depth} is not 6n'):
        CIFARDenseNet(depth)
