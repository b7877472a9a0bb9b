"""Forward-Forward as a model, against plain PyTorch."""

from contextlib import suppress
from copy import deepcopy

import pytest
import torch
from torch.nn import functional as F

from mmlocal.engine.optim import LocalAmpOptimWrapper, LocalOptimWrapper
from mmlocal.step import Stopped


def model_cfg(helpers, method='top-left', **changes):
    """Three layers on images of 4x4 pixels in two channels, 4 classes."""
    backbone = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': {
            'type': 'mmlocal.FFMLP',
            'in_features': 48,
            'widths': [8, 8, 4],
        },
        'boundaries': ['layers.1', 'layers.2'],
        'local_heads': {'type': 'mmlocal.FFHead', 'num_classes': 4},
        'local_end': True,
        'input_shape': (3, 4, 4),
    }
    backbone = {**backbone, **changes.pop('backbone', {})}
    return {
        'type': 'mmlocal.FFClassifier',
        '_scope_': 'mmpretrain',
        'data_preprocessor': {'mean': [120.0] * 3, 'std': [60.0] * 3},
        'embedding': {'method': method, 'num_classes': 4},
        'backbone': backbone,
        **changes,
    }


def jacobi_cfg(helpers, **changes):
    """Modules are updated at the end."""
    head = {'type': 'mmlocal.FFHead', 'num_classes': 4, 'recompute': False}
    return model_cfg(helpers, backbone={'local_heads': head}, **changes)


def batch_of(helpers, size=6, seed=0):
    return helpers.classification_batch(size, 4, seed, 4)


def wrapper(model, kind=LocalOptimWrapper, **kwargs):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    return kind(optimizer=optimizer, **kwargs)


def steps(model, helpers, wrap, count=3):
    logs = []
    for seed in range(count):
        torch.manual_seed(seed)
        losses = model.train_step(batch_of(helpers, seed=seed), wrap)
        log = {**losses, **wrap.step_log}
        logs.append({key: value.detach() for key, value in log.items()})
    return logs


def plain_loop(model, helpers, count=3, gauss_seidel=True):
    """An optimizer a layer; the losses of each step."""
    layers = list(model.backbone.backbone.layers)
    optimizers = [torch.optim.Adam(e.parameters(), lr=0.03) for e in layers]
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        data = model.data_preprocessor(batch_of(helpers, seed=seed), True)
        labels = torch.cat([s.gt_label for s in data['data_samples']])
        shift = torch.randint_like(labels, 1, 4)
        h_pos, h_neg = (
            model.embedding(data['inputs'], each)
            for each in (labels, (labels + shift) % 4)
        )
        losses = []
        for layer, optimizer in zip(layers, optimizers, strict=True):
            good, bad = (
                layer(h).square().mean((1, 2, 3)) for h in (h_pos, h_neg)
            )
            loss = F.softplus(torch.cat([2 - good, bad - 2])).mean()
            optimizer.zero_grad()
            with torch.no_grad():
                before = layer(h_pos), layer(h_neg)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                after = layer(h_pos), layer(h_neg)
            h_pos, h_neg = after if gauss_seidel else before
            losses.append(loss.item())
        found.append(losses)
    return found


@pytest.mark.parametrize('gauss_seidel', [True, False])
def test_simultaneous_equals_a_plain_loop(helpers, gauss_seidel):
    """Each layer is updated before its output goes on, or after all."""
    cfg = model_cfg(helpers) if gauss_seidel else jacobi_cfg(helpers)
    model = helpers.build(cfg)
    twin = deepcopy(model)
    wrap = wrapper(model, step='module' if gauss_seidel else 'iteration')
    found = steps(model, helpers, wrap)
    expected = plain_loop(twin, helpers, gauss_seidel=gauss_seidel)
    for log, losses in zip(found, expected, strict=True):
        values = [log[f'local_{i}.loss_ff'].item() for i in range(3)]
        assert values == pytest.approx(losses, rel=1e-5)
        assert log['loss'].item() == pytest.approx(sum(losses), rel=1e-5)
    for weight, other in zip(
        model.parameters(), twin.parameters(), strict=True
    ):
        torch.testing.assert_close(weight, other, rtol=1e-4, atol=1e-5)


def test_the_two_orders_differ(helpers):
    """Or the test above could not tell them apart."""
    twins = [helpers.build(model_cfg(helpers)) for _ in range(2)]
    one, other = (
        plain_loop(twin, helpers, gauss_seidel=kind)
        for twin, kind in zip(twins, (True, False), strict=True)
    )
    assert one[0][0] == other[0][0]
    assert abs(one[1][1] - other[1][1]) > 1e-3


def test_no_gradient_crosses_a_layer(helpers):
    model = helpers.build(jacobi_cfg(helpers))
    backbone = model.backbone
    rows = torch.randn(4, 3, 4, 4)
    feat = rows
    for index, head in enumerate(backbone.local_heads):
        feat = backbone.run_module(index, feat.detach())
        loss = head.loss(feat, None, None)['loss_ff']
        owners = [
            own
            for own, layer in enumerate(backbone.backbone.layers)
            if any(
                grad is not None
                for grad in torch.autograd.grad(
                    loss,
                    list(layer.parameters()),
                    allow_unused=True,
                    retain_graph=True,
                )
            )
        ]
        assert owners == [index]


@pytest.mark.parametrize('method', ['top-left', 'average-mixture'])
@pytest.mark.parametrize('layers', ['all', 'skip-first'])
@pytest.mark.parametrize('max_rows', [1, 9, 10**6])
def test_prediction_tries_all_labels(helpers, method, layers, max_rows):
    cfg = model_cfg(helpers, method, goodness_layers=layers, max_rows=max_rows)
    model = helpers.build(cfg).eval()
    batch = batch_of(helpers)
    data = model.data_preprocessor(deepcopy(batch), False)
    if method != 'top-left':
        model.embedding.learn([(torch.randn(4, 3, 4, 4), torch.arange(4))])
    net = model.backbone.backbone.layers
    scores = torch.zeros(6, 4)
    with torch.no_grad():
        for label in range(4):
            labels = torch.full((6,), label)
            h = model.embedding(data['inputs'], labels)
            for index, layer in enumerate(net):
                h = layer(h)
                if index or layers == 'all':
                    scores[:, label] += h.square().mean((1, 2, 3))
        samples = model.val_step(batch)
    for sample, row in zip(samples, scores, strict=True):
        torch.testing.assert_close(sample.pred_score, row.softmax(0))
        assert sample.pred_label.item() == row.argmax()
    found = model(data['inputs'])
    assert found.shape == (3, 6, 4)


@pytest.mark.parametrize('only', [None, 0, 1, 2])
@pytest.mark.parametrize('max_rows', [8, 10**6])
def test_accuracy_of_each_layer(helpers, only, max_rows):
    """As `LocalValLoop` reads it, in chunks as well."""
    from mmlocal.evaluation.readers import make_reader

    model = helpers.build(model_cfg(helpers, max_rows=max_rows)).eval()
    model.backbone.train_only(only)
    data = model.data_preprocessor(batch_of(helpers), False)
    with torch.no_grad():
        goodness = model(data['inputs'])
        reader = make_reader(model, model.backbone, **data)
        samples = reader.run()
    rows, missing = reader.read(None)
    count = 3 if only is None else only + 1
    assert not missing and len(rows) == 6
    for index, (row, sample) in enumerate(zip(rows, samples, strict=True)):
        assert [*row] == [f'module_{i + 1}' for i in range(count)]
        for i in range(count):
            scores = row[f'module_{i + 1}']['pred_score']
            expected = goodness[i, index].softmax(0)
            torch.testing.assert_close(scores, expected)
        whole = goodness[:, index].sum(0)
        if only in (0, 1):
            whole = goodness[only, index]
        torch.testing.assert_close(sample.pred_score, whole.softmax(0))


@pytest.mark.parametrize('only', [0, 1, 2])
def test_one_layer_after_another(helpers, only):
    model = helpers.build(model_cfg(helpers))
    model.backbone.train_only(only)
    before = deepcopy(model.state_dict())
    wrap = wrapper(model, step='module')
    with suppress(Stopped):
        steps(model, helpers, wrap, 1)
    changed = {
        name.split('.')[2]
        for name, value in model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {str(only)}


def test_accumulation(helpers):
    """Gradients of two batches, each of half the weight."""
    model = helpers.build(jacobi_cfg(helpers))
    twin = deepcopy(model)
    wrap = wrapper(model, accumulative_counts=2)
    steps(model, helpers, wrap, 1)
    found = helpers.grads(model)
    whole = wrapper(twin, accumulative_counts=10**6)
    steps(twin, helpers, whole, 1)
    assert any(grad.abs().max() > 0 for grad in found.values())
    for name, grad in helpers.grads(twin).items():
        torch.testing.assert_close(grad * (10**6 / 2), found[name])
    steps(model, helpers, wrap, 1)
    assert set(helpers.grads(model).values()) == {None}


def test_mixed_precision(helpers):
    model = helpers.build(jacobi_cfg(helpers))
    twin = deepcopy(model)
    half = steps(model, helpers, wrapper(model, LocalAmpOptimWrapper))
    full = steps(twin, helpers, wrapper(twin))
    assert half[-1]['loss'].item() == pytest.approx(
        full[-1]['loss'].item(), rel=0.05
    )
    assert half[-1]['local_1.loss_ff'].dtype == torch.float32


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'kind': LocalAmpOptimWrapper},
        {'accumulative_counts': 2},
        {'clip_grad': {'max_norm': 1.0}},
    ],
)
def test_published_order_is_refused(helpers, options):
    """Without updates by module, which refuse these themselves."""
    model = helpers.build(model_cfg(helpers))
    with pytest.raises(ValueError, match="step='module'"):
        steps(model, helpers, wrapper(model, **options), 1)
    if options:
        with pytest.raises(ValueError, match='step'):
            wrapper(model, step='module', **options)


def mistakes():
    greedy = {'type': 'mmlocal.GreedyHead', 'num_classes': 4}
    other = {'type': 'mmlocal.FFHead', 'num_classes': 5}
    yield {'backbone': {'local_end': False}}, 'local_end=True'
    yield {'backbone': {'local_heads': greedy}}, 'mmlocal.FFHead'
    yield {'backbone': {'local_heads': other}}, 'is 5, but'
    yield {'goodness_layers': 'last'}, "goodness_layers='last'"
    yield {'method': 'average-2channel'}, 'has 3: write twice'
    alone = {'boundaries': []}
    yield {'goodness_layers': 'skip-first', 'backbone': alone}, "'all'"


@pytest.mark.parametrize(('changes', 'message'), [*mistakes()])
def test_mistakes(helpers, changes, message):
    with pytest.raises(ValueError, match=message):
        helpers.build(model_cfg(helpers, **changes))


def test_a_plain_backbone(helpers):
    """As of a model that was built without its local heads."""
    cfg = model_cfg(helpers)
    cfg['backbone'] = cfg['backbone']['backbone']
    with pytest.raises(ValueError, match='local_heads=True'):
        helpers.build(cfg)


def test_soft_labels(helpers):
    cfg = model_cfg(helpers)
    cfg['data_preprocessor'] |= {'to_onehot': True, 'num_classes': 4}
    model = helpers.build(cfg)
    with pytest.raises(ValueError, match='remove .*batch_augments'):
        steps(model, helpers, wrapper(model, step='module'), 1)
