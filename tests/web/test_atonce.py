"""Answers that are there at once, by real sockets: as in the usual way, and in their order."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Self

import pytest
from support.clock import Clock
from support.scripted import ETAG, PLAIN, SMALL
from support.service import SMALL_BUFFER, connect, running
from support.turn import Turn, until

from soda_service.web.atonce import AT_ONCE, Answer, AtOnce
from soda_service.web.connection import MAX_PIPELINED
from soda_service.web.log import request_id
from soda_service.web.middleware import Cors, RequestLog
from soda_service.web.straight import STRAIGHT
from soda_service.web.urls import Proxies

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from starlette.types import Receive, Scope, Send
    from support.scripted import ScriptedService
    from support.service import LiveService

    from soda_service.web.log import AccessLog

SYNC = f"/soda/sync?ID={PLAIN}&CIRCLE=1+2+3"
VARYING = re.compile(rb"(date|x-request-id|connection): [^\r]+\r\n")


class _Found(NamedTuple):
    """What was asked for at once, and whether it was there."""

    target: str
    is_there: bool


@pytest.fixture(name="found")
def _found(monkeypatch: pytest.MonkeyPatch) -> list[_Found]:
    """All that is asked for at once from now on."""
    found: list[_Found] = []
    call = AtOnce.__call__

    def noted(self: AtOnce, scope: Scope) -> Answer | None:
        answer = call(self, scope)
        target = scope["path"] + "?" + scope["query_string"].decode("ascii")
        found.append(_Found(target, answer is not None))
        return answer

    monkeypatch.setattr(AtOnce, "__call__", noted)
    return found


def request(target: str, *headers: str, method: str = "GET") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: x", *headers, "", ""]
    return "\r\n".join(lines).encode("ascii")


class _Client:
    """A connection that takes answers apart by their lengths."""

    def __init__(
        self, live: LiveService, clock: Clock | None = None, *, buffer_bytes: int | None = None
    ) -> None:
        """What is said by a *clock* has been understood then; for *buffer_bytes* see `running`."""
        self._socket = connect(live.port, buffer_bytes=buffer_bytes)
        self._clock = clock
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def say(self, *requests: bytes) -> None:
        if self._clock is None:
            self._socket.sendall(b"".join(requests))
        else:
            self._clock.say(self._socket, *requests)

    def say_no_more(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def answer(self) -> tuple[bytes, bytes]:
        """Head and body of the next one."""
        while b"\r\n\r\n" not in self._rest:
            self._take()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length
        while len(self._rest) < int(length[1]):
            self._take()
        body, self._rest = self._rest[: int(length[1])], self._rest[int(length[1]) :]
        return head + b"\r\n", body

    def is_over(self) -> bool:
        """Whether nothing comes any more."""
        return not self._rest and not self._socket.recv(1)

    def _take(self) -> None:
        chunk = self._socket.recv(1 << 20)
        assert chunk, "the connection has ended"
        self._rest += chunk


class TestTheService:
    """What it has in memory."""

    @pytest.mark.parametrize(
        "headers",
        [(), ("Origin: https://a.example",), ("X-Request-ID: mine-1",), ("X-Request-ID: a b",)],
    )
    @pytest.mark.parametrize("origins", ["*", "https://a.example"])
    def test_the_same_answer(
        self,
        serve: Callable[..., AbstractContextManager[LiveService]],
        found: list[_Found],
        headers: tuple[str, ...],
        origins: str,
    ) -> None:
        """As on a connection that ends with it, where nothing is given at once."""
        with serve(cors_origins=[origins]) as live, _Client(live) as client:
            client.say(request(SYNC, *headers))
            head, body = client.answer()
            client.say(request(SYNC, *headers, "Connection: close"))
            usual_head, usual_body = client.answer()
            assert client.is_over()
        assert [one.is_there for one in found] == [True]
        assert VARYING.sub(b"", head) == VARYING.sub(b"", usual_head)
        assert body == usual_body == SMALL
        ids = [re.findall(rb"x-request-id: ([^\r]+)", one) for one in (head, usual_head)]
        assert (ids == [[b"mine-1"]] * 2) == ("X-Request-ID: mine-1" in headers)
        assert [len(one) for one in ids] == [1, 1]
        assert len(re.findall(rb"\ndate: ", head)) == 1

    def test_the_same_line_of_the_log(
        self,
        serve: Callable[..., AbstractContextManager[LiveService]],
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        """Times and ids apart; also where the client calls its run by a name."""
        target = f"{SYNC}&RUNID=night+7"
        with serve(log_requests=True, log_level="info") as live, _Client(live) as client:
            capfd.readouterr()
            client.say(request(target))
            client.answer()
            client.say(request(target, "Connection: close"))
            client.answer()
        lines = [one for one in capfd.readouterr().err.splitlines() if "GET" in one]
        first, second = (re.sub(r"^\S+|\[\S+\]|\S+ ms", "", one) for one in lines)
        assert first == second
        assert "/soda/sync?ID=" in first
        assert f" 200 {len(SMALL)} bytes" in first
        assert first.endswith("run night 7")

    @pytest.mark.parametrize(
        ("target", "headers", "method", "status"),
        [
            (f"{SYNC}&CUTOUTDETAIL=cold", (), "GET", 200),
            (f"{SYNC}&CUTOUTDETAIL=slow", (), "GET", 200),
            (f"{SYNC}&CUTOUTDETAIL=corrupt", (), "GET", 500),
            (f"{SYNC}&CUTOUTDETAIL=bug", (), "GET", 500),
            (f"{SYNC}&FILL={'0' * 20_000}", (), "GET", 400),
            (SYNC, ("If-None-Match: *",), "GET", 304),
            (SYNC, ('If-Match: "x"',), "GET", 412),
            (SYNC, ('If-Match: "x"', f"If-Match: {ETAG}"), "GET", 200),
            (SYNC, (), "POST", 200),
            ("/soda/sync", (), "GET", 400),
            ("/soda/sync?ID=ivo://nobody/x", (), "GET", 404),
        ],
    )
    def test_all_else_goes_the_usual_way(
        self,
        live: LiveService,
        found: list[_Found],
        target: str,
        headers: tuple[str, ...],
        method: str,
        status: int,
    ) -> None:
        with _Client(live) as client:
            lengths = ("Content-Length: 0",) if method == "POST" else ()
            client.say(request(target, *headers, *lengths, method=method))
            head, _ = client.answer() if status != 304 else (client._socket.recv(99), b"")
            assert head.startswith(b"HTTP/1.1 %d " % status)
        assert [one.is_there for one in found] == [False]

    def test_what_was_planned_is_not_planned_again(
        self, scripted: ScriptedService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where only the pixels are missing."""
        planned = []
        plan = scripted.cutter.plan

        def noted(asked: object) -> object:
            planned.append(asked)
            return plan(asked)  # type: ignore[arg-type]  # handed on as it came

        monkeypatch.setattr(scripted.cutter, "plan", noted)
        with _Client(scripted.live) as client:
            client.say(request(f"{SYNC}&CUTOUTDETAIL=cold"))
            assert client.answer()[1] == SMALL
        assert len(planned) == 1

    @pytest.mark.parametrize("wrong", ["", "&CIRCLE=1+2+x", "&CUTOUTDETAIL=corrupt"])
    def test_what_the_log_says_meanwhile(
        self, live: LiveService, caplog: pytest.LogCaptureFixture, wrong: str
    ) -> None:
        """Once, and under the id that the answer has."""
        seen = []

        def note_id(_: logging.LogRecord) -> bool:
            seen.append(request_id.get())
            return True

        caplog.handler.addFilter(note_id)
        with caplog.at_level("INFO", "soda_service.web.params"), _Client(live) as client:
            client.say(request(f"/soda/sync?ID={PLAIN}&WHAT=1{wrong}&CUTOUTDETAIL=cold"))
            head, _ = client.answer()
        said = [one for one in caplog.records if "unknown parameter" in one.message]
        assert len(said) == 1
        found = re.search(rb"x-request-id: ([^\r]+)", head)
        assert found
        assert found[1].decode() in seen

    @pytest.mark.parametrize(
        "details", [[""] * 70, ["", "cold", "", "slow", "", "nothing-else", ""] * 10]
    )
    def test_only_the_first_of_many_that_come_together(
        self, live: LiveService, found: list[_Found], details: list[str]
    ) -> None:
        """The others have their turn between those of other clients; each keeps its place."""
        targets = [f"{SYNC}&RUNID=n{at}&CUTOUTDETAIL={one}" for at, one in enumerate(details)]
        with _Client(live) as client:
            client.say(*map(request, targets))
            for one in details:
                head, body = client.answer()
                assert body == SMALL
                assert f'filename="{one or "small.fits"}"'.encode() in head
        assert len(found) < 5  # a chunk has many of them
        assert found[0] == (targets[0], True)


class _App:
    """Answers `/now/N` at once and all else in the usual way, `/slow/N` when it is told to."""

    def __init__(self) -> None:
        self.most_waiting = 0
        """Requests of one connection."""
        self.slow = 0
        """Answers that have been waited for."""
        self.goes_on = asyncio.Event()
        """Set when the slow ones are to be made; by the event loop."""
        self.turn = Turn()
        """That of the event loop that serves `/busy/N`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            scope["state"][AT_ONCE] = self.at_once
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["path"].startswith("/slow"):
            self.slow += 1
            await self.goes_on.wait()
        if scope["path"].startswith("/busy"):
            self.turn.stand_still()
        if scope["path"].startswith("/goes-on"):
            self.goes_on.set()
        owner = scope["extensions"][STRAIGHT].args[0].transport.get_protocol()
        self.most_waiting = max(self.most_waiting, len(owner.pipeline))
        body = b"usual " + scope["path"].encode("ascii")
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def at_once(self, scope: Scope) -> Answer | None:
        """Half of a megabyte."""
        if not scope["path"].startswith("/now"):
            return None
        body = b"now " + scope["path"].encode("ascii") + bytes(500_000)
        return Answer([(b"content-length", b"%d" % len(body))], (body,), len(body))


def said(answer: tuple[bytes, bytes]) -> bytes:
    return answer[1].rstrip(b"\0")


@pytest.fixture(name="app", scope="module")
def _app() -> _App:
    return _App()


@pytest.fixture(name="immediate", scope="module")
def _immediate(app: _App) -> Iterator[LiveService]:
    with running(app, buffer_bytes=SMALL_BUFFER) as live:
        yield live


KEEP_ALIVE_SECONDS = 3


class TestTimers:
    """Of connections that are idle; time goes by as the tests have it."""

    @pytest.fixture(name="clock")
    def _clock(self) -> Clock:
        return Clock()

    @pytest.fixture(name="app")
    def _app(self) -> _App:
        return _App()

    @pytest.fixture(name="timed")
    def _timed(self, app: _App, clock: Clock) -> Iterator[LiveService]:
        protocol = clock.protocol
        with running(app, keep_alive_seconds=KEEP_ALIVE_SECONDS, protocol=protocol) as live:
            yield live

    def test_while_the_next_answer_is_made(
        self, timed: LiveService, app: _App, clock: Clock
    ) -> None:
        """It does not run."""
        with _Client(timed, clock) as client, _Client(timed, clock) as other:
            client.say(request("/now/1"), request("/slow/2"), request("/now/3"))
            assert said(client.answer()) == b"now /now/1"
            until(lambda: app.slow == 1)
            clock.move(2 * KEEP_ALIVE_SECONDS)
            other.say(request("/goes-on/0"))
            assert [said(client.answer()) for _ in range(2)] == [b"usual /slow/2", b"usual /now/3"]
            clock.move(KEEP_ALIVE_SECONDS - 1)
            client.say(request("/now/4"))
            assert said(client.answer()) == b"now /now/4"

    def test_those_of_many(self, timed: LiveService, app: _App, clock: Clock) -> None:
        """So many answers that some leave while what came with their requests is understood."""
        with contextlib.ExitStack() as stack:
            first, *clients, last = [stack.enter_context(_Client(timed)) for _ in range(41)]
            first.say(request("/busy/0"))
            with app.turn.held():
                for client in clients:
                    client.say(request("/now/1"), request("/slow/2"))
            for client in clients:
                assert said(client.answer()) == b"now /now/1"
            until(lambda: app.slow == len(clients))
            clock.move(2 * KEEP_ALIVE_SECONDS)
            last.say(request("/goes-on/0"))
            for client in clients:
                assert said(client.answer()) == b"usual /slow/2"

    def test_an_idle_connection_ends(self, timed: LiveService, clock: Clock) -> None:
        with _Client(timed, clock) as client:
            client.say(request("/now/1"))
            client.answer()
            clock.move(KEEP_ALIVE_SECONDS)
            assert client.is_over()

    def test_the_clock_of_the_wall(self, app: _App) -> None:
        """The server's own event loop does the same."""
        with running(app, keep_alive_seconds=1) as live, _Client(live) as client:
            client.say(request("/now/1"))
            client.answer()
            assert client.is_over()


class TestConnections:
    """What the server takes for answered."""

    def test_many_requests_before_an_answer_is_read(
        self, immediate: LiveService, app: _App
    ) -> None:
        """What is understood of them is bounded, and all are answered in their order."""
        count, padding = 20_000, f"X-Padding: {'x' * 200}"
        app.most_waiting = 0
        with _Client(immediate) as client:
            whole = [request(f"/usual/{at}", padding) for at in range(count)]
            saying = threading.Thread(target=client.say, args=whole)
            saying.start()
            for at in range(count):
                assert client.answer()[1] == b"usual /usual/%d" % at
            saying.join()
        assert 0 < app.most_waiting < count / 4

    def test_more_requests_than_anybody_needs(self, immediate: LiveService) -> None:
        """Of 18 bytes each: some thousands are answered, and then the client is told."""
        with _Client(immediate) as client:
            with contextlib.suppress(OSError):
                client.say(b"GET / HTTP/1.1\r\n\r\n" * 200_000)
            heads: list[bytes] = []
            while not heads or heads[-1].startswith(b"HTTP/1.1 200 "):
                heads.append(client.answer()[0])
        assert heads[-1].startswith(b"HTTP/1.1 429 ")
        assert len(heads) > MAX_PIPELINED

    def test_what_is_no_http_behind_it(self, immediate: LiveService) -> None:
        """It is answered after what came before it."""
        with _Client(immediate) as client:
            client.say(request("/now/1"), b"?!\r\n\r\n")
            assert said(client.answer()) == b"now /now/1"
            assert client.answer()[0].startswith(b"HTTP/1.1 400 ")
            assert client.is_over()

    def test_a_client_that_says_nothing_more(self, immediate: LiveService) -> None:
        for _ in range(30):
            with _Client(immediate) as client:
                client.say(request("/now/1"))
                client.say_no_more()
                assert said(client.answer()) == b"now /now/1"
                assert client.is_over()

    def test_a_client_that_has_not_taken_its_last(self, immediate: LiveService) -> None:
        """What the kernel has no room for is not made: the rest waits, and goes the usual way."""
        with _Client(immediate, buffer_bytes=SMALL_BUFFER) as client:
            for number in range(60):
                client.say(request(f"/now/{number}"))
                time.sleep(0.002)
            answers = [said(client.answer()) for _ in range(60)]
        assert [one.split()[1] for one in answers] == [b"/now/%d" % at for at in range(60)]
        assert answers[0].startswith(b"now")
        assert answers[-1].startswith(b"usual")

    def test_a_body_that_nobody_asked_for(self, immediate: LiveService) -> None:
        """It is no next request, in one piece with its head or not."""
        with _Client(immediate) as client:
            head = request("/now/1", "Content-Length: 8")
            client.say(head, b"GET /x H")
            assert said(client.answer()) == b"now /now/1"
            client.say(head)
            assert said(client.answer()) == b"now /now/1"
            client.say(b"GET /x H", request("/now/2"))
            assert said(client.answer()) == b"now /now/2"

    def test_a_request_in_pieces(self, immediate: LiveService) -> None:
        """The first ends in the middle of one."""
        first, second = request("/now/1"), request("/now/2")
        whole = first + second
        assert len(first) % 7
        with _Client(immediate) as client:
            for at in range(0, len(whole), 7):
                client.say(whole[at : at + 7])
                time.sleep(0.001)
                if at < len(first) < at + 7:
                    assert said(client.answer()) == b"now /now/1"
            assert said(client.answer()) == b"now /now/2"


class _Silent:
    """A log that is closed."""

    is_open = False


class TestIds:
    """Of requests."""

    @pytest.mark.parametrize("goes_wrong", [False, True])
    def test_what_the_connection_says_later_is_not_of_the_request(
        self, *, goes_wrong: bool
    ) -> None:
        seen = []

        class Endpoint:
            def at_once(self, scope: Scope) -> Answer | None:
                del scope
                seen.append(request_id.get())
                if goes_wrong:
                    raise ValueError
                return Answer([], (), 0)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            del scope, receive, send

        silent: AccessLog = _Silent()  # type: ignore[assignment]  # nothing is written
        log = RequestLog(app, Proxies(()), silent)
        at_once = AtOnce("/here", Endpoint(), log=log, cors=Cors(app, ("*",)))
        scope = {"method": "GET", "path": "/here", "headers": [(b"x-request-id", b"its-own")]}
        before = request_id.get()
        assert (at_once(scope) is None) is goes_wrong
        assert seen == ["its-own"]
        assert request_id.get() == before
        assert at_once({**scope, "path": "/there"}) is None
        assert at_once({**scope, "method": "POST"}) is None
        assert seen == ["its-own"]
