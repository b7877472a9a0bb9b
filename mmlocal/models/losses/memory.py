"""What a network made of each training image when it last saw it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Memory(nn.Module):
    r"""An embedding an image, that follows the network's.

    .. math::
        M_i \leftarrow \mathrm{normalize}(m M_i + (1 - m) v_i)

    The rows start uniform in :math:`\pm\sqrt{3 / D}`, about of length 1.

    Args:
        num_images (int): N.
        embed_dim (int): D.
        momentum (float): m, in [0, 1]; at 0 a row is the last embedding.

    Attributes:
        rows (Tensor): M, (N, D) float32, in the checkpoint.
    """

    rows: Tensor

    def __init__(self, num_images: int, embed_dim: int, momentum: float):
        super().__init__()
        bound = (3 / embed_dim) ** 0.5
        rows = torch.empty(num_images, embed_dim).uniform_(-bound, bound)
        self.register_buffer('rows', rows)
        self.momentum = momentum

    @torch.no_grad()
    def write(
        self, feats: Tensor, index: Tensor, momentum: float | None = None
    ) -> None:
        """Move rows towards new embeddings, in place.

        Of an image that is there more than once, as where a sampler fills
        the last batch up, the first embedding counts, on all devices alike.

        Args:
            feats (Tensor): Normalized embeddings (B, D).
            index (Tensor): Their images (B, ), int64.
            momentum (float, optional): Instead of that of the memory.
        """
        momentum = self.momentum if momentum is None else momentum
        index, inverse = index.unique(return_inverse=True)
        order = torch.arange(len(inverse), device=index.device)
        first = order.new_full(index.shape, len(order))
        first.scatter_reduce_(0, inverse, order, 'amin')
        new = feats[first].to(self.rows.dtype)
        mixed = momentum * self.rows[index] + (1 - momentum) * new
        self.rows[index] = F.normalize(mixed, dim=1)
