"""A linear head, trained on features."""

from __future__ import annotations

import math
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .head_setting import HeadSetting
from .seeded import linear, seeded


class TrainedHead(metaclass=ABCMeta):
    """A head that can be trained anew, epoch by epoch, and asked meanwhile."""

    @abstractmethod
    def epochs(
        self, rows: Tensor, lr: float | None, weight_decay: float
    ) -> Iterator[None]:
        """Start anew, and train; hands over after every epoch.

        Args:
            rows (Tensor): Indices of the training samples.
            lr (float, optional): Learning rate, to start with.
            weight_decay (float): Weight decay.
        """

    @abstractmethod
    def score(self, rows: Tensor) -> float:
        """How good it now is on training samples; higher is better."""


class Chosen(NamedTuple):
    """What a probe was read at, and gave.

    Attributes:
        lr (float | None): Learning rate.
        weight_decay (float): Weight decay.
        epoch (int): From 1.
        values (dict): What was measured then.
    """

    lr: float | None
    weight_decay: float
    epoch: int
    values: dict


def train_and_read(
    head: TrainedHead,
    setting: HeadSetting,
    num: int,
    parts: Callable[[], tuple[Tensor, Tensor]],
    read: Callable[[], dict],
) -> Chosen:
    """Choose a setting, train with it, and read.

    Args:
        head (TrainedHead): Is trained when this returns.
        setting (HeadSetting): Says how.
        num (int): Number of training samples.
        parts (Callable): Gives the rows to train on and those held out,
            where there is something to choose.
        read (Callable): Measures the head on the test data. It is called
            once; with ``select='best'``, after each epoch, and the epoch
            whose first value is highest is taken.
    """
    lr, decay = setting.pairs[0]
    until = setting.epochs
    if setting.chooses:
        lr, decay, until = _choose(head, setting, *parts())
    best = None
    training = head.epochs(torch.arange(num), lr, decay)
    for epoch, _ in enumerate(training, 1):
        if epoch == until or setting.select == 'best':
            now = Chosen(lr, decay, epoch, read())
            if best is None or _first(now) > _first(best):
                best = now
        if epoch == until:
            break
    training.close()
    return best


class FeatureHead(TrainedHead):
    """On features that are there; the network is not run.

    Args:
        feats (Tensor): (N, C), float32.
        labels (Tensor): (N,), int64.
        num_classes (int): As many outputs.
        setting (HeadSetting): How it is trained.
        seed (int): Of initialisation and order.

    Attributes:
        weight (Tensor): (num_classes, C), for features as they are given,
            not standardized ones.
        bias (Tensor): (num_classes,).
    """

    def __init__(
        self,
        feats: Tensor,
        labels: Tensor,
        num_classes: int,
        setting: HeadSetting,
        seed: int,
    ):
        self.feats = feats
        self.labels = labels
        self.num_classes = num_classes
        self.setting = setting
        self.seed = seed

    def epochs(
        self, rows: Tensor, lr: float | None, weight_decay: float
    ) -> Iterator[None]:
        rows = rows.to(self.feats.device)
        feats, labels = self.feats[rows], self.labels[rows]
        mean, std = feats.new_zeros(()), feats.new_ones(())
        if self.setting.standardizes:
            std, mean = torch.std_mean(feats, 0, correction=0)
            std = std.where(std > 0, 1)
            feats = (feats - mean) / std
        if self.setting.optimizer == 'lbfgs':
            layer = _lbfgs(feats, labels, self.num_classes, weight_decay)
            self._keep(layer, mean, std)
            yield
            return
        head = SteppedHead(
            feats.shape[1], self.num_classes, self.setting, self.seed
        )
        head.start(lr, weight_decay, feats.device)
        for order in head.orders(len(feats)):
            for batch in order:
                head.step(feats[batch], labels[batch])
            self._keep(head.layer, mean, std)
            yield

    def score(self, rows: Tensor) -> float:
        """Top-1 accuracy, in percent."""
        rows = rows.to(self.feats.device)
        return self.accuracy(self.feats[rows], self.labels[rows])

    def logits(self, feats: Tensor) -> Tensor:
        """(n, num_classes), of features (n, C)."""
        return F.linear(feats, self.weight, self.bias)

    def accuracy(self, feats: Tensor, labels: Tensor) -> float:
        """Top-1 accuracy on some features, in percent."""
        right = self.logits(feats).argmax(1) == labels
        return 100 * right.double().mean().item()

    def _keep(self, layer: nn.Linear, mean: Tensor, std: Tensor) -> None:
        """Of standardized features; kept for those that are not."""
        self.weight = layer.weight.detach() / std
        shift = mean.expand(self.weight.shape[1])
        self.bias = layer.bias.detach() - self.weight @ shift


class SteppedHead:
    """A linear layer that is trained in mini-batches.

    Args:
        dim (int): Features in.
        num_classes (int): Classes.
        setting (HeadSetting): With ``optimizer`` 'adam' or 'sgd'.
        seed (int): Of initialisation and order.

    Attributes:
        layer (nn.Linear): As it now is.
    """

    def __init__(
        self, dim: int, num_classes: int, setting: HeadSetting, seed: int
    ):
        self.shape = dim, num_classes
        self.setting = setting
        self.seed = seed

    def start(
        self, lr: float, weight_decay: float, device: torch.device
    ) -> None:
        """Anew, from the seed."""
        generator = seeded(self.seed, 0)
        layer = linear(*self.shape, generator, self.setting.init)
        self.layer = layer.to(device)
        self.lr = lr
        kwargs = {'lr': lr, 'weight_decay': weight_decay}
        if self.setting.optimizer == 'sgd':
            self.optimizer = torch.optim.SGD(
                self.layer.parameters(),
                momentum=self.setting.momentum,
                **kwargs,
            )
        else:
            self.optimizer = torch.optim.Adam(
                self.layer.parameters(), **kwargs
            )

    def orders(self, num: int) -> Iterator[tuple[Tensor, ...]]:
        """For each epoch, sets the learning rate and gives the batches.

        Args:
            num (int): Number of training samples.

        Yields:
            tuple[Tensor, ...]: Indices, of a batch each.
        """
        setting = self.setting
        generator = seeded(self.seed, 1)
        for epoch in range(setting.epochs):
            factor = 1.0
            if setting.schedule == 'cosine':
                factor = (1 + math.cos(math.pi * epoch / setting.epochs)) / 2
            for group in self.optimizer.param_groups:
                group['lr'] = self.lr * factor
            order = torch.randperm(num, generator=generator)
            yield order.split(setting.batch_size)

    @torch.enable_grad()
    def step(self, feats: Tensor, labels: Tensor) -> None:
        """One step of cross-entropy, on features (n, C)."""
        loss = F.cross_entropy(self.layer(feats), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def _choose(
    head: TrainedHead, setting: HeadSetting, fit: Tensor, held: Tensor
) -> tuple[float | None, float, int]:
    """The best on held-out rows; of equals, the first that was tried."""
    best, chosen = -math.inf, None
    for lr, decay in setting.pairs:
        for epoch, _ in enumerate(head.epochs(fit, lr, decay), 1):
            if epoch == setting.epochs or setting.select == 'held_out':
                score = head.score(held)
                if chosen is None or score > best:
                    best, chosen = score, (lr, decay, epoch)
    return chosen


def _first(chosen: Chosen) -> float:
    return next(iter(chosen.values.values()))


def _lbfgs(
    feats: Tensor, labels: Tensor, num_classes: int, weight_decay: float
) -> nn.Linear:
    """Multinomial logistic regression, from 0 to the minimum."""
    layer = nn.utils.skip_init(
        nn.Linear, feats.shape[1], num_classes, device=feats.device
    )
    for param in layer.parameters():
        nn.init.zeros_(param)
    optimizer = torch.optim.LBFGS(
        layer.parameters(),
        max_iter=200,
        tolerance_grad=1e-5,
        tolerance_change=1e-8,
        line_search_fn='strong_wolfe',
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(layer(feats), labels)
        loss = loss + weight_decay / 2 * layer.weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return layer
