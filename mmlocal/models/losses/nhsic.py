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


def cka(kernel_u: Tensor, kernel_v: Tensor, unbiased: bool = False) -> Tensor:
    r"""Centred kernel alignment.

    .. math::
        \mathrm{CKA} = \frac{\mathrm{HSIC}(K_U, K_V)}
            {\sqrt{\mathrm{HSIC}(K_U, K_U) \mathrm{HSIC}(K_V, K_V)}}, \quad
        \mathrm{HSIC}(K, L) = \langle H K H, H L H \rangle

    Of linear kernels it does not change when features are rotated or scaled.
    From `Similarity of Neural Network Representations Revisited
    <https://arxiv.org/abs/1905.00414>`_. With fewer samples than numbers in a
    feature any two features come out alike; the unbiased estimator of HSIC
    (`Nguyen et al., eq. 3 <https://arxiv.org/abs/2010.15327>`_) mends that.

    Args:
        kernel_u (Tensor): (m, m).
        kernel_v (Tensor): (m, m), of the same samples.
        unbiased (bool): Defaults to False.

    Returns:
        Tensor: Scalar in [0, 1], unbiased also a little outside; NaN where
        features are constant.

    Raises:
        ValueError: If there are fewer than 4 samples, unbiased.
    """
    hsic = _unbiased_hsic if unbiased else _hsic
    norms = hsic(kernel_u, kernel_u) * hsic(kernel_v, kernel_v)
    return hsic(kernel_u, kernel_v) / norms.sqrt()


def _hsic(kernel_u: Tensor, kernel_v: Tensor) -> Tensor:
    return (centred(kernel_u) * centred(kernel_v)).sum()


def _unbiased_hsic(kernel_u: Tensor, kernel_v: Tensor) -> Tensor:
    """But for a factor that cancels in :func:`cka`."""
    m = len(kernel_u)
    if m < 4:
        raise ValueError(f'unbiased HSIC needs 4 samples, not {m}.')
    others = 1 - torch.eye(m).to(kernel_u)
    u, v = kernel_u * others, kernel_v * others
    sums = u.sum() * v.sum() / ((m - 1) * (m - 2))
    return (u * v).sum() + sums - 2 / (m - 2) * (u.sum(0) * v.sum(0)).sum()


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
