"""What the programs in tools/ have in common."""

from .arguments import (
    Options,
    add_arguments,
    add_options,
    checkpoint_file,
    existing_file,
)
from .files import convert_file, one_line_errors
from .options import check_options, read_config
from .run import (
    LOADERS,
    build_runner,
    check_data,
    leave_ranks,
    load_config,
    parse_config,
    use_amp,
)

__all__ = [
    'LOADERS',
    'Options',
    'add_arguments',
    'add_options',
    'build_runner',
    'check_data',
    'check_options',
    'checkpoint_file',
    'convert_file',
    'existing_file',
    'leave_ranks',
    'load_config',
    'one_line_errors',
    'parse_config',
    'read_config',
    'use_amp',
]
