"""Configs that train by delayed gradients."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

ROOT = Path(__file__).parents[1] / 'configs'
NAMES = sorted(path.stem for path in (ROOT / 'ddg').glob('*.py'))


def load(name: str) -> Config:
    return Config.fromfile(ROOT / f'{name}.py')


def test_the_comparison_of_dgl_with_ddg():
    """DDG's recipe is DGL's with Nesterov's momentum; the split is that."""
    found = load('ddg/resnet110_cifar10_300e_k2').to_dict()
    dgl = load('dgl/resnet110_cifar10_300e_k2').to_dict()
    assert found['train_cfg'].pop('type') == 'mmlocal.DelayedGradientTrainLoop'
    assert dgl['train_cfg'].pop('by_epoch')
    assert found['optim_wrapper']['optimizer'].pop('nesterov')
    assert found['model']['backbone'].pop('local_heads') == []
    dgl['model']['backbone'].pop('local_heads')
    # In one process only.
    dgl.pop('model_wrapper_cfg')
    assert found == dgl
    assert found['train_dataloader']['batch_size'] == 128
    assert found['optim_wrapper']['optimizer'] == {
        'type': 'SGD',
        'lr': 0.01,
        'momentum': 0.9,
        'weight_decay': 5e-4,
    }


def test_features_replay_keeps_inputs():
    found = load('ddg/resnet110_cifar10_300e_k2_replay').to_dict()
    delayed = load('ddg/resnet110_cifar10_300e_k2').to_dict()
    assert found['train_cfg'].pop('keep') == 'input'
    assert found == delayed


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.slow
def test_short_run(name, tmp_path):
    cfg = load(f'ddg/{name}')
    shapes = load('ddg/resnet20_shapes')
    for loader in 'train_dataloader', 'val_dataloader':
        cfg[loader] = shapes[loader]
        cfg[loader].num_workers = 0
        cfg[loader].persistent_workers = False
        cfg[loader].dataset.num_images = 8
    cfg.train_dataloader.batch_size = 4
    cfg.val_evaluator = shapes.val_evaluator
    cfg.model.backbone.backbone.depth = 20
    if 'resnet110' in name:
        cfg.model.backbone.boundaries = ['layer2.1']
    cfg.train_cfg.update(max_epochs=2, val_interval=2)
    cfg.default_hooks.logger.interval = 1
    cfg.work_dir = str(tmp_path)
    cfg.experiment_name = cfg.visualizer.name = tmp_path.name
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 4
    (log,) = tmp_path.glob('*/*.log')
    text = log.read_text()
    assert 'Delayed gradients, keep=' in text and 'accuracy/top1' in text
    assert (tmp_path / 'epoch_2.pth').is_file()
