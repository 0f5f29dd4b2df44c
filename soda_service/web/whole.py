"""Answers that leave whole: head and body in one call of the kernel.

ASGI says them in two messages, which this server sends in two calls, so that a client that waits
is woken twice. Where the server says in the scope's `extensions` that it knows `WHOLE`, the
message that starts an answer may have its body, in pieces under that name, and none follows.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from soda_service.web.straight import STRAIGHT, WRITTEN, write

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from uvicorn._types import ASGI3Application, ASGISendEvent
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from soda_service.web.responses import RawHeaders

    Pieces = Sequence[bytes | memoryview]

WHOLE: Final = "soda_service.whole"

OUTBOX_BYTES: Final = 1024**2
"""Of bodies that wait to leave together, but for the last of them."""
OUTBOX_ANSWERS: Final = 16
"""That wait at most; the first of them does so for a millisecond or two."""

_OF_THE_CONNECTION: Final = frozenset({b"connection", b"transfer-encoding"})


_log = logging.getLogger(__name__)


class Outbox:
    """Answers that one turn of the event loop made, which leave together at its end.

    What makes them stays in the processor's caches meanwhile, and the kernel's network out of
    them: under load an answer costs a tenth less. None waits for what another client does, and
    the server hears of nothing that its client does before it has left: it would take such a
    connection for one that is waited for.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[tuple[RequestResponseCycle, Pieces, Callable[[], None]]] = []
        self._cycles: set[RequestResponseCycle] = set()
        self._size = 0

    def put(
        self, cycle: RequestResponseCycle, status: int, headers: RawHeaders, body: Pieces, size: int
    ) -> None:
        """Have the answer to the request of *cycle* sent, whose *body* has *size* bytes.

        It is not the last answer of its connection, and *headers* say nothing of that.
        Raises RuntimeError where one of them would be more than one line.
        """
        lines = [b"%b: %b" % one for one in (*cycle.default_headers, *headers)]
        said = b"".join(lines)
        if b"\n" in said or b"\r" in said or b"\0" in said:
            raise RuntimeError("a header of the answer would be more than one line")
        head = STATUS_LINE[status] + b"\r\n".join(lines) + b"\r\n\r\n"
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        if not self._waiting:
            self._loop.call_soon(self.send)
        self._waiting.append((cycle, (head, *body), cycle.on_response))
        cycle.on_response = _nothing  # else they hold each other, connection and all
        self._cycles.add(cycle)
        self._size += size
        if self._size > OUTBOX_BYTES or len(self._waiting) >= OUTBOX_ANSWERS:
            self.send()

    def has(self, cycle: RequestResponseCycle | None) -> bool:
        """Whether the answer to the request of *cycle* waits to be sent."""
        return cycle in self._cycles

    def send(self) -> None:
        """Send what there is now.

        To be called, too, before a connection is closed, and before anything is done with what
        the client says of whom it `has` an answer.
        """
        if not self._waiting:
            return
        waiting, self._waiting, self._size = self._waiting, [], 0
        self._cycles.clear()
        for cycle, pieces, on_response in waiting:
            if not (cycle.disconnected or cycle.transport.is_closing()):
                try:
                    cycle.transport.writelines(pieces)
                    on_response()
                except Exception:  # noqa: BLE001 - the others wait for their answers
                    _log.exception("an answer cannot be sent")
                    cycle.transport.abort()


class WholeAnswers:
    """The application for one request, whose messages the server's own *cycle* sends."""

    __slots__ = ("_app", "_cycle", "_outbox")

    def __init__(self, app: ASGI3Application, cycle: RequestResponseCycle, outbox: Outbox) -> None:
        self._app = cast("ASGIApp", app)
        self._cycle = cycle
        self._outbox = outbox

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve the request."""
        del send  # the cycle's
        scope["extensions"] = {WHOLE: {}, STRAIGHT: partial(write, self._cycle)}
        return self._app(scope, receive, self._send)

    def _send(self, message: Message) -> Awaitable[None]:
        cycle = self._cycle
        if WHOLE not in message:
            return cycle.send(cast("ASGISendEvent", message))
        headers = message["headers"]
        if (
            cycle.response_started
            or cycle.disconnected
            or not cycle.keep_alive
            or cycle.flow.write_paused
            or cycle.scope["method"] == "HEAD"
            or not _OF_THE_CONNECTION.isdisjoint([name for name, _ in headers])
        ):
            return self._send_apart(message)
        self._outbox.put(cycle, message["status"], headers, message[WHOLE], message[WRITTEN])
        cycle.message_event.set()
        return _sent()

    async def _send_apart(self, message: Message) -> None:
        """What is out of the ordinary is left to the server."""
        body = b"".join(message.pop(WHOLE))
        await self._cycle.send(cast("ASGISendEvent", message))
        await self._cycle.send({"type": "http.response.body", "body": body})


def _nothing() -> None:
    """What is left to do when an answer has left that way."""


async def _sent() -> None:
    """There is nothing to wait for."""
