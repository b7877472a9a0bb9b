import pickle

import mmcv
import numpy as np
import pytest
from mmengine.registry import init_default_scope
from mmpretrain.datasets.categories import CIFAR100_CATEGORIES

from mmlocal.datasets import CIFAR100


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmpretrain')


def test_folders_by_fine_label(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (100, 32, 32, 3), dtype=np.uint8)
    for name, rgb in zip(CIFAR100_CATEGORIES, images, strict=True):
        mmcv.imwrite(rgb[..., ::-1], str(tmp_path / 'test' / name / '0.png'))
    dataset = CIFAR100(str(tmp_path), split='test')
    assert dataset.get_gt_labels().tolist() == [*range(100)]
    assert dataset.CLASSES[:2] == ('apple', 'aquarium_fish')
    for item, rgb in zip(dataset, images, strict=True):
        assert (item['img'] == rgb).all()


def test_archive_with_some_classes(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    content = {
        'data': images.transpose(0, 3, 1, 2).reshape(4, -1),
        'fine_labels': [0, 99, 1, 99],
    }
    folder = tmp_path / 'cifar-100-python'
    folder.mkdir()
    (folder / 'train').write_bytes(pickle.dumps(content))
    (folder / 'meta').write_bytes(pickle.dumps({}))
    monkeypatch.setattr(CIFAR100, 'train_list', [['train', None]])
    monkeypatch.setattr(CIFAR100, 'test_list', [])
    dataset = CIFAR100(str(tmp_path), classes=['worm', 'apple'])
    assert [item['gt_label'] for item in dataset] == [1, 0, 0]
    assert (dataset[2]['img'] == images[3]).all()


def test_missing_is_said_as_mmpretrain_does(tmp_path):
    with pytest.raises(RuntimeError, match='CIFAR100.*download=True'):
        CIFAR100(str(tmp_path), download=False)
