"""One module a tick."""

from collections import Counter
from copy import deepcopy

import pytest
import torch
from mmengine.hooks import Hook

EPOCH = {'by_epoch': True, 'max_epochs': 3}
# What belongs to each module, with its head.
OWN = [
    ('backbone.conv1', 'backbone.bn1', 'backbone.layer1', 'local_heads.0'),
    ('backbone.layer2', 'local_heads.1'),
    ('backbone.layer3', 'head.fc'),
]


@pytest.mark.parametrize(
    'buffer', [{'size': 1}, pytest.param({'size': 0}, marks=pytest.mark.slow)]
)
def test_in_turn_it_is_synchronous_training(cfg, replay, buffer):
    """Loss for loss, and weight for weight.

    A module passes on what it computed before its step, in both.
    """
    _, expected = replay.run(cfg, 'plain', train_cfg=EPOCH)
    train_cfg = {**cfg['train_cfg'], 'buffer': buffer}
    train_cfg['sampler'] = {'order': 'round_robin'}
    runner, ticks = replay.run(cfg, 'turns', train_cfg=train_cfg)
    assert len(expected) == 12 and len(ticks) == 36
    for step, values in enumerate(expected):
        together = {}
        for tick in ticks[3 * step : 3 * step + 3]:
            together |= tick
        assert together == values


def test_weights_are_those_of_synchronous_training(cfg, replay):
    whole, _ = replay.run(cfg, 'plain', train_cfg=EPOCH)
    cfg['train_cfg']['buffer'] = {'size': 0}
    turns, _ = replay.run(cfg, 'turns')
    expected = whole.model.state_dict()
    for name, value in turns.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


class Changes(Hook):
    """Checks that each tick changed the module that it trained, alone."""

    priority = 'LOWEST'

    def __init__(self):
        self.trained = Counter()

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.before = deepcopy(runner.model.state_dict())
        self.counts = [*runner.train_loop.progress.trained]

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        counts = runner.train_loop.progress.trained
        trained = [i for i in range(3) if counts[i] > self.counts[i]]
        assert len(trained) <= 1
        changed = {
            name
            for name, value in runner.model.state_dict().items()
            if not torch.equal(value, self.before[name])
        }
        own = tuple(part for i in trained for part in OWN[i])
        names = {name.replace('backbone.local', 'local') for name in changed}
        assert all(name.startswith(own) for name in names), (own, names)
        kinds = {name.rsplit('.', 1)[1] for name in changed}
        assert not trained or {'weight', 'running_mean'} <= kinds
        assert all(p.grad is None for p in runner.model.parameters())
        self.trained[trained[0] if trained else None] += 1


def test_a_tick_moves_one_module(cfg, replay):
    """No weight decay, momentum or BatchNorm of another, nor when feeding."""
    cfg['train_cfg']['buffer'] = {'size': 3}
    hook = Changes()
    runner, _ = replay.run(cfg, 'moves', hook)
    assert hook.trained.pop(None, 0) == sum(runner.train_loop.progress.fed) > 0
    assert hook.trained == {0: 12, 1: 12, 2: 12}


class Turns(Hook):
    """Which module's turn it was, whether it trained, and at which rate."""

    def __init__(self):
        self.turns = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.before = deepcopy(runner.train_loop.progress)
        groups = runner.optim_wrapper.optimizer.param_groups
        self.rates = {
            id(weight): group['lr']
            for group in groups
            for weight in group['params']
        }

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        progress = runner.train_loop.progress
        for index in range(3):
            done = progress.trained[index], progress.fed[index]
            if done != (self.before.trained[index], self.before.fed[index]):
                trains = done[0] > self.before.trained[index]
                weights = runner.model.backbone.module_weights(index)
                (rate,) = {self.rates[id(weight)] for weight in weights}
                epoch = self.before.trained[index] // 4
                self.turns.append((index, trains, epoch, rate))


def test_rates_follow_each_modules_epochs(cfg, replay):
    hook = Turns()
    runner, _ = replay.run(cfg, 'rates', hook)
    rates = {0: 0.05, 1: 0.025, 2: 0.0125}
    assert {rate for _, _, _, rate in hook.turns} == {*rates.values()}
    for _, trains, epoch, rate in hook.turns:
        assert rate == rates[min(epoch, 2)] or not trains
    order = [index for index, *_ in hook.turns]
    assert order[:6] == [0, 0, 1, 1, 2, 2]
    # They are not in step with one another.
    seconds = [hook.turns.index((i, True, 1, 0.025)) for i in range(3)]
    assert max(seconds) - min(seconds) > 3


class Rates(Hook):
    """The learning rate of each iteration of mmengine's own loop."""

    def __init__(self):
        self.rates = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.rates.append(runner.optim_wrapper.get_lr()['lr'][0])


@pytest.mark.parametrize(
    'by_epoch', [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_a_schedule_is_that_of_mmengines_loop(cfg, replay, by_epoch):
    cfg['param_scheduler'] = [
        {'type': 'LinearLR', 'start_factor': 0.1, 'end': 4, 'by_epoch': False},
        {'type': 'PolyLR', 'power': 0.9, 'by_epoch': by_epoch},
    ]
    whole, hook = Rates(), Turns()
    replay.run(cfg, 'plain', whole, train_cfg=EPOCH)
    assert len(whole.rates) == 12 and len({*whole.rates}) > 3
    replay.run(cfg, 'rates', hook)
    for index in range(3):
        found = [r for i, trains, _, r in hook.turns if i == index and trains]
        assert found == whole.rates


def test_state_is_cleared_at_module_epochs(cfg, replay):
    reset = {'type': 'mmlocal.ResetOptimizerStateHook', 'milestones': [1]}
    hooks = [*cfg['custom_hooks'], reset]
    cfg['train_cfg']['buffer'] = {'size': 0}
    _, kept = replay.run(cfg, 'kept')
    whole, _ = replay.run(cfg, 'plain', train_cfg=EPOCH, custom_hooks=hooks)
    cfg['train_cfg']['reset_at'] = [1]
    turns, ticks = replay.run(cfg, 'turns')
    expected = whole.model.state_dict()
    for name, value in turns.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert ticks[:15] == kept[:15] and ticks[15:] != kept[15:]


def test_warm_up_at_module_epochs(cfg, replay):
    """By whichever module; a new one replaces the rest of the last."""
    cfg['train_cfg'] |= {'warm_up_at': [1], 'buffer': {'size': 0}}
    hook = Turns()
    replay.run(cfg, 'warm', hook)
    order = [index for index, *_ in hook.turns]
    assert order[:12] == [0, 1, 2] * 4
    assert order[12:28] == [
        *[0],  # begins its epoch 1
        *[0, 0, 1],  # so does module 1
        *[0, 0, 1, 1, 2],  # and module 2
        *[0, 0, 1, 1, 2, 2],
        *[1],  # in turn behind 0
    ]


def test_a_module_that_is_done_feeds_as_long_as_it_is_needed(cfg, replay):
    cfg['train_cfg']['sampler'] = {'slow': {'module': 2, 'factor': 4}}
    hook = Turns()
    runner, _ = replay.run(cfg, 'feeds', hook)
    progress = runner.train_loop.progress
    assert progress.trained == [12, 12, 12]
    assert progress.fed[0] > 0 and progress.fed[1] > 0 == progress.fed[2]
    # The run ends with the last module.
    assert hook.turns[-1][:3] == (2, True, 2)
    assert runner.iter == len(hook.turns) == 36 + sum(progress.fed)
    assert runner.epoch == 3


def test_what_a_done_module_passes_on_is_its_output_in_eval_mode(cfg, replay):
    class Fed(Hook):
        count = 0

        def after_train_iter(self, runner, batch_idx, data_batch, outputs):
            loop = runner.train_loop
            if loop.progress.trains(0) or loop.progress.fed[0] == self.count:
                return
            self.count = loop.progress.fed[0]
            written = loop.buffers[0].items[0]
            runner.model.eval()
            with torch.no_grad():
                x = written.data['inputs']
                net = runner.model.backbone.backbone
                x = net.relu(net.bn1(net.conv1(x)))
                assert torch.equal(net.layer1(x), written.feat)
            runner.model.train()

    cfg['train_cfg']['sampler'] = {'slow': {'module': 2, 'factor': 4}}
    hook = Fed()
    replay.run(cfg, 'fed', hook)
    assert hook.count > 0


def test_reuse_and_skipped_draws(cfg, replay):
    """Nothing waits: a draw that finds no batch is counted, and repeated."""
    cfg['train_cfg'] |= {
        'buffer': {'size': 2, 'max_reuse': 1},
        'sampler': {'slow': {'module': 0, 'factor': 5}},
        'warm_up_at': [],
    }
    hook = Turns()
    runner, _ = replay.run(cfg, 'skips', hook)
    progress = runner.train_loop.progress
    assert progress.empty[0] == progress.used_up[0] == 0
    assert progress.empty[2] > 0 and progress.used_up[1] > 0
    # One batch written, one read.
    order = [index for index, *_ in hook.turns]
    for end in range(len(order)):
        so_far = Counter(order[:end])
        assert so_far[0] >= so_far[1] >= so_far[2]
    log = replay.text(runner)
    assert f'skipped, buffer used up {progress.used_up}' in log
    assert f'local_1.skipped: {progress.skipped(1)}' in log


def test_batches_of_one_slot_are_replayed(cfg, replay):
    """A module may train on the same batch again, on another feature."""

    class Seen(Hook):
        def __init__(self):
            self.seen = Counter()

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if isinstance(data_batch['inputs'], torch.Tensor):
                self.seen[data_batch['inputs'].sum().item()] += 1

    hook = Seen()
    replay.run(cfg, 'again', hook)
    assert len(hook.seen) > 3 and max(hook.seen.values()) > 1


def test_log(cfg, replay):
    runner, _ = replay.run(cfg, 'log')
    log = replay.text(runner)
    assert 'One tick, in which one module trains, is one iteration' in log
    # (4, 16, 32, 32) and (4, 32, 16, 16) floats.
    assert '1 mini-batches each: 0.25, 0.12 MiB a feature' in log
    assert f'Iter(train) [{runner.iter}/{runner.iter}]' in log
    for index in range(3):
        assert f'local_{index}.lr: 1.2500e-02' in log
        assert f'local_{index}.epoch: 3.0000' in log
    assert 'local_1.loss_task: ' in log and ' loss: ' in log
    assert 'After epoch 2: batches trained [' in log
    assert 'eta: -' not in log


def test_validation_and_checkpoints_when_all_are_there(cfg, helpers, replay):
    class Reached(Hook):
        def __init__(self):
            self.trained = []

        def before_val_epoch(self, runner):
            self.trained.append([*runner.train_loop.progress.trained])

    hook = Reached()
    loader = {**cfg['train_dataloader']}
    loader['sampler'] = {'type': 'DefaultSampler', 'shuffle': False}
    runner, _ = replay.run(
        cfg,
        'val',
        hook,
        val_dataloader=loader,
        val_cfg={},
        val_evaluator={'type': 'Accuracy'},
    )
    assert len(hook.trained) == 3
    for epoch, trained in enumerate(hook.trained, 1):
        assert min(trained) == 4 * epoch
    saved = torch.load(f'{runner.work_dir}/epoch_3.pth', weights_only=False)
    assert saved['meta']['iter'] == runner.iter
    log = replay.text(runner)
    assert log.count('accuracy/top1: ') == 3


def test_the_last_tick_is_known_to_be_the_last(cfg, replay):
    checkpoint = {
        'type': 'CheckpointHook',
        'by_epoch': False,
        'interval': 1000,
    }
    hooks = {**cfg['default_hooks'], 'checkpoint': checkpoint}
    runner, _ = replay.run(cfg, 'last', default_hooks=hooks)
    path = f'{runner.work_dir}/iter_{runner.iter}.pth'
    saved = torch.load(path, weights_only=False)
    assert saved['meta']['iter'] == runner.iter


def test_iterators_and_passes(cfg, replay):
    """The first module reads each pass in the order of that epoch."""

    class Order(Hook):
        def __init__(self):
            self.inputs = []

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if isinstance(data_batch['inputs'], list):
                self.inputs.append(torch.stack(data_batch['inputs']))

    whole, turns = Order(), Order()
    replay.run(cfg, 'plain', whole, train_cfg=EPOCH)
    replay.run(cfg, 'ticks', turns)
    assert len(whole.inputs) == 12
    for expected, found in zip(whole.inputs, turns.inputs, strict=False):
        assert torch.equal(expected, found)
