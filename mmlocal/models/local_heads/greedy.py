"""Greedy local learning: the task loss alone at each cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from mmlocal.registry import MODELS

from ..losses import SupConLoss
from .base import Boundary, LocalHead
from .classifiers import CIFAR_NETS, NETS, build_net
from .layers import BN, kaiming_convs, upcast
from .targets import check_labels, class_labels, pixel_labels


@MODELS.register_module()
class GreedyHead(LocalHead):
    """Trains a module for the task, through an auxiliary net.

    With ``net='0c1f'`` or ``'linear'`` this is greedy supervised learning,
    with ``'cnn'``, ``'mlp'`` or ``'mlp-sr'``
    `DGL <https://arxiv.org/abs/1901.08164>`_; it is also the task term of
    :class:`InfoProHead`.

    Args:
        boundary (Boundary): Where the head sits.
        net (str): The auxiliary net, see :mod:`.classifiers`: ``linear``;
            ``0c1f``, ``0c2f``, ``1c1f``, ``1c2f``, ``1c3f``, ``2c2f``,
            ``imagenet`` and ``segmentation`` of InfoPro; ``cnn``, ``mlp`` and
            ``mlp-sr`` of DGL. ``linear`` takes the mean over tokens, the
            others see them on their grid. Defaults to 'linear'.
        loss (str): ``softmax`` cross-entropy (of images, or, with
            ``net='segmentation'``, of pixels), or ``contrast``, the
            supervised contrastive loss. Defaults to 'softmax'.
        num_classes (int, optional): That of the model's own head. Needed
            for ``softmax``.
        feature_dim (int): Size of the embedding in ``contrast``, and width
            of the CIFAR nets' hidden linear layers. Defaults to 128.
        widen (float): Factor on the hidden widths of the CIFAR nets
            (XcYf). Defaults to 1.
        temperature (float): Of the contrastive loss. Defaults to 0.07.
        ignore_index (int): Pixels with this label do not count. Defaults
            to 255.
        norm_cfg (dict): Norm layer after convolutions. Defaults to
            ``dict(type='BN')``.
        init_cfg (dict, optional): Initialization of mmengine, on top of the
            published one (He for convolutions; torch's default otherwise and
            for ``segmentation``).

    Raises:
        ValueError: If an argument is not one of these.
    """

    def __init__(
        self,
        boundary: Boundary,
        net: str = 'linear',
        loss: str = 'softmax',
        num_classes: int | None = None,
        feature_dim: int = 128,
        widen: float = 1.0,
        temperature: float = 0.07,
        ignore_index: int = 255,
        norm_cfg: dict = BN,
        init_cfg: dict | None = None,
    ):
        super().__init__(boundary, init_cfg)
        _check(net, loss, num_classes, feature_dim, widen)
        self.net_name = net
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.contrast = SupConLoss(temperature) if loss == 'contrast' else None
        self.net = build_net(
            net,
            boundary,
            feature_dim if loss == 'contrast' else num_classes,
            norm_cfg,
            widen=widen,
            feature_dim=feature_dim,
        )
        self._labels_checked = False

    def init_weights(self) -> None:
        """Initialize as published; ``init_cfg`` comes after."""
        if not self.is_init and self.net_name != 'segmentation':
            kaiming_convs(self.net)
        super().init_weights()

    def forward(self, feat: Tensor, inputs: Tensor) -> Tensor:
        """The net's output: logits, or an embedding that is not normalized.

        Args:
            feat (Tensor): (N, C, h, w) or (N, L, C).
            inputs (Tensor): Images (N, 3, H, W).

        Returns:
            Tensor: (N, num_classes) or (N, feature_dim), or
            (N, num_classes, h, w) of ``segmentation``.
        """
        if self.net_name != 'linear':
            feat = self.to_map(feat, inputs)
        return self.net(feat)

    def loss(
        self, feat: Tensor, inputs: Tensor, data_samples: Sequence[Any]
    ) -> dict[str, Tensor]:
        """Compute the task loss.

        Args:
            feat (Tensor): The module's output, (N, C, h, w) or (N, L, C).
            inputs (Tensor): Preprocessed images (N, 3, H, W).
            data_samples (Sequence): Annotations of mmpretrain, or of mmseg
                for ``segmentation``.

        Returns:
            dict[str, Tensor]: ``loss_task``, and without ``contrast`` the
            accuracy of images or pixels, ``acc``, in percent.

        Raises:
            ValueError: If a label is no class. On an accelerator only the
                first batch is looked at, so as not to wait for the device
                in each iteration.
        """
        pixelwise = self.net_name == 'segmentation'
        ignore_index = self.ignore_index if pixelwise else None
        labels = (pixel_labels if pixelwise else class_labels)(data_samples)
        if self.contrast is None and not (
            self._labels_checked and labels.device.type != 'cpu'
        ):
            check_labels(labels, self.num_classes, ignore_index)
            self._labels_checked = True
        output = upcast(self(feat, inputs))
        if self.contrast is not None:
            embedding = F.normalize(output, dim=1)
            return {'loss_task': self.contrast(embedding, labels)}
        if pixelwise:
            return _pixel_loss(output, labels, ignore_index)
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
    logits = F.interpolate(
        logits, labels.shape[-2:], mode='bilinear', align_corners=True
    )
    valid = labels != ignore_index
    # Not reduction='mean', which is NaN where no pixel is valid.
    count = valid.sum().clamp(min=1)
    total = F.cross_entropy(
        logits, labels, ignore_index=ignore_index, reduction='sum'
    )
    correct = (logits.detach().argmax(1) == labels) & valid
    return {'loss_task': total / count, 'acc': 100 * correct.sum() / count}


def _check(
    net: str,
    loss: str,
    num_classes: int | None,
    feature_dim: int,
    widen: float,
) -> None:
    if net not in NETS:
        raise ValueError(
            f'local_heads.net={net!r} is unknown: write one of {NETS} '
            '(aux_net in InfoProHead)'
        )
    if loss not in ('softmax', 'contrast'):
        raise ValueError(
            f"local_heads.loss={loss!r} is unknown: write 'softmax' or "
            "'contrast' (task in InfoProHead)"
        )
    if net == 'segmentation' and loss == 'contrast':
        raise ValueError(
            "local_heads: net='segmentation' classifies pixels, and the "
            "contrastive loss needs one embedding an image: write 'softmax' "
            'for loss (task in InfoProHead), or another net (aux_net)'
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
    if widen != 1 and net not in CIFAR_NETS:
        raise ValueError(
            f'local_heads.widen={widen} scales the nets {CIFAR_NETS} only, '
            f'not {net!r}: remove widen or write one of them'
        )
