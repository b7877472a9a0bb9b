"""How much features hold of the image, and of the label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmlocal.models.losses import gaussian_kernel, linear_kernel, nhsic
from mmlocal.registry import MEASURES

from .features import Features
from .measure import Measure, Reading, Values


@MEASURES.register_module()
class NHSICPlane(Measure):
    r"""nHSIC of each module's output with the image and with the label.

    The coordinates of an information plane: :math:`\mathrm{nHSIC}(Z, X)` with
    Gaussian kernels, :math:`\mathrm{nHSIC}(Z, Y)` with a linear kernel on
    one-hot labels, each the mean over batches of ``m`` images of all classes
    alike. See :func:`mmlocal.models.losses.nhsic`; the protocol is that of
    `End-to-End Training Induces Information Bottleneck through Layer-Role
    Differentiation <https://arxiv.org/abs/2402.09050>`_ as far as it is
    published.

    A value depends on ``m`` and on the effective rank of the features, and
    that of independent ones may be close to the maximum: read the distance
    to the value of a shuffled pairing, which stands beside each.

    Values: ``x`` (0 to m - 1) and ``y`` (0 to the number of classes - 1), with
    ``_sem``, the standard error over batches, and ``_shuffled``. No ``y`` for
    segmentation.

    Args:
        m (int): Images in a batch. Defaults to 128.
        num_batches (int): Defaults to 10.
        sigma (float): Of the Gaussian kernels. Defaults to 5.
        eps (float): Regularizes the inverse. Defaults to 1e-5.
        squared (bool): See :func:`mmlocal.models.losses.gaussian_kernel`.
            Defaults to True.
        form (str): 'flat', whole features, as published, or 'pool', their
            mean over positions. Defaults to 'flat'.
        split (str): 'val' or 'train'. Defaults to 'val'.
        seed (int): Of the shuffled pairing. Defaults to 0.
    """

    name = 'nhsic'

    def __init__(
        self,
        m: int = 128,
        num_batches: int = 10,
        sigma: float = 5.0,
        eps: float = 1e-5,
        squared: bool = True,
        form: str = 'flat',
        split: str = 'val',
        seed: int = 0,
    ):
        self.m = m
        self.num_batches = num_batches
        self.sigma = sigma
        self.eps = eps
        self.squared = squared
        self.form = form
        self.split = split
        self.seed = seed

    @property
    def readings(self) -> Mapping[str, Reading]:
        """Batches of all classes alike."""
        return {
            'features': Reading(
                self.split,
                self.form,
                num_images=self.m * self.num_batches,
                group=self.m,
                inputs=True,
            )
        }

    def measure(self, features: Features) -> Values:
        """Measure, in float64."""
        values: dict[str, list[float | None]] = {}
        for feats in features.values:
            rows = list(self._batches(feats, features))
            for key in rows[0]:
                column = [row[key] for row in rows]
                values.setdefault(key, []).append(float(np.mean(column)))
                if not key.endswith('shuffled'):
                    values.setdefault(f'{key}_sem', []).append(_sem(column))
        return values

    def _batches(
        self, feats: np.ndarray, features: Features
    ) -> Iterator[dict[str, float]]:
        generator = torch.Generator().manual_seed(self.seed)
        for start in range(0, len(features), self.m):
            part = slice(start, start + self.m)
            z = self._gaussian(feats[part])
            others = {'x': self._gaussian(features.inputs[part])}
            if features.labels is not None and features.labels.ndim == 1:
                labels = torch.from_numpy(features.labels[part])
                onehot = F.one_hot(labels, features.num_classes or -1)
                others['y'] = linear_kernel(onehot.double())
            order = torch.randperm(len(z), generator=generator)
            row = {}
            for key, kernel in others.items():
                shuffled = kernel[order][:, order]
                row[key] = nhsic(z, kernel, self.eps).item()
                row[f'{key}_shuffled'] = nhsic(z, shuffled, self.eps).item()
            yield row

    def _gaussian(self, rows: np.ndarray) -> Tensor:
        feats = torch.from_numpy(np.asarray(rows)).double()
        return gaussian_kernel(feats, self.sigma, self.squared)


def _sem(values: list[float]) -> float | None:
    """Standard error of the mean; None of a single value."""
    if len(values) < 2:
        return None
    return float(np.std(values, ddof=1) / len(values) ** 0.5)
