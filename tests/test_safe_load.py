"""What mmengine loads is not run either: load_from, resume, tools/test.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler import OneCycleLR
from mmengine.runner import checkpoint, load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmlocal.safe_load import load_safely_in_mmengine, safe_load


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.fixture
def malicious(tmp_path):
    path = tmp_path / 'evil.pth'
    weights = {'weight': torch.ones(1, 1), 'bias': torch.ones(1)}
    meta = Malicious(tmp_path / 'owned')
    torch.save({'state_dict': weights, 'meta': meta}, path)
    return path


@pytest.fixture
def loaders():
    """mmengine's own, whatever other tests have left."""
    schemes = dict(CheckpointLoader._schemes)
    CheckpointLoader._schemes[''] = checkpoint.load_from_local
    CheckpointLoader._schemes['https://'] = checkpoint.load_from_http
    yield
    CheckpointLoader._schemes = schemes


def test_mmengine_loads_what_it_does_not_know(malicious, loaders):
    """The reason for all this: it falls back to an unrestricted load."""
    load_checkpoint(nn.Linear(1, 1), str(malicious))
    assert (malicious.parent / 'owned').exists()


@pytest.mark.filterwarnings('ignore:Environment variable TORCH_FORCE')
def test_it_no_longer_does(malicious, loaders, monkeypatch):
    load_safely_in_mmengine()
    with pytest.raises(ValueError, match=r'\(posix.mkdir\)') as error:
        load_checkpoint(nn.Linear(1, 1), str(malicious))
    assert not (malicious.parent / 'owned').exists()
    assert 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1' in str(error.value)
    # For who trusts the file.
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    model = nn.Linear(1, 1)
    load_checkpoint(model, str(malicious))
    assert (malicious.parent / 'owned').exists() and model.weight == 1


def test_urls(malicious, loaders, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))

    def download(url, path, progress):
        assert url == 'https://example.org/evil.pth?x=1'
        Path(path).write_bytes(malicious.read_bytes())

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    load_safely_in_mmengine()
    with pytest.raises(ValueError, match='evil.pth was not loaded'):
        load_checkpoint(nn.Linear(1, 1), 'https://example.org/evil.pth?x=1')
    assert not (tmp_path / 'owned').exists()


@pytest.mark.parametrize('hook', ['LocalLossHook', 'LocalCheckpointHook'])
def test_each_hook_is_enough(malicious, loaders, hook):
    from mmlocal.registry import HOOKS

    class Runner:
        work_dir, _resume, _load_from = str(malicious.parent), False, None

    HOOKS.build({'type': f'mmlocal.{hook}'}).before_run(Runner())
    with pytest.raises(ValueError, match='was not loaded'):
        load_checkpoint(nn.Linear(1, 1), str(malicious))


def test_what_a_run_is_resumed_with_is_real(tmp_path):
    weight = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], 0.1, momentum=0.9)
    scheduler = OneCycleLR(optimizer, eta_max=0.1, total_steps=10)
    history = HistoryBuffer([1.0, 3.0], [1, 1])
    path = tmp_path / 'training.pth'
    torch.save(
        {
            'message_hub': {'log_scalars': {'loss': history}},
            'param_schedulers': [scheduler.state_dict()],
        },
        path,
    )
    loaded = safe_load(path)
    found = loaded['message_hub']['log_scalars']['loss']
    assert found.mean() == 2 and found.statistics('max') == 3
    resumed = OneCycleLR(optimizer, eta_max=0.1, total_steps=10)
    resumed.load_state_dict(loaded['param_schedulers'][0])
    for each in scheduler, resumed:
        each.step()
    assert resumed.get_last_value() == scheduler.get_last_value()


def test_a_damaged_file_is_not_called_dangerous(tmp_path):
    path = tmp_path / 'cut.pth'
    for zipped in True, False:
        torch.save(
            {'weight': torch.ones(1000)},
            path,
            _use_new_zipfile_serialization=zipped,
        )
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match='or is damaged'):
            safe_load(path)
    with pytest.raises(FileNotFoundError, match='there is no checkpoint'):
        safe_load(tmp_path / 'nowhere.pth')
