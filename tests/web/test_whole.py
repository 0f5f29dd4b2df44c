"""Answers that leave whole, by real sockets: as the server's own, but in one piece."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import struct
from typing import TYPE_CHECKING

import pytest
from support.service import running

from soda_service.web.responses import send_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Receive, Scope, Send
    from support.service import LiveService

DATA_SEGMENTS_IN = 152
"""Where Linux's `struct tcp_info` has `tcpi_data_segs_in`."""


class _App:
    """Answers with as many bytes as the path says, by `send_whole`; `/apart/…` as ASGI has it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await receive()
            return
        _, how, size = scope["path"].split("/")
        if how == "apart":
            del scope["extensions"]
        headers = [(b"x-said", scope["query_string"] or b"-")]
        if how == "broken":
            headers.append((b"x-made", b"of two\r\nx-lines: 1"))
        if how == "last":
            headers.append((b"connection", b"close"))
        await send_whole(scope, send, headers, body_of(int(size)))


def body_of(size: int) -> bytes:
    return hashlib.shake_128(b"%d" % size).digest(size)


@pytest.fixture(name="service", scope="module")
def _service() -> Iterator[LiveService]:
    with running(_App()) as service:
        yield service


def asked(service: LiveService, *requests: str, end: bytes = b"") -> tuple[bytes, int]:
    """What comes for *requests*, sent at once, until *end*; and how many segments it came in."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        text = "".join(f"{one}\r\nHost: x\r\n\r\n" for one in requests)
        connection.sendall(text.encode("ascii"))
        got = b""
        while chunk := connection.recv(1 << 20):
            got += chunk
            if end and got.endswith(end):
                break
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    (segments,) = struct.unpack_from("@I", info, DATA_SEGMENTS_IN)
    return got, segments


def without_date(answer: bytes) -> bytes:
    return re.sub(rb"date: [^\r]+\r\n", b"", answer)


class TestInOnePiece:
    """What the client gets is what the server's own two messages give."""

    @pytest.mark.parametrize("size", [0, 1, 1000, 187_200, 3_000_000])
    def test_the_same_bytes(self, service: LiveService, size: int) -> None:
        end = body_of(size)[-50:] or b"\r\n\r\n"
        whole, _ = asked(service, f"GET /whole/{size}?a=b HTTP/1.1", end=end)
        apart, _ = asked(service, f"GET /apart/{size}?a=b HTTP/1.1", end=end)
        assert without_date(whole) == without_date(apart)
        assert b"\r\nx-said: a=b\r\n" in whole
        assert whole.partition(b"\r\n\r\n")[2] == body_of(size)

    def test_a_client_is_woken_once(self, service: LiveService) -> None:
        end = body_of(1000)[-50:]
        assert asked(service, "GET /apart/1000 HTTP/1.1", end=end)[1] == 2
        assert asked(service, "GET /whole/1000 HTTP/1.1", end=end)[1] == 1

    def test_where_head_is_asked_for(self, service: LiveService) -> None:
        head, _ = asked(service, "HEAD /whole/1000 HTTP/1.1", end=b"\r\n\r\n")
        assert b"content-length: 1000\r\n" in head
        assert head.endswith(b"\r\n\r\n")

    @pytest.mark.parametrize(
        "request_line",
        [
            "GET /whole/1000 HTTP/1.0",
            "GET /whole/1000 HTTP/1.1\r\nConnection: close",
            "GET /last/1000 HTTP/1.1",
        ],
    )
    def test_where_it_is_the_last(self, service: LiveService, request_line: str) -> None:
        """The connection ends, and the client is told so."""
        answer, _ = asked(service, request_line)
        assert answer.count(b"connection: close\r\n") == 1
        assert answer.partition(b"\r\n\r\n")[2] == body_of(1000)

    def test_requests_that_do_not_wait_for_answers(self, service: LiveService) -> None:
        """Forty megabytes pile up before anything is read, so that some have to wait their turn."""
        sizes = [1_000_000 + number for number in range(40)]
        requests = [f"GET /whole/{size}?{size} HTTP/1.1" for size in sizes]
        rest, _ = asked(service, *requests, end=body_of(sizes[-1])[-50:])
        for size in sizes:
            head, _, rest = rest.partition(b"\r\n\r\n")
            assert b"\r\nx-said: %d\r\n" % size in head
            assert rest[:size] == body_of(size)
            rest = rest[size:]
        assert rest == b""

    @pytest.mark.parametrize("size", [5000, 300_000])
    def test_many_clients_at_once(self, service: LiveService, size: int) -> None:
        """More than leave together, by number and by bytes; each gets its own, none waits."""
        with contextlib.ExitStack() as stack:
            clients = [
                stack.enter_context(socket.create_connection(("127.0.0.1", service.port), 30))
                for _ in range(60)
            ]
            for _ in range(3):
                for number, client in enumerate(clients):
                    request = f"GET /whole/{size + number}?{number} HTTP/1.1\r\nHost: x\r\n\r\n"
                    client.sendall(request.encode("ascii"))
                for number, client in enumerate(clients):
                    end = body_of(size + number)
                    got = b""
                    while not got.endswith(end):
                        chunk = client.recv(1 << 20)
                        assert chunk
                        got += chunk
                    assert b"\r\nx-said: %d\r\n" % number in got
                    assert got.partition(b"\r\n\r\n")[2] == end

    def test_a_request_that_is_followed_by_nonsense(self, service: LiveService) -> None:
        """The answer comes before the refusal, and the refusal before the end."""
        got, _ = asked(service, "GET /whole/1000 HTTP/1.1\r\nHost: x\r\n\r\n\0\0")
        head, _, rest = got.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert rest.startswith(body_of(1000) + b"HTTP/1.1 400 ")

    def test_a_header_that_would_be_two(self, service: LiveService) -> None:
        answer, _ = asked(service, "GET /broken/10 HTTP/1.1")
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"x-lines" not in answer

    def test_a_client_that_has_gone(self, service: LiveService) -> None:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", service.port)) as connection:
                connection.sendall(b"GET /whole/5000000 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert service.get("/whole/7").content == body_of(7)
