"""Notices when a run is resumed with another global batch."""

from __future__ import annotations

import logging
from typing import Any

from mmengine.logging import print_log
from mmengine.runner import Runner

KEY = 'mmlocal_global_batch'


def record_global_batch(runner: Runner, checkpoint: dict) -> None:
    """Put the number of ranks and the batch of each into the checkpoint."""
    checkpoint['meta'][KEY] = _global_batch(runner)


def warn_of_other_batch(runner: Runner, checkpoint: dict) -> None:
    """Say so if the checkpoint comes from a run with another global batch.

    The run goes on: a machine may be gone. Learning rate and schedule are
    left as they are, and that is what the message says.
    """
    before = checkpoint.get('meta', {}).get(KEY)
    now = _global_batch(runner)
    if before is None or None in now.values() or _total(before) == _total(now):
        return
    print_log(
        f'the global batch has changed: {_total(now)} images ({_text(now)}), '
        f'where the checkpoint was trained with {_total(before)} '
        f'({_text(before)}). The run goes on with the learning rates and the '
        'number of iterations or epochs of the config. To keep the global '
        'batch, set train_dataloader.batch_size or '
        'optim_wrapper.accumulative_counts.',
        logger='current',
        level=logging.WARNING,
    )


def _global_batch(runner: Runner) -> dict[str, Any]:
    loader = runner.train_loop.dataloader
    sampler = getattr(loader, 'batch_sampler', None)
    counts = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
    return {
        'ranks': runner.world_size,
        'batch_size': getattr(sampler, 'batch_size', None),
        'accumulative_counts': counts,
    }


def _total(batch: dict[str, int]) -> int:
    return batch['ranks'] * batch['batch_size'] * batch['accumulative_counts']


def _text(batch: dict[str, int]) -> str:
    text = f'{batch["ranks"]} ranks of {batch["batch_size"]}'
    counts = batch['accumulative_counts']
    return text if counts == 1 else f'{text}, {counts} accumulated'
