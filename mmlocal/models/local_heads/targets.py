"""Labels out of mm data samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def class_labels(data_samples: Sequence[Any]) -> Tensor:
    """The class of each image.

    Args:
        data_samples (Sequence[DataSample]): Of mmpretrain.

    Returns:
        Tensor: Class indices (N, ) int64, or, where Mixup or CutMix are on,
        soft labels (N, num_classes) of float; several classes of an image
        have equal parts of it.

    Raises:
        ValueError: If the samples have no class.
    """
    _check_given(data_samples)
    if 'gt_score' in data_samples[0]:
        scores = torch.stack([sample.gt_score for sample in data_samples])
        if scores.is_floating_point():
            return scores
        return scores / scores.sum(1, keepdim=True).clamp(min=1)
    if 'gt_label' not in data_samples[0]:
        raise ValueError(
            'the data samples have no gt_label, which this local head learns '
            'from: for segmentation write '
            "local_heads=dict(type='mmlocal.InfoProHead', "
            "preset='segmentation', ...) or "
            "dict(type='mmlocal.GreedyHead', net='segmentation', ...)"
        )
    return torch.cat([sample.gt_label for sample in data_samples]).long()


def labels_of_views(labels: Tensor, rows: int) -> Tensor:
    """Labels of a batch of several views, one whole view after another.

    Args:
        labels (Tensor): Of N images, (N, ) or (N, num_classes).
        rows (int): V * N.

    Returns:
        Tensor: (V * N, ...); the labels themselves for one view.

    Raises:
        ValueError: If the rows are no multiple of N.
    """
    views, rest = divmod(rows, len(labels))
    if rest or not views:
        raise ValueError(
            f'the local head gets {rows} rows for {len(labels)} labels: a '
            'batch holds each image once, or in as many views as '
            "data_preprocessor.type='mmlocal.MultiViewDataPreprocessor' puts "
            'together'
        )
    return labels if views == 1 else torch.cat([labels] * views)


def pixel_labels(data_samples: Sequence[Any]) -> Tensor:
    """The class of each pixel.

    Args:
        data_samples (Sequence[SegDataSample]): Of mmsegmentation.

    Returns:
        Tensor: Class indices (N, H, W) int64.

    Raises:
        ValueError: If the samples have no segmentation map.
    """
    _check_given(data_samples)
    if 'gt_sem_seg' not in data_samples[0]:
        raise ValueError(
            'the data samples have no gt_sem_seg, which this local head '
            "learns from: net='segmentation' (preset='segmentation') is for "
            "segmentors; for a classifier write local_heads.preset='cifar' "
            "or 'imagenet', or another net"
        )
    maps = [sample.gt_sem_seg.data for sample in data_samples]
    for sample, labels in zip(data_samples, maps, strict=True):
        expected = _padded_size(sample) or tuple(maps[0].shape[-2:])
        if tuple(labels.shape[-2:]) != expected:
            raise ValueError(
                f'the label map {sample.get("seg_map_path")} is '
                f'{tuple(labels.shape[-2:])} (height, width) behind the '
                f'pipeline, and its image {expected}: look at the two files, '
                'which must be of one size.'
            )
    return torch.stack(maps).squeeze(1).long()


def frame_labels(data_samples: Sequence[Any]) -> Tensor:
    """The class of each frame.

    Args:
        data_samples (Sequence[DataSample]): Of mmpretrain, with
            ``gt_frames`` (T,), as :class:`mmlocal.PackAudio` makes them.

    Returns:
        Tensor: (N, T) int64.

    Raises:
        ValueError: If the samples have none, or not equally many.
    """
    _check_given(data_samples)
    if 'gt_frames' not in data_samples[0]:
        raise ValueError(
            'the data samples have no gt_frames: choose a data set with '
            'labels of frames (phones_file of LibriSpeech), or a head that '
            'classifies whole waveforms, as LinearClsHead behind '
            "neck=dict(type='GlobalAveragePooling', dim=1)."
        )
    labels = [sample.gt_frames for sample in data_samples]
    if len({len(each) for each in labels}) > 1:
        raise ValueError(
            'waveforms have different numbers of labelled frames, '
            f'{sorted({len(each) for each in labels})}: write '
            "dict(type='mmlocal.CropAudio', length=20480) in the pipeline."
        )
    return torch.stack(labels).long()


def _check_given(data_samples: Sequence[Any] | None) -> None:
    if not data_samples:
        raise ValueError(
            f'the model gets data_samples={data_samples!r}, and this local '
            'head learns from labels: call the model as model(inputs, '
            "data_samples, mode='loss'), with a data sample an image, or "
            'choose a local head that needs no labels, as '
            "dict(type='mmlocal.InfoProHead', task_weight=0, ...)"
        )


def _padded_size(sample: Any) -> tuple[int, int] | None:
    """Height and width of a training image, as its label map must be."""
    shape, padding = sample.get('img_shape'), sample.get('padding_size')
    if shape is None or padding is None:
        return None
    left, right, top, bottom = padding
    return shape[0] + top + bottom, shape[1] + left + right


def check_labels(
    labels: Tensor,
    num_classes: int,
    ignore_index: int | None = None,
    key: str = 'local_heads.num_classes',
) -> None:
    """Raise if a label is no class.

    On an accelerator this waits for the device.

    Args:
        labels (Tensor): Class indices of any shape, or soft labels
            (N, num_classes) of float.
        num_classes (int): How many classes there are.
        ignore_index (int, optional): A label that is allowed besides.
        key (str): The config key behind ``num_classes``.

    Raises:
        ValueError: If a label lies outside 0..num_classes-1.
    """
    if labels.is_floating_point():
        if labels.shape[1] != num_classes:
            raise ValueError(
                f'soft labels have {labels.shape[1]} classes, but '
                f'{key}={num_classes}: write {key}={labels.shape[1]}, as in '
                "the model's own head"
            )
        return
    wrong = (labels < 0) | (labels >= num_classes)
    if ignore_index is not None:
        wrong &= labels != ignore_index
    if not wrong.any():
        return
    low, high = (int(limit) for limit in labels[wrong].aminmax())
    if low < 0:
        problem, advice = low, 'label the classes from 0 on in the data set'
    else:
        problem, advice = (
            high,
            f"write {key}={high + 1} or more, as in the model's own head",
        )
    if ignore_index is None:
        ignored = ''
    else:
        ignored = f', and {ignore_index} for no class'
        advice += (
            f', or map the label to ignore_index={ignore_index} if it '
            'stands for no class'
        )
    raise ValueError(
        f'label {problem} is no class of the local head, which has '
        f'{key}={num_classes} (0..{num_classes - 1}{ignored}): {advice}'
    )
