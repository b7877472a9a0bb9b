"""A run that is killed with SIGKILL, and resumed by another process."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
CONFIG = """
_base_ = '{root}/configs/dgl/resnet20_shapes_async.py'
# What is drawn in augmentation is no part of a checkpoint.
train_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(num_images=256, pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(num_images=20)
)
train_cfg = dict(max_epochs=4, save_buffers=True)
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(by_epoch=False, interval=10, max_keep_ckpts=2),
)
"""


@pytest.mark.slow
def test_killed_and_resumed(tmp_path):
    config = tmp_path / 'async.py'
    config.write_text(CONFIG.format(root=ROOT))
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    assert start(config, whole).wait() == 0
    process = start(config, parts)
    while latest(parts) < 40:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    assert process.wait() == -9
    begin, done = latest(parts), max(logged(parts))
    assert start(config, parts, '--resume').wait() == 0
    expected, found = logged(whole), logged(parts)
    assert 40 <= begin <= done < max(expected)
    assert found == expected
    # The ticks behind the checkpoint came twice.
    assert min(logged(parts, newest=True)) == begin + 1


def start(config, work_dir, *options):
    """A process that trains."""
    train = [sys.executable, str(ROOT / 'tools/train.py'), str(config)]
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'CUDA_VISIBLE_DEVICES': ''}
    return subprocess.Popen(
        [*train, '--work-dir', str(work_dir), *options],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


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
