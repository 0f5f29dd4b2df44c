"""A live server in this process: uvicorn in a thread, on a free port of the loopback."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import httpx2
import uvicorn

from soda_service.web.connection import LimitedHttp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from starlette.types import ASGIApp

_START_SECONDS = 30.0

SMALL_BUFFER = 64 * 1024
"""Bytes that a socket may be told to hold; the kernel makes it twice as many, which is no more
than some hundred kilobytes on any machine. Left alone it holds tens of megabytes on some."""


@dataclass(frozen=True, kw_only=True)
class LiveService:
    """A service that answers at *base*."""

    base: str
    """Without a slash at the end."""
    client: httpx2.Client = field(repr=False)
    """Keeps its connection; follows no redirects."""

    @property
    def port(self) -> int:
        """On 127.0.0.1."""
        return int(self.base.rpartition(":")[2])

    def url(self, path: str, **parameters: object) -> str:
        """The absolute URL of *path*; a parameter given as a list is repeated."""
        query = urlencode(parameters, doseq=True, quote_via=quote)
        return f"{self.base}{path}" + (f"?{query}" if query else "")

    def get(
        self, path: str, headers: Mapping[str, str] | None = None, **parameters: object
    ) -> httpx2.Response:
        """The answer to a GET."""
        return self.client.get(self.url(path, **parameters), headers=headers)

    def head(
        self, path: str, headers: Mapping[str, str] | None = None, **parameters: object
    ) -> httpx2.Response:
        """The answer to a HEAD."""
        return self.client.head(self.url(path, **parameters), headers=headers)

    def raw(
        self, method: str, target: str, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (small letters) and body of a request sent to the letter.

        *target* goes out as it stands: no client tidies its dots, slashes and percent signs.
        """
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return response.status, named, response.read()
        finally:
            connection.close()


@contextmanager
def running(
    app: ASGIApp,
    *,
    keep_alive_seconds: int = 60,
    protocol: type[LimitedHttp] = LimitedHttp,
    buffer_bytes: int | None = None,
) -> Iterator[LiveService]:
    """*app* behind a real socket, ended with the block.

    Of what it sends and of what it is sent the kernel holds about *buffer_bytes* in its sockets,
    and so it does at the other end, of `LiveService.client` and of what `connect` gives.
    """
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=keep_alive_seconds,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    options = _options(buffer_bytes)
    for option in options:
        listener.setsockopt(*option)  # what it accepts has it, too
    port = listener.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        _wait_until_started(server, thread)
        base = f"http://127.0.0.1:{port}"
        transport = httpx2.HTTPTransport(socket_options=options)
        with httpx2.Client(timeout=60, trust_env=False, transport=transport) as client:
            yield LiveService(base=base, client=client)
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
    assert not thread.is_alive(), "the server did not stop"


def received(client: httpx2.Client, url: str, deed: Callable[[], None]) -> tuple[bytes, bool]:
    """What came of an answer that had begun before the *deed*, and whether it was all of it."""
    with client.stream("GET", url) as answer:
        assert answer.status_code == 200
        return rest_of(answer, deed)


def rest_of(answer: httpx2.Response, deed: Callable[[], None]) -> tuple[bytes, bool]:
    """The same of an *answer* that begins."""
    got = bytearray()
    pieces = answer.iter_bytes()
    got += next(pieces)
    deed()
    try:
        for piece in pieces:
            got += piece
    except httpx2.RemoteProtocolError:
        return bytes(got), False
    assert len(got) == int(answer.headers["content-length"])
    return bytes(got), True


def connect(port: int, *, buffer_bytes: int | None = None, timeout: float = 60) -> socket.socket:
    """A connection to *port* of the loopback; for *buffer_bytes* see `running`."""
    client = socket.socket()
    try:
        for option in _options(buffer_bytes):
            client.setsockopt(*option)
        client.settimeout(timeout)
        client.connect(("127.0.0.1", port))
    except BaseException:
        client.close()
        raise
    return client


def most_on_its_way() -> int:
    """Bytes that the kernel holds at most of what goes one way over a connection of its own.

    Sent and not yet taken, where no socket is told to hold less.
    """
    most = 0
    for name in ("tcp_wmem", "tcp_rmem"):
        most += int(Path("/proc/sys/net/ipv4", name).read_text().split()[2])
    return most


def _options(buffer_bytes: int | None) -> list[tuple[int, int, int]]:
    if buffer_bytes is None:
        return []
    both = (socket.SO_SNDBUF, socket.SO_RCVBUF)
    return [(socket.SOL_SOCKET, option, buffer_bytes) for option in both]


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    end = time.monotonic() + _START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > end:
            raise RuntimeError("the server did not start; its log says why")
        time.sleep(0.01)
