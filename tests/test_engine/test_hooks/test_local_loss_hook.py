"""What is logged, and what is refused before training."""

import pytest
import torch
from mmengine.config import Config

from mmlocal.engine.hooks.local_loss_hook import (
    _wrapper_problems,
    frozen_modules,
)


def test_log_shows_every_local_value(cfg, run, tmp_path):
    runner, values = run(cfg, 'log')
    expected = {
        f'train/local_{i}.{key}'
        for i in range(2)
        for key in ('loss_recon', 'loss_task', 'acc')
    }
    assert expected <= set(values[0])
    text = next(tmp_path.glob('*/*.log')).read_text()
    assert 'local_0.loss_recon: ' in text and 'local_1.acc: ' in text


def test_plain_optim_wrapper_is_refused(cfg, run):
    wrapper = {**cfg['optim_wrapper'], 'type': 'OptimWrapper'}
    with pytest.raises(ValueError, match=r"type='mmlocal.LocalOptimWrapper'"):
        run(cfg, 'refused', optim_wrapper=wrapper)


@pytest.mark.parametrize('name', ['backbone', 'backbone.layer2.0'])
def test_reentrant_checkpointing_of_a_boundary_is_refused(cfg, run, name):
    with pytest.raises(ValueError, match='activation_checkpointing') as error:
        run(cfg, 'cp', cfg=Config({'activation_checkpointing': [name]}))
    assert 'checkpointing' in str(error.value)


@pytest.mark.filterwarnings('ignore:.*use_reentrant')
def test_reentrant_checkpointing_inside_a_module_changes_nothing(cfg, run):
    name = 'backbone.layer2.0.conv2'
    _, plain = run(cfg, 'plain')
    _, checkpointed = run(
        cfg, 'cp', cfg=Config({'activation_checkpointing': [name]})
    )
    assert checkpointed == plain


def test_class_count_must_agree_with_the_model(cfg, run):
    cfg['model']['backbone']['local_heads']['num_classes'] = 12
    with pytest.raises(ValueError, match='write num_classes=10'):
        run(cfg, 'classes')


@pytest.mark.parametrize(('stages', 'frozen'), [(0, []), (1, [0])])
def test_modules_without_weights_to_train_are_found(helpers, stages, frozen):
    model = helpers.build(
        helpers.segmentor_cfg(['layer2.0', 'layer3.0'], frozen_stages=stages)
    )
    assert frozen_modules(model) == frozen


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
def test_ddp_settings_that_break_training_are_refused(attributes, message):
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
    wrapper = type(name, (torch.nn.Module,), {})()
    (problem,) = _wrapper_problems(wrapper)
    assert f'model_wrapper_cfg or strategy: {name}' in problem
    assert "type='mmlocal.LocalFSDP'" in problem
    assert "'mmlocal.LocalDistributedDataParallel'" in problem
