"""Modules trained one after another."""

from __future__ import annotations

import math
from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from torch import nn

from mmlocal.engine.loops.sequential.phases import Phases

# What belongs to each module, with its head.
OWN = [
    ('backbone.conv1', 'backbone.bn1', 'backbone.layer1', 'local_heads.0'),
    ('backbone.layer2', 'local_heads.1'),
    ('backbone.layer3', 'head.fc', 'local_heads.2'),
]


def state(runner):
    return deepcopy(runner.model.state_dict())


def owner(name):
    """The module that an entry of the state belongs to."""
    found = [any(part in name for part in parts) for parts in OWN]
    return found.index(True)


def changed(before, after):
    """Numbers of the modules that differ."""
    return {
        owner(name)
        for name, value in after.items()
        if not torch.equal(before[name], value)
    }


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(second[name], value), name


@pytest.mark.parametrize('kind', ['epochs', 'iters'])
@pytest.mark.parametrize('amp', [False, True])
def test_only_one_module_changes(cfg, loops, kind, amp):
    """Invariant 11, with momentum, weight decay and clipping."""
    if kind == 'iters':
        loops.by_iteration(cfg)
    if amp:
        cfg['optim_wrapper'] |= {
            'type': 'mmlocal.LocalAmpOptimWrapper',
            'dtype': 'bfloat16',
        }
    cfg['optim_wrapper']['clip_grad'] = {'max_norm': 5.0}
    runner, recorder = loops.train(cfg, look=state)
    states = [*recorder.seen, state(runner)]
    assert len(states) == 25
    for step in range(24):
        found = changed(states[step], states[step + 1])
        assert found == {step // 8}, step
    assert runner.iter == 24 and runner.optim_wrapper.inner_count == 8
    assert all(w.requires_grad for w in runner.model.parameters())
    assert all(module.training for module in runner.model.modules())


def test_nothing_behind_the_module_runs(cfg, loops):
    called = []

    class Watch(Hook):
        def before_train(self, runner):
            backbone = runner.model.backbone
            parts = {
                name: getattr(backbone.backbone, name)
                for name in ('layer1', 'layer2', 'layer3')
            }
            for index, head in enumerate(backbone.local_heads):
                parts[f'head {index}'] = head.net
            parts['own head'] = runner.model.head.fc
            for name, part in parts.items():
                note = partial(self.note, runner, name)
                part.register_forward_hook(note)

        def note(self, runner, name, *args):
            called.append((runner.iter, name))

    cfg['custom_hooks'] += [Watch()]
    _, recorder = loops.train(cfg)
    runs = [
        ('layer1', 'head 0'),
        ('layer1', 'layer2', 'head 1'),
        ('layer1', 'layer2', 'layer3', 'own head'),
    ]
    expected = [(i, name) for i in range(24) for name in runs[i // 8]]
    assert called == expected
    for step, values in enumerate(recorder.losses[:16]):
        key = f'train/local_{step // 8}.loss_task'
        # Nothing of heads that do not train any more.
        assert values.keys() == {'loss', 'train/loss', key}
        assert values['loss'] == values[key] == values['train/loss']
    assert recorder.losses[-1].keys() == {'loss', 'train/loss'}


@pytest.mark.parametrize('index', range(3))
def test_each_phase_is_a_training_of_its_own(cfg, loops, helpers, index):
    """Plain PyTorch gives the same weights."""
    runner, recorder = loops.train(cfg, look=state)
    model = helpers.build(cfg['model'])
    model.load_state_dict(recorder.seen[8 * index])
    model.train()
    backbone = model.backbone
    weights = [
        weight
        for name, weight in model.named_parameters()
        if owner(name) == index
    ]
    options = cfg['optim_wrapper']['optimizer'] | {'params': weights}
    options.pop('type')
    optimizer = torch.optim.SGD(**options)
    loader = runner.train_dataloader
    step = 0
    for epoch in (2 * index, 2 * index + 1):
        loader.sampler.set_epoch(epoch)
        for raw in loader:
            batch = model.data_preprocessor(raw, training=True)
            feat, samples = batch['inputs'], batch['data_samples']
            for before in range(index):
                for block in backbone.chain.blocks(before):
                    block.eval()
                with torch.no_grad():
                    feat = backbone.chain.run(before, feat)
            if index < 2:
                feat = backbone.chain.run(index, feat)
                losses = backbone.local_heads[index].loss(
                    feat, batch['inputs'], samples
                )
                loss = losses['loss_task']
            else:
                pooled = model.neck(backbone.chain.finish(feat))
                loss = model.head.loss(pooled, samples)['loss']
            rate = 0.1 * (1 + math.cos(math.pi * step / 8)) / 2
            optimizer.param_groups[0]['lr'] = rate
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    ends = [*recorder.seen, state(runner)]
    for name, value in model.state_dict().items():
        found = ends[8 * index + 8][name]
        torch.testing.assert_close(found, value, msg=name)


@pytest.mark.parametrize('kind', ['epochs', 'iters'])
def test_schedules_begin_anew(cfg, loops, kind):
    cfg['train_cfg']['epochs'] = [2, 1, 3]
    warmup = {'type': 'LinearLR', 'start_factor': 0.5, 'end': 3}
    main = {'type': 'PolyLR', 'eta_min': 0, 'begin': 3, 'by_epoch': False}
    if kind == 'iters':
        loops.by_iteration(cfg, [8, 4, 12])
    cfg['param_scheduler'] = [warmup | {'by_epoch': False}, main]
    cfg['auto_scale_lr'] = {'enable': True, 'base_batch_size': 1}
    _, recorder = loops.train(cfg)
    expected = []
    for length in (8, 4, 12):
        expected += [0.1, 0.15, 0.2]
        last = max(length - 4, 1)
        expected += [0.2 * (1 - i / last) for i in range(length - 3)]
    assert recorder.rates == pytest.approx(expected, abs=1e-9)


def test_schedules_by_epoch(cfg, loops):
    cfg['train_cfg']['epochs'] = [3, 3, 2]
    cfg['param_scheduler'] = {'type': 'MultiStepLR', 'milestones': [1, 2]}
    _, recorder = loops.train(cfg)
    expected = [0.1, 0.01, 0.001, 0.1, 0.01, 0.001, 0.1, 0.01]
    assert recorder.rates[::4] == pytest.approx(expected)


STOPS = [{'epochs': n} for n in (1, 2, 3, 4, 5)]
STOPS += [{'iters': n} for n in (3, 8, 11, 16, 23)]


@pytest.mark.parametrize('stop', STOPS, ids=str)
@pytest.mark.slow
def test_resumed_run_equals_one_that_was_not_stopped(cfg, loops, once, stop):
    """Within a phase, and at its border."""
    ((kind, length),) = stop.items()
    if kind == 'iters':
        loops.by_iteration(cfg)
        cfg['default_hooks']['checkpoint']['interval'] = length
    cfg['custom_hooks'] += [{'type': 'EMAHook', 'momentum': 0.3}]
    cfg['optim_wrapper']['optimizer'] = {
        'type': 'AdamW',
        'lr': 0.01,
        'weight_decay': 0.1,
    }
    cfg['optim_wrapper']['paramwise_cfg'] = {'norm_decay_mult': 0.0}
    work_dir = cfg['work_dir'] + '_whole'
    whole, expected = once(kind, loops.train, cfg, work_dir=work_dir)
    _, first = loops.train(cfg, stop=stop)
    again, second = loops.train(cfg, resume=True)
    assert len(first.losses) < 24
    assert [*first.losses, *second.losses] == expected.losses
    assert [*first.rates, *second.rates] == expected.rates
    assert_same(whole.model.state_dict(), again.model.state_dict())


def test_a_finished_run_is_not_begun_again(cfg, loops):
    before, _ = loops.train(cfg)
    after, recorder = loops.train(cfg, resume=True)
    assert not recorder.losses
    assert_same(before.model.state_dict(), after.model.state_dict())


@pytest.mark.parametrize('stop', [None, {'epochs': 3}])
def test_no_accumulation_across_a_border(cfg, loops, stop):
    """8 iterations a phase, 3 a step: 3 + 3 + 2."""
    cfg['optim_wrapper']['accumulative_counts'] = 3

    def look(runner):
        weights = [weight.flatten() for weight in runner.model.parameters()]
        return torch.cat(weights).detach()

    runner, recorder = loops.train(cfg, look=look, stop=stop)
    states = [*recorder.seen, look(runner)]
    steps = [
        not torch.equal(states[i], states[i + 1])
        for i in range(len(states) - 1)
    ]
    assert len(steps) == (12 if stop else 24)
    one = [False, False, True, False, False, True, False, True]
    assert steps == (one * 3)[: len(steps)]


@pytest.mark.slow
def test_accumulated_gradients_are_those_of_the_larger_batch(cfg, loops):
    """Without BatchNorm in training."""
    backbone = cfg['model']['backbone']
    backbone['backbone'] = {
        'type': 'ResNet_CIFAR',
        'depth': 18,
        'stem_channels': 8,
        'base_channels': 8,
        'norm_cfg': {'type': 'GN', 'num_groups': 2},
    }
    loops.by_iteration(cfg)
    cfg['optim_wrapper']['optimizer']['momentum'] = 0
    cfg['param_scheduler'] = None
    small, _ = loops.train(
        cfg,
        optim_wrapper=cfg['optim_wrapper'] | {'accumulative_counts': 2},
    )
    cfg['train_dataloader']['batch_size'] = 4
    cfg['train_cfg']['iters'] = 4
    large, _ = loops.train(cfg, work_dir=cfg['work_dir'] + '_large')
    for name, value in large.model.state_dict().items():
        found = small.model.state_dict()[name]
        torch.testing.assert_close(found, value, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_blocks_recomputed(cfg, loops):
    """Frozen blocks are not, since nothing of them is kept."""
    plain, expected = loops.train(cfg)
    cfg['model']['backbone']['checkpointing'] = 'block'
    runner, recorder = loops.train(cfg, work_dir=cfg['work_dir'] + '_cp')
    assert recorder.losses == expected.losses
    assert_same(plain.model.state_dict(), runner.model.state_dict())


@pytest.mark.slow
def test_gradients_freed_by_module(cfg, loops):
    plain, expected = loops.train(cfg)
    cfg['optim_wrapper']['step'] = 'module'
    runner, recorder = loops.train(cfg, work_dir=cfg['work_dir'] + '_step')
    assert recorder.losses == expected.losses
    assert_same(plain.model.state_dict(), runner.model.state_dict())


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
def test_compiled(cfg, loops):
    cfg['model']['backbone']['boundaries'] = ['layer2.0']
    cfg['train_cfg']['epochs'] = 1
    _, expected = loops.train(cfg)
    options = Config({'compile': {'backend': 'eager'}})
    work_dir = cfg['work_dir'] + '_compiled'
    _, recorder = loops.train(cfg, cfg=options, work_dir=work_dir)
    for found, values in zip(recorder.losses, expected.losses, strict=True):
        assert found == pytest.approx(values, rel=1e-4)


def test_average_of_weights(cfg, loops):
    """That of a module that is finished follows it to where it stays."""
    hook = {'type': 'EMAHook', 'momentum': 0.5}
    cfg['custom_hooks'] += [hook]
    runner, recorder = loops.train(cfg, look=state)
    (ema,) = [h for h in runner.hooks if type(h).__name__ == 'EMAHook']
    states = [*recorder.seen[1:], state(runner)]
    for name, parameter in ema.ema_model.module.named_parameters():
        name = name.replace('backbone.backbone.', 'backbone.')
        average = states[0][name]
        for each in states[1:]:
            average = average.lerp(each[name], 0.5)
        torch.testing.assert_close(parameter, average)


def test_a_local_head_at_the_end(cfg, loops):
    """It is trained last, and the model's own head with it, as a probe."""
    cfg['model']['backbone']['local_end'] = True
    runner, recorder = loops.train(cfg, look=state)
    states = [*recorder.seen, state(runner)]
    for step in range(24):
        assert changed(states[step], states[step + 1]) == {step // 8}
    before, after = states[16], states[-1]
    moved = {n for n, v in after.items() if not torch.equal(before[n], v)}
    assert any('local_heads.2' in name for name in moved)
    assert 'head.fc.weight' in moved
    assert {*recorder.losses[-1]} >= {'train/local_2.loss_task', 'train/loss'}


def test_one_module(cfg, loops):
    """A network that is not cut trains end to end."""
    cfg['model']['backbone'] |= {'boundaries': [], 'local_heads': None}
    cfg['train_cfg']['epochs'] = [2]
    _, recorder = loops.train(cfg)
    cfg['train_cfg'] = {'by_epoch': True, 'max_epochs': 2}
    _, expected = loops.train(cfg, work_dir=cfg['work_dir'] + '_plain')
    assert recorder.losses == expected.losses


def test_the_log_says_once_which_module(cfg, loops):
    loops.train(cfg)
    (log,) = Path(cfg['work_dir']).glob('*/*.log')
    text = log.read_text()
    for number in (1, 2, 3):
        line = f'module {number} of 3 trains: 2 epochs, the others are frozen'
        assert text.count(line) == 1
    assert 'local_0.loss_task: ' in text


def test_validation(cfg, loops):
    cfg['val_dataloader'] = deepcopy(cfg['train_dataloader'])
    cfg['val_cfg'] = {}
    cfg['val_evaluator'] = {'type': 'Accuracy'}
    looked = []

    class Look(Hook):
        def after_val_epoch(self, runner, metrics):
            looked.append((runner.epoch, metrics['accuracy/top1']))

    cfg['custom_hooks'] += [Look()]
    _, recorder = loops.train(cfg)
    assert [epoch for epoch, _ in looked] == [1, 2, 3, 4, 5, 6]
    del cfg['val_dataloader'], cfg['val_cfg'], cfg['val_evaluator']
    cfg['custom_hooks'].pop()
    _, expected = loops.train(cfg, work_dir=cfg['work_dir'] + '_plain')
    assert recorder.losses == expected.losses


@pytest.mark.slow
def test_segmentation(cfg, loops, helpers):
    """Any head, any backbone; an output of a frozen module is read."""
    model = helpers.segmentor_cfg(['layer2.0', 'layer3.1'])
    model['auxiliary_head'] = model['decode_head'] | {
        'in_channels': 32,
        'in_index': 2,
    }
    batch = helpers.segmentation_batch(8)

    class Pictures(loops.Images):
        metainfo = {'classes': tuple('abcd'), 'palette': [[0] * 3] * 4}

        def __init__(self):
            self.items = [
                {'inputs': image, 'data_samples': sample}
                for image, sample in zip(*batch.values(), strict=True)
            ]

    loops.by_iteration(cfg, 3)
    cfg['train_dataloader']['dataset'] = Pictures()
    cfg |= {'model': model, 'default_scope': 'mmseg'}
    runner, recorder = loops.train(cfg, look=state)
    states = [*recorder.seen, state(runner)]
    parts = [
        ('stem', 'layer1.', 'local_heads.0'),
        ('layer2.', 'layer3.0', 'local_heads.1'),
        ('layer3.1', 'layer4.', 'decode_head', 'auxiliary_head'),
    ]
    for step in range(9):
        moved = {
            name
            for name, value in states[step + 1].items()
            if not torch.equal(states[step][name], value)
        }
        assert moved
        for name in moved:
            assert any(part in name for part in parts[step // 3]), name
    assert {*recorder.losses[0]} == {
        'loss',
        'train/loss',
        'train/local_0.loss_recon',
        'train/local_0.loss_task',
    }


def test_a_backbone_that_is_no_chain(cfg, loops, helpers):
    swin = {
        'type': 'SwinTransformer',
        'arch': {
            'embed_dims': 8,
            'depths': [1, 1],
            'num_heads': [1, 2],
        },
        'img_size': 32,
        'window_size': 4,
        'out_indices': [1],
    }
    backbone = cfg['model']['backbone'] | {
        'backbone': swin,
        'boundaries': ['stages.1'],
    }
    cfg['model'] = helpers.classifier_cfg(backbone, 16)
    cfg['train_cfg']['epochs'] = 1
    _, recorder = loops.train(cfg)
    assert len(recorder.losses) == 8


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'epochs': 0}, 'train_cfg.epochs=0: write a whole number above 0'),
        ({'epochs': [1, 1]}, 'a list of 3, one for each module'),
        ({'max_epochs': 3}, 'train_cfg.max_epochs: .* write epochs'),
    ],
)
def test_lengths_that_do_not_fit(cfg, loops, change, message):
    with pytest.raises(ValueError, match=message):
        loops.train(cfg, train_cfg=cfg['train_cfg'] | change)


def test_iterations_that_do_not_fit(cfg, loops):
    loops.by_iteration(cfg, [1])
    with pytest.raises(ValueError, match=r'train_cfg.iters=\[1\]'):
        loops.train(cfg)
    cfg['train_cfg'] |= {'iters': 1, 'max_iters': 3}
    with pytest.raises(ValueError, match='train_cfg.max_iters'):
        loops.train(cfg)


@pytest.mark.parametrize('hook', [True, False])
@pytest.mark.parametrize('kind', ['OptimWrapper', 'AmpOptimWrapper'])
def test_plain_optim_wrapper_is_refused(cfg, loops, kind, hook, monkeypatch):
    from mmengine.optim import AmpOptimWrapper, OptimWrapper

    # It does not like a CPU.
    monkeypatch.setattr(AmpOptimWrapper, '__init__', OptimWrapper.__init__)
    cfg['optim_wrapper']['type'] = kind
    cfg['custom_hooks'] = cfg['custom_hooks'] if hook else []
    with pytest.raises(ValueError, match=f"write type='mmlocal.Local{kind}'"):
        loops.train(cfg)


def test_optimizer_that_is_built_is_refused(cfg, loops, helpers):
    from mmlocal.engine.optim import LocalOptimWrapper

    model = helpers.build(cfg['model'])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapper = LocalOptimWrapper(optimizer=optimizer)
    with pytest.raises(ValueError, match='optim_wrapper: .*write a dict'):
        loops.train(cfg, model=model, optim_wrapper=wrapper)


def test_model_without_modules_is_refused(cfg, loops):
    cfg['model']['backbone'] = cfg['model']['backbone']['backbone']
    with pytest.raises(ValueError, match='mmlocal.LocalSupervisedBackbone'):
        loops.train(cfg)


def test_head_that_needs_a_gradient_is_refused(cfg, loops, monkeypatch):
    from mmlocal.models.local_heads import GreedyHead

    monkeypatch.setattr(GreedyHead, 'needs_gradient', True)
    with pytest.raises(ValueError, match='GreedyHead needs the gradient'):
        loops.train(cfg)


def test_plain_ddp_is_refused(cfg, helpers):
    from mmengine.model import MMDistributedDataParallel

    from mmlocal.engine.loops.sequential.loop import _check_model

    wrapped = MMDistributedDataParallel.__new__(MMDistributedDataParallel)
    nn.Module.__init__(wrapped)
    wrapped.module = helpers.build(cfg['model'])
    with pytest.raises(ValueError, match='mmlocal.LocalDistributedDataPara'):
        _check_model(wrapped)


def test_phases():
    phases = Phases([2, 1, 3], 3, 'epochs')
    found = [phases.at(time).index for time in range(6)]
    assert found == [0, 0, 1, 2, 2, 2] and phases.total == 6
    last = phases.at(4)
    assert (last.begin, last.end, last.length) == (3, 6, 3)


def test_phases_of_no_length_are_passed_over():
    phases = Phases([0, 2, 0], 3, 'epochs', own_head=1)
    found = [phases.at(time) for time in range(3)]
    assert [phase.index for phase in found] == [1, 1, 3]
    assert (found[0].begin, found[0].end) == (0, 2)
    assert phases.total == 3
