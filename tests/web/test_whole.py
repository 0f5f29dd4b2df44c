"""Answers that leave whole, by real sockets: as the server's own, but in one piece."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import socket
import struct
import time
from typing import TYPE_CHECKING

import pytest
from support.clock import Clock
from support.service import SMALL_BUFFER, connect, running
from support.turn import Turn, until

from soda_service.web.connection import LimitedHttp
from soda_service.web.responses import send_pieces, send_whole
from soda_service.web.straight import STRAIGHT
from soda_service.web.whole import OUTBOX_ANSWERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Receive, Scope, Send
    from support.service import LiveService

DATA_SEGMENTS_IN = 152
"""Where Linux's `struct tcp_info` has `tcpi_data_segs_in`."""


class _App:
    """Answers with as many bytes as the path says, by `send_whole`; `/apart/…` as ASGI has it."""

    def __init__(self) -> None:
        self.asked = 0
        self.left = 0
        self.most_waiting = 0
        self.turn = Turn()
        """That of the event loop that serves `/busy/…`."""
        self._goes_on = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await receive()
            return
        _, how, size = scope["path"].split("/")
        self.asked += 1
        waiting = [len(one._waiting) for one in LimitedHttp._outboxes.values()]
        self.most_waiting = max(self.most_waiting, *waiting)
        await self._wait(how, scope)
        if how == "waits":
            while (await receive())["type"] != "http.disconnect":
                pass
            self.left += 1
            return
        if how == "wrong":
            await send_pieces(scope, send, [], ["no bytes"], length=8)  # type: ignore[list-item]  # what the transport refuses
            return
        if how == "apart":
            del scope["extensions"]
        headers = [(b"x-said", scope["query_string"] or b"-")]
        if how == "broken":
            headers.append((b"x-made", b"of two\r\nx-lines: 1"))
        if how == "last":
            headers.append((b"connection", b"close"))
        await send_whole(scope, send, headers, body_of(int(size)))
        if how in ("shutdown", "cut_off"):
            transport = scope["extensions"][STRAIGHT].args[0].transport
            getattr(transport.get_protocol(), how)()

    async def _wait(self, how: str, scope: Scope) -> None:
        """What comes before the answer."""
        if how == "slow":
            await asyncio.sleep(float(scope["query_string"]))
        if how == "held":
            await self._goes_on.wait()
        if how == "goes-on":
            self._goes_on.set()
        if how == "busy":
            self.turn.stand_still()


def body_of(size: int) -> bytes:
    return hashlib.shake_128(b"%d" % size).digest(size)


@pytest.fixture(name="app", scope="module")
def _app() -> _App:
    return _App()


@pytest.fixture(name="service", scope="module")
def _service(app: _App) -> Iterator[LiveService]:
    with running(app) as service:
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


def bodies(answers: bytes) -> list[bytes]:
    """Of answers that follow each other."""
    found = []
    while answers:
        head, _, answers = answers.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length
        found.append(answers[: int(length[1])])
        answers = answers[int(length[1]) :]
    return found


def request(target: str, *, closing: bool = False) -> bytes:
    last = "Connection: close\r\n" if closing else ""
    return f"GET {target} HTTP/1.1\r\nHost: x\r\n{last}\r\n".encode("ascii")


def rest_of(client: socket.socket) -> bytes:
    got = b""
    while chunk := client.recv(1 << 20):
        got += chunk
    return got


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

    @pytest.mark.parametrize("first", ["busy", "whole"])
    @pytest.mark.parametrize("is_last", [False, True])
    def test_the_next_requests_come_while_it_waits(
        self, service: LiveService, app: _App, first: str, is_last: bool
    ) -> None:
        """Answers come in the order of the requests: the third is ready before the second."""
        for number in range(20):
            with socket.create_connection(("127.0.0.1", service.port), timeout=30) as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.sendall(request(f"/{first}/100"))
                with app.turn.held() if first == "busy" else contextlib.nullcontext():
                    time.sleep(0.00002 * number)
                    client.sendall(
                        request("/slow/101?0.03") + request("/whole/102", closing=is_last)
                    )
                got = b""
                while not got.endswith(body_of(102)):
                    chunk = client.recv(1 << 16)
                    assert chunk
                    got += chunk
                assert bodies(got) == [body_of(100), body_of(101), body_of(102)]

    def test_a_client_that_says_nothing_more(self, service: LiveService) -> None:
        """As `nc -N` does: the answer that waits is sent before the connection ends."""
        for _ in range(30):
            with socket.create_connection(("127.0.0.1", service.port), timeout=30) as client:
                client.sendall(request("/whole/1000"))
                client.shutdown(socket.SHUT_WR)
                assert bodies(rest_of(client)) == [body_of(1000)]

    def test_the_timer_of_idle_connections(self) -> None:
        """It does not run while the next answer is made."""
        app, clock = _App(), Clock()
        with (
            running(app, keep_alive_seconds=3, protocol=clock.protocol) as service,
            socket.create_connection(("127.0.0.1", service.port), timeout=30) as client,
        ):
            client.sendall(request("/busy/100"))
            with app.turn.held():
                client.sendall(request("/held/101"))
            until(lambda: app.asked == 2)
            clock.move(10)
            service.get("/goes-on/1")
            got = b""
            while not got.endswith(body_of(101)):
                chunk = client.recv(1 << 16)
                assert chunk
                got += chunk

    @pytest.mark.parametrize("how", ["shutdown", "cut_off"])
    def test_a_connection_that_is_closed_then(self, service: LiveService, how: str) -> None:
        """As when the server stops, or a client has waited too long: first comes the answer."""
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as client:
            client.sendall(request(f"/{how}/1000"))
            assert bodies(rest_of(client)) == [body_of(1000)]

    def test_a_client_that_goes_away_with_more_in_its_pipeline(self) -> None:
        """The request that is answered hears of it, though another one came last."""
        app = _App()
        with running(app) as service:
            with socket.create_connection(("127.0.0.1", service.port), timeout=30) as client:
                client.sendall(request("/waits/1") + request("/whole/2"))
                until(lambda: app.asked)
            until(lambda: app.left)
            assert service.get("/whole/7").content == body_of(7)
            assert app.left == 1
            assert app.asked == 2  # nobody was there for the other answer

    def test_one_that_cannot_be_sent(self, service: LiveService, app: _App) -> None:
        """Those that wait with it are."""
        clients = [socket.create_connection(("127.0.0.1", service.port), 30) for _ in range(9)]
        clients[0].sendall(request("/busy/10"))
        with app.turn.held():
            for number, client in enumerate(clients[1:]):
                client.sendall(request("/wrong/1" if number == 3 else f"/whole/{number}"))
        for number, client in enumerate(clients[1:]):
            if number == 3:
                with contextlib.suppress(ConnectionResetError):
                    assert client.recv(1000) == b""
                continue
            got = b""
            while not got.endswith(b"\r\n\r\n" + body_of(number)):
                chunk = client.recv(1 << 16)
                assert chunk
                got += chunk
        for client in clients:
            client.close()

    def test_few_wait(self, service: LiveService, app: _App) -> None:
        """However many clients ask in one turn of the loop."""
        clients = [socket.create_connection(("127.0.0.1", service.port), 30) for _ in range(100)]
        clients[0].sendall(request("/busy/10"))
        with app.turn.held():
            for client in clients[1:]:
                client.sendall(request("/whole/10"))
        for client in clients:
            got = b""
            while not got.endswith(b"\r\n\r\n" + body_of(10)):
                chunk = client.recv(1 << 16)
                assert chunk
                got += chunk
            client.close()
        assert 2 <= app.most_waiting < OUTBOX_ANSWERS

    def test_a_client_that_does_not_read(self) -> None:
        """What it asks for is made as it takes it."""
        app = _App()
        with (
            running(app, buffer_bytes=SMALL_BUFFER) as service,
            connect(service.port, buffer_bytes=SMALL_BUFFER) as client,
        ):
            client.sendall(b"".join(request("/whole/4000000") for _ in range(50)))
            until(lambda: app.asked)
            for _ in range(30):
                assert service.get("/whole/7").content == body_of(7)
                time.sleep(0.01)
            assert app.asked - 30 < 5

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
