"""Models that hold a copy of their backbone: its heads are copied, too."""

import pytest
from mmengine.hub import get_config

from mmlocal.planner import Planner, Simulator, TrainingSetting
from mmlocal.planner.real_steps import RealSteps
from mmlocal.registry import MODELS


@pytest.mark.parametrize(
    'config',
    [
        pytest.param(
            'byol/byol_resnet50_16xb256-coslr-200e_in1k',
            marks=pytest.mark.slow,
        ),
        'mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k',
    ],
)
def test_a_plan_counts_heads_and_their_copies(config):
    """Found by splits of other heads, and of none."""
    cfg = get_config(f'mmpretrain::{config}.py')
    model = cfg.model
    widths = {'hid_channels': 16, 'out_channels': 8}
    model.neck.update(in_channels=64, **widths)
    if 'predictor' in model.head:
        model.head.predictor.update(in_channels=8, **widths)
    if 'queue_len' in model:
        model.update(queue_len=64, feat_dim=8)
    model.backbone.update(depth=18, base_channels=8)
    # With statistics, of other shapes at each cut.
    heads = {'type': 'mmlocal.GreedyHead', 'net': '1c1f', 'num_classes': 4}
    model.backbone = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': model.backbone,
        'boundaries': ['layer2.0'],
        'local_heads': heads,
        'input_shape': (3, 32, 32),
    }
    setting = TrainingSetting(cfg, 2, (32, 32), device='cpu')
    found = Planner(Simulator(setting)).balanced(2)
    assert found.peak == pytest.approx(
        RealSteps(setting).measure(found.split).peak, rel=0.01
    )
    model.backbone.boundaries = found.split.boundaries
    built = MODELS.build({**model, 'data_preprocessor': cfg.data_preprocessor})
    weights = [*built.parameters(), *built.buffers()]
    assert found.bands['parameters'] == sum(w.nbytes for w in weights)
