"""Losses of pixels image by image, against those of the whole batch."""

import pytest
import torch
from torch.nn import functional as F

from mmlocal.models.losses import cell_accuracy, imagewise_cross_entropy
from mmlocal.planner.recorder import Recorder

IGNORE = 255


def batch(count=3, classes=5, size=(33, 50)):
    """Logits of a cell in 4 pixels; one image without a label."""
    logits = torch.randn(count, classes, 9, 13, requires_grad=True)
    labels = torch.randint(0, classes, (count, *size))
    labels[0, :9], labels[1] = IGNORE, IGNORE
    return logits, labels


def whole(logits, labels, align_corners, weight=None):
    logits = F.interpolate(
        logits,
        labels.shape[-2:],
        mode='bilinear',
        align_corners=align_corners,
    )
    return F.cross_entropy(
        logits, labels, weight, ignore_index=IGNORE, reduction='none'
    )


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_those_of_the_batch(
    align_corners, weighted, dtype
):
    logits, labels = batch()
    weight = torch.rand(5) if weighted else None
    factors = torch.rand(labels.shape)  # any gradient of each pixel's loss
    found = []
    for function in (
        lambda x: whole(x, labels, align_corners, weight),
        lambda x: imagewise_cross_entropy(
            x, labels, IGNORE, align_corners, weight
        ),
    ):
        logits.grad = None
        with torch.autocast('cpu', enabled=dtype is torch.bfloat16):
            losses = function(logits.to(dtype))
        (losses * factors).sum().backward()
        found.append((losses, logits.grad))
    for expected, value in zip(*found, strict=True):
        assert torch.equal(value, expected)


def test_logits_of_one_image_at_a_time_are_resized():
    """The most that is in memory at once, in logits of an image."""
    logits, labels = batch(4, size=(144, 208))
    image = labels[0].numel() * 5 * 4
    peaks = []
    for function in (
        lambda: whole(logits, labels, True),
        lambda: imagewise_cross_entropy(logits, labels, IGNORE, True),
    ):
        recorder = Recorder(None)
        recorder.track_all([logits, labels], 'batch')
        with recorder:
            before = recorder.total
            function().sum().backward()
        peaks.append((recorder.peak - before) / image)
    assert peaks[0] >= 3 * 4
    # Of three tensors beside what is as large as the labels.
    assert peaks[1] < 3 + 3 * 4 / 5


def test_without_gradients():
    logits, labels = batch()
    with torch.no_grad():
        losses = imagewise_cross_entropy(logits, labels, IGNORE, True)
    assert not losses.requires_grad
    assert torch.equal(losses, whole(logits, labels, True))


def test_accuracy_of_logits_as_large_as_the_labels_is_that_of_all_pixels():
    logits, labels = torch.randn(2, 3, 7, 5), torch.randint(0, 3, (2, 7, 5))
    labels[:, 2] = IGNORE
    right = (logits.argmax(1) == labels)[labels != IGNORE].float().mean()
    for align_corners in False, True:
        found = cell_accuracy(logits, labels, IGNORE, align_corners)
        torch.testing.assert_close(found, 100 * right)


@pytest.mark.parametrize('align_corners', [False, True])
def test_accuracy_looks_at_the_middle_of_each_cell(align_corners):
    """Classes that are enlarged with their logits are all right."""
    labels = torch.randint(0, 4, (2, 5, 7))
    logits = F.one_hot(labels, 4).permute(0, 3, 1, 2).float()
    large = F.interpolate(
        logits, (25, 35), mode='bilinear', align_corners=align_corners
    ).argmax(1)
    assert cell_accuracy(logits, large, IGNORE, align_corners) == 100
    shifted = large.roll(5, 2)
    assert cell_accuracy(logits, shifted, IGNORE, align_corners) < 60


def test_accuracy_without_a_valid_pixel_is_zero():
    labels = torch.full((1, 8, 8), IGNORE)
    assert cell_accuracy(torch.randn(1, 3, 2, 2), labels, IGNORE, True) == 0
