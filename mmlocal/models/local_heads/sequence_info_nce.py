"""Greedy InfoMax on sequences: tell what comes next from what does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmlocal.registry import MODELS
from mmlocal.step import current_step

from ..backbones.cpc_audio import ENCODING
from ..gru_context import GRUContext
from .base import Boundary, LocalHead
from .layers import upcast
from .sequence_negatives import SAMPLERS, draw_start, each_step, take_rows


@MODELS.register_module()
class SequenceInfoNCEHead(LocalHead):
    r"""Trains a module to tell what comes k positions later.

    `Greedy InfoMax <https://arxiv.org/abs/1905.11786>`_ for audio. With the
    module's output z, a context c, and N wrong targets n of every position,

    .. math::
        L = -\frac 1 K \sum_{k=1}^K \mathrm{mean}_{b,t} \log
            \frac{f_k(z_{t+k}, c_t)}
            {f_k(z_{t+k}, c_t) + \sum_n f_k(n, c_t)}, \qquad
        f_k(z, c) = \exp(z^\top W_k c).

    The context is the output itself, or that of a recurrent net: of the
    head, with ``context_channels``, which serves training alone; or of the
    backbone, where the module ends in one (``CPCAudioEncoder``), and z is
    then what that has taken in. Chance is :math:`\ln(N + 1)`.

    Wrong targets come from the batch of the rank, and learn too. They are

    =============== =======================================================
    ``offset``      other targets of the same step, never the right one
    ``permutation`` any vectors of the batch; the order is drawn once and
                    serves all steps
    ``sequence``    vectors of the same sequence
    =============== =======================================================

    as :mod:`.sequence_negatives` says. No label is read.

    Args:
        boundary (Boundary): Where the head sits, a sequence.
        num_steps (int): K. Defaults to 12.
        num_negatives (int): N. Defaults to 10.
        sampler (str): One of these. Defaults to 'permutation'.
        window (int, optional): Of longer sequences, as many positions at a
            random place are predicted from and predicted. None takes all.
            Defaults to 128.
        target_channels (int, optional): C of z. By default that of the
            module's output; needed where the module ends in a recurrent net.
        context_channels (int, optional): Of a recurrent net of the head's
            own. Defaults to None, for none.
        bptt (bool): Propagate back through time in it. Defaults to True.
        init_cfg (dict, optional): Initialization of mmengine. Defaults to
            torch's own, as published.

    Raises:
        ValueError: If an argument is none of these, the feature is no
            sequence, or, in training, it is too short or has other channels
            than ``target_channels``.
    """

    def __init__(
        self,
        boundary: Boundary,
        num_steps: int = 12,
        num_negatives: int = 10,
        sampler: str = 'permutation',
        window: int | None = 128,
        target_channels: int | None = None,
        context_channels: int | None = None,
        bptt: bool = True,
        init_cfg: dict | None = None,
    ):
        super().__init__(boundary, init_cfg)
        _check(boundary, num_steps, num_negatives, sampler, window)
        self.num_steps = num_steps
        self.num_negatives = num_negatives
        self.sampler = sampler
        self.window = window
        self.channels = target_channels or boundary.channels
        self.context = None
        if context_channels is not None:
            self.context = GRUContext(
                boundary.channels, context_channels, bptt
            )
        self.predictor = nn.Linear(
            context_channels or boundary.channels,
            num_steps * self.channels,
            bias=False,
        )

    def loss(
        self, feat: Tensor, inputs: Tensor, data_samples: Sequence[Any]
    ) -> dict[str, Tensor]:
        """Compare what is predicted with what comes.

        Args:
            feat (Tensor): The module's output (B, C, L).
            inputs (Tensor): Preprocessed waveforms; not read.
            data_samples (Sequence): Not read.

        Returns:
            dict[str, Tensor]: ``loss_nce``; ``acc``, the percentage of
            predictions that fit what comes better than all wrong targets.
        """
        step = current_step()
        encoding = step.store.pop(ENCODING, feat) if step else feat
        context = feat if self.context is None else self.context(feat)
        self._check_feature(encoding)
        length = encoding.shape[2]
        if self.window is not None:
            length = min(length, self.window)
        start = draw_start(encoding.shape[2], length)
        places = slice(start, start + length)
        context_BTC = context[:, :, places].transpose(1, 2)
        predicted = self.predictor(context_BTC).unflatten(
            2, (self.num_steps, self.channels)
        )
        with torch.autocast(feat.device.type, enabled=False):
            return self._compare(upcast(predicted), upcast(encoding), start)

    def _compare(
        self, predicted: Tensor, encoding: Tensor, start: int
    ) -> dict[str, Tensor]:
        """Losses and accuracy, over steps.

        Args:
            predicted (Tensor): For each step, (B, T, K, C).
            encoding (Tensor): Of whole sequences, (B, C, L).
            start (int): Of the T positions among the L.
        """
        batch, _, length = encoding.shape
        window, device = predicted.shape[1], encoding.device
        negatives = SAMPLERS[self.sampler](
            batch, length, window, self.num_negatives, device
        )
        begins = start + length * torch.arange(batch, device=device)
        places = begins[:, None] + torch.arange(window, device=device)
        # At once: the gradient of each selection is as large as all rows.
        rows = encoding.transpose(1, 2).flatten(0, 1)
        parts = places, negatives.places
        found = take_rows(rows, torch.cat([part.flatten() for part in parts]))
        targets, table = (
            each.unflatten(0, part.shape)
            for each, part in zip(
                found.split([part.numel() for part in parts]),
                parts,
                strict=True,
            )
        )
        losses, right = [], []
        for (k, guess), wrong in zip(
            each_step(predicted),
            negatives.scores(predicted, targets, table),
            strict=True,
        ):
            fits = (targets[:, k:] * guess).sum(2).flatten()[:, None]
            logits = torch.cat([fits, wrong], 1)
            losses.append(-logits.log_softmax(1)[:, 0].mean())
            right.append((fits > wrong).all(1).float().mean())
        return {
            'loss_nce': torch.stack(losses).mean(),
            'acc': 100 * torch.stack(right).mean(),
        }

    def _check_feature(self, encoding: Tensor) -> None:
        channels, length = encoding.shape[1:]
        if channels != self.channels:
            raise ValueError(
                f'the local head at {self.boundary.name!r} predicts vectors '
                f'of {self.channels} channels, and what its module encodes '
                f'has {channels}: write local_heads.target_channels='
                f'{channels}.'
            )
        if length <= self.num_steps:
            raise ValueError(
                f'local_heads.num_steps={self.num_steps} needs a sequence of '
                f'{self.num_steps + 1} positions at least, and that at '
                f'{self.boundary.name!r} has {length}: give longer waveforms '
                'or fewer steps.'
            )


def _check(
    boundary: Boundary,
    num_steps: int,
    num_negatives: int,
    sampler: str,
    window: int | None,
) -> None:
    if sampler not in SAMPLERS:
        raise ValueError(
            f'local_heads.sampler={sampler!r} is unknown: write one of '
            f'{tuple(SAMPLERS)}.'
        )
    if min(num_steps, num_negatives) < 1:
        raise ValueError(
            f'local_heads: num_steps={num_steps}, num_negatives='
            f'{num_negatives}: both are 1 at least; published are 12 and 10.'
        )
    if window is not None and window <= num_steps:
        raise ValueError(
            f'local_heads.window={window} leaves nothing to predict '
            f'{num_steps} positions later: write {num_steps + 1} or more, '
            'or None.'
        )
    if boundary.layout != 'sequence':
        raise ValueError(
            f'boundary {boundary.name!r} carries {boundary.layout}, and '
            'SequenceInfoNCEHead predicts along a sequence (N, C, L): choose '
            'a backbone for signals, with input_shape=(channels, samples).'
        )
