"""How well features serve another data set.

As in `Discriminability-Transferability Trade-Off
<https://arxiv.org/abs/2203.03871>`_: a fresh linear head on the target data,
all else as it was trained on the source.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from mmlocal.models.local_heads.targets import class_labels
from mmlocal.models.tracing import plain_eval
from mmlocal.random_state import kept_random_state
from mmlocal.registry import MEASURES

from .choice import choose, labels_of
from .extract import Source
from .forms import pooled
from .head_setting import HeadSetting
from .linear_head import SteppedHead, TrainedHead, train_and_read
from .linear_probe import LinearProbe, reported
from .measure import Values
from .seeded import hold_out
from .taps import Taps


@MEASURES.register_module()
class TransferProbe(LinearProbe):
    """The linear head of the transfer protocol, on frozen features.

    The published head: SGD with momentum 0.9, learning rate 0.4 with a cosine
    over 30 epochs, weight decay 5e-4, batches of 512, features as they are.
    Published is also ``select='best'``, the epoch of the best test accuracy;
    by default the epoch is chosen on a held-out part of the training data.
    Batch normalization keeps the statistics of the source; see
    :class:`DriftingTransfer` for the published way.

    Args:
        protocol (str): Defaults to 'transfer'.
        select (str): 'held_out', 'last' or 'best'. Defaults to 'held_out'.
        **kwargs: See :class:`~mmlocal.analysis.linear_probe.Probe`.
    """

    name = 'transfer'

    def __init__(
        self,
        protocol: str = 'transfer',
        select: str = 'held_out',
        **kwargs: Any,
    ):
        super().__init__(protocol, select=select, **kwargs)
        self.bn_mode = 'frozen'


class DriftingTransfer:
    """The published transfer probe: the network is in training mode.

    Only the head learns, but batches are normalized by their own statistics,
    and the running ones, which the test uses, drift to the target; dropout is
    on. The network runs in each step; its weights, statistics and mode are
    afterwards as before.

    Args:
        select (str): 'held_out', 'last' or 'best' (published). Defaults to
            'held_out', which trains twice.
        holdout (float): Held-out part of the training data. Defaults to 0.2.
        num_images (int, optional): Of the training data, all classes alike.
            By default all.
        seed (int): Defaults to 0.
        **setting: Changes of the head's protocol, see
            :class:`~mmlocal.analysis.head_setting.HeadSetting`.
    """

    name = 'transfer'

    def __init__(
        self,
        select: str = 'held_out',
        holdout: float = 0.2,
        num_images: int | None = None,
        seed: int = 0,
        **setting: Any,
    ):
        self.head = HeadSetting.of('transfer', select=select, **setting)
        if self.head.optimizer == 'lbfgs' or self.head.standardizes:
            raise ValueError(
                "bn_mode='batch' trains the head in mini-batches on features "
                "as they are: write optimizer='sgd' or 'adam', and no "
                'standardize.'
            )
        self.holdout = holdout
        self.num_images = num_images
        self.seed = seed

    def settings(self) -> dict[str, Any]:
        """What the values depend on."""
        return {**vars(self), 'bn_mode': 'batch', 'head': asdict(self.head)}

    def measure(self, model: nn.Module, taps: Taps, source: Source) -> Values:
        """Train and test a head on the pooled last output of a backbone.

        Args:
            model (nn.Module): With the data preprocessor of the target.
            taps (Taps): Of one module.
            source (Source): The target data.

        Returns:
            dict: As of :class:`TransferProbe`, without ``train_accuracy``.
        """
        modes = [(module, module.training) for module in model.modules()]
        head = NetworkHead(
            model, taps, source, self.num_images, self.head, self.seed
        )
        try:
            with kept_random_state():
                torch.default_generator.manual_seed(self.seed)
                chosen = train_and_read(
                    head,
                    self.head,
                    len(head.rows),
                    parts=lambda: hold_out(
                        len(head.rows), self.holdout, self.seed, head.labels
                    ),
                    read=lambda: {'accuracy': head.test()},
                )
        finally:
            head.reset()
            for module, training in modes:
                module.training = training
        row = reported(chosen, self.head)
        return {key: [value] for key, value in row.items()}


class NetworkHead(TrainedHead):
    """A linear head behind a network in training mode.

    Args:
        model (nn.Module): Runs in training mode; only buffers change.
        taps (Taps): Of one module.
        source (Source): Images.
        num_images (int, optional): Of the training data.
        setting (HeadSetting): With ``optimizer`` 'adam' or 'sgd'.
        seed (int): Of initialisation and order.

    Attributes:
        rows (list[int]): Training images.
        labels (Tensor): Their classes.
    """

    def __init__(
        self,
        model: nn.Module,
        taps: Taps,
        source: Source,
        num_images: int | None,
        setting: HeadSetting,
        seed: int,
    ):
        self.model = model
        self.taps = taps
        self.setting = setting
        self.seed = seed
        self.batch_size = source.batch_size
        self.train, self.val = map(source.dataset, ('train', 'val'))
        self.rows = choose(self.train, num_images, even=False)
        self.labels = torch.from_numpy(labels_of(self.train)[self.rows])
        classes = self.train.metainfo.get('classes')
        self.num_classes = len(classes or self.labels.unique())
        self.start = deepcopy(dict(model.named_buffers()))

    def epochs(
        self, rows: Tensor, lr: float | None, weight_decay: float
    ) -> Iterator[None]:
        self.reset()
        first = self._features(self.train, self.rows[:1])[0]
        head = SteppedHead(
            first.shape[1], self.num_classes, self.setting, self.seed
        )
        head.start(lr, weight_decay, first.device)
        self.layer = head.layer
        for batches in head.orders(len(rows)):
            self.model.train()
            for batch in batches:
                images = [self.rows[row] for row in rows[batch]]
                head.step(*self._features(self.train, images, True))
            yield

    def reset(self) -> None:
        """Take the network's statistics back to those of the source."""
        for name, buffer in self.model.named_buffers():
            buffer.copy_(self.start[name])

    def score(self, rows: Tensor) -> float:
        """Top-1 accuracy, in percent."""
        return self._accuracy(self.train, [self.rows[row] for row in rows])

    def test(self) -> float:
        """Top-1 accuracy on the test data, in percent."""
        return self._accuracy(self.val, list(range(len(self.val))))

    @torch.no_grad()
    def _accuracy(self, dataset: Any, images: list[int]) -> float:
        right = 0
        for first in range(0, len(images), self.batch_size):
            part = images[first : first + self.batch_size]
            feats, labels = self._features(dataset, part)
            right += (self.layer(feats).argmax(1) == labels).sum().item()
        return 100 * right / len(images)

    @torch.no_grad()
    def _features(
        self, dataset: Any, images: list[int], training: bool = False
    ) -> tuple[Tensor, Tensor]:
        """(n, C), by the network in either mode, and classes (n,)."""
        batch = pseudo_collate([dataset[index] for index in images])
        data = self.model.data_preprocessor(batch, False)
        inputs = data['inputs']

        def read(feat: Tensor) -> Tensor:
            return pooled(feat, inputs).float()

        if training:
            (feats,) = self.taps(inputs, read)
        else:
            with plain_eval(self.model):
                (feats,) = self.taps(inputs, read)
        return feats, class_labels(data['data_samples']).to(feats.device)
