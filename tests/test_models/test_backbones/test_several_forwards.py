"""Backbones that run more than once in a step, and several of them."""

from copy import deepcopy

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from torch import nn

from mmlocal.engine.hooks.finite import losses_by_module
from mmlocal.engine.loops.checks import uncut_model
from mmlocal.engine.optim import LocalOptimWrapper
from mmlocal.models.local_heads import InfoProHead
from mmlocal.registry import MODELS
from mmlocal.step import local_backbone, local_backbones

RESNET = {
    'type': 'mmlocal.CIFARResNet',
    'depth': 8,
}
INFOPRO = {'type': 'mmlocal.InfoProHead', 'num_classes': 10}
DNI = {'type': 'mmlocal.DNIHead'}


def backbone_cfg(cut, head):
    return {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': RESNET,
        'boundaries': [cut],
        'local_heads': head,
        'input_shape': (3, 32, 32),
    }


class Views(BaseModel):
    """Its backbones see the batch one after the other, darker each time."""

    def __init__(self, **backbones):
        init_default_scope('mmpretrain')
        super().__init__(
            {
                'type': 'mmpretrain.ClsDataPreprocessor',
                'mean': [120.0] * 3,
                'std': [60.0] * 3,
            }
        )
        for name, cfg in backbones.items():
            torch.manual_seed(0)
            self.add_module(name, MODELS.build(cfg))
        self.names = list(backbones)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.loss(inputs)

    def loss(self, inputs):
        feats = [
            getattr(self, name)(inputs - index)[-1]
            for index, name in enumerate(self.names)
        ]
        return {'loss': sum(feat.square().mean() for feat in feats)}


class TwoViews(Views):
    def loss(self, inputs):
        feats = [self.backbone(inputs - index)[-1] for index in range(2)]
        return {'loss': sum(feat.square().mean() for feat in feats)}


def wrapper(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    wrap = LocalOptimWrapper(optimizer=optimizer)
    wrap.zero_grad = lambda **kwargs: None
    return wrap


@pytest.fixture
def targets(monkeypatch):
    """What images local heads are to rebuild."""
    seen, original = [], InfoProHead.reconstruction_loss

    def spy(self, feat, pixels):
        seen.append(pixels.clone())
        return original(self, feat, pixels)

    monkeypatch.setattr(InfoProHead, 'reconstruction_loss', spy)
    return seen


def test_each_view_of_a_forward_is_its_own_target(helpers, targets):
    model = TwoViews(backbone=backbone_cfg('layer2.0', INFOPRO))
    model.train_step(helpers.classification_batch(), wrapper(model))
    first, second = targets
    expected = (first - 60 / 255).clamp(0, 1)
    torch.testing.assert_close(second, expected)


def test_two_forwards_in_one_step_have_their_own_targets(helpers, targets):
    """Also those that do not come by the model's ``__call__``."""
    model = Views(backbone=backbone_cfg('layer2.0', INFOPRO))
    model.backbone.local_heads[0].task_weight = 0  # labels come with a call
    batches = [
        model.data_preprocessor(helpers.classification_batch(seed=s), True)
        for s in range(2)
    ]
    with wrapper(model).optim_context(model):
        model(**batches[0], mode='loss')
        model.loss(batches[1]['inputs'])
    for seen, data in zip(targets, batches, strict=True):
        expected = (data['inputs'] * 60 + 120) / 255
        torch.testing.assert_close(seen, expected)


@pytest.mark.parametrize('head', [INFOPRO, DNI], ids=['InfoPro', 'DNI'])
def test_two_backbones_train_as_if_alone(helpers, head):
    """Gradients and log; DNI's heads ask for theirs at the very end."""
    cfgs = {
        'one': backbone_cfg('layer2.0', head),
        'two': backbone_cfg('layer3.0', head),
    }
    batch = helpers.classification_batch()
    both = Views(**cfgs)
    wrap = wrapper(both)
    torch.manual_seed(1)
    both.train_step(deepcopy(batch), wrap)
    for index, (name, cfg) in enumerate(cfgs.items()):
        alone = Views(one=deepcopy(cfg))
        alone.one.register_forward_pre_hook(
            lambda module, args, index=index: (args[0] - index,)
        )
        other = wrapper(alone)
        alone.train_step(deepcopy(batch), other)
        found = getattr(both, name)
        for p, q in zip(
            found.parameters(), alone.one.parameters(), strict=True
        ):
            torch.testing.assert_close(p.grad, q.grad)
        assert other.step_log
        for key, value in other.step_log.items():
            torch.testing.assert_close(wrap.step_log[f'{name}.{key}'], value)


def test_names_of_the_modules_of_two_backbones():
    model = Views(
        one=backbone_cfg('layer2.0', INFOPRO),
        two=backbone_cfg('layer3.0', INFOPRO),
    )
    values = {
        'one.local_0.loss_task': 1.0,
        'two.local_0.loss_task': 2.0,
        'two.local_0.acc': 3.0,
        'loss': 4.0,
    }
    assert losses_by_module(values, local_backbones(model)) == {
        "module 1 of 2 of one, which ends before 'layer2.0',": [1.0],
        "module 1 of 2 of two, which ends before 'layer3.0',": [2.0],
        "the model's own heads": [4.0],
    }
    assert local_backbone(model) is model.one
    problem = next(uncut_model(model, 'train_cfg.type', '...'))
    assert 'one, two' in problem


class Nested(BaseModel):
    """Has a part called as the wrapper calls its own."""

    def __init__(self, **kwargs):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.backbone = nn.Sequential()
        self.backbone.conv1 = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return (self.backbone.conv1(self.conv1(x)),)


def test_keys_that_differ_in_the_hidden_prefix_alone():
    MODELS.register_module('Nested', force=True, module=Nested)
    cfg = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': {'type': 'mmlocal.Nested'},
        'boundaries': ['backbone.conv1'],
        'local_heads': {'type': 'mmlocal.GreedyHead', 'num_classes': 3},
    }
    backbone, other = MODELS.build(cfg), MODELS.build(cfg)
    plain = backbone.backbone.state_dict()
    state = backbone.state_dict()
    assert plain.keys() <= state.keys()
    for name, value in plain.items():
        assert torch.equal(state[name], value), name
    other.load_state_dict(state)
    for name, value in plain.items():
        assert torch.equal(other.backbone.state_dict()[name], value), name
