"""Download a file once, whatever the network does meanwhile."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from filelock import FileLock, Timeout
from mmengine.logging import print_log

from mmlocal.files import write_atomically

from .transfer import HostError, check_checkpoint, transfer

# Where an id leads; `hosts` of :func:`fetch` replaces it.
HOSTS = {
    'Tsinghua Cloud': 'https://cloud.tsinghua.edu.cn/f/{id}/?dl=1',
    'Google Drive': 'https://drive.usercontent.google.com/download'
    '?id={id}&export=download&confirm=t',
}


class DownloadError(RuntimeError):
    """There is no file to work with; the message says what to do."""


@dataclass(frozen=True)
class RemoteFile:
    """A checkpoint that several hosts have.

    Args:
        name (str): Its name in the cache: of a file, not a path.
        ids (Mapping[str, str]): Its id on each host, in the order in which
            the hosts are tried.
        size (int, optional): In bytes, where it is published.
        sha256 (str, optional): In hexadecimal, where it is published. Else
            that of the first download is recorded and holds from then on.

    Raises:
        ValueError: If the name would lead out of the cache.
    """

    name: str
    ids: Mapping[str, str] = field(hash=False)
    size: int | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        if self.name in ('', '.', '..') or set(self.name) & set('/\\\0'):
            raise ValueError(
                f'RemoteFile.name is {self.name!r}: write the name of a '
                'file, without folders.'
            )


def cache_dir() -> Path:
    """Where downloads are kept: ``mmlocal`` in mmengine's own folder.

    That is ``$MMENGINE_HOME``, else ``$XDG_CACHE_HOME/mmengine``, else
    ``~/.cache/mmengine``.
    """
    default = Path(os.getenv('XDG_CACHE_HOME', '~/.cache'), 'mmengine')
    return Path(os.getenv('MMENGINE_HOME', default), 'mmlocal').expanduser()


def fetch(
    file: RemoteFile,
    *,
    folder: Path | None = None,
    hosts: Mapping[str, str] | None = None,
    offline: bool | None = None,
    progress: bool = True,
    timeout: float = 30.0,
    attempts: int = 5,
    pause: float = 1.0,
) -> Path:
    """Return the path of a file, downloaded if it is not there yet.

    A broken download is resumed, now and in the next call. The file appears
    under its name when size, sums and hash are right and it can be loaded
    without running code in it, and not before.
    Of several processes one downloads, and the others wait for it. Proxies
    are those of ``http_proxy``, ``https_proxy`` and ``no_proxy``.

    Args:
        file (RemoteFile): What to download.
        folder (Path, optional): By default :func:`cache_dir`.
        hosts (Mapping[str, str], optional): URL by host, with ``{id}`` in
            it. By default :data:`HOSTS`.
        offline (bool, optional): Never ask the network. By default whether
            the environment variable ``MMLOCAL_OFFLINE`` is set to 1.
        progress (bool): Whether to draw a bar. Defaults to True.
        timeout (float): Seconds without a byte after which a connection
            counts as broken. Defaults to 30.
        attempts (int): Connections to a host, one after the other, that may
            bring nothing before the next host is tried. Defaults to 5.
        pause (float): Seconds before the second attempt; doubled before each
            further one. Defaults to 1.

    Raises:
        DownloadError: If no host has the file, what they have is another
            file, or it cannot be kept.
    """
    path = (folder or cache_dir()) / file.name
    urls = {
        host: (hosts or HOSTS)[host].format(id=key)
        for host, key in file.ids.items()
    }
    if path.is_file():
        if _is_good(path, file):
            return path
        with _writing(path, urls):
            path.unlink(missing_ok=True)
            _record_path(path).unlink(missing_ok=True)
    if offline if offline is not None else _offline():
        raise DownloadError(
            f'{path} is not there, and MMLOCAL_OFFLINE forbids to download '
            f'it.\n{_by_hand(path, urls)}'
        )
    with _writing(path, urls), _only_one(path):
        if not path.is_file():  # else, another process was faster
            _from_any(
                file, path, urls, progress, timeout, max(1, attempts), pause
            )
    _is_good(path, file)
    return path


def _from_any(
    file: RemoteFile,
    path: Path,
    urls: Mapping[str, str],
    progress: bool,
    timeout: float,
    attempts: int,
    pause: float,
) -> None:
    """Try each host; the file is at ``path`` when this returns."""
    problems = []
    for number, (host, url) in enumerate(urls.items()):
        # A part for each host: their files need not be the same.
        part = path.with_name(f'{path.name}.{number}.part')
        try:
            print_log(f'downloading {file.name} from {host}', 'current')
            transfer(url, part, file.size, progress, timeout, attempts, pause)
            digest = _checked(part, path, file)
        except HostError as error:
            if part.exists() and not part.stat().st_size:
                part.unlink()
            problems.append(f'  {host} ({url}): {error}')
            print_log(f'{host}: {error}', 'current')
            continue
        _write_record(path, part.stat().st_size, digest, url)
        os.replace(part, path)
        for other in path.parent.glob(f'{path.name}.*.part'):
            other.unlink()
        return
    raise DownloadError(
        f'{file.name} could not be downloaded:\n'
        + '\n'.join(problems)
        + f'\nCheck the network (a proxy is read from https_proxy), or try '
        f'again later: what has arrived is kept.\n{_by_hand(path, urls)}'
    )


def _checked(part: Path, path: Path, file: RemoteFile) -> str:
    """The hash of a complete download, if it is the right one."""
    try:
        check_checkpoint(part)
        digest = _digest(part)
        _check_digest(digest, path, file)
    except HostError:
        part.unlink()  # nothing to resume from
        raise
    return digest


def _is_good(path: Path, file: RemoteFile) -> bool:
    """Whether the file in the cache is the one that is meant.

    It is looked into once; its record says so afterwards.

    Returns:
        bool: False if an earlier version took something else for a
        checkpoint, and it has to be downloaded again.

    Raises:
        DownloadError: If it has changed, or was put there by hand and is no
            checkpoint.
    """
    digest, record = _digest(path), _record(path)
    try:
        _check_digest(digest, path, file)
    except HostError as error:
        raise DownloadError(
            f'{path} has changed since it was downloaded: {error}. Delete it '
            'to download it again.'
        ) from error
    if record.get('checked'):
        return True
    try:
        check_checkpoint(path)
    except HostError as error:
        if record.get('url') is None:
            raise DownloadError(
                f'{path} was put there by hand, and is not what it should '
                f'be: {error}. Delete it to download it.'
            ) from error
        print_log(f'{path}: {error}. It is downloaded again.', 'current')
        return False
    with suppress(OSError):  # a folder that others filled
        _write_record(path, path.stat().st_size, digest, record.get('url'))
    return True


def _check_digest(digest: str, path: Path, file: RemoteFile) -> None:
    published, recorded = file.sha256, _record(path).get('sha256')
    if published is not None and digest != published:
        raise HostError(f'its sha256 is {digest}, published is {published}')
    if published is None and recorded not in (None, digest):
        raise HostError(
            f'its sha256 is {digest}; at the first download it was '
            f'{recorded}, says {_record_path(path)}. If the authors replaced '
            'the file, and you trust the new one, delete that record'
        )


def _record_path(path: Path) -> Path:
    return path.with_name(f'{path.name}.json')


def _record(path: Path) -> dict:
    """What is known of an earlier download; {} if there was none."""
    record = _record_path(path)
    try:
        found = json.loads(record.read_text(encoding='utf-8'))
        if not isinstance(found, dict):
            raise ValueError(f'it holds {found!r}')
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DownloadError(
            f'{record} is damaged: {error}. Delete it, and {path} too if '
            'you do not trust it.'
        ) from error
    return found


def _write_record(path: Path, size: int, digest: str, url: str | None) -> None:
    record = {'size': size, 'sha256': digest, 'url': url, 'checked': True}
    text = json.dumps(record, indent=1)
    write_atomically(_record_path(path), text.encode())


def _digest(path: Path) -> str:
    result = sha256()
    with path.open('rb') as stream:
        while block := stream.read(1 << 20):
            result.update(block)
    return result.hexdigest()


@contextmanager
def _only_one(path: Path):
    """Let one process in at a time."""
    lock = FileLock(f'{path}.lock')
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print_log(f'another process downloads {path.name}; waiting', 'current')
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _writing(path: Path, urls: Mapping[str, str]):
    """Say what to do where the cache cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise DownloadError(
            f'{path.parent} cannot be written: {error}. Set MMENGINE_HOME to '
            f'a folder with room that you may write.\n{_by_hand(path, urls)}'
        ) from error


def _by_hand(path: Path, urls: Mapping[str, str]) -> str:
    return (
        f'Or download it by hand, from {" or ".join(urls.values())}, and '
        f'save it as {path}.'
    )


def _offline() -> bool:
    return os.getenv('MMLOCAL_OFFLINE', '').lower() in ('1', 'true', 'yes')
