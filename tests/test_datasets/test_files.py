"""A config whose data are missing is told so before it starts."""

import pytest
from mmengine.config import Config

from mmlocal.datasets import check_data_folders

LOADERS = ('train_dataloader', 'val_dataloader')


def config(dataset, wrap=False):
    if wrap:
        dataset = dict(type='RepeatDataset', times=2, dataset=dataset)
    return Config(
        dict(
            train_dataloader=dict(dataset=dataset),
            val_dataloader=None,
            test_dataloader=dict(dataset=dict(type='X', data_root='no')),
        )
    )


def cityscapes(root):
    return dict(
        type='mmseg.CityscapesDataset',
        data_root=str(root),
        data_prefix=dict(
            img_path='leftImg8bit/train', seg_map_path='gtFine/train'
        ),
    )


@pytest.fixture
def root(tmp_path):
    for folder in ('leftImg8bit/train/ulm', 'gtFine/train/ulm'):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize('wrap', [False, True])
def test_complete(root, wrap):
    check_data_folders(config(cityscapes(root), wrap), LOADERS)


@pytest.mark.parametrize(
    'wrap, key',
    [
        (False, 'train_dataloader.dataset.data_root'),
        (True, 'train_dataloader.dataset.dataset.data_root'),
    ],
)
def test_missing(root, wrap, key):
    cfg = config(cityscapes(root / 'nowhere'), wrap)
    with pytest.raises(FileNotFoundError) as error:
        check_data_folders(cfg, LOADERS)
    message = str(error.value)
    assert 'leftImg8bit/train is missing' in message
    assert 'cityscapes-dataset.com' in message
    assert f'{key}=FOLDER' in message


def test_empty(root):
    (root / 'gtFine/train/ulm').rmdir()
    with pytest.raises(FileNotFoundError, match='gtFine/train is empty'):
        check_data_folders(config(cityscapes(root)), LOADERS)


def test_one_of_several(root):
    both = dict(
        type='ConcatDataset',
        datasets=[cityscapes(root), cityscapes(root / 'nowhere')],
    )
    with pytest.raises(
        FileNotFoundError, match=r'dataset\.datasets\.1\.data_root'
    ):
        check_data_folders(config(both), LOADERS)


@pytest.mark.parametrize(
    'dataset',
    [
        dict(type='mmlocal.ShapesSeg'),
        dict(type='mmpretrain.CIFAR10', data_root='not/downloaded/yet'),
        dict(type='X', data_root='s3://bucket/data'),
    ],
)
def test_nothing_to_look_for(dataset):
    check_data_folders(config(dataset), LOADERS)


@pytest.mark.slow
@pytest.mark.parametrize(
    'missing, there',
    [('mmseg', 'ShapesCls'), ('mmpretrain', 'ShapesSeg')],
)
def test_one_library_is_enough(fresh_python, missing, there):
    code = (
        f'import sys; sys.modules[{missing!r}] = None\n'
        'import mmlocal.datasets as d; print(d.__all__)'
    )
    done = fresh_python.run('-c', code)
    assert done.returncode == 0, done.stderr
    assert there in done.stdout
    assert ('ShapesSeg' in done.stdout) != ('ShapesCls' in done.stdout)
