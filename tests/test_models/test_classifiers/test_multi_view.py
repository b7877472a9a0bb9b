"""Batches of two views, and what learns from which."""

from copy import deepcopy

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.dataset.utils import default_collate
from torch.nn import functional as F

from mmlocal.engine.optim import LocalAmpOptimWrapper, LocalOptimWrapper
from mmlocal.models.losses import SupConLoss
from mmlocal.registry import MODELS

VIEWS = 'mmlocal.MultiViewDataPreprocessor'


def model_cfg(helpers, local=True, **head):
    backbone = {'type': 'mmlocal.CIFARResNet', 'depth': 8}
    if local:
        backbone = {
            'type': 'mmlocal.LocalSupervisedBackbone',
            'backbone': backbone,
            'boundaries': {'type': 'mmlocal.EachBlock'},
            'local_heads': {
                'type': 'mmlocal.LayerwiseHead',
                'loss': 'contrast',
                'max_features': 64,
                **head,
            },
            'local_end': True,
            'input_shape': (3, 16, 16),
        }
    cfg = helpers.classifier_cfg(backbone, 64)
    cfg['type'] = 'mmlocal.MultiViewClassifier'
    cfg['data_preprocessor']['type'] = VIEWS
    return cfg


def two_views(helpers, size=4, collate=pseudo_collate):
    """As a data loader hands them out."""
    batches = [
        helpers.classification_batch(size, side=16, seed=s) for s in (0, 1)
    ]
    items = [
        {'inputs': list(views), 'data_samples': sample}
        for *views, sample in zip(
            *(batch['inputs'] for batch in batches),
            batches[0]['data_samples'],
            strict=True,
        )
    ]
    if collate is pseudo_collate:
        return collate(items)
    # As mmpretrain's configs write it.
    return {
        'inputs': default_collate([item['inputs'] for item in items]),
        'data_samples': [item['data_samples'] for item in items],
    }


@pytest.mark.parametrize('collate', [pseudo_collate, default_collate])
def test_views_are_put_together(helpers, collate):
    cfg = helpers.build(model_cfg(helpers, local=False))
    preprocess = cfg.data_preprocessor
    batch = preprocess(two_views(helpers, collate=collate), True)
    assert batch['inputs'].shape == (8, 3, 16, 16)
    assert len(batch['data_samples']) == 4
    for view in (0, 1):
        single = helpers.classification_batch(4, side=16, seed=view)
        expected = preprocess(single, True)['inputs']
        assert torch.equal(batch['inputs'][4 * view :][:4], expected)


def test_single_images_are_as_ever(helpers):
    model = helpers.build(model_cfg(helpers, local=False))
    plain = model_cfg(helpers, local=False)['data_preprocessor']
    plain['type'] = 'mmpretrain.ClsDataPreprocessor'
    batch = helpers.classification_batch(4)
    expected = MODELS.build(plain)(deepcopy(batch), True)['inputs']
    assert torch.equal(
        model.data_preprocessor(batch, True)['inputs'], expected
    )


def test_mixup_is_refused(helpers):
    cfg = model_cfg(helpers, local=False)
    cfg['data_preprocessor']['batch_augments'] = {
        'augments': {'type': 'Mixup', 'alpha': 0.8}
    }
    with pytest.raises(ValueError, match='batch_augments.*different images'):
        helpers.build(cfg)


@pytest.mark.parametrize('counts', [1, 2])
def test_training_step(helpers, counts):
    """Every block learns from both views, by its loss alone; the model's own
    head from the first."""
    model = helpers.build(model_cfg(helpers))
    oracle = deepcopy(model)
    batch = two_views(helpers)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrap = LocalOptimWrapper(optimizer=optimizer, accumulative_counts=counts)
    wrap.initialize_count_status(model, 0, 10)
    wrap.zero_grad = lambda: None
    log = model.train_step(deepcopy(batch), wrap)
    gradients = helpers.grads(model)

    data = oracle.data_preprocessor(deepcopy(batch), True)
    feat = data['inputs']
    labels = torch.cat([s.gt_label for s in data['data_samples']])
    backbone = oracle.backbone
    for index in range(backbone.num_modules):
        feat = backbone.chain.run(index, feat.detach())
        embedding = backbone.local_heads[index].projection(feat)
        embedding = F.normalize(embedding, dim=1)
        loss = SupConLoss(0.1, 0.07)(embedding, labels.repeat(2))
        (loss / counts).backward()
    pooled = feat[:4].detach().mean((2, 3))
    own = F.cross_entropy(oracle.head.fc(pooled), labels)
    (own / counts).backward()
    torch.testing.assert_close(log['loss'], own.detach())
    for name, grad in helpers.grads(oracle).items():
        torch.testing.assert_close(gradients[name], grad, msg=name)


def test_mixed_precision(helpers):
    model = helpers.build(
        model_cfg(helpers, regularizer={'scope': 'local', 'weight': 0.01})
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrap = LocalAmpOptimWrapper(optimizer=optimizer, dtype='bfloat16')
    for _ in range(2):
        model.train_step(two_views(helpers), wrap)
    assert len(wrap.step_log) == 4 * 3
    assert all(value.isfinite() for value in wrap.step_log.values())


def test_prediction_is_that_of_a_classifier(helpers):
    model = helpers.build(model_cfg(helpers)).eval()
    batch = helpers.classification_batch(4, side=16)
    with torch.no_grad():
        samples = model.val_step(batch)
    assert [sample.pred_label.shape for sample in samples] == 4 * [(1,)]
