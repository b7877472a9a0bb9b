import pytest
import torch

from mmlocal.models.local_heads.targets import (
    check_labels,
    class_labels,
    pixel_labels,
)


def test_class_labels(class_samples):
    labels = class_labels(class_samples([3, 0, 7]))
    assert labels.dtype == torch.int64
    assert labels.tolist() == [3, 0, 7]


def test_soft_labels_win(class_samples):
    samples = class_samples([1, 0])
    for sample, score in zip(samples, ([0.2, 0.8], [0.5, 0.5]), strict=True):
        sample.set_gt_score(torch.tensor(score))
    labels = class_labels(samples)
    torch.testing.assert_close(labels, torch.tensor([[0.2, 0.8], [0.5, 0.5]]))


def test_several_classes_of_an_image_have_equal_parts(class_samples):
    """As VOC's, whose preprocessor counts them; an image may have none."""
    samples = class_samples([1, 0, 0])
    scores = [[0, 1, 0], [1, 0, 1], [0, 0, 0]]
    for sample, score in zip(samples, scores, strict=True):
        sample.set_gt_score(torch.tensor(score))
    expected = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.0] * 3])
    assert torch.equal(class_labels(samples), expected)


@pytest.mark.parametrize('batch', [1, 3])
def test_pixel_labels(batch, pixel_samples):
    labels = torch.randint(0, 5, (batch, 4, 6), dtype=torch.uint8)
    out = pixel_labels(pixel_samples(labels))
    assert out.dtype == torch.int64
    assert torch.equal(out, labels.long())


def test_labels_of_the_other_task(class_samples, pixel_samples):
    with pytest.raises(ValueError, match="preset='segmentation'"):
        class_labels(pixel_samples(torch.zeros(2, 4, 4)))
    with pytest.raises(ValueError, match="preset='cifar'"):
        pixel_labels(class_samples())


@pytest.mark.parametrize('read', [class_labels, pixel_labels])
@pytest.mark.parametrize('samples', [None, []])
def test_a_model_called_without_annotations(read, samples):
    with pytest.raises(ValueError, match='data_samples.*learns from labels'):
        read(samples)


@pytest.mark.parametrize(
    ('labels', 'ignore_index', 'words'),
    [
        ([0, 3, 11, 4], None, ['label 11 ', 'num_classes=12 or more']),
        ([0, -1, 3, -7], None, ['label -7 ', 'from 0 on']),
        ([0, 255, 3], None, ['label 255 ']),
        ([0, 255, 3, 4], 255, ['label 4 ', 'ignore_index=255']),
    ],
)
def test_label_outside_the_classes(labels, ignore_index, words):
    with pytest.raises(ValueError, match='local_heads.num_classes=4') as error:
        check_labels(torch.tensor(labels), 4, ignore_index)
    for word in words:
        assert word in str(error.value)


def test_soft_labels_of_another_class_count():
    with pytest.raises(ValueError, match='write local_heads.num_classes=10'):
        check_labels(torch.rand(2, 10), 4)


def test_valid_labels_pass():
    check_labels(torch.tensor([0, 3]), 4)
    check_labels(torch.tensor([[0, 255], [3, 255]]), 4, 255)
    check_labels(torch.rand(2, 4), 4)


def test_a_label_map_of_another_size_than_its_image_is_named():
    from mmengine.structures import PixelData
    from mmseg.models import SegDataPreProcessor
    from mmseg.structures import SegDataSample

    def sample(name, height):
        labels = torch.zeros(1, height, 6, dtype=torch.uint8)
        sample = SegDataSample(gt_sem_seg=PixelData(data=labels))
        sample.set_metainfo({'seg_map_path': name})
        return sample

    preprocessor = SegDataPreProcessor(size=(8, 8))
    images = [torch.zeros(3, 5, 6) for _ in range(2)]
    good = [sample('a.png', 5), sample('b.png', 5)]
    batch = {'inputs': images, 'data_samples': good}
    samples = preprocessor(batch, training=True)['data_samples']
    assert pixel_labels(samples).shape == (2, 8, 8)

    bad = [sample('a.png', 4), sample('b.png', 4)]
    batch = {'inputs': images, 'data_samples': bad}
    samples = preprocessor(batch, training=True)['data_samples']
    with pytest.raises(
        ValueError, match=r'a\.png is \(7, 8\).*image \(8, 8\)'
    ):
        pixel_labels(samples)
