"""Bodies of requests: read whole up to a limit, refused, and multipart ones taken apart."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.responses import Response

from soda_service.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.datastructures import UploadFile
    from starlette.types import Receive, Scope, Send

REFUSAL_KEY: Final = "soda_service.refusal"
"""In the scope of a request of which no more can be had: the Refusal that says why."""

DRAIN_BYTES: Final = 128 * 1024**2
"""So much of a refused request is read and thrown away: whoever writes all of it before
reading learns why it was refused. Of one that announces more, nothing is."""

NOISE_BYTES: Final = 4 * 1024**2
"""The same of what is no request, or has a head without end."""

DRAIN_SECONDS: Final = 30.0
"""The longest time that is spent on it."""

QUIET_SECONDS: Final = 5.0
"""The longest pause in it."""


MAX_FILES: Final = 100
"""Parts of a multipart body that are files."""


class Refusal(HTTPException):
    """The request is not read to its end, so that nothing can follow it on its connection."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail, headers={"Connection": "close"})


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body; Refusal 413 as soon as it is known to be longer than *limit*.

    Raises the Refusal that the connection has put into *scope* where the body breaks off.
    """
    too_long = Refusal(413, f"the body is longer than {limit} bytes")
    if _announced(Headers(scope=scope)) > limit:
        raise too_long
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        if REFUSAL_KEY in scope:
            refusal: Refusal = scope[REFUSAL_KEY]
            raise refusal
        body += message.get("body", b"")
        if len(body) > limit:
            raise too_long
        if not message.get("more_body", False):
            return bytes(body)


class LastResponse(Response):
    """The answer to a refused request: sent at once, and the connection is closed later.

    A connection that is closed with something unread is reset, and the client loses the answer
    (RFC 9112 §9.6). What comes is therefore read for a while and thrown away.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = self.raw_headers
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(self.body), "more_body": True})
        asked = Headers(scope=scope)
        # Who expects 100 (Continue) waits for this answer before it sends a body.
        if "expect" not in asked and _announced(asked) <= DRAIN_BYTES:
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    await _drain(receive, NOISE_BYTES if REFUSAL_KEY in scope else DRAIN_BYTES)
        await send({"type": "http.response.body"})


async def _drain(receive: Receive, most: int) -> None:
    """Throw away what comes, up to *most* bytes. Raises TimeoutError after a pause."""
    taken = 0
    while taken < most:
        async with asyncio.timeout(QUIET_SECONDS):
            message = await receive()
        taken += len(message.get("body", b""))
        if not message.get("more_body", False):
            return


def _announced(headers: Headers) -> int:
    """The length that the client says its body has; 0 where it says none, or nonsense."""
    try:
        return int(headers.get("content-length", "0"))
    except ValueError:
        return 0


async def read_parts(headers: Headers, body: bytes, *, most: int) -> list[tuple[str, str]]:
    """The parts of a multipart body, at most *most* of them; files as what is in them.

    `curl -F MOC=@file` sends a value so. Raises UsageError where it cannot be read.
    """

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = _Parser(
        headers, stream(), max_files=MAX_FILES, max_fields=most, max_part_size=len(body)
    )
    parser.spool_max_size = len(body) + 1  # nothing goes to a disk: it is in memory already
    try:
        form = await parser.parse()
    except (MultiPartException, UnicodeError, KeyError, ValueError) as error:
        # Headers of parts are the client's: a charset of `punycode` gives UnicodeError.
        raise UsageError(f"the multipart body cannot be read: {str(error)[:100]}") from None
    try:
        if not parser.is_whole:
            raise UsageError(
                "the multipart body breaks off: it does not end with its boundary and two hyphens"
            )
        return [(name, await _text_of(value)) for name, value in form.multi_items()]
    finally:
        await form.close()


async def _text_of(value: str | UploadFile) -> str:
    if isinstance(value, str):
        return value
    # Bytes that are no text are no value of any parameter, and are nothing to others.
    return (await value.read()).decode("utf-8", "replace").rstrip("\r\n")


class _Parser(MultiPartParser):
    """Notes whether the closing delimiter came (RFC 2046 §5.1.1): without it parts are lost."""

    is_whole = False

    def on_end(self) -> None:
        """It came; what follows it is nobody's."""
        self.is_whole = True


class ClientGoneError(Exception):
    """The client went away before its request was whole; nobody is there to be answered."""
