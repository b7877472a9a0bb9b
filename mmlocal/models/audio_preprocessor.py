"""Waveforms on their way into a model."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mmlocal.registry import MODELS

__all__ = ['AudioDataPreprocessor']


@MODELS.register_module()
class AudioDataPreprocessor(BaseDataPreprocessor):
    """Stacks waveforms of one length, and standardizes them.

    By default each to mean 0 and variance 1 of its own. The published code of
    Greedy InfoMax subtracts one mean from all and divides by one standard
    deviation, both of samples that are scaled to 32 bits: that is
    ``mean=-1456218.75 / 2**31, std=135303504.0 / 2**31`` of samples in
    [-1, 1], as they are here.

    Args:
        mean (float, optional): Of all samples. Defaults to None.
        std (float, optional): Of all samples. Defaults to None.
        eps (float): Standard deviation below which a waveform counts as
            silent and is not blown up. Defaults to 1e-5.
        num_classes (int, optional): As of mmpretrain's ClsDataPreprocessor;
            not read.
        batch_augments (dict, optional): Mmpretrain's classifier passes it;
            has to be None.
        non_blocking (bool): Of mmengine's. Defaults to False.

    Raises:
        ValueError: If one of mean and std is missing, or waveforms are to be
            mixed.
    """

    def __init__(
        self,
        mean: float | None = None,
        std: float | None = None,
        eps: float = 1e-5,
        num_classes: int | None = None,
        batch_augments: dict | None = None,
        non_blocking: bool = False,
    ):
        super().__init__(non_blocking)
        if (mean is None) != (std is None):
            raise ValueError(
                f'data_preprocessor: mean={mean}, std={std}: write both, or '
                'none to standardize each waveform by itself.'
            )
        if batch_augments is not None:
            raise ValueError(
                'data_preprocessor.batch_augments: Mixup and CutMix are for '
                'images: remove them.'
            )
        self.shift = mean
        self.scale = std
        self.eps = eps

    def forward(self, data: dict, training: bool = False) -> dict:
        """Stack and standardize.

        Args:
            data (dict): ``inputs``: N waveforms (1, L), or (N, 1, L), in
                [-1, 1]; ``data_samples``.
            training (bool): Not read.

        Returns:
            dict: ``inputs`` (N, 1, L) float32, and ``data_samples``.

        Raises:
            ValueError: If waveforms are not of one length.
        """
        data = self.cast_data(data)
        inputs = data['inputs']
        if not isinstance(inputs, Tensor):
            lengths = {wave.shape[-1] for wave in inputs}
            if len(lengths) > 1:
                raise ValueError(
                    f'waveforms of {sorted(lengths)} samples make no batch: '
                    "write dict(type='mmlocal.CropAudio', length=20480) in "
                    'the pipeline.'
                )
            inputs = torch.stack(list(inputs))
        inputs = inputs.float()
        result: dict[str, Any] = {'data_samples': None, **data}
        if self.shift is not None:
            result['inputs'] = (inputs - self.shift) / self.scale
            return result
        std, mean = torch.std_mean(inputs, -1, correction=0, keepdim=True)
        result['inputs'] = (inputs - mean) / std.clamp(min=self.eps)
        return result
