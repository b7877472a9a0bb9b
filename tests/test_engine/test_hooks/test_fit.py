"""What is loaded belongs to the model, its modules and its optimizer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

BOTH = ['LocalCheckpointHook', 'CheckpointHook']


@pytest.fixture(params=BOTH)
def settings(cfg, request):
    """Also for who left mmengine's own hook in the config."""
    mine = request.param.startswith('Local')
    kind = 'mmlocal.' * mine + request.param
    cfg['default_hooks']['checkpoint'] = {'type': kind, 'interval': 1}
    return cfg


def log_of(cfg) -> str:
    logs = Path(cfg['work_dir']).glob('*/*.log')
    return max(logs, key=os.path.getmtime).read_text()


def test_resuming_in_other_modules(settings, run):
    run(settings, 'first', until=1)
    backbone = settings['model']['backbone']
    backbone['boundaries'] = ['layer3.0']
    with pytest.raises(ValueError, match='^resume: ') as error:
        run(settings, 'second', resume=True)
    text = str(error.value)
    assert "in 3 modules (boundaries=['layer2.0', 'layer3.0'])" in text
    assert "this config has 2 (boundaries=['layer3.0'])" in text
    assert 'load_from=FILE and resume=False' in text


def test_resuming_in_as_many_modules_that_are_others(settings, run):
    run(settings, 'first', until=1)
    backbone = settings['model']['backbone']
    backbone['boundaries'] = ['layer1.0', 'layer3.0']
    with pytest.raises(ValueError, match=r"has 3 \(boundaries=\['layer1.0'"):
        run(settings, 'second', resume=True)


def test_checkpoints_without_a_record_are_judged_by_their_heads(settings, run):
    run(settings, 'first', until=1)
    path = Path(settings['work_dir'], 'epoch_1.pth')
    checkpoint = torch.load(path, weights_only=False)
    del checkpoint['meta']['mmlocal_boundaries']
    torch.save(checkpoint, path)
    settings['train_cfg']['max_epochs'] = 2
    assert run(settings, 'same', resume=True)[0].epoch == 2
    settings['model']['backbone']['boundaries'] = ['layer3.0']
    with pytest.raises(ValueError, match='run in 3 modules, and this config'):
        run(settings, 'other', resume=True, load_from=str(path))


def test_resuming_with_other_groups_of_parameters(settings, run):
    groups = {'bias_lr_mult': 2.0}
    settings['optim_wrapper']['paramwise_cfg'] = groups
    run(settings, 'first', until=1)
    run(settings, 'same', until=2, resume=True)
    del settings['optim_wrapper']['paramwise_cfg']
    with pytest.raises(ValueError, match='the optimizer of the checkpoint'):
        run(settings, 'second', resume=True)
    settings['optim_wrapper']['paramwise_cfg'] = groups
    heads = settings['model']['backbone']['local_heads']
    heads['aux_net'] = '1c3f'
    with pytest.raises(ValueError, match='groups, and that of this config'):
        run(settings, 'third', resume=True)


def test_a_checkpoint_that_fits_nothing(settings, run, tmp_path):
    path = tmp_path / 'other.pth'
    weights = {'conv1.weight': torch.ones(2), 'fc.bias': torch.ones(10)}
    torch.save({'state_dict': weights}, path)
    with pytest.raises(ValueError, match='none of its 2 tensors') as error:
        run(settings, 'first', load_from=str(path))
    text = str(error.value)
    assert str(path) in text and 'conv1.weight, fc.bias' in text
    assert 'the model (backbone.conv1.weight, ' in text


def test_a_checkpoint_that_lacks_something(settings, run, tmp_path):
    runner, _ = run(settings, 'first', until=1)
    weights = runner.model.state_dict()
    plain = {k: v for k, v in weights.items() if 'local_heads' not in k}
    torch.save(plain, tmp_path / 'plain.pth')
    plain.pop('head.fc.bias')
    torch.save(plain, tmp_path / 'less.pth')
    settings['train_cfg']['max_epochs'] = 1
    run(settings, 'plain', load_from=str(tmp_path / 'plain.pth'))
    assert 'KEEP THEIR INITIAL VALUES' not in log_of(settings)
    run(settings, 'less', load_from=str(tmp_path / 'less.pth'))
    lines = [line for line in log_of(settings).splitlines() if 'KEEP' in line]
    assert len(lines) == 1
    assert 'has no weights for 1 of the' in lines[0]
    assert lines[0].endswith('VALUES: head.fc.bias')
