"""Supervised contrastive loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmlocal.registry import MODELS


@MODELS.register_module()
class SupConLoss(nn.Module):
    r"""Supervised contrastive loss.

    With :math:`s_{ij} = z_i \cdot z_j / \tau` and the positives
    :math:`P(i) = \{p \neq i : y_p = y_i\}`,

    .. math::
        L = -\frac{\tau}{\tau_0 N} \sum_i \frac{1}{\max(1, |P(i)|)}
            \sum_{p \in P(i)}
            \left(s_{ip} - \log \sum_{a \neq i} \exp s_{ia}\right)

    An anchor without a positive adds nothing, yet counts in the mean. Several
    views of an image are rows with the same label, positives of one another.
    See `Supervised Contrastive Learning <https://arxiv.org/abs/2004.11362>`_;
    no key queue, and no gathering across GPUs.

    Args:
        temperature (float): :math:`\tau`. Defaults to 0.07.
        base_temperature (float, optional): :math:`\tau_0`. Defaults to
            ``temperature``.
    """

    def __init__(
        self, temperature: float = 0.07, base_temperature: float | None = None
    ):
        super().__init__()
        self.temperature = temperature
        self.scale = temperature / (base_temperature or temperature)

    def forward(self, feats: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss, in float32 at least, under autocast too.

        Args:
            feats (Tensor): L2-normalized embeddings (N, D).
            labels (Tensor): Class indices (N, ), of an integer type.

        Returns:
            Tensor: Scalar.

        Raises:
            ValueError: If the labels are soft.
        """
        if labels.ndim != 1 or labels.is_floating_point():
            raise ValueError(
                'the contrastive loss needs one class index an image, got '
                f'labels of shape {tuple(labels.shape)} and type '
                f'{labels.dtype}: remove Mixup and CutMix from '
                "data_preprocessor.batch_augments, or write loss='softmax' "
                "(in InfoProHead task='softmax') in local_heads"
            )
        with torch.autocast(feats.device.type, enabled=False):
            feats = feats.to(torch.promote_types(feats.dtype, torch.float32))
            sim_NN = feats @ feats.T / self.temperature
            sim_NN = sim_NN - sim_NN.amax(1, keepdim=True).detach()
            self_NN = torch.eye(
                len(labels), dtype=torch.bool, device=labels.device
            )
            # Not -inf: in a batch of one nothing else is left to sum, and
            # the result must stay finite.
            lowest = torch.finfo(sim_NN.dtype).min
            others_NN = sim_NN.masked_fill(self_NN, lowest)
            log_prob_NN = sim_NN - others_NN.logsumexp(1, keepdim=True)
            positive_NN = (labels[:, None] == labels) & ~self_NN
            total_N = log_prob_NN.where(positive_NN, 0).sum(1)
            mean_N = total_N / positive_NN.sum(1).clamp(min=1)
            return -self.scale * mean_N.mean()
