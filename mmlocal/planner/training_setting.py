"""What a config says of a training step."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch

from mmlocal.config import (
    LOCAL_BACKBONE,
    WRAPPER_KINDS,
    has_hook,
    is_planned,
    is_wrapped,
    schedule_of,
    type_name,
    wrapper_kind,
)

from .batch import (
    batch_size_of,
    channels_of,
    image_size_of,
    make_batch,
    num_classes_of,
    task_of,
    train_pipeline_of,
)


class TrainingSetting:
    """A config, read for its memory.

    Args:
        cfg (dict): A config: ``model``, ``optim_wrapper`` and, unless the
            other arguments are given, ``train_dataloader``.
        batch_size (int, optional): Images a step; None takes the config's.
        image_size (tuple[int, ...], optional): Height and width in pixels, or
            samples of a waveform; None takes the config's.
        amp (bool, optional): Mixed precision; None takes the config's.
        device (str): Whose rules hold: 'cuda' rounds storages up, runs
            normalization and losses of mixed precision in float32, and
            updates weights list by list; 'cpu' does not. Defaults to 'cuda'.

    Attributes:
        task (str): 'segmentation', 'classification' or 'self-supervised'.
        pipeline (list[dict]): Transforms of a training image.
        model (dict): Config of the model, its backbone wrapped and uncut.
        boundaries (list | str | dict): As in the config.
        checkpointing (str | Sequence | None): As in the config.
        head_cfgs (dict | Sequence): Of local heads.
        local_end (bool): Whether the last module has one, too.
        proposed_heads (dict | None): Local heads to add, if it has none.
        is_local (bool): Whether the config trains locally already.
        optim_cfg (dict): Of the optimizer wrapper.
        amp (bool): Mixed precision.
        dtype (torch.dtype): Of products and convolutions.
        schedule (str): Of :func:`mmlocal.config.schedule_of`.
        by_module (bool): Whether gradients are freed module by module.
        hooks (list[dict]): The config's own.
        ema (bool): Whether a hook keeps a second copy of the weights.

    Raises:
        ValueError: If the config does not say something that is needed.
    """

    def __init__(
        self,
        cfg: dict,
        batch_size: int | None = None,
        image_size: tuple[int, ...] | None = None,
        amp: bool | None = None,
        device: str = 'cuda',
    ):
        if device not in ('cuda', 'cpu'):
            raise ValueError(f"device: {device!r} is neither 'cuda' nor 'cpu'")
        self.device = device
        self.scope = cfg.get('default_scope') or 'mmengine'
        self.task = task_of(cfg['model'])
        self.batch_size = batch_size or batch_size_of(cfg)
        self.image_size = image_size or image_size_of(cfg)
        self.pipeline = train_pipeline_of(cfg)
        self.optim_cfg = _optim_cfg(cfg, amp)
        self.amp = wrapper_kind(self.optim_cfg).amp
        self.dtype = torch.float32
        if self.amp:
            self.dtype = _half(self.optim_cfg, device)
            name = str(self.dtype).removeprefix('torch.')
            self.optim_cfg['dtype'] = name
        self.schedule = schedule_of(cfg)
        self.by_module = self.optim_cfg.get('step') == 'module'
        self.hooks = [dict(hook) for hook in cfg.get('custom_hooks') or ()]
        self.ema = has_hook(self.hooks, 'EMAHook')
        self.model = without_downloads(deepcopy(cfg['model']))
        if cfg.get('data_preprocessor') is not None:
            # As Runner does.
            self.model.setdefault(
                'data_preprocessor', cfg['data_preprocessor']
            )
        self._read_backbone()

    def batch(self, batch_size: int) -> dict[str, Any]:
        """Raw images and labels, as the data loader hands them out."""
        return make_batch(
            self.task,
            batch_size,
            self.image_size,
            channels_of(self.model),
            self.pipeline,
        )

    @property
    def precision(self) -> str:
        """Of the forward."""
        name = str(self.dtype).removeprefix('torch.')
        return f'mixed {name}' if self.amp else name

    @property
    def inputs(self) -> str:
        """How many inputs a step has, and how large they are."""
        size = 'x'.join(map(str, self.image_size))
        if len(self.image_size) == 1:
            return f'{self.batch_size} waveforms of {size} samples'
        return f'{self.batch_size} images of {size}'

    @property
    def optimizer(self) -> str:
        """Its type."""
        return type_name(self.optim_cfg['optimizer']['type'])

    @property
    def is_planned(self) -> bool:
        """Whether the boundaries are left to a plan."""
        return is_planned(self.boundaries)

    def heads_for(self, num_cuts: int) -> dict | list[dict]:
        """Local heads of a split that may have another number of cuts."""
        cfgs = self.head_cfgs
        if isinstance(cfgs, dict):
            return cfgs
        end = list(cfgs[-1:]) if self.local_end else []
        inner = cfgs[: len(cfgs) - len(end)] or cfgs
        last = len(inner) - 1
        return [inner[min(i, last)] for i in range(num_cuts)] + end

    def _read_backbone(self) -> None:
        backbone = self.model['backbone']
        self.is_local = is_wrapped(backbone)
        wrapped = backbone if self.is_local else {'backbone': backbone}
        self.boundaries = wrapped.get('boundaries') or []
        self.checkpointing = wrapped.get('checkpointing')
        self.local_end = bool(wrapped.get('local_end'))
        if wrapped['backbone'].get('with_cp'):
            self.checkpointing = 'block'
        self.head_cfgs = wrapped.get('local_heads')
        self.proposed_heads = None
        if self.boundaries and self.head_cfgs is not None:
            _check_heads(self.head_cfgs)
        if not self.head_cfgs:
            self.proposed_heads = propose_heads(self.model, self.task)
            self.head_cfgs = self.proposed_heads
        self.input_shape = tuple(
            wrapped.get('input_shape') or self._trace_shape(wrapped)
        )
        self.model['backbone'] = {
            'type': LOCAL_BACKBONE,
            'backbone': wrapped['backbone'],
        }
        # mmseg writes it into the backbone while it builds it.
        self.model.pop('pretrained', None)

    def _trace_shape(self, wrapped: dict) -> tuple[int, int, int]:
        if is_patched(wrapped['backbone']):
            return channels_of(self.model), *self.image_size
        size = wrapped['backbone'].get('img_size')
        if size is None:
            # Small ones may be all that it takes, as LeNet.
            sides = self.image_size
            if len(sides) > 1:
                sides = tuple(min(side, 224) for side in sides)
            return channels_of(self.model), *sides
        size = size if isinstance(size, int) else size[0]
        return channels_of(self.model), size, size


def _check_heads(cfgs: dict | Sequence[dict]) -> None:
    if not cfgs:
        raise ValueError(
            'model.backbone.local_heads=[]: steps without local heads, as of '
            'delayed gradients, are not planned; that loop tells in the log '
            'what waits in memory. Write local heads to plan.'
        )


def propose_heads(model: dict, task: str) -> dict:
    """The local head that fits a model which has none."""
    backbone = model['backbone']
    if is_wrapped(backbone):
        backbone = backbone['backbone']
    if is_patched(backbone):
        return {'type': 'mmlocal.PatchInfoNCEHead'}
    if task == 'self-supervised':
        # It reconstructs images, and needs no labels.
        return {
            'type': 'mmlocal.InfoProHead',
            'preset': 'imagenet',
            'task': 'contrast',
            'task_weight': 0.0,
        }
    preset = 'segmentation' if task == 'segmentation' else 'imagenet'
    return {
        'type': 'mmlocal.InfoProHead',
        'preset': preset,
        'num_classes': num_classes_of(model),
    }


def _optim_cfg(cfg: dict, amp: bool | None) -> dict:
    optim_cfg = deepcopy(dict(cfg.get('optim_wrapper') or {}))
    if 'optimizer' not in optim_cfg:
        raise ValueError(
            'the config has no optim_wrapper.optimizer, so that the memory '
            'of its state is unknown; write '
            "optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01))."
        )
    kind = wrapper_kind(optim_cfg)
    if kind is None:
        names = ', '.join(known.name for known in WRAPPER_KINDS)
        raise ValueError(
            f'optim_wrapper.type: the planner knows {names}, not '
            f'{optim_cfg["type"]!r}.'
        )
    if amp is not None:
        kind = kind._replace(amp=amp)
    optim_cfg['type'] = kind._replace(local=True).name
    if not kind.amp:
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            optim_cfg.pop(key, None)
    return optim_cfg


def _half(optim_cfg: dict, device: str) -> torch.dtype:
    """What autocast takes on a device, unless told."""
    default = 'float16' if device == 'cuda' else 'bfloat16'
    dtype = optim_cfg.get('dtype') or default
    return getattr(torch, dtype) if isinstance(dtype, str) else dtype


def without_downloads(node: Any) -> Any:
    """A config whose models load no pretrained weights."""
    if isinstance(node, dict):
        init_cfg = node.get('init_cfg')
        if (
            isinstance(init_cfg, dict)
            and type_name(init_cfg['type']) == 'Pretrained'
        ):
            node['init_cfg'] = None
        for value in node.values():
            without_downloads(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            without_downloads(value)
    return node


def is_patched(backbone: dict) -> bool:
    """Whether images are taken apart, for which heads are made by size."""
    return type_name(backbone['type']) == 'PatchBackbone'
