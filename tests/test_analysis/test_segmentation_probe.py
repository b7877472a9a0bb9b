"""A 1x1 convolution on the maps of modules."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmlocal.analysis import Features
from mmlocal.analysis.segmentation_probe import (
    SegmentationProbe,
    sample_pixels,
)

CLASSES = 3


def maps_of(num=12, seed=0, ignored=False, scale=4) -> Features:
    """Two modules: noise, and the label's one-hot code at label size."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, (num, 4, 6)).repeat(scale, 1)
    labels = labels.repeat(scale, 2)
    held = np.eye(CLASSES, dtype='f')[labels].transpose(0, 3, 1, 2)
    held = held + 0.1 * rng.normal(size=held.shape).astype('f')
    noise = rng.normal(size=(num, 5, 4, 6)).astype('f')
    if ignored:
        labels[:, :3] = 255
    return Features(['noise', 'labels'], [noise, held], labels)


def test_all_of_what_is_there_and_little_of_what_is_not():
    values = SegmentationProbe(num_pixels=2000).measure(
        maps_of(), maps_of(seed=1)
    )
    assert values['mIoU'][1] == values['pixel_accuracy'][1] == 100
    assert values['IoU'][1] == [100] * CLASSES
    # Chance: a third is right; the intersection is at most that.
    assert values['pixel_accuracy'][0] < 45
    assert values['mIoU'][0] < 30


def test_training_pixels_are_those_of_resized_features():
    features = maps_of()
    feats, labels, images = sample_pixels(features, 0, 10**6, seed=0)
    resized = F.interpolate(
        torch.from_numpy(features.values[0]),
        features.labels.shape[1:],
        mode='bilinear',
        align_corners=False,
    )
    assert len(feats) == features.labels.size
    for image in 0, 11:  # of two batches
        expected = resized[image].flatten(1).T
        found = feats[images == image]
        # All of its pixels, in another order.
        order = [rows[:, 0].argsort() for rows in (found, expected)]
        torch.testing.assert_close(found[order[0]], expected[order[1]])
        counted = labels[images == image].bincount(minlength=CLASSES)
        assert (
            counted.tolist()
            == np.bincount(
                features.labels[image].ravel(), minlength=CLASSES
            ).tolist()
        )


def test_feature_and_label_of_a_pixel_belong_together():
    features = maps_of()
    held = Features(['m'], [features.values[1]], features.labels)
    feats, labels, _ = sample_pixels(held, 0, 600, seed=1)
    assert len(feats) == 600
    assert (feats.argmax(1) == labels).all()


def test_metrics_are_those_of_mmseg():
    """Of a whole segmentation, by IoUMetric itself."""
    from mmseg.evaluation import IoUMetric

    train, val = maps_of(), maps_of(seed=1, ignored=True)
    probe = SegmentationProbe(num_pixels=500, weight_decay=1e-3)
    values = probe.measure(train, val)
    feats, labels, _ = sample_pixels(train, 0, 500, seed=0)
    from mmlocal.analysis.segmentation_probe import PixelHead

    head = PixelHead(feats, labels, CLASSES, probe.head, seed=0)
    for _ in head.epochs(torch.arange(len(feats)), None, 1e-3):
        pass
    logits = F.conv2d(
        torch.from_numpy(val.values[0]),
        head.weight[..., None, None],
        head.bias,
    )
    size = val.labels.shape[1:]
    predicted = F.interpolate(logits, size, mode='bilinear').argmax(1)
    metric = IoUMetric(iou_metrics=['mIoU'])
    metric.dataset_meta = {'classes': ['a', 'b', 'c']}
    metric.process(
        {},
        [
            {
                'pred_sem_seg': {'data': one[None]},
                'gt_sem_seg': {'data': torch.from_numpy(label)[None]},
            }
            for one, label in zip(predicted, val.labels, strict=True)
        ],
    )
    expected = metric.compute_metrics(metric.results)
    assert values['mIoU'][0] == pytest.approx(expected['mIoU'], abs=0.01)
    accuracy = values['pixel_accuracy'][0]
    assert accuracy == pytest.approx(expected['aAcc'], abs=0.01)


def test_ignored_pixels_count_nowhere():
    train, val = maps_of(ignored=True), maps_of(seed=1, ignored=True)
    feats, labels, _ = sample_pixels(train, 1, 10**6, seed=0)
    assert len(feats) == (train.labels != 255).sum()
    assert labels.max() < CLASSES

    def with_rubbish(features):
        """Where labels are ignored, what modules put out is anything."""
        values = [value.copy() for value in features.values]
        values[1][:, :, :3] = 50
        return Features(features.modules, values, features.labels)

    probe = SegmentationProbe(num_pixels=2000)
    values = probe.measure(train, val)
    assert values['mIoU'][1] == 100
    rubbish = probe.measure(with_rubbish(train), with_rubbish(val))
    assert rubbish['mIoU'][1] == values['mIoU'][1]


def test_a_class_that_is_nowhere_is_none():
    train, val = (
        Features(f.modules, f.values, f.labels, num_classes=5)
        for f in (maps_of(), maps_of(seed=1))
    )
    values = SegmentationProbe(num_pixels=2000).measure(train, val)
    assert values['IoU'][1] == [100, 100, 100, None, None]
    assert values['mIoU'][1] == 100


def test_the_choice_never_sees_the_test_labels():
    train, val = maps_of(), maps_of(seed=1)
    other = Features(val.modules, val.values, val.labels[::-1].copy())
    probe = SegmentationProbe(num_pixels=1000)
    one, two = probe.measure(train, val), probe.measure(train, other)
    assert one['weight_decay'] == two['weight_decay']
    assert one['mIoU'] != two['mIoU']


def test_held_out_are_images(monkeypatch):
    """Pixels of one image, much alike, are on one side."""
    from mmlocal.analysis import segmentation_probe as module

    seen = []
    original = module.train_and_read

    def spy(head, setting, num, parts, read):
        seen.append(parts())
        return original(head, setting, num, parts, read)

    monkeypatch.setattr(module, 'train_and_read', spy)
    train = maps_of()
    SegmentationProbe(num_pixels=240).measure(train, maps_of(seed=1))
    images = sample_pixels(train, 0, 240, seed=0)[2]
    fit, held = (set(images[rows].tolist()) for rows in seen[0])
    assert not fit & held
    assert (len(fit), len(held)) == (10, 2)


def test_batches_are_read_from_a_memory_map(tmp_path):
    train, val = maps_of(), maps_of(seed=1)
    lazy = []
    for number, value in enumerate(train.values):
        path = tmp_path / f'{number}.npy'
        np.save(path, value)
        lazy.append(np.load(path, mmap_mode='r'))
    mapped = Features(train.modules, lazy, train.labels)
    probe = SegmentationProbe(num_pixels=500)
    assert probe.measure(mapped, val) == probe.measure(train, val)


def test_classes_are_sent_to_the_other_probe():
    features = Features(['m'], [np.zeros((4, 2), 'f')], np.zeros(4, int))
    with pytest.raises(ValueError, match='LinearProbe'):
        SegmentationProbe().measure(features, features)
    nothing = maps_of()
    nothing.labels[:] = 255
    nothing = Features(
        nothing.modules, nothing.values, nothing.labels, num_classes=3
    )
    with pytest.raises(ValueError, match='no pixel'):
        SegmentationProbe().measure(nothing, nothing)
