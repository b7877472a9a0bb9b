"""Greedy InfoMax, CPC and their twins in training, against plain PyTorch."""

from copy import deepcopy

import pytest
import torch
from torch.nn import functional as F

from mmlocal.engine.optim import LocalAmpOptimWrapper, LocalOptimWrapper

CUTS = ['backbone.stages.1', 'backbone.stages.2']
PIXEL_CNN = {'type': 'mmlocal.GatedPixelCNN', 'num_layers': 2}


def model_cfg(helpers, boundaries=CUTS, depth=34, base=4, **head):
    """Three stages on 4x4 patches of 8 pixels."""
    cfg = helpers.classifier_cfg(
        {
            'type': 'mmlocal.LocalSupervisedBackbone',
            'backbone': {
                'type': 'mmlocal.PatchBackbone',
                'backbone': {
                    'type': 'mmlocal.PreActResNet',
                    'depth': depth,
                    'in_channels': 3,
                    'base_channels': base,
                    'stage_blocks': (1, 1, 1),
                },
                'patch_size': 8,
                'stride': 4,
            },
            'boundaries': boundaries,
            'local_heads': {
                'type': 'mmlocal.PatchInfoNCEHead',
                'num_steps': 2,
                'num_negatives': 4,
                **head,
            },
            'local_end': True,
            'input_shape': (3, 20, 20),
        },
        channels=base * (4 if depth == 34 else 16),
    )
    cfg['neck'] = {'type': 'mmlocal.PatchPooling', 'grid': 4}
    return cfg


def steps(model, helpers, wrap, count=2, size=4):
    logs = []
    for seed in range(count):
        torch.manual_seed(seed)
        batch = helpers.classification_batch(size, 20, seed)
        losses = model.train_step(batch, wrap)
        log = {**wrap.step_log, **losses}
        logs.append({key: value.detach() for key, value in log.items()})
    return logs


def wrapper(model, kind=LocalOptimWrapper, **kwargs):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return kind(optimizer=optimizer, **kwargs)


# Acceptance tests 3, 4 and 7: modules apart, end to end, one optimizer.


@pytest.fixture
def model(helpers):
    return helpers.build(model_cfg(helpers))


def losses_apart(model, helpers):
    """Losses of all modules in one graph, with detached features."""
    batch = helpers.classification_batch(4, 20)
    inputs = model.data_preprocessor(batch, True)['inputs']
    backbone, losses = model.backbone, []
    torch.manual_seed(0)
    feat = backbone.backbone.patches(inputs)
    net = backbone.backbone.backbone
    for index, head in enumerate(backbone.local_heads):
        if index == 0:
            feat = net.stem(feat)
        feat = net.stages[index](feat.detach() if index else feat)
        losses.append(head.loss(feat, inputs, [])['loss_info_nce'])
    return losses


def own_weights(model, index):
    return model.backbone.module_weights(index)


def test_a_loss_trains_its_own_module_alone(model, helpers):
    losses = losses_apart(model, helpers)
    for index, loss in enumerate(losses):
        model.zero_grad(set_to_none=True)
        loss.backward(retain_graph=True)
        for other in range(3):
            grads = [weight.grad for weight in own_weights(model, other)]
            assert all((g is not None) == (other == index) for g in grads)


def test_a_step_is_that_of_an_optimizer_for_each_module(model, helpers):
    reference = deepcopy(model)
    wrap = wrapper(model)
    steps(model, helpers, wrap, count=1)
    losses = losses_apart(reference, helpers)
    for index, loss in enumerate(losses):
        optimizer = torch.optim.Adam(own_weights(reference, index), lr=1e-3)
        reference.zero_grad(set_to_none=True)
        loss.backward(retain_graph=index < 2)
        optimizer.step()
        key = f'local_{index}.loss_info_nce'
        torch.testing.assert_close(wrap.step_log[key], loss.detach())
        for mine, theirs in zip(
            own_weights(model, index),
            own_weights(reference, index),
            strict=True,
        ):
            torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize('context', [None, PIXEL_CNN])
def test_one_module_is_plain_training_end_to_end(helpers, context):
    """Acceptance test 4; of CPC with its context net."""
    cfg = model_cfg(helpers, boundaries=[], context=context)
    model = helpers.build(cfg)
    reference = deepcopy(model)
    steps(model, helpers, wrapper(model), count=1)
    optimizer = torch.optim.Adam(reference.parameters(), lr=1e-3)
    batch = reference.data_preprocessor(
        helpers.classification_batch(4, 20), True
    )
    torch.manual_seed(0)
    (head,) = reference.backbone.local_heads
    (feat,) = reference.backbone.backbone(batch['inputs'])
    loss = head.loss(feat, batch['inputs'], [])['loss_info_nce']
    own = reference.head.loss(
        reference.neck((feat.detach(),)), batch['data_samples']
    )
    (loss + own['loss']).backward()
    optimizer.step()
    for mine, theirs in zip(
        model.parameters(), reference.parameters(), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


def test_the_own_head_is_an_online_probe(model, helpers):
    before = deepcopy(model)
    (log,) = steps(model, helpers, wrapper(model), count=1)
    assert log.keys() == {
        'loss',
        *(f'local_{index}.loss_info_nce' for index in range(3)),
    }
    assert not torch.equal(model.head.fc.weight, before.head.fc.weight)
    # It reads one vector an image.
    model.eval()
    batch = model.data_preprocessor(helpers.classification_batch(4, 20))
    feats = model.extract_feat(batch['inputs'])
    assert feats[0].shape == (4, 16)
    assert len(model.predict(**batch)) == 4


@pytest.mark.parametrize('context', [None, PIXEL_CNN])
def test_mixed_precision(helpers, context):
    cuts = CUTS if context is None else []
    cfg = model_cfg(helpers, cuts, context=context)
    full, half = helpers.build(cfg), helpers.build(cfg)
    logs = [
        steps(full, helpers, wrapper(full)),
        steps(
            half,
            helpers,
            wrapper(half, LocalAmpOptimWrapper, dtype='bfloat16'),
        ),
    ]
    for first, second in zip(*logs, strict=True):
        for key in first:
            assert second[key].dtype == torch.float32
            torch.testing.assert_close(
                first[key], second[key], rtol=0.02, atol=0.02
            )


def test_accumulated_gradients_are_the_mean_over_small_batches(helpers):
    """Each small batch draws from itself."""
    model = helpers.build(model_cfg(helpers))
    reference = deepcopy(model)
    wrap = wrapper(model, accumulative_counts=2)
    wrap.initialize_count_status(model, 0, 2)
    total = {}
    for seed in range(2):
        torch.manual_seed(seed)
        batch = helpers.classification_batch(4, 20, seed)
        single = deepcopy(reference)
        kept = LocalOptimWrapper(
            optimizer=torch.optim.SGD(single.parameters(), lr=0.0)
        )
        kept.zero_grad = lambda **kwargs: None
        single.train_step(batch, kept)
        for name, grad in helpers.grads(single).items():
            total[name] = total.get(name, 0) + grad / 2
    found = {}
    wrap.optimizer.step = lambda *args: found.update(helpers.grads(model))
    for seed in range(2):
        torch.manual_seed(seed)
        model.train_step(helpers.classification_batch(4, 20, seed), wrap)
    for name, grad in found.items():
        torch.testing.assert_close(grad, total[name])


def test_a_last_batch_of_one_image(model, helpers):
    (log,) = steps(model, helpers, wrapper(model), count=1, size=1)
    assert all(value.isfinite() for value in log.values())


def test_greedy_supervised_twin(helpers):
    """Pooling over patches and a linear classifier at each module."""
    cfg = model_cfg(helpers)
    cfg['backbone'] |= {
        'local_heads': {
            'type': 'mmlocal.TaskHead',
            'neck': {'type': 'mmlocal.PatchPooling', 'grid': 4},
            'head': {'type': 'mmpretrain.LinearClsHead', 'num_classes': 10},
        },
        'local_end': False,
    }
    model = helpers.build(cfg)
    first, second = model.backbone.local_heads
    assert first.head.fc.weight.shape == (10, 4)
    assert second.head.fc.weight.shape == (10, 8)
    batch = model.data_preprocessor(helpers.classification_batch(4, 20), True)
    feat = torch.randn(4 * 16, 4, 8, 8)
    found = first.loss(feat, batch['inputs'], batch['data_samples'])
    pooled = feat.view(4, 16, 4, 64).mean((1, 3))
    labels = torch.cat([s.gt_label for s in batch['data_samples']])
    expected = F.cross_entropy(first.head.fc(pooled), labels)
    torch.testing.assert_close(found['loss'], expected)
    logs = steps(model, helpers, wrapper(model))
    assert logs[0].keys() == {'local_0.loss', 'local_1.loss', 'loss'}


def test_any_backbone_that_takes_patches(helpers):
    cfg = model_cfg(helpers)
    cfg['backbone'] |= {
        'backbone': {
            'type': 'mmlocal.PatchBackbone',
            'backbone': {'type': 'mmlocal.CIFARResNet', 'depth': 8},
            'patch_size': 8,
            'stride': 4,
        },
        'boundaries': ['backbone.layer2', 'backbone.layer3'],
    }
    cfg['head']['in_channels'] = 64
    model = helpers.build(cfg)
    logs = steps(model, helpers, wrapper(model))
    assert len(logs[0]) == 4


def test_heads_that_take_patches_for_images_are_refused(helpers):
    cfg = model_cfg(helpers)
    cfg['backbone']['local_heads'] = {
        'type': 'mmlocal.GreedyHead',
        'num_classes': 10,
    }
    message = '16 features for each image, which mmlocal.GreedyHead would'
    with pytest.raises(ValueError, match=message):
        helpers.build(cfg)
