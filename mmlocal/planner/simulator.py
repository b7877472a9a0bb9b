"""Training steps of a config on fake tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
)
from copy import deepcopy
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import torch
from mmengine.model import ModuleList, revert_sync_batchnorm
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmlocal.fake_tensors import (
    FakeOps,
    FakeTensorMode,
    fake_copy,
    fake_input,
    fake_mode,
    uninitialized_weights,
)
from mmlocal.models.backbones import LocalSupervisedBackbone
from mmlocal.models.backbones.local_supervised import resolve_partition
from mmlocal.models.blocks import innermost_blocks
from mmlocal.models.boundary import Boundary
from mmlocal.models.calls import Calls
from mmlocal.models.chain import Chain
from mmlocal.models.checkpointing import parse_modes, watch_changes
from mmlocal.models.cut_points import CutPoints, Split
from mmlocal.models.local_heads.base import binds, build_local_heads
from mmlocal.models.tracing import outputs_of, plain_eval
from mmlocal.plain_backbone import plain_backbone
from mmlocal.registry import MODELS
from mmlocal.step import Stopped, only_module

from .autocast import CudaAutocast
from .bands import InBands, in_phase, watch_outputs
from .batch import batch_tensors, map_batch
from .momentum_encoders import cut_copies
from .optimizer_state import fill_state, state_of
from .recorder import (
    BATCH,
    GRADIENTS,
    OPTIMIZER,
    PARAMETERS,
    Recorder,
)
from .step_report import StepReport
from .training_setting import TrainingSetting

# What CUDA's caching allocator rounds a block up to.
CUDA_GRANULARITY = 512


class Simulator:
    """Runs training steps of one setting, cut in whatever way is asked.

    The model is built once; its weights take the memory of this machine for
    that moment only.

    Args:
        setting (TrainingSetting): What is trained, and how.

    Attributes:
        points (CutPoints): Of the backbone.
        model (nn.Module): On fake tensors.
        can_checkpoint (bool): Whether the backbone has blocks that no cut
            goes through.
        refused (dict[str, str]): Where no head can be tried, and why.
    """

    def __init__(self, setting: TrainingSetting):
        self.setting = setting
        self.mode = self.make_mode()
        init_default_scope(setting.scope)
        with self.building():
            # SyncBN has no CPU kernel, and saves what BN saves.
            real = revert_sync_batchnorm(MODELS.build(deepcopy(setting.model)))
        inner = real.backbone.backbone
        self.points = CutPoints(inner, setting.input_shape)
        places = [cut.name for cut in self.points.blocks()]
        self.can_checkpoint = any(
            not any(place.startswith(f'{block}.') for place in places)
            for block in innermost_blocks(inner)
        )
        calls = Calls(inner, setting.input_shape)
        self.model = self.adopt(real)
        self.model.train()
        self.backbone.calls = calls
        self.backbone.local_end = setting.local_end
        self.refused: dict[str, str] = {}
        self._heads: dict[Boundary, nn.Module] = {}
        if self.can_checkpoint:
            self._watch_changes()

    def make_mode(self) -> FakeTensorMode | None:
        """Of the tensors of the steps; None if they are real."""
        return fake_mode()

    def building(self) -> AbstractContextManager:
        """Where modules are built: real ones with weights."""
        return uninitialized_weights() if self.mode else nullcontext()

    def adopt(self, module: nn.Module) -> nn.Module:
        """A copy of a built module, for the steps."""
        return fake_copy(module, self.mode)

    def scope(self) -> AbstractContextManager:
        """Where the steps run."""
        return self.mode or nullcontext()

    @property
    def backbone(self) -> LocalSupervisedBackbone:
        """The wrapped backbone of the model."""
        return self.model.backbone

    def _watch_changes(self) -> None:
        """The first step with checkpointing is to be as any other."""
        inner = self.backbone.backbone
        weight = next(inner.parameters())
        with (
            self.scope(),
            FakeOps(self.mode),
            torch.no_grad(),
            plain_eval(inner),
            watch_changes(inner),
        ):
            images = weight.new_zeros((2, *self.setting.input_shape))
            outputs_of(inner, images)

    @cached_property
    def own_split(self) -> Split | None:
        """As the config says; None if it is left to a plan."""
        if self.setting.is_planned:
            return None
        boundaries = self.setting.boundaries
        if isinstance(boundaries, dict):
            boundaries = resolve_partition(boundaries, self.points).boundaries
        elif isinstance(boundaries, str):
            boundaries = [boundaries]
        names = [cut.name for cut in self.points.check(list(boundaries))]
        mode = self.setting.checkpointing
        return Split(names, parse_modes(mode, len(names) + 1))

    @cached_property
    def candidates(self) -> list[str]:
        """Cut points worth a try, in forward order.

        Raises:
            ValueError: If there are some, and a head can be tried at none.
        """
        found, errors = [], {}
        for name in [cut.name for cut in self.points.blocks()]:
            try:
                self.trial_head(name)
                found.append(name)
            except ValueError as error:
                errors[name] = error
        if errors and not found:
            raise next(iter(errors.values()))
        self.refused = {name: str(error) for name, error in errors.items()}
        return found

    def trial_head(self, name: str) -> nn.Module:
        """A head to try at a cut; alike for cuts of the same shape.

        A weight that depends on the place among the boundaries, which is not
        known yet, is taken at its largest.

        Raises:
            ValueError: If such a head cannot be tried alone.
        """
        cut = self.points.valid[name]
        cfgs = self.setting.head_cfgs
        cfg = dict(cfgs if isinstance(cfgs, dict) else cfgs[0])
        for key in ('recon_weight', 'task_weight'):
            if isinstance(cfg.get(key), (list, tuple)):
                cfg[key] = max(cfg[key])
        key = replace(cut.boundary, name='')
        if key not in self._heads:
            (self._heads[key],) = self._build_heads(cfg, [cut.boundary])
        head = self.adopt(self._heads[key])
        if head.runs_module:
            raise ValueError(
                f'model.backbone.local_heads: {type(head).__name__} runs its '
                'module a second time, and is none that can be tried at one '
                'cut alone: such steps are not planned.'
            )
        if binds(head):
            inner = self.backbone.backbone
            chain = Chain(inner, [name], self.backbone.calls)
            head.bind([chain.blocks(0), chain.blocks(1)])
        return head

    def _build_heads(
        self, cfgs: dict | Sequence[dict], places: list[Boundary]
    ) -> ModuleList:
        with self.building():
            heads = build_local_heads(deepcopy(cfgs), places)
            return revert_sync_batchnorm(heads)

    def prepare(self, split: Split) -> None:
        """Cut the model, with a head of its own at each cut."""
        places = [self.points.valid[n].boundary for n in split.boundaries]
        if self.setting.local_end:
            places.append(self.points.check_end())
        cfgs = self.setting.heads_for(len(split.boundaries))
        self.set_split(split, map(self.adopt, self._build_heads(cfgs, places)))

    def set_split(self, split: Split, heads: Iterable[nn.Module]) -> None:
        """Cut the model, with given heads."""
        self.backbone.set_split(split, ModuleList(heads), self.points)
        cut_copies(self.model, split, self.points, self.adopt)

    def measure(
        self, split: Split, batch_size: int | None = None, keep: bool = False
    ) -> StepReport:
        """One whole training step.

        Args:
            split (Split): Where to cut and what to checkpoint.
            batch_size (int, optional): None takes the setting's.
            keep (bool): Keep the course of the step. Defaults to False.
        """
        self.prepare(split)
        size = batch_size or self.setting.batch_size
        return self._run(split, size, self.model.train_step, keep)

    def measure_module(
        self,
        split: Split,
        index: int,
        cached: bool = False,
        keep: bool = False,
    ) -> StepReport:
        """One step that trains one module, while the others are frozen.

        Args:
            split (Split): Where to cut and what to checkpoint.
            index (int): Of the module, from 0.
            cached (bool): Whether its input has been computed before. If not,
                the modules before it run without gradient.
            keep (bool): Keep the course of the step. Defaults to False.

        Raises:
            ValueError: If ``cached``, and the backbone is no chain.
        """
        self.prepare(split)
        size = self.setting.batch_size
        with self.module_step(index, size, cached) as (train, feat):
            return self._run(split, size, train, keep, feat)

    @contextmanager
    def module_step(
        self, index: int, batch_size: int, cached: bool = False
    ) -> Iterator[tuple[Callable[[dict, OptimWrapper], None], Tensor | None]]:
        """Training steps of one module, with the others frozen.

        Args:
            index (int): Of the module, from 0.
            batch_size (int): Images.
            cached (bool): Whether its input has been computed before.

        Yields:
            tuple: The step, and the stored feature, if it reads one.
        """
        backbone, feat = self.backbone, None
        if cached and index:
            feat = self.module_input(index, batch_size)

        def train_step(batch: dict, wrap: OptimWrapper) -> None:
            alone = backbone.alone(index, feat) if cached else nullcontext()
            with alone:
                try:
                    self.model.train_step(batch, wrap)
                except Stopped:
                    wrap.finish()

        with only_module(self.model, index):
            yield train_step, feat

    def module_input(self, index: int, batch_size: int) -> Tensor:
        """What a module takes in, (B, C, H, W) or as its backbone has it."""
        chain = self.backbone.chain
        shape = self.setting.input_shape[:1] + self.setting.image_size
        weight = next(self.backbone.parameters())
        with self.scope(), FakeOps(self.mode), torch.no_grad():
            feat = weight.new_zeros((batch_size, *shape))
            for before in range(index):
                feat = chain.run(before, feat)
        return feat

    def _run(
        self,
        split: Split,
        batch_size: int,
        train_step: Callable[[dict, OptimWrapper], Any],
        keep: bool = False,
        given: Tensor | None = None,
    ) -> StepReport:
        with self.step(batch_size) as (recorder, wrap, batch):
            recorder.keep = keep
            if given is not None:
                recorder.track(given, BATCH)
            names = [
                f'module {k + 1}' for k in range(len(split.boundaries) + 1)
            ]
            recorder.band = names[0]
            outputs = watch_outputs(self.backbone, recorder)
            wrap.during = partial(in_phase, recorder)
            self.backbone.module_training = partial(InBands, recorder, names)
            try:
                train_step(batch, wrap)
            finally:
                del self.backbone.module_training
            unread = {
                path: size
                for path, (number, size) in outputs.items()
                if number not in recorder.read
            }
        return StepReport(
            split,
            batch_size,
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
        """What a training step needs, under a recorder."""
        on_cuda = self.setting.device == 'cuda'
        recorder = Recorder(self.mode, CUDA_GRANULARITY if on_cuda else 1)
        with ExitStack() as stack:
            wrap, batch = stack.enter_context(self.trainer(batch_size))
            weights = [*self.model.parameters(), *self.model.buffers()]
            recorder.track_all(weights, PARAMETERS)
            recorder.track_all(state_of(wrap), OPTIMIZER)
            if self.setting.ema:
                copies = [torch.empty_like(weight) for weight in weights]
                recorder.track_all(copies, PARAMETERS)
            recorder.track_all(batch_tensors(batch), BATCH)
            for weight in self.model.parameters():
                if not weight.requires_grad:
                    continue
                hook = weight.register_post_accumulate_grad_hook(
                    lambda weight: recorder.move(weight.grad, GRADIENTS)
                )
                stack.callback(hook.remove)
            stack.enter_context(recorder)
            yield recorder, wrap, batch

    @contextmanager
    def trainer(self, batch_size: int) -> Iterator[tuple[OptimWrapper, dict]]:
        """Optimizer and batch.

        The optimizer has its state already, as in any step but the first.
        """
        setting = self.setting
        batch = setting.batch(batch_size)
        with ExitStack() as stack:
            stack.enter_context(self.scope())
            if self.mode is not None:
                batch = map_batch(partial(fake_input, mode=self.mode), batch)
            cfg = deepcopy(setting.optim_cfg)
            if setting.amp:
                # So that no step is skipped for an overflow.
                cfg['loss_scale'] = 1.0
            # Constructors may go by the names of a plain backbone's weights.
            with plain_backbone(self.model):
                wrap = build_optim_wrapper(self.model, cfg)
            if setting.amp and self.mode is not None:
                # It takes no memory, and reads numbers.
                wrap.loss_scaler = torch.amp.GradScaler('cpu', enabled=False)
            if setting.device == 'cuda' and self.mode is not None:
                # torch's default there; on fake CPU tensors it has to be
                # asked.
                for group in wrap.optimizer.param_groups:
                    if group.get('foreach', False) is None:
                        group['foreach'] = True
            fill_state(self.model, wrap, self.mode)
            if setting.amp and setting.device == 'cuda' and self.mode:
                stack.enter_context(CudaAutocast())
            try:
                yield wrap, batch
            finally:
                for weight in self.model.parameters():
                    weight.grad = None
