"""Delayed gradients, against SGD on gradients that are kept in a list."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch.optim import SGD

from mmlocal.engine.loops.delayed.module import DelayedModule
from mmlocal.engine.optim import LocalOptimWrapper
from mmlocal.registry import MODELS
from mmlocal.step import current_step

OPTIMIZER = {'lr': 0.05, 'momentum': 0.9, 'weight_decay': 0.1}
PLACES = {'layer2': 1, 'layer3': 2, 'head': 2}


class Batches(Hook):
    """Keeps what the loop gets."""

    def __init__(self):
        self.found = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.found.append(deepcopy(data_batch))


@pytest.fixture
def delayed(cfg):
    """Three modules, two epochs of 3 + 3 + 2 images."""
    backbone = cfg['model']['backbone']
    backbone['local_heads'] = []
    cfg['train_dataloader']['batch_size'] = 3
    cfg['train_cfg'] = {
        'type': 'mmlocal.DelayedGradientTrainLoop',
        'max_epochs': 2,
    }
    cfg['param_scheduler'] = None
    cfg['optim_wrapper']['optimizer'] = {
        'type': 'SGD',
        'nesterov': True,
        **OPTIMIZER,
    }
    return cfg


def weights_of(model):
    """Of each module; the model's own head belongs to the last."""
    parts = [[], [], []]
    for name, weight in model.named_parameters():
        place = name.replace('backbone.', '').split('.')[0]
        parts[PLACES.get(place, 0)].append(weight)
    assert all(parts)
    return parts


def copies(model):
    """To be called before each iteration."""
    return [[w.detach().clone() for w in part] for part in weights_of(model)]


def plain_twin(cfg, weights):
    """The model without MMLocal."""
    cfg = deepcopy(cfg['model'])
    cfg['backbone'] = cfg['backbone']['backbone']
    model = MODELS.build(cfg)
    model.load_state_dict(weights)
    return model.train()


def train(loops, cfg, **changes):
    """A run, what it began with and its batches."""
    batches = Batches()
    settings = {**cfg, **changes}
    settings['custom_hooks'] = [*settings['custom_hooks'], batches]
    start = []

    def look(runner):
        if not start:
            start.append(deepcopy(runner.model.state_dict()))
        return copies(runner.model)

    runner, recorder = loops.train(settings, look)
    # Custom hooks are copied with the settings.
    (batches,) = [hook for hook in runner.hooks if isinstance(hook, Batches)]
    return runner, recorder, start[0], batches.found


def losses(recorder):
    return [values['loss'] for values in recorder.losses]


def optimizers(model):
    parts = weights_of(model)
    return parts, [SGD(part, nesterov=True, **OPTIMIZER) for part in parts]


@pytest.mark.parametrize('keep', ['weights', 'graph'])
def test_delayed_sgd(loops, delayed, keep):
    """Module k moves by the gradient of all weights K - k steps ago."""
    delayed['train_cfg']['keep'] = keep
    runner, recorder, start, batches = train(loops, delayed)
    assert [len(batch['inputs']) for batch in batches] == [3, 3, 2] * 2
    model = plain_twin(delayed, start)
    parts, each = optimizers(model)
    gradients, expected = [], []
    for now, batch in enumerate(batches):
        for part, found in zip(parts, recorder.seen[now], strict=True):
            for weight, other in zip(part, found, strict=True):
                torch.testing.assert_close(
                    other, weight.detach(), rtol=1e-4, atol=1e-6
                )
        data = model.data_preprocessor(deepcopy(batch), True)
        loss, _ = model.parse_losses(model(**data, mode='loss'))
        expected.append(loss.item())
        model.zero_grad()
        loss.backward()
        gradients.append([[w.grad.clone() for w in part] for part in parts])
        for index, (part, optimizer) in enumerate(
            zip(parts, each, strict=True)
        ):
            then = now - (2 - index)
            if then < 0:
                continue
            for weight, grad in zip(part, gradients[then][index], strict=True):
                weight.grad = grad
            optimizer.step()
    assert losses(recorder) == pytest.approx(expected, rel=1e-4)
    found = runner.model.state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)


def test_modules_begin_one_after_another(loops, delayed):
    """Before its first gradient a module is not decayed either."""
    _, recorder, _, _ = train(loops, delayed)
    for index in range(3):
        series = [weights[index] for weights in recorder.seen]
        for step in range(len(series) - 1):
            pairs = zip(series[step], series[step + 1], strict=True)
            same = all(torch.equal(old, new) for old, new in pairs)
            assert same == (step < 2 - index), (index, step)


def test_features_replay(loops, delayed):
    """Inputs of then, weights of now; by hand, module by module."""
    delayed['train_cfg']['keep'] = 'input'
    runner, recorder, start, batches = train(loops, delayed)
    model = plain_twin(delayed, start)
    _, each = optimizers(model)
    net, head = model.backbone, model.head

    def first(x):
        return net.layer1(torch.relu(net.bn1(net.conv1(x))))

    modules = [first, net.layer2]
    inputs, sent, expected = [[], []], [None, None], []
    for batch in batches:
        data = model.data_preprocessor(deepcopy(batch), True)
        feat = data['inputs']
        received = list(sent)
        for index, module in enumerate(modules):
            inputs[index].append(feat)
            with torch.no_grad():
                feat = module(feat)
        feat.requires_grad_()
        feats = model.neck((net.layer3(feat),))
        loss = head.loss(feats, data['data_samples'])['loss']
        expected.append(loss.item())
        model.zero_grad()
        loss.backward()
        sent[1] = feat.grad
        statistics = deepcopy(dict(net.named_buffers()))
        for index, module in enumerate(modules):
            if received[index] is None:
                continue
            x = inputs[index].pop(0).requires_grad_(index > 0)
            module(x).backward(received[index])
            if index > 0:
                sent[index - 1] = x.grad
        for name, value in statistics.items():
            net.get_buffer(name).copy_(value)
        for optimizer in each:
            optimizer.step()
    assert losses(recorder) == pytest.approx(expected, rel=1e-4)
    found = runner.model.state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)


def test_features_replay_trains_otherwise(loops, delayed):
    other = deepcopy(delayed)
    other['train_cfg']['keep'] = 'input'
    found = losses(train(loops, delayed)[1])
    replayed = losses(train(loops, other)[1])
    assert found[:2] == pytest.approx(replayed[:2], rel=1e-6)
    assert found[-1] != pytest.approx(replayed[-1], rel=1e-6)


@pytest.mark.parametrize('amp', [False, True])
def test_what_is_kept_makes_no_difference(loops, delayed, amp):
    """Nor do blocks that are recomputed."""
    if amp:
        delayed['optim_wrapper'] |= {
            'type': 'mmlocal.LocalAmpOptimWrapper',
            'loss_scale': 1024.0,
        }
    found = []
    for keep in 'weights', 'graph':
        for mode in None, 'block':
            cfg = deepcopy(delayed)
            cfg['train_cfg']['keep'] = keep
            cfg['model']['backbone']['checkpointing'] = mode
            runner, recorder, _, _ = train(loops, cfg)
            found.append((losses(recorder), runner.model.state_dict()))
    expected, state = found.pop()
    assert all(map(torch.isfinite, map(torch.tensor, expected)))
    for values, weights in found:
        assert values == expected
        for name, value in weights.items():
            assert torch.equal(value, state[name]), name


def test_one_module_is_plain_training(loops, delayed):
    delayed['model']['backbone']['boundaries'] = []
    plain = deepcopy(delayed)
    plain['train_cfg'] = {'by_epoch': True, 'max_epochs': 2}
    plain['model']['backbone'] = plain['model']['backbone']['backbone']
    plain['optim_wrapper']['type'] = 'OptimWrapper'
    plain['custom_hooks'] = []
    found, expected = (train(loops, cfg)[1] for cfg in (delayed, plain))
    assert len(losses(expected)) == 6
    assert losses(found) == losses(expected)


class Emptied(Hook):
    """What happens to a run that is stopped and resumed."""

    def after_train_epoch(self, runner):
        for module in runner.train_loop.modules:
            module.clear()


def test_a_resumed_run_waits_again(loops, delayed):
    """As its log says, it is the run whose queues were emptied there."""
    expected = deepcopy(delayed)
    expected['custom_hooks'] += [Emptied()]
    expected = losses(train(loops, expected)[1])
    undisturbed = losses(train(loops, delayed)[1])
    loops.train(delayed, stop={'epochs': 1})
    _, resumed = loops.train(delayed, resume=True)
    assert losses(resumed) == expected[3:]
    assert undisturbed[3] == expected[3] != undisturbed[-1]
    assert undisturbed[-1] != expected[-1]


def test_by_iterations_with_all_that_is_usual(loops, delayed):
    """Clipping, EMA and a schedule; in iterations as in epochs."""
    delayed['optim_wrapper']['clip_grad'] = {'max_norm': 0.1}
    delayed['custom_hooks'] += [{'type': 'EMAHook'}]
    delayed['param_scheduler'] = [
        {'type': 'LinearLR', 'by_epoch': False, 'end': 4}
    ]
    sampler = delayed['train_dataloader']['sampler']
    sampler['shuffle'] = False
    by_epoch = losses(train(loops, delayed)[1])
    delayed['train_cfg'] = {
        'type': 'mmlocal.DelayedGradientIterTrainLoop',
        'max_iters': 6,
    }
    assert losses(train(loops, delayed)[1]) == by_epoch
    assert len(by_epoch) == 6


@pytest.mark.parametrize('keep', ['weights', 'graph', 'input'])
def test_what_waits_is_told(loops, delayed, keep, caplog):
    """Module 0 keeps two batches, module 1 one."""
    delayed['train_cfg']['keep'] = keep
    runner, *_ = train(loops, delayed)
    first, second = runner.train_loop.modules
    assert first.is_full and second.is_full
    batches, weights = zip(first.held(), second.held(), strict=True)
    sizes = [sum(w.nbytes for w in p) for p in weights_of(runner.model)]
    copied = [0, 0] if keep == 'input' else [2 * sizes[0], sizes[1]]
    assert [sum(each.values()) for each in weights] == copied
    feats = [3 * 32 * 32, 16 * 32 * 32, 32 * 16 * 16]
    # The last two batches had 3 and 2 images; float32.
    least = [4 * 5 * (feats[0] + feats[1]), 4 * 2 * (feats[1] + feats[2])]
    found = [sum(each.values()) for each in batches]
    if keep == 'graph':
        assert all(a > 2 * b for a, b in zip(found, least, strict=True))
    else:
        assert found == least
    assert f"keep='{keep}'" in text_of(runner)
    total = sum(({**batches[0], **batches[1]}).values()) + sum(copied)
    assert total < sum(found) + sum(copied)  # one feature is shared


def text_of(runner):
    with open(runner.logger.handlers[1].baseFilename) as file:
        return file.read()


@pytest.mark.slow
def test_overflow_leaves_a_batch_out(loops, delayed):
    """As the loss scale falls, training begins."""
    delayed['optim_wrapper'] |= {
        'type': 'mmlocal.LocalAmpOptimWrapper',
        'dtype': 'float16',
        'loss_scale': {'init_scale': 2.0**24, 'growth_interval': 1000},
    }
    delayed['train_cfg']['max_epochs'] = 6
    for item in delayed['train_dataloader']['dataset'].items:
        item['inputs'] = item['inputs'][:, :8, :8]  # halves are slow
    runner, recorder, *_ = train(loops, delayed)
    assert all(w.isfinite().all() for w in runner.model.parameters())
    last = [weights[2] for weights in recorder.seen]
    still = [
        all(map(torch.equal, old, new))
        for old, new in zip(last, last[1:], strict=False)
    ]
    for old, new in zip(*recorder.seen[-2:], strict=True):
        assert not any(map(torch.equal, old, new))
    scale = runner.optim_wrapper.loss_scaler.get_scale()
    # Each overflow halves it, and holds all modules up.
    assert 0 < sum(still) == 24 - math.log2(scale) < 12


@pytest.mark.parametrize('skips', [True, False])
def test_only_the_batch_that_overflowed_is_left_out(helpers, delayed, skips):
    model = helpers.build(delayed['model'])
    wrapper = LocalOptimWrapper(SGD(model.parameters(), lr=0.1))
    module = DelayedModule(model.backbone, 0, 1, 'weights', skips)
    grads = [model.backbone.backbone.conv1.weight.grad]
    with wrapper.optim_context(model):
        for value in math.inf, 1.0, 1.0:
            passed = module.train(torch.randn(2, 3, 32, 32), current_step())
            passed.backward(torch.full_like(passed, value))
            grads.append(model.backbone.backbone.conv1.weight.grad)
            wrapper.zero_grad()
    assert grads[:2] == [None, None]
    assert (grads[2] is None) == skips
    assert grads[3].isfinite().all()


def test_a_segmentor(loops, delayed, helpers):
    batch = helpers.segmentation_batch(size=4)
    items = [
        {'inputs': image, 'data_samples': sample}
        for image, sample in zip(*batch.values(), strict=True)
    ]
    delayed['model'] = helpers.segmentor_cfg(
        ['layer2.0', 'layer3.1'], [], out_indices=(3,)
    )
    delayed['default_scope'] = 'mmseg'
    delayed['train_dataloader'] |= {'batch_size': 2, 'dataset': items}
    found = []
    for keep in 'weights', 'graph':
        delayed['train_cfg']['keep'] = keep
        runner, recorder = loops.train(delayed)
        found.append(losses(recorder))
    assert found[0] == found[1]
    assert len({*found[0]}) == 4


@MODELS.register_module()
class OwnStep(BaseModel):
    """A model that trains itself."""

    def __init__(self, backbone, **kwargs):
        super().__init__()
        self.backbone = MODELS.build(backbone)

    def forward(self, inputs, **kwargs):
        return self.backbone(inputs)

    def train_step(self, data, optim_wrapper):
        return {}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'train_cfg.keep': 'all'}, "keep='all'.*weights"),
        (
            {
                'model.backbone.local_heads': {
                    'type': 'mmlocal.GreedyHead',
                    'num_classes': 10,
                }
            },
            r'write model.backbone.local_heads=\[\]',
        ),
        ({'model.backbone.local_end': True}, 'local_heads.*local_end'),
        ({'optim_wrapper.type': 'OptimWrapper'}, 'LocalOptimWrapper'),
        ({'optim_wrapper.accumulative_counts': 2}, 'accumulative_counts'),
        ({'optim_wrapper.step': 'module'}, "step='module'"),
        ({'cfg': {'compile': True}}, 'compile_cfg'),
        ({'model.type': 'OwnStep', 'model._scope_': 'mmlocal'}, 'OwnStep'),
        (
            {'model.backbone': {'type': 'mmlocal.CIFARResNet', 'depth': 8}},
            'the model has none',
        ),
    ],
)
def test_what_is_refused(loops, delayed, change, message):
    for key, value in change.items():
        *path, last = key.split('.')
        place = delayed
        for part in path:
            place = place[part]
        place[last] = value
    with pytest.raises(ValueError, match=message):
        loops.train(delayed)


def test_modules_without_a_loss_do_not_train_otherwise(loops, delayed):
    delayed['train_cfg'] = {'by_epoch': True, 'max_epochs': 1}
    with pytest.raises(ValueError, match='DelayedGradientTrainLoop'):
        loops.train(delayed)
