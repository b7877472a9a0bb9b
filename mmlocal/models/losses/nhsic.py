"""How far two sets of features depend on one another, from their kernels."""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian_kernel(
    feats: Tensor, sigma: float = 5.0, squared: bool = True
) -> Tensor:
    r"""Gaussian kernel with a width that grows with the dimension.

    .. math::
        K_{ij} = \exp\left(-\frac{\|u_i - u_j\|^2}{2 \sigma^2 d}\right)

    Args:
        feats (Tensor): (m, ...), flattened to d features a sample.
        sigma (float): :math:`\sigma`. Defaults to 5.
        squared (bool): False takes the distance without its square, as one
            published code does (by mistake). Defaults to True.

    Returns:
        Tensor: (m, m), of the type of ``feats``, float32 at least.
    """
    feats = _rows(feats)
    # Of the scale of the differences, for the sake of rounding.
    feats = feats - feats.mean(0)
    norms = feats.square().sum(1)
    distances = (norms[:, None] + norms - 2 * feats @ feats.T).clamp(min=0)
    # What rounding leaves there would be a root's infinite gradient.
    distances = distances * (1 - torch.eye(len(feats)).to(distances))
    if not squared:
        apart = distances > 0
        roots = distances.where(apart, 1).sqrt()
        distances = roots.where(apart, 0)
    return torch.exp(-distances / (2 * sigma**2 * feats.shape[1]))


def linear_kernel(feats: Tensor) -> Tensor:
    r"""Inner products, :math:`K_{ij} = u_i \cdot u_j`.

    Args:
        feats (Tensor): (m, ...), flattened.

    Returns:
        Tensor: (m, m), of the type of ``feats``, float32 at least.
    """
    feats = _rows(feats)
    return feats @ feats.T


def nhsic(kernel_u: Tensor, kernel_v: Tensor, eps: float = 1e-5) -> Tensor:
    r"""Normalized Hilbert-Schmidt independence criterion.

    .. math::
        \mathrm{nHSIC}(U, V) = \mathrm{tr}(R_U R_V), \quad
        R = \tilde K (\tilde K + \epsilon m I)^{-1}, \quad
        \tilde K = K (I - \tfrac{1}{m} 1 1^T)

    This is the form related to canonical correlation, between 0 and m - 1,
    not the one of :func:`cka`, though both are called normalized HSIC. Its
    value depends on m and on the effective rank of the features, so that
    independent features may come close to the maximum: compare at the same
    m, and with a shuffled pairing. Differentiable. From `The HSIC
    Bottleneck <https://arxiv.org/abs/1908.01580>`_.

    Args:
        kernel_u (Tensor): (m, m), of :func:`gaussian_kernel` or
            :func:`linear_kernel`.
        kernel_v (Tensor): (m, m), of the same samples.
        eps (float): :math:`\epsilon`. Defaults to 1e-5.

    Returns:
        Tensor: Scalar. At m = 128, float32 is off by about 0.03.
    """
    m = len(kernel_u)
    eye = torch.eye(m).to(kernel_u)

    def inverse(kernel: Tensor) -> Tensor:
        # R = I - eps m (K + eps m I)^-1, for the kernel centred on both
        # sides, which gives the same trace.
        shifted = centred(kernel) + eps * m * eye
        return eye - eps * m * torch.linalg.inv(shifted)

    return (inverse(kernel_u) * inverse(kernel_v).T).sum()


def cka(kernel_u: Tensor, kernel_v: Tensor) -> Tensor:
    r"""Centred kernel alignment.

    .. math::
        \mathrm{CKA} = \frac{\langle \tilde K_U, \tilde K_V \rangle}
            {\|\tilde K_U\| \|\tilde K_V\|}, \quad \tilde K = H K H

    Of linear kernels it does not change when features are rotated or scaled.
    From `Similarity of Neural Network Representations Revisited
    <https://arxiv.org/abs/1905.00414>`_.

    Args:
        kernel_u (Tensor): (m, m).
        kernel_v (Tensor): (m, m), of the same samples.

    Returns:
        Tensor: Scalar in [0, 1]; NaN where features are constant.
    """
    kernel_u, kernel_v = centred(kernel_u), centred(kernel_v)
    return (kernel_u * kernel_v).sum() / (kernel_u.norm() * kernel_v.norm())


def centred(kernel: Tensor) -> Tensor:
    """The kernel of centred features, H K H."""
    return (
        kernel
        - kernel.mean(0, keepdim=True)
        - kernel.mean(1, keepdim=True)
        + kernel.mean()
    )


def _rows(feats: Tensor) -> Tensor:
    feats = feats.flatten(1)
    return feats.to(torch.promote_types(feats.dtype, torch.float32))
