"""How alike the features of modules are, and how many directions they use."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mmlocal.models.losses import cka
from mmlocal.models.losses.nhsic import centred, linear_kernel
from mmlocal.registry import MEASURES

from .features import Features
from .measure import Measure, Reading, Values


@MEASURES.register_module()
class CKA(Measure):
    """Linear centred kernel alignment of modules, 0 to 1.

    See :func:`mmlocal.models.losses.cka`.

    Values: ``modules``, a row a module with its alignment to each module of
    the same network; with another network, ``reference``, a row a module with
    its alignment to each module of that one. None where a module puts out a
    constant.

    Args:
        num_images (int): Of all classes alike. Defaults to 2048.
        unbiased (bool): False is the plain estimator, by which any two
            features of more numbers than images are alike. Defaults to True.
        split (str): 'val' or 'train'. Defaults to 'val'.
    """

    name = 'cka'
    references = True

    def __init__(
        self,
        num_images: int = 2048,
        unbiased: bool = True,
        split: str = 'val',
    ):
        self.num_images = num_images
        self.unbiased = unbiased
        self.split = split

    @property
    def readings(self) -> Mapping[str, Reading]:
        """Whole features."""
        return {'features': Reading(self.split, 'flat', self.num_images)}

    def measure(
        self, features: Features, reference: Features | None = None
    ) -> Values:
        """Measure."""
        own = kernels(features)
        values = {'modules': self._table(own, own)}
        if reference is not None:
            values['reference'] = self._table(own, kernels(reference))
        return values

    def _table(
        self, rows: list[Tensor], columns: list[Tensor]
    ) -> list[list[float | None]]:
        table = [
            [cka(u, v, self.unbiased).item() for v in columns] for u in rows
        ]
        return [[None if math.isnan(v) else v for v in row] for row in table]


@MEASURES.register_module()
class EffectiveRank(Measure):
    r"""How many directions the features of a module use.

    :math:`\exp(-\sum_i p_i \ln p_i)` with the singular values of the centred
    features, divided by their sum, as :math:`p`: 1 for a line, and at most
    the number of images - 1. From `The effective rank
    <https://ieeexplore.ieee.org/document/7098875>`_, Roy and Vetterli, 2007.

    Values: ``effective_rank``; None where a module puts out a constant.

    Args:
        num_images (int): Of all classes alike. Defaults to 2048.
        split (str): 'val' or 'train'. Defaults to 'val'.
    """

    name = 'rank'

    def __init__(self, num_images: int = 2048, split: str = 'val'):
        self.num_images = num_images
        self.split = split

    @property
    def readings(self) -> Mapping[str, Reading]:
        """Whole features."""
        return {'features': Reading(self.split, 'flat', self.num_images)}

    def measure(self, features: Features) -> Values:
        """Measure."""
        ranks = [effective_rank(kernel) for kernel in kernels(features)]
        return {'effective_rank': ranks}


def effective_rank(kernel: Tensor) -> float | None:
    """From a linear kernel (N, N), see :class:`EffectiveRank`."""
    kernel = centred(kernel)
    singular = torch.linalg.eigvalsh(kernel).clamp(min=0).sqrt()
    total = singular.sum()
    # What rounding leaves of a constant.
    if total <= 1e-6 * len(kernel) or not total.isfinite():
        return None
    p = singular / total
    return math.exp(-torch.special.xlogy(p, p).sum())


def kernels(features: Features) -> list[Tensor]:
    """The linear kernel of each module (N, N), float64."""
    found = []
    for feats in features.values:
        rows = torch.from_numpy(np.array(feats))
        # Centred, for the sake of rounding: the product is in float32.
        found.append(linear_kernel(rows - rows.mean(0)).double())
    return found
