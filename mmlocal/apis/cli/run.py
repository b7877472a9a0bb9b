"""From the command line to a Runner: what training and testing share."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import torch.distributed as dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import Runner

from mmlocal.config import WRAPPER_KINDS, wrapper_kind
from mmlocal.config_check import check_config
from mmlocal.registry import RUNNERS
from mmlocal.safe_load import load_safely_in_mmengine
from mmlocal.utils import quiet_imports

from .cpu_ranks import prepare_cpu_ranks
from .options import read_config

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def parse_config(
    parser: ArgumentParser,
    make_config: Callable[[Namespace], Config],
    argv: Sequence[str] | None,
) -> Config:
    """Read the command line; end the program with a line on what is wrong.

    Args:
        parser (ArgumentParser): The tool's.
        make_config (Callable): What the tool makes of the arguments.
        argv (Sequence[str], optional): By default those of the program.
    """
    args = parser.parse_args(argv)
    load_safely_in_mmengine()
    try:
        cfg = make_config(args)
        prepare_cpu_ranks(cfg)
    except (ValueError, FileNotFoundError) as error:
        parser.exit(2, f'{parser.prog}: {error}\n')
    return cfg


def load_config(args: Namespace) -> Config:
    """Read the config and apply the options of :func:`add_arguments`.

    Raises:
        ValueError: For an option that nothing would read, or what is
            mistyped in the config.
    """
    cfg = read_config(args.config, args.cfg_options)
    check_config(cfg)
    cfg.launcher = args.launcher
    if args.work_dir or not cfg.get('work_dir'):
        path = Path(args.config).resolve()
        default = Path('work_dirs', path.parent.name, path.stem)
        cfg.work_dir = args.work_dir or str(default)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return cfg


def check_data(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Check that the folders of a config's data sets are there.

    Args:
        cfg (Config): The config.
        loaders (tuple[str, ...]): Which of :data:`LOADERS` are needed.

    Raises:
        FileNotFoundError: Names the folder and where to get the data.
    """
    with quiet_imports():
        from mmlocal.datasets import check_data_folders

    check_data_folders(cfg, loaders)


def use_amp(cfg: Config) -> None:
    """Train in mixed precision.

    Raises:
        ValueError: If the optimizer wrapper has no such variant, or it does
            not run on this machine.
    """
    kind = wrapper_kind(cfg.optim_wrapper)
    if kind is None:
        known = ' or '.join(k.name for k in WRAPPER_KINDS if not k.amp)
        raise ValueError(
            f'--amp: {cfg.optim_wrapper.type} has no variant for mixed '
            f'precision; it is for optim_wrapper.type {known}.'
        )
    if not (kind.amp or kind.local) and get_device() == 'cpu':
        raise ValueError(
            '--amp: mmengine trains in mixed precision on an accelerator '
            'only, and this machine has none; on a CPU it works with '
            "optim_wrapper.type='mmlocal.LocalOptimWrapper'."
        )
    cfg.optim_wrapper.type = kind._replace(amp=True).name


def build_runner(cfg: Config) -> Runner:
    """The Runner that a config names, by default a ``LocalRunner``."""
    if 'runner_type' in cfg:
        return RUNNERS.build(cfg)
    return RUNNERS.get('LocalRunner').from_cfg(cfg)


def leave_ranks() -> None:
    """End the communication of ranks, when all of them are done.

    A rank that exits with a process group takes the others down now and then:
    threads of the group outlive the interpreter, and the launcher ends those
    that still save a checkpoint.
    """
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
