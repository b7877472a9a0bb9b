"""Arguments that several tools take."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from difflib import get_close_matches
from pathlib import Path

from mmengine.config import DictAction


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
    add_options(
        parser,
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


def add_options(
    parser: ArgumentParser,
    name: str = '--cfg-options',
    help: str = 'settings that replace those of the config',
    metavar: str = 'KEY=VALUE',
) -> None:
    """Add an option that takes KEY=VALUE pairs.

    Args:
        parser (ArgumentParser): Of a tool.
        name (str): Of the option. Defaults to '--cfg-options', which
            :func:`read_config` is given.
        help (str): What is set.
        metavar (str): How a pair is shown. Defaults to 'KEY=VALUE'.
    """
    parser.add_argument(
        name,
        nargs='+',
        action=Options,
        default={},
        metavar=metavar,
        help=help,
    )


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
