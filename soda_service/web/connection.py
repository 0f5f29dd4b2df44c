"""Connections: how much a client may say beside bodies, how long it may take, what is no HTTP."""

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import suppress
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple, cast
from urllib.parse import unquote
from weakref import WeakKeyDictionary

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from soda_service.web.atonce import AT_ONCE
from soda_service.web.bodies import REFUSAL_KEY, Refusal
from soda_service.web.errors import REFUSE_KEY, refuse
from soda_service.web.whole import Outbox, WholeAnswers

if TYPE_CHECKING:
    from collections.abc import Sized

    from starlette.types import Scope
    from uvicorn._types import ASGI3Application
    from uvicorn.server import Protocols, ServerState

    from soda_service.web.atonce import AtOnce

MAX_HEAD_BYTES: Final = 128 * 1024
"""Of the request line, headers, trailers and what frames chunks, together."""

MAX_TARGET_BYTES: Final = 65_535
"""Of path and query: httptools counts their bytes with 16 bits. About a thousand
identifiers; who has more says them in a body."""

MAX_PIPELINED: Final = 4096
"""Requests of one connection that wait for their turn; of 64 bytes and more, so many never come
together."""

_FEW_PIPELINED: Final = 16
"""Up to so many, more is read, if only to hear that the client has gone."""

HEAD_SECONDS: Final = 60.0
"""A client that has not said the whole head of a request by then is cut off."""

STALL_SECONDS: Final = 120.0
"""A client that takes nothing of what waits for it for so long is cut off, and so is one that
gives nothing of the body that is waited for."""

_LOOKS: Final = 6
"""How often a connection is looked at in the shorter of these times."""

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})

_ORIGIN: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?]*").match
"""What stands before the path where a proxy is spoken to (RFC 9112 §3.2.2)."""


class LimitedHttp(HttpToolsProtocol):
    """HTTP/1.1 by httptools, which by itself gathers headers, and waits, without end.

    What is no HTTP, or has more than MAX_HEAD_BYTES beside bodies, is refused in the form of
    its path, as far as that is known, and cut off; bodies have a limit of their own
    (`paramsource.read_params`). Who stops reading or writing is cut off, too, so that no search, no
    file and no connection stays open for it.
    """

    _lookouts: ClassVar[WeakKeyDictionary[ServerState, _Lookout]] = WeakKeyDictionary()
    _outboxes: ClassVar[WeakKeyDictionary[ServerState, Outbox]] = WeakKeyDictionary()

    _beside_body = 0
    _body_bytes = 0
    _is_deaf = False
    """Whether nothing that comes is understood any more."""
    _watch: asyncio.TimerHandle | None = None
    _may_answer_at_once = False
    """Whether this is the first request in what has just come."""
    _left_at: int | None = None
    """Where the parser has left what has just come to another protocol."""
    _running: RequestResponseCycle | None = None
    """That is answered; uvicorn's own is the last that was understood."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """See to it that somebody looks whether the client goes on."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        # Who waits until there is room again finds the transport empty (`straight.write`).
        transport.set_write_buffer_limits(HIGH_WATER_LIMIT, 0)
        if self.server_state not in self._lookouts:
            self._lookouts[self.server_state] = _Lookout(self.loop, self.connections)
            self._outboxes[self.server_state] = Outbox(self.loop)
        self._outbox = self._outboxes[self.server_state]

    def data_received(self, data: bytes) -> None:
        """Take what came, unless it is too much."""
        if self._outbox.has(self._running):
            self._outbox.send()
        if self._is_deaf:
            self._throw_away(data)
            return
        self._beside_body += len(data)
        self._may_answer_at_once = True
        super().data_received(data)
        rest: bytes | memoryview = data
        while self._left_at is not None and not self._is_deaf:
            rest = self._go_on(rest)
        self._may_answer_at_once = False
        if self._beside_body > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(Refusal(431, f"the head is longer than {MAX_HEAD_BYTES} bytes"))

    def _unsupported_upgrade_warning(self) -> None:
        """Remember where the parser is; the warning would be about a library that is not wanted."""
        error = sys.exc_info()[1]
        if isinstance(error, HttpParserUpgrade):
            (self._left_at,) = error.args

    def _go_on(self, data: bytes | memoryview) -> memoryview:
        """Understand as HTTP what follows a head with Upgrade in *data*, and give that.

        No other protocol is spoken here, and who offers one gets the answer all the same
        (RFC 9110 §7.8). The parser takes the body, if there is one, for that protocol's.
        """
        # Not copied: of thousands of such requests each would copy all that follow.
        rest, self._left_at = memoryview(data)[self._left_at :], None
        goes_on = _AfterUpgrade(self)
        self.parser = HttpRequestParser(goes_on)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        framing = [one for one in self.headers if one[0] in _FRAMING]
        if framing:
            # Also where it has its answer, as without Upgrade: what is wrong with a body that
            # nobody reads ends the connection, and is no request that gets another answer.
            self.cycle.more_body = True
            head = b"".join(b"%b: %b\r\n" % one for one in framing)
            try:
                self.parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % head)
            except HttpParserError:
                # A coding that frames nothing; the parser before did not look at it.
                self.send_400_response("")
                return rest[:0]
        goes_on.has_begun = True
        if rest:
            super().data_received(cast("bytes", rest))  # it only goes to the parser
        return rest

    def send_400_response(self, msg: str) -> None:
        """Refuse what httptools does not understand."""
        del msg
        # Called where httptools' error is being handled, which says what is wrong, or hides it.
        error = sys.exc_info()[1]
        hidden = error.__context__ if error is not None else None
        reason = hidden if isinstance(hidden, HttpParserError | UnicodeError) else error
        self._refuse(Refusal(400, f"the request is not HTTP: {str(reason)[:100]}"))

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio's own type
        """Whether to go on: a refused client that only reads gets its answer."""
        self._outbox.send()
        if not self._is_deaf or self.cycle is None:
            return None
        self.cycle.more_body = False
        self.cycle.message_event.set()
        return True

    def _refuse(self, refusal: Refusal) -> None:
        """Understand nothing more, answer what is under way, and this with *refusal*."""
        if self._is_deaf or self.transport.is_closing():
            return
        self._is_deaf = True
        self._unset_keepalive_if_required()
        cycle = self.cycle
        if cycle is None or cycle.scope is not self.scope or not cycle.more_body:
            self._answer(refusal)
        elif cycle.response_complete:
            self._close()
        else:
            cast("dict[str, object]", cycle.scope)[REFUSAL_KEY] = refusal
            cycle.keep_alive = False
            cycle.message_event.set()

    def _answer(self, refusal: Refusal) -> None:
        """Answer a head that is none, after those that came before it."""
        if self.scope is None or (self.cycle is not None and self.cycle.scope is self.scope):
            super().on_message_begin()
        if len(self.url) > MAX_TARGET_BYTES:
            refusal = Refusal(
                414,
                f"the URL is longer than {MAX_TARGET_BYTES} bytes; "
                "longer requests are POSTed, with the parameters in the body",
            )
        origin = _ORIGIN(self.url)
        path, _, query = self.url[origin.end() if origin else 0 :].partition(b"?")
        cast("dict[str, object]", self.scope).update(
            # httptools has the method of the request before as long as this one has no URL.
            method=self.parser.get_method().decode("ascii") if self.url else "-",
            path=self.root_path + unquote(path.decode("latin-1")),
            raw_path=path or b"-",
            query_string=query,
        )
        cast("dict[str, object]", self.scope)[REFUSAL_KEY] = refusal
        before = self.cycle
        self.cycle = RequestResponseCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=False,
            on_response=self.on_response_complete,
        )
        app = self.app_state.get(REFUSE_KEY, refuse)
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, app))

    def _throw_away(self, data: bytes) -> None:
        """Give it to the answer to what was refused, which counts it (`bodies.LastResponse`)."""
        if self.cycle.response_complete:
            return
        self.cycle.body += data
        if len(self.cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self.cycle.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self._outbox.has(self._running):
            self._outbox.send()
        # That of an answer which left while more was being understood.
        self._unset_keepalive_if_required()
        self._running = cycle
        if app is self.app and self._may_answer_at_once and self._answered_at_once(cycle):
            return
        whole = WholeAnswers(app, cycle, self._outbox)
        super()._start_asgi_task(cycle, cast("ASGI3Application", whole))

    def _answered_at_once(self, cycle: RequestResponseCycle) -> bool:
        """Whether the request of *cycle* has its answer already."""
        # Of many requests that came together the others wait until all clients had their turn.
        self._may_answer_at_once = False
        at_once: AtOnce | None = self.app_state.get(AT_ONCE)
        if at_once is None or not cycle.keep_alive or self.flow.write_paused:
            return False
        answer = at_once(cast("Scope", cycle.scope))
        if answer is None:
            return False
        try:
            self._outbox.put(cycle, 200, answer.headers, answer.pieces, answer.size)
        except RuntimeError:
            return False  # what is wrong with it is told in the usual way
        return True

    def shutdown(self) -> None:
        """Let go of the client, once it has its answer."""
        self._outbox.send()
        super().shutdown()

    def _close(self) -> None:
        """The same now, though the answer may just have been made."""
        self._outbox.send()
        self.transport.close()

    def awaited(self) -> _Awaited | None:
        """What this connection waits for, None while it is not the client's turn."""
        cycle = self.cycle
        if self._is_deaf or self.transport.is_closing():
            return None
        if cycle is None or cycle.response_complete:
            # While it is idle between two requests, uvicorn's own timer runs.
            is_idle = self.timeout_keep_alive_task is not None
            return None if is_idle else _Awaited(self.scope, self._body_bytes, HEAD_SECONDS)
        if cycle.more_body and not cycle.response_started and not self.flow.read_paused:
            return _Awaited(self.scope, self._body_bytes, STALL_SECONDS)
        return None

    def cut_off(self) -> None:
        """End it, because what it waits for did not come; a request that has begun is told."""
        if self.scope is None or (
            self.cycle is not None
            and self.cycle.scope is self.scope
            and self.cycle.response_complete
        ):
            self._close()
        else:
            self._refuse(Refusal(408, "the rest of the request did not come"))

    def pause_writing(self) -> None:
        """Watch whether the client takes anything of what waits for it."""
        super().pause_writing()
        self._look_again()

    def resume_writing(self) -> None:
        """The client takes it."""
        self._end_watch()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is there any more, for the request that is answered nor for those after it."""
        self._end_watch()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self.pipeline.clear()
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()

    def _look_again(self) -> None:
        self._watch = self.loop.call_later(
            STALL_SECONDS, self._cut_off_unless_less, self._waiting()
        )

    def _cut_off_unless_less(self, waited: int) -> None:
        self._watch = None
        if self._waiting() < waited:
            self._look_again()
        else:
            # Closing would wait for the client; what is sent, and what it is made of, is let go.
            self.transport.abort()

    def _waiting(self) -> int:
        """Bytes that the client has not taken, those in the kernel's hands included.

        The kernel holds megabytes, and asks for more only after a good part of them has gone.
        """
        size = bytearray(4)
        with suppress(OSError):
            ioctl(self.transport.get_extra_info("socket").fileno(), TIOCOUTQ, size)
        return int.from_bytes(size, sys.byteorder) + self.transport.get_write_buffer_size()

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def on_message_begin(self) -> None:
        """Count anew; refuse who asks for too much before anything is answered."""
        self._beside_body = 0
        super().on_message_begin()
        if len(self.pipeline) >= MAX_PIPELINED:
            self._refuse(Refusal(429, f"more than {MAX_PIPELINED} requests wait for answers"))
            raise HttpParserError("too many")  # ends the understanding of what has come

    def on_body(self, body: bytes) -> None:
        """Leave what belongs to the body out of the count."""
        self._beside_body -= len(body)
        self._body_bytes += len(body)
        super().on_body(body)


class _AfterUpgrade:
    """Tells a connection what its parser understands, but not the head that it is given first.

    By that head it learns of the body of a request whose own another parser has understood.
    """

    def __init__(self, protocol: LimitedHttp) -> None:
        self._protocol = protocol
        self.has_begun = False
        """Whether that head has been given."""

    def on_message_begin(self) -> None:
        """As all that follows: see uvicorn's."""
        if self.has_begun:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self.has_begun:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.has_begun:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.has_begun:
            self._protocol.on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._protocol.on_body(body)

    def on_message_complete(self) -> None:
        self._protocol.on_message_complete()


class _Flow(FlowControl):
    """Reads nothing more while answers to many requests are owed: each chunk holds thousands."""

    def __init__(self, transport: asyncio.Transport, pipeline: Sized) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        """Read on, unless too much waits; who answers it asks again."""
        if len(self._pipeline) < _FEW_PIPELINED:
            super().resume_reading()


class _Awaited(NamedTuple):
    """What a connection waits for."""

    scope: object
    """Of the request that has begun, None where none has."""
    body_bytes: int
    """Of all bodies on this connection that have come."""
    patience: float
    """Seconds without change after which it is cut off."""

    def is_still(self, other: _Awaited) -> bool:
        """Whether nothing has come in between."""
        return self.scope is other.scope and self[1:] == other[1:]


class _Lookout:
    """Looks at all connections of a server now and then, so that no request sets a timer.

    The time since which one waits is that of the look that first saw it wait.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, connections: set[Protocols]) -> None:
        self._loop = loop
        self._connections = connections
        self._waiting: dict[LimitedHttp, tuple[_Awaited, float]] = {}
        self._look_later()

    def _look_later(self) -> None:
        self._loop.call_later(min(HEAD_SECONDS, STALL_SECONDS) / _LOOKS, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        waiting = {}
        for one in tuple(self._connections):
            if not isinstance(one, LimitedHttp) or (awaited := one.awaited()) is None:
                continue
            before, since = self._waiting.get(one, (awaited, now))
            if not awaited.is_still(before):
                since = now
            if now - since < awaited.patience:
                waiting[one] = awaited, since
            else:
                one.cut_off()
        self._waiting = waiting
        self._look_later()
