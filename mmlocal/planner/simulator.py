"""Training steps of a config on fake tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from mmengine.model import ModuleList
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

from mmlocal.fake_tensors import (
    FakeTensorMode,
    fake_copy,
    uninitialized_weights,
)
from mmlocal.models.backbones import LocalSupervisedBackbone
from mmlocal.models.cut_points import CutPoints, Split
from mmlocal.models.local_heads.base import build_local_heads
from mmlocal.registry import MODELS

from .autocast import CudaAutocast
from .batch import (
    batch_size_of,
    image_size_of,
    make_batch,
    num_classes_of,
    task_of,
)
from .recorder import BATCH, GRADIENTS, OPTIMIZER, PARAMETERS, Recorder

WRAPPERS = {
    'OptimWrapper': 'mmlocal.LocalOptimWrapper',
    'AmpOptimWrapper': 'mmlocal.LocalAmpOptimWrapper',
}
# What CUDA's caching allocator rounds a block up to.
CUDA_GRANULARITY = 512


@dataclass
class StepReport:
    """What one training step takes.

    Attributes:
        split (Split): How the network was cut.
        batch_size (int): Images.
        peak (int): Bytes.
        bands (dict[str, int]): What the peak is made of, bytes.
        flops (dict[str, int]): Of 'forward', 'recompute' and 'backward'.
        course (list): See :class:`Recorder`; empty unless asked for.
        unread (dict[str, int]): Outputs of the backbone that no head reads,
            though they stay in memory, and their bytes.
        guessed (list[str]): Operators without a fake implementation.
    """

    split: Split
    batch_size: int
    peak: int
    bands: dict[str, int]
    flops: dict[str, int]
    course: list[tuple[int, str, dict[str, int]]] = field(default_factory=list)
    unread: dict[str, int] = field(default_factory=dict)
    guessed: list[str] = field(default_factory=list)

    @property
    def total_flops(self) -> int:
        """Of the whole step."""
        return sum(self.flops.values())


class Simulator:
    """Runs training steps of one config, cut in whatever way is asked.

    The model is built once; its weights take the memory of this machine for
    that moment only.

    Args:
        cfg (dict): A config: ``model``, ``optim_wrapper`` and, unless the
            other arguments are given, ``train_dataloader``.
        batch_size (int, optional): Images a step; None takes the config's.
        image_size (tuple[int, int], optional): Height and width in pixels;
            None takes the config's.
        amp (bool, optional): Mixed precision; None takes the config's.
        device (str): Whose rules hold: 'cuda' rounds storages up, runs
            normalization and losses of mixed precision in float32, and
            updates weights tensor list by tensor list; 'cpu' does not.
            Defaults to 'cuda'.

    Raises:
        ValueError: If the config does not say something that is needed.
    """

    def __init__(
        self,
        cfg: dict,
        batch_size: int | None = None,
        image_size: tuple[int, int] | None = None,
        amp: bool | None = None,
        device: str = 'cuda',
    ):
        if device not in ('cuda', 'cpu'):
            raise ValueError(f"device: {device!r} is neither 'cuda' nor 'cpu'")
        self.device = device
        self.task = task_of(cfg['model'])
        self.batch_size = batch_size or batch_size_of(cfg)
        self.image_size = image_size or image_size_of(cfg)
        self.optim_cfg = _optim_cfg(cfg, amp)
        self.amp = self.optim_cfg['type'] == WRAPPERS['AmpOptimWrapper']
        self.dtype = _half(self.optim_cfg) if self.amp else torch.float32
        self.ema = any(
            'EMAHook' in str(hook.get('type'))
            for hook in cfg.get('custom_hooks') or ()
        )
        init_default_scope(cfg.get('default_scope') or 'mmengine')
        model = _without_sync_bn(deepcopy(cfg['model']))
        if cfg.get('data_preprocessor') is not None:
            # As Runner does.
            model.setdefault('data_preprocessor', cfg['data_preprocessor'])
        backbone = model['backbone']
        is_local = 'LocalSupervisedBackbone' in str(backbone['type'])
        self.head_cfgs = backbone.get('local_heads') if is_local else None
        self.proposed_heads = not self.head_cfgs
        if self.proposed_heads:
            self.head_cfgs = propose_heads(model, self.task)
        self.input_shape = tuple(
            backbone.get('input_shape') or _trace_shape(model)
        )
        model['backbone'] = {
            'type': 'mmlocal.LocalSupervisedBackbone',
            'backbone': backbone['backbone'] if is_local else backbone,
        }
        # mmseg writes `pretrained` into the backbone while it builds it.
        model['pretrained'] = None
        with uninitialized_weights():
            real = MODELS.build(model)
        inner = real.backbone.backbone
        self.mm_checkpointing = any(
            'forward' in vars(block) for block in inner.modules()
        )
        self.points = CutPoints(inner, self.input_shape)
        self.mode = FakeTensorMode()
        self.model = fake_copy(real, self.mode)
        self.model.train()
        self._heads: dict[tuple, nn.Module] = {}

    @property
    def backbone(self) -> LocalSupervisedBackbone:
        """The wrapped backbone of the fake model."""
        return self.model.backbone

    @cached_property
    def candidates(self) -> list[str]:
        """Cut points worth a try, in forward order."""
        return [cut.name for cut in self.points.blocks()]

    def head(self, name: str, index: int = 0) -> nn.Module:
        """A fake local head for a cut; alike for cuts of the same shape."""
        cut = self.points.valid[name]
        cfgs = self.head_cfgs
        if isinstance(cfgs, (list, tuple)):
            cfgs = cfgs[min(index, len(cfgs) - 1)]
        cfg = _without_sync_bn(deepcopy(dict(cfgs)))
        key = (cut.channels, cut.stride, cut.tokens, repr(cfg))
        if key not in self._heads:
            with uninitialized_weights():
                (self._heads[key],) = build_local_heads(cfg, [cut])
        return fake_copy(self._heads[key], self.mode)

    def measure(
        self, split: Split, batch_size: int | None = None, keep: bool = False
    ) -> StepReport:
        """One whole training step.

        Args:
            split (Split): Where to cut and what to checkpoint.
            batch_size (int, optional): None takes the simulator's.
            keep (bool): Keep the course of the step. Defaults to False.
        """
        heads = [
            self.head(name, index)
            for index, name in enumerate(split.boundaries)
        ]
        self.backbone.set_split(split, ModuleList(heads), self.points.order)
        size = batch_size or self.batch_size
        with self.step(size) as (recorder, wrap, batch):
            recorder.keep = keep
            names = [f'module {k + 1}' for k in range(len(heads) + 1)]
            recorder.band = names[0]
            outputs = _watch_outputs(self.backbone, recorder)
            _follow_modules(wrap, recorder, iter(names[1:]))
            self.model.train_step(batch, wrap)
            unread = {
                path: size
                for path, (key, size) in outputs.items()
                if key not in recorder.read
            }
        return StepReport(
            split,
            size,
            recorder.peak,
            {band: size for band, size in recorder.peak_bands.items() if size},
            dict(recorder.flops),
            recorder.course,
            unread,
            sorted(recorder.guessed),
        )

    @contextmanager
    def step(
        self, batch_size: int
    ) -> Iterator[tuple[Recorder, OptimWrapper, dict]]:
        """Everything that a training step needs, under a recorder.

        The optimizer has its state already, as in any step but the first.
        """
        granularity = CUDA_GRANULARITY if self.device == 'cuda' else 1
        recorder = Recorder(self.mode, granularity)
        with ExitStack() as stack:
            stack.enter_context(self.mode)
            wrap = build_optim_wrapper(self.model, deepcopy(self.optim_cfg))
            if self.amp:
                # A loss scale takes no memory, and reads numbers.
                wrap.loss_scaler = torch.amp.GradScaler('cpu', enabled=False)
            self._fill_state(wrap)
            weights = [*self.model.parameters(), *self.model.buffers()]
            recorder.track_all(weights, PARAMETERS)
            recorder.track_all(_state(wrap), OPTIMIZER)
            if self.ema:
                copies = [torch.empty_like(weight) for weight in weights]
                recorder.track_all(copies, PARAMETERS)
            batch = make_batch(self.task, batch_size, self.image_size)
            recorder.track_all(_batch_tensors(batch), BATCH)
            for weight in self.model.parameters():
                hook = weight.register_post_accumulate_grad_hook(
                    lambda weight: recorder.move(weight.grad, GRADIENTS)
                )
                stack.callback(hook.remove)
            if self.amp and self.device == 'cuda':
                stack.enter_context(CudaAutocast())
            stack.enter_context(recorder)
            try:
                yield recorder, wrap, batch
            finally:
                for weight in self.model.parameters():
                    weight.grad = None

    def _fill_state(self, wrap: OptimWrapper) -> None:
        if self.device == 'cuda':
            # torch's default there; on fake CPU tensors it has to be asked.
            for group in wrap.optimizer.param_groups:
                if group.get('foreach', False) is None:
                    group['foreach'] = True
        for weight in self.model.parameters():
            if weight.requires_grad:
                weight.grad = torch.empty_like(weight)
        wrap.optimizer.step()
        wrap.optimizer.zero_grad()


def propose_heads(model: dict, task: str) -> dict:
    """The local head that fits a model which has none."""
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
    kind = optim_cfg.get('type') or 'OptimWrapper'
    kind = WRAPPERS.get(kind, kind)
    if kind not in WRAPPERS.values():
        raise ValueError(
            f'optim_wrapper.type: the planner knows {", ".join(WRAPPERS)} '
            f"and MMLocal's, not {kind!r}."
        )
    if amp is not None:
        kind = list(WRAPPERS.values())[amp]
    optim_cfg['type'] = kind
    if kind == WRAPPERS['OptimWrapper']:
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            optim_cfg.pop(key, None)
    else:
        optim_cfg['dtype'] = str(_half(optim_cfg)).removeprefix('torch.')
    return optim_cfg


def _half(optim_cfg: dict) -> torch.dtype:
    dtype = optim_cfg.get('dtype') or 'float16'
    return getattr(torch, dtype) if isinstance(dtype, str) else dtype


def _without_sync_bn(node: Any) -> Any:
    """SyncBN, which has no CPU kernel, saves what BN saves."""
    if isinstance(node, dict):
        if str(node.get('type')).rpartition('.')[2] == 'SyncBN':
            node['type'] = 'BN'
        for value in node.values():
            _without_sync_bn(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _without_sync_bn(value)
    return node


def _trace_shape(model: dict) -> Sequence[int]:
    backbone = model['backbone']
    size = backbone.get('img_size', 224)
    size = size if isinstance(size, int) else size[0]
    return (backbone.get('in_channels', 3), size, size)


def _state(wrap: OptimWrapper) -> list[torch.Tensor]:
    return [
        value
        for state in wrap.optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    ]


def _batch_tensors(batch: dict) -> list[torch.Tensor]:
    found = list(batch['inputs'])
    for sample in batch['data_samples']:
        label = getattr(sample, 'gt_sem_seg', None)
        found.append(sample.gt_label if label is None else label.data)
    return found


def _follow_modules(
    wrap: OptimWrapper, recorder: Recorder, names: Iterator[str]
) -> None:
    """Tell the recorder which module runs, and in which phase."""

    def local_backward(loss: torch.Tensor) -> None:
        with in_phase(recorder, 'backward'):
            propagate(loss)
        recorder.band = next(names)

    propagate = wrap.local_backward
    wrap.local_backward = local_backward
    follow_update(wrap, recorder)


def follow_update(wrap: OptimWrapper, recorder: Recorder) -> None:
    """Tell the recorder of the last backward and of the update."""
    for method, phase in (('backward', 'backward'), ('step', 'update')):
        original = getattr(wrap, method)

        def run(*args, original=original, phase=phase, **kwargs):
            with in_phase(recorder, phase):
                return original(*args, **kwargs)

        setattr(wrap, method, run)


@contextmanager
def in_phase(recorder: Recorder, phase: str) -> Iterator[None]:
    """Set the recorder's phase for a while."""
    before, recorder.phase = recorder.phase, phase
    try:
        yield
    finally:
        recorder.phase = before


def _watch_outputs(
    backbone: nn.Module, recorder: Recorder
) -> dict[str, tuple[int, int]]:
    """Key and size of each output's storage, once the backbone has run."""
    found: dict[str, tuple[int, int]] = {}

    def note(module: nn.Module, args: tuple, outputs: Any) -> None:
        handle.remove()
        if not isinstance(outputs, (tuple, list)):
            return
        for index, output in enumerate(outputs):
            if isinstance(output, torch.Tensor):
                key = output.untyped_storage()._cdata
                found[f'outs[{index}]'] = (key, recorder.find(output)[0])
        recorder.read.clear()

    handle = backbone.register_forward_hook(note)
    return found
