"""What a head may do beyond a loss, in one training step."""

from copy import deepcopy

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mmlocal.engine.optim import LocalAmpOptimWrapper, LocalOptimWrapper
from mmlocal.models.local_heads import LocalHead
from mmlocal.step import current_step

CUTS = ['layer2.0', 'layer3.0']


@MODELS.register_module()
class SpyHead(LocalHead):
    """Notes what it is given; learns to predict the gradient it gets."""

    needs_gradient = True

    def __init__(self, boundary, init_cfg=None):
        super().__init__(boundary, init_cfg)
        self.scale = nn.Parameter(torch.ones(()))
        self.notes = []

    def bind(self, modules):
        self.sizes = [len(blocks) for blocks in modules]

    def loss(self, feat, inputs, data_samples):
        step = current_step()
        self.notes.append(('input', step.module_input, dict(step.store)))
        step.store[self.boundary.name] = self.boundary.index
        return {'loss_square': self.scale * feat.square().mean()}

    def pass_on(self, feat):
        return 2 * feat.detach()

    def feedback(self, grad):
        step = current_step()
        self.notes.append(('grad', step.unscale(grad)))
        return {'loss_back': self.scale * grad.abs().mean() / step.scale(ONE)}


ONE = torch.ones(())


def model_cfg(helpers, head='SpyHead'):
    return helpers.classifier_cfg(
        {
            'type': 'mmlocal.LocalSupervisedBackbone',
            'backbone': {'type': 'mmlocal.CIFARResNet', 'depth': 8},
            'boundaries': CUTS,
            'local_heads': {'type': head},
            'input_shape': (3, 32, 32),
        },
        channels=64,
    )


def train(model, batch, kind=LocalOptimWrapper, **kwargs):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrap = kind(optimizer=optimizer, **kwargs)
    wrap.step = lambda: None  # keep the gradients
    wrap.zero_grad = lambda: None
    model.train_step(deepcopy(batch), wrap)
    return wrap


@pytest.fixture
def spied(helpers):
    """A model after one step, the step's log, and an untouched twin."""
    model = helpers.build(model_cfg(helpers))
    twin, batch = deepcopy(model), helpers.classification_batch()
    return model, train(model, batch).step_log, twin, batch


def features(model, batch):
    """The modules' inputs and outputs, with 2 * as what is passed on."""
    data = model.data_preprocessor(deepcopy(batch), True)
    takes, gives = [data['inputs']], []
    for index in range(3):
        gives.append(model.backbone.chain.run(index, takes[-1]))
        takes.append((2 * gives[-1].detach()).requires_grad_())
    return takes[:3], gives, data['data_samples']


def test_a_head_is_bound_once(helpers):
    heads = helpers.build(model_cfg(helpers)).backbone.local_heads
    assert [head.sizes for head in heads] == [[4, 1, 1]] * 2


def test_module_input_and_store(spied):
    model, _, twin, batch = spied
    takes, _, _ = features(twin, batch)
    for index, head in enumerate(model.backbone.local_heads):
        kind, found, store = head.notes[0]
        assert kind == 'input' and torch.equal(found, takes[index])
        assert store == {name: i for i, name in enumerate(CUTS[:index])}


def test_feedback_is_the_gradient_at_the_next_input(spied):
    model, log, twin, batch = spied
    takes, gives, samples = features(twin, batch)
    gives[1].square().mean().backward()
    pooled = twin.neck((gives[2],))
    twin.head.loss(pooled, samples)['loss'].backward()
    for head, taken in zip(model.backbone.local_heads, takes[1:], strict=True):
        found = head.notes[-1][1]
        torch.testing.assert_close(found, taken.grad, rtol=1e-5, atol=0)
        # Its own weight learns from both losses.
        index = head.boundary.index
        total = log[f'local_{index}.loss_square']
        total = total + log[f'local_{index}.loss_back']
        torch.testing.assert_close(head.scale.grad, total)


@pytest.mark.parametrize('scale', [1.0, 1024.0])
@pytest.mark.parametrize('counts', [1, 2])
def test_feedback_without_loss_scale_and_accumulation(
    helpers, spied, scale, counts
):
    expected, _, twin, batch = spied
    train(
        twin,
        batch,
        LocalAmpOptimWrapper,
        loss_scale=scale,
        dtype='bfloat16',
        accumulative_counts=counts,
    )
    for head, other in zip(
        twin.backbone.local_heads, expected.backbone.local_heads, strict=True
    ):
        torch.testing.assert_close(
            head.notes[-1][1].norm(),
            other.notes[-1][1].norm(),
            rtol=0.05,
            atol=0,
        )


def test_nothing_else_crosses_a_cut(spied):
    """Module 0 learns from its own loss alone, though asked for gradients."""
    model, _, twin, batch = spied
    _, gives, _ = features(twin, batch)
    gives[0].square().mean().backward()
    found = dict(model.backbone.backbone.named_parameters())
    for name, weight in twin.backbone.backbone.named_parameters():
        if name.startswith(('conv1', 'bn1', 'layer1')):
            assert torch.equal(found[name].grad, weight.grad), name


@MODELS.register_module()
class LeakyHead(SpyHead):
    """Passes its graph on."""

    def pass_on(self, feat):
        return feat


def test_what_is_passed_on_has_no_graph(helpers):
    model = helpers.build(model_cfg(helpers, 'LeakyHead'))
    with pytest.raises(ValueError, match='LeakyHead.pass_on.*detach'):
        train(model, helpers.classification_batch())


def test_gradients_are_not_there_for_one_module_alone(helpers):
    model = helpers.build(model_cfg(helpers))
    with pytest.raises(ValueError, match='SpyHead needs the gradient'):
        model.backbone.train_only(0)
