"""mmseg's decode heads, with the loss of one image at a time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn

from .losses import cell_accuracy, imagewise_cross_entropy

# Of the name of a head in a config.
PREFIX = 'Imagewise'


def imagewise_head(name: str) -> type | None:
    """A decode head of mmseg that is an :class:`ImagewiseLoss` as well.

    ``type='mmlocal.ImagewiseASPPHead'`` in place of ``type='ASPPHead'`` is
    all that a config has to change; weights keep their names.

    Args:
        name (str): As ``ImagewiseASPPHead``.

    Returns:
        type | None: The class; None if mmseg has no such decode head.

    Raises:
        ValueError: If that head computes its loss in a way of its own.
    """
    if not name.startswith(PREFIX) or find_spec('mmseg') is None:
        return None
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead
    from mmseg.registry import MODELS

    stock = MODELS.module_dict.get(name.removeprefix(PREFIX))
    if not (isinstance(stock, type) and issubclass(stock, BaseDecodeHead)):
        return None
    return _with_imagewise_loss(stock, BaseDecodeHead)


def stock_type(kind: Any) -> Any:
    """The type of mmseg behind one of :func:`imagewise_head`."""
    prefix = f'mmlocal.{PREFIX}'
    if isinstance(kind, str) and kind.startswith(prefix):
        return f'mmseg.{kind.removeprefix(prefix)}'
    return kind


class ImagewiseLoss:
    """Decode head whose logits are resized for an image at a time.

    The loss is that of the stock head, bit for bit, and the gradients, too
    (see :func:`.imagewise_cross_entropy`). ``acc_seg`` is of the pixels in
    the middle of the cells of the logits, which are not resized for it.

    Args:
        args (Any): Those of the decode head, with one or several mmseg
            ``CrossEntropyLoss`` in ``loss_decode`` and no ``sampler``.
        kwargs (Any): The same, by name.

    Raises:
        ValueError: On another loss, sigmoid, mask or reduction, and on a
            sampler, which has to see all pixels at once.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        for problem in _problems(self):
            stock = type(self).__name__.removeprefix(PREFIX)
            raise ValueError(
                f'mmlocal.{type(self).__name__}: {problem}, or write '
                f'type={stock!r}'
            )

    def loss_by_feat(
        self, seg_logits: Tensor, batch_data_samples: list
    ) -> dict[str, Tensor]:
        """Compute the losses.

        Args:
            seg_logits (Tensor): (N, C, h, w).
            batch_data_samples (list): Annotations of mmseg.

        Returns:
            dict[str, Tensor]: By ``loss_name``, and ``acc_seg`` in percent.
        """
        labels = self._stack_batch_gt(batch_data_samples).squeeze(1)
        losses: dict[str, Tensor] = {}
        for loss in _losses(self):
            value = self._cross_entropy(loss, seg_logits, labels)
            name = loss.loss_name
            losses[name] = losses[name] + value if name in losses else value
        losses['acc_seg'] = cell_accuracy(
            seg_logits, labels, self.ignore_index, self.align_corners
        )
        return losses

    def _cross_entropy(
        self, loss: nn.Module, logits: Tensor, labels: Tensor
    ) -> Tensor:
        """What ``loss`` gives for the resized logits."""
        from mmseg.models.losses.utils import weight_reduce_loss

        weight = loss.class_weight
        if weight is not None:
            weight = logits.new_tensor(weight)
        losses = imagewise_cross_entropy(
            logits, labels, self.ignore_index, self.align_corners, weight
        )
        if weight is not None:
            count = weight[labels[labels != self.ignore_index]].sum()
        elif loss.avg_non_ignore:
            count = (labels != self.ignore_index).sum()
        else:
            count = labels.numel()
        return loss.loss_weight * weight_reduce_loss(losses, avg_factor=count)


@cache
def _with_imagewise_loss(stock: type, base: type) -> type:
    name = f'{PREFIX}{stock.__name__}'
    for method in ('loss', 'loss_by_feat'):
        if getattr(stock, method) is not getattr(base, method):
            raise ValueError(
                f'mmlocal.{name}: {stock.__name__} has a {method} of its '
                'own, which cannot be computed image by image: write '
                f'type={stock.__name__!r}'
            )
    doc = f':class:`{stock.__name__}` with an :class:`ImagewiseLoss`.'
    # Of mmseg: what is built in it is looked up there.
    names = {'__doc__': doc, '__module__': stock.__module__}
    return type(name, (ImagewiseLoss, stock), names)


def _losses(head: nn.Module) -> list[nn.Module]:
    given = head.loss_decode
    return [*given] if isinstance(given, nn.ModuleList) else [given]


def _problems(head: nn.Module) -> Iterator[str]:
    from mmseg.models.losses import CrossEntropyLoss

    if head.sampler is not None:
        yield (
            f'the sampler {type(head.sampler).__name__} chooses among the '
            'pixels of all images at once: remove it'
        )
    for loss in _losses(head):
        plain = type(loss) is CrossEntropyLoss and loss.reduction == 'mean'
        if not plain or loss.use_sigmoid or loss.use_mask:
            yield (
                f'loss_decode={loss!r} is not computed image by image: write '
                "loss_decode=dict(type='CrossEntropyLoss'), without "
                'use_sigmoid, use_mask and reduction'
            )
    if head.ignore_index is None:
        yield 'ignore_index=None has no cross-entropy: write a label'
