"""Configs that train one module after another."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

ROOT = Path(__file__).parents[1] / 'configs'
NAMES = sorted(
    str(path.relative_to(ROOT).with_suffix(''))
    for path in ROOT.glob('*/*_sequential*.py')
    # In test_layerwise_configs.py.
    if path.parent.name != 'layerwise'
)
SHAPES = [name for name in NAMES if '_shapes' in name]


def load(name: str) -> Config:
    return Config.fromfile(ROOT / f'{name}.py')


def test_there_are_such_configs():
    assert len(SHAPES) == 4
    assert 'dgl/convnet4_cifar10_k4_sequential_cached' in NAMES


@pytest.mark.parametrize('name', NAMES)
def test_only_the_loop_differs_from_training_all_at_once(name):
    found = load(name).to_dict()
    twin = load(name.split('_sequential')[0]).to_dict()
    loop, plain = found.pop('train_cfg'), twin.pop('train_cfg')
    assert loop.pop('type').startswith('mmlocal.Sequential')
    length = loop.get('epochs') or loop.get('iters')
    whole = plain.get('max_epochs') or plain['max_iters']
    # DGL, Forward-Forward and Greedy InfoMax give each module what all have
    # together; the others a part.
    whole_each = 'convnet4', '_mnist_', 'gim/'
    modules = 1 if any(word in name for word in whole_each) else 2
    assert length * modules == whole
    if name == 'dgl/resnet20_shapes_sequential_cached':
        pipelines = [
            [
                each['type']
                for each in cfg.pop('train_dataloader')['dataset']['pipeline']
            ]
            for cfg in (found, twin)
        ]
        pipelines[1].remove('RandomFlip')
        assert pipelines[0] == pipelines[1]
        assert loop['cache'] == 'disk'
    elif name.endswith('_cached'):
        assert loop['cache']['as_drawn']
    assert found == twin


def test_what_is_published_of_the_learning_curves():
    """50 epochs a module, the rate a fifth after 15, 30 and 45 of them."""
    cfg = load('dgl/convnet4_cifar10_k4_sequential')
    assert cfg.train_cfg.epochs == 50
    (scheduler,) = cfg.param_scheduler
    assert (scheduler.milestones, scheduler.gamma) == ([15, 30, 45], 0.2)
    assert cfg.optim_wrapper.optimizer.lr == 0.1


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(
            name, marks=[] if name.startswith('dgl/') else pytest.mark.slow
        )
        for name in SHAPES
    ],
)
@pytest.mark.slow
def test_short_run(name, tmp_path):
    cfg = load(name)
    for key in 'train_dataloader', 'val_dataloader':
        cfg[key].num_workers = 0
        cfg[key].persistent_workers = False
        cfg[key].dataset.num_images = 8
    cfg.train_dataloader.batch_size = 4
    if 'deeplab' in name:
        cfg.model.backbone.backbone.update(stem_channels=8, base_channels=8)
        cfg.model.decode_head.update(in_channels=64, channels=8)
    length = 'epochs' if 'epochs' in cfg.train_cfg else 'iters'
    cfg.train_cfg[length] = [1, 2] if length == 'epochs' else [2, 4]
    cfg.train_cfg.val_interval = cfg.train_cfg[length][0]
    cfg.default_hooks.checkpoint.interval = 1
    cfg.default_hooks.logger.interval = 1
    cfg.work_dir = str(tmp_path)
    cfg.experiment_name = cfg.visualizer.name = tmp_path.name
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 6
    (log,) = tmp_path.glob('*/*.log')
    text = log.read_text()
    first, second = text.split('module 2 of 2 trains: ')
    assert 'local_0.loss_task' in first and 'local_0' not in second
    # What is validated first is the module that trains.
    metric = 'mIoU' if 'deeplab' in name else 'accuracy/top1'
    assert metric in first and metric in second
    assert ('trains from ' in text) == name.endswith('_cached')
