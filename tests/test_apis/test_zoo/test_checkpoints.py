"""Checkpoints are read, and what is in them is not run."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler import OneCycleLR

from mmlocal.apis.zoo.checkpoints import load_checkpoint, weights_of


class Malicious:
    """Calls something when it is unpickled."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('function', [os.mkdir, eval, getattr])
def test_malicious_pickle_is_refused(tmp_path, zipped, function):
    target = tmp_path / 'owned'
    call = {
        os.mkdir: Malicious(os.mkdir, str(target)),
        eval: Malicious(eval, f'__import__("os").mkdir({str(target)!r})'),
        # By way of getattr, which checkpoints of mmengine do have.
        getattr: Malicious(Malicious(getattr, os, 'mkdir'), str(target)),
    }[function]
    path = tmp_path / 'evil.pth'
    checkpoint = {'state_dict': {'weight': torch.ones(1)}, 'meta': call}
    if function is getattr:  # torch.save cannot pickle it; write it by hand
        program = pickle.dumps({'state_dict': {}}, 2)[:-1] + (
            b'0cbuiltins\ngetattr\n(cposix\n__dict__\nVmkdir\ntR'
            b'(V' + str(target).encode() + b'\ntR.'
        )
        path.write_bytes(program)
    else:
        torch.save(checkpoint, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match='was not loaded|is damaged'):
        load_checkpoint(path)
    assert not target.exists()


def test_culprit_is_named(tmp_path):
    path = tmp_path / 'evil.pth'
    torch.save({'a': Malicious(os.mkdir, 'x')}, path)
    with pytest.raises(ValueError, match=r'\(posix.mkdir\).*do not load it'):
        load_checkpoint(path)


def test_everything_that_a_training_saves(tmp_path):
    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], 0.1)
    scheduler = OneCycleLR(optimizer, eta_max=0.1, total_steps=10)
    path = tmp_path / 'training.pth'
    checkpoint = {
        'meta': {'epoch': 3, 'palette': np.ones((2, 3)), 'x': np.float64(1)},
        'state_dict': {'weight': torch.arange(3.0)},
        'message_hub': {'log_scalars': {'loss': HistoryBuffer([1.0], [1])}},
        'optimizer': optimizer.state_dict(),
        'param_schedulers': [scheduler.state_dict()],
    }
    torch.save(checkpoint, path)
    loaded = load_checkpoint(path)
    assert loaded.keys() == checkpoint.keys()
    assert loaded['meta']['x'] == 1 and loaded['meta']['epoch'] == 3
    assert (loaded['meta']['palette'] == 1).all()
    history = loaded['message_hub']['log_scalars']['loss']
    assert isinstance(history, HistoryBuffer) and history.current() == 1
    assert weights_of(loaded)['weight'].tolist() == [0, 1, 2]


def test_what_is_no_checkpoint(tmp_path):
    path = tmp_path / 'file.pth'
    with pytest.raises(FileNotFoundError):
        load_checkpoint(path)
    for content in b'', b'hello', b'PK\x03\x04damaged':
        path.write_bytes(content)
        with pytest.raises(ValueError, match='file.pth'):
            load_checkpoint(path)
    torch.save([torch.ones(1)], path)
    with pytest.raises(ValueError, match='holds a list'):
        load_checkpoint(path)
    with pytest.raises(ValueError, match='no weights in the checkpoint'):
        weights_of({'epoch': 3})


def test_prefix_of_ddp_is_taken_off():
    tensor = torch.ones(1)
    assert weights_of({'model': {'module.a': tensor}}) == {'a': tensor}
    mixed = {'module.a': tensor, 'b': tensor}
    assert weights_of(mixed).keys() == mixed.keys()
