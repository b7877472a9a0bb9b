"""Layer-wise training: a loss for every block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mmlocal.registry import MODELS

from ..losses import SimilarityMatchingLoss
from .base import Boundary
from .projections import NETS, pixel_classifier, projection
from .regularizers import NHSICRegularizer
from .supervised import SupervisedHead
from .targets import labels_of_views

LOSSES = ('softmax', 'similarity', 'predsim', 'contrast')


@MODELS.register_module()
class LayerwiseHead(SupervisedHead):
    r"""The local head of layer-wise training.

    With ``boundaries=dict(type='mmlocal.EachBlock')`` and ``local_end=True``,
    every block of a network has one, and the model's own head reads the last
    block. The losses of `E2E-info <https://arxiv.org/abs/2402.09050>`_, and
    PredSim of `local error signals <https://arxiv.org/abs/1901.06656>`_:

    ``softmax``
        Cross-entropy of a classifier, ``linear`` or ``mlp``. Of the images,
        or with ``ignore_index`` of the pixels.
    ``similarity``
        :class:`SimilarityMatchingLoss` of a projection.
    ``predsim``
        :math:`(1 - \beta)` times the cross-entropy of a linear classifier
        plus :math:`\beta` times ``similarity``.
    ``contrast``
        :class:`SupConLoss` of a projection, ``linear``, ``mlp`` or
        ``identity``, meant for two views of each image.

    A classifier, and a projection that is compared by its values, pools to at
    most ``max_features`` of them, see :mod:`.projections`, for which the head
    must know the size of the images: ``input_shape`` of the backbone.

    Args:
        boundary (Boundary): Where the head sits. Tokens are seen on their
            grid.
        net (str, optional): Projection: ``linear``, ``mlp``, ``conv``,
            ``conv_2`` or ``identity``; behind a layer that gives vectors
            ``conv`` and ``conv_2`` are ``linear``. Defaults to 'conv' for
            ``predsim`` and 'linear' for others.
        loss (str): One of these. Defaults to 'softmax'.
        num_classes (int, optional): That of the model's own head. Needed
            for all losses but ``contrast``.
        target (str): Of ``similarity`` and ``predsim``: ``onehot`` or
            ``centered``. Defaults to 'onehot'.
        beta (float): Of ``predsim``, between 0 and 1. Defaults to 0.99.
        temperature (float): Of ``contrast``. Defaults to 0.1.
        base_temperature (float): Of ``contrast``. Defaults to 0.07.
        feature_dim (int, optional): Size of what linear projections give.
            Defaults to that of what they take in, as published.
        max_features (int): What linear layers take in at most. Defaults to
            2048.
        ignore_index (int, optional): Classify pixels, not images, at each
            place without pooling; those with this label do not count.
        regularizer (dict, optional): Arguments of :class:`NHSICRegularizer`,
            as ``dict(scope='local', weight=0.1)``. On the ``head`` it looks
            at the logits, or in the other losses at the projection.
        init_cfg (dict | list[dict], optional): Initialization of mmengine,
            on top of torch's default, which is the published one.

    Raises:
        ValueError: If an argument is not one of these, or they do not fit.
    """

    def __init__(
        self,
        boundary: Boundary,
        net: str | None = None,
        loss: str = 'softmax',
        num_classes: int | None = None,
        target: str = 'onehot',
        beta: float = 0.99,
        temperature: float = 0.1,
        base_temperature: float = 0.07,
        feature_dim: int | None = None,
        max_features: int = 2048,
        ignore_index: int | None = None,
        regularizer: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ):
        net = net or ('conv' if loss == 'predsim' else 'linear')
        _check(net, loss, boundary, beta, ignore_index)
        super().__init__(
            boundary,
            num_classes,
            loss if loss == 'contrast' else 'softmax',
            temperature=temperature,
            base_temperature=base_temperature,
            ignore_index=ignore_index,
            init_cfg=init_cfg,
        )
        # Logits, and what is compared.
        self.net = self.projection = self.similarity = None
        self.beta = {'softmax': 0.0, 'predsim': beta}.get(loss, 1.0)
        if ignore_index is not None:
            self.net = pixel_classifier(net, boundary, num_classes)
        elif loss in ('softmax', 'predsim'):
            kind = net if loss == 'softmax' else 'linear'
            self.net = projection(kind, boundary, num_classes, max_features)
        if loss != 'softmax':
            self.projection = projection(
                net,
                boundary,
                feature_dim,
                max_features,
                vector=loss == 'contrast',
            )
        if loss in ('similarity', 'predsim'):
            self.similarity = SimilarityMatchingLoss(num_classes, target)
        self.regularizer = None
        if regularizer is not None:
            self.regularizer = NHSICRegularizer(**regularizer)

    def loss(
        self, feat: Tensor, inputs: Tensor, data_samples: Sequence[Any]
    ) -> dict[str, Tensor]:
        """Compute the losses, weighted.

        Args:
            feat (Tensor): The module's output, (N, C, h, w), (N, L, C) or
                (N, C); with several views of each image one whole view
                after another.
            inputs (Tensor): Preprocessed images (N, C, H, W).
            data_samples (Sequence): Annotations of mmpretrain, or of mmseg
                where pixels are classified.

        Returns:
            dict[str, Tensor]: ``loss_task``, ``acc`` (with cross-entropy, in
            percent), ``loss_sim``, ``loss_nhsic`` and ``nhsic``, as far as
            there are.

        Raises:
            ValueError: If a label is no class, or the images are not of the
                size that the head was made for.
        """
        labels = self.labels(data_samples)
        feature_map = self.to_map(feat, inputs)
        losses: dict[str, Tensor] = {}
        if self.net is not None:
            output = self.net(feature_map)
            losses |= self.task_loss(output, labels)
            losses['loss_task'] = (1 - self.beta) * losses['loss_task']
        if self.projection is not None:
            output = self.projection(feature_map)
            losses |= self._compare(output, labels)
        if self.regularizer is not None:
            losses |= self.regularizer(feat, output, inputs)
        return losses

    def predict(self, feat: Tensor, inputs: Tensor) -> dict[str, Any]:
        """Logits of the classes, where there is a classifier."""
        return {} if self.net is None else super().predict(feat, inputs)

    def _compare(self, output: Tensor, labels: Tensor) -> dict[str, Tensor]:
        if self.similarity is None:
            return self.task_loss(output, labels)
        labels = labels_of_views(labels, len(output))
        return {'loss_sim': self.beta * self.similarity(output, labels)}


def _check(
    net: str,
    loss: str,
    boundary: Boundary,
    beta: float,
    ignore_index: int | None,
) -> None:
    for key, value, known in [('net', net, NETS), ('loss', loss, LOSSES)]:
        if value not in known:
            raise ValueError(
                f'local_heads.{key}={value!r} is unknown: write one of {known}'
            )
    fitting = {
        'softmax': ('linear', 'mlp'),
        'contrast': ('linear', 'mlp', 'identity'),
    }.get(loss, NETS)
    if net not in fitting:
        raise ValueError(
            f'local_heads.net={net!r} does not fit loss={loss!r}: write one '
            f'of {fitting}'
        )
    if ignore_index is not None and loss != 'softmax':
        raise ValueError(
            f'local_heads.loss={loss!r} compares images by one label each, '
            'and with ignore_index pixels are classified: write '
            "loss='softmax', or remove ignore_index"
        )
    if not 0 <= beta <= 1:
        raise ValueError(
            f'local_heads.beta={beta} must be between 0 (cross-entropy '
            'alone) and 1 (similarity alone); 0.99 is the published value'
        )
    if boundary.layout == 'sequence':
        raise ValueError(
            f'boundary {boundary.name!r} carries a sequence (N, C, L), and '
            'the local head there reads maps, tokens and vectors of images: '
            'choose a head for sequences'
        )
