"""What stands between a backbone and its head, and no mm library has."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor
from torch.nn import functional as F

from mmlocal.registry import MODELS

__all__ = ['GridPooling']


@MODELS.register_module()
class GridPooling(BaseModule):
    """Average pooling to a grid, each cell with channels of its own.

    In front of mmpretrain's ``StackedLinearClsHead`` with
    ``in_channels = size^2 * C`` this is the classifier of the small nets of
    DGL.

    Args:
        size (int): Side of the grid. Defaults to 2.
        init_cfg (dict, optional): Initialization of mmengine.
    """

    def __init__(self, size: int = 2, init_cfg: dict | None = None):
        super().__init__(init_cfg)
        self.size = size

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps (N, C, h, w) to vectors (N, C * size * size)."""
        return tuple(
            F.adaptive_avg_pool2d(feat, self.size).flatten(1) for feat in feats
        )
