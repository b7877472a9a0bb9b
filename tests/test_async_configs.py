"""Configs that train one module at a time, from buffers."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

ROOT = Path(__file__).parents[1] / 'configs'
NAMES = sorted(
    str(path.relative_to(ROOT).with_suffix(''))
    for path in ROOT.glob('*/*_async*.py')
)
BUFFER = 'dgl/convnet6-buffer_cifar10_k6'


def load(name: str) -> Config:
    return Config.fromfile(ROOT / f'{name}.py')


def test_there_are_such_configs():
    sizes = [f'{BUFFER}_async_m{size}' for size in (1, 5, 30)]
    slow = [f'{name}_slow' for name in sizes]
    assert {*sizes, *slow, 'dgl/resnet20_shapes_async'} < {*NAMES}
    assert 'infopro/resnet32_cifar10_k4_softmax_async' in NAMES


@pytest.mark.parametrize('name', NAMES)
def test_only_the_loop_differs_from_training_all_at_once(name):
    found, twin = load(name).to_dict(), load(name.split('_async')[0]).to_dict()
    loop, plain = found.pop('train_cfg'), twin.pop('train_cfg')
    assert loop['type'] == 'mmlocal.ReplayTrainLoop'
    for key in 'max_epochs', 'val_interval':
        assert loop.get(key, 1) == plain.get(key, 1)
    hooks = twin.pop('custom_hooks')
    reset = 'mmlocal.ResetOptimizerStateHook'
    assert found.pop('custom_hooks') == [
        hook for hook in hooks if hook['type'] != reset
    ]
    # It counts epochs of the run, the loop those of each module.
    (at,) = [h['milestones'] for h in hooks if h['type'] == reset] or [[]]
    assert loop.get('reset_at', []) == at
    assert found == twin


@pytest.mark.parametrize('size', [1, 5, 30])
@pytest.mark.parametrize('suffix', ['', '_slow'])
def test_experiments_of_dgl(size, suffix):
    cfg = load(f'{BUFFER}_async_m{size}{suffix}')
    loop = cfg.train_cfg
    assert loop.buffer == {'size': size, 'as_published': True}
    slow = {'slow': {'module': 3, 'factor': 1.2}} if suffix else None
    assert loop.get('sampler') == slow
    drops = [17, 32, 47]
    assert cfg.param_scheduler[0].milestones == loop.reset_at == drops
    assert loop.warm_up_at == [0, *drops]
    assert loop.max_epochs == 51
    # The whole of each pass: 390 batches of 128.
    assert cfg.train_dataloader.drop_last


@pytest.mark.slow
def test_short_run(tmp_path):
    cfg = load('dgl/resnet20_shapes_async')
    for name in 'train_dataloader', 'val_dataloader':
        cfg[name].num_workers = 0
        cfg[name].persistent_workers = False
        cfg[name].dataset.num_images = 8
    cfg.train_dataloader.batch_size = 4
    cfg.train_cfg.update(max_epochs=2, val_interval=2)
    cfg.default_hooks.logger.interval = 1
    cfg.work_dir = str(tmp_path)
    cfg.experiment_name = cfg.visualizer.name = tmp_path.name
    runner = Runner.from_cfg(cfg)
    runner.train()
    progress = runner.train_loop.progress
    assert progress.trained == [4, 4]
    assert runner.iter == 8 + sum(progress.fed) >= 8
    (log,) = tmp_path.glob('*/*.log')
    text = log.read_text()
    assert 'local_0.loss_task' in text and 'accuracy/top1' in text
    assert (tmp_path / 'epoch_2.pth').is_file()
