"""Taps read what a module puts out, in any kind of model."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmlocal.analysis import Taps


class Inplace(nn.Module):
    """Its second layer writes into the output of the first."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.second = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten())

    def forward(self, x):
        return self.second(self.first(x))


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 32)


def test_modules_of_a_cut_backbone(shapes_model, images):
    model = shapes_model.eval()
    first, last = Taps(model)(images)
    torch.testing.assert_close(last, model.backbone(images)[-1])
    chain = model.backbone.chain
    torch.testing.assert_close(first, chain.run(0, images))


def test_an_uncut_model_is_one_module_or_cut_by_name(shapes_model, images):
    backbone = shapes_model.eval().backbone
    plain = nn.Module()
    plain.backbone = backbone.backbone
    assert Taps(plain).names == ['module 1']
    taps = Taps(plain, boundaries=backbone.boundaries)
    assert taps.names == ['module 1', 'module 2']
    for own, other in zip(
        taps(images), Taps(shapes_model)(images), strict=True
    ):
        assert torch.equal(own, other)


def test_outputs_of_submodules(shapes_model, images):
    taps = Taps(shapes_model.eval(), outputs=['layer1', 'layer3'])
    first, last = taps(images)
    assert taps.names == ['layer1', 'layer3']
    assert first.shape == (2, 16, 32, 32)
    torch.testing.assert_close(last, shapes_model.backbone(images)[-1])


def test_features_are_read_before_a_later_layer_writes_into_them(images):
    net = Inplace()
    expected = net.first(images)
    assert expected.min() < 0
    (found,) = Taps(net, outputs=['first'])(images)
    assert torch.equal(found, expected)
    cut, _ = Taps(net, boundaries=['second'])(images)
    assert torch.equal(cut, expected)


def test_nothing_is_left_behind(shapes_model, images):
    Taps(shapes_model, outputs=['layer1'])(images)
    Taps(shapes_model)(images)
    for module in shapes_model.backbone.backbone.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_a_misspelt_submodule_is_named_with_what_was_meant(shapes_model):
    with pytest.raises(ValueError, match="'layer9'.*did you mean.*'layer3'"):
        Taps(shapes_model, outputs=['layer9'])


def test_a_submodule_that_is_not_called_is_an_error(images):
    net = Inplace()
    net.unused = nn.ReLU()
    with pytest.raises(ValueError, match='never reached unused'):
        Taps(net, outputs=['unused'])(images)


def test_several_tensors_are_no_feature(images):
    class Two(nn.Module):
        def forward(self, x):
            return x, F.relu(x)

    net = nn.Sequential(Two())
    with pytest.raises(ValueError, match='puts out 2 tensors'):
        Taps(net, outputs=['0'])(images)
