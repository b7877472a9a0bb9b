"""Checkpoints that survive whatever happens while they are written."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.fileio import LocalBackend, get_file_backend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmlocal.engine.distributed import ModuleParallel
from mmlocal.files import DRAFT, is_whole, write_atomically
from mmlocal.registry import HOOKS
from mmlocal.safe_load import load_safely_in_mmengine

from .accumulation import restore_gradients, unfinished_gradients
from .fit import check_fit

KEY = 'mmlocal_accumulation'


@HOOKS.register_module()
class LocalCheckpointHook(CheckpointHook):
    """:class:`mmengine.hooks.CheckpointHook` that loses nothing.

    * A kill at any moment leaves a checkpoint to resume from: the new one is
      written under another name and renamed when it is on the disk; then
      ``last_checkpoint`` is replaced, and then the old one removed. The best
      checkpoint is replaced in the same order. That takes the room of one
      checkpoint more. If the disk is full, the old one stays.
    * If the checkpoint that ``last_checkpoint`` names is missing or damaged,
      ``resume=True`` goes on from the newest whole one, and says so.
    * A checkpoint in the middle of an accumulation has its gradients, and
      is as much larger; a resumed run equals one that was not stopped.
    * A checkpoint of which no weight fits the model is refused, and one that
      would run code when it is loaded.

    On other storage than a file system (``out_dir='s3://...'``) files are
    written as mmengine does.

    Args:
        **kwargs: Those of :class:`mmengine.hooks.CheckpointHook`.

    Raises:
        ValueError: In ``before_run``, if what is to be resumed is damaged
            and there is no whole checkpoint; when one is loaded, if nothing
            of it fits.
    """

    # Whether it asks all ranks for what they have.
    gathers = True
    _unfinished: dict[str, Any] = {}
    _loaded: dict[str, Any] = {}
    _whole: dict[str, Any] | None = None

    def before_run(self, runner: Runner) -> None:
        """Choose what is resumed, before the runner does."""
        load_safely_in_mmengine()
        folder = self._local_folder(runner)
        if folder is None or not runner._resume or runner._load_from:
            return
        # One rank looks: they must agree.
        found = [_to_resume(runner, folder, self.filename_tmpl)]
        broadcast_object_list(found)
        runner._load_from = found[0]

    def before_train(self, runner: Runner) -> None:
        folder = self._local_folder(runner)
        if folder is not None:
            self.backend_args = {'backend': 'mmlocal_atomic'}
            if is_main_process():
                for draft in folder.glob(f'*.pth.*{DRAFT}'):
                    draft.unlink()
        super().before_train(runner)
        if self.max_keep_ckpts > 0:
            # For a moment there is one more.
            self.keep_ckpt_ids = deque(self.keep_ckpt_ids)
        restore_gradients(runner, self._loaded)
        self._loaded = {}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if isinstance(runner.model, ModuleParallel):
            if self._whole is None:
                raise RuntimeError(
                    'under ModuleParallel rank 0 has a part of the model, and '
                    'save_checkpoint was called on it alone: let '
                    'LocalCheckpointHook save, which asks all ranks '
                    '(default_hooks.checkpoint.interval, save_best).'
                )
            checkpoint['state_dict'] = self._whole['state_dict']
            if 'optimizer' in checkpoint:
                checkpoint['optimizer']['state'] = self._whole['state']
        if self._unfinished and 'optimizer' in checkpoint:
            checkpoint[KEY] = self._unfinished

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        check_fit(runner, checkpoint)
        if runner._resume:
            self._loaded = checkpoint.get(KEY, {})

    def _save_checkpoint_with_step(
        self, runner: Runner, step: int, meta: dict
    ) -> None:
        """Write it, then its name, then remove what is too old."""
        self._unfinished = unfinished_gradients(runner)
        self._gather(runner)
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            self.keep_ckpt_ids.append(step)
            # With the one that goes: a run that is killed before it is gone
            # removes it when it is resumed.
            runner.message_hub.update_info(
                'keep_ckpt_ids', list(self.keep_ckpt_ids)
            )
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        self._unfinished, self._whole = {}, None
        if is_main_process():
            pointer = Path(runner.work_dir, 'last_checkpoint')
            write_atomically(pointer, str(self.last_ckpt).encode())
        while 0 < self.max_keep_ckpts < len(self.keep_ckpt_ids):
            old = self.filename_tmpl.format(self.keep_ckpt_ids.popleft())
            path = self.file_backend.join_path(self.out_dir, old)
            if is_main_process() and self.file_backend.isfile(path):
                self.file_backend.remove(path)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        self._gather(runner)
        with self._removed_afterwards():
            super()._save_best_checkpoint(runner, metrics)
        self._whole = None

    def _gather(self, runner: Runner) -> None:
        """On all ranks, if each has a part of the model."""
        if isinstance(runner.model, ModuleParallel):
            self._whole = runner.model.whole_state(runner.optim_wrapper)

    @contextmanager
    def _removed_afterwards(self) -> Iterator[None]:
        """Let the best checkpoint be until the better one is written."""
        backend = self.file_backend
        self.file_backend = later = _RemoveLater(backend)
        try:
            yield
        finally:
            self.file_backend = backend
        best = {getattr(self, 'best_ckpt_path', None)}
        best.update(getattr(self, 'best_ckpt_path_dict', {}).values())
        for path in later.removed:
            if path not in best:  # which a resumed run may write again
                backend.remove(path)

    def _local_folder(self, runner: Runner) -> Path | None:
        """Where checkpoints go, if that is on a file system of ours."""
        out = self.out_dir or runner.work_dir
        if self.backend_args or self.file_client_args:
            return None
        if not isinstance(get_file_backend(out), LocalBackend):
            return None
        if out == runner.work_dir:
            return Path(out)
        return Path(out, Path(runner.work_dir).name)


@register_backend('mmlocal_atomic', force=True)
class AtomicBackend(LocalBackend):
    """Files of mmengine that are there whole or not at all."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file; see :func:`mmlocal.files.write_atomically`."""
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, obj)


class _RemoveLater:
    """A file backend that only notes what it is to remove."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.removed: list[str] = []

    def remove(self, path: str) -> None:
        self.removed.append(path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)


def _to_resume(runner: Runner, folder: Path, template: str) -> str | None:
    """The last checkpoint; if it is not whole, the newest that is."""
    pointer = Path(runner.work_dir, 'last_checkpoint')
    named = pointer.read_text().strip() if pointer.is_file() else ''
    if named and is_whole(Path(named)):
        return named
    there = sorted(
        folder.glob(template.format('*')),
        key=lambda path: path.stat().st_mtime_ns,
    )
    whole = [path for path in there if is_whole(path)]
    if not named:
        problem = f'{pointer} is missing or empty'
    elif Path(named).is_file():
        problem = f'{named} is damaged'
    else:
        problem = f'{named} is missing'
    if whole:
        print_log(
            f'{problem}: the run is resumed from {whole[-1]}, the newest '
            f'whole checkpoint in {folder}.',
            logger='current',
            level=logging.WARNING,
        )
        return str(whole[-1])
    if named or there:
        raise ValueError(
            f'resume: {problem}, and there is no whole checkpoint in '
            f'{folder}. Name one (load_from, or --resume FILE), or leave out '
            'resume to start anew.'
        )
    return None
