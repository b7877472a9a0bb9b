"""Configs that measure modules have a loop that reads them out."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmlocal.config import type_name

ROOT = Path(__file__).parents[2] / 'configs'
PATHS = sorted(ROOT.glob('[!_]*/*.py'))
# Metric and loop are set by data set and schedule.
MEASURED = (
    *('cifar10', 'c10', 'svhn', 'stl10', 'shapes', 'camvid'),
    *('mnist', 'digits', 'greedy_k6_speakers'),
)


@pytest.mark.parametrize('folder', sorted({p.parent.name for p in PATHS}))
def test_loop_and_metrics_go_together(folder):
    for path in PATHS:
        if path.parent.name != folder:
            continue
        cfg = Config.fromfile(path)
        measured = any(word in path.stem for word in MEASURED)
        for stage, stock in ('val', 'ValLoop'), ('test', 'TestLoop'):
            metrics = cfg[f'{stage}_evaluator']
            metrics = metrics if isinstance(metrics, list) else [metrics]
            per_module = [m for m in metrics if 'PerModule' in m.type]
            assert len(per_module) == measured, path
            # The first key is what `save_best='auto'` takes.
            assert metrics[0] not in per_module
            name = type_name(cfg[f'{stage}_cfg'].get('type', stock))
            assert name == (f'Local{stock}' if measured else stock), path
