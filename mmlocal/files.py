"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from zipfile import BadZipFile, ZipFile

# The end of the name of a file that is being written.
DRAFT = '.tmp'
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file such that a kill at any moment leaves the old or the new.

    The data are on the disk before they get the name.

    Args:
        path (Path): The file; replaced if it exists.
        data (bytes): What it holds.

    Raises:
        OSError: If it cannot be written. What was there before stays; if
            the disk is full, the message says how much is missing.
    """
    draft = path.with_name(f'{path.name}.{os.getpid()}{DRAFT}')
    try:
        with draft.open('wb') as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, path)
    except BaseException as error:
        draft.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in FULL:
            raise OSError(error.errno, _full(path, len(data))) from error
        raise
    _sync_folder(path.parent)


def is_whole(path: Path) -> bool:
    """Whether every byte of a file of ``torch.save`` is as it was written.

    It is read once, and the sums that it carries are checked. Files of
    before torch 1.6 carry none, and count as damaged.
    """
    try:
        with ZipFile(path) as archive:
            return archive.testzip() is None
    except (BadZipFile, OSError):
        return False


def _sync_folder(folder: Path) -> None:
    """Let the new name, too, survive a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Network file systems may not know it for folders.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)


def _full(path: Path, size: int) -> str:
    disk = shutil.disk_usage(path.parent)
    return (
        f'{path} takes {_show(size)}, and the disk of {path.parent.resolve()} '
        f'has {_show(disk.free)} of {_show(disk.total)} left. What was there '
        'before is still there'
    )


def _show(size: float) -> str:
    for unit in ('bytes', 'KiB', 'MiB', 'GiB'):
        if size < 1024:
            return f'{size:.4g} {unit}'
        size /= 1024
    return f'{size:.4g} TiB'
