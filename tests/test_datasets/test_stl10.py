import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

from mmlocal.datasets import STL10
from mmlocal.datasets.stl10 import UNLABELED


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)


@pytest.fixture
def root(tmp_path, images):
    # In the file: image, channel, column, row.
    images.transpose(0, 3, 2, 1).tofile(tmp_path / 'train_X.bin')
    np.array([10, 1], np.uint8).tofile(tmp_path / 'train_y.bin')
    return tmp_path


def test_images_and_labels(root, images):
    dataset = STL10(str(root))
    assert [dataset[i]['gt_label'] for i in range(2)] == [9, 0]
    for item, image in zip(dataset, images, strict=True):
        np.testing.assert_array_equal(item['img'], image)
    assert dataset.CLASSES[9] == 'truck'


def test_through_a_pipeline(root):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = STL10(
            str(root),
            pipeline=[
                dict(type='RandomCrop', crop_size=96, padding=4),
                dict(type='RandomFlip', prob=0.5),
                dict(type='PackInputs'),
            ],
        )
    item = dataset[0]
    assert item['inputs'].shape == (3, 96, 96)
    assert item['data_samples'].gt_label.item() == 9


@pytest.mark.parametrize('part', ['X', 'y'])
def test_missing_file(root, part):
    (root / f'train_{part}.bin').unlink()
    with pytest.raises(FileNotFoundError) as error:
        STL10(str(root))
    message = str(error.value)
    assert f'train_{part}.bin is missing' in message
    assert 'cs.stanford.edu/~acoates/stl10' in message
    assert 'data_root' in message


@pytest.mark.parametrize('split', ['unlabeled', 'train+unlabeled'])
def test_images_without_labels(root, images, split):
    """The labelled ones come first; of the others nothing is in memory."""
    others = 255 - images[:, ::-1]
    others.transpose(0, 3, 2, 1).tofile(root / 'unlabeled_X.bin')
    dataset = STL10(str(root), split=split)
    expected, labels = others, [-100, -100]
    if split == 'train+unlabeled':
        expected, labels = np.concatenate([images, others]), [9, 0, *labels]
    assert [item['gt_label'] for item in dataset] == labels
    for item, image in zip(dataset, expected, strict=True):
        np.testing.assert_array_equal(item['img'], image)
    assert 'img' not in dataset.load_data_list()[-1]
    (root / 'unlabeled_X.bin').unlink()
    with pytest.raises(FileNotFoundError, match='unlabeled_X.bin is missing'):
        STL10(str(root), split=split)


def test_images_without_labels_train_no_classifier():
    """torch's cross-entropy leaves them out."""
    from mmpretrain.models import LinearClsHead
    from mmpretrain.structures import DataSample

    head = LinearClsHead(num_classes=10, in_channels=4)
    samples = [DataSample().set_gt_label(UNLABELED) for _ in range(2)]
    loss = head.loss((torch.randn(2, 4),), samples)['loss']
    loss.backward()
    assert loss == 0 and not head.fc.weight.grad.any()


def test_unknown_split(root):
    with pytest.raises(ValueError, match="split='all': write one of"):
        STL10(str(root), split='all')
