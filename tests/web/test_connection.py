"""Connections over which no request comes, or none that is whole, or one that is too much."""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import time
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest
from support.clock import Clock
from support.documents import assert_valid_votable
from support.scripted import PLAIN, SMALL
from support.service import SMALL_BUFFER, connect, most_on_its_way
from support.tables import status_of
from support.wire import Wire

from soda_service.web import bodies, connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from support.scripted import Archive
    from support.service import LiveService
    from support.wire import Answer

FORMS = [("/soda/sync", "text"), ("/sia/query", "votable"), ("/datalink/links", "votable"),
         ("/health", "text")]  # fmt: skip
FORM = "application/x-www-form-urlencoded"
TOTAL = 100_000_000
_UPGRADE = (
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
)
_LAST = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(name="wire")
def _wire(live: LiveService, archive: Archive) -> Wire:
    return _wire_of(live, archive)


def _wire_of(live: LiveService, archive: Archive) -> Wire:
    return Wire(base=live.base + "/", folder=archive.folder, client=live.client)


@pytest.fixture(name="patient")
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused client is listened to for much longer than any test lasts."""
    monkeypatch.setattr(bodies, "DRAIN_SECONDS", 600)
    monkeypatch.setattr(bodies, "QUIET_SECONDS", 600)


def assert_refused(answer: Answer, form: str, *, status: int = 400) -> str:
    """What the client is told, in the form of its path; `Wire` has looked at the headers."""
    assert answer.status == status
    assert answer.headers["connection"] == "close"
    if form == "votable":
        assert answer.headers["content-type"] == "application/x-votable+xml"
        assert_valid_votable(answer.body)
        value, message = status_of(answer.body)
        assert value == "ERROR"
        label = "UsageFault: "
    else:
        assert answer.headers["content-type"].startswith("text/plain")
        message, label = answer.body.decode(), "UsageError: "
    assert message.startswith(label)
    return message


def in_turn(client: socket.socket, count: int) -> list[bytes]:
    """Heads, without the ids, and bodies of the answers, as the lengths of these say."""
    answers, received = [], b""
    for _ in range(count):
        while (end := received.find(b"\r\n\r\n") + 4) < 4:
            received += some(client)
        head = re.sub(rb"x-request-id: \S+|date: [^\r]+", b"", received[:end])
        found = re.search(rb"content-length: (\d+)", head)
        assert found is not None
        length = int(found[1])
        while len(received) < end + length:
            received += some(client)
        answers.append(head + received[end : end + length])
        received = received[end + length :]
    assert received == b""
    return answers


class TestRefusals:
    """What httptools does not take is answered as all else is."""

    @pytest.mark.usefixtures("patient")
    @pytest.mark.parametrize(("path", "form"), FORMS)
    def test_a_target_that_is_too_long(self, wire: Wire, path: str, form: str) -> None:
        """414 (RFC 9112 §3), with the limit and the way out; just within it all is well."""
        most = connection.MAX_TARGET_BYTES
        start = f"{path}?MAXREC=1&RUNID="
        answer = wire.target(start + "x" * (most - len(start)))
        assert answer.status != 414
        for length in (most + 1, 300_000, 2 * connection.MAX_HEAD_BYTES):
            answer = wire.target(start + "x" * (length - len(start)))
            message = assert_refused(answer, form, status=414)
            assert f"longer than {most} bytes" in message
            assert "POST" in message

    @pytest.mark.parametrize(("path", "form"), FORMS)
    @pytest.mark.parametrize(
        "rest",
        ["?POS=CIRCLE 1 2 3 HTTP/1.1\r\nHost: x\r\n\r\n", " HTTP/1.1\r\nHost x\r\n\r\n",
         " HTTP/1.1\r\nContent-Length: x\r\n\r\n", " HTTP/1.1\r\nA: \0\r\n\r\n", " HTTX\r\n\r\n"],
        ids=["blanks", "header", "length", "nul", "version"],
    )  # fmt: skip
    def test_a_head_that_is_none(self, wire: Wire, path: str, form: str, rest: str) -> None:
        """400, in the form of the path, which is known; with a proxy's form of it, too."""
        for origin in ("", "http://archive.example"):
            answer = wire.raw(f"GET {origin}{path}{rest}".encode())
            assert "is not HTTP: " in assert_refused(answer, form)

    @pytest.mark.parametrize("data", [b"\0" * 1000, b"GET\r\n\r\n", b"\x16\x03\x01\x02\0\x01" * 99])
    def test_a_path_that_is_not_known(self, wire: Wire, data: bytes) -> None:
        """In text."""
        assert_refused(wire.raw(data), "text")

    @pytest.mark.usefixtures("patient")
    def test_headers_without_end(self, wire: Wire) -> None:
        """431 (RFC 6585 §5), which arrives although not all of it is read."""
        head = b"GET /sia/query HTTP/1.1\r\n" + b"Name: value\r\n" * 120_000
        message = assert_refused(wire.raw(head), "votable", status=431)
        assert str(connection.MAX_HEAD_BYTES) in message

    @pytest.mark.parametrize(("path", "form"), FORMS[:3])
    def test_a_body_whose_frame_is_none(self, wire: Wire, path: str, form: str) -> None:
        """The request that waits for it is what is refused."""
        head = f"POST {path} HTTP/1.1\r\nContent-Type: {FORM}\r\nTransfer-Encoding: chunked\r\n\r\n"
        for chunks in (b"zz\r\nID=x\r\n0\r\n\r\n", b"4\r\nID=x\r\n-5\r\nx\r\n", b"4\r\nID=xyz\r\n"):
            assert "is not HTTP: " in assert_refused(wire.raw(head.encode() + chunks), form)
        with socket.create_connection(("127.0.0.1", wire.port), timeout=20) as client:
            client.sendall(head.encode() + b"4\r\nID=x\r\n")
            time.sleep(0.1)
            client.sendall(b"zz\r\n")
            assert_refused(wire.answer(client), form)

    def test_after_requests_that_are_sound(self, wire: Wire) -> None:
        """Each gets its own answer first, whole, and the refusal its own form."""
        sound = f"GET /soda/sync?ID={PLAIN}&CUTOUTDETAIL=slow HTTP/1.1\r\n\r\n".encode()
        posted = b"POST /soda/sync HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
        for garbage, form in ((b"\0\0\0", "text"), (b"GET /sia/query?a b\r\n", "votable")):
            with socket.create_connection(("127.0.0.1", wire.port), timeout=20) as client:
                client.sendall(sound * 2 + posted + garbage)
                first, second, third, last = in_turn(client, 4)
            assert first == second
            assert first.endswith(SMALL)
            assert third.startswith(b"HTTP/1.1 400 ")
            assert b"ID is missing" in third
            assert b"is not HTTP: " in last
            assert (b"VOTABLE" in last) == (form == "votable")

    def test_the_form_of_the_method(self, wire: Wire) -> None:
        """HEAD has no body; what OPTIONS asks is the same everywhere."""
        target = "/soda/sync?" + "x" * 70_000
        answer = wire.target(target, method="HEAD")
        assert (answer.status, answer.body) == (414, b"")
        assert wire.target(target, method="OPTIONS").status == 200
        assert_refused(wire.target(target, method="POST"), "text", status=414)

    @pytest.mark.usefixtures("patient")
    def test_a_client_that_has_ended_its_half(self, wire: Wire) -> None:
        """It is told, too, and the connection ends."""
        with socket.create_connection(("127.0.0.1", wire.port), timeout=30) as client:
            client.sendall(b"nonsense\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            received = b"".join(iter(lambda: client.recv(65_536), b""))
        assert received.startswith(b"HTTP/1.1 400 ")
        assert b"UsageError: " in received

    def test_the_log_has_the_same_id(
        self,
        serve: Callable[..., AbstractContextManager[LiveService]],
        archive: Archive,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """That of the answer, which is the client's own where it came before what was wrong."""
        with serve(log_requests=True, log_format="json") as live:
            wire = _wire_of(live, archive)
            answers = [
                wire.raw(b"GET /sia/query?a b HTTP/1.1\r\n\r\n"),
                wire.raw(b"\0\0\0"),
                wire.target("/soda/sync?" + "x" * 70_000, headers={"X-Request-ID": "mine-1"}),
            ]
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line]
        found = {line["request_id"]: line for line in lines if line["message"] == "request"}
        said = [found[answer.headers["x-request-id"]] for answer in answers]
        assert [(one["method"], one["status"]) for one in said] == [
            ("GET", 400), ("-", 400), ("GET", 414),
        ]  # fmt: skip
        assert said[0]["target"] == "/sia/query?a"
        assert said[1]["target"] == "-"
        assert answers[2].headers["x-request-id"] == "mine-1"

    def test_only_origins_that_may_read_it(
        self, serve: Callable[..., AbstractContextManager[LiveService]]
    ) -> None:
        """A refusal is for whom other answers are."""
        with serve(cors_origins=("https://sky.example",)) as live:
            for origin in ("https://sky.example", "https://other.example"):
                _, headers, _ = live.raw("GET", "/x?" + "x" * 70_000, {"Origin": origin})
                allowed = headers.get("access-control-allow-origin")
                assert allowed == (origin if "sky" in origin else None)


class TestOtherProtocols:
    """Who offers one is answered in this one, as if he had not (RFC 9110 §7.8)."""

    @pytest.mark.parametrize("size", [1, 7, 10_000])
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_a_body(self, wire: Wire, framing: str, size: int) -> None:
        """It is that of the request, however it comes: curl --http2 sends such."""
        body = f"ID={PLAIN}&CUTOUTDETAIL=slow".encode()
        head = f"POST /soda/sync HTTP/1.1\r\nHost: x\r\n{_UPGRADE}Content-Type: {FORM}\r\n"
        if framing == "length":
            sent = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        else:
            sent = f"{head}Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n".encode()
            sent += body + b"\r\n0\r\n\r\n"
        answer, last = self._answers(wire, sent + _LAST, size, 2)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(SMALL)
        assert last.endswith(b"ok\n")

    @pytest.mark.parametrize("size", [1, 10_000])
    @pytest.mark.parametrize("more", ["", "Content-Length: 0\r\n"])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_requests_that_follow(self, wire: Wire, method: str, more: str, size: int) -> None:
        """They are no bytes of that protocol."""
        one = f"{method} /soda/sync HTTP/1.1\r\nHost: x\r\n{_UPGRADE}{more}\r\n".encode()
        *answers, last = self._answers(wire, 3 * one + _LAST, size, 4)
        assert all(b"ID is missing" in answer for answer in answers)
        assert last.endswith(b"ok\n")

    def test_a_coding_that_frames_nothing(self, wire: Wire) -> None:
        """Refused as it is without Upgrade (RFC 9112 §6.1), and nothing is broken."""
        head = f"POST /soda/sync HTTP/1.1\r\nHost: x\r\n{_UPGRADE}Transfer-Encoding: gzip\r\n\r\n"
        assert "is not HTTP: " in assert_refused(wire.raw(head.encode()), "text")

    @pytest.mark.parametrize(
        "sent", [b"", b"zz\r\n", b"hello", b"hello" + _LAST, b"5\r\nhello\r\n0\r\n\r\n" + _LAST]
    )
    @pytest.mark.parametrize(
        "framing",
        ["Transfer-Encoding: gzip", "Transfer-Encoding: chunked", "Content-Length: 5"],
    )
    def test_a_body_that_nobody_reads(self, wire: Wire, framing: str, sent: bytes) -> None:
        """What is answered at once has no other answer, whatever is wrong with its body."""
        target = f"/soda/sync?ID={PLAIN}&CIRCLE=1+2+3"
        self._whole(wire, f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        plain, upgraded = (
            self._whole(
                wire, f"GET {target} HTTP/1.1\r\nHost: x\r\n{framing}\r\n{more}\r\n".encode() + sent
            )
            for more in ("", _UPGRADE)
        )
        assert plain.startswith(b"HTTP/1.1 200 ")
        assert SMALL in plain
        assert upgraded == plain

    @pytest.mark.parametrize("more", ["", _UPGRADE])
    def test_what_follows_the_last_request(
        self, wire: Wire, caplog: pytest.LogCaptureFixture, more: str
    ) -> None:
        """Who says `Connection: close` and goes on is not refused for that."""
        first = f"GET /health HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode()
        closing = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        with socket.create_connection(("127.0.0.1", wire.port), timeout=20) as client:
            client.sendall(first + closing + _LAST)
            received = b"".join(iter(lambda: client.recv(65_536), b""))
        assert re.findall(rb"^HTTP/1.1 (\d+) ", received, re.MULTILINE) == [b"200", b"200"]
        assert "Invalid HTTP request received." not in caplog.messages

    @staticmethod
    def _whole(wire: Wire, sent: bytes) -> bytes:
        """What comes back until the connection ends, without ids and dates."""
        with socket.create_connection(("127.0.0.1", wire.port), timeout=20) as client:
            client.sendall(sent)
            received = b""
            last = b"ok\n" if sent.endswith(_LAST) else SMALL
            while not received.endswith(last) and (piece := client.recv(65_536)):
                received += piece
            # Of some of these the service waits for more, though it has answered.
            client.shutdown(socket.SHUT_WR)
            received += b"".join(iter(lambda: client.recv(65_536), b""))
        return re.sub(rb"(x-request-id|date): [^\r]+", b"", received)

    @staticmethod
    def _answers(wire: Wire, sent: bytes, size: int, count: int) -> list[bytes]:
        """What comes back where *sent* is sent in pieces of *size* bytes."""
        with socket.create_connection(("127.0.0.1", wire.port), timeout=20) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(0, len(sent), size):
                client.sendall(sent[at : at + size])
                time.sleep(0.001)  # else the kernel would join them
            return in_turn(client, count)


class TestBodiesThatAreTooLong:
    """413 reaches those who write all of it before they read."""

    @pytest.mark.usefixtures("patient")
    @pytest.mark.parametrize(("path", "form"), FORMS[:3])
    @pytest.mark.parametrize("framing", ["length", "chunked"])
    @pytest.mark.parametrize("kind", [FORM, "multipart/form-data; boundary=a"])
    def test_http_client(self, wire: Wire, path: str, form: str, framing: str, kind: str) -> None:
        """Python's own client is one of them."""
        piece = b"x" * 1_000_000
        client = HTTPConnection("127.0.0.1", wire.port, timeout=60)
        headers = {"Content-Type": kind}
        if framing == "length":
            headers["Content-Length"] = str(TOTAL)
        body = (piece for _ in range(TOTAL // len(piece)))
        with contextlib.closing(client):
            client.request("POST", path, body, headers, encode_chunked=framing == "chunked")
            assert client.sock is not None
            answer = wire.answer(client.sock, method="POST")
        assert "longer than 1048576 bytes" in assert_refused(answer, form, status=413)

    @pytest.mark.usefixtures("patient")
    @pytest.mark.parametrize("expects", [True, False])
    def test_what_is_not_read(self, wire: Wire, expects: bool) -> None:
        """Who waits to be told to go on, and who announces more than that, is cut off at once."""
        length = bodies.DRAIN_BYTES + (0 if expects else 1)
        head = f"POST /soda/sync HTTP/1.1\r\nContent-Length: {length}\r\n"
        head += "Expect: 100-continue\r\n" * expects
        with socket.create_connection(("127.0.0.1", wire.port), timeout=30) as client:
            client.sendall(head.encode() + b"\r\n")
            received = b"".join(iter(lambda: client.recv(65_536), b""))
        assert received.startswith(b"HTTP/1.1 413 ")

    @pytest.mark.usefixtures("patient")
    def test_it_is_read_up_to_a_limit(self, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of bytes, where no length is told."""
        monkeypatch.setattr(bodies, "DRAIN_BYTES", 3_000_000)
        sent = self._sent_before_the_end(wire, b"x" * 65_536, 0.0)
        assert sent < 3_000_000 + most_on_its_way()

    def test_it_is_read_for_a_time(self, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        """And no longer."""
        monkeypatch.setattr(bodies, "DRAIN_SECONDS", 0.5)
        monkeypatch.setattr(bodies, "QUIET_SECONDS", 600)
        assert self._sent_before_the_end(wire, b"x" * 1000, 0.05) < 500_000

    @pytest.mark.usefixtures("patient")
    def test_a_pause_ends_it(self, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who does not go on is not waited for."""
        monkeypatch.setattr(bodies, "QUIET_SECONDS", 0.2)
        with socket.create_connection(("127.0.0.1", wire.port), timeout=30) as client:
            client.sendall(b"POST /soda/sync HTTP/1.1\r\nContent-Length: 2000000\r\n\r\nID=x")
            received = b"".join(iter(lambda: client.recv(65_536), b""))
        assert received.startswith(b"HTTP/1.1 413 ")

    @staticmethod
    def _sent_before_the_end(wire: Wire, piece: bytes, pause: float) -> int:
        """Bytes that a client can write after more than is taken; the answer is there first."""
        chunk = b"%x\r\n%s\r\n" % (len(piece), piece)
        start = b"200000\r\n" + b"x" * 0x200000 + b"\r\n"
        sent, most = 0, TOTAL + most_on_its_way()
        with socket.create_connection(("127.0.0.1", wire.port), timeout=30) as client:
            client.sendall(b"POST /soda/sync HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
            # Of a client that is slow, already the start may be more than is read of it.
            with contextlib.suppress(ConnectionError):
                client.sendall(start)
                client.recv(1, socket.MSG_PEEK)
                while sent < most:
                    client.sendall(chunk)
                    sent += len(chunk)
                    time.sleep(pause)
            assert client.recv(12) == b"HTTP/1.1 413"
        return sent


PATIENCE = 6.0
"""Seconds of the clock that these services have, all of which is gone after a sixth more."""


class TestTimes:
    """Nobody is waited for without end; time goes by as the tests have it."""

    @pytest.fixture(name="clock")
    def _clock(self, monkeypatch: pytest.MonkeyPatch) -> Clock:
        monkeypatch.setattr(connection, "HEAD_SECONDS", PATIENCE)
        monkeypatch.setattr(connection, "STALL_SECONDS", PATIENCE)
        return Clock()

    @pytest.fixture(name="timed")
    def _timed(
        self,
        serve: Callable[..., AbstractContextManager[LiveService]],
        archive: Archive,
        clock: Clock,
    ) -> Iterator[Wire]:
        with serve(protocol=clock.protocol) as live:
            yield _wire_of(live, archive)

    @pytest.mark.parametrize(
        ("start", "form"),
        [(b"GE", "text"), (b"GET /sia/qu", "votable"), (b"GET /soda/sync HTTP/1.1\r\n", "text"),
         (b"GET /datalink/links?ID=x HTTP/1.1\r\nHost: x\r\nAccept", "votable")],
    )  # fmt: skip
    @pytest.mark.parametrize("before", [b"", b"GET /health HTTP/1.1\r\n\r\n"])
    def test_a_head_that_is_never_whole(
        self, timed: Wire, clock: Clock, start: bytes, form: str, before: bytes
    ) -> None:
        """408 (RFC 9110 §15.5.9), on a new connection and on one that was used."""
        with socket.create_connection(("127.0.0.1", timed.port), timeout=60) as client:
            clock.say(client, before)
            if before:
                timed.answer(client)
            clock.say(client, start)
            clock.move(PATIENCE - 0.1)
            assert nothing_comes(client)
            clock.move(0.1 + PATIENCE / 6)
            assert_refused(timed.answer(client), form, status=408)

    def test_a_head_that_comes_letter_by_letter(self, timed: Wire, clock: Clock) -> None:
        """Its letters are no progress."""
        with socket.create_connection(("127.0.0.1", timed.port), timeout=60) as client:
            clock.say(client, b"GET /health?")
            for _ in range(7):
                clock.say(client, b"x")
                clock.move(PATIENCE / 6)
            assert client.recv(12) == b"HTTP/1.1 408"

    @pytest.mark.parametrize(("path", "form"), FORMS[:3])
    def test_a_body_that_stalls(self, timed: Wire, clock: Clock, path: str, form: str) -> None:
        """408, too."""
        head = f"POST {path} HTTP/1.1\r\nContent-Type: {FORM}\r\nContent-Length: 100\r\n\r\nID=x"
        with socket.create_connection(("127.0.0.1", timed.port), timeout=60) as client:
            clock.say(client, head.encode())
            clock.move(PATIENCE - 0.1)
            assert nothing_comes(client)
            clock.move(0.1 + PATIENCE / 6)
            assert_refused(timed.answer(client), form, status=408)

    def test_a_body_that_comes_slowly(self, timed: Wire, clock: Clock) -> None:
        """Is waited for as long as something comes."""
        body = f"ID={PLAIN}&RUNID=".encode().ljust(80, b"x")
        head = f"POST /soda/sync HTTP/1.1\r\nContent-Type: {FORM}\r\nContent-Length: 80\r\n\r\n"
        with socket.create_connection(("127.0.0.1", timed.port), timeout=60) as client:
            clock.say(client, head.encode())
            for start in range(0, 80, 8):
                clock.move(PATIENCE - 0.1)
                clock.say(client, body[start : start + 8])
            answer = timed.answer(client)
        assert (answer.status, answer.body) == (200, SMALL)

    @pytest.mark.parametrize(
        "said",
        [b"", b"\r\n", b"GET /health HTTP/1.1\r\n\r\n\r\n",
         b"POST /nothing HTTP/1.1\r\nContent-Length: 9\r\n\r\nx",
         b"POST /nothing HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"],
        ids=["nothing", "empty line", "empty line after", "rest of a body", "rest of chunks"],
    )  # fmt: skip
    def test_who_owes_nothing_that_can_be_answered(
        self, timed: Wire, clock: Clock, said: bytes
    ) -> None:
        """The connection is closed in silence."""
        head, end, rest = said.partition(b"\r\n\r\n")
        received = b""
        with socket.create_connection(("127.0.0.1", timed.port), timeout=60) as client:
            if end:
                clock.say(client, head + end)
                # It is answered before the rest comes, which changes nothing.
                while b"\r\n\r\n" not in received:
                    received += some(client)
            for letter in rest if end else head:
                clock.say(client, bytes([letter]))
            clock.move(2 * PATIENCE)
            received += b"".join(iter(lambda: client.recv(65_536), b""))
        assert b" 408 " not in received
        assert received.count(b"HTTP/1.1 ") == bool(end)

    def test_an_answer_that_takes_longer(self, timed: Wire, clock: Clock) -> None:
        """It is not the client who is late; nor while it reads, or rests between two requests."""
        with connect(timed.port, buffer_bytes=SMALL_BUFFER) as client:
            for _ in range(2):
                target = f"/soda/sync?ID={PLAIN}&CUTOUTDETAIL=large"
                clock.say(client, f"GET {target} HTTP/1.1\r\n\r\n".encode())
                received = client.recv(1000)
                assert received.startswith(b"HTTP/1.1 200 ")
                end = received.index(b"\r\n\r\n") + 4
                found = re.search(rb"content-length: (\d+)", received[:end])
                assert found is not None
                rest = int(found[1]) - (len(received) - end)
                for step in range(12):
                    clock.move(PATIENCE / 5)
                    part = rest // 12 if step < 11 else rest - 11 * (rest // 12)
                    while part:
                        taken = len(client.recv(min(part, 65_536)))
                        assert taken
                        part -= taken
                clock.move(2 * PATIENCE)

    def test_the_clock_of_the_wall(
        self,
        serve: Callable[..., AbstractContextManager[LiveService]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The server's own event loop does the same."""
        monkeypatch.setattr(connection, "HEAD_SECONDS", 0.3)
        with (
            serve() as live,
            socket.create_connection(("127.0.0.1", live.port), timeout=60) as client,
        ):
            assert client.recv(1) == b""


def some(client: socket.socket) -> bytes:
    """What comes next, which is not the end."""
    received = client.recv(65_536)
    assert received
    return received


def nothing_comes(client: socket.socket) -> bool:
    """Whether nothing has come, nor the end."""
    asked = select.poll()  # which takes descriptors of any number, as many tests in a row have
    asked.register(client, select.POLLIN)
    return not asked.poll(0)
