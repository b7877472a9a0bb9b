"""What local heads that learn the labels have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..losses import SupConLoss, cell_accuracy, imagewise_cross_entropy
from .base import Boundary, LocalHead
from .layers import upcast
from .targets import (
    check_labels,
    class_labels,
    labels_of_views,
    pixel_labels,
)


class SupervisedHead(LocalHead):
    """Trains a module for the task, through a net of its own.

    A subclass builds the net and assigns it to ``net``. In a batch of several
    views of each image every view counts.

    Args:
        boundary (Boundary): Where the head sits.
        num_classes (int, optional): That of the model's own head. Needed
            for ``softmax``.
        loss (str): ``softmax`` cross-entropy, or ``contrast``, the
            supervised contrastive loss. Defaults to 'softmax'.
        feature_dim (int): Size of the embedding in ``contrast``. Defaults
            to 128.
        temperature (float): Of the contrastive loss. Defaults to 0.07.
        base_temperature (float, optional): Of the contrastive loss. Defaults
            to ``temperature``.
        ignore_index (int, optional): Pixels are classified, not images, and
            those with this label do not count.
        init_cfg (dict | list[dict], optional): Initialization of mmengine.

    Attributes:
        net (nn.Module): From (N, C, h, w) to (N, out_features), or, where
            pixels are classified, (N, out_features, h, w).
        out_features (int): What the net returns, ``num_classes`` logits or
            an embedding of ``feature_dim``.

    Raises:
        ValueError: If an argument is not one of these.
    """

    net: nn.Module

    def __init__(
        self,
        boundary: Boundary,
        num_classes: int | None = None,
        loss: str = 'softmax',
        feature_dim: int = 128,
        temperature: float = 0.07,
        ignore_index: int | None = None,
        init_cfg: dict | list[dict] | None = None,
        base_temperature: float | None = None,
    ):
        super().__init__(boundary, init_cfg)
        _check(loss, num_classes, feature_dim)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.contrast = None
        if loss == 'contrast':
            self.contrast = SupConLoss(temperature, base_temperature)
        self.out_features = feature_dim if self.contrast else num_classes
        self._labels_checked = False

    def forward(self, feat: Tensor, inputs: Tensor) -> Tensor:
        """The net's output: logits, or an embedding that is not normalized.

        Args:
            feat (Tensor): (N, C, h, w) or (N, L, C).
            inputs (Tensor): Images (N, C, H, W).

        Returns:
            Tensor: (N, out_features), or (N, out_features, h, w) where
            pixels are classified.
        """
        return self.net(self.to_map(feat, inputs))

    def loss(
        self, feat: Tensor, inputs: Tensor, data_samples: Sequence[Any]
    ) -> dict[str, Tensor]:
        """Compute the task loss.

        Args:
            feat (Tensor): The module's output, (N, C, h, w) or (N, L, C).
            inputs (Tensor): Preprocessed images (N, C, H, W).
            data_samples (Sequence): Annotations of mmpretrain, or of mmseg
                where pixels are classified.

        Returns:
            dict[str, Tensor]: ``loss_task``, and without ``contrast`` the
            accuracy of images, or of the pixels in the middle of the cells
            of the logits, ``acc``, in percent.

        Raises:
            ValueError: As of :meth:`labels`.
        """
        labels = self.labels(data_samples)
        return self.task_loss(self(feat, inputs), labels)

    def labels(self, data_samples: Sequence[Any]) -> Tensor:
        """Of images or pixels.

        Raises:
            ValueError: If a label is no class. On an accelerator only the
                first batch is looked at, so as not to wait for the device
                in each iteration.
        """
        pixelwise = self.ignore_index is not None
        labels = (pixel_labels if pixelwise else class_labels)(data_samples)
        if self.contrast is None and not (
            self._labels_checked and labels.device.type != 'cpu'
        ):
            check_labels(labels, self.num_classes, self.ignore_index)
            self._labels_checked = True
        return labels

    def task_loss(self, output: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """What :meth:`loss` returns, from what the net does."""
        output = upcast(output)
        if self.ignore_index is not None:
            return _pixel_loss(output, labels, self.ignore_index)
        labels = labels_of_views(labels, len(output))
        if self.contrast is not None:
            embedding = F.normalize(output, dim=1)
            return {'loss_task': self.contrast(embedding, labels)}
        return _image_loss(output, labels)

    def predict(self, feat: Tensor, inputs: Tensor) -> dict[str, Any]:
        """Logits of the classes; {} for the contrastive loss."""
        if self.contrast is not None:
            return {}
        return {'logits': self(feat, inputs)}


def _image_loss(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Cross-entropy with class indices (N, ) or soft labels (N, C)."""
    soft = labels.is_floating_point()
    target = labels.to(logits.dtype) if soft else labels
    hard = labels.argmax(1) if soft else labels
    correct = logits.detach().argmax(1) == hard
    return {
        'loss_task': F.cross_entropy(logits, target),
        'acc': 100 * correct.float().mean(),
    }


def _pixel_loss(
    logits: Tensor, labels: Tensor, ignore_index: int
) -> dict[str, Tensor]:
    """Cross-entropy at the labels' size, mean over valid pixels."""
    # Not reduction='mean', which is NaN where no pixel is valid.
    count = (labels != ignore_index).sum().clamp(min=1)
    losses = imagewise_cross_entropy(logits, labels, ignore_index, True)
    return {
        'loss_task': losses.sum() / count,
        'acc': cell_accuracy(logits, labels, ignore_index, True),
    }


def _check(loss: str, num_classes: int | None, feature_dim: int) -> None:
    if loss not in ('softmax', 'contrast'):
        raise ValueError(
            f"local_heads.loss={loss!r} is unknown: write 'softmax' or "
            "'contrast' (task in InfoProHead)"
        )
    if loss == 'softmax' and num_classes is None:
        raise ValueError(
            'local_heads: write num_classes=... , the number of classes of '
            "the model's own head"
        )
    if feature_dim <= 0:
        raise ValueError(
            f'local_heads.feature_dim={feature_dim} must be above 0; 128 is '
            'the published value'
        )
