"""Runs whose ranks have a shard of the model each."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from .shards import whole_states


class ShardedRuns:
    """What a Runner does otherwise with a model in ``LocalFSDP``.

    Checkpoints are those of one process. All ranks gather them, and rank 0
    writes; to load one, each rank reads it on the host and takes its shards.
    """

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Build it; its state is loaded and saved whole."""
        built = super().build_optim_wrapper(optim_wrapper)
        if self._is_sharded and isinstance(built, OptimWrapper):
            self.model.handle_optimizer(built.optimizer)
        return built

    def save_checkpoint(self, *args, **kwargs) -> None:
        """Save a checkpoint; to be called on all ranks."""
        if not self._is_sharded:
            super().save_checkpoint(*args, **kwargs)
            return
        # Without the decorator that leaves all but rank 0 out.
        save = Runner.save_checkpoint.__wrapped__
        call = signature(save).bind(self, *args, **kwargs)
        if not is_main_process():
            call.arguments.update(
                backend_args={'backend': 'mmlocal_nowhere'},
                file_client_args=None,
            )
        with whole_states():
            save(*call.args, **call.kwargs)

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: str | Callable = 'default',
    ) -> None:
        """Resume; what is whole in the file stays on the host."""
        if self._is_sharded and map_location == 'default':
            map_location = 'cpu'
        super().resume(
            filename, resume_optimizer, resume_param_scheduler, map_location
        )

    @property
    def _is_sharded(self) -> bool:
        return getattr(self.model, 'is_sharded', False)

    def _init_model_weights(self) -> None:
        if self._is_sharded:
            self.model.init_weights()
        else:
            super()._init_model_weights()


@register_backend('mmlocal_nowhere', force=True)
class NowhereBackend(LocalBackend):
    """Where ranks write that have nothing to write."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Let go of it."""
