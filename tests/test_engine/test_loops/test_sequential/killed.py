"""A run that is killed: ``python killed.py WORK_DIR storing|training``."""

import os
import signal
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import torch
from mmengine.hooks import Hook

from mmlocal.engine.loops.sequential.feature_file import FeatureFile


def load(path: Path, name: str):
    """Two files are called conftest."""
    spec = spec_from_file_location(name, path / 'conftest.py')
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kill(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)


class KillIn(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 13:
            kill()


if __name__ == '__main__':
    here = Path(__file__).parents[1]
    helpers = load(here.parents[1], 'helpers')
    loops = load(here, 'loops')
    torch.set_num_threads(1)
    cfg = loops.settings(helpers, Path(sys.argv[1]))
    cfg['train_cfg']['cache'] = 'disk'
    if sys.argv[2] == 'storing':
        write, calls = FeatureFile.write, []

        def write_once(file, rows, feats):
            calls.append(rows)
            write(file, rows, feats) if len(calls) == 1 else kill()

        FeatureFile.write = write_once
    else:
        cfg['custom_hooks'] += [KillIn()]
    loops.train(cfg)
