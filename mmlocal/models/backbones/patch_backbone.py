"""Any backbone, on patches of its images."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from mmlocal.registry import MODELS

from ..patches import PatchGrid


@MODELS.register_module()
class PatchBackbone(BaseModule):
    """Runs a backbone on overlapping patches, each as an image of its own.

    As `Greedy InfoMax <https://arxiv.org/abs/1905.11786>`_ sees images: no
    layer looks beyond a patch. All features have the patches in the batch
    axis; ``mmlocal.PatchPooling`` is the neck that brings those of an image
    together.

    Args:
        backbone (dict): Config of any registered backbone that takes images
            of ``patch_size`` pixels.
        patch_size (int): Side of a patch in pixels. Defaults to 16.
        stride (int): Pixels from one patch to the next. Defaults to 8.
        init_cfg (dict, optional): Initialization of mmengine.

    Raises:
        ValueError: See :class:`~mmlocal.models.patches.PatchGrid`.

    Example:
        >>> backbone = dict(
        ...     type='mmlocal.LocalSupervisedBackbone',
        ...     backbone=dict(
        ...         type='mmlocal.PatchBackbone',
        ...         backbone=dict(type='mmlocal.PreActResNet', depth=50)),
        ...     boundaries=['backbone.stages.1', 'backbone.stages.2'],
        ...     local_heads=dict(type='mmlocal.PatchInfoNCEHead'),
        ...     local_end=True,
        ...     input_shape=(3, 64, 64))
    """

    def __init__(
        self,
        backbone: dict,
        patch_size: int = 16,
        stride: int = 8,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.patches = PatchGrid(patch_size, stride)
        self.backbone = MODELS.build(deepcopy(backbone))

    def forward(self, x: Tensor) -> Any:
        """The backbone's outputs for all patches.

        Args:
            x (Tensor): Images (N, C, H, W).

        Returns:
            Any: As of the backbone, with N * rows * columns in place of N;
            patches of an image follow one another, row by row.
        """
        return self.backbone(self.patches(x))
