"""Bodies that leave from where they lie, by real sockets: the same bytes, and hardly any copied."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.service import SMALL_BUFFER, connect, running

from soda_service.storage.bands import CopiedBands
from soda_service.storage.local import LocalSource
from soda_service.storage.runs import RunGrid
from soda_service.web.responses import send_bands
from soda_service.web.straight import WRITTEN
from soda_service.web.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.types import Message, Receive, Scope, Send
    from support.service import LiveService

ROWS, ROW, STEP = 1500, 30_000, 40_000
GRID = RunGrid(1000, ROW, (ROWS,), (STEP,))
HEAD = b"head" * 3600
PIECES = (HEAD, GRID, b"", HEAD, RunGrid(0, 1_036_800), b"", HEAD, GRID, b"foot")
"""As of HDUs, two of which need no padding."""
SIZE = sum(len(one) if isinstance(one, bytes) else one.size for one in PIECES)
MOST_ON_ITS_WAY = 4 * 1024**2
"""Of what the kernel holds for two sockets that are told to hold little, and of what we hold."""


class _Counting(LocalSource):
    """Counts what is copied or read instead of written."""

    copied = 0

    def resident_runs(self, grid: RunGrid, *, in_thread: bool = False) -> bytes | memoryview | None:
        self.copied += grid.size
        return super().resident_runs(grid, in_thread=in_thread)

    def read_runs(self, grid: RunGrid) -> memoryview:
        self.copied += grid.size
        return super().read_runs(grid)


class _App:
    """Answers with rows of a file; keeps what was counted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = Threads(2)
        self.source: _Counting
        self.told = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await receive()
            return
        if scope["path"] == "/apart":
            del scope["extensions"]
        self.told = 0

        async def note(message: Message) -> None:
            body = len(message.get("body", b""))
            written = message.get(WRITTEN, 0)
            assert not (body and written)
            self.told += body + written
            await send(message)

        self.source = _Counting.open(str(self._path))
        bands = CopiedBands(closing(self.source), PIECES, source=self.source)
        await send_bands(scope, receive, note, [], bands, length=SIZE, threads=self._threads)


@pytest.fixture(name="path", scope="module")
def _path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("straight") / "content"
    path.write_bytes(np.random.default_rng(1).bytes(ROWS * STEP + 1000))
    return path


@pytest.fixture(name="expected", scope="module")
def _expected(path: Path) -> str:
    content = path.read_bytes()
    digest = hashlib.sha256()
    for piece in PIECES:
        if isinstance(piece, bytes):
            digest.update(piece)
            continue
        for start in piece.starts().tolist():
            digest.update(content[start : start + piece.length])
    return digest.hexdigest()


@pytest.fixture(name="app")
def _app(path: Path) -> _App:
    path.read_bytes()
    return _App(path)


@pytest.fixture(name="service")
def _service(app: _App) -> Iterator[LiveService]:
    with running(app) as service:
        yield service


@pytest.mark.parametrize("path_asked", ["/", "/apart"])
def test_the_same_bytes_with_and_without(
    service: LiveService, app: _App, expected: str, path_asked: str
) -> None:
    """The log hears of all of them; of those that go straight few are copied first."""
    body = service.client.get(service.url(path_asked)).content
    assert hashlib.sha256(body).hexdigest() == expected
    assert app.told == len(body) == SIZE
    if path_asked == "/apart":
        assert app.source.copied >= sum(one.size for one in PIECES if isinstance(one, RunGrid))
    elif app.source.is_resident(0, 1000):
        assert app.source.copied < SIZE / 2


def test_a_slow_client_holds_little(app: _App, expected: str) -> None:
    """What it does not take stays in the file, and comes when it is asked for."""
    with (
        running(app, buffer_bytes=SMALL_BUFFER) as service,
        connect(service.port, buffer_bytes=SMALL_BUFFER) as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        before, same = -1, 0
        while same < 5:
            time.sleep(0.05)
            same = same + 1 if before == app.told > 0 else 0
            before = app.told
        got = bytearray()
        chunk = client.recv(1 << 16)
        while chunk:
            got += chunk
            assert app.told < len(got) + MOST_ON_ITS_WAY
            chunk = client.recv(1 << 16)
    body = got.partition(b"\r\n\r\n")[2]
    assert hashlib.sha256(body).hexdigest() == expected


def test_many_clients_at_once(service: LiveService, expected: str) -> None:
    """Each gets its own bytes in order, though all are written in turn."""
    clients = [socket.create_connection(("127.0.0.1", service.port), 60) for _ in range(6)]
    for client in clients:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    bodies = {client: bytearray() for client in clients}
    left = list(clients)
    while left:
        for client in tuple(left):
            chunk = client.recv(300_000)
            bodies[client] += chunk
            if not chunk:
                left.remove(client)
                client.close()
    for body in bodies.values():
        assert hashlib.sha256(body.partition(b"\r\n\r\n")[2]).hexdigest() == expected


def test_one_that_goes_away(service: LiveService, app: _App, expected: str) -> None:
    """Nothing is left open, and the next is served."""
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", service.port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(100_000)
        for _ in range(200):
            if app.source.fileno() < 0:
                break
            time.sleep(0.05)
        assert app.source.fileno() < 0
    body = service.client.get(service.url("/")).content
    assert hashlib.sha256(body).hexdigest() == expected


def test_a_connection_that_goes_on(service: LiveService, expected: str) -> None:
    """Two answers on one connection: the second begins where the first ends."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as client:
        client.sendall(2 * b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        got = bytearray()
        while True:
            chunk = client.recv(1 << 20)
            assert chunk
            got += chunk
            head = got.find(b"\r\n\r\n") + 4
            if len(got) >= 2 * (head + SIZE):
                break
    second = head + SIZE
    assert hashlib.sha256(got[head:second]).hexdigest() == expected
    assert got[second:].startswith(b"HTTP/1.1 200 OK")
    assert hashlib.sha256(got[second + head : 2 * second]).hexdigest() == expected


def test_a_file_that_changes_breaks_the_answer(app: _App, path: Path) -> None:
    status = path.stat()
    with running(app) as service, socket.create_connection(("127.0.0.1", service.port)) as client:
        client.settimeout(60)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        got = len(client.recv(1000))
        os.utime(path, ns=(0, 0))
        try:
            while chunk := client.recv(1 << 20):
                got += len(chunk)
        finally:
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert got < SIZE
