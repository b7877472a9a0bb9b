"""Contrastive representation distillation with two memories."""

from __future__ import annotations

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from mmlocal.registry import MODELS

from .memory import Memory

POSITIVES = ('exact', 'relax')


@MODELS.register_module()
class ContrastiveMemoryLoss(nn.Module):
    r"""Tells which memory of one network is the image that another sees.

    Two networks make embeddings v and w of the same images; their memories
    are V and W. Image i is contrasted with a positive :math:`j_0` and with K
    images :math:`j_1 \dots j_K` of other classes, drawn without replacement:

    .. math::
        s_k = \exp(W_{j_k} \cdot v_i / \tau) / Z_1, \qquad
        t_k = \exp(V_{j_k} \cdot w_i / \tau) / Z_2

    and the loss is :func:`binary_nce` of s and of t. Each Z is N times the
    mean of what it divides in the first call, and constant from then on. See
    `Contrastive Representation Distillation
    <https://arxiv.org/abs/1910.10699>`_.

    All N similarities of an image are computed, and those of the K images
    picked. Copies of the K embeddings for each image of the batch, as in the
    published code, would take KD / N times as much memory.

    Args:
        num_images (int): N.
        embed_dim (int): D, the length of an embedding. Defaults to 128.
        temperature (float): :math:`\tau`. Defaults to 0.1.
        momentum (float): Of the memories. Defaults to 0.9.
        num_negatives (int): K. Defaults to 16384.
        positive (str): ``exact``, the image itself, or ``relax``, any image
            of its class. Memories are written at the image itself either
            way. Defaults to 'exact'.

    Raises:
        ValueError: If ``positive`` is unknown.
    """

    scales: Tensor
    labels: Tensor | None

    def __init__(
        self,
        num_images: int,
        embed_dim: int = 128,
        temperature: float = 0.1,
        momentum: float = 0.9,
        num_negatives: int = 16384,
        positive: str = 'exact',
    ):
        super().__init__()
        if positive not in POSITIVES:
            raise ValueError(
                f'positive={positive!r} is unknown: write one of {POSITIVES}'
            )
        self.num_images = num_images
        self.temperature = temperature
        self.num_negatives = num_negatives
        self.positive = positive
        self.memory_v = Memory(num_images, embed_dim, momentum)
        self.memory_w = Memory(num_images, embed_dim, momentum)
        # Z; zero as long as it is not known.
        self.register_buffer('scales', torch.zeros(2))
        self.register_buffer('labels', None, persistent=False)

    def set_labels(self, labels: Tensor) -> None:
        """Say which class each image has.

        Args:
            labels (Tensor): Class indices (N, ), int64.

        Raises:
            ValueError: If they are not N, or there are fewer than K images
                of other classes than an image's.
        """
        if len(labels) != self.num_images:
            raise ValueError(
                f'num_images={self.num_images}, but the training set has '
                f'{len(labels)} images: write num_images={len(labels)}'
            )
        others = len(labels) - int(labels.bincount().max())
        if self.num_negatives > others:
            raise ValueError(
                f'num_negatives={self.num_negatives}, but to an image of '
                f'the largest class there are only {others} of other '
                f'classes: write num_negatives={others} or less'
            )
        self.labels = labels.to(self.scales.device)

    def forward(
        self,
        feats_v: Tensor,
        feats_w: Tensor,
        index: Tensor,
        seed: int | None = None,
    ) -> Tensor:
        """Compute the loss, in the memory's float32, under autocast too.

        Args:
            feats_v (Tensor): L2-normalized embeddings v (B, D).
            feats_w (Tensor): L2-normalized embeddings w (B, D).
            index (Tensor): Which images these are (B, ), int64.
            seed (int, optional): Of the draw; by default torch's own random
                numbers go on.

        Returns:
            Tensor: Scalar.

        Raises:
            ValueError: If :meth:`set_labels` was not called.
        """
        drawn = self.draw(index, seed)
        with torch.autocast(feats_v.device.type, enabled=False):
            raw_s = self._raw_scores(feats_v, self.memory_w, drawn)
            raw_t = self._raw_scores(feats_w, self.memory_v, drawn)
            z_s, z_t = self._scales(raw_s, raw_t)
            return binary_nce(raw_s / z_s, self.num_images) + binary_nce(
                raw_t / z_t, self.num_images
            )

    @torch.no_grad()
    def draw(self, index: Tensor, seed: int | None = None) -> Tensor:
        """Draw a positive and K negatives, on the device.

        Args:
            index (Tensor): Images (B, ), int64.
            seed (int, optional): Of the draw.

        Returns:
            Tensor: Images (B, 1 + K), int64, the positive first.

        Raises:
            ValueError: If :meth:`set_labels` was not called.
        """
        if self.labels is None:
            raise ValueError(
                'the classes of the training images are not known: call '
                "set_labels, or write custom_hooks=[dict(type='mmlocal."
                "CTCStageHook')], which does"
            )
        generator = None
        if seed is not None:
            generator = torch.Generator(index.device).manual_seed(seed)
        keys_BN = torch.rand(
            len(index),
            self.num_images,
            device=index.device,
            generator=generator,
        )
        same_BN = self.labels[index, None] == self.labels
        if self.positive == 'relax':
            positive = keys_BN.masked_fill(~same_BN, -1).argmax(1)
        else:
            positive = index
        # The K largest of random keys are a draw without replacement.
        keys_BN.masked_fill_(same_BN, -1)
        top = keys_BN.topk(self.num_negatives, sorted=False)
        return torch.cat([positive[:, None], top.indices], 1)

    @torch.no_grad()
    def update(
        self,
        feats_v: Tensor,
        feats_w: Tensor,
        index: Tensor,
        momentum: float | None = None,
    ) -> None:
        """Write embeddings into both memories, see :meth:`Memory.write`."""
        self.memory_v.write(feats_v, index, momentum)
        self.memory_w.write(feats_w, index, momentum)

    def _raw_scores(
        self, feats: Tensor, memory: Memory, drawn: Tensor
    ) -> Tensor:
        sim_BN = feats.to(memory.rows.dtype) @ memory.rows.T
        return (sim_BN.gather(1, drawn) / self.temperature).exp()

    @torch.no_grad()
    def _scales(self, *raw: Tensor) -> Tensor:
        """Both Z, from these scores if this is the first call."""
        means = torch.stack([scores.mean() for scores in raw])
        if not self.scales.all():
            all_reduce(means, 'mean')
            self.scales.copy_(self.num_images * means)
        return self.scales


def binary_nce(scores: Tensor, num_images: int, eps: float = 1e-7) -> Tensor:
    r"""Noise-contrastive estimation by a binary question an image.

    With :math:`c = K / N`, the expected number of times that noise draws an
    image,

    .. math::
        L = -\ln \frac{s_0}{s_0 + c + \epsilon}
            - \sum_{k=1}^{K} \ln \frac{c}{s_k + c + \epsilon}

    and the mean over the batch.

    Args:
        scores (Tensor): s, (B, 1 + K), positive; the first is that of the
            positive.
        num_images (int): N.
        eps (float): :math:`\epsilon`. Defaults to 1e-7.

    Returns:
        Tensor: Scalar.
    """
    positive, negative = scores[:, 0], scores[:, 1:]
    noise = negative.shape[1] / num_images
    # log1p: the terms of the sum are tiny, and float32 would lose them.
    hit = positive.log() - (positive + noise + eps).log()
    miss = -torch.log1p((negative + eps) / noise)
    return -(hit + miss.sum(1)).mean()
