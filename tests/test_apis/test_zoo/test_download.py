"""Downloads end in the right file, or in advice; never in half a file."""

from __future__ import annotations

import gzip
import io
import json
import multiprocessing
import os
import pickle
import re
import socket
import tempfile
import threading
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from mmlocal.apis.zoo import download
from mmlocal.apis.zoo.download import DownloadError, RemoteFile, cache_dir

IDS = {'one': 'a', 'two': 'b'}


def archive(zipped: bool = True) -> bytes:
    """What torch.save writes, in about 1 MB; or wrote before torch 1.6."""
    stream = io.BytesIO()
    torch.save(
        {'weight': torch.rand(250_000)},
        stream,
        _use_new_zipfile_serialization=zipped,
    )
    return stream.getvalue()


DATA = archive()
LEGACY = archive(zipped=False)
NO_CHECKPOINTS = {
    'json': b'{"error": "rate limit exceeded", "code": 403}',
    'xml': b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>',
    'short': b'busy',
    'empty': b'',
    'gzip': gzip.compress(DATA, 1),
    'legacy, cut': LEGACY[: len(LEGACY) // 2],
    'archive, cut': DATA[:-30],
    'pickle': pickle.dumps({'a': 1}),
}


@pytest.fixture
def fetch(host):
    hosts = {'one': f'{host.url}/one/{{id}}', 'two': f'{host.url}/two/{{id}}'}
    return partial(
        download.fetch, hosts=hosts, progress=False, timeout=5, pause=0.01
    )


FILE = RemoteFile('weights.pth', IDS)


def leftovers() -> set[str]:
    names = {path.name for path in cache_dir().glob('*')}
    return names - {'weights.pth.lock'}


def test_file_comes_once_and_is_recorded(host, fetch):
    host.routes['/one/a'] = host.content(DATA)
    path = fetch(FILE)
    assert path.read_bytes() == DATA
    assert fetch(FILE) == path
    assert host.requests == [('/one/a', None)]
    record = json.loads(path.with_name('weights.pth.json').read_text())
    assert record == {
        'size': len(DATA),
        'sha256': sha256(DATA).hexdigest(),
        'url': f'{host.url}/one/a',
        'checked': True,
    }
    assert leftovers() == {'weights.pth', 'weights.pth.json'}


def test_cache_is_in_the_folder_of_mmengine(monkeypatch):
    monkeypatch.setenv('MMENGINE_HOME', '/somewhere')
    assert cache_dir() == Path('/somewhere/mmlocal')
    monkeypatch.delenv('MMENGINE_HOME')
    monkeypatch.setenv('XDG_CACHE_HOME', '/cache')
    assert cache_dir() == Path('/cache/mmengine/mmlocal')
    monkeypatch.delenv('XDG_CACHE_HOME')
    assert cache_dir() == Path.home() / '.cache/mmengine/mmlocal'


def test_second_host_if_the_first_has_nothing(host, fetch):
    host.routes['/two/b'] = host.content(DATA)
    assert fetch(FILE).read_bytes() == DATA
    assert [path for path, _ in host.requests] == ['/one/a', '/two/b']


def test_a_busy_host_is_asked_again(host, fetch):
    answers = [host.status(503), host.status(503), host.content(DATA)]
    host.routes['/one/a'] = lambda handler: answers.pop(0)(handler)
    assert fetch(FILE).read_bytes() == DATA


def test_cut_connection_is_resumed(host, fetch):
    half = len(DATA) // 2
    host.routes['/one/a'] = host.content(DATA, cuts=[half])
    assert fetch(FILE).read_bytes() == DATA
    assert host.requests == [('/one/a', None), ('/one/a', f'bytes={half}-')]


def test_any_number_of_cuts_that_bring_something(host, fetch):
    cuts = [len(DATA) * i // 9 for i in range(1, 9)]
    host.routes['/one/a'] = host.content(DATA, cuts=cuts)
    assert fetch(FILE, attempts=2).read_bytes() == DATA
    assert len(host.requests) == 9


def test_resumed_in_the_next_call(host, fetch):
    half = len(DATA) // 2
    host.routes['/one/a'] = host.content(DATA, cuts=[half, half])
    with pytest.raises(DownloadError, match=f'cut after {half} of'):
        fetch(FILE, attempts=1)
    assert leftovers() == {'weights.pth.0.part'}
    host.routes['/one/a'] = host.content(DATA)
    assert fetch(FILE).read_bytes() == DATA
    assert host.requests[-1] == ('/one/a', f'bytes={half}-')
    assert leftovers() == {'weights.pth', 'weights.pth.json'}


def test_host_that_cannot_resume_starts_anew(host, fetch):
    host.routes['/one/a'] = host.content(
        DATA, cuts=[len(DATA) // 2], ranges=False
    )
    assert fetch(FILE).read_bytes() == DATA


def test_part_of_a_longer_file_is_thrown_away(host, fetch):
    cache_dir().mkdir(parents=True)
    (cache_dir() / 'weights.pth.0.part').write_bytes(DATA + b'more')
    host.routes['/one/a'] = host.content(DATA)
    assert fetch(FILE).read_bytes() == DATA


def test_part_of_another_file_is_noticed(host, fetch):
    cache_dir().mkdir(parents=True)
    (cache_dir() / 'weights.pth.0.part').write_bytes(archive()[:500_000])
    host.routes['/one/a'] = host.content(DATA)
    host.routes['/two/b'] = host.status(404)
    with pytest.raises(DownloadError, match='arrived damaged'):
        fetch(FILE)
    assert leftovers() == set()


def test_no_length_told_and_cut(host, fetch):
    """The end of an archive tells that it is whole."""
    host.routes['/one/a'] = host.content(DATA, [len(DATA) // 2], length=False)
    host.routes['/two/b'] = host.content(DATA, length=False)
    assert fetch(FILE).read_bytes() == DATA


@pytest.mark.parametrize('length', [True, False])
def test_wrong_size(host, fetch, length):
    file = RemoteFile('weights.pth', IDS, size=len(DATA))
    host.routes['/one/a'] = host.content(DATA + b'.', length=length)
    host.routes['/two/b'] = host.content(DATA[:-1], length=length)
    with pytest.raises(DownloadError, match=f'expected are {len(DATA)}'):
        fetch(file)
    assert leftovers() == set()


def test_wrong_hash(host, fetch):
    file = RemoteFile('weights.pth', IDS, sha256=sha256(DATA).hexdigest())
    host.routes['/one/a'] = host.content(archive())
    with pytest.raises(DownloadError, match=f'published is {file.sha256}'):
        fetch(file)
    assert leftovers() == set()
    host.routes['/two/b'] = host.content(DATA)
    assert fetch(file).read_bytes() == DATA


def test_file_that_changed_on_the_host(host, fetch):
    host.routes['/one/a'] = host.content(DATA)
    path = fetch(FILE)
    path.unlink()
    host.routes['/one/a'] = host.content(archive())
    with pytest.raises(DownloadError, match='trust the new one, delete that'):
        fetch(FILE)
    assert not path.exists()
    path.with_name('weights.pth.json').unlink()
    assert fetch(FILE) == path


def test_file_that_changed_on_disk(host, fetch):
    host.routes['/one/a'] = host.content(DATA)
    path = fetch(FILE)
    path.write_bytes(DATA[:-1])
    with pytest.raises(DownloadError, match='has changed since'):
        fetch(FILE)


def test_file_put_there_by_hand(host, fetch):
    cache_dir().mkdir(parents=True)
    path = cache_dir() / 'weights.pth'
    path.write_bytes(DATA)
    assert fetch(FILE) == path
    path.write_bytes(archive())
    with pytest.raises(DownloadError, match='has changed since'):
        fetch(FILE)
    assert host.requests == []


@pytest.mark.parametrize('length', [True, False])
@pytest.mark.parametrize('name', NO_CHECKPOINTS)
def test_what_is_no_checkpoint_gets_no_name(host, fetch, name, length):
    body = NO_CHECKPOINTS[name]
    host.routes['/one/a'] = host.content(body, length=length)
    with pytest.raises(DownloadError, match=r'one \(http') as error:
        fetch(FILE)
    reasons = 'no checkpoint|nothing came|damaged|was not loaded'
    assert re.search(f'one .*({reasons})', str(error.value))
    assert leftovers() == set()
    host.routes['/two/b'] = host.content(LEGACY, length=length)
    assert fetch(FILE).read_bytes() == LEGACY


def test_encoded_files_are_not_taken(host, fetch):
    def encoded(handler):
        handler.send_response(200)
        handler.send_header('Content-Encoding', 'gzip')
        handler.end_headers()
        handler.wfile.write(gzip.compress(DATA, 1))

    host.routes['/one/a'] = encoded
    with pytest.raises(DownloadError, match='sends the file encoded, as gzip'):
        fetch(FILE)
    assert leftovers() == set()


@pytest.mark.parametrize('name', ['json', 'empty', 'legacy, cut'])
def test_what_was_taken_for_one_is_replaced(host, fetch, name):
    """As an earlier version left it: recorded, and not looked into."""
    body = NO_CHECKPOINTS[name]
    cache_dir().mkdir(parents=True)
    path = cache_dir() / 'weights.pth'
    path.write_bytes(body)
    record = {'size': len(body), 'sha256': sha256(body).hexdigest()}
    record_path = cache_dir() / 'weights.pth.json'
    record_path.write_text(json.dumps({**record, 'url': 'http://x'}))
    host.routes['/one/a'] = host.content(DATA)
    assert fetch(FILE).read_bytes() == DATA
    # What somebody brought is left where it is.
    path.write_bytes(body)
    record_path.unlink()
    with pytest.raises(DownloadError, match='put there by hand, and is not'):
        fetch(FILE)
    assert path.read_bytes() == body


def test_a_good_file_is_looked_into_once(host, fetch, monkeypatch):
    """Also one that an earlier version recorded."""
    host.routes['/one/a'] = host.content(DATA)
    record_path = fetch(FILE).with_name('weights.pth.json')
    record = json.loads(record_path.read_text())
    record_path.write_text(json.dumps({**record, 'checked': False}))
    fetch(FILE)
    assert json.loads(record_path.read_text()) == record
    monkeypatch.setattr(download, 'check_checkpoint', None)
    fetch(FILE)


@pytest.mark.parametrize('told', ['many', '-5', '1e6', ''])
def test_a_length_that_is_no_number(host, fetch, told):
    def wrong(handler):
        handler.send_response(200)
        handler.send_header('Content-Length', told)
        handler.end_headers()
        handler.wfile.write(DATA)

    host.routes['/one/a'] = wrong
    with pytest.raises(DownloadError, match='tells a Content-Length of '):
        fetch(FILE)
    host.routes['/two/b'] = host.content(DATA)
    assert fetch(FILE).read_bytes() == DATA


def test_a_host_that_goes_on_elsewhere(host, fetch):
    half = len(DATA) // 2

    def wrong(handler):
        start = 10 if handler.headers.get('Range') else 0
        handler.send_response(206 if start else 200)
        handler.send_header('Content-Range', f'bytes {start}-9/9')
        handler.send_header('Content-Length', str(len(DATA) - start))
        handler.end_headers()
        handler.wfile.write(DATA[start : start + half])
        handler.close_connection = True

    host.routes['/one/a'] = wrong
    host.routes['/two/b'] = host.content(DATA)
    assert fetch(FILE).read_bytes() == DATA
    assert [path for path, _ in host.requests] == ['/one/a'] * 2 + ['/two/b']


def test_bytes_before_a_stall_are_kept(host, fetch):
    """Fewer than a block: they were asked for and have arrived."""
    release = threading.Event()

    def stall(handler):
        if handler.headers.get('Range'):
            return host.content(DATA)(handler)
        handler.send_response(200)
        handler.send_header('Content-Length', str(len(DATA)))
        handler.end_headers()
        handler.wfile.write(DATA[:1000])
        handler.wfile.flush()
        return release.wait(20)

    host.routes['/one/a'] = stall
    assert fetch(FILE, timeout=0.5).read_bytes() == DATA
    release.set()
    assert host.requests == [('/one/a', None), ('/one/a', 'bytes=1000-')]


@pytest.mark.parametrize(
    'name', ['', '.', '..', '../x.pth', '/etc/x', 'a/b', 'a\\b', 'a\0b']
)
def test_names_that_leave_the_folder(name):
    with pytest.raises(ValueError, match='RemoteFile.name is'):
        RemoteFile(name, IDS)


@pytest.mark.parametrize('kind', ['text/html', 'application/octet-stream'])
def test_page_instead_of_the_file(host, fetch, kind):
    page = b'\n<!DOCTYPE html><html><title>Quota exceeded</title></html>'
    host.routes['/one/a'] = host.content(page, kind=kind)
    with pytest.raises(DownloadError, match='a web page .*Quota exceeded'):
        fetch(FILE)
    assert leftovers() == set()
    host.routes['/two/b'] = host.content(DATA)
    assert fetch(FILE).read_bytes() == DATA


def test_slow_host_is_waited_for(host, fetch):
    host.routes['/one/a'] = host.content(DATA, pause=0.06)
    assert fetch(FILE, timeout=0.5).read_bytes() == DATA


def test_silent_host_is_given_up(host, fetch):
    host.routes['/one/a'] = host.content(DATA, pause=1.0)
    host.routes['/two/b'] = host.content(DATA)
    path = fetch(FILE, timeout=0.2, attempts=1)
    assert path.read_bytes() == DATA


def test_two_processes_at_once(host, fetch):
    host.routes['/one/a'] = host.content(DATA, pause=0.05)
    fork = multiprocessing.get_context('fork')
    sizes = fork.Queue()

    def one_process():
        sizes.put(fetch(FILE).stat().st_size)

    processes = [fork.Process(target=one_process) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [sizes.get(timeout=1) for _ in processes] == [len(DATA)] * 2
    assert host.requests == [('/one/a', None)]


@pytest.fixture
def closed_port():
    """That of a socket which is held, but does not listen."""
    with socket.socket() as holder:
        holder.bind(('127.0.0.1', 0))
        yield holder.getsockname()[1]


def test_no_network(host, fetch, closed_port):
    dead = f'http://127.0.0.1:{closed_port}/{{id}}'
    hosts = {'one': dead, 'two': dead}
    with pytest.raises(DownloadError) as error:
        fetch(FILE, hosts=hosts, attempts=2)
    text = str(error.value)
    assert 'Connection refused' in text and 'after 2 attempts' in text
    assert f'save it as {cache_dir() / "weights.pth"}' in text
    assert leftovers() == set()
    host.routes['/one/a'] = host.content(DATA)
    path = fetch(FILE)
    assert fetch(FILE, hosts=hosts) == path


def test_offline(host, fetch, monkeypatch):
    host.routes['/one/a'] = host.content(DATA)
    monkeypatch.setenv('MMLOCAL_OFFLINE', '1')
    with pytest.raises(DownloadError, match='MMLOCAL_OFFLINE'):
        fetch(FILE)
    assert host.requests == []
    path = fetch(FILE, offline=False)
    assert fetch(FILE) == path


def test_proxy_is_used(host, fetch, monkeypatch):
    url = 'http://nowhere.invalid/a'
    host.routes[url] = host.content(DATA)
    monkeypatch.setenv('http_proxy', host.url)
    hosts = {'one': 'http://nowhere.invalid/{id}', 'two': 'http://x.invalid'}
    assert fetch(FILE, hosts=hosts).read_bytes() == DATA
    assert host.requests == [(url, None)]


@pytest.fixture
def read_only_folder():
    """A folder with a file, where this process may only read."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, 'mmlocal')
        folder.mkdir()
        (folder / 'weights.pth').write_bytes(DATA)
        os.chmod(root, 0o755)
        folder.chmod(0o555)
        # Root may write everywhere.
        root_user = os.geteuid() == 0
        if root_user:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if root_user:
                os.seteuid(0)
            folder.chmod(0o755)


def test_read_only_cache(host, fetch, read_only_folder):
    host.routes['/one/a'] = host.content(DATA)
    path = fetch(FILE, folder=read_only_folder)
    assert path.read_bytes() == DATA and host.requests == []
    other = RemoteFile('other.pth', IDS)
    with pytest.raises(DownloadError, match='Set MMENGINE_HOME to a folder'):
        fetch(other, folder=read_only_folder)


@pytest.mark.parametrize('content', [b'{', b'[]', b'null', b'\xff\x00'])
@pytest.mark.parametrize('there', [True, False])
def test_damaged_record(host, fetch, content, there):
    host.routes['/one/a'] = host.content(DATA)
    path = fetch(FILE)
    path.with_name('weights.pth.json').write_bytes(content)
    if not there:
        path.unlink()
    with pytest.raises(DownloadError, match='weights.pth.json is damaged'):
        fetch(FILE)
    path.with_name('weights.pth.json').unlink()
    assert fetch(FILE).read_bytes() == DATA
