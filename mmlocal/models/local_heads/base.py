"""The contract between a cut network and the loss at its cut."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn

from mmlocal.config_check import check_config
from mmlocal.registry import MODELS

from ..boundary import Boundary


class LocalHead(BaseModule, metaclass=ABCMeta):
    """Trains one module: turns the feature at its end into losses.

    Subclasses are registered in :data:`mmlocal.registry.MODELS` and built by
    :class:`LocalSupervisedBackbone`, which passes ``boundary``. A head must
    not write into ``feat``: the next module reads the same memory.

    Only ``loss`` has to be written. In one step, from the top down, with the
    head of module j in the middle::

        module j-1   loss   backward   pass_on
                                         |
        module j     forward  <----------+
                     loss  ->  backward  ->  pass_on
                                 |              |
                    feedback of head j-1        |
                    (if it needs_gradient)      |
        module j+1                              +-->  forward  loss  ...
                                                               backward
                                                                 |
                                                    feedback of head j

    What heads need beyond their feature is in
    :func:`mmlocal.step.current_step`: the module's input, a store that heads
    of one forward share, and the module itself, to run it once more.

    Args:
        boundary (Boundary): Where the head sits.
        init_cfg (dict, optional): Initialization of mmengine.

    Attributes:
        needs_gradient (bool): Whether :meth:`feedback` is called.
        needs_store (bool): Whether :meth:`loss` reads what heads before it
            have stored in the same step.
        runs_module (bool): Whether the head calls ``run_module`` of the
            step. The backbone has to be a
            :class:`~mmlocal.models.chain.Chain` then.
        takes_patches (bool): Whether the head knows that the rows of a
            feature may be patches, several for an image.
    """

    needs_gradient = False
    needs_store = False
    runs_module = False
    takes_patches = False

    def __init__(self, boundary: Boundary, init_cfg: dict | None = None):
        super().__init__(init_cfg)
        self.boundary = boundary

    def bind(self, modules: Sequence[Sequence[nn.Module]]) -> None:
        """Look at the network, once, when the backbone is built.

        For heads that copy later blocks. The backbone has to be a
        :class:`~mmlocal.models.chain.Chain` if a head overrides this.

        Args:
            modules (Sequence[Sequence[nn.Module]]): The submodules of each
                module, in forward order. Keep no reference: they belong to
                the backbone.
        """

    @abstractmethod
    def loss(
        self, feat: Tensor, inputs: Tensor, data_samples: list
    ) -> dict[str, Tensor]:
        """Compute the local losses.

        Args:
            feat (Tensor): The module's output, attached to its graph:
                (N, C, H, W), (N, L, C) for token backbones, (N, C, L) for
                signals, or (N, C); ``boundary.layout`` tells.
            inputs (Tensor): Preprocessed images (N, C, H, W).
            data_samples (list): Annotations, as the model's own heads get
                them.

        Returns:
            dict[str, Tensor]: Every key that contains ``loss`` is summed and
            propagated; the others are logged.
        """

    def pass_on(self, feat: Tensor) -> Tensor:
        """What the next module gets, once this one has been trained.

        In eval mode it gets ``feat`` as it is: what is passed on has to be
        the module's output, if perhaps with other weights.

        Args:
            feat (Tensor): The module's output, whose graph has been freed.

        Returns:
            Tensor: Without a graph.
        """
        return feat.detach()

    def feedback(self, grad: Tensor) -> dict[str, Tensor] | None:
        """Take the gradient at the next module's input.

        Called inside the next module's backward if ``needs_gradient``.

        Args:
            grad (Tensor): Of the shape of what was passed on. It comes with
                the loss scale, and divided by the accumulated steps:
                ``current_step().unscale(grad)`` has neither.

        Returns:
            dict[str, Tensor] | None: Further losses, as of :meth:`loss`.
        """

    def predict(self, feat: Tensor, inputs: Tensor) -> dict[str, Any]:
        """What the head sees in ``feat``, to look at; {} if nothing.

        Returns:
            dict: ``logits`` (N, num_classes[, h, w]) and ``reconstruction``
            (N, C, H, W) in [0, 1], in the input's channel order, as far as
            the head has them.
        """
        return {}

    def logits(self, feat: Tensor, inputs: Tensor) -> Tensor | None:
        """``logits`` of :meth:`predict` alone, None if there are none.

        For heads whose ``predict`` computes more than that.
        """
        return self.predict(feat, inputs).get('logits')

    def to_map(self, feat: Tensor, inputs: Tensor) -> Tensor:
        """The feature as (N, C, H, W); tokens are put back on their grid.

        Raises:
            ValueError: See :meth:`Boundary.to_map`.
        """
        return self.boundary.to_map(feat, inputs.shape[-2:])


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
    check_config({**cfg, 'type': kind or cfg['type']}, 'local_heads')
    if kind is not None and boundary.patches > 1 and not kind.takes_patches:
        raise ValueError(
            f'boundary {boundary.name!r} carries {boundary.patches} features '
            f'for each image, which {cfg["type"]} would take for images: '
            "write local_heads=dict(type='mmlocal.PatchInfoNCEHead'), or "
            "dict(type='mmlocal.TaskHead', neck=dict(type="
            "'mmlocal.PatchPooling', grid=...), head=...)."
        )
    return MODELS.build(cfg, default_args={'boundary': boundary})


def build_local_heads(
    cfgs: dict | Sequence[dict] | None, boundaries: Sequence[Boundary]
) -> ModuleList:
    """Build the heads of all modules that have one.

    Args:
        cfgs (dict | Sequence[dict], optional): One config for all, or one a
            boundary; an empty list for none at all.
        boundaries (Sequence[Boundary]): Where they sit, in forward order.

    Raises:
        ValueError: If the configs are missing or not as many as boundaries.
    """
    names = [boundary.name for boundary in boundaries]
    if cfgs is None or isinstance(cfgs, dict):
        if boundaries and not cfgs:
            raise ValueError(
                'model.backbone.local_heads is missing: write a local head, '
                "as dict(type='mmlocal.InfoProHead', num_classes=19)."
            )
        cfgs = [deepcopy(cfgs) for _ in boundaries]
    if not cfgs:
        return ModuleList()
    if len(cfgs) != len(boundaries):
        raise ValueError(
            f'model.backbone.local_heads has {len(cfgs)} heads for '
            f'{len(boundaries)} boundaries {names}: write one a boundary '
            '(the last module is trained by the model itself, unless '
            'local_end=True), or a single dict for all of them.'
        )
    heads = ModuleList()
    for index, (cfg, boundary) in enumerate(
        zip(cfgs, boundaries, strict=True)
    ):
        place = replace(boundary, index=index, count=len(boundaries))
        heads.append(build_local_head(cfg, place))
    return heads


def binds(head: LocalHead) -> bool:
    """Whether a head looks at the network when it is built."""
    return type(head).bind is not LocalHead.bind


def passes_on(head: LocalHead) -> bool:
    """Whether a head chooses what the next module gets."""
    return type(head).pass_on is not LocalHead.pass_on
