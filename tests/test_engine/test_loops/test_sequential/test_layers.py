"""Layers one after another: their statistics, and the classifier at last."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

STATISTICS = ('running_mean', 'running_var', 'num_batches_tracked')


@pytest.fixture
def cfg(cfg):
    backbone = cfg['model']['backbone']
    backbone['local_heads'] = {
        'type': 'mmlocal.LayerwiseHead',
        'num_classes': 10,
    }
    backbone['backbone']['drop_rate'] = 0.2
    backbone['local_end'] = True
    cfg['train_cfg']['epochs'] = 1
    return cfg


def state(runner):
    return deepcopy(runner.model.state_dict())


def moved(before, after):
    return {n for n, v in after.items() if not torch.equal(before[n], v)}


def is_statistic(name):
    return name.endswith(STATISTICS)


def look(runner):
    """The state, and which stages drop units."""
    net = runner.model.backbone.backbone
    stages = net.layer1, net.layer2, net.layer3
    return state(runner), [stage[0].dropout.training for stage in stages]


@pytest.mark.parametrize('moving', [False, True])
def test_statistics_of_lower_layers(cfg, loops, moving):
    """They stay, or move on; weights stay in any case."""
    cfg['train_cfg']['moving_statistics'] = moving
    runner, recorder = loops.train(cfg, look=look)
    states, drops = zip(*recorder.seen, look(runner), strict=True)
    # Four iterations for each of three modules.
    for index in range(3):
        names = moved(states[4 * index], states[4 * index + 4])
        own = f'backbone.layer{index + 1}.'
        assert any(own in n for n in names if not is_statistic(n))
        lower = {n for n in names if 'backbone.layer' in n and own not in n}
        assert all(is_statistic(name) for name in lower)
        assert bool(lower) == (moving and index > 0)
    lowest, *_, highest = zip(*drops[:-1], strict=True)
    assert [*lowest] == [True] * 4 + [moving] * 8
    assert [*highest] == [False] * 8 + [True] * 4


@pytest.mark.parametrize('kind', ['epochs', 'iters'])
def test_the_classifier_trains_last(cfg, loops, kind):
    cfg['train_cfg']['head_epochs'] = 2
    if kind == 'iters':
        loops.by_iteration(cfg, 4)
        cfg['train_cfg'] |= {'head_iters': 8}
        cfg['train_cfg'].pop('head_epochs', None)
    runner, recorder = loops.train(cfg, look=state)
    assert runner.iter == 20
    names = moved(recorder.seen[12], state(runner))
    assert names == {'head.fc.weight', 'head.fc.bias'}
    assert recorder.losses[-1].keys() == {'loss', 'train/loss'}
    # With a schedule of its own.
    assert recorder.rates[12] == recorder.rates[0]
    (log,) = Path(cfg['work_dir']).glob('*/*.log')
    assert "the model's own head trains: " in log.read_text()


def test_moving_statistics_reach_the_classifier_too(cfg, loops):
    cfg['train_cfg'] |= {'head_epochs': 1, 'moving_statistics': True}
    runner, recorder = loops.train(cfg, look=state)
    names = moved(recorder.seen[12], state(runner))
    names -= {'head.fc.weight', 'head.fc.bias'}
    assert names and all(is_statistic(name) for name in names)
    assert not any('local_heads' in name for name in names)


@pytest.mark.parametrize('moving', [False, True])
def test_resume(cfg, loops, moving):
    # Dropout draws from a generator whose state is not kept.
    cfg['model']['backbone']['backbone']['drop_rate'] = 0.0
    cfg['train_cfg'] |= {'head_epochs': 1, 'moving_statistics': moving}
    whole, expected = loops.train(cfg, work_dir=cfg['work_dir'] + '_whole')
    loops.train(cfg, stop={'epochs': 3})
    again, second = loops.train(cfg, resume=True)
    assert second.losses == expected.losses[12:]
    assert not moved(state(whole), state(again))


def test_validation_while_the_classifier_trains(cfg, loops):
    cfg['train_cfg']['head_epochs'] = 1
    cfg['val_dataloader'] = deepcopy(cfg['train_dataloader'])
    cfg['val_cfg'] = {'type': 'mmlocal.LocalValLoop'}
    cfg['val_evaluator'] = [
        {'type': 'Accuracy'},
        {'type': 'mmlocal.PerModuleAccuracy'},
    ]
    found = []

    class Look(Hook):
        def after_val_epoch(self, runner, metrics):
            found.append(sorted(metrics))

    cfg['custom_hooks'].append(Look())
    _, recorder = loops.train(cfg, look=look)
    assert len(found) == 4
    # Validation leaves nothing in eval mode that was not.
    drops = [training for _, training in recorder.seen]
    assert drops == [
        [stage == phase for stage in range(3)]
        for phase in range(4)
        for _ in range(4)
    ]
    assert found[0] == ['accuracy/top1', 'module_1/accuracy/top1']
    assert found[2] == found[3]
    for index in (1, 2, 3):
        assert f'module_{index}/accuracy/top1' in found[3]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'moving_statistics': True}, 'train_cfg.moving_statistics: .*cache'),
        ({'head_epochs': 1}, 'train_cfg.head_epochs: .*cache'),
    ],
)
def test_a_cache_has_no_lower_layers(cfg, loops, change, message):
    cfg['train_cfg'] |= {'cache': 'disk', **change}
    with pytest.raises(ValueError, match=message):
        loops.train(cfg)


def test_head_epochs_need_a_local_end(cfg, loops):
    cfg['model']['backbone']['local_end'] = False
    cfg['train_cfg']['head_epochs'] = 1
    with pytest.raises(ValueError, match='head_epochs=1: .*local_end=True'):
        loops.train(cfg)
