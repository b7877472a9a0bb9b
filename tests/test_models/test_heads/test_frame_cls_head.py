"""Classes of frames, and their accuracy."""

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample

from mmlocal.evaluation import FrameAccuracy
from mmlocal.models.heads import FrameClsHead
from mmlocal.models.local_heads import Boundary, TaskHead


def samples(labels: torch.Tensor) -> list[DataSample]:
    found = [DataSample() for _ in labels]
    for sample, row in zip(found, labels, strict=True):
        sample.set_field(row, 'gt_frames')
    return found


@pytest.fixture
def labels():
    labels = torch.randint(0, 3, (2, 5))
    labels[0, 3:] = 255
    return labels


@pytest.mark.parametrize('length', [5, 20, 3])
def test_loss_is_that_of_averaged_features(labels, length):
    """Frames without label do not count."""
    head, feat = FrameClsHead(3, 4), torch.randn(2, 4, length)
    losses = head.loss((feat,), samples(labels))
    frames = F.adaptive_avg_pool1d(feat, 5).transpose(1, 2)
    logits = frames @ head.fc.weight[:, :, 0].T + head.fc.bias
    expected = F.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=255
    )
    torch.testing.assert_close(losses['loss'], expected)
    counts = labels != 255
    right = (logits.argmax(2) == labels)[counts].double().mean()
    assert losses['acc'].item() == pytest.approx(100 * right.item())
    found = head.predict((feat,), samples(labels))
    metric = FrameAccuracy()
    metric.process(None, [sample.to_dict() for sample in found])
    value = metric.evaluate(2)['frames/accuracy']
    assert value == pytest.approx(100 * right.item())


def test_a_batch_without_any_label_has_no_loss():
    head = FrameClsHead(3, 4)
    labels = samples(torch.full((1, 5), 255))
    losses = head.loss((torch.randn(1, 4, 5),), labels)
    assert losses['loss'] == 0 and losses['acc'] == 0


def test_predictions_without_labels_have_a_class_a_position():
    (found,) = FrameClsHead(3, 4).predict((torch.randn(1, 4, 7),))
    assert found.pred_frames.shape == (7,)


def test_as_a_local_head(labels):
    """Built with the channels of the boundary, on the sequence itself."""
    place = Boundary('layers.1', 4, 5, 'sequence')
    config = dict(type='mmlocal.FrameClsHead', num_classes=3)
    head, feat = TaskHead(place, config), torch.randn(2, 4, 9)
    found = head.loss(feat, None, samples(labels))
    expected = head.head.loss((feat,), samples(labels))
    assert torch.equal(found['loss'], expected['loss'])
    assert head.predict(feat, None)['logits'].shape == (2, 3, 9)


def test_classes_of_whole_waveforms_by_a_head_of_mmpretrain():
    place = Boundary('layers.1', 4, 5, 'sequence')
    config = dict(type='mmpretrain.LinearClsHead', num_classes=3)
    neck = dict(type='mmpretrain.GlobalAveragePooling', dim=1)
    head, feat = TaskHead(place, config, neck), torch.randn(2, 4, 9)
    logits = head.predict(feat, None)['logits']
    torch.testing.assert_close(logits, head.head.fc(feat.mean(2)))


def test_missing_or_uneven_labels():
    head, feat = FrameClsHead(3, 4), torch.randn(2, 4, 5)
    with pytest.raises(ValueError, match='no gt_frames.*LinearClsHead'):
        head.loss((feat,), [DataSample(), DataSample()])
    uneven = samples(torch.zeros(1, 5)) + samples(torch.zeros(1, 6))
    with pytest.raises(ValueError, match=r'\[5, 6\].*CropAudio'):
        head.loss((feat,), uneven)
    with pytest.raises(ValueError, match='FrameClsHead'):
        FrameAccuracy().process(None, [{}])
