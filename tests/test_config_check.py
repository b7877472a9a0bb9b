"""What is mistyped in a config is said in a line, before it is built."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
from mmengine.config import Config

from mmlocal.config_check import check_config

CONFIGS = Path(__file__).parents[1] / 'configs'


@pytest.fixture(scope='module')
def _cfg():
    return Config.fromfile(CONFIGS / 'greedy/resnet20_shapes.py')


@pytest.fixture
def cfg(_cfg):
    return deepcopy(_cfg)


@pytest.mark.parametrize(
    'key, value, message',
    [
        (
            'model.backbone.boundaries',
            3,
            'boundaries=3 is a whole number: LocalSupervisedBackbone takes '
            'text or a list or a dict',
        ),
        (
            'model.backbone.local_heads.num_classes',
            '11',
            "num_classes='11' is text: GreedyHead takes a whole number",
        ),
        (
            'model.backbone.input_shape',
            224,
            'input_shape=224 is a whole number: LocalSupervisedBackbone '
            'takes a tuple',
        ),
        (
            'model.backbone.boundaries.num_module',
            3,
            'EqualDepth has no num_module; did you mean num_modules',
        ),
        # What is left of an inherited backbone.
        (
            'model.backbone.depth',
            50,
            'has no depth; there are backbone, boundaries, checkpointing, '
            'compile_cfg, init_cfg, input_shape, local_end, local_heads, '
            'pretrained. If the key is inherited, write _delete_=True',
        ),
        # The argument of a class that the head hands its own on to.
        (
            'model.backbone.local_heads.temprature',
            0.1,
            'GreedyHead has no temprature; did you mean temperature',
        ),
        (
            'custom_hooks.0.max_nonfinte',
            1,
            'custom_hooks.0.max_nonfinte: LocalLossHook has no max_nonfinte',
        ),
        (
            'model.backbone.local_heads.type',
            'GreedyHead',
            "local_heads.type='GreedyHead' needs its prefix: write "
            "'mmlocal.GreedyHead'",
        ),
        (
            'optim_wrapper.type',
            'LocalOptimWrapper',
            "optim_wrapper.type='LocalOptimWrapper' needs its prefix",
        ),
        (
            'model.backbone.local_heads.type',
            'mmlocal.GreedyHed',
            'MMLocal has no GreedyHed; did you mean GreedyHead',
        ),
    ],
)
def test_a_mistake_is_named(cfg, key, value, message):
    check_config(cfg)
    cfg.merge_from_dict({key: value})
    with pytest.raises(ValueError) as error:
        check_config(cfg)
    assert message in str(error.value)
    assert '\n' not in str(error.value)


def test_what_other_libraries_take_is_left_to_them(cfg):
    # An argument of mmpretrain's Accuracy, which ours hands on.
    cfg.val_evaluator[1].thrs = 0.5
    # Of the same name in mmpretrain and here.
    cfg.val_dataloader.dataset.type = 'CIFAR10'
    cfg.model.head.type = 'NoSuchHead'
    # Taken out by mmengine.
    cfg.custom_hooks[0].priority = 'LOW'
    cfg.optim_wrapper.paramwise_cfg = dict(norm_decay_mult=0)
    check_config(cfg)


def test_partitions_need_no_prefix(cfg):
    cfg.model.backbone.boundaries.type = 'EqualDepth'
    check_config(cfg)
