import pickle

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


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Two images a class as in the original archive, in mixed order."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    labels = [index * 7 % 10 for index in range(20)]
    content = {
        'data': images.transpose(0, 3, 1, 2).reshape(20, -1),
        'labels': labels,
    }
    folder = tmp_path / 'cifar-10-batches-py'
    folder.mkdir()
    for name in 'test_batch', 'batches.meta':
        (folder / name).write_bytes(pickle.dumps(content))
    kind = DATASETS.get('mmlocal.CIFAR10')
    monkeypatch.setattr(kind, 'train_list', [])
    monkeypatch.setattr(kind, 'test_list', [['test_batch', None]])
    return tmp_path, images, np.array(labels)


def test_some_classes_of_the_archive(archive):
    root, images, labels = archive
    dataset = build(root, split='test', classes=['truck', 'cat'])
    assert dataset.metainfo['classes'] == ('truck', 'cat')
    kept = [index for index in range(20) if labels[index] in (9, 3)]
    assert len(dataset) == len(kept) == 4
    for item, index in zip(dataset, kept, strict=True):
        assert (item['img'] == images[index]).all()
        assert item['gt_label'] == {9: 0, 3: 1}[labels[index]]
    assert [item['sample_idx'] for item in dataset] == [0, 1, 2, 3]


def test_the_classes_of_folders(folders):
    root, images = folders
    for option in (
        {'classes': ['ship', 'bird']},
        {'metainfo': {'classes': ('ship', 'bird')}},
    ):
        dataset = build(root, **option)
        assert dataset.get_gt_labels().tolist() == [0, 0, 1, 1]
        assert (dataset[0]['img'] == images[8][0]).all()
        assert (dataset[3]['img'] == images[2][1]).all()


@pytest.mark.parametrize('classes', [['ships'], ['ship', 'ship'], []])
def test_other_classes_are_refused(folders, classes):
    with pytest.raises(ValueError, match=r"classes=\[.*write.*'airplane'"):
        build(folders[0], classes=classes)
