"""A backbone cut into modules, each trained by a loss of its own."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule, ModuleList
from torch import Tensor, nn
from torch.autograd.graph import Node

from mmlocal.config import build_partition
from mmlocal.registry import MODELS
from mmlocal.step import LocalStep, current_step

from ..checkpointing import (
    assign_blocks,
    checkpoint_blocks,
    parse_modes,
    take_over_with_cp,
)
from ..cut_points import CutPoints, Split
from ..finished import detach_finished, graph_nodes
from ..local_heads.base import build_local_heads
from ..tracing import replace, single_tensor


@MODELS.register_module()
class LocalSupervisedBackbone(BaseModule):
    """Trains a backbone in gradient-isolated modules.

    In a training step, as soon as the forward reaches a boundary, the local
    head there turns the feature into losses, these are propagated back, the
    module's graph is freed, and the next module gets the feature detached.
    Outside of a training step this is the backbone itself: same outputs, same
    checkpoint keys; only ``local_heads.*`` comes on top.

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
            head for all boundaries, or one config a boundary.
        checkpointing (str | Sequence[str | None], optional): Recompute
            blocks in backward: 'block' keeps a block's inputs alone,
            'selective' also what is costly to compute (attention, 3x3 and
            channel-reducing convolutions); None keeps all. A list gives one
            mode a module. ``with_cp=True`` of the backbone is read as
            'block'. Defaults to None.
        pretrained (str, optional): Passed on to ``backbone``; segmentors
            write it here.
        input_shape (tuple[int, int, int]): C, H and W (H = W) of the fake
            image with which the boundaries' channels and strides are found.
            Defaults to (3, 224, 224).
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

    def __init__(
        self,
        backbone: dict,
        boundaries: str | Sequence[str] | dict = (),
        local_heads: dict | Sequence[dict] | None = None,
        checkpointing: str | Sequence[str | None] | None = None,
        pretrained: str | None = None,
        input_shape: tuple[int, int, int] = (3, 224, 224),
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
        cuts, order = [], []
        if boundaries:
            points = CutPoints(self.backbone, tuple(input_shape))
            if isinstance(boundaries, dict):
                split = resolve_partition(boundaries, points)
                boundaries = split.boundaries
                checkpointing = checkpointing or split.checkpointing
            elif isinstance(boundaries, str):
                boundaries = [boundaries]
            cuts, order = points.check(list(boundaries)), points.order
        self.set_split(
            Split([cut.name for cut in cuts], checkpointing),
            build_local_heads(local_heads, cuts),
            order,
        )
        self._warned_outputs = False
        self.register_state_dict_post_hook(_hide_inner_prefix)
        self.register_load_state_dict_pre_hook(_add_inner_prefix)
        if compile_cfg is not None:
            self._compile(**compile_cfg)

    def forward(self, x: Tensor) -> Any:
        """The backbone's outputs; in a training step, trains its modules.

        Args:
            x (Tensor): Images (N, C, H, W).

        Raises:
            RuntimeError: In training, without a local optimizer wrapper.
        """
        training = self.training and torch.is_grad_enabled()
        if not (training and self.boundaries):
            return self.backbone(x)
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
        finished: set[Node] = set()
        outputs = self._run(x, partial(self._train_module, step, finished))
        outputs, detached = detach_finished(outputs, finished)
        self._warn_of_detached(detached)
        return outputs

    @torch.no_grad()
    def predict_local(self, x: Tensor) -> list[dict[str, Any]]:
        """What each local head sees in its module's output.

        Args:
            x (Tensor): Preprocessed images (N, C, H, W).

        Returns:
            list[dict]: :meth:`LocalHead.predict` of each boundary in turn.
        """
        predictions: list[dict[str, Any]] = []

        def predict(index: int, feat: Tensor) -> Tensor:
            predictions.append(self.local_heads[index].predict(feat, x))
            return feat

        self._run(x, predict)
        return predictions

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

    def _run(self, x: Tensor, at_boundary) -> Any:
        """Run the backbone; ``at_boundary(index, feat)`` replaces feat."""

        def hook(index: int, module: nn.Module, args: tuple, kwargs: dict):
            key = single_tensor(args, kwargs)
            feat = args[key] if isinstance(key, int) else kwargs[key]
            return replace(args, kwargs, key, at_boundary(index, feat))

        # Names are resolved at each forward: SyncBN conversion and the like
        # replace modules.
        handles = [
            self.backbone.get_submodule(name).register_forward_pre_hook(
                partial(hook, index), with_kwargs=True
            )
            for index, name in enumerate(self.boundaries)
        ]
        try:
            return self.backbone(x)
        finally:
            for handle in handles:
                handle.remove()

    def _train_module(
        self, step: LocalStep, finished: set[Node], index: int, feat: Tensor
    ) -> Tensor:
        finished.update(graph_nodes(feat, finished))
        try:
            losses = self.local_heads[index].loss(
                feat, step.inputs, step.data_samples
            )
        except ValueError as error:
            if 'more than 1 value per channel' not in str(error):
                raise
            raise ValueError(
                f'the local head at {self.boundaries[index]!r} normalizes '
                'over a batch with a single value a channel: raise '
                'train_dataloader.batch_size to 2 or more, set '
                'train_dataloader.drop_last=True if only the last batch is '
                'that small, or choose a head without BatchNorm after '
                "pooling (local_heads.net='linear')."
            ) from error
        values = {key: _mean(value) for key, value in losses.items()}
        local = [value for key, value in values.items() if 'loss' in key]
        if not local:
            raise ValueError(
                f'the local head at {self.boundaries[index]!r} returned no '
                f"key that contains 'loss', but {sorted(values)}."
            )
        for key, value in values.items():
            step.log[f'local_{index}.{key}'] = value.detach()
        loss = sum(local)
        if loss.requires_grad:
            step.backward(loss)
        return feat.detach()

    def _warn_of_detached(self, paths: list[str]) -> None:
        if paths and not self._warned_outputs:
            self._warned_outputs = True
            print_log(
                f'{", ".join(paths)} of the backbone stem from modules that '
                'have trained already and are handed out detached: a decode '
                'or auxiliary head that reads them trains itself only.',
                logger='current',
            )

    def set_split(
        self, split: Split, local_heads: ModuleList, order: Sequence[str]
    ) -> None:
        """Cut in another way.

        Args:
            split (Split): Boundaries, in forward order, and checkpointing.
            local_heads (ModuleList): One head a boundary.
            order (Sequence[str]): :attr:`CutPoints.order`; may be empty if
                there are no boundaries.

        Raises:
            ValueError: If ``split.checkpointing`` does not fit.
        """
        self.boundaries = list(split.boundaries)
        self.local_heads = local_heads
        modes = parse_modes(split.checkpointing, len(self.boundaries) + 1)
        blocks = assign_blocks(self.backbone, modes, self.boundaries, order)
        checkpoint_blocks(self.backbone, blocks)

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


def _mean(value: Tensor | Sequence[Tensor]) -> Tensor:
    """As ``BaseModel.parse_losses`` reads a value."""
    if isinstance(value, Tensor):
        return value.mean()
    return sum(item.mean() for item in value)


def _hide_inner_prefix(module, state_dict, prefix, local_metadata) -> None:
    """Save under the plain backbone's keys."""
    inner = f'{prefix}backbone.'
    for key in [key for key in state_dict if key.startswith(inner)]:
        state_dict[prefix + key[len(inner) :]] = state_dict.pop(key)


def _add_inner_prefix(module, state_dict, prefix, *args) -> None:
    """Load from the plain backbone's keys."""
    heads = f'{prefix}local_heads.'
    for key in [key for key in state_dict if key.startswith(prefix)]:
        if not key.startswith(heads):
            new = f'{prefix}backbone.{key[len(prefix) :]}'
            state_dict[new] = state_dict.pop(key)
