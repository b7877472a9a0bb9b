"""The contract between a cut network and the loss at its cut."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING, Any

from mmengine.model import BaseModule, ModuleList
from torch import Tensor

from mmlocal.registry import MODELS

if TYPE_CHECKING:
    from ..cut_points import CutPoint


@dataclass(frozen=True)
class Boundary:
    """What is known of a cut when the backbone is built.

    Args:
        name (str): The submodule whose input is cut, e.g. ``layer3.13``.
        channels (int): C of the feature.
        stride (int): Input pixels a feature cell spans, along a side.
        tokens (bool): Whether the feature is (N, L, C), not (N, C, H, W).
            Defaults to False.
        index (int): Position among the boundaries, from 0. Defaults to 0.
        count (int): How many boundaries there are (K - 1). Defaults to 1.
    """

    name: str
    channels: int
    stride: int
    tokens: bool = False
    index: int = 0
    count: int = 1

    def interpolate(self, value: float | tuple[float, float]) -> float:
        """A weight at this boundary.

        A pair is read as (first, last) and interpolated linearly in the
        boundary *index*, not in depth (InfoPro's schedule); with a single
        boundary the first counts. A number is the same everywhere.
        """
        if isinstance(value, (int, float)):
            return float(value)
        first, last = value
        t = self.index / (self.count - 1) if self.count > 1 else 0.0
        return (1 - t) * first + t * last

    def feature_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the feature of an image (rounded up)."""
        return tuple(-(-side // self.stride) for side in image_size)


class LocalHead(BaseModule, metaclass=ABCMeta):
    """Trains one module: turns the feature at its end into losses.

    Subclasses are registered in :data:`mmlocal.registry.MODELS` and built by
    :class:`LocalSupervisedBackbone`, which passes ``boundary``. A head must
    not write into ``feat``: the next module reads the same memory.

    Args:
        boundary (Boundary): Where the head sits.
        init_cfg (dict, optional): Initialization of mmengine.
    """

    def __init__(self, boundary: Boundary, init_cfg: dict | None = None):
        super().__init__(init_cfg)
        self.boundary = boundary

    @abstractmethod
    def loss(
        self, feat: Tensor, inputs: Tensor, data_samples: list
    ) -> dict[str, Tensor]:
        """Compute the local losses.

        Args:
            feat (Tensor): The module's output, attached to its graph:
                (N, C, H, W), or (N, L, C) for token backbones.
            inputs (Tensor): Preprocessed images (N, 3, H, W).
            data_samples (list): Annotations, as the model's own heads get
                them.

        Returns:
            dict[str, Tensor]: Every key that contains ``loss`` is summed and
            propagated; the others are logged.
        """

    def predict(self, feat: Tensor, inputs: Tensor) -> dict[str, Any]:
        """What the head sees in ``feat``, to look at; {} if nothing.

        Returns:
            dict: ``logits`` (N, num_classes[, h, w]) and ``reconstruction``
            (N, 3, H, W) in [0, 1], in the input's channel order, as far as
            the head has them.
        """
        return {}

    def to_map(self, feat: Tensor, inputs: Tensor) -> Tensor:
        """The feature as (N, C, H, W); tokens are put back on their grid.

        Leading extra tokens (class, distillation) are left out.

        Raises:
            ValueError: If the tokens do not fill the grid that the stride
                and the image size give.
        """
        if not self.boundary.tokens:
            return feat
        h, w = self.boundary.feature_size(inputs.shape[-2:])
        extra = feat.shape[1] - h * w
        if not 0 <= extra <= 2:
            raise ValueError(
                f'boundary {self.boundary.name!r} carries {feat.shape[1]} '
                f'tokens, which is no {h}x{w} grid (image '
                f'{tuple(inputs.shape[-2:])}, stride {self.boundary.stride}) '
                'with up to 2 extra tokens: choose an image size that is a '
                'multiple of the stride, or another boundary.'
            )
        feat = feat[:, extra:].transpose(1, 2)
        return feat.reshape(feat.shape[0], -1, h, w)


def build_local_head(cfg: dict, boundary: Boundary) -> LocalHead:
    """Build the head that a config describes.

    Args:
        cfg (dict): With the ``type`` of a local head.
        boundary (Boundary): Where the head sits.

    Raises:
        ValueError: If the type is a head of another library.
    """
    kind = cfg['type']
    if isinstance(kind, str):
        with MODELS.switch_scope_and_registry(None) as registry:
            kind = registry.get(kind)
    # A name that is not registered is reported by `build`.
    if kind is not None and not issubclass(kind, LocalHead):
        raise ValueError(
            f'local_heads: {cfg["type"]} is no local head; write '
            f"dict(type='mmlocal.TaskHead', head=dict(type={cfg['type']!r}, "
            '...)) to use a head of another library.'
        )
    return MODELS.build(cfg, default_args={'boundary': boundary})


def build_local_heads(
    cfgs: dict | Sequence[dict] | None, cuts: Sequence[CutPoint]
) -> ModuleList:
    """Build the heads of all boundaries.

    Args:
        cfgs (dict | Sequence[dict], optional): One config for all, or one a
            boundary.
        cuts (Sequence[CutPoint]): The boundaries.

    Raises:
        ValueError: If the configs are missing or not as many as boundaries.
    """
    if cfgs is None or isinstance(cfgs, dict):
        if cuts and not cfgs:
            raise ValueError(
                'model.backbone.local_heads is missing: write a local head, '
                "as dict(type='mmlocal.InfoProHead', num_classes=19)."
            )
        cfgs = [deepcopy(cfgs) for _ in cuts]
    if len(cfgs) != len(cuts):
        raise ValueError(
            f'model.backbone.local_heads has {len(cfgs)} heads for '
            f'{len(cuts)} boundaries {[cut.name for cut in cuts]}: write one '
            'a boundary (the last module is trained by the model itself), '
            'or a single dict for all of them.'
        )
    heads = ModuleList()
    for index, (cfg, cut) in enumerate(zip(cfgs, cuts, strict=True)):
        boundary = Boundary(
            cut.name,
            cut.channels,
            cut.stride,
            tokens=cut.tokens,
            index=index,
            count=len(cuts),
        )
        heads.append(build_local_head(cfg, boundary))
    return heads


def token_grid(num_tokens: int) -> tuple[int, int] | None:
    """(side, extra tokens) of a square grid with up to 2 extra tokens."""
    for extra in range(3):
        side = isqrt(max(num_tokens - extra, 0))
        if side and side * side == num_tokens - extra:
            return side, extra
    return None
