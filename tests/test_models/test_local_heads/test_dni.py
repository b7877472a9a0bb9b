"""Synthetic gradients, against plain autograd with hooks written by hand."""

from copy import deepcopy

import pytest
import torch
from torch.nn import functional as F

from mmlocal.engine.optim import LocalAmpOptimWrapper, LocalOptimWrapper
from mmlocal.models.local_heads import DNIHead

HEAD = {'type': 'mmlocal.DNIHead', 'hidden_channels': 8}


def model_cfg(helpers, **head):
    return helpers.classifier_cfg(
        {
            'type': 'mmlocal.LocalSupervisedBackbone',
            'backbone': {'type': 'mmlocal.DNIConvNet', 'channels': 8},
            'boundaries': ['features.1', 'features.2'],
            'local_heads': {**HEAD, **head},
            'local_end': True,
            'input_shape': (3, 32, 32),
        },
        channels=8,
    )


@pytest.fixture(params=[False, True], ids=['DNI', 'cDNI'])
def model(helpers, request):
    context = {'context': True, 'num_classes': 10} if request.param else {}
    return helpers.build(model_cfg(helpers, **context))


def step(model, batch, kind=LocalOptimWrapper, **kwargs):
    """One step that leaves its gradients."""
    wrap = kind(
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1), **kwargs
    )
    wrap.step = wrap.zero_grad = lambda: None
    model.train_step(deepcopy(batch), wrap)
    return wrap


def interface(h, synthesizer, context):
    """What the authors describe: a guess, and a hook for what comes back."""
    guess = synthesizer(h.detach(), context)
    h.backward(guess.detach())
    following = h.detach().requires_grad_()

    def train_synthesizer(grad):
        guess.backward(2 / len(h) * (guess.detach() - grad))

    following.register_hook(train_synthesizer)
    return following


def test_gradients_flow_as_published(helpers, model):
    oracle, batch = deepcopy(model), helpers.classification_batch()
    wrap = step(model, batch)
    data = oracle.data_preprocessor(deepcopy(batch), True)
    labels = torch.cat([s.gt_label for s in data['data_samples']])
    heads, h = oracle.backbone.local_heads, data['inputs']
    for block, head in zip(
        oracle.backbone.backbone.features, heads, strict=True
    ):
        body = head.synthesizer
        context = None if body.context is None else F.one_hot(labels, 10)
        h = interface(
            block(h), body, context if context is None else context.float()
        )
    F.cross_entropy(oracle.head.fc(h.flatten(1)), labels).backward()
    expected = helpers.grads(oracle)
    for name, grad in helpers.grads(model).items():
        torch.testing.assert_close(
            grad, expected[name], rtol=1e-4, atol=1e-7, msg=name
        )
    assert {key.split('.')[1] for key in wrap.step_log} == {
        'loss_synthetic',
        'loss_synthesizer',
        'cosine',
    }


def test_learning_starts_in_a_chain(helpers):
    """With guesses of 0, the true gradient travels one module a step."""
    model = helpers.build(model_cfg(helpers, zero_bias=True))
    batch = helpers.classification_batch()
    wrap = LocalOptimWrapper(
        optimizer=torch.optim.Adam(model.parameters(), lr=0.01)
    )
    order = ['head', 2, 1, 0]  # what moves from step 1, 2, 3, 4 on
    for number in range(1, 5):
        before = deepcopy(model.state_dict())
        model.train_step(deepcopy(batch), wrap)
        blocks = model.backbone.backbone.features
        for index, block in enumerate(blocks):
            old = before[f'backbone.features.{index}.conv.weight']
            moved = not torch.equal(block.conv.weight, old)
            assert moved == (order.index(index) < number), (number, index)
            body = model.backbone.local_heads[index].synthesizer
            old = before[
                f'backbone.local_heads.{index}.synthesizer.conv3.bias'
            ]
            moved = not torch.equal(body.conv3.bias, old)
            assert moved == (order.index(index) <= number), (number, index)


@pytest.mark.parametrize('scale', [1024.0, 0.5])
def test_loss_scale_and_accumulation(helpers, model, scale):
    """Gradients are those without, times the factor that they come with."""
    batch = helpers.classification_batch()
    plain, scaled = deepcopy(model), deepcopy(model)
    step(plain, batch)
    wrap = step(
        scaled,
        batch,
        LocalAmpOptimWrapper,
        loss_scale=scale,
        dtype='bfloat16',
        accumulative_counts=2,
    )
    assert wrap.loss_scaler.get_scale() == scale
    expected = helpers.grads(plain)
    for name, grad in helpers.grads(scaled).items():
        grad = grad.float() * 2 / scale
        similar = F.cosine_similarity(
            grad.flatten(), expected[name].flatten(), dim=0
        )
        # bfloat16 has 8 bits; a bias before BatchNorm has no gradient.
        if expected[name].norm() > 1e-4:
            assert similar > 0.98, name
            ratio = grad.norm() / expected[name].norm()
            assert 0.9 < ratio < 1.1, name


def test_what_is_refused(boundary):

    with pytest.raises(ValueError, match='num_classes'):
        DNIHead(boundary(4, 2), context=True)
    with pytest.raises(ValueError, match='tokens.*maps'):
        DNIHead(boundary(4, 2, layout='tokens'))


def test_plain_backbone_in_eval(helpers, model):
    images = torch.randn(2, 3, 32, 32)
    model.eval()
    with torch.no_grad():
        found = model.backbone(images)[0]
        assert torch.equal(found, model.backbone.backbone(images)[0])
        assert model.backbone.predict_local(images) == [{}, {}, {}]
