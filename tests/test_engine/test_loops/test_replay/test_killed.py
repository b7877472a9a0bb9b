"""A run that is killed with SIGKILL, and resumed by another process."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from mmengine.config import Config

from mmlocal.apis import cli

ROOT = Path(__file__).parents[4]
CONFIG = """
_base_ = '{root}/configs/dgl/resnet20_shapes_async.py'
# What is drawn in augmentation is no part of a checkpoint.
train_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(num_images=48, pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(num_images=20)
)
train_cfg = dict(max_epochs=4, save_buffers=True)
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(by_epoch=False, interval=5, max_keep_ckpts=2),
)
"""


@pytest.mark.slow
def test_killed_and_resumed(tmp_path, fresh_python):
    config = tmp_path / 'async.py'
    config.write_text(CONFIG.format(root=ROOT))
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    train(config, whole)
    process = fresh_python.start(
        ROOT / 'tools/train.py',
        *(config, '--work-dir', parts),
        CUDA_VISIBLE_DEVICES='',
    )
    while latest(parts) < 20:
        os.kill(process, 0)  # it is there
        time.sleep(0.05)
    os.kill(process, signal.SIGKILL)
    assert fresh_python.wait().returncode == -signal.SIGKILL
    begin, done = latest(parts), max(logged(parts))
    train(config, parts, resume=True)
    expected, found = logged(whole), logged(parts)
    assert 20 <= begin <= done < max(expected)
    assert found == expected
    # The ticks behind the checkpoint came twice.
    assert min(logged(parts, newest=True)) == begin + 1


def train(config, work_dir, resume=False):
    """In this process."""
    cfg = Config.fromfile(config)
    cfg.merge_from_dict({'work_dir': str(work_dir), 'resume': resume})
    cfg.launcher = 'none'
    # Is looked up by name in a process.
    cfg.experiment_name = cfg.visualizer.name = work_dir.name + f'_{resume}'
    cli.build_runner(cfg).train()


def latest(work_dir) -> int:
    """The iteration of the latest checkpoint."""
    file = work_dir / 'last_checkpoint'
    name = file.read_text().strip() if file.exists() else ''
    return int(Path(name).stem.removeprefix('iter_')) if name else 0


def logged(work_dir, newest=False) -> dict[int, dict[str, float]]:
    """What each tick logged, but for times; the newest where it came twice."""
    values = {}
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    for file in files[-1:] if newest else files:
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            if 'iter' in entry:
                values[entry['iter']] = {
                    key: value
                    for key, value in entry.items()
                    if 'time' not in key
                }
    return values
