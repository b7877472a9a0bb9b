"""Similarity matching loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmlocal.registry import MODELS

TARGETS = ('onehot', 'centered')


@MODELS.register_module()
class SimilarityMatchingLoss(nn.Module):
    r"""Images should be as similar as their labels are.

    With the features u of each image centred over the features and
    normalized, :math:`S_{ij} = \bar u_i \cdot \bar u_j`, and

    .. math::
        L = \frac{1}{N^2} \sum_{ij} (S_{ij} - T_{ij})^2

    Of a map u is the standard deviation of each channel over the places, as
    long as there are more than 3 channels and more than one row; else all its
    values. From `Training Neural Networks with Local Error Signals
    <https://arxiv.org/abs/1901.06656>`_, whose targets are ``centered``:
    there C perfect clusters give 0, while ``onehot``, the targets of `E2E-info
    <https://arxiv.org/abs/2402.09050>`_, leaves 1 / (C (C - 1)) of them.

    Args:
        num_classes (int): C.
        target (str): T: ``onehot``, 1 for the same class and 0 for others;
            or ``centered``, the similarity of centred one-hot labels, 1 and
            -1 / (C - 1). Defaults to 'onehot'.

    Raises:
        ValueError: If the target is none of these.
    """

    def __init__(self, num_classes: int, target: str = 'onehot'):
        super().__init__()
        if target not in TARGETS:
            raise ValueError(
                f'local_heads.target={target!r} is unknown: write one of '
                f'{TARGETS}'
            )
        self.num_classes = num_classes
        self.target = target

    def forward(self, feats: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss, in float32 at least, under autocast too.

        Args:
            feats (Tensor): (N, D) or (N, C, h, w).
            labels (Tensor): Class indices (N, ), or soft labels
                (N, num_classes) of float.

        Returns:
            Tensor: Scalar.
        """
        with torch.autocast(feats.device.type, enabled=False):
            feats = feats.to(torch.promote_types(feats.dtype, torch.float32))
            if not labels.is_floating_point():
                labels = F.one_hot(labels, self.num_classes)
            labels = labels.to(feats.dtype)
            if self.target == 'centered':
                target_NN = similarity(labels)
            else:
                target_NN = labels @ labels.T
            return F.mse_loss(similarity(feats), target_NN)


def similarity(feats: Tensor) -> Tensor:
    """Cosines between centred features, see :class:`SimilarityMatchingLoss`.

    Args:
        feats (Tensor): (N, D) or (N, C, h, w).

    Returns:
        Tensor: (N, N) in [-1, 1].
    """
    if feats.ndim == 4 and feats.shape[1] > 3 and feats.shape[2] > 1:
        feats = feats.flatten(2).std(2)
    feats = feats.flatten(1)
    feats = feats - feats.mean(1, keepdim=True)
    # Not F.normalize, whose eps counts where the norm is smaller only.
    feats = feats * (feats.square().sum(1, keepdim=True) + 1e-12).rsqrt()
    return (feats @ feats.T).clamp(-1, 1)
