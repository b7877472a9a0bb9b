"""Optimizers by rules that know plain backbones alone."""

from __future__ import annotations

from typing import Any

from mmengine.optim import OptimWrapper
from torch import nn

from mmlocal.plain_backbone import plain_backbone
from mmlocal.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class PlainNamesConstructor:
    """Lets another constructor see a model as it was before it was cut.

    Some go by the class of the backbone and by the names of its weights, as
    mmseg's ``LearningRateDecayOptimizerConstructor`` for BEiT and ConvNeXt.
    Local heads are weights ``backbone.local_heads.*`` to them: none of the
    layers they know, so that they count as the last one.

    Args:
        optim_wrapper_cfg (dict): Of the optimizer wrapper.
        paramwise_cfg (dict, optional): That of the other constructor, and
            its type as ``constructor``; mmengine's default one if it has
            none.

    Example:
        >>> optim_wrapper = dict(
        ...     type='mmlocal.LocalOptimWrapper',
        ...     constructor='mmlocal.PlainNamesConstructor',
        ...     paramwise_cfg=dict(
        ...         constructor='LearningRateDecayOptimizerConstructor',
        ...         num_layers=12, decay_rate=0.9, decay_type='layer_wise'))
    """

    def __init__(
        self,
        optim_wrapper_cfg: dict[str, Any],
        paramwise_cfg: dict[str, Any] | None = None,
    ):
        options = dict(paramwise_cfg or {})
        kind = options.pop('constructor', 'DefaultOptimWrapperConstructor')
        with OPTIM_WRAPPER_CONSTRUCTORS.switch_scope_and_registry(
            None
        ) as registry:
            self.constructor = registry.build(
                {
                    'type': kind,
                    'optim_wrapper_cfg': optim_wrapper_cfg,
                    'paramwise_cfg': options or None,
                }
            )

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """The optimizer wrapper of a model."""
        with plain_backbone(model):
            return self.constructor(model)
