"""Bodies of requests: read whole up to a limit, and multipart ones taken apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

from soda_service.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.datastructures import Headers
    from starlette.types import Receive


async def read_body(headers: Headers, receive: Receive, limit: int) -> bytes:
    """The whole body; HTTPException 413 as soon as it is known to be longer than *limit*."""
    # What is left of the body is not read, so nothing can follow it.
    refusal = HTTPException(
        413, f"the body is longer than {limit} bytes", headers={"Connection": "close"}
    )
    if int(headers.get("content-length", "0")) > limit:
        raise refusal
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message.get("body", b"")
        if len(body) > limit:
            raise refusal
        if not message.get("more_body", False):
            return bytes(body)


async def read_parts(headers: Headers, body: bytes, *, most: int) -> list[tuple[str, str]]:
    """The parts of a multipart body that are not files, at most *most* of them.

    Raises UsageError where it cannot be read.
    """

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(
        headers, stream(), max_files=10, max_fields=most, max_part_size=len(body)
    )
    try:
        form = await parser.parse()
    except (MultiPartException, UnicodeError, KeyError, ValueError) as error:
        # Headers of parts are the client's: a charset of `punycode` gives UnicodeError.
        raise UsageError(f"the multipart body cannot be read: {str(error)[:100]}") from None
    try:
        return [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    finally:
        await form.close()


class ClientGoneError(Exception):
    """The client went away before its request was whole; nobody is there to be answered."""
