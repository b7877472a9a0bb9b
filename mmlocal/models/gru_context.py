"""A recurrent net over a sequence, which sums up what came so far."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GRUContext(nn.GRU):
    """One layer of gated recurrent units, from left to right.

    The context at a position depends on it and on those before. Without
    back-propagation through time, the state that a position takes over from
    the one before is detached; all positions then learn at once, as one
    batch, from states that were computed without gradient.

    Args:
        in_channels (int): C of the sequence.
        channels (int): Of the context.
        bptt (bool): Propagate back through time. Defaults to True.
    """

    def __init__(self, in_channels: int, channels: int, bptt: bool = True):
        super().__init__(in_channels, channels, batch_first=True)
        self.bptt = bptt

    def forward(self, feat: Tensor) -> Tensor:
        """(N, C, L) to (N, channels, L)."""
        feat_NLC = feat.transpose(1, 2)
        if self.bptt or not torch.is_grad_enabled():
            return super().forward(feat_NLC)[0].transpose(1, 2)
        # Autocast would keep copies of the weights from here, which torch 2.6
        # takes again below: without gradient
        # (https://github.com/pytorch/pytorch/issues/158232).
        with torch.no_grad(), torch.autocast(feat.device.type, enabled=False):
            exact = feat_NLC.to(self.weight_ih_l0.dtype)
            states = super().forward(exact)[0]
        before = F.pad(states[:, :-1], (0, 0, 1, 0))
        context = torch.gru_cell(
            feat_NLC.flatten(0, 1),
            before.flatten(0, 1).to(feat.dtype),
            self.weight_ih_l0,
            self.weight_hh_l0,
            self.bias_ih_l0,
            self.bias_hh_l0,
        )
        return context.unflatten(0, states.shape[:2]).transpose(1, 2)
