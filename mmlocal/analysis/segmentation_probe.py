"""What a 1x1 convolution reads from the map of each module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmlocal.registry import MEASURES

from .features import Features
from .linear_head import Chosen, FeatureHead, train_and_read
from .linear_probe import Probe, check_finite, count_classes
from .seeded import hold_out_groups, seeded

# Images whose features are in memory at once.
BATCH = 8


@MEASURES.register_module()
class SegmentationProbe(Probe):
    r"""Mean IoU of a 1x1 convolution on the map.

    The loss is mmseg's: cross-entropy at the size of the labels, of logits
    that are resized bilinearly (``align_corners=False``). A 1x1 convolution
    of resized features gives these same logits, so the loss at a pixel needs
    the feature resized to that pixel alone; the head is trained on a fixed
    choice of pixels, as many an image. Held out are images, not pixels, and
    what is best there has the highest mean IoU. All pixels are tested, with
    resized logits, by mmseg's ``IoUMetric``.

    It gives ``mIoU`` and ``pixel_accuracy`` in percent, ``IoU`` a row a
    module with a column a class (None where a class is neither there nor
    predicted), and the chosen setting.

    Args:
        num_pixels (int): Of all training images together, those of
            ``ignore_index`` among them, which do not count. Their features
            are in memory. Defaults to 100,000.
        **kwargs: See :class:`~mmlocal.analysis.linear_probe.Probe`.
    """

    form = 'map'

    def __init__(self, *args: Any, num_pixels: int = 100_000, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.num_pixels = num_pixels

    def probe(self, train: Features, val: Features, index: int) -> Chosen:
        num_classes = count_classes(train, val)
        feats, labels, images = sample_pixels(
            train, index, self.num_pixels, self.seed
        )
        head = PixelHead(
            feats.to(self.device),
            labels.to(self.device),
            num_classes,
            self.head,
            self.seed,
        )
        return train_and_read(
            head,
            self.head,
            len(feats),
            parts=lambda: hold_out_groups(
                images, len(train), self.holdout, self.seed
            ),
            read=lambda: _percent(head.areas_of_maps(val, index)),
        )


class PixelHead(FeatureHead):
    """Like :class:`FeatureHead`, but what counts is mean IoU."""

    def score(self, rows: Tensor) -> float:
        rows = rows.to(self.feats.device)
        predicted = self.logits(self.feats[rows]).argmax(1)
        areas = _areas(predicted, self.labels[rows], self.num_classes, -1)
        return _percent(areas)['mIoU']

    def areas_of_maps(self, features: Features, index: int) -> Tensor:
        """Areas of intersection, union, prediction and label.

        Args:
            features (Features): Maps, and labels (N, H, W).
            index (int): Of the module.

        Returns:
            Tensor: (4, num_classes), float64, over all pixels.
        """
        total = torch.zeros(4, self.num_classes, dtype=torch.float64)
        kernel = self.weight[:, :, None, None]
        for maps, labels in _batches(features, index):
            logits = F.conv2d(maps.to(kernel.device), kernel, self.bias)
            logits = F.interpolate(
                logits, labels.shape[1:], mode='bilinear', align_corners=False
            )
            total += _areas(
                logits.argmax(1).cpu(),
                labels,
                self.num_classes,
                features.ignore_index,
            )
        return total


def sample_pixels(
    features: Features, index: int, num_pixels: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Features at pixels of the labels, bilinearly resized.

    Args:
        features (Features): Maps (N, C, h, w) and labels (N, H, W).
        index (int): Of the module.
        num_pixels (int): Of all images together; of each the same number,
            all that it has at most.
        seed (int): Which pixels depends on it alone.

    Returns:
        tuple[Tensor, Tensor, Tensor]: Features (P, C), classes (P,) and
        indices of the images (P,), without the pixels to be ignored.

    Raises:
        ValueError: If there are no maps, or no pixel is labelled.
    """
    num = len(features)
    if features.values[index].ndim != 4 or features.labels.ndim != 3:
        raise ValueError(
            'SegmentationProbe reads maps (N, C, h, w) and labels '
            f'(N, H, W), not {features.values[index].shape} and '
            f'{features.labels.shape}; for classes there is LinearProbe.'
        )
    height, width = features.labels.shape[1:]
    each = min(max(num_pixels // num, 1), height * width)
    generator = seeded(seed)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    first = 0
    for maps, labels in _batches(features, index):
        pixels = torch.stack(
            [
                torch.randperm(height * width, generator=generator)[:each]
                for _ in maps
            ]
        )
        rows, columns = pixels // width, pixels % width
        # Where grid_sample finds the centre of a pixel: from -1 to 1, edge
        # to edge, as in resizing without align_corners.
        grid = torch.stack(
            [
                (2 * columns + 1) / width - 1,
                (2 * rows + 1) / height - 1,
            ],
            dim=-1,
        )
        feats = F.grid_sample(
            maps,
            grid[:, None],
            mode='bilinear',
            padding_mode='border',
            align_corners=False,
        )[:, :, 0]
        chosen = labels.flatten(1).gather(1, pixels)
        kept = chosen != features.ignore_index
        images = torch.arange(first, first + len(maps))[:, None]
        found.append(
            (
                feats.permute(0, 2, 1)[kept],
                chosen[kept],
                images.expand_as(kept)[kept],
            )
        )
        first += len(maps)
    result = tuple(torch.cat(parts) for parts in zip(*found, strict=True))
    if not len(result[0]):
        raise ValueError('no pixel of the training data has a label.')
    return result


def _batches(
    features: Features, index: int
) -> Iterator[tuple[Tensor, Tensor]]:
    values, labels = features.values[index], features.labels
    for first in range(0, len(values), BATCH):
        maps = np.array(values[first : first + BATCH], np.float32)
        check_finite(maps, features.modules[index])
        yield (
            torch.from_numpy(maps),
            torch.from_numpy(
                np.array(labels[first : first + BATCH], np.int64)
            ),
        )


def _areas(
    predicted: Tensor, labels: Tensor, num_classes: int, ignore_index: int
) -> Tensor:
    """mmseg's, (4, num_classes)."""
    from mmseg.evaluation import IoUMetric

    areas = IoUMetric.intersect_and_union(
        predicted, labels, num_classes, ignore_index
    )
    # Counted in float32, which is exact for the pixels of a few images.
    return torch.stack(areas).double()


def _percent(areas: Tensor) -> dict[str, Any]:
    from mmseg.evaluation import IoUMetric

    found = IoUMetric.total_area_to_metrics(*areas)
    iou = 100 * found['IoU']
    return {
        'mIoU': float(np.nanmean(iou)),
        'pixel_accuracy': 100 * float(found['aAcc']),
        'IoU': [None if np.isnan(each) else float(each) for each in iou],
    }
