"""The README's own head, as a user would type it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def blocks(language):
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    return re.findall(rf'^```{language}\n(.*?)^```', text, re.S | re.M)


def test_first_commands():
    install_and_train, install_and_test = blocks('shell')[:2]
    config = install_and_train.split()[-1]
    assert (ROOT / config).is_file()
    assert install_and_test.strip().endswith('python -m pytest -n 2')


@pytest.mark.slow
def test_own_head_trains(tmp_path, fresh_python):
    head, config = blocks('python')[1:3]
    (tmp_path / 'my_heads.py').write_text(head)
    (tmp_path / 'my_config.py').write_text(
        config.replace("'configs/", f"'{ROOT}/configs/")
        + 'train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=1)\n'
        'train_dataloader = dict(batch_size=16, num_workers=0, '
        'persistent_workers=False, dataset=dict(num_images=32))\n'
        'val_cfg = val_dataloader = val_evaluator = None\n'
        'default_hooks = dict(checkpoint=dict(save_best=None))\n'
    )
    result = fresh_python.run(
        ROOT / 'tools/train.py',
        'my_config.py',
        cwd=tmp_path,
        PYTHONPATH=f'.:{ROOT}',
    )
    output = result.stdout + result.stderr
    assert result.returncode == 0, output[-4000:]
    log = next(tmp_path.glob('work_dirs/**/*.json')).read_text()
    assert '"local_0.loss_sim"' in log
