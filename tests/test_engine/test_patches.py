"""Greedy InfoMax and CPC through the Runner: schedules, kill and resume."""

from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

CUTS = ['backbone.stages.1', 'backbone.stages.2']
CONTEXT = {'type': 'mmlocal.GatedPixelCNN', 'num_layers': 2}


@pytest.fixture
def gim(cfg):
    """In place of the network of the other runs; 7x7 patches."""
    backbone = cfg['model']['backbone']
    backbone['backbone'] = {
        'type': 'mmlocal.PatchBackbone',
        'backbone': {
            'type': 'mmlocal.PreActResNet',
            'depth': 34,
            'in_channels': 3,
            'base_channels': 4,
            'stage_blocks': (1, 1, 1),
        },
        'patch_size': 8,
        'stride': 4,
    }
    backbone |= {
        'boundaries': CUTS,
        'local_heads': {'type': 'mmlocal.PatchInfoNCEHead'},
        'local_end': True,
    }
    cfg['model']['neck'] = {'type': 'mmlocal.PatchPooling', 'grid': 7}
    cfg['model']['head']['in_channels'] = 16
    cfg['optim_wrapper']['optimizer'] = {'type': 'Adam', 'lr': 1e-3}
    del cfg['param_scheduler']
    return cfg


@pytest.fixture
def cpc(gim):
    """One module, with a context net."""
    backbone = gim['model']['backbone']
    backbone['boundaries'] = []
    backbone['local_heads']['context'] = CONTEXT
    return gim


class SeedEpochs(Hook):
    """Negatives are drawn alike in a run that is resumed."""

    def before_train_epoch(self, runner):
        torch.manual_seed(runner.epoch)


def sequential(cfg, epochs, name, **changes):
    """Of modules one after another, in a folder of its own."""
    loop = {'type': 'mmlocal.SequentialTrainLoop', 'epochs': epochs}
    work_dir = str(Path(cfg['work_dir']) / name)
    return {**cfg, 'train_cfg': loop | changes, 'work_dir': work_dir}


def state(runner):
    return runner.model.state_dict()


def changed(before, after):
    return {n for n, v in after.items() if not torch.equal(before[n], v)}


@pytest.mark.parametrize('kind', ['gim', 'cpc'])
def test_killed_and_resumed(request, run, tmp_path, kind):
    """With the context net, which the published code does not store."""
    cfg = request.getfixturevalue(kind)
    cfg['custom_hooks'].append(SeedEpochs())
    whole, expected = run(cfg, 'whole', work_dir=str(tmp_path / 'whole'))
    run(cfg, 'killed', until=2)
    saved = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
    contexts = [key for key in saved['state_dict'] if '.context.' in key]
    assert bool(contexts) == (kind == 'cpc')
    resumed, found = run(cfg, 'resumed', resume=True)
    assert len(found) == 4 and found == expected[4:]
    assert not changed(state(whole), state(resumed))


def test_from_stored_features(gim, run):
    """All patches of an image lie together; the losses are the same."""
    plain, expected = run(sequential(gim, 1, 'plain'), 'plain')
    cached, found = run(sequential(gim, 1, 'cached', cache='disk'), 'cached')
    assert found == expected
    assert not changed(state(plain), state(cached))


def test_one_module_a_run(gim, run):
    """Each run loads the last and trains a module, with its head alone."""
    before = None
    for index in range(3):
        epochs = [0, 0, 0]
        epochs[index] = 1
        cfg = sequential(gim, epochs, f'only_{index}')
        if before is not None:
            cfg['load_from'] = before[1]
        runner, losses = run(cfg, f'only_{index}')
        own = f'train/local_{index}.loss_info_nce'
        assert [own in values for values in losses] == [True, True]
        if before is not None:
            found = changed(before[0], state(runner))
            parts = {f'stages.{index}', f'local_heads.{index}'}
            if index == 2:
                # It learns to read the last module meanwhile.
                parts.add('head.fc')
            for part in parts:
                assert any(part in name for name in found)
            assert all(any(p in name for p in parts) for name in found)
        before = state(runner), f'{cfg["work_dir"]}/epoch_1.pth'


def test_the_published_probe(gim, run):
    """The model's own head alone, on frozen modules."""
    states = []
    for epochs in 1, 2:
        cfg = sequential(gim, 0, f'probe_{epochs}', head_epochs=epochs)
        runner, losses = run(cfg, f'probe_{epochs}')
        assert len(losses) == 2 * epochs
        states.append(state(runner))
    assert changed(*states) == {'head.fc.weight', 'head.fc.bias'}
