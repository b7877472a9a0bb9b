"""What stands between a backbone and its head, and no mm library has."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor
from torch.nn import functional as F

from mmlocal.registry import MODELS

from .patches import on_grid

__all__ = ['GridPooling', 'PatchPooling']


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


@MODELS.register_module()
class PatchPooling(BaseModule):
    """The mean over all positions of all patches of an image.

    For what stands behind :class:`~.backbones.PatchBackbone`.

    Args:
        grid (int | Sequence[int]): Rows and columns of patches in an image;
            one number where they are as many. An image of 64 pixels has 7
            patches of 16 with a stride of 8. Defaults to 7.
        init_cfg (dict, optional): Initialization of mmengine.
    """

    def __init__(
        self,
        grid: int | Sequence[int] = 7,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.grid = (grid, grid) if isinstance(grid, int) else tuple(grid)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps (N * rows * columns, C, h, w) to vectors (N, C)."""
        return tuple(on_grid(feat, *self.grid).mean((2, 3)) for feat in feats)
