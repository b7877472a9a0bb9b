"""A classifier that predicts by trying all labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor

from mmlocal.registry import MODELS
from mmlocal.step import current_step

from ..label_embedding import LabelEmbedding
from ..local_heads.forward_forward import FFHead
from ..local_heads.targets import check_labels, class_labels

GOODNESS_LAYERS = ('all', 'skip-first')


@MODELS.register_module()
class FFClassifier(BaseModel):
    r"""A network that is told the label, and says how well it fits.

    Forward-Forward: in training it sees B images with their label in them
    and B with a wrong one, and each of its modules learns from its own
    :class:`FFHead` to tell them apart. It predicts by trying all labels,

    .. math::
        \hat y = \arg\max_c \sum_l G_l(E(x, c)),

    with the goodness G of the layers and the embedding E. What mmpretrain
    has for classifiers (data sets, pipelines, preprocessor, metrics) serves
    as it is; mmpretrain's ``ClsHead`` makes the predictions.

    Args:
        backbone (dict): Config of a :class:`LocalSupervisedBackbone` with
            ``local_end=True`` and an :class:`FFHead` for each module. Its
            ``input_shape`` is that of an image with its label.
        embedding (dict): Arguments of :class:`LabelEmbedding`: ``method``,
            ``num_classes`` and others; not ``image_shape``, which follows.
        goodness_layers (str): Which layers predict: 'all', as published, or
            'skip-first', all but the first, which sees little but the label
            itself. Defaults to 'all'.
        max_rows (int): How many pairs run at a time in prediction, to bound
            its memory. Defaults to 8192.
        data_preprocessor (dict, optional): As in ``ImageClassifier``.
        init_cfg (dict, optional): Initialization of mmengine.

    Raises:
        ValueError: If a module has no ``FFHead``, or one of other classes;
            or an argument is none of these.

    Example:
        >>> model = dict(
        ...     type='mmlocal.FFClassifier',
        ...     embedding=dict(method='top-left', num_classes=10),
        ...     backbone=dict(
        ...         type='mmlocal.LocalSupervisedBackbone',
        ...         backbone=dict(type='mmlocal.FFMLP', widths=(500, 500)),
        ...         boundaries=['layers.1'],
        ...         local_heads=dict(type='mmlocal.FFHead', num_classes=10),
        ...         local_end=True,
        ...         input_shape=(1, 28, 28)))
    """

    # What its backbone takes in is no function of the image alone.
    alters_inputs = True

    def __init__(
        self,
        backbone: dict,
        embedding: dict,
        goodness_layers: str = 'all',
        max_rows: int = 8192,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ):
        preprocessor = {
            'type': 'mmpretrain.ClsDataPreprocessor',
            **(data_preprocessor or {}),
        }
        super().__init__(preprocessor, init_cfg)
        self.backbone = MODELS.build(backbone)
        _check_heads(self.backbone, embedding.get('num_classes'))
        if goodness_layers not in GOODNESS_LAYERS:
            raise ValueError(
                f'model.goodness_layers={goodness_layers!r} is unknown: '
                f'write one of {GOODNESS_LAYERS}.'
            )
        self.first = int(goodness_layers == 'skip-first')
        if self.backbone.num_modules <= self.first:
            raise ValueError(
                "model.goodness_layers='skip-first' leaves no layer of one "
                "to predict with: write 'all'."
            )
        self.max_rows = max_rows
        channels, *size = self.backbone.input_shape
        if embedding.get('method', '').endswith('2channel'):
            channels, rest = divmod(channels, 2)
            if rest:
                raise ValueError(
                    f'model.embedding.method={embedding["method"]!r} doubles '
                    'the channels of an image, and model.backbone.'
                    f'input_shape has {2 * channels + rest}: write twice '
                    'those of an image, in_channels of the network too.'
                )
        self.embedding = LabelEmbedding(
            image_shape=(channels, *size), **embedding
        )
        # Scores and labels into data samples.
        self.head = MODELS.build(
            {'type': 'mmpretrain.ClsHead', '_scope_': 'mmpretrain'}
        )

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[Any] | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """As of any model: see :meth:`loss` and the others.

        Args:
            inputs (Tensor): Preprocessed images (N, C, H, W).
            data_samples (Sequence, optional): Of mmpretrain; needed in
                'loss'.
            mode (str): 'loss', 'predict' or 'tensor'. Defaults to 'tensor'.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode == 'tensor':
            return self.extract_feat(inputs)
        raise ValueError(f"mode={mode!r}: 'loss', 'predict' or 'tensor'")

    def loss(
        self, inputs: Tensor, data_samples: Sequence[Any]
    ) -> dict[str, Tensor]:
        """Train all modules.

        Returns:
            dict[str, Tensor]: The sum of what they have propagated already,
            as a number to log: nothing is behind it.
        """
        labels = class_labels(data_samples)
        if labels.ndim > 1:
            raise ValueError(
                'Forward-Forward puts one label into an image, and Mixup and '
                'CutMix give several: remove model.data_preprocessor.'
                'batch_augments (or to_onehot).'
            )
        key = 'model.embedding.num_classes'
        check_labels(labels, self.embedding.num_classes, key=key)
        self.backbone(self.embedding.pairs(inputs, labels))
        log = current_step().log
        total = sum(value for key, value in log.items() if 'loss' in key)
        return {'loss': total.clone().requires_grad_()}

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """The goodness of each label in each layer.

        Args:
            inputs (Tensor): Preprocessed images (N, C, H, W).

        Returns:
            Tensor: (K, N, num_classes); fewer layers where the forward ends
            behind a module that trains alone.
        """
        chunks = [
            torch.stack([each['logits'] for each in predictions])
            for rows in self.embedding.trials(inputs, self.max_rows)
            for predictions in [self.backbone.predict_local(rows)]
        ]
        return torch.cat(chunks, 1)

    def predict(
        self, inputs: Tensor, data_samples: Sequence[Any] | None = None
    ) -> list[Any]:
        """Data samples with the label that fits best."""
        scores = self.extract_feat(inputs)[self.first :].sum(0)
        return self.head.predict((scores,), data_samples)


def _check_heads(backbone: Any, num_classes: int | None) -> None:
    heads = getattr(backbone, 'module_heads', {})
    modules = getattr(backbone, 'num_modules', 1)
    if len(heads) < modules or not all(
        isinstance(head, FFHead) for head in heads.values()
    ):
        raise ValueError(
            'model.backbone: FFClassifier trains and predicts by the '
            "goodness of each module: write dict(type='mmlocal."
            "LocalSupervisedBackbone', local_heads=dict(type='mmlocal."
            "FFHead', ...), local_end=True, ...); of mmlocal.get_model, take "
            'local_heads=True.'
        )
    for head in heads.values():
        if head.num_classes != num_classes:
            raise ValueError(
                f'local_heads.num_classes is {head.num_classes}, but '
                f'model.embedding has {num_classes}: write the same.'
            )
