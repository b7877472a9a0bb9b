import pytest
import torch

from mmlocal.models.local_heads import TaskHead
from mmlocal.registry import MODELS

GAP = {'type': 'mmpretrain.GlobalAveragePooling'}
LINEAR = {'type': 'mmpretrain.LinearClsHead', 'num_classes': 4}
FCN = {
    'type': 'mmseg.FCNHead',
    'channels': 8,
    'num_classes': 3,
    'num_convs': 1,
    'dropout_ratio': 0,
}
INPUTS = torch.zeros(8, 3, 32, 32)


def test_cls_head(boundary, class_samples):
    head = TaskHead(
        boundary(16, 4), head={**LINEAR, 'cal_acc': True}, neck=GAP
    )
    feat = torch.randn(8, 16, 8, 8)
    losses = head.loss(feat, INPUTS, class_samples())
    expected = head.head.loss((feat.mean((2, 3)),), class_samples())
    assert losses.keys() == {'loss', 'accuracy_top-1'}
    torch.testing.assert_close(losses['loss'], expected['loss'])
    logits = head.predict(feat, INPUTS)['logits']
    torch.testing.assert_close(logits, head.head.fc(feat.mean((2, 3))))


def test_decode_head(boundary, pixel_samples):
    head = TaskHead(boundary(16, 8), head=FCN)
    feat = torch.randn(2, 16, 4, 4)
    labels = torch.randint(0, 3, (2, 32, 32))
    losses = head.loss(feat, INPUTS[:2], pixel_samples(labels))
    expected = head.head.loss((feat,), pixel_samples(labels), None)
    assert head.head.in_channels == 16
    assert losses.keys() == {'loss_ce', 'acc_seg'}
    assert torch.equal(losses['loss_ce'], expected['loss_ce'])
    assert head.predict(feat, INPUTS)['logits'].shape == (2, 3, 4, 4)


def test_parts_of_a_head_are_of_its_library(boundary, pixel_samples):
    """Both libraries have a CrossEntropyLoss."""
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        head = TaskHead(boundary(16, 8), head=FCN)
    labels = torch.randint(0, 3, (2, 32, 32))
    samples = pixel_samples(labels)
    losses = head.loss(torch.randn(2, 16, 4, 4), INPUTS[:2], samples)
    assert 'loss_ce' in losses


def test_names_without_prefix_in_the_default_scope(boundary):
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope('mmseg'):
        head = TaskHead(boundary(16, 8), head={**FCN, 'type': 'FCNHead'})
    assert head.head.in_channels == 16


def test_tokens(boundary, class_samples, pixel_samples):
    where = boundary(16, 8, layout='tokens')
    tokens = torch.randn(8, 17, 16)
    grid = tokens[:, 1:].transpose(1, 2).reshape(8, 16, 4, 4)
    head = TaskHead(where, head=LINEAR, neck=GAP)
    expected = head.head.fc(grid.mean((2, 3)))
    torch.testing.assert_close(
        head.predict(tokens, INPUTS)['logits'], expected
    )
    assert head.loss(tokens, INPUTS, class_samples())['loss'].isfinite()
    head = TaskHead(where, head=FCN).eval()
    labels = torch.randint(0, 3, (8, 32, 32))
    losses = head.loss(tokens, INPUTS, pixel_samples(labels))
    assert losses['loss_ce'].isfinite()
    torch.testing.assert_close(
        head.predict(tokens, INPUTS)['logits'], head.head((grid,))
    )


def test_neck_changes_the_channels(boundary, class_samples):
    neck = {
        'type': 'mmpretrain.LinearNeck',
        'out_channels': 6,
        'gap_dim': 2,
    }
    head = TaskHead(boundary(16, 4), head=LINEAR, neck=neck)
    losses = head.loss(torch.randn(8, 16, 4, 4), INPUTS, class_samples())
    assert head.head.fc.in_features == 6
    assert losses['loss'].isfinite()


def test_head_for_a_list_of_features(boundary, pixel_samples):
    cfg = {
        'type': 'mmseg.SegformerHead',
        'channels': 8,
        'num_classes': 3,
        'norm_cfg': {'type': 'BN'},
    }
    with pytest.raises(ValueError, match=r'in_channels=\[16\], in_index=\[0'):
        TaskHead(boundary(16, 8), head=cfg)
    cfg.update(in_channels=[16], in_index=[0])
    head = TaskHead(boundary(16, 8), head=cfg)
    labels = torch.randint(0, 3, (2, 32, 32))
    losses = head.loss(
        torch.randn(2, 16, 4, 4), INPUTS[:2], pixel_samples(labels)
    )
    assert losses['loss_ce'].isfinite()


@pytest.mark.parametrize(
    ('head', 'message'),
    [
        (LINEAR, r'write local_heads.neck=dict\('),
        ({**FCN, 'in_index': 2}, 'in_index=2.*remove'),
        ({**FCN, 'in_channels': 64}, 'in_channels=64.* 16 channels'),
        (GAP, 'no loss'),
        (
            {
                'type': 'mmpretrain.MAEPretrainHead',
                'loss': {
                    'type': 'mmpretrain.PixelReconstructionLoss',
                    'criterion': 'L2',
                },
            },
            'no loss',
        ),
        (
            {
                'type': 'mmpretrain.VisionTransformerClsHead',
                'num_classes': 4,
            },
            'write local_heads.neck',
        ),
    ],
)
def test_bad_config(head, message, boundary):
    with pytest.raises(ValueError, match=message):
        TaskHead(boundary(16, 8), head=head)


def test_configs_are_left_alone(boundary):
    neck, head = dict(GAP), dict(LINEAR)
    TaskHead(boundary(16, 4), head=head, neck=neck)
    assert (neck, head) == (GAP, LINEAR)


def test_is_registered_and_initialized(boundary):
    head = MODELS.build(
        {'type': 'mmlocal.TaskHead', 'head': LINEAR, 'neck': GAP},
        default_args={'boundary': boundary(512, 4)},
    )
    head.init_weights()
    # LinearClsHead's own initialization, N(0, 0.01).
    assert head.head.fc.weight.std().item() == pytest.approx(0.01, rel=0.1)
