"""What a network and its modules see in an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmlocal.step import local_backbone, to_pixels


@dataclass
class View:
    """What a module, or the network, sees in an image.

    Args:
        name (str): Of the submodule before which the module ends.
        labels (np.ndarray, optional): Classes (H, W), of a segmentation.
        scores (np.ndarray, optional): Probabilities (num_classes,), of a
            classification.
        reconstruction (np.ndarray, optional): RGB (h, w, 3), uint8.
    """

    name: str
    labels: np.ndarray | None = None
    scores: np.ndarray | None = None
    reconstruction: np.ndarray | None = None


@dataclass
class Prediction(View):
    """What the network predicts, and its modules on the way.

    Args:
        seen (np.ndarray, optional): The image as the network got it, RGB
            (h, w, 3), uint8.
        truth (np.ndarray | int, optional): The label map (H, W) or class of
            the annotation.
        modules (list[View]): One a boundary, if they were asked for.
    """

    seen: np.ndarray | None = None
    truth: np.ndarray | int | None = None
    modules: list[View] = field(default_factory=list)


@torch.no_grad()
def predictions_of(
    model: nn.Module,
    inputs: Tensor,
    samples: Sequence[Any],
    rgb: bool = True,
    modules: bool = False,
) -> list[Prediction]:
    """What a model of mmseg or mmpretrain predicted, ready to draw.

    Args:
        model (nn.Module): In eval mode.
        inputs (Tensor): What it got, preprocessed (N, C, H, W).
        samples (Sequence): What it returned for it.
        rgb (bool): Order of the input's channels. Defaults to True.
        modules (bool): Also ask the local heads. Defaults to False.
    """
    pixels = to_pixels(inputs, model.data_preprocessor)
    results = []
    for sample, seen in zip(samples, to_images(pixels, rgb), strict=True):
        result = Prediction('', seen=seen)
        if 'pred_sem_seg' in sample:
            result.labels = sample.pred_sem_seg.data[0].cpu().numpy()
        else:
            result.scores = sample.pred_score.cpu().numpy()
        result.truth = annotation_of(sample)
        results.append(result)
    if modules:
        for views in _module_views(model, inputs, samples, rgb):
            for result, view in zip(results, views, strict=True):
                result.modules.append(view)
    return results


def annotation_of(sample: Any) -> np.ndarray | int | None:
    """The label map (H, W) or the one class of a data sample, if it has it."""
    if 'gt_sem_seg' in sample:
        return sample.gt_sem_seg.data[0].cpu().numpy()
    if 'gt_label' in sample and len(sample.gt_label) == 1:
        return int(sample.gt_label)
    return None


def to_images(pixels: Tensor, rgb: bool) -> list[np.ndarray]:
    """(N, 3 or 1, H, W) in [0, 1] as RGB images (H, W, 3), uint8."""
    pixels = pixels if rgb else pixels.flip(1)
    pixels = pixels.expand(-1, 3, -1, -1)
    array = (pixels.float() * 255).round().byte().permute(0, 2, 3, 1)
    return list(array.cpu().numpy())


def _module_views(
    model: nn.Module, inputs: Tensor, samples: Sequence[Any], rgb: bool
) -> Iterator[list[View]]:
    """For each boundary, what its head sees in each image."""
    backbone = local_backbone(model)
    names = list(backbone.boundary_modules)
    # With `local_end` the last head is behind the last boundary.
    predictions = backbone.predict_local(inputs)[: len(names)]
    for name, seen in zip(names, predictions, strict=False):
        views = [View(name) for _ in samples]
        for view, row in zip(views, _rows(seen, inputs, samples), strict=True):
            view.labels, view.scores = row
        recon = seen.get('reconstruction')
        if recon is not None:
            for view, image in zip(views, to_images(recon, rgb), strict=True):
                view.reconstruction = image
        yield views


def _rows(
    seen: Mapping[str, Any], inputs: Tensor, samples: Sequence[Any]
) -> Iterator[tuple[np.ndarray | None, np.ndarray | None]]:
    """Label map and probabilities of each image, as far as there are."""
    logits = seen.get('logits')
    if logits is None:
        yield from [(None, None)] * len(samples)
    elif logits.ndim == 4:
        for labels in _label_maps(logits.float(), inputs, samples):
            yield labels, None
    else:
        for scores in logits.float().softmax(1).cpu().numpy():
            yield None, scores


def _label_maps(
    logits: Tensor, inputs: Tensor, samples: Sequence[Any]
) -> Iterator[np.ndarray]:
    """Classes at the size of each image, without what was padded."""
    logits = F.interpolate(logits, size=inputs.shape[-2:], mode='bilinear')
    for row, sample in zip(logits, samples, strict=True):
        height, width = sample.img_shape[:2]
        row = F.interpolate(
            row[None, :, :height, :width],
            size=tuple(sample.ori_shape[:2]),
            mode='bilinear',
        )
        yield row.argmax(1)[0].cpu().numpy()
