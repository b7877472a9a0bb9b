import mmcv
import numpy as np
import pytest
from mmengine.registry import init_default_scope

from mmlocal.datasets import CIFAR10, CINIC10


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmpretrain')


@pytest.fixture
def folders(tmp_path):
    """One image a class in each split, as PNG, which loses nothing."""
    rng = np.random.default_rng(0)
    shape = (3, 10, 32, 32, 3)
    images = rng.integers(0, 256, shape, dtype=np.uint8)
    for split, of_split in zip(CINIC10.SPLITS, images, strict=True):
        names = CIFAR10.METAINFO['classes']
        for name, rgb in zip(names, of_split, strict=True):
            path = tmp_path / split / name / 'n01.png'
            mmcv.imwrite(rgb[..., ::-1], str(path))
    return tmp_path, images


def test_splits(folders):
    root, images = folders
    for split, of_split in zip(CINIC10.SPLITS, images, strict=True):
        dataset = CINIC10(str(root), split=split)
        assert dataset.get_gt_labels().tolist() == [*range(10)]
        read = np.stack([item['img'] for item in dataset])
        assert (read == of_split).all()
    with pytest.raises(ValueError, match="split='val': write one of.*valid"):
        CINIC10(str(root), split='val')


def test_some_classes(folders):
    root, images = folders
    dataset = CINIC10(str(root), classes=['frog', 'cat'])
    assert [item['gt_label'] for item in dataset] == [0, 1]
    assert (dataset[1]['img'] == images[0, 3]).all()
    with pytest.raises(ValueError, match="classes=.*'lion'.*write"):
        CINIC10(str(root), classes=['lion'])


@pytest.mark.parametrize('gone', ['test', 'test/deer'])
def test_what_is_missing_is_named(folders, gone):
    root, _ = folders
    (root / gone).rename(root / 'elsewhere')
    CINIC10(str(root), split='valid')
    with pytest.raises(FileNotFoundError) as error:
        CINIC10(str(root), split='test')
    message = str(error.value)
    assert f'{gone}' in message and 'is missing' in message
    assert 'datashare.ed.ac.uk' in message
    assert '{train,valid,test}/<class>/*.png' in message
