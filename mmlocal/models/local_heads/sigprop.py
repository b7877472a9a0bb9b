"""Signal Propagation: labels go through the network beside the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmlocal.registry import MODELS
from mmlocal.step import LocalStep, current_step

from .base import Boundary, LocalHead
from .layers import upcast
from .targets import check_labels, class_labels

TARGETS = ('soft', 'hard', 'official')
SIGNAL = 'sigprop.signal'


@MODELS.register_module()
class SigPropHead(LocalHead):
    r"""Trains a module to treat an image as it treats the image's label.

    `Signal Propagation <https://arxiv.org/abs/2204.01723>`_, as studied in
    `E2E-info <https://arxiv.org/abs/2402.09050>`_. Beside its image d, each
    sample has a signal s, at first its one-hot label. The signal goes through
    the same modules as the image; instead of the first one, through a linear
    layer, LayerNorm and ReLU to the shape of what that gives of the image.
    With the similarity of all images i to all signals j of the batch, a
    module f has the loss

    .. math::
        L = -\frac{1}{B} \sum_{ij} T_{ij} \log \mathrm{softmax}_j\,
            \mathrm{sim}(f(d_i), f(s_j)),

    where the target T comes from the similarity of the signals that the
    module takes in, ``sim(s_i, s_j)``:

    ============ ==========================================================
    ``soft``     :math:`\mathrm{softmax}_j`
    ``hard``     1 for the ``topk`` most similar signals of i, else 0
    ``official`` as ``hard``, with the similarity of the authors of Signal
                 Propagation
    ============ ==========================================================

    Similar is, with the n units of a feature, :math:`a \cdot b / \sqrt n`; in
    ``official`` the mean over positions of the products of channels.

    Classes are predicted by the model's own head, which reads what the last
    module gives (``local_end=True``), and by each local head: the class whose
    signal is most similar.

    Mixed precision, accumulation, clipping and several ranks work; each rank
    compares the samples of its own batch. Training one module after another
    is refused: a signal has to come through the modules before. A module with
    BatchNorm sees the batch and its signals one after the other, and its
    running statistics are of both.

    Args:
        boundary (Boundary): Where the head sits, a map.
        num_classes (int): That of the model's own head.
        image_size (int): Side of the images, which together with the stride
            gives the shape of the signal. Defaults to 32, that of CIFAR.
        target (str): One of these. Defaults to 'soft'.
        topk (int): How many signals are right in ``hard`` and ``official``,
            that of i itself included. Defaults to 6, as published.
        cap_by_class (bool): Take no more of them than there are samples of
            the class in the batch; 6 of 128 samples in 100 classes are wrong
            for the most part. False as published. Defaults to True.
        single_forward (bool): Pass on what the loss was computed of. False
            runs image and signal through the module a second time for that,
            as published, so that masks of dropout are others, and running
            statistics move four times in a batch. Defaults to True.
        init_cfg (dict, optional): Initialization of mmengine.

    Raises:
        ValueError: If an argument is none of these, the feature is no map,
            or, in training, the batch has less than ``topk`` samples
            (without ``cap_by_class``) or the signal has not come.
    """

    runs_module = True

    def __init__(
        self,
        boundary: Boundary,
        num_classes: int,
        image_size: int = 32,
        target: str = 'soft',
        topk: int = 6,
        cap_by_class: bool = True,
        single_forward: bool = True,
        init_cfg: dict | None = None,
    ):
        super().__init__(boundary, init_cfg)
        _check(boundary, target, topk)
        self.num_classes = num_classes
        self.target = target
        self.topk = topk
        self.cap_by_class = cap_by_class
        self.single_forward = single_forward
        self.project = None
        self.needs_store = boundary.index > 0
        if not self.needs_store:
            size = boundary.feature_size((image_size, image_size))
            self.project = SignalInput(num_classes, boundary.channels, size)

    def loss(
        self, feat: Tensor, inputs: Tensor, data_samples: Sequence[Any]
    ) -> dict[str, Tensor]:
        """Compare images and signals.

        Args:
            feat (Tensor): The module's output (B, C, h, w).
            inputs (Tensor): Preprocessed images; not read.
            data_samples (Sequence): Annotations of mmpretrain.

        Returns:
            dict[str, Tensor]: ``loss_signal``; ``acc``, the percentage of
            images whose nearest signal is of their class.
        """
        step, labels = current_step(), class_labels(data_samples)
        if labels.ndim > 1:
            raise ValueError(
                'Signal Propagation compares samples of one class each, and '
                'Mixup and CutMix give several: remove batch_augments (or '
                'to_onehot) of the data preprocessor.'
            )
        if self.project is not None:
            check_labels(labels, self.num_classes)
        before = self._signal(step, F.one_hot(labels, self.num_classes))
        signal = self._run(step, before)
        if signal.shape != feat.shape:
            raise ValueError(
                f'local_heads: a signal is {tuple(signal.shape[1:])} where '
                f'an image is {tuple(feat.shape[1:])}: write image_size=... '
                'as in the data.'
            )
        step.store[SIGNAL] = before
        if self.single_forward:
            step.store[SIGNAL] = signal.detach()
        found = self.similarity(feat, signal)
        target = self._target(before, labels)
        right = labels[found.detach().argmax(1)] == labels
        return {
            'loss_signal': -(target * found.log_softmax(1)).sum(1).mean(),
            'acc': 100 * right.float().mean(),
        }

    def pass_on(self, feat: Tensor) -> Tensor:
        """The image; its signal is in the store."""
        if self.single_forward:
            return feat.detach()
        step = current_step()
        with torch.no_grad():
            feat = step.run_module(self.boundary.index, step.module_input)
            step.store[SIGNAL] = self._run(step, step.store[SIGNAL])
        return feat

    def predict(self, feat: Tensor, inputs: Tensor) -> dict[str, Any]:
        """The similarity to the signal of each class.

        Returns:
            dict: ``logits`` (N, num_classes).
        """
        step = current_step()
        classes = torch.eye(self.num_classes, device=feat.device)
        signal = self._run(step, self._signal(step, classes))
        step.store[SIGNAL] = signal
        return {'logits': self.similarity(feat, signal)}

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """Of all rows to all rows.

        Args:
            a (Tensor): (N, C, h, w), or (N, C).
            b (Tensor): (M, C, h, w), or (M, C).

        Returns:
            Tensor: (N, M), float32 at least.
        """
        positions = a[0, 0].numel()
        with torch.autocast(a.device.type, enabled=False):
            a, b = upcast(a).flatten(1), upcast(b).flatten(1)
            official = self.target == 'official'
            return a @ b.T / (positions if official else a.shape[1] ** 0.5)

    def _target(self, signal: Tensor, labels: Tensor) -> Tensor:
        """T, from the signals that the module has taken in."""
        alike = self.similarity(signal, signal)
        if self.target == 'soft':
            return alike.softmax(1)
        count = min(self.topk, len(alike)) if self.cap_by_class else self.topk
        if count > len(alike):
            raise ValueError(
                f'local_heads.topk={count} of {len(alike)} samples in a '
                'batch: raise train_dataloader.batch_size (drop_last=True if '
                'only the last batch is that small), or write '
                'cap_by_class=True.'
            )
        right = torch.ones_like(alike[:, :count])
        if self.cap_by_class:
            members = (labels[:, None] == labels).sum(1, keepdim=True)
            order = torch.arange(count, device=labels.device)
            right = (order < members).to(right)
        places = alike.topk(count, 1).indices
        return torch.zeros_like(alike).scatter_(1, places, right)

    def _signal(self, step: LocalStep, labels: Tensor) -> Tensor:
        """What the module takes in beside the images."""
        if self.project is not None:
            return upcast(labels)
        if SIGNAL not in step.store:
            raise ValueError(
                'local_heads: SigPropHead gets its signal from the modules '
                'before, which have given none: write a SigPropHead for each '
                'of them.'
            )
        return step.store[SIGNAL]

    def _run(self, step: LocalStep, signal: Tensor) -> Tensor:
        if self.project is not None:
            return self.project(signal)
        return step.run_module(self.boundary.index, signal)


class SignalInput(nn.Module):
    """One-hot labels to the shape of the first module's output.

    Args:
        num_classes (int): Length of a label.
        channels (int): C of the output.
        size (tuple[int, int]): Its height and width.
    """

    def __init__(self, num_classes: int, channels: int, size: tuple[int, int]):
        super().__init__()
        self.shape = (channels, *size)
        units = channels * size[0] * size[1]
        self.fc = nn.Linear(num_classes, units, bias=False)
        self.norm = nn.LayerNorm(units)

    def forward(self, labels: Tensor) -> Tensor:
        """(N, num_classes) to (N, C, h, w)."""
        signal = self.norm(self.fc(labels)).relu()
        return signal.unflatten(1, self.shape)


def _check(boundary: Boundary, target: str, topk: int) -> None:
    if target not in TARGETS:
        raise ValueError(
            f'local_heads.target={target!r} is unknown: write one of '
            f'{TARGETS}.'
        )
    if topk < 1:
        raise ValueError(
            f'local_heads.topk={topk} must be 1 or more; 6 is the published '
            'value.'
        )
    if boundary.layout != 'map':
        raise ValueError(
            f'boundary {boundary.name!r} carries {boundary.layout}, and a '
            'signal has the shape of a map (N, C, H, W): choose a backbone '
            'whose features are maps.'
        )
