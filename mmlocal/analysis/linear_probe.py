"""What a linear classifier reads from each module."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmlocal.registry import MEASURES

from .features import Features
from .head_setting import HeadSetting
from .linear_head import Chosen, FeatureHead, train_and_read
from .measure import Measure, Reading, Values
from .seeded import hold_out


class Probe(Measure):
    """A linear head on features of frozen modules.

    Subclasses say what is one sample, and what is measured.

    Args:
        protocol (str): A name of
            :data:`~mmlocal.analysis.head_setting.PROTOCOLS`. Defaults to
            'clean': multinomial logistic regression on standardized
            features, with a weight decay that is chosen on a held-out part
            of the training data; then trained on all of them, and tested
            once.
        holdout (float): Held-out part of the training data, where something
            is to be chosen. Defaults to 0.2.
        num_images (int, optional): Of the training data, all classes alike.
            By default all.
        seed (int): Defaults to 0.
        device (str, optional): By default the accelerator that mmengine
            finds, else the CPU.
        **setting: Changes of the protocol, see
            :class:`~mmlocal.analysis.head_setting.HeadSetting`.

    Raises:
        ValueError: If the setting contradicts itself, there are no labels,
            or features are not finite.
    """

    name = 'probe'
    form = 'pool'

    def __init__(
        self,
        protocol: str = 'clean',
        holdout: float = 0.2,
        num_images: int | None = None,
        seed: int = 0,
        device: str | None = None,
        **setting: Any,
    ):
        self.protocol = protocol
        self.head = HeadSetting.of(protocol, **setting)
        self.holdout = holdout
        self.num_images = num_images
        self.seed = seed
        self._device = device

    @property
    def readings(self) -> Mapping[str, Reading]:
        return {
            'train': Reading('train', self.form, num_images=self.num_images),
            'val': Reading('val', self.form),
        }

    def settings(self) -> dict[str, Any]:
        return super().settings() | {'head': asdict(self.head)}

    @property
    def device(self) -> torch.device:
        """Where heads are trained."""
        from mmengine.device import get_device

        return torch.device(self._device or get_device())

    def measure(self, train: Features, val: Features) -> Values:
        """Train and test a head on each module.

        Args:
            train (Features): Training data.
            val (Features): Test data, of the same modules.

        Returns:
            dict: What :meth:`probe` gives, and the setting it was chosen
            with: ``weight_decay``; with several epochs also ``lr`` and
            ``epoch``.
        """
        for features in train, val:
            if features.labels is None:
                raise ValueError(
                    'a probe needs labels: give data that have them.'
                )
            if features.labels.min() < 0:
                raise ValueError(
                    'a probe needs labels, and some images have none: write '
                    'another split of the data set, as train_dataloader.'
                    "dataset.split='train' of STL10."
                )
        values: dict[str, list] = {}
        for index in range(len(train.modules)):
            chosen = self.probe(train, val, index)
            for key, value in reported(chosen, self.head).items():
                values.setdefault(key, []).append(value)
        return values

    @abstractmethod
    def probe(self, train: Features, val: Features, index: int) -> Chosen:
        """Train and test a head on one module."""


@MEASURES.register_module()
class LinearProbe(Probe):
    """Top-1 accuracy of a linear classifier on pooled features.

    It gives ``accuracy`` and ``train_accuracy`` in percent, and the chosen
    setting. See :class:`Probe` for the arguments.

    Example:
        >>> measures = [
        ...     dict(type='mmlocal.LinearProbe'),
        ...     dict(type='mmlocal.LinearProbe', protocol='gim', epochs=100)]
    """

    def probe(self, train: Features, val: Features, index: int) -> Chosen:
        device = self.device
        feats, labels = samples(train, index, device)
        test = samples(val, index, device)
        num_classes = count_classes(train, val)
        head = FeatureHead(feats, labels, num_classes, self.head, self.seed)
        return train_and_read(
            head,
            self.head,
            len(feats),
            parts=lambda: hold_out(
                len(feats), self.holdout, self.seed, labels.cpu()
            ),
            read=lambda: {
                'accuracy': head.accuracy(*test),
                'train_accuracy': head.accuracy(feats, labels),
            },
        )


def reported(chosen: Chosen, setting: HeadSetting) -> dict[str, Any]:
    """The values of a probe, and what of the setting was chosen."""
    row = chosen.values | {'weight_decay': chosen.weight_decay}
    if setting.optimizer != 'lbfgs':
        row |= {'lr': chosen.lr, 'epoch': chosen.epoch}
    return row


def samples(
    features: Features, index: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Features (N, C), float32, and labels (N,) of a module.

    Raises:
        ValueError: If they are of another shape, or not finite.
    """
    values = np.array(features.values[index], np.float32)
    if values.ndim != 2 or features.labels.ndim != 1:
        raise ValueError(
            'a linear probe reads features (N, C) and labels (N,), not '
            f'{values.shape} and {features.labels.shape}; for label maps '
            'there is SegmentationProbe.'
        )
    check_finite(values, features.modules[index])
    labels = torch.from_numpy(np.array(features.labels, np.int64))
    return torch.from_numpy(values).to(device), labels.to(device)


def check_finite(values: np.ndarray, module: str) -> None:
    """Refuse infinities and NaN.

    Raises:
        ValueError: Names the module.
    """
    if not np.isfinite(values).all():
        raise ValueError(
            f'{module} puts out values that are not finite; has training '
            'diverged?'
        )


def count_classes(*features: Features) -> int:
    """As the data sets name, or as many as there are labels."""
    named = [f.num_classes for f in features if f.num_classes is not None]
    if named:
        return max(named)
    labels = [f.labels[f.labels != f.ignore_index] for f in features]
    return max(int(each.max()) for each in labels) + 1
