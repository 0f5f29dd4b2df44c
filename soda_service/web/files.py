"""Whole files: every ingested dataset, by range, and nothing else.

A path is never joined to a folder. It is turned into a publisher DID, which the catalog
knows or does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException

from soda_service.storage.source import open_source
from soda_service.web.responses import (
    content_disposition,
    http_date,
    is_unmodified,
    parse_http_date,
    send_bands,
    send_empty,
    send_head,
    send_whole,
)
from soda_service.web.urls import identifier_of

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from soda_service.catalog.dataset import Dataset
    from soda_service.storage.source import ByteSource, FileVersion
    from soda_service.web.responses import RawHeaders
    from soda_service.web.services import Services

_BAND_BYTES: Final = 256 * 1024

# Digits and nothing else: int() would also take signs, blanks and other alphabets.
_RANGE: Final = re.compile(rb"bytes=([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Half-open."""

    start: int
    stop: int


class RangeVerdict(Enum):
    """What a Range header can be beside a range."""

    IGNORE = "ignore"
    """Absent, malformed or for several ranges: the whole file is a legal answer."""
    UNSATISFIABLE = "unsatisfiable"
    """It begins after the end."""


class FilesEndpoint:
    """Sends whole files and ranges of them; an ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find the dataset, and send what is asked of its file."""
        services: Services = scope["state"]["services"]
        path: str = scope["path_params"]["path"]
        if not scope["path"].endswith(path):
            # The router's pattern does not see a line break at the end.
            raise HTTPException(404)
        identifier = identifier_of(services.settings.authority, path)
        dataset, source = await services.long_work.call(_open, services, identifier)
        bands = _FileBands(source)
        try:
            await _send(scope, receive, send, dataset, bands, services)
        finally:
            bands.close()


def _open(services: Services, identifier: str) -> tuple[Dataset, ByteSource]:
    dataset = services.resolver.resolve(identifier)
    return dataset, open_source(dataset.url)


async def _send(
    scope: Scope,
    receive: Receive,
    send: Send,
    dataset: Dataset,
    bands: _FileBands,
    services: Services,
) -> None:
    version = bands.version
    etag = version.etag.encode("ascii")
    headers: RawHeaders = [
        (b"etag", etag),
        (b"last-modified", http_date(version.modified_ns)),
        (b"accept-ranges", b"bytes"),
        (b"cache-control", b"no-transform"),
    ]
    if is_unmodified(scope, etag=etag, modified_ns=version.modified_ns):
        await send_empty(send, 304, headers)
        return
    name = dataset.url.rpartition("/")[2]
    headers.append((b"content-type", dataset.media_type.encode("ascii")))
    headers.append((b"content-disposition", content_disposition("inline", name)))
    if scope["method"] == "HEAD":
        await send_head(send, headers, version.size)
        return
    wanted = _wanted(scope, version)
    if wanted is RangeVerdict.UNSATISFIABLE:
        raise HTTPException(
            416,
            f"the file has {version.size} bytes",
            headers={"Content-Range": f"bytes */{version.size}"},
        )
    status = 200
    chosen = ByteRange(0, version.size)
    if isinstance(wanted, ByteRange):
        status, chosen = 206, wanted
        content_range = b"bytes %d-%d/%d" % (chosen.start, chosen.stop - 1, version.size)
        headers.append((b"content-range", content_range))
    if chosen.start == chosen.stop:
        await send_whole(scope, send, headers, b"")
        return
    bands.choose(chosen)
    length = chosen.stop - chosen.start
    await send_bands(
        receive, send, headers, bands, length=length, threads=services.long_work, status=status
    )


def _wanted(scope: Scope, version: FileVersion) -> ByteRange | RangeVerdict:
    asked = condition = None
    for name, value in scope["headers"]:
        if name == b"range":
            if asked is not None:
                return RangeVerdict.IGNORE
            asked = value
        elif name == b"if-range":
            condition = value
    if asked is None or (condition is not None and not _is_still(condition, version)):
        return RangeVerdict.IGNORE
    return parse_range_header(asked, version.size)


def parse_range_header(value: bytes, size: int) -> ByteRange | RangeVerdict:
    """What a Range header asks of a file of *size* bytes (RFC 9110 §14.1.2)."""
    match = _RANGE.fullmatch(value.strip())
    if match is None or not (match[1] or match[2]):
        return RangeVerdict.IGNORE
    if not match[1]:
        length = min(int(match[2]), size)
        return ByteRange(size - length, size) if length else RangeVerdict.UNSATISFIABLE
    start = int(match[1])
    stop = min(int(match[2]) + 1, size) if match[2] else size
    if match[2] and int(match[2]) < start:
        return RangeVerdict.IGNORE
    return ByteRange(start, stop) if start < size else RangeVerdict.UNSATISFIABLE


def _is_still(condition: bytes, version: FileVersion) -> bool:
    """Whether If-Range names this very version; a weak tag never does (RFC 9110 §13.1.5)."""
    condition = condition.strip()
    if condition.startswith((b'"', b"W/")):
        return condition == version.etag.encode("ascii")
    return parse_http_date(condition) == version.modified_ns // 1_000_000_000


class _FileBands:
    """The bytes of an open source, band by band; closed however far it came."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self.version = source.version
        self._next = self._stop = 0

    def choose(self, chosen: ByteRange) -> None:
        self._next, self._stop = chosen.start, chosen.stop

    def __iter__(self) -> _FileBands:
        return self

    def __next__(self) -> bytes:
        length = min(_BAND_BYTES, self._stop - self._next)
        if length <= 0:
            raise StopIteration
        band = self._source.read(self._next, length)
        # A short answer is better than one of two versions under the tag of the first.
        self._source.check_unchanged()
        self._next += length
        return band

    def close(self) -> None:
        self._source.close()
