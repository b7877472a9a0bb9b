"""The configs of ranks with a module each are InfoPro's, in one place not."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmlocal.config_check import check_config
from mmlocal.registry import MODEL_WRAPPERS

ROOT = Path(__file__).parents[1] / 'configs'
NAMES = sorted(path.stem for path in (ROOT / 'module_parallel').glob('*.py'))


@pytest.mark.parametrize('name', NAMES)
def test_one_place_differs(name):
    cfg = Config.fromfile(ROOT / 'module_parallel' / f'{name}.py').to_dict()
    twin = Config.fromfile(ROOT / 'infopro' / f'{name}.py').to_dict()
    wrapper = cfg.pop('model_wrapper_cfg')
    twin.pop('model_wrapper_cfg')
    assert cfg == twin
    assert MODEL_WRAPPERS.get(wrapper['type']).__name__ == 'ModuleParallel'
    check_config(wrapper, 'model_wrapper_cfg')
