"""A backbone cut into modules, each trained by a loss of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule, ModuleList
from torch import Tensor

from mmlocal.config import build_partition
from mmlocal.registry import MODELS
from mmlocal.step import current_step

from ..checkpointing import (
    assign_blocks,
    checkpoint_blocks,
    parse_modes,
    take_over_with_cp,
)
from ..cut_points import CutPoints, Split
from ..freed_outputs import detach_finished, detach_kept
from ..local_heads.base import binds, build_local_heads, passes_on
from ..module_access import (
    ModuleAccess,
    first_tensor,
    last_tensor,
    runs_modules,
)
from ..module_parts import ModuleParts
from ..module_training import ModuleTraining
from ..structure import map_leaves


@MODELS.register_module()
class LocalSupervisedBackbone(ModuleAccess, BaseModule):
    """Trains a backbone in gradient-isolated modules.

    In a training step, as soon as the forward reaches a boundary, the local
    head there turns the feature into losses, these are propagated back, the
    module's graph is freed, and the next module gets the feature detached.
    Outside of a training step this is the backbone itself: same outputs, same
    checkpoint keys; only ``local_heads.*`` comes on top.

    The last module is trained by the model's own head; with ``local_end`` it
    has a local head too, and the model's own, which reads the detached
    output, learns to read and trains nothing but itself.

    What goes on to later modules beside that feature, as the skips of UNet,
    goes on detached, too: no loss but the local one trains what it comes
    from. Where a boundary takes several features, the head reads them joined.

    Outputs that stem from finished modules are detached: a decode head that
    reads one trains itself, and at most layers that this output has to
    itself, not the module.

    Args:
        backbone (dict): Config of any registered backbone.
        boundaries (str | Sequence[str] | dict): Names of submodules, the
            first block of each next module, as ``['layer3.13']``; or a config
            of a partition, as
            ``dict(type='mmlocal.EqualDepth', num_modules=4)``. Empty: the
            plain backbone. Defaults to ().
        local_heads (dict | Sequence[dict], optional): Config of one local
            head for all boundaries, or one config a boundary (and one for
            the last module, with ``local_end``). An empty list for none,
            where a loop trains modules without, by delayed gradients.
        local_end (bool): Give the last module a local head, on the backbone's
            last output. Defaults to False.
        checkpointing (str | Sequence[str | None], optional): Recompute
            blocks in backward: 'block' keeps a block's inputs alone,
            'selective' also what is costly to compute (attention, 3x3 and
            channel-reducing convolutions); None keeps all. A list gives one
            mode a module. ``with_cp=True`` of the backbone is read as
            'block'. Defaults to None.
        pretrained (str, optional): Passed on to ``backbone``; segmentors
            write it here.
        input_shape (tuple[int, ...]): C, H and W (H = W) of the fake image,
            or C and L of the fake signal, with which the boundaries'
            channels and strides are found. Defaults to (3, 224, 224).
        compile_cfg (dict, optional): Compiles submodules in place:
            ``modules`` names them, the rest goes to ``torch.compile``.
        init_cfg (dict, optional): Initialization of mmengine.

    Raises:
        ValueError: If a boundary is unknown, in the wrong order or no place
            where the network can be cut, or ``local_heads`` or
            ``checkpointing`` does not fit.

    Example:
        >>> backbone = dict(
        ...     type='mmlocal.LocalSupervisedBackbone',
        ...     backbone=dict(type='ResNetV1c', depth=101),
        ...     boundaries=['layer3.13'],
        ...     local_heads=dict(type='mmlocal.InfoProHead', num_classes=19))
    """

    # Trains the modules of a forward; the planner has another.
    module_training: Callable[..., ModuleTraining] = ModuleTraining

    def __init__(
        self,
        backbone: dict,
        boundaries: str | Sequence[str] | dict = (),
        local_heads: dict | Sequence[dict] | None = None,
        local_end: bool = False,
        checkpointing: str | Sequence[str | None] | None = None,
        pretrained: str | None = None,
        input_shape: tuple[int, ...] = (3, 224, 224),
        compile_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        backbone = deepcopy(backbone)
        if pretrained is not None:
            backbone['pretrained'] = pretrained
        self.backbone = MODELS.build(backbone)
        if take_over_with_cp(self.backbone):
            if checkpointing is not None:
                raise ValueError(
                    'model.backbone.checkpointing: the inner backbone has '
                    'with_cp=True, which means the same as '
                    "checkpointing='block'; write one of them."
                )
            checkpointing = 'block'
        self.input_shape = tuple(input_shape)
        self.local_end = local_end
        points, cuts = None, []
        if boundaries or local_end:
            points = CutPoints(self.backbone, self.input_shape)
            if isinstance(boundaries, dict):
                split = resolve_partition(boundaries, points)
                boundaries = split.boundaries
                checkpointing = checkpointing or split.checkpointing
            elif isinstance(boundaries, str):
                boundaries = [boundaries]
            cuts = points.check(list(boundaries))
        places = [cut.boundary for cut in cuts]
        if local_end:
            places.append(points.check_end())
        self.set_split(
            Split([cut.name for cut in cuts], checkpointing),
            build_local_heads(local_heads, places),
            points,
        )
        self._said: set[str] = set()
        self.register_state_dict_post_hook(_hide_inner_prefix)
        self.register_load_state_dict_pre_hook(_add_inner_prefix)
        if compile_cfg is not None:
            self._compile(**compile_cfg)

    def forward(self, x: Tensor | None = None, *args, **kwargs) -> Any:
        """The backbone's outputs; in a training step, trains its modules.

        Args:
            x (Tensor, optional): Images (N, C, H, W); by its own name where
                the backbone has another one for them.
            *args: What else the backbone takes.
            **kwargs: The same, by name.

        Raises:
            RuntimeError: In training, without a local optimizer wrapper.
        """
        if x is not None:
            args = (x, *args)
        if self._readout is not None:
            return self._read_out(args, kwargs, self._readout)
        training = self.training and torch.is_grad_enabled()
        if not (training and (self.boundaries or self.local_end)):
            return self._run(args, kwargs)
        step = current_step()
        if step is None:
            raise RuntimeError(
                'LocalSupervisedBackbone is trained outside of a local '
                "training step: write optim_wrapper=dict(type='mmlocal."
                "LocalOptimWrapper', ...) or 'mmlocal.LocalAmpOptimWrapper' "
                'in place of the plain one, which would train end to end and '
                'leave the local heads untouched. (For a forward without '
                'training, call model.eval() or use torch.no_grad().)'
            )
        x = first_tensor(args, kwargs)
        only, step.module_input = self._only, x
        if self._entry is not None:
            only, feat = self._entry
            step.module_input = x if feat is None else feat
        if step.module_input is x:
            step.inputs = x
        step.run_module = self.run_module
        training = self.module_training(self.local_heads, step, only)
        outputs = self._run(args, kwargs, training.at_boundary)
        if self.local_end and not self._is_end(only):
            last = last_tensor(outputs)
            passed = training.train(self.num_modules - 1, last)
            outputs = map_leaves(
                outputs, lambda leaf: passed if leaf is last else leaf
            )
        outputs, detached = detach_finished(outputs, training.finished)
        detached += detach_kept(self.backbone, training.finished)
        self._tell_what_is_detached(detached)
        return outputs

    def set_split(
        self,
        split: Split,
        local_heads: ModuleList,
        points: CutPoints | None,
    ) -> None:
        """Cut in another way.

        Args:
            split (Split): Boundaries, in forward order, and checkpointing.
            local_heads (ModuleList): One head a boundary, and one for the
                last module with ``local_end``.
            points (CutPoints, optional): Of the backbone; needed if there
                are boundaries.

        Raises:
            ValueError: If ``split.checkpointing`` does not fit.
        """
        vars(self).pop('chain', None)
        self.boundaries = list(split.boundaries)
        self.local_heads = local_heads
        order, self._parts, self.crossings = [], ModuleParts({}, {}), {}
        if points is not None:
            order = points.order
            self._parts = points.modules(self.boundaries)
            self.crossings = {
                name: cut.crossing for name, cut in points.valid.items()
            }
        self._check_heads()
        modes = parse_modes(split.checkpointing, self.num_modules)
        blocks = assign_blocks(self.backbone, modes, self.boundaries, order)
        checkpoint_blocks(self.backbone, blocks)
        binding = [head for head in local_heads if binds(head)]
        if binding or runs_modules(local_heads):
            # Raises if the backbone is no chain.
            modules = list(map(self.chain.blocks, range(self.num_modules)))
            for head in binding:
                head.bind(modules)

    def get_layer_depth(
        self, param_name: str, prefix: str = ''
    ) -> tuple[int, int]:
        """Layer of a parameter, for layer-wise learning rate decay.

        Local heads count as the last layer.
        """
        inner = param_name.removeprefix(prefix).removeprefix('backbone.')
        depth, num_layers = self.backbone.get_layer_depth(inner, '')
        if param_name.removeprefix(prefix).startswith('local_heads.'):
            depth = num_layers - 1
        return depth, num_layers

    def __getattr__(self, name: str) -> Any:
        # What other parts of a model ask of a backbone (`out_indices`,
        # `num_extra_tokens`, ...), the inner one answers.
        try:
            return super().__getattr__(name)
        except AttributeError:
            if 'backbone' not in self.__dict__.get('_modules', {}):
                raise
            return getattr(self.backbone, name)

    def _tell_what_is_detached(self, outputs: list[str]) -> None:
        """What is cut off beside the features with a local head."""
        takers = {
            skip.module: None
            for name in self.boundaries
            for skip in self.crossings[name].skips
        }
        if outputs and not self.local_end and 'outputs' not in self._said:
            self._said.add('outputs')
            print_log(
                f'{", ".join(outputs)} of the backbone stem from modules '
                'that have trained already and are handed out detached: a '
                'decode or auxiliary head that reads them trains itself only.',
                logger='current',
            )
        if takers and 'skips' not in self._said:
            self._said.add('skips')
            print_log(
                f'{", ".join(takers)} of the backbone also take what modules '
                'before their own have put out, as skip connections do. It '
                'is handed on detached: only the local loss of a module '
                'trains it, and no skip that leads out of it.',
                logger='current',
            )

    def _check_heads(self) -> None:
        for name, head in zip(self.boundaries, self.local_heads, strict=False):
            joined = self.crossings[name].joined
            if joined and (head.needs_gradient or passes_on(head)):
                raise ValueError(
                    f'model.backbone.local_heads: {type(head).__name__} needs '
                    f'what {name!r} takes, and a local head there reads '
                    'several features joined, or another layout: choose '
                    'another head or boundary.'
                )

    def _compile(self, modules: Sequence[str], **options) -> None:
        for name in modules:
            try:
                module = self.backbone.get_submodule(name)
            except AttributeError as error:
                raise ValueError(
                    f'compile_cfg.modules: the backbone has no {name!r}; it '
                    f'has {[n for n, _ in self.backbone.named_children()]}.'
                ) from error
            module.compile(**options)


def resolve_partition(cfg: dict, points: CutPoints) -> Split:
    """Let a partition choose among cut points.

    Args:
        cfg (dict): With the ``type`` of a partition.
        points (CutPoints): Of the backbone.

    Raises:
        ValueError: If there is no such partition.
    """
    split = build_partition(cfg)(points)
    if not isinstance(split, Split):
        split = Split(split)
    print_log(split.describe(), logger='current')
    return split


def _hide_inner_prefix(module, state_dict, prefix, local_metadata) -> None:
    """Save under the plain backbone's keys."""
    inner = f'{prefix}backbone.'
    keys = [key for key in state_dict if key.startswith(inner)]
    # All are taken out first: a hidden key may be another's.
    values = [state_dict.pop(key) for key in keys]
    for key, value in zip(keys, values, strict=True):
        state_dict[prefix + key[len(inner) :]] = value


def _add_inner_prefix(module, state_dict, prefix, *args) -> None:
    """Load from the plain backbone's keys."""
    heads = f'{prefix}local_heads.'
    keys = [
        key
        for key in state_dict
        if key.startswith(prefix) and not key.startswith(heads)
    ]
    values = [state_dict.pop(key) for key in keys]
    for key, value in zip(keys, values, strict=True):
        state_dict[f'{prefix}backbone.{key[len(prefix) :]}'] = value
