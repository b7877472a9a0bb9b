"""Get the bytes of one URL into one file, over as many connections."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, build_opener

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from mmlocal.files import is_whole

BLOCK = 1 << 18
# What torch.save writes begins with: the first bytes of a zip archive, or of
# a pickle, before torch 1.6.
ARCHIVE, PICKLE = b'PK\x03\x04', b'\x80\x02'
HEAD = 16
# A host that says so may well answer a moment later.
BUSY = (408, 425, 429, 500, 502, 503, 504)


class HostError(Exception):
    """This host does not have the file, or not at the moment."""


class _BrokenConnection(Exception):
    """Worth another attempt."""


def transfer(
    url: str,
    part: Path,
    size: int | None,
    progress: bool,
    timeout: float,
    attempts: int,
    pause: float,
) -> None:
    """Download into ``part``, going on from what it holds already.

    Args:
        url (str): What to download.
        part (Path): Where to.
        size (int, optional): Expected, in bytes.
        progress (bool): Whether to draw a bar.
        timeout (float): Seconds without a byte.
        attempts (int): Connections in a row that may bring nothing.
        pause (float): Seconds before the second of them, doubled for each.

    Raises:
        HostError: If the host has no such file, another one, or a page
            instead; or does not get it through.
        OSError: If ``part`` cannot be written.
    """
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not progress) as bar:
        task = bar.add_task(part.name.rsplit('.', 2)[0], total=size)

        def show(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        failures = 0
        while True:
            before = _size(part)
            try:
                return _connect(url, part, size, timeout, show)
            except _BrokenConnection as error:
                failures = 1 if _size(part) > before else failures + 1
                if failures >= attempts:
                    raise HostError(
                        f'{error} (after {attempts} attempts)'
                    ) from error
                time.sleep(pause * 2 ** (failures - 1))


def check_checkpoint(path: Path) -> None:
    """Check that a file is a checkpoint, to the last byte.

    The sums that it carries are compared. Files of before torch 1.6 carry
    none; they must be loadable.

    Raises:
        HostError: If it is something else, or a part of it is damaged.
    """
    # Names are listed without torch.
    from .checkpoints import load_checkpoint

    with path.open('rb') as stream:
        head = stream.read(HEAD)
    _check_head(head)
    if head.startswith(ARCHIVE) and not is_whole(path):
        raise HostError('the file arrived damaged (its checksums are wrong)')
    try:
        load_checkpoint(path)
    except ValueError as error:
        raise HostError(str(error)) from error


def _connect(
    url: str,
    part: Path,
    size: int | None,
    timeout: float,
    show: Callable[[int, int | None], None],
) -> None:
    """One connection."""
    start = _size(part)
    headers = {'User-Agent': 'mmlocal', 'Accept-Encoding': 'identity'}
    if start:
        headers['Range'] = f'bytes={start}-'
    try:
        # Not urlopen, which reads the proxies once and for all.
        request = Request(url, headers=headers)
        with build_opener().open(request, timeout=timeout) as answer:
            _receive(answer, part, start, size, show)
    except HTTPError as error:
        if error.code == 416:  # longer than the file: another one's part
            part.unlink()
            raise _BrokenConnection('there is nothing to resume') from error
        kind = _BrokenConnection if error.code in BUSY else HostError
        raise kind(f'HTTP {error.code} {error.reason}') from error
    except (URLError, HTTPException, ConnectionError, TimeoutError) as error:
        reason = getattr(error, 'reason', None) or error
        raise _BrokenConnection(f'no connection: {reason}') from error


def _receive(
    answer: HTTPResponse,
    part: Path,
    start: int,
    size: int | None,
    show: Callable[[int, int | None], None],
) -> None:
    if answer.status != 206:
        start = 0  # the host cannot resume
    elif not answer.headers.get('Content-Range', '').startswith(
        f'bytes {start}-'
    ):
        raise HostError('it goes on at another place than it was asked to')
    total = _total(answer, start)
    if answer.headers.get_content_type() == 'text/html':
        raise HostError(_page_message(answer.read(BLOCK)))
    coding = answer.headers.get('Content-Encoding', 'identity')
    if coding != 'identity':
        raise HostError(f'it sends the file encoded, as {coding}')
    if None not in (size, total) and size != total:
        part.unlink(missing_ok=True)
        raise HostError(f'it has {total} bytes there, expected are {size}')
    # Unbuffered: an error leaves what was written.
    with part.open('r+b' if start else 'wb', buffering=0) as stream:
        stream.seek(start)
        done = start
        # Whatever has arrived, not whole blocks: it is to survive a stall.
        while block := answer.read1(BLOCK) if done else answer.read(HEAD):
            if not done:
                if _is_page(block):
                    raise HostError(_page_message(block + answer.read(BLOCK)))
                if len(block) == HEAD or total in (None, len(block)):
                    _check_head(block)
            stream.write(block)
            done += len(block)
            show(done, total)
    if not done and not total:
        raise HostError('nothing came: the answer is empty')
    if total is not None and done < total:
        raise _BrokenConnection(
            f'the connection was cut after {done} of {total} bytes'
        )
    if size is not None and done != size:
        part.unlink()
        raise HostError(f'it has {done} bytes there, expected are {size}')


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _total(answer: HTTPResponse, start: int) -> int | None:
    """Bytes of the whole file, if the host tells."""
    length = answer.headers.get('Content-Length')
    if length is None:
        return None
    if not length.strip().isdecimal():
        raise HostError(f'it tells a Content-Length of {length!r}')
    return start + int(length)


def _check_head(head: bytes) -> None:
    if not head.startswith((ARCHIVE, PICKLE)):
        raise HostError(f'no checkpoint came, but {head!r}...')


def _is_page(head: bytes) -> bool:
    head = head.lstrip().lower()
    return head.startswith((b'<!doctype html', b'<html'))


def _page_message(page: bytes) -> str:
    title = re.search(rb'<title[^>]*>\s*(.*?)\s*</title>', page, re.S | re.I)
    text = title[1].decode('utf-8', 'replace') if title else 'no title'
    return (
        f'a web page came instead of the file ("{text}"): the link is gone, '
        'or the host wants a browser or a pause'
    )
