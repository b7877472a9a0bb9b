"""Signal Propagation, against loops over samples and plain PyTorch."""

import math
from copy import deepcopy

import pytest
import torch

from mmlocal.engine.optim import LocalAmpOptimWrapper, LocalOptimWrapper
from mmlocal.models.local_heads import Boundary, SigPropHead
from mmlocal.step import LocalStep, activate

CLASSES = 4


def model_cfg(helpers, **head):
    """Three modules on images of 8x8 pixels."""
    return helpers.classifier_cfg(
        {
            'type': 'mmlocal.LocalSupervisedBackbone',
            'backbone': {'type': 'mmlocal.SigPropConvNet', 'image_size': 8},
            'boundaries': ['layers.1', 'layers.2', 'layers.3'],
            'local_heads': {
                'type': 'mmlocal.SigPropHead',
                'num_classes': CLASSES,
                'image_size': 8,
                **head,
            },
            'local_end': True,
            'input_shape': (3, 8, 8),
        },
        channels=128,
        num_classes=CLASSES,
    )


def batch_of(helpers, size=6, seed=0):
    return helpers.classification_batch(size, 8, seed, CLASSES)


def wrapper(model, kind=LocalOptimWrapper, **kwargs):
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    return kind(optimizer=optimizer, **kwargs)


def steps(model, helpers, wrap, count=2, size=6):
    logs = []
    for seed in range(count):
        torch.manual_seed(seed)
        losses = model.train_step(batch_of(helpers, size, seed), wrap)
        log = {**wrap.step_log, **losses}
        logs.append({key: value.detach() for key, value in log.items()})
    return logs


# Similarity and loss, number by number.


def dot(a, b, official):
    """Of two samples (C, h, w)."""
    total = sum(
        x * y
        for x, y in zip(
            a.flatten().tolist(), b.flatten().tolist(), strict=True
        )
    )
    return total / (a[0].numel() if official else math.sqrt(a.numel()))


def log_softmax(row):
    peak = max(row)
    total = sum(math.exp(value - peak) for value in row)
    return [value - peak - math.log(total) for value in row]


def loss_by_hand(target, count, feat, signal, before, labels):
    """``count`` of each sample, a function of its class."""
    official, loss = target == 'official', 0.0
    for i, image in enumerate(feat):
        found = log_softmax([dot(image, s, official) for s in signal])
        alike = [dot(before[i], s, official) for s in before]
        if target == 'soft':
            weights = [math.exp(value) for value in log_softmax(alike)]
        else:
            k = count(labels[i])
            best = sorted(range(len(alike)), key=lambda j: -alike[j])[:k]
            weights = [float(j in best) for j in range(len(alike))]
        loss -= sum(w * f for w, f in zip(weights, found, strict=True))
    return loss / len(feat)


@pytest.mark.parametrize('target', ['soft', 'hard', 'official'])
@pytest.mark.parametrize('cap', [True, False])
def test_loss_is_the_formula(helpers, target, cap):
    """Of the second module; its signals have no ties."""
    boundary = Boundary('layers.2', 3, 1, index=1, count=3)
    head = SigPropHead(
        boundary, CLASSES, target=target, topk=3, cap_by_class=cap
    )
    feat, before = torch.randn(5, 3, 2, 2), torch.randn(5, 3, 2, 2)
    samples = batch_of(helpers, 5)['data_samples']
    labels = torch.tensor([0, 0, 1, 0, 0])
    for sample, label in zip(samples, labels, strict=True):
        sample.set_gt_label(label)
    step = LocalStep(run_module=lambda index, x: x.tanh() * index)
    step.store['sigprop.signal'] = before
    with activate(step):
        losses = head.loss(feat, None, samples)

    def count(label):
        return {0: 3, 1: 1}[label.item()] if cap else 3

    signal = before.tanh()
    expected = loss_by_hand(target, count, feat, signal, before, labels)
    assert losses['loss_signal'].item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(step.store['sigprop.signal'], signal)


def targets(labels, **options):
    head = SigPropHead(Boundary('a', 2, 1), 10, 4, **options)
    onehot = torch.eye(10)[labels]
    return head._target(onehot, labels)


def test_sums_of_the_targets():
    """Published: 6 in each row of hard targets, 1 in soft ones."""
    labels = torch.arange(40) % 10
    soft = targets(labels)
    torch.testing.assert_close(soft.sum(1), torch.ones(40))
    hard = targets(labels, target='hard', cap_by_class=False)
    assert hard.sum(1).tolist() == [6] * 40
    assert ((hard == 0) | (hard == 1)).all()
    capped = targets(labels, target='hard')
    # Four of each class, all of which are found, and nothing else.
    assert torch.equal(capped, (labels[:, None] == labels).float())


def test_six_of_each_class_need_no_cap():
    labels = torch.arange(60) % 10
    same = (labels[:, None] == labels).float()
    for cap in True, False:
        found = targets(labels, target='hard', cap_by_class=cap)
        assert torch.equal(found, same)


def test_a_hundred_classes_have_wrong_targets_without_the_cap():
    labels = torch.arange(128) % 100
    wrong = []
    for cap in True, False:
        head = SigPropHead(
            Boundary('a', 2, 1), 100, 4, target='hard', cap_by_class=cap
        )
        found = head._target(torch.eye(100)[labels], labels)
        right = (labels[:, None] == labels).float()
        wrong.append(((found * (1 - right)).sum() / found.sum()).item())
    assert wrong[0] == 0 and wrong[1] > 0.6


def plain_loop(model, helpers, single, count=2):
    """One graph a module, one Adam, image and signal one after the other."""
    layers = list(model.backbone.backbone.layers)
    project = model.backbone.local_heads[0].project
    signal_layers = [project, *layers[1:]]
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        batch = batch_of(helpers, seed=seed)
        data = model.data_preprocessor(batch, True)
        labels = torch.cat([s.gt_label for s in data['data_samples']])
        d, s = data['inputs'], torch.eye(CLASSES)[labels]
        optimizer.zero_grad()
        losses = []
        for f_d, f_s in zip(layers, signal_layers, strict=True):
            d_in, s_in = d, s
            d, s = f_d(d_in), f_s(s_in)
            n, source = d[0].numel(), s_in.flatten(1)
            target = (source @ source.T / source.shape[1] ** 0.5).softmax(1)
            output = d.flatten(1) @ s.flatten(1).T / n**0.5
            loss = -(target * output.log_softmax(1)).sum(1).mean()
            loss.backward()
            losses.append(loss.item())
            with torch.no_grad():
                if not single:
                    d, s = f_d(d_in), f_s(s_in)
            d, s = d.detach(), s.detach()
        own = model.head.loss(model.neck((d,)), data['data_samples'])['loss']
        own.backward()
        optimizer.step()
        found.append([*losses, own.item()])
    return found


@pytest.mark.parametrize('single', [True, False])
def test_training_equals_a_plain_loop(helpers, single):
    """With dropout and running statistics, in one pass and in two."""
    model = helpers.build(model_cfg(helpers, single_forward=single))
    twin = deepcopy(model)
    found = steps(model, helpers, wrapper(model))
    expected = plain_loop(twin, helpers, single)
    for log, losses in zip(found, expected, strict=True):
        values = [log[f'local_{i}.loss_signal'].item() for i in range(4)]
        values.append(log['loss'].item())
        assert values == pytest.approx(losses, rel=1e-5)
    for (name, value), other in zip(
        model.state_dict().items(), twin.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(
            value, other, rtol=1e-4, atol=1e-5, msg=name
        )
    bn = model.backbone.backbone.layers[0][1]
    assert bn.num_batches_tracked == (2 if single else 4)


def test_no_gradient_crosses_a_block(helpers):
    model = helpers.build(model_cfg(helpers))
    backbone = model.backbone
    data = model.data_preprocessor(batch_of(helpers), True)
    layers = list(backbone.backbone.layers)
    step = LocalStep(run_module=backbone.run_module)
    feat = data['inputs']
    with activate(step):
        for index, head in enumerate(backbone.local_heads):
            feat = backbone.run_module(index, feat.detach())
            loss = head.loss(feat, None, data['data_samples'])['loss_signal']
            trained = [
                own
                for own, layer in enumerate(layers)
                if None
                not in torch.autograd.grad(
                    loss,
                    [*layer.parameters()],
                    retain_graph=True,
                    allow_unused=True,
                )
            ]
            assert trained == [index]


def test_classification_by_the_nearest_signal(helpers):
    """Of each module, in eval mode; signals of all classes go along."""
    model = helpers.build(model_cfg(helpers)).eval()
    steps(model.train(), helpers, wrapper(model))
    model.eval()
    backbone = model.backbone
    images = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        found = backbone.predict_local(images)
        d = images
        s = backbone.local_heads[0].project(torch.eye(CLASSES))
        for index, layer in enumerate(backbone.backbone.layers):
            d, s = layer(d), s if index == 0 else layer(s)
            scores = d.flatten(1) @ s.flatten(1).T / d[0].numel() ** 0.5
            torch.testing.assert_close(found[index]['logits'], scores)
    assert len(found) == 4


def test_what_is_in_a_forward_stays_there(helpers):
    """A second one does not get the signal of the first."""
    model = helpers.build(model_cfg(helpers)).eval()
    images = torch.randn(3, 3, 8, 8)
    first, second = (model.backbone.predict_local(images) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one['logits'], other['logits'])


def test_accumulation(helpers):
    model = helpers.build(model_cfg(helpers))
    twin = deepcopy(model)
    steps(model, helpers, wrapper(model, accumulative_counts=2), 1)
    steps(twin, helpers, wrapper(twin, accumulative_counts=4), 1)
    others = helpers.grads(twin)
    for name, grad in helpers.grads(model).items():
        torch.testing.assert_close(grad, 2 * others[name], msg=name)


@pytest.mark.parametrize('target', ['soft', 'official'])
def test_mixed_precision(helpers, target):
    model = helpers.build(model_cfg(helpers, target=target))
    twin = deepcopy(model)
    half = steps(model, helpers, wrapper(model, LocalAmpOptimWrapper))
    full = steps(twin, helpers, wrapper(twin))
    for index in range(4):
        key = f'local_{index}.loss_signal'
        assert half[0][key].dtype == torch.float32
        found, expected = half[0][key].item(), full[0][key].item()
        assert found == pytest.approx(expected, rel=0.1)


def test_similarity_in_full_precision():
    """Sums over a feature overflow in float16."""
    head = SigPropHead(Boundary('a', 2, 1, index=1), 2)
    feat = torch.full((1, 64, 32, 32), 2.0, dtype=torch.float16)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = head.similarity(feat, feat)
    assert found.tolist() == [[4 * 256.0]]


def mistakes():
    yield {'target': 'max'}, "target='max' is unknown"
    yield {'topk': 0}, 'topk=0 must be 1 or more'
    small = {'target': 'hard', 'topk': 8, 'cap_by_class': False}
    yield small, 'topk=8 of 6 samples'
    yield {'image_size': 9}, r'\(32, 9, 9\) where an image is \(32, 8, 8\)'


@pytest.mark.parametrize(('options', 'message'), [*mistakes()])
def test_mistakes(helpers, options, message):
    with pytest.raises(ValueError, match=message):
        model = helpers.build(model_cfg(helpers, **options))
        steps(model, helpers, wrapper(model), 1)


def test_one_after_another_is_refused(helpers):
    model = helpers.build(model_cfg(helpers))
    with pytest.raises(ValueError, match='SigPropHead.*train all at once'):
        model.backbone.train_only(0)


def test_another_head_before(helpers):
    cfg = model_cfg(helpers)
    signal = cfg['backbone']['local_heads']
    greedy = {'type': 'mmlocal.GreedyHead', 'num_classes': CLASSES}
    cfg['backbone']['local_heads'] = [greedy, signal, signal, signal]
    model = helpers.build(cfg)
    with pytest.raises(ValueError, match='a SigPropHead for each'):
        steps(model, helpers, wrapper(model), 1)


def test_soft_labels(helpers):
    cfg = model_cfg(helpers)
    cfg['data_preprocessor'] |= {'to_onehot': True}
    model = helpers.build(cfg)
    with pytest.raises(ValueError, match='remove batch_augments'):
        steps(model, helpers, wrapper(model), 1)


def test_tokens():
    with pytest.raises(ValueError, match='carries tokens'):
        SigPropHead(Boundary('layers.1', 8, 4, 'tokens'), 10)
