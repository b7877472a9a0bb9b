"""Greedy local learning: the task loss alone at each cut."""

from __future__ import annotations

from torch import Tensor

from mmlocal.registry import MODELS

from .base import Boundary
from .classifiers import CIFAR_NETS, NETS, PIXEL_NETS, build_net
from .layers import BN, kaiming_convs
from .supervised import SupervisedHead


@MODELS.register_module()
class GreedyHead(SupervisedHead):
    """Greedy supervised learning, and the task term of InfoPro.

    Args:
        boundary (Boundary): Where the head sits.
        net (str): The auxiliary net, see :mod:`.classifiers`: ``linear``, or
            ``0c1f``, ``0c2f``, ``1c1f``, ``1c2f``, ``1c3f``, ``2c2f``,
            ``imagenet`` and ``segmentation`` of InfoPro, or
            ``segmentation_lean``. ``linear`` takes the mean over tokens or
            a sequence, the others see tokens on their grid. Defaults to
            'linear'.
        loss (str): ``softmax`` cross-entropy (of images, or, with the
            ``segmentation`` nets, of pixels), or ``contrast``, the
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
        init_cfg (dict | list[dict], optional): Initialization of mmengine,
            on top of the published one (He for convolutions; torch's default
            otherwise and for the ``segmentation`` nets).

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
        init_cfg: dict | list[dict] | None = None,
    ):
        _check(net, loss, widen)
        super().__init__(
            boundary,
            num_classes,
            loss,
            feature_dim,
            temperature,
            ignore_index if net in PIXEL_NETS else None,
            init_cfg,
        )
        self.net_name = net
        self.net = build_net(
            net,
            boundary,
            self.out_features,
            norm_cfg,
            widen=widen,
            feature_dim=feature_dim,
        )

    def init_weights(self) -> None:
        """Initialize as published; ``init_cfg`` comes after."""
        if not self.is_init and self.net_name not in PIXEL_NETS:
            kaiming_convs(self.net)
        super().init_weights()

    def forward(self, feat: Tensor, inputs: Tensor) -> Tensor:
        """As of any supervised head; ``linear`` reads tokens as they are."""
        if self.net_name == 'linear':
            return self.net(feat)
        return super().forward(feat, inputs)


def _check(net: str, loss: str, widen: float) -> None:
    if net not in NETS:
        raise ValueError(
            f'local_heads.net={net!r} is unknown: write one of {NETS} '
            '(aux_net in InfoProHead); cnn, mlp and mlp-sr are nets of '
            "type='mmlocal.DGLHead'"
        )
    if net in PIXEL_NETS and loss == 'contrast':
        raise ValueError(
            f'local_heads: net={net!r} classifies pixels, and the '
            "contrastive loss needs one embedding an image: write 'softmax' "
            'for loss (task in InfoProHead), or another net (aux_net)'
        )
    if widen != 1 and net not in CIFAR_NETS:
        raise ValueError(
            f'local_heads.widen={widen} scales the nets {CIFAR_NETS} only, '
            f'not {net!r}: remove widen or write one of them'
        )
