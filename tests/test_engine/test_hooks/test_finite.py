"""A training whose losses are no numbers ends, and says where it broke."""

from __future__ import annotations

import math

import pytest
import torch
from mmengine.hooks import Hook

from mmlocal.engine.hooks.finite import FiniteLosses

NAN, INF = math.nan, math.inf


def test_only_many_in_a_row_of_one_module_count():
    watch = FiniteLosses(3)
    for i, (first, second) in enumerate(
        [(NAN, 1), (1, NAN), (1, INF), (INF, 1), (NAN, 1), (1, 1), (1, NAN)]
    ):
        watch.check(i, {'module 1': [0.5, first], 'module 2': [second]})
    watch.check(7, {'module 1': [1], 'module 2': [-INF]})
    with pytest.raises(RuntimeError, match='loss of module 2 is nan for 3 it'):
        watch.check(8, {'module 1': [1], 'module 2': [NAN]})


def test_the_limit():
    watch = FiniteLosses(0)
    for i in range(100):
        watch.check(i, {'module 1': [NAN]})
    with pytest.raises(ValueError, match='LocalLossHook.max_nonfinite is -1'):
        FiniteLosses(-1)


class Poison(Hook):
    """Makes a weight NaN before an iteration."""

    def __init__(self, name, iteration):
        self.name, self.iteration = name, iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            weight = runner.model.get_parameter(self.name)
            torch.nn.init.constant_(weight, NAN)


@pytest.mark.parametrize(
    ('name', 'module'),
    [
        # Behind the head, which is not poisoned, comes nothing of its module.
        (
            'backbone.local_heads.0.decoder.decoder.0.weight',
            "module 1 of 3, which ends before 'layer2.0',",
        ),
        (
            'backbone.local_heads.1.decoder.decoder.0.weight',
            "module 2 of 3, which ends before 'layer3.0',",
        ),
        ('head.fc.weight', 'module 3 of 3'),
    ],
)
def test_the_module_is_named(cfg, run, name, module):
    cfg['custom_hooks'] = [
        {'type': 'mmlocal.LocalLossHook', 'max_nonfinite': 3},
        Poison(name, 2),
    ]
    with pytest.raises(RuntimeError, match='in a row') as error:
        run(cfg, 'poisoned')
    expected = f'the loss of {module} is nan for 3 iterations in a row, since'
    assert str(error.value).startswith(f'{expected} iteration 3: ')


def test_an_overflow_under_a_loss_scale_is_none(cfg, run):
    """The first scales overflow in float16 gradients, and are lowered."""
    cfg['custom_hooks'] = [
        {'type': 'mmlocal.LocalLossHook', 'max_nonfinite': 1}
    ]
    cfg['optim_wrapper'] = {
        'type': 'mmlocal.LocalAmpOptimWrapper',
        'loss_scale': {'init_scale': 2.0**127, 'growth_interval': 1000},
        'optimizer': {'type': 'SGD', 'lr': 0.05},
    }
    runner, values = run(cfg, 'amp')
    assert runner.iter == 8
    assert runner.optim_wrapper.loss_scaler.get_scale() < 2.0**127
    assert all(math.isfinite(v) for each in values for v in each.values())
