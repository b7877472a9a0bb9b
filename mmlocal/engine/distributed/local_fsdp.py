"""The wrapper that keeps a part of the weights on each rank."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn
from weakref import WeakSet

import torch
import torch.distributed as dist
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.distributed import fsdp
from torch.distributed.device_mesh import init_device_mesh
from torch.optim import Optimizer

from mmlocal.registry import MODEL_WRAPPERS
from mmlocal.units import find_units, loose_weights

from .gathering import Gathering, LooseWeights
from .model_wrapper import LocalModelWrapper
from .shards import (
    copy_with,
    handle_optimizer_states,
    handle_states,
    on_meta,
    shard_like,
    to_whole,
)
from .weights import broadcast, check_same_parameters

DTYPES = {None: None, 'fp16': torch.float16, 'bf16': torch.bfloat16}


@MODEL_WRAPPERS.register_module()
class LocalFSDP(LocalModelWrapper):
    """Shards weights, gradients and optimizer state over the ranks.

    By torch's ``fully_shard`` (FSDP2). End to end it gathers each layer twice
    a step, or keeps the whole network from the forward to the backward. A
    local module's backward follows its forward at once: its weights are
    gathered once, used for both, and freed before the next module runs. So
    one module is whole at a time, and a rank sends what DDP sends.

    Units are the blocks of the backbone, and outside of them each layer with
    weights; see :func:`mmlocal.units.find_units`. Each is a root of its own:
    a root above them would free its weights after the first local backward.
    Weights that belong to no unit, as a class token, are sharded, too, and
    whole during the forward.

    All ranks run the same units in the same order: a step in which one of
    them leaves out a layer waits for the timeout. Needs
    :class:`~mmlocal.engine.runner.LocalRunner`, which initializes, saves and
    resumes what is sharded. Checkpoints are those of one process.

    Args:
        module (nn.Module): The model, on its device. Its parameters and
            buffers become those of rank 0.
        reshard_after_forward (bool): Free each unit behind its forward and
            gather it again in backward: one unit is whole at a time, for half
            as many bytes again. Defaults to False.
        prefetch (bool): Gather each unit while the one before it computes.
            Defaults to True.
        accumulate (str): Of accumulated gradients, 'sharded': each forward
            reduces its own; 'whole': the last one reduces the total, and
            each rank holds all of them until then. Defaults to 'sharded'.
        param_dtype (str, optional): 'bf16' or 'fp16' gathers weights and
            casts inputs of units so, under the optimizer's float32 ones; for
            ``LocalAmpOptimWrapper`` of that ``dtype``, and networks without
            BatchNorm. Defaults to None.
        reduce_dtype (str, optional): That of the gradients on their way.
            Defaults to None: that of the weights.
        units (Sequence[str]): Names of further submodules to gather as a
            whole. Defaults to ().

    Raises:
        RuntimeError: If there is no process group, or the ranks' models have
            different parameters.
        ValueError: If an argument is unknown, or the model cannot be sharded.

    Example:
        >>> model_wrapper_cfg = dict(type='mmlocal.LocalFSDP')
    """

    is_sharded = True

    def __init__(
        self,
        module: nn.Module,
        reshard_after_forward: bool = False,
        prefetch: bool = True,
        accumulate: str = 'sharded',
        param_dtype: str | None = None,
        reduce_dtype: str | None = None,
        units: Sequence[str] = (),
    ):
        super().__init__(module)
        if not dist.is_initialized():
            raise RuntimeError(
                'LocalFSDP is for several processes: start them with '
                'tools/dist_train.sh, or with one leave it out.'
            )
        if accumulate not in ('sharded', 'whole'):
            raise ValueError(
                f'model_wrapper_cfg.accumulate={accumulate!r}: write '
                "'sharded' or 'whole'."
            )
        policy = fsdp.MixedPrecisionPolicy(
            param_dtype=_dtype('param_dtype', param_dtype),
            reduce_dtype=_dtype('reduce_dtype', reduce_dtype),
        )
        device = next(module.parameters()).device.type
        _check_torch(device)
        _check_weights(module, policy.param_dtype)
        self.accumulate = accumulate
        self._require_sync = True
        self._failed: Exception | None = None
        self._optimizers: WeakSet[Optimizer] = WeakSet()
        check_same_parameters(module)
        broadcast([*module.parameters(), *module.buffers()])
        units = [units] if isinstance(units, str) else units
        found = find_units(module, units)
        loose = list(loose_weights(module, found))
        handle_states(module)
        plain = on_meta(module)
        # Not as a submodule.
        self._plain = lambda: plain
        mesh = init_device_mesh(device, (dist.get_world_size(),))
        for unit in found.values():
            fsdp.fully_shard(
                unit,
                mesh=mesh,
                reshard_after_forward=reshard_after_forward,
                mp_policy=policy,
            )
        sharded = list(found.values())
        if hasattr(fsdp, 'share_comm_ctx'):
            # Gradients of one unit on their way at a time, not of a module.
            fsdp.share_comm_ctx(sharded)
        for _, holder, names in loose:
            LooseWeights(holder, names, mesh)
        self.gathering = Gathering(sharded, prefetch)
        module.__deepcopy__ = self._copy
        module.init_weights = _refuse_other_runners

    @property
    def gradient_reducer(self) -> LocalFSDP:
        """What ``LocalStepMixin`` tells of the course of a step."""
        return self

    def forward(self, *args, **kwargs) -> Any:
        """The model's; in training, the beginning of a step."""
        if self._failed is not None:
            raise RuntimeError(
                f'the last step has failed on rank {dist.get_rank()}, with '
                f'{type(self._failed).__name__}: {self._failed}\nOther ranks '
                'may have gone on in it: its batch cannot be skipped. Remove '
                'the cause and go on from the last checkpoint (--resume).'
            ) from self._failed
        if self.training and torch.is_grad_enabled():
            self.gathering.begin()
            if self.accumulate == 'whole':
                for unit in self.gathering.units:
                    unit.set_requires_gradient_sync(self._require_sync)
        with _explained():
            return self.module(*args, **kwargs)

    def end_module(self) -> None:
        """A local backward is over: free what it has left whole."""
        self.gathering.end_module()

    def wait(self, params: Iterable[nn.Parameter] | None = None) -> None:
        """Have all gradients reduced."""
        self.gathering.reduce_late_gradients()

    def abort(self, error: Exception) -> None:
        """A step has failed, and leaves the ranks at different places."""
        self._failed = error

    def init_weights(self) -> None:
        """Initialize as one process would, and keep a shard of it."""
        whole = copy_with(self._plain(), self.module, _whole_on_host)
        whole.init_weights()
        with torch.no_grad():
            for new, old in _tensors_of(whole, self.module):
                new = new.to(old.device)
                dist.broadcast(new, 0)
                old.copy_(shard_like(new, old))

    def handle_optimizer(self, optimizer: Optimizer) -> None:
        """Let whole states load into an optimizer, and come out of it."""
        if optimizer not in self._optimizers:
            self._optimizers.add(optimizer)
            handle_optimizer_states(optimizer)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Accumulate the gradients of forwards in here.

        ``OptimWrapper.optim_context`` enters it where ``should_sync`` says
        no. They are reduced at once, or later, as ``accumulate`` says.
        """
        before, self._require_sync = self._require_sync, False
        try:
            yield
        finally:
            self._require_sync = before

    def train_step(
        self, data: dict | tuple | list, optim_wrapper: OptimWrapper
    ) -> dict[str, Tensor]:
        """One training iteration; see :class:`LocalModelWrapper`."""
        with _explained():
            log = super().train_step(data, optim_wrapper)
        self.gathering.finish()
        return log

    def val_step(self, data: dict | tuple | list) -> list:
        """The model's predictions."""
        with _explained():
            return super().val_step(data)

    def test_step(self, data: dict | tuple | list) -> list:
        """The model's predictions."""
        with _explained():
            return super().test_step(data)

    def _copy(self, memo: dict) -> nn.Module:
        """Of the model, with the same shards; it does not gather them."""
        return copy_with(self._plain(), self.module, Tensor.clone)


@contextmanager
def _explained() -> Iterator[None]:
    """Say what errors of torch and of the network come from."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if 'DTensor' in text and 'mixed' in text:
            raise RuntimeError(
                'a weight is used outside of the forward of its unit, where '
                'it is a shard: name a submodule around both in '
                "model_wrapper_cfg.units=[...], or write type='mmlocal."
                f"LocalDistributedDataParallel'. torch says: {text}"
            ) from error
        if isinstance(error, dist.DistError) or 'gloo' in text:
            raise RuntimeError(
                f'rank {dist.get_rank()}: weights were not gathered, or '
                'gradients not reduced. Another rank has ended (see its '
                'output), or did not answer within the timeout '
                '(env_cfg.dist_cfg.timeout, in seconds).'
            ) from error
        raise


def _dtype(key: str, name: str | None) -> torch.dtype | None:
    if name not in DTYPES:
        raise ValueError(
            f'model_wrapper_cfg.{key}={name!r}: write one of {[*DTYPES]}.'
        )
    return DTYPES[name]


def _check_torch(device: str) -> None:
    if device == 'cpu' and not hasattr(torch.cpu.Stream, 'record_event'):
        raise RuntimeError(
            f'LocalFSDP: fully_shard of torch {torch.__version__} does not '
            'run on CPUs; torch 2.15 does. On GPUs torch 2.6 is enough.'
        )


def _check_weights(module: nn.Module, dtype: torch.dtype | None) -> None:
    instead = "write type='mmlocal.LocalDistributedDataParallel'."
    for name, weight in module.named_parameters():
        if weight.ndim == 0:
            raise ValueError(
                f'model_wrapper_cfg: {name} is a scalar, which fully_shard '
                f'cannot shard: make it a tensor of one element, or {instead}'
            )
    for name, layer in module.named_modules():
        has_statistics = getattr(layer, 'running_mean', None) is not None
        if dtype is not None and has_statistics:
            raise ValueError(
                f'model_wrapper_cfg.param_dtype: {name} is a BatchNorm, whose '
                'weights have to be of the type of its statistics, float32: '
                'remove param_dtype (reduce_dtype is possible).'
            )


def _whole_on_host(tensor: Tensor) -> Tensor:
    return to_whole(tensor).cpu().clone()


def _tensors_of(*models: nn.Module) -> Iterator[tuple[Tensor, ...]]:
    yield from zip(*(m.parameters() for m in models), strict=True)
    yield from zip(*(m.buffers() for m in models), strict=True)


def _refuse_other_runners() -> NoReturn:
    raise RuntimeError(
        "LocalFSDP needs runner_type='mmlocal.LocalRunner', which "
        'tools/train.py takes by default: other Runners initialize and save '
        'on each rank as if it had all weights.'
    )
