"""Decode heads whose loss is computed image by image, beside mmseg's."""

from copy import deepcopy

import pytest
import torch
from mmengine.registry import DefaultScope

from mmlocal.config_check import check_config
from mmlocal.engine.optim import LocalOptimWrapper
from mmlocal.models.local_heads import TaskHead
from mmlocal.models.local_heads.base import Boundary
from mmlocal.registry import MODELS

CE = {'type': 'CrossEntropyLoss'}
WEIGHTS = [1.0, 2.0, 0.5, 1.5]


def make_head(kind, **kwargs):
    cfg = {
        'type': kind,
        'in_channels': 8,
        'channels': 4,
        'num_classes': 4,
        **kwargs,
    }
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(cfg)


def samples():
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    labels = torch.randint(0, 4, (3, 1, 33, 50))
    labels[0, :, :9], labels[1] = 255, 255
    return [SegDataSample(gt_sem_seg=PixelData(data=each)) for each in labels]


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize(
    'loss',
    [
        CE,
        {**CE, 'avg_non_ignore': True, 'loss_weight': 0.4},
        {**CE, 'class_weight': WEIGHTS},
        [CE, {**CE, 'class_weight': WEIGHTS}, {**CE, 'loss_name': 'loss_b'}],
    ],
    ids=['stock', 'valid', 'weighted', 'several'],
)
def test_loss_and_gradients_are_those_of_the_stock_head(loss, align_corners):
    feats, labels = (torch.randn(3, 8, 9, 7),), samples()
    found = []
    for kind in 'FCNHead', 'mmlocal.ImagewiseFCNHead':
        head = make_head(kind, loss_decode=loss, align_corners=align_corners)
        torch.manual_seed(1)  # dropout
        losses = head.loss(feats, labels, None)
        losses.pop('acc_seg')
        sum(losses.values()).backward()
        found.append((losses, [p.grad for p in head.parameters()]))
    (expected, grads), (losses, others) = found
    assert losses.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(losses[key], value), key
    # Several losses are added up behind the resizing, here before it.
    exact = {'rtol': 0, 'atol': 0} if isinstance(loss, dict) else {}
    torch.testing.assert_close(others, grads, **exact)


def test_accuracy_is_of_the_cells():
    head = make_head('mmlocal.ImagewiseFCNHead')
    labels = samples()
    losses = head.loss((torch.randn(3, 8, 33, 50),), labels, None)
    stock = make_head('FCNHead')
    logits = torch.randn(3, 4, 33, 50)
    found, expected = (
        each.loss_by_feat(logits, labels)['acc_seg'] for each in (head, stock)
    )
    torch.testing.assert_close(found, expected.squeeze())
    assert 'acc_seg' in losses


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'sampler': {'type': 'OHEMPixelSampler'}}, 'sampler OHEM'),
        ({'loss_decode': {'type': 'DiceLoss'}}, 'DiceLoss'),
        ({'loss_decode': {**CE, 'use_sigmoid': True}}, 'use_sigmoid'),
        ({'loss_decode': {**CE, 'reduction': 'sum'}}, 'reduction'),
        ({'loss_decode': [CE, {'type': 'DiceLoss'}]}, 'DiceLoss'),
        ({'ignore_index': None}, 'ignore_index'),
    ],
)
def test_what_needs_all_images_at_once_is_refused(options, message):
    with pytest.raises(ValueError, match=message) as error:
        make_head('mmlocal.ImagewiseFCNHead', **options)
    assert "type='FCNHead'" in str(error.value)


def test_a_head_with_a_loss_of_its_own_is_refused():
    with pytest.raises(ValueError, match='PIDHead has a loss_by_feat'):
        make_head('mmlocal.ImagewisePIDHead')


def test_unknown_heads():
    cfg = {'decode_head': {'type': 'mmlocal.ImagewiseFCNHaed'}}
    with pytest.raises(ValueError, match='MMLocal has no ImagewiseFCNHaed'):
        check_config(cfg)
    check_config({'decode_head': {'type': 'mmlocal.ImagewiseFCNHead'}})
    # Something else of mmseg is no decode head.
    assert MODELS.get('mmlocal.ImagewiseResNet') is None


def test_a_head_that_is_registered_later():
    """As those that ``custom_imports`` brings."""
    from mmseg.models.decode_heads import FCNHead
    from mmseg.registry import MODELS as mmseg_models

    assert MODELS.get('mmlocal.ImagewiseLateHead') is None
    late = type('LateHead', (FCNHead,), {})
    mmseg_models.register_module('LateHead', module=late, force=True)
    try:
        found = MODELS.get('mmlocal.ImagewiseLateHead')
        assert issubclass(found, late)
        assert found is MODELS.get('mmlocal.ImagewiseLateHead')
    finally:
        del mmseg_models.module_dict['LateHead']


def test_a_step_of_local_training_is_that_of_stock_heads(helpers):
    """Weights go by the same names, and take the same step."""
    cfg = helpers.segmentor_cfg(['layer2.0'])
    auxiliary = {**cfg['decode_head'], 'in_index': 2, 'in_channels': 32}
    cfg['auxiliary_head'] = [auxiliary]
    found = []
    for prefix in '', 'mmlocal.Imagewise':
        changed = deepcopy(cfg)
        for head in changed['decode_head'], *changed['auxiliary_head']:
            head['type'] = f'{prefix}FCNHead'
        model = helpers.build(changed)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        wrap = LocalOptimWrapper(optimizer=optimizer)
        torch.manual_seed(1)
        model.train_step(helpers.segmentation_batch(), wrap)
        found.append(model.state_dict())
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name


def test_as_a_local_head():
    """Whatever the default scope; both libraries have a CrossEntropyLoss."""
    head = {
        'type': 'mmlocal.ImagewiseFCNHead',
        'channels': 4,
        'num_classes': 4,
    }
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        local = TaskHead(Boundary('layer2.0', 16, 8), head=head)
    feat = torch.randn(3, 16, 5, 7)
    losses = local.loss(feat, torch.zeros(3, 3, 33, 50), samples())
    assert local.head.in_channels == 16
    assert losses.keys() == {'loss_ce', 'acc_seg'}
