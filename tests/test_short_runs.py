"""The configs that need no data train, validate, save and draw."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

ROOT = Path(__file__).parents[1] / 'configs'
# Modules without local heads are in test_ddg_configs.py.
NAMES = sorted(
    f'{path.parent.name}/{path.stem}'
    for path in ROOT.glob('*/*_shapes.py')
    if path.parent.name != 'ddg'
)
# One of each task is enough between two changes.
FAST = {'infopro/deeplabv3_r18_shapes', 'infopro/resnet20_shapes'}


def shorten(cfg: Config, work_dir: Path) -> Config:
    """Two iterations of four images, then a validation."""
    for name in 'train_dataloader', 'val_dataloader':
        loader = cfg[name]
        loader.batch_size = 4 if name.startswith('train') else 1
        loader.num_workers = 0
        loader.persistent_workers = False
        loader.dataset.num_images = 8 if name.startswith('train') else 2
    if cfg.train_cfg.get('by_epoch'):
        cfg.train_cfg.update(max_epochs=1, val_interval=1)
    else:
        cfg.train_cfg.update(max_iters=2, val_interval=2)
        cfg.default_hooks.checkpoint.interval = 2
    cfg.default_hooks.logger.interval = 1
    cfg.work_dir = str(work_dir)
    # Both are looked up by name in a process.
    cfg.experiment_name = cfg.visualizer.name = work_dir.name
    cfg.launcher = 'none'
    return cfg


def test_there_are_such_configs():
    assert {*FAST, 'dgl/resnet20_shapes'} <= {*NAMES}


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=[] if name in FAST else pytest.mark.slow)
        for name in NAMES
    ],
)
@pytest.mark.slow
def test_run(name, tmp_path):
    cfg = shorten(Config.fromfile(ROOT / f'{name}.py'), tmp_path)
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 2
    (log,) = tmp_path.glob('*/*.log')
    text = log.read_text()
    assert ('local_0.loss_' in text) == (not name.startswith('e2e/'))
    assert 'mIoU' in text or 'accuracy/top1' in text
    (scalars,) = tmp_path.glob('*/vis_data/scalars.json')
    metric = 'mIoU' if 'mIoU' in text else 'accuracy/top1'
    for key in f'module_1/{metric}', f'ensemble_2/{metric}':
        for written in text, scalars.read_text():
            assert (key in written) == (not name.startswith('e2e/'))
    (checkpoint,) = [
        path for path in tmp_path.glob('*.pth') if 'best' not in path.name
    ]
    state = torch.load(checkpoint, weights_only=False)['state_dict']
    assert any(key.startswith('backbone.layer') for key in state)
    pictures = {path.name for path in tmp_path.glob('*/vis_data/vis_image/*')}
    if name.startswith('infopro/'):
        assert any(each.startswith('local_modules') for each in pictures)
