"""Lower bounds of mutual information, in nats, from scores of pairs.

A statistics network scores pairs (a, b): n that belong together, and k with
another b for each a. ``joint`` is (n,), ``marginal`` (n, k).
"""

from __future__ import annotations

import math
from abc import ABCMeta, abstractmethod

import torch
from torch import Tensor


class Bound(metaclass=ABCMeta):
    """A lower bound, and the loss by which the network is trained to it."""

    @abstractmethod
    def value(self, joint: Tensor, marginal: Tensor) -> Tensor:
        """The bound, estimated from these scores; a scalar."""

    def loss(self, joint: Tensor, marginal: Tensor) -> Tensor:
        """What is minimised: by default, the bound with the sign changed."""
        return -self.value(joint, marginal)

    @staticmethod
    def ceiling(num: int, num_marginal: int) -> float:
        r"""Above this, a value says nothing.

        No estimate from n samples can be both high and trustworthy: with
        high confidence none shows more than :math:`\ln n` (`Formal
        Limitations on the Measurement of Mutual Information
        <https://arxiv.org/abs/1811.04251>`_).

        Args:
            num (int): n, samples that the value is read from.
            num_marginal (int): k, other partners of each.
        """
        return math.log(num)


class DonskerVaradhan(Bound):
    r"""MINE's bound, with its correction of the gradient's bias.

    .. math::
        I \ge \frac 1 n \sum_i t_i - \ln \bar e, \quad
        \bar e = \frac 1 {nk} \sum_{ij} e^{t'_{ij}}

    The logarithm's gradient on a batch, :math:`\nabla \bar e / \bar e`, is
    biased; its denominator is therefore replaced by a running mean m,
    :math:`m \leftarrow (1 - r) m + r \bar e`, from 1:

    .. math::
        \nabla \mathrm{loss} = -\left(
            \nabla \frac 1 n \sum_i t_i - \nabla \bar e / m \right)

    All in logarithms, so that nothing overflows. The running mean is a
    number without history. From `Mutual Information Neural Estimation
    <https://arxiv.org/abs/1801.04062>`_.

    Args:
        rate (float): r. Defaults to 0.01.
    """

    def __init__(self, rate: float = 0.01):
        self.rate = rate
        self.log_mean: Tensor | float = 0.0

    def value(self, joint: Tensor, marginal: Tensor) -> Tensor:
        return joint.mean() - _log_mean_exp(marginal)

    def loss(self, joint: Tensor, marginal: Tensor) -> Tensor:
        log_batch = _log_mean_exp(marginal)
        now = log_batch.detach()
        self.log_mean = torch.logaddexp(
            torch.as_tensor(self.log_mean).to(now) + math.log1p(-self.rate),
            now + math.log(self.rate),
        )
        # The gradient of ln e times e / m is that of e, over m.
        return log_batch * (now - self.log_mean).exp() - joint.mean()


class NWJ(Bound):
    r"""The bound of Nguyen, Wainwright and Jordan, or f-MINE's KL.

    .. math::
        I \ge \frac 1 n \sum_i t_i
            - \frac 1 {nk} \sum_{ij} e^{t'_{ij} - 1}

    Unbiased, and of a variance that grows with :math:`e^I`. From
    `Estimating divergence functionals <https://arxiv.org/abs/0809.0853>`_.
    """

    def value(self, joint: Tensor, marginal: Tensor) -> Tensor:
        return joint.mean() - (_log_mean_exp(marginal) - 1).exp()


class InfoNCE(Bound):
    r"""Telling the partner among k + 1.

    .. math::
        I \ge \frac 1 n \sum_i \ln \frac{e^{t_i}}
            {\frac 1 {k + 1} (e^{t_i} + \sum_j e^{t'_{ij}})}

    Never above :math:`\ln(k + 1)`, and steady. From `Representation Learning
    with Contrastive Predictive Coding <https://arxiv.org/abs/1807.03748>`_.
    """

    def value(self, joint: Tensor, marginal: Tensor) -> Tensor:
        every = torch.cat([joint[:, None], marginal], 1)
        chance = every.logsumexp(1) - math.log(every.shape[1])
        return (joint - chance).mean()

    @staticmethod
    def ceiling(num: int, num_marginal: int) -> float:
        return math.log(num_marginal + 1)


BOUNDS = {'dv': DonskerVaradhan, 'nwj': NWJ, 'infonce': InfoNCE}


def _log_mean_exp(scores: Tensor) -> Tensor:
    return scores.flatten().logsumexp(0) - math.log(scores.numel())
