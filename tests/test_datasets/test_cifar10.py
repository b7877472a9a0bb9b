import mmcv
import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

from mmlocal.registry import DATASETS

CLASSES = [
    'airplane',
    'automobile',
    'bird',
    'cat',
    'deer',
    'dog',
    'frog',
    'horse',
    'ship',
    'truck',
]


@pytest.fixture
def folders(tmp_path):
    """Two images a class, as PNG so that they come back as they were."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10, 2, 32, 32, 3), dtype=np.uint8)
    for name, pair in zip(CLASSES, images, strict=True):
        for index, rgb in enumerate(pair):
            path = tmp_path / 'train' / name / f'{index:04d}.png'
            mmcv.imwrite(rgb[..., ::-1], str(path))
    return tmp_path, images


def build(root, **kwargs):
    init_default_scope('mmpretrain')
    return DATASETS.build(
        dict(type='mmlocal.CIFAR10', data_root=str(root), **kwargs)
    )


def test_folders_are_read_in_rgb(folders):
    root, images = folders
    dataset = build(root, split='train', pipeline=[])
    labels = [dataset.get_cat_ids(index)[0] for index in range(20)]
    assert labels == [label for label in range(10) for _ in range(2)]
    read = np.stack([dataset.get_data_info(i)['img'] for i in range(20)])
    assert (read == images.reshape(20, 32, 32, 3)).all()


def test_pipeline_of_the_archive_runs_on_folders(folders):
    root, _ = folders
    dataset = build(root, split='train', pipeline=[dict(type='PackInputs')])
    assert isinstance(dataset.pipeline, Compose)
    sample = dataset[3]
    assert sample['inputs'].shape == (3, 32, 32)
    assert sample['data_samples'].gt_label.item() == 1


def test_without_folders_it_is_the_archive(folders):
    root, _ = folders
    with pytest.raises(RuntimeError, match='download=True'):
        build(root, split='test', pipeline=[], download=False)


def test_a_missing_class_is_named(folders):
    root, _ = folders
    (root / 'train' / 'ship').rename(root / 'train' / 'boat')
    with pytest.raises(FileNotFoundError, match='train/ship'):
        build(root, split='train', pipeline=[])
