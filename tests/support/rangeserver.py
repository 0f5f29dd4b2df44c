"""An HTTP server of ranges that misbehaves when told to, and counts what it is asked for.

It listens on a free port of the loopback and ends with the `with` block. Faults are taken one
by each GET, in the order given; `always` is the fault of every GET after them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

MODIFIED = "Tue, 14 Nov 2023 22:13:20 GMT"
MODIFIED_NS = 1_700_000_000 * 10**9


class Fault(Enum):
    """What the server does wrong."""

    WHOLE = auto()
    """200 and the whole file for a range."""
    OTHER_RANGE = auto()
    """206 and a range of the same length, which begins a byte later and says so."""
    LIES_ABOUT_SIZE = auto()
    """206, bytes that begin one later, and Content-Range as asked but of a longer file."""
    SHORT = auto()
    """206, fewer bytes than asked for, Content-Length true, Content-Range as asked."""
    CUT = auto()
    """The connection ends in the middle of the body."""
    SHUT = auto()
    """The connection ends before there is an answer."""
    LONG = auto()
    """206, Content-Range as asked, and twice as many bytes."""
    OTHER_TAG = auto()
    """206 with another entity tag, whatever If-Match says, and other bytes."""
    NO_TAG = auto()
    """206 without an entity tag."""
    TRICKLE = auto()
    """A byte every tenth of a second."""
    SILENT = auto()
    """No answer at all while the server lives."""
    BUSY = auto()
    """503."""
    THROTTLED = auto()
    """429."""
    FORBIDDEN = auto()
    """403."""
    MISSING = auto()
    """404."""
    ROUND = auto()
    """302 to the very same place."""
    ELSEWHERE = auto()
    """302 to `elsewhere`."""


_REFUSALS = {Fault.BUSY: 503, Fault.THROTTLED: 429, Fault.FORBIDDEN: 403, Fault.MISSING: 404}


def _set_event() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    """Decoded."""
    start: int | None
    stop: int | None
    """The range asked for, half-open."""
    if_match: str | None
    status: int
    size: int
    """Bytes of the body, as far as the server means to send it."""


@dataclass(kw_only=True)
class RangeServer:
    """What is served, what is to go wrong, and what was asked."""

    contents: dict[str, bytes] = field(default_factory=dict)
    """By path, decoded, with its slash."""
    faults: deque[Fault | None] = field(default_factory=deque)
    """None is none."""
    elsewhere: str = ""
    always: Fault | None = None
    weak_tags: bool = False
    tags: bool = True
    times: bool = True
    """Whether answers have ETag and Last-Modified."""
    delay: float = 0.0
    """Seconds before each answer."""
    gate: threading.Event = field(default_factory=_set_event)
    """Answers begin while it is set, as it is at first."""
    asked: list[Asked] = field(default_factory=list)
    most_at_once: int = 0
    """Most requests being answered at one time."""
    port: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str) -> str:
        """*path* as it is to stand in the URL."""
        return f"http://127.0.0.1:{self.port}{path}"

    def gets(self) -> list[Asked]:
        """The GETs so far, in the order of their answers."""
        return [one for one in self.asked if one.method == "GET"]

    def forget(self) -> None:
        """Begin counting anew."""
        self.asked.clear()
        self.most_at_once = 0

    def tag(self, path: str) -> str:
        """The entity tag of what is served at *path*."""
        digest = _digest(self.contents[path])
        return f'{"W/" if self.weak_tags else ""}"{digest}"'


@lru_cache(maxsize=16)
def _digest(content: bytes) -> str:
    """Hashed by content but once: `bytes` remember their hash."""
    return blake2b(content, digest_size=8).hexdigest()


@contextmanager
def range_server(**contents: bytes) -> Iterator[RangeServer]:
    """A server of *contents*, by name without the slash, and of what is put there later."""
    state = RangeServer(contents={f"/{name}": content for name, content in contents.items()})

    class Handler(_Handler):
        server_state = state

    with _Server(("127.0.0.1", 0), Handler) as server:
        state.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield state
        finally:
            state._over.set()
            state.gate.set()
            server.shutdown()
            thread.join(10)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of a test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server_state: RangeServer

    def do_GET(self) -> None:
        """The base class looks for this name."""
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Silent."""

    def _answer(self) -> None:
        state = self.server_state
        with state._lock:
            state._now += 1
            state.most_at_once = max(state.most_at_once, state._now)
            fault = None
            if self.command == "GET":
                fault = state.faults.popleft() if state.faults else state.always
        try:
            if state.delay:
                time.sleep(state.delay)
            state.gate.wait()
            self._send(fault)
        except OSError:
            self.close_connection = True
        finally:
            with state._lock:
                state._now -= 1

    def _note(self, status: int, size: int) -> None:
        """Before the answer goes out: who has it finds it noted."""
        start, stop = self._range()
        one = Asked(
            method=self.command,
            path=unquote(self.path),
            start=start,
            stop=stop,
            if_match=self.headers.get("If-Match"),
            status=status,
            size=size,
        )
        with self.server_state._lock:
            self.server_state.asked.append(one)

    def _range(self) -> tuple[int | None, int | None]:
        header = self.headers.get("Range")
        if header is None:
            return None, None
        first, _, last = header.removeprefix("bytes=").partition("-")
        return int(first), int(last) + 1

    def _send(self, fault: Fault | None) -> None:
        state, path = self.server_state, unquote(self.path)
        if fault in (Fault.SILENT, Fault.SHUT):
            self._note(0, 0)
            if fault is Fault.SILENT:
                state._over.wait()
            self.close_connection = True
            return
        content = state.contents.get(path)
        tag = '"another"' if fault is Fault.OTHER_TAG or content is None else state.tag(path)
        wanted = self.headers.get("If-Match")
        start, stop = self._range()
        # If-Match compares strongly: a weak tag matches nothing (RFC 9110 §13.1.1).
        differs = wanted is not None and (state.weak_tags or wanted != tag)
        if content is None or fault is Fault.MISSING:
            self._refuse(404)
        elif fault in (Fault.ROUND, Fault.ELSEWHERE):
            self._refuse(302, state.elsewhere if fault is Fault.ELSEWHERE else self.path)
        elif fault in _REFUSALS:
            self._refuse(_REFUSALS[fault])
        elif differs and fault is not Fault.OTHER_TAG:
            self._refuse(412)
        elif start is None or stop is None or fault is Fault.WHOLE:
            self._give(200, content, tag, None, fault)
        elif start >= min(stop, len(content)):
            self._refuse(416)
        else:
            self._give_range(content, start, min(stop, len(content)), tag, fault)

    def _give_range(
        self, content: bytes, start: int, stop: int, tag: str, fault: Fault | None
    ) -> None:
        body, said = content[start:stop], f"bytes {start}-{stop - 1}/{len(content)}"
        if fault is Fault.OTHER_RANGE:
            body = content[start + 1 : stop + 1]
            said = f"bytes {start + 1}-{stop}/{len(content)}"
        elif fault is Fault.LIES_ABOUT_SIZE:
            body = content[start + 1 : stop + 1]
            said = f"bytes {start}-{stop - 1}/{len(content) + 1}"
        elif fault is Fault.SHORT:
            body = body[: len(body) // 2]
        elif fault is Fault.LONG:
            body += body
        elif fault is Fault.OTHER_TAG:
            body = bytes(len(body))
        self._give(206, body, tag, said, fault)

    def _refuse(self, status: int, location: str = "") -> None:
        self._note(status, 0)
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        if status in (429, 503):
            self.send_header("Retry-After", "0")
        self.end_headers()

    def _give(
        self, status: int, body: bytes, tag: str, said: str | None, fault: Fault | None
    ) -> None:
        self._note(status, 0 if self.command == "HEAD" else len(body))
        self.send_response(status)
        if self.server_state.tags and fault is not Fault.NO_TAG:
            self.send_header("ETag", tag)
        if self.server_state.times:
            self.send_header("Last-Modified", MODIFIED)
        self.send_header("Accept-Ranges", "bytes")
        if said is not None:
            self.send_header("Content-Range", said)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(body, fault)

    def _send_body(self, body: bytes, fault: Fault | None) -> None:
        if fault is Fault.CUT:
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif fault is Fault.TRICKLE:
            for at in range(len(body)):
                self.wfile.write(body[at : at + 1])
                self.wfile.flush()
                if self.server_state._over.wait(0.1):
                    self.close_connection = True  # or a client would wait for the rest
                    break
        else:
            self.wfile.write(body)
