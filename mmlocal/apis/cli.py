"""What tools/train.py and tools/test.py have in common."""

from __future__ import annotations

import inspect
import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch.distributed as dist
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.runner import Runner

from mmlocal.config import WRAPPER_KINDS, wrapper_kind
from mmlocal.config_check import check_config
from mmlocal.registry import RUNNERS
from mmlocal.safe_load import load_safely_in_mmengine
from mmlocal.utils import quiet_imports

from .cpu_ranks import prepare_cpu_ranks

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# What is read of a config's top level, beside the arguments of Runner.
EXTRA_KEYS = (
    'activation_checkpointing',
    'compile',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
)


class Options(DictAction):
    """KEY=VALUE pairs; a word without = is named, and ends the program."""

    def __call__(self, parser, namespace, values, option_string=None):
        for value in values:
            if '=' not in value:
                parser.error(
                    f'{option_string} {value}: write {value}=VALUE (without '
                    'spaces around =)'
                )
        super().__call__(parser, namespace, values, option_string)


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options that both tools have."""
    parser.add_argument(
        '--work-dir',
        help='where logs and checkpoints go; by default '
        'work_dirs/<folder of the config>/<name of the config>',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Options,
        default={},
        metavar='KEY=VALUE',
        help='settings that replace those of the config, as '
        'train_dataloader.batch_size=4 or '
        'model.backbone.boundaries="[layer2.0,layer3.0]"',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes; see tools/dist_*.sh and '
        'tools/slurm_*.sh',
    )
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0)


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


def existing_file(path: str) -> str:
    """Type of an argument: a file that is there.

    Raises:
        ArgumentTypeError: If it is not; names files of similar names.
    """
    if not Path(path).is_file():
        folder = Path(path).parent
        there = folder.glob(f'*{Path(path).suffix}')
        close = get_close_matches(path, map(str, there), n=3)
        hint = f'; did you mean {" or ".join(close)}?' if close else ''
        raise ArgumentTypeError(f'there is no file {path}{hint}')
    return path


def checkpoint_file(path: str) -> str:
    """Type of an argument: a checkpoint, on disk or somewhere else."""
    return path if '://' in path else existing_file(path)


def load_config(args: Namespace) -> Config:
    """Read the config and apply the options of :func:`add_arguments`.

    Raises:
        ValueError: For an option that nothing would read, or what is
            mistyped in the config.
    """
    cfg = Config.fromfile(args.config)
    check_options(cfg, args.cfg_options)
    cfg.merge_from_dict(args.cfg_options)
    check_config(cfg)
    cfg.launcher = args.launcher
    if args.work_dir or not cfg.get('work_dir'):
        path = Path(args.config).resolve()
        default = Path('work_dirs', path.parent.name, path.stem)
        cfg.work_dir = args.work_dir or str(default)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return cfg


def check_options(cfg: Config, options: dict[str, Any]) -> None:
    """Refuse options that would be merged into the config and never read.

    A new key is let through where a class or function is given the
    surroundings as arguments: it refuses what it does not know.

    Args:
        cfg (Config): What the options are for.
        options (dict[str, Any]): Values by dotted keys.

    Raises:
        ValueError: For a misspelt key; says what to write instead.
    """
    known = {*inspect.signature(Runner).parameters, *EXTRA_KEYS} - {'cfg'}
    for key in options:
        first, *rest = key.split('.')
        if first not in known:
            raise ValueError(_unknown_message(cfg, key, first, known))
        if first in cfg:
            _check_path(key, cfg[first], rest, first)


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


def _unknown_message(
    cfg: Config, key: str, first: str, known: set[str]
) -> str:
    if first not in cfg:
        close = get_close_matches(first, known, n=1)
        hint = f'did you mean {close[0]}?' if close else _list(known & {*cfg})
        return f'--cfg-options {key}: the config has no {first}; {hint}'
    message = (
        f'--cfg-options {key}: {first} is a name inside the config file, and '
        'has been read already. Set it where it is used'
    )
    places = [
        path
        for top in known & {*cfg}
        for path in _paths(cfg[top], top)
        if path.endswith(f'.{first}')
    ]
    return f'{message}: {", ".join(sorted(places))}' if places else message


def _check_path(key: str, node: Any, parts: list[str], path: str) -> None:
    if not parts:
        return
    part, *rest = parts
    if isinstance(node, (list, tuple)):
        if not part.isdigit() or int(part) >= len(node):
            raise ValueError(
                f'--cfg-options {key}: {path} is a list of {len(node)}; '
                f'write a number below {len(node)} for {part!r}.'
            )
        _check_path(key, node[int(part)], rest, f'{path}.{part}')
    elif not isinstance(node, dict):
        raise ValueError(
            f'--cfg-options {key}: {path} is {node!r}, which has no {part!r}.'
        )
    elif part in node:
        _check_path(key, node[part], rest, f'{path}.{part}')
    elif 'type' not in node:
        close = get_close_matches(part, node, n=1, cutoff=0.8)
        if close:
            raise ValueError(
                f'--cfg-options {key}: {path} has no {part!r}; did you mean '
                f'{close[0]!r}?'
            )


def _paths(node: Any, path: str) -> Iterator[str]:
    yield path
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _paths(value, f'{path}.{key}')


def _list(names: set[str]) -> str:
    return f'it has {", ".join(sorted(names))}.'
