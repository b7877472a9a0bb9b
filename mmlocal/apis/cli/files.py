"""What the tools that work on files have in common."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ..zoo.converters import Converted
from ..zoo.download import DownloadError


@contextmanager
def one_line_errors(parser: ArgumentParser) -> Iterator[None]:
    """End the program with what is wrong, instead of a traceback."""
    try:
        yield
    except (ValueError, FileNotFoundError, DownloadError) as error:
        parser.exit(2, f'{parser.prog}: {error}\n')


def convert_file(
    parser: ArgumentParser,
    checkpoints: str | Sequence[str],
    out: str,
    convert: Callable[..., Converted],
) -> None:
    """What a tool of tools/model_converters does.

    Args:
        parser (ArgumentParser): The tool's.
        checkpoints (str | Sequence[str]): The file to convert, or files.
        out (str): The file to write.
        convert (Callable): Is given the content of each.
    """
    with one_line_errors(parser):
        import torch

        from ..zoo.checkpoints import load_checkpoint

        if isinstance(checkpoints, str):
            checkpoints = [checkpoints]
        result = convert(*map(load_checkpoint, checkpoints))
        print(result.summary())
        torch.save({'meta': result.meta, 'state_dict': result.state_dict}, out)
