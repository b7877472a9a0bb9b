"""Synthetic gradients, against plain autograd with hooks written by hand."""

import weakref
from copy import deepcopy

import pytest
import torch
from torch.nn import functional as F

from mmlocal.engine.optim import LocalAmpOptimWrapper, LocalOptimWrapper
from mmlocal.models.local_heads import DNIHead
from mmlocal.step import current_step

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
    """Factors are powers of 2, so that gradients times them are exact."""
    batch = helpers.classification_batch()
    plain = deepcopy(model)
    step(plain, batch)
    with pytest.warns(UserWarning, match='Disabling autocast'):
        wrap = step(
            model,
            batch,
            LocalAmpOptimWrapper,
            loss_scale=scale,
            dtype='float32',
            accumulative_counts=2,
        )
    assert wrap.loss_scaler.get_scale() == scale
    expected = helpers.grads(plain)
    for name, grad in helpers.grads(model).items():
        assert torch.equal(grad * 2 / scale, expected[name]), name


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_mixed_precision(helpers, model, dtype):
    batch = helpers.classification_batch()
    plain = deepcopy(model)
    step(plain, batch)
    step(model, batch, LocalAmpOptimWrapper, loss_scale=1024.0, dtype=dtype)
    expected = helpers.grads(plain)
    for name, grad in helpers.grads(model).items():
        assert grad.isfinite().all(), name
        # A bias before BatchNorm has no gradient but rounding.
        if expected[name].norm() > 1e-4:
            error = (grad / 1024 - expected[name]).norm()
            assert error < 0.2 * expected[name].norm(), name


def test_accumulated_steps_add_up(helpers, model):
    """Of the same images twice: the gradient of once."""
    batch = helpers.classification_batch()
    plain = deepcopy(model)
    step(plain, batch)
    wrap = step(model, batch, accumulative_counts=2)
    model.train_step(deepcopy(batch), wrap)
    expected = helpers.grads(plain)
    for name, grad in helpers.grads(model).items():
        assert torch.equal(grad, expected[name]), name


def test_checkpointing(helpers):
    cfg = model_cfg(helpers, context=True, num_classes=10)
    plain = helpers.build(cfg)
    cfg['backbone']['checkpointing'] = 'block'
    model = helpers.build(cfg)
    batch = helpers.classification_batch()
    step(plain, batch)
    step(model, batch)
    expected = helpers.grads(plain)
    for name, grad in helpers.grads(model).items():
        assert torch.equal(grad, expected[name]), name
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, plain.get_buffer(name)), name


def test_a_step_a_module(helpers, model):
    """A synthesizer steps with the module that its gradient comes from."""
    batch, other = helpers.classification_batch(), deepcopy(model)
    for each, kind in ((model, 'module'), (other, 'iteration')):
        wrap = LocalOptimWrapper(
            optimizer=torch.optim.SGD(each.parameters(), lr=0.1), step=kind
        )
        each.train_step(deepcopy(batch), wrap)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_nothing_is_kept_behind_a_step(helpers, model):
    found = []
    for head in model.backbone.local_heads:
        forward = head.synthesizer.forward
        head.synthesizer.forward = lambda *args, forward=forward: (
            found.append(weakref.ref(out := forward(*args))) or out
        )
    batch = helpers.classification_batch()
    wrap = LocalOptimWrapper(
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1)
    )
    with wrap.optim_context(model):
        data = model.data_preprocessor(deepcopy(batch), True)
        loss, _ = model.parse_losses(model(**data, mode='loss'))
        store = current_step().store
        assert sorted(store) == ['dni.2']
        loss.backward()
        assert not store
    del loss
    assert [ref() for ref in found] == [None] * 3


def test_context_of_mixed_labels(helpers, boundary):
    head = DNIHead(
        boundary(4, 2), context=True, num_classes=10, hidden_channels=4
    )
    samples = helpers.classification_batch()['data_samples']
    expected = head._context(samples)
    assert expected.sum() == len(samples)
    for sample in samples:
        sample.set_gt_score(F.one_hot(sample.gt_label, 10)[0].float())
    assert torch.equal(head._context(samples), expected)


def test_a_segmentor_without_context(helpers):
    cfg = helpers.segmentor_cfg(['layer2.0', 'layer4.0'], HEAD)
    model = helpers.build(cfg)
    wrap = step(model, helpers.segmentation_batch())
    assert {key.split('.')[0] for key in wrap.step_log} == {
        'local_0',
        'local_1',
    }
    assert all(grad is not None for grad in helpers.grads(model).values())
    labels = {**HEAD, 'context': True, 'num_classes': 4}
    model = helpers.build(helpers.segmentor_cfg(['layer2.0'], labels))
    with pytest.raises(ValueError, match='no gt_label'):
        step(model, helpers.segmentation_batch())


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
