"""Local training through mmengine's Runner."""

from contextlib import suppress
from copy import deepcopy

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner


class ToySet(torch.utils.data.Dataset):
    """Eight images with a class each."""

    metainfo = {'classes': [str(i) for i in range(10)]}

    def __init__(self, helpers):
        batch = helpers.classification_batch(size=8)
        self.items = [
            {'inputs': image, 'data_samples': sample}
            for image, sample in zip(*batch.values(), strict=True)
        ]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Recorder(Hook):
    """Keeps every value that reaches the log."""

    priority = 'VERY_LOW'

    def __init__(self):
        self.values = []

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        scalars = runner.message_hub.log_scalars
        keys = [k for k in scalars if 'loss' in k or 'acc' in k]
        self.values.append({key: scalars[key].current() for key in keys})


@pytest.fixture
def cfg(helpers, tmp_path):
    backbone = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': {'type': 'mmlocal.CIFARResNet', 'depth': 8},
        'boundaries': ['layer2.0', 'layer3.0'],
        'local_heads': {
            'type': 'mmlocal.InfoProHead',
            'num_classes': 10,
            'recon_weight': (2, 1),
        },
        'input_shape': (3, 32, 32),
    }
    loader = {
        'batch_size': 4,
        'num_workers': 0,
        'collate_fn': {'type': 'default_collate'},
        'sampler': {'type': 'DefaultSampler', 'shuffle': True},
        'dataset': ToySet(helpers),
    }
    return {
        'model': helpers.classifier_cfg(backbone, 64),
        'work_dir': str(tmp_path),
        'default_scope': 'mmpretrain',
        'train_dataloader': loader | {'collate_fn': pack},
        'train_cfg': {'by_epoch': True, 'max_epochs': 4},
        'optim_wrapper': {
            'type': 'mmlocal.LocalOptimWrapper',
            'optimizer': {'type': 'SGD', 'lr': 0.05, 'momentum': 0.9},
        },
        'param_scheduler': [{'type': 'CosineAnnealingLR', 'T_max': 4}],
        'custom_hooks': [{'type': 'mmlocal.LocalLossHook'}],
        'default_hooks': {'logger': {'type': 'LoggerHook', 'interval': 1}},
        'randomness': {'seed': 3},
        'experiment_name': tmp_path.name,
    }


def pack(items):
    return {
        'inputs': torch.stack([item['inputs'] for item in items]),
        'data_samples': [item['data_samples'] for item in items],
    }


def run(settings, name, until=None, resume=False, **changes):
    settings = {**settings, **changes, 'resume': resume}
    settings['experiment_name'] += f'_{name}'
    settings = deepcopy(settings)
    hooks = [Recorder(), *([StopAfter(until)] if until else [])]
    settings['custom_hooks'] += hooks
    runner = Runner(**settings)
    with suppress(KeyboardInterrupt):
        runner.train()
    return runner, hooks[0].values


class StopAfter(Hook):
    """Kills a run at the end of an epoch, after the checkpoint."""

    priority = 'LOWEST'

    def __init__(self, epochs):
        self.epochs = epochs

    def after_train_epoch(self, runner):
        if runner.epoch + 1 == self.epochs:
            raise KeyboardInterrupt


def test_resumed_run_gives_the_losses_of_an_unbroken_one(cfg, tmp_path):
    """Invariant 7."""
    _, expected = run(cfg, 'whole', work_dir=str(tmp_path / 'whole'))
    parts = str(tmp_path / 'parts')
    _, first = run(cfg, 'first', until=2, work_dir=parts)
    _, second = run(cfg, 'second', resume=True, work_dir=parts)
    assert len(first) == 4 and len(second) == 4
    keys = {key for key in expected[0] if 'loss' in key}
    assert 'train/local_1.loss_recon' in keys and 'train/loss' in keys
    for found, value in zip([*first, *second], expected, strict=True):
        assert {k: found[k] for k in keys} == {k: value[k] for k in keys}


@pytest.mark.parametrize('batch', [4, 2])
def test_resuming_with_another_global_batch_says_so(cfg, tmp_path, batch):
    run(cfg, 'first', until=2)
    cfg['train_dataloader']['batch_size'] = batch
    runner, _ = run(cfg, 'second', resume=True)
    assert runner.epoch == 4
    log = max(tmp_path.glob('*/*.log'), key=lambda path: path.stat().st_mtime)
    text = log.read_text()
    change = 'changed: 2 images (1 ranks of 2), where the checkpoint was '
    assert ('the global batch has' in text) == (batch == 2)
    assert (change + 'trained with 4 (1 ranks of 4)' in text) == (batch == 2)


def test_log_shows_every_local_value(cfg, tmp_path):
    runner, values = run(cfg, 'log')
    expected = {
        f'train/local_{i}.{key}'
        for i in range(2)
        for key in ('loss_recon', 'loss_task', 'acc')
    }
    assert expected <= set(values[0])
    text = next(tmp_path.glob('*/*.log')).read_text()
    assert 'local_0.loss_recon: ' in text and 'local_1.acc: ' in text


def test_ema(cfg):
    hooks = [*cfg['custom_hooks'], {'type': 'EMAHook', 'momentum': 0.5}]
    runner, _ = run(cfg, 'ema', custom_hooks=hooks)
    ema = runner.hooks[
        [type(h).__name__ for h in runner.hooks].index('EMAHook')
    ].ema_model
    averaged = dict(ema.module.state_dict())
    assert averaged.keys() == runner.model.state_dict().keys()
    assert any(
        not torch.equal(value, averaged[key])
        for key, value in runner.model.state_dict().items()
        if 'weight' in key
    )
    path = f'{runner.work_dir}/epoch_4.pth'
    saved = torch.load(path, weights_only=False)
    assert 'backbone.conv1.weight' in saved['state_dict']
    assert 'module.backbone.conv1.weight' in saved['ema_state_dict']


def test_amp_accumulation_and_clipping_together(cfg):
    runner, values = run(
        cfg,
        'amp',
        optim_wrapper={
            'type': 'mmlocal.LocalAmpOptimWrapper',
            'dtype': 'bfloat16',
            'accumulative_counts': 2,
            'clip_grad': {'max_norm': 1.0},
            'optimizer': {'type': 'SGD', 'lr': 0.05},
        },
    )
    assert all(
        v == v and abs(v) < 1e4 for each in values for v in each.values()
    )
    assert runner.optim_wrapper.inner_count == 8


@pytest.mark.parametrize('kind', ['OptimWrapper', 'LocalOptimWrapper'])
def test_plain_optim_wrapper_is_refused(cfg, kind):
    prefix = 'mmlocal.' if kind.startswith('Local') else ''
    wrapper = {**cfg['optim_wrapper'], 'type': prefix + kind}
    if prefix:
        run(cfg, 'fine', optim_wrapper=wrapper)
        return
    with pytest.raises(ValueError, match=r"type='mmlocal.LocalOptimWrapper'"):
        run(cfg, 'refused', optim_wrapper=wrapper)


@pytest.mark.parametrize('name', ['backbone', 'backbone.layer2.0'])
def test_reentrant_checkpointing_of_a_boundary_is_refused(cfg, name):
    with pytest.raises(ValueError, match='activation_checkpointing') as error:
        run(cfg, 'cp', cfg=Config({'activation_checkpointing': [name]}))
    assert 'checkpointing' in str(error.value)


def test_reentrant_checkpointing_inside_a_module_is_fine(cfg):
    name = 'backbone.layer2.0.conv2'
    run(cfg, 'cp', cfg=Config({'activation_checkpointing': [name]}))


def test_class_count_must_agree_with_the_model(cfg):
    cfg['model']['backbone']['local_heads']['num_classes'] = 12
    with pytest.raises(ValueError, match='write num_classes=10'):
        run(cfg, 'classes')


class _Ddp(torch.nn.parallel.DistributedDataParallel):
    """The attributes that are looked at, without a process group."""

    def __init__(self, module, **attributes):
        torch.nn.Module.__init__(self)
        self.module = module
        vars(self).update(
            {
                'static_graph': False,
                'find_unused_parameters': True,
                'detect_anomalous_params': False,
                **attributes,
            }
        )


@pytest.mark.parametrize(
    ('attributes', 'message'),
    [
        ({'find_unused_parameters': False}, 'find_unused_parameters=True'),
        ({'static_graph': True}, 'static_graph=True'),
        ({'detect_anomalous_params': True}, 'detect_anomalous_params'),
    ],
)
def test_ddp_settings_that_break_training_are_refused(
    cfg, helpers, attributes, message
):
    from mmlocal.engine.hooks.local_loss_hook import _wrapper_problems

    model = torch.nn.Linear(1, 1)
    assert not list(_wrapper_problems(_Ddp(model)))
    (problem,) = _wrapper_problems(_Ddp(model, **attributes))
    assert message in problem
    if message != 'detect_anomalous_params':
        assert "type='mmlocal.LocalDistributedDataParallel'" in problem


@pytest.mark.parametrize(
    'name', ['MMFullyShardedDataParallel', 'MMDeepSpeedEngineWrapper']
)
def test_sharded_wrappers_are_refused(name):
    from mmlocal.engine.hooks.local_loss_hook import _wrapper_problems

    wrapper = type(name, (torch.nn.Module,), {})()
    (problem,) = _wrapper_problems(wrapper)
    assert f'model_wrapper_cfg or strategy: {name}' in problem
    assert "type='mmlocal.LocalDistributedDataParallel'" in problem
