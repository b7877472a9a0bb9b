"""Boundaries, data samples, and what generates the pinned numbers."""

import importlib.util
from pathlib import Path

import pytest

from mmlocal.models.local_heads import Boundary

spec = importlib.util.spec_from_file_location(
    'vectors', Path(__file__).parents[1] / 'vectors.py'
)
_vectors = importlib.util.module_from_spec(spec)
spec.loader.exec_module(_vectors)


@pytest.fixture
def boundary():
    def build(channels=16, stride=1, **kwargs):
        kwargs.setdefault('name', 'layer2.1')
        return Boundary(channels=channels, stride=stride, **kwargs)

    return build


@pytest.fixture
def vectors():
    """The generator of the numbers that tests pin."""
    return _vectors


@pytest.fixture
def class_samples():
    """Data samples of mmpretrain."""
    from mmpretrain.structures import DataSample

    def build(labels=_vectors.LABELS):
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
