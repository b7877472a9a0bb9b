"""Plans of networks that see an image as patches."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmlocal.models.cut_points import Split
from mmlocal.planner import Simulator, TrainingSetting
from mmlocal.planner.real_steps import RealSteps

CONFIGS = Path(__file__).parents[2] / 'configs'
CUTS = ['backbone.stages.1', 'backbone.stages.2']


def small(name):
    """Of a config, with fewer and narrower layers and gray images."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    backbone = cfg.model.backbone
    if 'boundaries' in backbone:
        backbone.input_shape = (1, 32, 32)
        backbone = backbone.backbone
    backbone.update(patch_size=8, stride=4)
    backbone.backbone.update(depth=34, base_channels=4, stage_blocks=(1, 1, 1))
    cfg.model.head.in_channels = 16
    return cfg


def setting_of(name):
    return TrainingSetting(small(name), 2, (32, 32), device='cpu')


@pytest.mark.parametrize(
    ('name', 'boundaries'),
    [
        pytest.param('resnet50_stl10', CUTS, marks=pytest.mark.slow),
        ('resnet50_stl10_cpc', []),
    ],
)
def test_predictions_are_what_real_steps_allocate(name, boundaries):
    setting = setting_of(f'gim/{name}')
    split = Split(boundaries, [None] * (len(boundaries) + 1))
    expected = RealSteps(setting).measure(split).peak
    found = Simulator(setting).measure(split).peak
    assert found == pytest.approx(expected, rel=0.01)


def test_heads_are_proposed_for_patches():
    """Made for the grid of the training images, of one channel."""
    setting = setting_of('e2e/gim-resnet50_stl10')
    assert setting.input_shape == (1, 32, 32)
    assert setting.head_cfgs == {'type': 'mmlocal.PatchInfoNCEHead'}
    simulator = Simulator(setting)
    assert 'backbone.stages.1.0' in simulator.candidates
    simulator.prepare(Split(CUTS, [None] * 3))
    heads = simulator.backbone.local_heads
    assert [head.grid for head in heads] == [(7, 7)] * 2
