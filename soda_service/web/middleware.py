"""Middleware: what happens to every request, as plain ASGI.

From the outside in: `RequestLog`, `Cors`, `Failures`. Each wraps `send` at most once, and
none of them touches a body.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import time
from typing import TYPE_CHECKING, Final

from soda_service.discovery.faults import log as log_fault
from soda_service.errors import SodaServiceError, SourceUnavailableError
from soda_service.web.bodies import ClientGoneError
from soda_service.web.errors import DATASET_KEY, error_response
from soda_service.web.log import RUN_ID_KEY, ToldError, request_id
from soda_service.web.responses import BrokenAnswerError
from soda_service.web.straight import WRITTEN

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from soda_service.web.log import AccessLog
    from soda_service.web.urls import Proxies

_LOGGED_LENGTH: Final = 1000

_IDENTIFIER: Final = "soda_service.request_id"

_SANE_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}").fullmatch

_EXPOSED: Final = (
    b"Content-Length, Content-Disposition, Content-Range, Accept-Ranges, ETag, Last-Modified, "
    b"Retry-After, X-Request-ID"
)
_METHODS: Final = b"GET, HEAD, POST, OPTIONS"
_DAY: Final = b"86400"
_HEADER_NAMES: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{1,1000}").fullmatch


class RequestLog:
    """Gives every request an id, echoes it, and writes one line when the answer is out."""

    def __init__(self, app: ASGIApp, proxies: Proxies, log: AccessLog) -> None:
        self._app = app
        self._proxies = proxies
        self._log = log
        # Ids of one process are numbered; the beginning tells processes apart.
        self._prefix = os.urandom(5).hex().encode("ascii")
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        identifier = self.identifier(scope)
        request_id.set(identifier.decode("ascii"))
        status = sent = 0

        def note(message: Message) -> Awaitable[None]:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", identifier)]
            sent += message.get(WRITTEN) or len(message.get("body", b""))
            return send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            self.note(scope, status, sent, started)

    def identifier(self, scope: Scope) -> bytes:
        """The id of a request: its own, or a new one where it has none, or one that is not sane.

        It is kept in *scope*: who asks again gets the same.
        """
        known: bytes | None = scope.get(_IDENTIFIER)
        if known is None:
            given = _header(scope, b"x-request-id")
            known = given if given is not None and _SANE_ID(given) else self._new_id()
            scope[_IDENTIFIER] = known
        return known

    def note(self, scope: Scope, status: int, sent: int, started: float) -> None:
        """Write the line of a request; *sent* are the bytes of its answer's body.

        *started* is what `time.perf_counter` said when it came.
        """
        if not self._log.is_open:
            return
        target = scope["raw_path"][:_LOGGED_LENGTH].decode("latin-1")
        if scope["query_string"]:
            target += "?" + scope["query_string"][:_LOGGED_LENGTH].decode("latin-1")
        self._log.write(
            client=self._proxies.client(scope),
            method=scope["method"],
            target=target,
            status=status,
            size=sent,
            milliseconds=(time.perf_counter() - started) * 1000,
            run_id=scope.get(RUN_ID_KEY),
        )

    def _new_id(self) -> bytes:
        return b"%s%06x" % (self._prefix, next(self._numbers))


class Cors:
    """Lets pages of other origins read the answers, errors included (Fetch §3.2)."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        self._app = app
        self._anyone = "*" in origins
        self._origins = frozenset(origin.encode("latin-1") for origin in origins)
        self._for_anyone = [
            (b"access-control-allow-origin", b"*"),
            (b"access-control-expose-headers", _EXPOSED),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        added = self.headers(scope)

        def add(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *added]
            return send(message)

        if scope["method"] == "OPTIONS":
            await _answer_options(scope, add)
        else:
            await self._app(scope, receive, add)

    def headers(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """What the answer to a request has for the browser."""
        if self._anyone:
            return self._for_anyone
        vary = (b"vary", b"Origin")
        origin = _header(scope, b"origin")
        if origin is None or origin not in self._origins:
            return [vary]
        return [
            vary,
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED),
        ]


async def _answer_options(scope: Scope, send: Send) -> None:
    """A preflight, or the question what may be asked here; the answer is the same everywhere."""
    headers = [
        (b"allow", _METHODS),
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-max-age", _DAY),
        (b"content-length", b"0"),
    ]
    asked = _header(scope, b"access-control-request-headers")
    if asked is not None and _HEADER_NAMES(asked):
        # Said name by name, because `*` would leave out Authorization.
        headers.append((b"access-control-allow-headers", asked))
        headers.append((b"vary", b"Access-Control-Request-Headers"))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body"})


class Failures:
    """Answers what nobody planned, where nothing has been sent yet.

    Once an answer has begun there is only one honest thing left: to break the connection,
    which the server does with what is raised here. Why is one line of the log; a bug is left to
    the server, which writes its traceback.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        started = False

        def note(message: Message) -> Awaitable[None]:
            nonlocal started
            started = True
            return send(message)

        try:
            await self._app(scope, receive, note)
        except ClientGoneError:
            return
        except asyncio.CancelledError:
            if scope["type"] != "http":
                raise
            # The server stops, and has waited for this answer as long as it does.
            stops = SourceUnavailableError("the service stops")
            if not started:
                await error_response(stops, scope)(scope, receive, send)
                return
            log_fault(stops, scope.get(DATASET_KEY, ""), what="an answer broke off")
            raise ToldError from None
        except Exception as error:
            if scope["type"] != "http":
                raise
            if not started:
                await error_response(error, scope)(scope, receive, send)
            elif isinstance(error, BrokenAnswerError | SodaServiceError):
                log_fault(error, scope.get(DATASET_KEY, ""), what="an answer broke off")
                raise ToldError from None
            else:
                raise


def _header(scope: Scope, wanted: bytes) -> bytes | None:
    for name, value in scope["headers"]:
        if name == wanted:
            found: bytes = value
            return found
    return None
