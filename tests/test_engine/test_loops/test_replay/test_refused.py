"""Settings that are refused, with what to write instead."""

import pytest
from mmengine.config import Config
from mmengine.optim import MultiStepLR
from mmengine.runner import Runner
from torch import nn
from torch.optim import SGD

from mmlocal.engine.loops.replay.checks import model_problems


@pytest.mark.parametrize(
    ('train_cfg', 'message'),
    [
        ({'buffer_device': 'gpu'}, "write 'cpu' or 'model'"),
        ({'buffer': {'size': -1}}, 'buffer.size=-1'),
        (
            {'buffer': {'size': 0}, 'sampler': {'order': 'random'}},
            'train_cfg.buffer.size=0 takes modules in turn',
        ),
        ({'sampler': {'slow': {'module': 3, 'factor': 2}}}, '3 modules'),
    ],
)
def test_loop(cfg, replay, train_cfg, message):
    cfg['train_cfg'] |= train_cfg
    with pytest.raises(ValueError, match=message):
        replay.run(cfg, 'refused')


@pytest.mark.parametrize(
    ('wrapper', 'message'),
    [
        ({'type': 'OptimWrapper'}, "write type='mmlocal.LocalOptim"),
        ({'accumulative_counts': 2}, 'raise train_dataloader.batch_size'),
    ],
)
def test_optimizer_wrapper(cfg, replay, wrapper, message):
    cfg['optim_wrapper'] |= wrapper
    with pytest.raises(ValueError, match=message):
        replay.run(cfg, 'refused')


def test_backbone_that_is_not_cut(cfg, replay):
    cfg['model']['backbone'] = {'type': 'mmlocal.CIFARResNet', 'depth': 8}
    with pytest.raises(ValueError, match='LocalSupervisedBackbone'):
        replay.run(cfg, 'refused')


def test_backbone_that_is_no_chain(cfg, replay):
    """Before anything trains."""
    cfg['model']['backbone'] |= {
        'backbone': {
            'type': 'SwinTransformer',
            'arch': {'embed_dims': 8, 'depths': [1, 1], 'num_heads': [1, 2]},
            'img_size': 32,
            'window_size': 4,
            'out_indices': [1],
        },
        'boundaries': ['stages.1'],
        'input_shape': (3, 32, 32),
    }
    with pytest.raises(ValueError, match='is no chain of submodules'):
        replay.run(cfg, 'refused')


def test_hook_that_counts_epochs_of_the_run(cfg, replay):
    hook = {'type': 'mmlocal.ResetOptimizerStateHook', 'milestones': [1]}
    cfg['custom_hooks'].append(hook)
    with pytest.raises(ValueError, match="write the loop's reset_at"):
        replay.run(cfg, 'refused')


def test_compiled_train_step(cfg, replay):
    with pytest.raises(ValueError, match='write compile_cfg of the backbone'):
        replay.run(cfg, 'refused', cfg=Config({'compile': True}))


@pytest.mark.parametrize('metrics', [True, False])
def test_schedulers(cfg, replay, metrics):
    if metrics:
        message = 'write a scheduler that counts'
        cfg['param_scheduler'] = {'type': 'ReduceOnPlateauLR'}
    else:
        message = 'write their configs'
        optimizer = SGD(nn.Linear(1, 1).parameters(), lr=1)
        cfg['param_scheduler'] = [MultiStepLR(optimizer, [1])]
    with pytest.raises(ValueError, match=message):
        replay.run(cfg, 'refused')


def test_several_ranks(cfg):
    runner = Runner(**cfg)
    assert not list(model_problems(runner))
    runner._world_size = 2
    (problem,) = model_problems(runner)
    assert "write launcher='none'" in problem


def test_model_with_a_train_step_of_its_own(cfg):
    runner = Runner(**cfg)

    class Own(type(runner.model)):
        def train_step(self, data, optim_wrapper):
            return {}

    runner.model.__class__ = Own
    (problem,) = model_problems(runner)
    assert 'which Own has its own of' in problem
