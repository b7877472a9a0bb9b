import numpy as np
import pytest
from mmengine.registry import DefaultScope
from scipy.io import savemat

from mmlocal.datasets import SVHN


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def root(tmp_path, images):
    content = {
        'X': images.transpose(1, 2, 3, 0),
        'y': np.array([[1], [10], [9]], np.uint8),
    }
    savemat(tmp_path / 'train_32x32.mat', content)
    return str(tmp_path)


def test_images_and_labels(root, images):
    dataset = SVHN(root)
    assert [dataset[i]['gt_label'] for i in range(3)] == [1, 0, 9]
    for item, image in zip(dataset, images, strict=True):
        np.testing.assert_array_equal(item['img'], image)
    assert dataset.CLASSES[1] == '1'


def test_through_a_pipeline(root, images):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = SVHN(
            root,
            pipeline=[
                dict(type='RandomCrop', crop_size=32, padding=2),
                dict(type='PackInputs'),
            ],
        )
    item = dataset[1]
    assert item['inputs'].shape == (3, 32, 32)
    assert item['data_samples'].gt_label.item() == 0


def test_missing_file(root):
    with pytest.raises(FileNotFoundError) as error:
        SVHN(root, split='test')
    message = str(error.value)
    assert 'test_32x32.mat is missing' in message
    assert 'ufldl.stanford.edu/housenumbers' in message
    assert 'data_root' in message


def test_unknown_split(root):
    with pytest.raises(ValueError, match="split='val': write one of"):
        SVHN(root, split='val')
