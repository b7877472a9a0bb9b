"""Forward-Forward: a module tells right pairs from wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmlocal.registry import MODELS
from mmlocal.step import current_step

from .base import Boundary, LocalHead
from .layers import upcast


@MODELS.register_module()
class FFHead(LocalHead):
    r"""Trains a module to be active on right pairs of image and label.

    `The Forward-Forward Algorithm <https://arxiv.org/abs/2212.13345>`_. With
    the goodness G of :func:`goodness`,

    .. math::
        L = \frac{1}{2B} \sum \left[ \mathrm{softplus}(\theta - G(x^+)) +
            \mathrm{softplus}(G(x^-) - \theta) \right],

    over B images with their label in them and B with a wrong one, as
    :class:`~mmlocal.models.FFClassifier` puts them into one batch.

    In the published order the next module gets what this one computes with
    its *updated* weights: the optimizer wrapper has to be
    ``LocalOptimWrapper(step='module')``, which refuses accumulation,
    clipping and several ranks, and ``LocalAmpOptimWrapper`` has no such
    setting. With ``recompute=False`` all modules are updated at the end of
    the iteration, as in other methods of this library, and each of these
    works; modules that train one after another (``SequentialTrainLoop``) do
    not differ in this.

    A module with BatchNorm would see each batch twice; the published nets
    have none.

    Args:
        boundary (Boundary): Where the head sits.
        num_classes (int): How many labels are tried in prediction.
        theta (float): The threshold. Defaults to 2.
        recompute (bool): Run the module again after its update. Defaults to
            True, as published.
        init_cfg (dict, optional): Initialization of mmengine.

    Raises:
        ValueError: In training, if ``recompute`` meets an optimizer wrapper
            that does not update modules one by one.
    """

    runs_module = True

    def __init__(
        self,
        boundary: Boundary,
        num_classes: int,
        theta: float = 2.0,
        recompute: bool = True,
        init_cfg: dict | None = None,
    ):
        super().__init__(boundary, init_cfg)
        self.num_classes = num_classes
        self.theta = theta
        self.recompute = recompute

    def loss(
        self, feat: Tensor, inputs: Tensor, data_samples: Sequence[Any]
    ) -> dict[str, Tensor]:
        """The loss, and what the goodness is.

        Args:
            feat (Tensor): Of 2B pairs, the right ones first, (2B, ...).
            inputs (Tensor): Preprocessed images (B, C, H, W); not read.
            data_samples (Sequence): Not read: the labels are in ``feat``.

        Returns:
            dict[str, Tensor]: ``loss_ff``; ``goodness_pos`` and
            ``goodness_neg``, means over the right and the wrong pairs.
        """
        positive, negative = goodness(feat).chunk(2)
        margins = torch.cat([self.theta - positive, negative - self.theta])
        return {
            'loss_ff': F.softplus(margins).mean(),
            'goodness_pos': positive.mean(),
            'goodness_neg': negative.mean(),
        }

    def pass_on(self, feat: Tensor) -> Tensor:
        """The module's output by its updated weights."""
        if not self.recompute:
            return feat.detach()
        step = current_step()
        if not step.updates:
            raise ValueError(
                'local_heads.recompute=True passes on what the updated '
                'module computes, but optim_wrapper updates all modules at '
                "the end: write optim_wrapper=dict(type='mmlocal."
                "LocalOptimWrapper', step='module', ...); or "
                'recompute=False, with which accumulation, clipping, mixed '
                'precision and several ranks work too.'
            )
        with torch.no_grad():
            return step.run_module(self.boundary.index, step.module_input)

    def predict(self, feat: Tensor, inputs: Tensor) -> dict[str, Any]:
        """The goodness of each label.

        Args:
            feat (Tensor): Of images with each label in turn,
                (N * num_classes, ...).
            inputs (Tensor): Not read.

        Returns:
            dict: ``logits`` (N, num_classes).
        """
        return {'logits': goodness(feat).view(-1, self.num_classes)}


def goodness(feat: Tensor) -> Tensor:
    """Mean of the squares of all units.

    Args:
        feat (Tensor): (N, ...).

    Returns:
        Tensor: (N, ), 0 or more, float32 at least.
    """
    return upcast(feat).flatten(1).square().mean(1)
