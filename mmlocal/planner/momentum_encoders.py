"""Momentum encoders: models that hold a copy of their backbone, with heads."""

from __future__ import annotations

from collections.abc import Callable

from mmengine.model import BaseAveragedModel
from torch import nn

from mmlocal.models.backbones import LocalSupervisedBackbone
from mmlocal.models.cut_points import CutPoints, Split


def cut_copies(
    model: nn.Module,
    split: Split,
    points: CutPoints,
    copied: Callable[[nn.Module], nn.Module],
) -> None:
    """Cut the copies of a model's backbone as the backbone has been cut.

    Averages go over weights by name, so that a copy needs the same heads.

    Args:
        model (nn.Module): With a local backbone.
        split (Split): Of the backbone.
        points (CutPoints): Of the backbone.
        copied (Callable[[nn.Module], nn.Module]): Copies heads.
    """
    backbone = model.backbone
    for average in model.modules():
        if not isinstance(average, BaseAveragedModel):
            continue
        for copy in average.modules():
            if isinstance(copy, LocalSupervisedBackbone):
                heads = copied(backbone.local_heads).requires_grad_(False)
                copy.local_end = backbone.local_end
                copy.set_split(split, heads, points)
        average.avg_parameters = (
            average.module.state_dict()
            if average.update_buffers
            else dict(average.module.named_parameters())
        )
