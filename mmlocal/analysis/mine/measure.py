"""The information plane of MINE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from logging import WARNING
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor

from mmlocal.analysis.features import Features
from mmlocal.analysis.linear_probe import check_finite, count_classes
from mmlocal.analysis.measure import Measure, Reading, Values
from mmlocal.registry import MEASURES

from .estimator import Estimate, estimate
from .setting import MineSetting

MODES = ('xt', 'ty')
# Nats below the ceiling from which on a value is doubted.
MARGIN = 1.0


@MEASURES.register_module()
class MutualInformation(Measure):
    """I(X;T) of images and pooled features, I(T;Y) of these and labels.

    Lower bounds in nats, by a network that is trained for each module anew
    on one half of the images and read on the other, several times. A
    deterministic network's I(X;T) is infinite or the entropy of the images:
    what is measured is how much a small network finds of it. Compare values
    of one setting, and of as many images, alone.

    It gives for each of ``modes``, as ``xt``: ``xt``, the mean over repeats;
    ``xt_std``, their standard deviation; ``xt_in_sample``, what the training
    batches show, as published, which is too high; ``xt_ceiling``, above which
    no bound says anything from as many images. A warning names values that
    come within 1 nat of it. With 'ty' also ``label_entropy``, H(Y), which
    I(T;Y) cannot exceed.

    Args:
        modes (Sequence[str]): Of 'xt' and 'ty'. Defaults to both.
        protocol (str): 'held_out', or 'published', that of
            `Discriminability-Transferability Trade-Off
            <https://arxiv.org/abs/2203.03871>`_: in-sample, once, raw
            inputs, 5,000 pairs a step, 3 x 1024, 10,000 and 20,000 steps;
            this is for an accelerator. Defaults to 'held_out'.
        repeats (int, optional): Each with other parts, network and batches.
            Defaults to 3; to 1 with 'published'.
        split (str): Images of 'val' or 'train'. Defaults to 'val'.
        num_images (int, optional): As many of them, all classes alike. By
            default all.
        seed (int): Defaults to 0.
        device (str, optional): By default the accelerator that mmengine
            finds, else the CPU.
        xt (Mapping, optional): Changes of the setting for 'xt' alone.
        ty (Mapping, optional): For 'ty' alone.
        **setting: Changes of the protocol, see :class:`MineSetting`.

    Raises:
        ValueError: If the setting contradicts itself, or labels, images or
            finite features are missing.

    Example:
        >>> measures = [dict(
        ...     type='mmlocal.MutualInformation', bound='infonce',
        ...     num_images=4000, ty=dict(iterations=200))]
    """

    name = 'mine'

    def __init__(
        self,
        modes: Sequence[str] = MODES,
        protocol: str = 'held_out',
        repeats: int | None = None,
        split: str = 'val',
        num_images: int | None = None,
        seed: int = 0,
        device: str | None = None,
        xt: Mapping[str, Any] | None = None,
        ty: Mapping[str, Any] | None = None,
        **setting: Any,
    ):
        if not modes or not {*modes} <= {*MODES}:
            raise ValueError(
                f'modes={modes!r} is unknown: write one or both of {MODES}.'
            )
        own = {'xt': xt or {}, 'ty': ty or {}}
        self.modes = {
            mode: MineSetting.of(protocol, mode, **setting | own[mode])
            for mode in modes
        }
        if repeats is None:
            repeats = 1 if protocol == 'published' else 3
        if repeats < 1:
            raise ValueError(f'repeats={repeats} must be 1 or more.')
        self.repeats = repeats
        self.split = split
        self.num_images = num_images
        self.seed = seed
        self._device = device

    @property
    def readings(self) -> Mapping[str, Reading]:
        """Pooled features and, for I(X;T), the images."""
        return {
            'features': Reading(
                self.split,
                'pool',
                num_images=self.num_images,
                inputs='xt' in self.modes,
            )
        }

    def settings(self) -> dict[str, Any]:
        """With everything that the protocol says."""
        modes = {mode: asdict(each) for mode, each in self.modes.items()}
        return super().settings() | {'modes': modes}

    def measure(self, features: Features) -> Values:
        """Estimate, module by module."""
        from mmengine.device import get_device

        device = self._device or get_device()
        others = self._others(features, device)
        values: dict[str, list[float | None]] = {}

        def note(key: str, value: float | None) -> None:
            values.setdefault(key, []).append(value)

        for module, rows in zip(
            features.modules, features.values, strict=True
        ):
            feats = _tensor(rows, module, device)
            for mode, setting in self.modes.items():
                pair = feats, others[mode]
                if mode == 'xt':
                    pair = pair[::-1]
                found = [
                    estimate(*pair, setting, self.seed + repeat)
                    for repeat in range(self.repeats)
                ]
                mean = fmean(each.value for each in found)
                note(mode, mean)
                note(f'{mode}_std', _std(found))
                in_sample = fmean(each.in_sample for each in found)
                note(f'{mode}_in_sample', in_sample)
                note(f'{mode}_ceiling', found[0].ceiling)
                self._warn(mode, module, mean, found[0].ceiling)
            if 'ty' in self.modes:
                entropy = label_entropy(features.labels)
                note('label_entropy', entropy)
                _warn_of_entropy(module, values['ty'][-1], entropy)
        return values

    def _others(self, features: Features, device: str) -> dict[str, Tensor]:
        others = {}
        if 'xt' in self.modes:
            if features.inputs is None:
                raise ValueError(
                    "I(X;T) needs the images: write modes=['ty']."
                )
            others['xt'] = _tensor(features.inputs, 'the image', device)
        if 'ty' in self.modes:
            labels = features.labels
            if labels is None or labels.ndim != 1:
                raise ValueError(
                    "I(T;Y) needs one class an image: write modes=['xt']."
                )
            labels = torch.from_numpy(np.array(labels, np.int64))
            onehot = F.one_hot(labels, count_classes(features))
            others['ty'] = onehot.float().to(device)
        return others

    def _warn(
        self, mode: str, module: str, value: float, ceiling: float
    ) -> None:
        if value > ceiling - MARGIN:
            letters = ';'.join(mode.upper())
            _tell(
                f'mine: I({letters}) of {module}, {value:.2f} nats, is near '
                f'{ceiling:.2f}, the most that so many pairs can show: it '
                'may be anything above. Give more images'
                + (
                    ' and a larger batch_size.'
                    if self.modes[mode].bound == 'infonce'
                    or not self.modes[mode].holdout
                    else '.'
                )
            )


def label_entropy(labels: np.ndarray) -> float:
    """H(Y) of the labels (N,) that there are, in nats."""
    counts = np.unique(labels, return_counts=True)[1]
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _warn_of_entropy(module: str, value: float, entropy: float) -> None:
    if value > entropy:
        _tell(
            f'mine: I(T;Y) of {module}, {value:.2f} nats, is above the '
            f'entropy of the labels, {entropy:.2f}, which it cannot be.'
        )


def _tell(message: str) -> None:
    print_log(message, logger='current', level=WARNING)


def _std(found: Sequence[Estimate]) -> float | None:
    if len(found) < 2:
        return None
    return stdev(each.value for each in found)


def _tensor(rows: np.ndarray, name: str, device: str) -> Tensor:
    values = np.array(rows, np.float32)
    check_finite(values, name)
    return torch.from_numpy(values).flatten(1).to(device)
