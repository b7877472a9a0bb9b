"""What is told of pieces, in networks that run or train otherwise."""

from __future__ import annotations

import pytest
from mmengine.registry import init_default_scope

from mmlocal.models.cut_points import Split
from mmlocal.planner import Planner, Simulator, TrainingSetting

CROP = {'type': 'RandomResizedCrop', 'scale': 32}


def projector(outputs, **options):
    return {
        'type': 'NonLinearNeck',
        'hid_channels': 16,
        'out_channels': outputs,
        **options,
    }


@pytest.fixture
def two_views():
    """SimSiam: a step runs the backbone once for each of two views."""
    init_default_scope('mmpretrain')
    model = {
        'type': 'SimSiam',
        'data_preprocessor': {'mean': [0.0] * 3, 'std': [255.0] * 3},
        'backbone': {
            'type': 'mmlocal.LocalSupervisedBackbone',
            'backbone': {'type': 'mmlocal.CIFARResNet', 'depth': 8},
            'local_heads': {'type': 'mmlocal.GreedyHead', 'num_classes': 10},
            'input_shape': (3, 32, 32),
        },
        'neck': projector(64, in_channels=64, with_avg_pool=True),
        'head': {
            'type': 'LatentPredictHead',
            'loss': {'type': 'CosineSimilarityLoss'},
            'predictor': projector(64, in_channels=64, with_avg_pool=False),
        },
    }
    views = {'type': 'MultiView', 'num_views': 2, 'transforms': [[CROP]]}
    return {
        'default_scope': 'mmpretrain',
        'model': model,
        'optim_wrapper': {'optimizer': {'type': 'SGD', 'lr': 0.1}},
        'train_dataloader': {
            'batch_size': 4,
            'dataset': {'pipeline': [views, {'type': 'PackInputs'}]},
        },
    }


@pytest.mark.slow
def test_two_passes_of_the_backbone(two_views):
    setting = TrainingSetting(two_views, device='cpu')
    assert setting.task == 'self-supervised'
    planner = Planner(Simulator(setting))
    search = planner.search
    assert search.plain.passes == 2
    whole = planner.end_to_end
    for split in (
        Split(['layer2.0'], [None, None]),
        Split(['layer2.0', 'layer3.0'], ['block', None, None]),
    ):
        full, plan = planner.measure(split), search.evaluate(split)
        assert plan.extra_flops == full.total_flops - whole.total_flops
        assert plan.peak == pytest.approx(full.peak, rel=0.1)


@pytest.mark.slow
def test_layers_that_do_not_train(config):
    """What comes before the first that does asks for no gradient."""
    cfg = config('deeplab')
    cfg['model']['backbone']['backbone']['frozen_stages'] = 2
    planner = Planner(Simulator(TrainingSetting(cfg, device='cpu')))
    units = planner.search.plain.units
    frozen = planner.simulator.candidates.index('layer3.0')
    assert all(unit.gradients == 0 for unit in units[: frozen + 1])
    assert units[frozen + 1].gradients
    whole = planner.end_to_end
    for name in ('layer2.0', 'layer3.0', 'layer4.0'):
        split = Split([name], [None, None])
        full, plan = planner.measure(split), planner.search.evaluate(split)
        assert plan.peak == pytest.approx(full.peak, rel=0.01)
        assert plan.extra_flops == full.total_flops - whole.total_flops
