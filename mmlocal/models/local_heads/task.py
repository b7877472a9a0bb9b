"""Any head of an mm library as a local head."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import Parameter, signature
from typing import Any

from torch import Tensor, nn

from mmlocal.registry import MODELS

from .base import Boundary, LocalHead


@MODELS.register_module()
class TaskHead(LocalHead):
    """Trains a module with a head of mmseg or mmpretrain, and its own loss.

    The head gets a tuple with one feature, a map (N, C, h, w): tokens are put
    back on their grid, without class token, and a sequence (N, C, L) stays
    one, for :class:`~mmlocal.models.heads.FrameClsHead` or behind
    ``GlobalAveragePooling(dim=1)``. ``in_channels`` may be left out
    of both configs; it is that of the feature.

    Args:
        boundary (Boundary): Where the head sits.
        head (dict): Config of an mmseg decode head, as
            ``dict(type='mmseg.FCNHead', channels=64, num_classes=19)``, or
            of an mmpretrain cls head, as
            ``dict(type='mmpretrain.LinearClsHead', num_classes=10)``. Leave
            out ``in_index`` and ``input_transform``: there is one feature.
        neck (dict, optional): Config of what comes before the head, as
            ``dict(type='mmpretrain.GlobalAveragePooling')``, which the
            linear cls heads need, or ``dict(type='mmlocal.PatchPooling')``
            where features are of patches.
        init_cfg (dict, optional): Initialization of mmengine.

    Raises:
        ValueError: If the head is none of these, or does not fit a single
            feature.
    """

    # With a neck that brings them together.
    takes_patches = True

    def __init__(
        self,
        boundary: Boundary,
        head: dict,
        neck: dict | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(boundary, init_cfg)
        channels = boundary.channels
        self.neck = None
        if neck is not None:
            self.neck = _build(neck, channels)
            channels = neck.get('out_channels', channels)
        self.head = _build(head, channels)
        self._extra_args = (None,) * _extra_arguments(self.head, head)
        _check(self.head, head, self.neck, boundary, channels)

    def loss(
        self, feat: Tensor, inputs: Tensor, data_samples: Sequence[Any]
    ) -> dict[str, Tensor]:
        """The head's own losses.

        Args:
            feat (Tensor): The module's output, (N, C, h, w) or (N, L, C).
            inputs (Tensor): Preprocessed images (N, C, H, W).
            data_samples (Sequence): Annotations, as the head takes them.

        Returns:
            dict[str, Tensor]: Under the head's own keys.
        """
        feats = self._feats(feat, inputs)
        return self.head.loss(feats, data_samples, *self._extra_args)

    def predict(self, feat: Tensor, inputs: Tensor) -> dict[str, Any]:
        """``logits``, if the head's forward returns one tensor."""
        output = self.head(self._feats(feat, inputs))
        return {'logits': output} if isinstance(output, Tensor) else {}

    def _feats(self, feat: Tensor, inputs: Tensor) -> tuple[Tensor, ...]:
        if self.boundary.layout != 'sequence':
            feat = self.to_map(feat, inputs)
        feats = (feat,)
        return feats if self.neck is None else self.neck(feats)


def _build(cfg: dict, channels: int) -> nn.Module:
    """Build a part; ``in_channels`` is filled in where it takes one."""
    cfg, kind = dict(cfg), cfg['type']
    if isinstance(kind, str):
        with MODELS.switch_scope_and_registry(None) as registry:
            kind = registry.get(kind)
    # What a part is made of (its loss) is of the library that the part is of,
    # whatever the default scope.
    library = getattr(kind, '__module__', '').partition('.')[0]
    if library in ('mmseg', 'mmpretrain'):
        cfg.setdefault('_scope_', library)
    takes_channels = any(
        'in_channels' in signature(base.__init__).parameters
        for base in getattr(kind, '__mro__', ())
    )
    default_args = {'in_channels': channels} if takes_channels else None
    try:
        return MODELS.build(cfg, default_args=default_args)
    except AssertionError as error:
        # Decode heads for several features assert that these are lists.
        raise ValueError(
            f'local_heads: {cfg["type"]!r} cannot be built for a single '
            f'feature of {channels} channels. If it reads a list of features '
            f'write in_channels=[{channels}], in_index=[0]'
        ) from error


def _extra_arguments(head: nn.Module, cfg: dict) -> int:
    """How many arguments ``head.loss`` needs after the data samples.

    1 for mmseg, which passes its ``train_cfg``; 0 for mmpretrain.
    """
    names = []
    if callable(getattr(head, 'loss', None)):
        names = [
            name
            for name, parameter in signature(head.loss).parameters.items()
            if parameter.default is Parameter.empty
            and parameter.kind == Parameter.POSITIONAL_OR_KEYWORD
        ]
    if len(names) == 2:
        return 0
    if len(names) == 3 and names[2] == 'train_cfg':
        return 1
    raise ValueError(
        f'local_heads.head.type={cfg["type"]!r} has no loss(feats, '
        'data_samples): write an mmseg decode head (no cascade head) or an '
        'mmpretrain cls head'
    )


def _check(
    head: nn.Module,
    cfg: dict,
    neck: nn.Module | None,
    boundary: Boundary,
    channels: int,
) -> None:
    """Raise if the head does not take one map of ``channels`` channels."""
    index = getattr(head, 'in_index', 0)
    if not {0, -1}.issuperset(index if _is_list(index) else [index]):
        raise ValueError(
            f'local_heads.head.in_index={index}, but a local head has one '
            'feature: remove in_index (and input_transform)'
        )
    given = cfg.get('in_channels', channels)
    if neck is None and given not in (channels, [channels], (channels,)):
        raise ValueError(
            f'local_heads.head.in_channels={given}, but the feature before '
            f'{boundary.name!r} has {channels} channels: remove in_channels, '
            'it is filled in'
        )
    linear = getattr(head, 'fc', None)
    if linear is None:  # VisionTransformerClsHead
        linear = getattr(getattr(head, 'layers', None), 'head', None)
    if neck is None and isinstance(linear, nn.Linear):
        raise ValueError(
            f'local_heads.head of type {cfg["type"]!r} takes vectors, and '
            'the feature is a map: write local_heads.neck=dict('
            "type='mmpretrain.GlobalAveragePooling')"
        )


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))
