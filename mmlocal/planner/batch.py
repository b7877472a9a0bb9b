"""A batch as the data loader of a config would hand it out."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import signature
from typing import Any

import torch
from mmengine.registry import DATASETS

from mmlocal.config import find_type, innermost_dataset, type_name
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
}


def task_of(model: dict) -> str:
    """'segmentation' or 'classification', by a model's heads.

    Raises:
        ValueError: If it is neither.
    """
    if model.get('decode_head') is not None:
        return 'segmentation'
    if model.get('head') is not None and model.get('backbone') is not None:
        return 'classification'
    raise ValueError(
        f'the planner knows segmentors (with a decode_head) and classifiers '
        f'(with a head), not {model.get("type")}.'
    )


def num_classes_of(model: dict) -> int | None:
    """Classes that a model tells apart; None if it does not say."""
    head = model.get('decode_head') or model.get('head') or {}
    head = head[-1] if isinstance(head, (list, tuple)) else head
    return head.get('num_classes')


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
    transforms = dataset.get('pipeline') or cfg.get('train_pipeline') or []
    for transform in reversed(list(_nested(transforms))):
        name = type_name(transform.get('type'))
        if name == 'CropAudio':
            return (transform.get('length', LENGTH),)
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
    raise ValueError(
        'the config does not say how large its training images are: no '
        'model.data_preprocessor.size and no RandomCrop, RandomResizedCrop '
        'or Resize to a fixed size in train_dataloader.dataset.pipeline; '
        'give --crop-size HEIGHT WIDTH.'
    )


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
) -> dict[str, list]:
    """Raw images or waveforms, and labels of class 0.

    Args:
        task (str): 'segmentation' or 'classification'.
        batch_size (int): N.
        image_size (tuple[int, ...]): Height and width, in pixels, or the
            samples of a waveform.
        channels (int): Of an image. Defaults to 3.
    """
    if len(image_size) == 1:
        shape, dtype = (1, *image_size), torch.float32
    else:
        shape, dtype = (channels, *image_size), torch.uint8
    inputs = [torch.zeros(shape, dtype=dtype) for _ in range(batch_size)]
    make = _segmentation if task == 'segmentation' else _classification
    return {
        'inputs': inputs,
        'data_samples': [make(image_size) for _ in range(batch_size)],
    }


def _segmentation(image_size: tuple[int, int]) -> Any:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    sample = SegDataSample()
    sample.set_metainfo(
        dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape'), image_size)
    )
    labels = torch.zeros((1, *image_size), dtype=torch.int64)
    sample.gt_sem_seg = PixelData(data=labels)
    return sample


def _classification(image_size: tuple[int, ...]) -> Any:
    from mmpretrain.structures import DataSample

    sample = DataSample(metainfo={'img_shape': image_size})
    if len(image_size) == 1:
        labels = torch.zeros(image_size[0] // FRAME, dtype=torch.int64)
        sample.set_field(labels, 'gt_frames')
    return sample.set_gt_label(torch.zeros(1, dtype=torch.int64))


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
