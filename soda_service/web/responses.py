"""Responses: headers, conditions, and bodies that are made in threads band by band."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from datetime import UTC
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote

from starlette.exceptions import HTTPException

from soda_service.storage.bands import BAND_BYTES
from soda_service.web.straight import STRAIGHT, WRITTEN
from soda_service.web.whole import WHOLE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from starlette.types import Message, Receive, Scope, Send

    from soda_service.storage.bands import Bands
    from soda_service.storage.source import Write
    from soda_service.web.threads import Threads

RawHeaders = list[tuple[bytes, bytes]]

Band = bytes | bytearray | memoryview
"""A piece of a body; a view is one of single bytes."""

_Made = TypeVar("_Made")

_GATHERED_BYTES: Final = 256 * 1024
"""A document up to about this size is sent in one piece, with its length."""

_CHUNKS_BYTES: Final = 384 * 1024
"""Of a longer one, about so much is made at once."""

_PLAIN_FILENAME: Final = re.compile(r"[A-Za-z0-9._+-]+").fullmatch
_ETAG: Final = re.compile(r'(?<![^\s,])(?:W/)?"[^"]*"')


_PIECE_BYTES: Final = 96 * 1024
"""Sent to a client whose socket is full: enough for the server to say when there is room again."""

_TURN_BYTES: Final = 1024 * 1024
"""Written about to one client before others have their turn."""

STALL_SECONDS: Final = 120.0
"""A disk that gives nothing for so long in the middle of an answer will not give it."""


class BrokenAnswerError(Exception):
    """An answer that has begun cannot be finished; the connection must be broken."""


async def send_whole(
    scope: Scope, send: Send, headers: RawHeaders, body: bytes | memoryview, *, status: int = 200
) -> None:
    """Send *body* in one piece; for HEAD, all but it."""
    await send_pieces(scope, send, headers, (body,), length=len(body), status=status)


async def send_pieces(
    scope: Scope,
    send: Send,
    headers: RawHeaders,
    pieces: Sequence[bytes | memoryview],
    *,
    length: int,
    status: int = 200,
) -> None:
    """Send *pieces*, *length* bytes in all, at once; for HEAD, none of them."""
    headers.append((b"content-length", b"%d" % length))
    start: Message = {"type": "http.response.start", "status": status, "headers": headers}
    if scope["method"] == "HEAD":
        pieces = ()
    elif WHOLE in scope.get("extensions", ()):
        start[WHOLE] = pieces
        start[WRITTEN] = length
        await send(start)
        return
    await send(start)
    await send({"type": "http.response.body", "body": b"".join(pieces)})


async def send_empty(send: Send, status: int, headers: RawHeaders) -> None:
    """Send a status that has no body and no headers that describe one (204, 304)."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body"})


async def send_head(send: Send, headers: RawHeaders, length: int, *, status: int = 200) -> None:
    """Answer HEAD to what would have *length* bytes."""
    headers.append((b"content-length", b"%d" % length))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body"})


async def send_bands(
    scope: Scope,
    receive: Receive,
    send: Send,
    headers: RawHeaders,
    bands: Bands,
    *,
    length: int,
    threads: Threads,
    status: int = 200,
    stop: Callable[[], None] | None = None,
) -> None:
    """Send *bands*, which are *length* bytes in all.

    The first band is there before the status is sent, so that what fails at once fails
    properly. While a band goes out the next is made, and no more than that. Where the server
    knows `STRAIGHT`, what lies in memory is not copied first. Whatever happens, they are closed.
    *stop* is called where the client goes while a band is made that may take long. Raises
    BrokenAnswerError where they do not keep to their length.
    """
    ahead = _Ahead(bands, threads, scope.get("extensions", {}).get(STRAIGHT))
    try:
        first = ahead.first()
        band: Band | None = await (first if stop is None else unless_gone(receive, first, stop))
        headers.append((b"content-length", b"%d" % length))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if band is not None and len(band) == length:
            await send({"type": "http.response.body", "body": band})
            return
        ahead.put(band)
        del band  # it is let go of once it is sent
        await _send_rest(receive, send, ahead, length, stop)
    finally:
        await ahead.close()


async def _send_rest(
    receive: Receive,
    send: Send,
    ahead: _Ahead,
    rest: int,
    stop: Callable[[], None] | None,
) -> None:
    """Send the bands that are *ahead*, *rest* bytes in all, unless the client goes away."""
    gone = asyncio.ensure_future(disconnected(receive))
    if stop is not None:
        gone.add_done_callback(lambda _: stop())
    try:
        while not gone.done():
            band = await ahead.band()
            size = len(band) if band is not None else 0
            if band is None or not 0 < size <= rest:
                raise BrokenAnswerError(f"{rest} bytes were still to come, got {size}")
            rest -= size
            if rest == 0:
                await send({"type": "http.response.body", "body": band})
                return
            if ahead.may_be_written:
                await send({"type": "http.response.body", "body": band, "more_body": True})
                band = None
                rest -= await _write(send, ahead, gone)
                ahead.begin(_PIECE_BYTES)
            else:
                ahead.begin()
                await send({"type": "http.response.body", "body": band, "more_body": True})
                await asyncio.sleep(0)  # where nothing has to be waited for, others have their turn
    finally:
        gone.cancel()


async def _write(send: Send, ahead: _Ahead, gone: asyncio.Future[None]) -> int:
    """Write what the client's socket takes once it has taken what was sent; how many bytes."""
    written = taken = 0
    while not gone.done():
        # Waits where that is necessary, and tells the log.
        await send({"type": "http.response.body", WRITTEN: taken, "more_body": True})
        taken = 0
        while taken < _TURN_BYTES and (some := ahead.write()):
            taken += some
        if not taken:
            break
        written += taken
        await asyncio.sleep(0)  # it is the others' turn
    if taken:
        await send({"type": "http.response.body", WRITTEN: taken, "more_body": True})
    return written


class _Ahead:
    """The band that comes next: it is at hand, or is made in a thread while another goes out."""

    def __init__(self, bands: Bands, threads: Threads, write: Write | None) -> None:
        self._bands = bands
        self._threads = threads
        self._write = write
        self._at_hand: Band | None = None
        self._making: asyncio.Future[Band | None] | None = None

    async def first(self) -> Band | None:
        """The first band, made in a thread; raises what `Threads.call` raises."""
        self._making = self._threads.begin(next, self._bands, None)
        try:
            return await self._threads.unless_lost(self._making)
        finally:
            if self._making.done():
                self._making = None

    def put(self, band: Band | None) -> None:
        """Have *band* be the next."""
        self._at_hand = band

    def begin(self, most: int = BAND_BYTES) -> None:
        """Have it made, unless it is at hand, *most* bytes or a little more of it."""
        self._at_hand = self._bands.at_hand(most)
        if self._at_hand is None:
            self._making = self._threads.submit(next, self._bands, None)

    @property
    def may_be_written(self) -> bool:
        """Whether it is worth the trial to `write` it."""
        return self._write is not None and self._bands.may_be_written()

    def write(self) -> int:
        """Have the client's socket take what it can of it; how many bytes."""
        return self._bands.write(self._write) if self._write is not None else 0

    async def band(self) -> Band | None:
        """It, None after the last; BrokenAnswerError where it takes too long."""
        if self._making is None:
            band, self._at_hand = self._at_hand, None
            return band
        done, _ = await asyncio.wait([self._making], timeout=STALL_SECONDS)
        if not done:
            raise BrokenAnswerError(f"nothing more came in {STALL_SECONDS:g} s")
        making, self._making = self._making, None
        return making.result()

    async def close(self) -> None:
        """Close the bands; those that a thread works on once it ends, which is not waited for."""
        if self._making is None:
            await self._threads.submit(self._bands.close)
        else:
            self._making.add_done_callback(self._close_after)

    def _close_after(self, made: asyncio.Future[Band | None]) -> None:
        if not made.cancelled():
            made.exception()  # nobody else asks
        with suppress(RuntimeError):  # the threads have ended, and the process is about to
            _ = self._threads.submit(self._bands.close)


async def unless_gone(
    receive: Receive, making: Awaitable[_Made], stop: Callable[[], None]
) -> _Made:
    """What *making* gives; *stop*, which must make it end, is called where the client goes."""
    made = asyncio.ensure_future(making)
    gone = asyncio.ensure_future(disconnected(receive))
    try:
        await asyncio.wait({gone, made}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not made.done():
            stop()
        gone.cancel()
    return await made


async def send_document(
    scope: Scope,
    receive: Receive,
    send: Send,
    headers: RawHeaders,
    chunks: Iterator[bytes],
    threads: Threads,
) -> None:
    """Send a document of unknown length whose *chunks* block.

    A short one is sent whole with its length; of a long one there is half a megabyte in memory.
    """
    try:
        taken, goes_on = await threads.call(_taken, chunks, _GATHERED_BYTES)
        if not goes_on:
            await send_whole(scope, send, headers, b"".join(taken))
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body"})
            return
        await _send_chunks(receive, send, taken, chunks, threads)
    finally:
        await threads.submit(_close, chunks)


async def _send_chunks(
    receive: Receive, send: Send, taken: list[bytes], chunks: Iterator[bytes], threads: Threads
) -> None:
    """Send the chunks that are *taken*, and those that follow, unless the client goes away."""
    gone = asyncio.ensure_future(disconnected(receive))
    try:
        while taken and not gone.done():
            for chunk in taken:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            taken, _ = await threads.submit(_taken, chunks, _CHUNKS_BYTES)
        await send({"type": "http.response.body"})
    finally:
        gone.cancel()


async def disconnected(receive: Receive) -> None:
    """Wait until the client goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _taken(chunks: Iterator[bytes], most: int) -> tuple[list[bytes], bool]:
    """The next chunks, until they are *most* bytes or more, and whether there may be others.

    Several, because each call of a thread has its price.
    """
    taken: list[bytes] = []
    size = 0
    for chunk in chunks:
        taken.append(chunk)
        size += len(chunk)
        if size >= most:
            return taken, True
    return taken, False


def _close(bands: Iterable[Band]) -> None:
    """Let a generator give back what it holds; other iterators hold nothing."""
    close = getattr(bands, "close", None)
    if close is not None:
        close()


CONDITIONS: Final = frozenset(
    {b"if-match", b"if-unmodified-since", b"if-none-match", b"if-modified-since"}
)
"""Headers by which a request depends on the version that there is."""


def require_version(scope: Scope, *, etag: bytes, modified_ns: int) -> None:
    """Raise HTTPException 412 where the client wants another version than this or nothing.

    RFC 9110 §13.1.1 and §13.1.4: a weak tag is never that of what is here, and the time
    counts only where no tags are given.
    """
    tags = _listed(scope, b"if-match")
    if tags is not None:
        if tags.strip() != b"*" and etag.decode("latin-1") not in _tags(tags):
            raise HTTPException(412, "If-Match does not name the version that there is")
        return
    before = _listed(scope, b"if-unmodified-since")
    seconds = None if before is None else parse_http_date(before)
    if seconds is not None and modified_ns // 1_000_000_000 > seconds:
        raise HTTPException(412, "it has been modified since If-Unmodified-Since")


def _listed(scope: Scope, wanted: bytes) -> bytes | None:
    """The values of a header, None where it is not there; several lines are one list."""
    values = [value for name, value in scope["headers"] if name == wanted]
    return b", ".join(values) if values else None


def is_unmodified(scope: Scope, *, etag: bytes, modified_ns: int) -> bool:
    """Whether the client already has this version (RFC 9110 §13.1.2, §13.1.3): then it is 304."""
    tags = _listed(scope, b"if-none-match")
    if tags is not None:
        return names_etag(tags, etag)
    since = _listed(scope, b"if-modified-since")
    seconds = None if since is None else parse_http_date(since)
    return seconds is not None and modified_ns // 1_000_000_000 <= seconds


def names_etag(value: bytes, etag: bytes) -> bool:
    """Whether the list *value* has *etag*, weak or strong, or is `*`."""
    if value.strip() == b"*":
        return True
    return etag.decode("latin-1") in {tag.removeprefix("W/") for tag in _tags(value)}


def _tags(value: bytes) -> list[str]:
    return _ETAG.findall(value.decode("latin-1"))


@lru_cache(maxsize=4096)
def http_date(modified_ns: int) -> bytes:
    """The second in which something was modified (RFC 9110 §5.6.7)."""
    return formatdate(modified_ns // 1_000_000_000, usegmt=True).encode("ascii")


def parse_http_date(value: bytes) -> int | None:
    """Seconds since 1970, or None where *value* is not one date (RFC 9110 §5.6.7)."""
    if value.count(b":") != 2:
        return None  # several of them, or none
    try:
        date = parsedate_to_datetime(value.decode("latin-1"))
        # What asctime gives has no zone, and means UTC.
        return int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def content_disposition(kind: str, filename: str) -> bytes:
    """`attachment` or `inline` under a name (RFC 6266)."""
    if _PLAIN_FILENAME(filename):
        return f'{kind}; filename="{filename}"'.encode("ascii")
    plain = re.sub(r"[^A-Za-z0-9._+-]", "_", filename)
    encoded = quote(filename.encode("utf-8", "replace"), safe="")
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{encoded}".encode("ascii")
