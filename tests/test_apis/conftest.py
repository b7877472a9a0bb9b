"""A host for downloads, on loopback, that behaves as it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Host:
    """An HTTP server with a function for each path.

    Attributes:
        requests (list): Path and Range header of each request, in turn.
        routes (dict): What answers by path.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str | None]] = []
        self.routes: dict[str, Callable] = {}
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.requests.append((self.path, self.headers.get('Range')))
                answer = host.routes.get(self.path, status(404))
                answer(self)

            def log_message(self, *args) -> None:
                pass

        self.server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(
            target=self.server.serve_forever, args=(0.02,)
        )
        self.thread.start()

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.server.server_port}'

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def content(
    data: bytes,
    cuts: list[int] = (),
    ranges: bool = True,
    kind: str = 'application/octet-stream',
    pause: float = 0.0,
    length: bool = True,
) -> Callable:
    """Answers with data.

    Args:
        data (bytes): The file.
        cuts (list[int]): After how many bytes of it (from its start) the
            connection breaks, the first time, the second time, ...
        ranges (bool): Whether it can go on where it was cut.
        kind (str): The Content-Type.
        pause (float): Seconds between tenths of the answer.
        length (bool): Whether the length is told.
    """
    cuts = list(cuts)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        start = 0
        wanted = handler.headers.get('Range')
        if wanted and ranges:
            start = int(wanted.removeprefix('bytes=').rstrip('-'))
            if start >= len(data):
                return handler.send_error(416)
        handler.send_response(206 if start else 200)
        if start:
            total = len(data)
            handler.send_header(
                'Content-Range', f'bytes {start}-{total - 1}/{total}'
            )
        handler.send_header('Content-Type', kind)
        if length:
            handler.send_header('Content-Length', str(len(data) - start))
        handler.end_headers()
        end = cuts.pop(0) if cuts else len(data)
        step = max(1, (end - start) // 10) if pause else max(1, end - start)
        for i in range(start, end, step):
            try:
                handler.wfile.write(data[i : min(end, i + step)])
            except ConnectionError:
                return None
            time.sleep(pause)
        handler.close_connection = True
        return None

    return answer


def status(code: int) -> Callable:
    """Answers with an error."""
    return lambda handler: handler.send_error(code)


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    host.content, host.status = content, status
    yield host
    host.close()


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch, tmp_path):
    """Neither the cache nor the settings of who runs the tests."""
    for name in ('http_proxy', 'https_proxy', 'all_proxy', 'no_proxy'):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv('MMLOCAL_OFFLINE', raising=False)
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path / 'home'))
