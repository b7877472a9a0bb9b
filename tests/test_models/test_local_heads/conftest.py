"""Fill and data of the published test vectors, and data samples."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from mmlocal.models.local_heads import Boundary

LABELS = [0, 1, 0, 2, 1, 0, 3, 2]


@pytest.fixture
def boundary():
    def build(channels=16, stride=1, **kwargs):
        kwargs.setdefault('name', 'layer2.1')
        return Boundary(channels=channels, stride=stride, **kwargs)

    return build


@pytest.fixture
def fill():
    """Weights from their size alone; module in float64, train mode."""

    def run(module):
        module.double().train()
        for layer in module.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                weight = layer.weight.data
                fan_in = weight.numel() / weight.shape[0]
                random = np.random.RandomState(weight.numel())
                values = random.standard_normal(weight.numel())
                weight.copy_(torch.from_numpy(values).view_as(weight))
                weight *= math.sqrt(2 / fan_in)
                if layer.bias is not None:
                    layer.bias.data.zero_()
        return module

    return run


@pytest.fixture
def features():
    def build(*shape):
        values = np.random.RandomState(2).standard_normal(shape)
        return torch.from_numpy(values).requires_grad_()

    return build


@pytest.fixture
def pixels():
    def build(*shape):
        values = np.random.RandomState(1).randint(0, 256, shape) / 255
        return torch.from_numpy(values)

    return build


@pytest.fixture
def class_samples():
    """Data samples of mmpretrain."""
    from mmpretrain.structures import DataSample

    def build(labels=LABELS):
        return [DataSample().set_gt_label(label) for label in labels]

    return build


@pytest.fixture
def pixel_samples():
    """Data samples of mmseg from labels (N, H, W)."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    def build(labels):
        return [
            SegDataSample(gt_sem_seg=PixelData(data=label[None]))
            for label in labels
        ]

    return build


@pytest.fixture
def num_params():
    return lambda module: sum(p.numel() for p in module.parameters())
