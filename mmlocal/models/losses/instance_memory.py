"""Each image is a class of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmlocal.registry import MODELS

from .memory import Memory


@MODELS.register_module()
class InstanceMemoryLoss(nn.Module):
    r"""Tells an image by a memory of what the network made of it before.

    With the rows of the memory :math:`M` and the embedding :math:`v_i` of
    image i,

    .. math::
        L = -\log \frac{\exp(v_i \cdot M_i / \tau)}
            {\sum_{n=1}^{N} \exp(v_i \cdot M_n / \tau)}

    the mean over the batch, and the sum over all training images. See
    `non-parametric instance discrimination
    <https://arxiv.org/abs/1805.01978>`_, whose sum is sampled.

    The memory changes in :meth:`update`, to be called when the gradient has
    been computed: autograd holds on to it, and refuses otherwise.

    Args:
        num_images (int): N.
        embed_dim (int): Length of an embedding. Defaults to 128.
        temperature (float): :math:`\tau`. Defaults to 0.1.
        momentum (float): Of the memory. Defaults to 0.9.
    """

    def __init__(
        self,
        num_images: int,
        embed_dim: int = 128,
        temperature: float = 0.1,
        momentum: float = 0.9,
    ):
        super().__init__()
        self.temperature = temperature
        self.memory = Memory(num_images, embed_dim, momentum)

    def forward(self, feats: Tensor, index: Tensor) -> Tensor:
        """Compute the loss, in the memory's float32, under autocast too.

        Args:
            feats (Tensor): L2-normalized embeddings (B, D).
            index (Tensor): Which images these are (B, ), int64.

        Returns:
            Tensor: Scalar.
        """
        with torch.autocast(feats.device.type, enabled=False):
            rows_ND = self.memory.rows
            sim_BN = feats.to(rows_ND.dtype) @ rows_ND.T
            return F.cross_entropy(sim_BN / self.temperature, index)

    def update(self, feats: Tensor, index: Tensor) -> None:
        """Write embeddings into the memory, see :meth:`Memory.write`."""
        self.memory.write(feats, index)
