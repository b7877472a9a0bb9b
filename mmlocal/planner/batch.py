"""A batch as the data loader of a config would hand it out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from inspect import signature
from typing import Any

import numpy as np
import torch
from mmengine.registry import DATASETS, MODELS
from torch import Tensor
from torch.utils._pytree import tree_map_only

from mmlocal.config import find_type, innermost_dataset, type_name
from mmlocal.fake_tensors import tensors_of
from mmlocal.models.frames import FRAME, LENGTH

# Which transform fixes the size of what it hands on, and in which key.
# mm writes crops as (height, width), scales as (width, height).
SIZES = {
    'RandomCrop': ('crop_size', 'hw'),
    'CenterCrop': ('crop_size', 'hw'),
    'Pad': ('size', 'hw'),
    'RandomResizedCrop': ('scale', 'hw'),
    'EfficientNetRandomCrop': ('scale', 'hw'),
    'EfficientNetCenterCrop': ('crop_size', 'hw'),
    'Resize': ('scale', 'wh'),
    'RandomResizedCropAndInterpolationWithTwoPic': ('size', 'hw'),
    'torchvision/RandomCrop': ('size', 'hw'),
    'torchvision/RandomResizedCrop': ('size', 'hw'),
    'torchvision/CenterCrop': ('size', 'hw'),
}
# Side of the images that a data set has, all alike.
SIDES = {
    'CIFAR10': 32,
    'CIFAR100': 32,
    'CINIC10': 32,
    'Digits': 8,
    'FashionMNIST': 28,
    'MNIST': 28,
    'STL10': 96,
    'SVHN': 32,
}
# Transforms that read files.
LOADERS = ('LoadImageFromFile', 'LoadAnnotations')


def task_of(model: dict) -> str:
    """'segmentation', 'classification' or 'self-supervised'.

    Raises:
        ValueError: If it is none of them.
    """
    if model.get('decode_head') is not None:
        return 'segmentation'
    if model.get('backbone') is not None and _is_self_supervised(model):
        return 'self-supervised'
    if model.get('head') is not None and model.get('backbone') is not None:
        return 'classification'
    raise ValueError(
        'the planner knows segmentors (with a decode_head), classifiers '
        '(with a head) and self-supervised models of mmpretrain, with a '
        f'backbone, not {model.get("type")}.'
    )


def num_classes_of(model: dict) -> int | None:
    """Classes that a model tells apart; None if it does not say."""
    head = model.get('decode_head') or model.get('head') or {}
    head = head[-1] if isinstance(head, (list, tuple)) else head
    # Some backbones classify themselves.
    backbone = model.get('backbone') or {}
    backbone = backbone.get('backbone', backbone)
    # A head may be made of several (K-Net's).
    inside = (part.get('num_classes') for part in _dicts(head))
    return (
        head.get('num_classes')
        or backbone.get('num_classes')
        or next(filter(None, inside), None)
    )


def channels_of(model: dict) -> int:
    """Of the images that a model takes."""
    mean = (model.get('data_preprocessor') or {}).get('mean')
    if isinstance(mean, (list, tuple)):
        return len(mean)
    backbone = model.get('backbone') or {}
    # Inside a local backbone, and inside one that takes patches.
    while 'backbone' in backbone:
        backbone = backbone['backbone']
    return backbone.get('in_channels', 3)


def image_size_of(cfg: dict) -> tuple[int, ...]:
    """Height and width of the images that a config trains on.

    Of waveforms, the number of samples alone.

    Raises:
        ValueError: If no transform fixes it.
    """
    size = (cfg['model'].get('data_preprocessor') or {}).get('size')
    if size is not None:
        return _pair(size)
    loader = cfg.get('train_dataloader') or {}
    dataset = innermost_dataset(loader.get('dataset') or {})
    drawn = dataset.get('image_size') or _default_image_size(dataset)
    if drawn is not None:
        return _pair(drawn)
    side = SIDES.get(type_name(dataset.get('type')))
    for transform in reversed(list(_nested(train_pipeline_of(cfg)))):
        name = type_name(transform.get('type'))
        if name == 'CropAudio':
            return (transform.get('length', LENGTH),)
        if name in SIZES:
            side = None
        key, order = SIZES.get(name, (None, None))
        value = transform.get(key)
        if value is None or isinstance(value, float):
            continue
        if isinstance(value, (list, tuple)) and len(value) != 2:
            continue
        if name == 'Resize' and transform.get('keep_ratio'):
            continue
        pair = _pair(value)
        return pair if order == 'hw' else pair[::-1]
    if side is not None:
        return side, side
    raise ValueError(
        'the config does not say how large its training images are: no '
        'model.data_preprocessor.size, no RandomCrop, RandomResizedCrop or '
        'Resize to a fixed size in train_dataloader.dataset.pipeline, and no '
        'data set of one size; give --crop-size HEIGHT WIDTH.'
    )


def train_pipeline_of(cfg: dict) -> list[dict]:
    """The transforms of the images that a config trains on."""
    loader = cfg.get('train_dataloader') or {}
    dataset = innermost_dataset(loader.get('dataset') or {})
    return dataset.get('pipeline') or cfg.get('train_pipeline') or []


def batch_size_of(cfg: dict) -> int:
    """Images a GPU and step.

    Raises:
        ValueError: If the config has none.
    """
    loader = cfg.get('train_dataloader') or {}
    if 'batch_size' in loader:
        return loader['batch_size']
    sampler = loader.get('batch_sampler') or {}
    if 'batch_size' in sampler:
        return sampler['batch_size']
    raise ValueError(
        'the config has no train_dataloader.batch_size; give --batch-size.'
    )


def make_batch(
    task: str,
    batch_size: int,
    image_size: tuple[int, ...],
    channels: int = 3,
    pipeline: Sequence[dict] | None = None,
) -> dict[str, Any]:
    """Raw images or waveforms, and labels of class 0.

    Args:
        task (str): 'segmentation', 'classification' or 'self-supervised'.
        batch_size (int): N.
        image_size (tuple[int, ...]): Height and width, in pixels, or the
            samples of a waveform.
        channels (int): Of an image. Defaults to 3.
        pipeline (Sequence[dict], optional): Transforms that make the views
            and masks of a self-supervised model, views for a classifier, or
            edges of segments.
    """
    pipeline = pipeline or []
    names = [type_name(transform['type']) for transform in pipeline]
    if task == 'self-supervised' or 'MultiView' in names:
        return _transformed(batch_size, image_size, pipeline)
    if len(image_size) == 1:
        shape, dtype = (1, *image_size), torch.float32
    else:
        shape, dtype = (channels, *image_size), torch.uint8
    inputs = [torch.zeros(shape, dtype=dtype) for _ in range(batch_size)]
    make = _classification
    if task == 'segmentation':
        make = partial(_segmentation, edges='GenerateEdge' in names)
    return {
        'inputs': inputs,
        'data_samples': [make(image_size) for _ in range(batch_size)],
    }


def batch_tensors(batch: dict[str, Any]) -> list[Tensor]:
    """Images and annotations."""
    found = tensors_of(batch['inputs'])
    for sample in batch['data_samples']:
        for value in sample.values():
            # A map of pixels has its tensor in it.
            found += tensors_of(getattr(value, 'data', value))
    return found


def map_batch(
    make: Callable[[Tensor], Tensor], batch: dict[str, Any]
) -> dict[str, Any]:
    """A batch with other tensors in place of its own."""
    samples = []
    for sample in batch['data_samples']:
        sample = sample.clone()
        for key, value in sample.items():
            if isinstance(value, Tensor):
                setattr(sample, key, make(value))
            elif isinstance(getattr(value, 'data', None), Tensor):
                value = value.clone()
                value.data = make(value.data)
                setattr(sample, key, value)
        samples.append(sample)
    inputs = tree_map_only(Tensor, make, batch['inputs'])
    return {'inputs': inputs, 'data_samples': samples}


def _transformed(
    batch_size: int, image_size: tuple[int, int], pipeline: Sequence[dict]
) -> dict[str, Any]:
    from mmengine.dataset import Compose, default_collate

    steps = Compose(
        [step for step in pipeline if type_name(step['type']) not in LOADERS]
    )
    items = [
        steps(
            {
                'img': np.zeros((*image_size, 3), dtype=np.uint8),
                'img_shape': image_size,
                'ori_shape': image_size,
                'gt_label': 0,
            }
        )
        for _ in range(batch_size)
    ]
    return default_collate(items)


def _segmentation(image_size: tuple[int, int], edges: bool) -> Any:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    sample = SegDataSample()
    sample.set_metainfo(
        dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape'), image_size)
    )
    labels = torch.zeros((1, *image_size), dtype=torch.int64)
    sample.gt_sem_seg = PixelData(data=labels)
    if edges:
        sample.gt_edge_map = PixelData(data=labels.clone())
    return sample


def _classification(image_size: tuple[int, ...]) -> Any:
    from mmpretrain.structures import DataSample

    sample = DataSample(metainfo={'img_shape': image_size})
    if len(image_size) == 1:
        labels = torch.zeros(image_size[0] // FRAME, dtype=torch.int64)
        sample.set_field(labels, 'gt_frames')
    return sample.set_gt_label(torch.zeros(1, dtype=torch.int64))


def _is_self_supervised(model: dict) -> bool:
    if find_spec('mmpretrain') is None:
        return False
    from mmpretrain.models import BaseSelfSupervisor

    kind = model.get('type')
    if isinstance(kind, str) and '.' not in kind:
        kind = f'mmpretrain.{kind}'
    found = find_type(kind, MODELS)
    return isinstance(found, type) and issubclass(found, BaseSelfSupervisor)


def _dicts(node: Any) -> Iterator[dict]:
    """All dicts in nested ones and lists of them."""
    values = node.values() if isinstance(node, dict) else node
    for value in values:
        if isinstance(value, dict):
            yield value
        if isinstance(value, (dict, list, tuple)):
            yield from _dicts(value)


def _nested(transforms: Any) -> Iterator[dict]:
    """Transforms, those inside of others too."""
    if isinstance(transforms, dict):
        yield transforms
        transforms = transforms.get('transforms') or []
    for transform in transforms:
        yield from _nested(transform)


def _default_image_size(dataset: dict) -> Any:
    """Of data sets that draw their images."""
    kind = find_type(dataset.get('type'), DATASETS)
    if kind is None:
        return None
    size = signature(kind).parameters.get('image_size')
    return size.default if size is not None else None


def _pair(size: Any) -> tuple[int, int]:
    if isinstance(size, (list, tuple)):
        return int(size[0]), int(size[1])
    return int(size), int(size)
