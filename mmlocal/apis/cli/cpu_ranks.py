"""Several processes on machines without accelerator."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import MODEL_WRAPPERS
from torch.nn.parallel import DistributedDataParallel

from mmlocal.config import find_type, type_name


def prepare_cpu_ranks(cfg: Config) -> None:
    """Make a config for several GPUs run on CPUs, over gloo.

    mmengine would ask CUDA for a device, and hand one to DDP; SyncBN has no
    CPU kernel. Does nothing with an accelerator, or without launcher.

    Args:
        cfg (Config): Changed in place.

    Raises:
        ValueError: If the launcher did not start this process.
    """
    if cfg.launcher not in ('pytorch', 'slurm') or get_device() != 'cpu':
        return
    if cfg.launcher == 'slurm':
        _read_slurm()
    if 'RANK' not in os.environ:
        raise ValueError(
            '--launcher pytorch is for processes that torchrun starts: '
            'write tools/dist_train.sh CONFIG NUMBER_OF_PROCESSES, or '
            'tools/dist_test.sh.'
        )
    seconds = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout')
    dist.init_process_group(
        'gloo', timeout=None if seconds is None else timedelta(seconds=seconds)
    )
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    kind = wrapper.get('type', 'MMDistributedDataParallel')
    if issubclass(find_type(kind, MODEL_WRAPPERS), DistributedDataParallel):
        wrapper = {**wrapper, 'type': kind, 'device_ids': None}
    cfg.model_wrapper_cfg = wrapper
    cfg.pop('sync_bn', None)
    for node in _dicts(cfg.model):
        if type_name(node.get('type')) == 'SyncBN':
            node.type = 'BN'


def _read_slurm() -> None:
    """Set what torch reads from what srun sets, as mmengine does."""
    if 'SLURM_PROCID' not in os.environ:
        raise ValueError(
            '--launcher slurm is for processes that srun starts: write '
            'tools/slurm_train.sh PARTITION JOB_NAME CONFIG, or '
            'tools/slurm_test.sh.'
        )
    if 'MASTER_ADDR' not in os.environ:
        hosts = subprocess.check_output(
            ['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']],
            text=True,
        )
        os.environ['MASTER_ADDR'] = hosts.split()[0]
    os.environ.setdefault('MASTER_PORT', '29500')
    os.environ.update(
        RANK=os.environ['SLURM_PROCID'],
        WORLD_SIZE=os.environ['SLURM_NTASKS'],
        LOCAL_RANK=os.environ['SLURM_LOCALID'],
    )


def _dicts(node: Any) -> Iterator[dict]:
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for value in node:
            yield from _dicts(value)
