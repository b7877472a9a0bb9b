"""The ensemble of the modules so far."""

from __future__ import annotations

import torch
from torch import Tensor

KINDS = ('prob', 'logit', None)


class Ensemble:
    r"""Weighted mean of what the modules predict, one after the other.

    With o_i what module i (from 0) predicts, over the modules up to n,

    .. math::
        p_n = \sum_{i \le n} w_i o_i, \quad
        w_i = 2^i / \sum_{k \le n} 2^k

    (DGL's read-out, `code <https://github.com/eugenium/DGL>`_). Modules that
    predict nothing are left out of both sums. One mean is kept, whatever n.

    Args:
        kind (str): What o_i is: 'prob', softmax probabilities, or 'logit'.

    Attributes:
        mean (list[Tensor]): :math:`p_n`, in batches (n, C, ...), float32.
        count (int): How many modules are in it.
    """

    def __init__(self, kind: str):
        self.kind = kind
        self.mean: list[Tensor] = []
        self.count = 0
        self._total = 0.0

    def add(self, index: int, logits: list[Tensor]) -> None:
        """Take in the next module.

        Args:
            index (int): Of the module, from 0.
            logits (list[Tensor]): Batches (n, C, ...), alike for all modules
                but for a constant in each row.

        Raises:
            ValueError: If its classes are not those of the others.
        """
        for batch, before in zip(logits, self.mean or logits, strict=True):
            if batch.shape != before.shape or batch.shape[1] < 2:
                raise ValueError(
                    f'val_cfg.ensemble={self.kind!r}: module {index + 1} '
                    f'gives scores of shape {tuple(batch.shape)}, those '
                    f'before {tuple(before.shape)}, and an ensemble needs '
                    'the same two or more classes everywhere: write '
                    'ensemble=None (test_cfg too), or one num_classes.'
                )
        outputs = [batch.float() for batch in logits]
        if self.kind == 'prob':
            outputs = [batch.softmax(1) for batch in outputs]
        self.count += 1
        self._total += 2.0**index
        weight = 2.0**index / self._total
        self.mean = [
            torch.lerp(mean, output, weight)
            for mean, output in zip(self.mean or outputs, outputs, strict=True)
        ]
