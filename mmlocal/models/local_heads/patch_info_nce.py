"""Greedy InfoMax and CPC on images: patches predict those further down."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Any

import torch
from mmengine.dist import all_gather, get_rank
from torch import Tensor, nn

from mmlocal.registry import MODELS

from ..patches import on_grid
from .base import Boundary, LocalHead
from .layers import upcast


@MODELS.register_module()
class PatchInfoNCEHead(LocalHead):
    r"""Trains a module to tell a patch below from others, without labels.

    `Greedy InfoMax <https://arxiv.org/abs/1905.11786>`_. With the features of
    patches pooled to vectors, :math:`z_{y,x}` in row y and column x, and
    their contexts c (z itself in Greedy InfoMax), of each offset k = 1..K

    .. math::
        L_k = -\operatorname{mean}_{b,y,x} \log
            \frac{e^{c_{y,x} \cdot W_k z_{y+k+s,x}}}
            {e^{c_{y,x} \cdot W_k z_{y+k+s,x}}
            + \sum_{n=1}^N e^{c_{y,x} \cdot W_k z_n}},

    and the loss is the mean over k. The N negatives of each term are drawn
    with replacement from all :math:`W_k z_{y+k+s,x}` of the batch, so that
    the right one may be among them. Gradients go through all of them.

    It needs a backbone whose features are of patches
    (:class:`~mmlocal.models.backbones.PatchBackbone`), and trains in mixed
    precision, over accumulated steps, on several ranks, and one module after
    another.

    Args:
        boundary (Boundary): Where the head sits.
        num_steps (int): K. Defaults to 5, the most for 7 rows.
        skip (int): s, rows that are left out below each patch, which overlap
            it. Defaults to 1.
        num_negatives (int): N. Defaults to 16.
        context (dict, optional): Config of a net from the grid
            (B, C, rows, columns) to contexts of that shape, which row y may
            not see row y+s+1 in: ``dict(type='mmlocal.GatedPixelCNN')`` for
            CPC. Defaults to None, c = z.
        grid (Sequence[int], optional): Rows and columns of patches. By
            default there are as many of both.
        eps (float): Is added to each probability before the logarithm; the
            published 1e-11 caps a term at 25.3, where its gradient ends.
            Defaults to 0.
        all_ranks (bool): Draw negatives from the batches of all ranks; those
            of others get no gradient. Defaults to False, as published.
        init_cfg (dict | list[dict], optional): Initialization of mmengine.
            Defaults to torch's own, as published.

    Raises:
        ValueError: If the feature is not of patches, or there are too few
            rows for K and s.
    """

    takes_patches = True

    def __init__(
        self,
        boundary: Boundary,
        num_steps: int = 5,
        skip: int = 1,
        num_negatives: int = 16,
        context: dict | None = None,
        grid: Sequence[int] | None = None,
        eps: float = 0.0,
        all_ranks: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(boundary, init_cfg)
        self.grid = _grid(boundary, grid)
        _check(self.grid[0], num_steps, skip, num_negatives)
        channels = boundary.channels
        self.skip = skip
        self.num_negatives = num_negatives
        self.eps = eps
        self.all_ranks = all_ranks
        self.predictors = nn.ModuleList(
            nn.Conv2d(channels, channels, 1, bias=False)
            for _ in range(num_steps)
        )
        self.context = None
        if context is not None:
            self.context = MODELS.build(
                context, default_args={'channels': channels}
            )

    def loss(
        self, feat: Tensor, inputs: Tensor, data_samples: Sequence[Any]
    ) -> dict[str, Tensor]:
        """Compare patches.

        Args:
            feat (Tensor): The module's output for all patches,
                (B * rows * columns, C, h, w), (..., L, C) or (..., C).
            inputs (Tensor): Preprocessed images (B, ...).
            data_samples (Sequence): Not read.

        Returns:
            dict[str, Tensor]: ``loss_info_nce``.

        Raises:
            ValueError: If images have another number of patches than that of
                the backbone's ``input_shape``.
        """
        rows, columns = self.grid
        if len(feat) != rows * columns * len(inputs):
            raise ValueError(
                f'local_heads: {len(inputs)} images gave {len(feat)} patches, '
                f'and not {rows}x{columns} each: write '
                f'model.backbone.input_shape={tuple(inputs.shape[1:])}, the '
                'size of the training images.'
            )
        targets = on_grid(feat, rows, columns)
        contexts = targets
        if self.context is not None:
            contexts = self.context(targets)
        losses = []
        for k, predictor in enumerate(self.predictors, 1):
            below = k + self.skip
            losses.append(
                self._loss(
                    _anchors(contexts[:, :, : rows - below]),
                    _anchors(predictor(targets[:, :, below:])),
                )
            )
        return {'loss_info_nce': torch.stack(losses).mean()}

    def _loss(self, contexts: Tensor, targets: Tensor) -> Tensor:
        """Of n pairs, (n, C) each."""
        pool = _of_all_ranks(targets) if self.all_ranks else targets
        count = self.num_negatives
        draws = torch.randint(
            len(pool), (len(targets) * count, 1), device=pool.device
        )
        with torch.autocast(pool.device.type, enabled=False):
            negatives = pool.index_select(0, draws.flatten())
            negatives = negatives.unflatten(0, (-1, count))
            logits = torch.cat(
                [
                    (contexts * targets).sum(1, keepdim=True),
                    torch.einsum('ac,anc->an', contexts, negatives),
                ],
                dim=1,
            )
            scores = logits.log_softmax(1)[:, 0]
            if self.eps:
                scores = (scores.exp() + self.eps).log()
            return -scores.mean()


def _anchors(grid: Tensor) -> Tensor:
    """(B, C, rows, columns) to (rows * columns * B, C), as they are drawn."""
    return upcast(grid).permute(2, 3, 0, 1).flatten(0, 2)


def _of_all_ranks(targets: Tensor) -> Tensor:
    """Targets of all ranks in their order; gradients for one's own."""
    parts = all_gather(targets.detach())
    parts[get_rank()] = targets
    return torch.cat(parts)


def _grid(boundary: Boundary, grid: Sequence[int] | None) -> tuple[int, int]:
    patches = boundary.patches
    if patches == 1:
        raise ValueError(
            f'boundary {boundary.name!r} carries features of whole images, '
            'and InfoNCE compares patches: write backbone=dict('
            "type='mmlocal.PatchBackbone', backbone=..., patch_size=16, "
            'stride=8).'
        )
    if grid is None:
        side = isqrt(patches)
        grid = side, side
    rows, columns = grid
    if rows * columns != patches:
        raise ValueError(
            f'local_heads.grid={rows}x{columns}, but an image has {patches} '
            "patches: write rows and columns of the patches of the model's "
            'input_shape.'
        )
    return rows, columns


def _check(rows: int, num_steps: int, skip: int, num_negatives: int) -> None:
    for key, value, least in [
        ('num_steps', num_steps, 1),
        ('skip', skip, 0),
        ('num_negatives', num_negatives, 1),
    ]:
        if value < least:
            raise ValueError(
                f'local_heads.{key}={value} must be {least} or more.'
            )
    if num_steps + skip > rows - 1:
        raise ValueError(
            f'local_heads.num_steps={num_steps} and skip={skip} reach '
            f'{num_steps + skip} rows down, and an image has {rows} rows of '
            f'patches: write num_steps={max(rows - 1 - skip, 0)} at most, or '
            'a smaller stride of patches.'
        )
