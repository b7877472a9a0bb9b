"""Heads, models and settings of the optimizer, one module a tick.

The oracle is synchronous training, which modules in turn have to equal.
"""

from copy import deepcopy

import pytest
import torch
from mmengine.hooks import Hook

SLOW = pytest.mark.slow
EPOCH = {'by_epoch': True, 'max_epochs': 2}
HEAD = {'type': 'mmlocal.GreedyHead', 'num_classes': 10}
INFOPRO = {
    'type': 'mmlocal.InfoProHead',
    'num_classes': 10,
    'recon_weight': (2, 1),
}
AMP = {'type': 'mmlocal.LocalAmpOptimWrapper', 'dtype': 'bfloat16'}


def in_turn(cfg):
    """The same, one module a tick, and synchronous."""
    replayed = deepcopy(cfg)
    replayed['train_cfg'] |= {'buffer': {'size': 0}, 'max_epochs': 2}
    return replayed, {**deepcopy(cfg), 'train_cfg': EPOCH}


def assert_equal_training(cfg, replay, last=2):
    replayed, plain = in_turn(cfg)
    whole, expected = replay.run(plain, 'plain')
    turns, ticks = replay.run(replayed, 'turns')
    width = last + 1
    assert len(ticks) == width * len(expected) > 0
    for step, values in enumerate(expected):
        together = {}
        for tick in ticks[width * step : width * (step + 1)]:
            together |= tick
        assert together == values
    state = whole.model.state_dict()
    for name, value in turns.model.state_dict().items():
        assert torch.equal(value, state[name]), name
    return turns


@pytest.mark.parametrize(
    'backbone',
    [
        pytest.param({'local_heads': INFOPRO}, marks=SLOW),
        {
            'local_heads': [
                INFOPRO | {'recon_weight': 1, 'task': 'softmax'},
                HEAD,
            ]
        },
        {'local_end': True},
        pytest.param({'checkpointing': 'block'}, marks=SLOW),
        pytest.param({'boundaries': [], 'local_heads': None}, marks=SLOW),
    ],
)
def test_heads_and_backbone(cfg, replay, backbone):
    cfg['model']['backbone'].update(backbone)
    last = len(cfg['model']['backbone']['boundaries'])
    assert_equal_training(cfg, replay, last)


@pytest.mark.parametrize(
    'wrapper',
    [
        AMP,
        pytest.param({'step': 'module'}, marks=SLOW),
        pytest.param({'clip_grad': {'max_norm': 1e9}}, marks=SLOW),
        {'paramwise_cfg': {'norm_decay_mult': 0, 'bias_decay_mult': 0}},
        {'optimizer': {'type': 'AdamW', 'lr': 0.01, 'weight_decay': 0.1}},
    ],
)
def test_optimizer_wrappers(cfg, replay, wrapper):
    cfg['optim_wrapper'] |= wrapper
    assert_equal_training(cfg, replay)


def test_features_lie_in_the_buffers_as_autocast_made_them(cfg, replay):
    cfg['optim_wrapper'] |= AMP
    cfg['train_cfg']['max_epochs'] = 1
    runner, _ = replay.run(cfg, 'amp')
    for buffer in runner.train_loop.buffers:
        (batch,) = buffer.items
        assert batch.feat.dtype == torch.bfloat16
        assert batch.data['inputs'].dtype == torch.float32
        assert not batch.feat.requires_grad


class Moved(Hook):
    """How far a tick moved each module."""

    def __init__(self):
        self.norms = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.before = [
            [weight.detach().clone() for weight in self.weights(runner, i)]
            for i in range(2)
        ]

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        norms = []
        for index, before in enumerate(self.before):
            after = self.weights(runner, index)
            parts = zip(after, before, strict=True)
            moved = [(new - old).norm() for new, old in parts]
            norms.append(torch.stack(moved).norm().item())
        self.norms.append(norms)

    @staticmethod
    def weights(runner, index):
        return runner.model.backbone.module_weights(index)


def test_clipping_takes_the_norm_of_the_one_module(cfg, replay):
    cfg['optim_wrapper'] = {
        'type': 'mmlocal.LocalOptimWrapper',
        'optimizer': {'type': 'SGD', 'lr': 0.05},
        'clip_grad': {'max_norm': 1e-3},
    }
    cfg['param_scheduler'] = None
    cfg['train_cfg'] |= {'buffer': {'size': 0}, 'max_epochs': 1}
    hook = Moved()
    runner, _ = replay.run(cfg, 'clip', hook)
    for tick, norms in enumerate(hook.norms):
        expected = [0.05e-3 if tick % 3 == i else 0 for i in range(2)]
        assert norms == pytest.approx(expected, rel=1e-2)
    assert 'grad_norm: ' in replay.text(runner)


def test_ema(cfg, replay):
    cfg['custom_hooks'].append({'type': 'EMAHook', 'momentum': 0.5})
    runner, ticks = replay.run(cfg, 'ema')
    assert len(ticks) == runner.iter
    path = f'{runner.work_dir}/epoch_3.pth'
    saved = torch.load(path, weights_only=False)
    averaged, state = saved['ema_state_dict'], saved['state_dict']
    assert averaged['steps'] == runner.iter
    for name in 'backbone.conv1.weight', 'head.fc.weight':
        assert not torch.equal(averaged[f'module.{name}'], state[name])


def write_in_place(module, args):
    args[0].mul_(2)


class InPlace(Hook):
    """The second module begins with a layer that writes into its input."""

    def before_train(self, runner):
        block = runner.model.backbone.backbone.layer2[0]
        block.downsample.register_forward_pre_hook(write_in_place)


class Unchanged(Hook):
    """What lay in a buffer before a tick lies there unchanged after it."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.items = [*runner.train_loop.buffers[0].items]
        self.feats = [item.feat.clone() for item in self.items]

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        for item, feat in zip(self.items, self.feats, strict=True):
            assert torch.equal(item.feat, feat)


@pytest.mark.parametrize(
    'buffer_device', ['model', pytest.param('cpu', marks=SLOW)]
)
def test_a_module_that_writes_in_place(cfg, replay, buffer_device):
    """A batch may be read again."""
    cfg['train_cfg']['buffer_device'] = buffer_device
    runner, _ = replay.run(cfg, 'in_place', InPlace(), Unchanged())
    assert runner.epoch == 3


@pytest.mark.parametrize('task', ['infopro', pytest.param('fcn', marks=SLOW)])
def test_segmentation(cfg, helpers, replay, task):
    """The last module is trained by the model's own head."""
    head = None
    if task == 'fcn':
        head = {
            'type': 'mmlocal.TaskHead',
            'head': {
                'type': 'mmseg.FCNHead',
                'channels': 8,
                'num_convs': 1,
                'num_classes': 4,
            },
        }
    model = helpers.segmentor_cfg(
        ['layer2.0', 'layer4.0'], head, out_indices=(3,)
    )
    cfg |= {
        'model': model,
        'default_scope': 'mmseg',
        'train_dataloader': {
            **cfg['train_dataloader'],
            'dataset': replay.Items(helpers.segmentation_batch(size=8)),
        },
    }
    runner = assert_equal_training(cfg, replay)
    log = replay.text(runner)
    assert 'local_1.' in log and 'decode.loss_ce' in log
