"""Whole files: every ingested dataset, by range, and nothing else.

A path is never joined to a folder. It is turned into a publisher DID, which the catalog
knows or does not.
"""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException

from soda_service.errors import UnknownDatasetError
from soda_service.storage.bands import CopiedBands, MadeBands, read_on
from soda_service.storage.objectstore import ObjectChangedError
from soda_service.storage.remote import RemoteSource
from soda_service.storage.runs import RunGrid
from soda_service.storage.source import is_remote, open_source
from soda_service.web.errors import DATASET_KEY
from soda_service.web.responses import (
    CONDITIONS,
    content_disposition,
    http_date,
    is_unmodified,
    parse_http_date,
    require_version,
    send_bands,
    send_empty,
    send_head,
    send_whole,
)
from soda_service.web.urls import identifier_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Receive, Scope, Send

    from soda_service.catalog.dataset import Dataset
    from soda_service.storage.bands import Bands
    from soda_service.storage.source import FileVersion, RunSource
    from soda_service.web.responses import RawHeaders
    from soda_service.web.services import Services

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
        confirmed = _may_be_answered_without_reading(scope)
        scope[DATASET_KEY] = identifier
        dataset, source = await services.long_work.call(_open, services, identifier, confirmed)
        chosen: _Chosen | None = None
        try:
            chosen = await _choose(scope, send, dataset, source.version)
        finally:
            if chosen is None:
                source.close()
        if chosen is None:
            return
        length = chosen.stop - chosen.start
        bands: Bands = CopiedBands(closing(source), [RunGrid(chosen.start, length)], source=source)
        if is_remote(dataset.url):
            bands = MadeBands(_read_on(source, chosen))
        threads, status = services.long_work, chosen.status
        try:
            await send_bands(
                scope,
                receive,
                send,
                chosen.headers,
                bands,
                length=length,
                threads=threads,
                status=status,
            )
        except ObjectChangedError:
            services.resolver.doubt(dataset)
            raise


def _may_be_answered_without_reading(scope: Scope) -> bool:
    return scope["method"] == "HEAD" or any(name in CONDITIONS for name, _ in scope["headers"])


def _open(services: Services, identifier: str, confirmed: bool) -> tuple[Dataset, RunSource]:
    """The dataset and its file, *confirmed* to be that of the catalog.

    Readings confirm what they give; without one, a store must be asked.
    """
    dataset = services.resolver.resolve(identifier)
    try:
        source = open_source(dataset.url, services.stores, dataset.version)
    except FileNotFoundError:
        raise UnknownDatasetError(dataset.publisher_did, "its file is gone") from None
    if confirmed and isinstance(source, RemoteSource):
        try:
            source.confirm()
        except ObjectChangedError:
            services.resolver.doubt(dataset)
            raise
    return dataset, source


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The part of a file that is sent, half-open, and with what."""

    start: int
    stop: int
    status: int
    headers: RawHeaders


def _read_on(source: RunSource, chosen: _Chosen) -> Iterator[bytes]:
    with source:
        yield from read_on(source, chosen.start, chosen.stop)


async def _choose(
    scope: Scope, send: Send, dataset: Dataset, version: FileVersion
) -> _Chosen | None:
    """What is to be sent; None where the answer has no bytes of the file and has been sent."""
    etag = version.etag.encode("ascii")
    headers: RawHeaders = [
        (b"etag", etag),
        (b"last-modified", http_date(version.modified_ns)),
        (b"accept-ranges", b"bytes"),
        (b"cache-control", b"no-transform"),
    ]
    require_version(scope, etag=etag, modified_ns=version.modified_ns)
    if is_unmodified(scope, etag=etag, modified_ns=version.modified_ns):
        await send_empty(send, 304, headers)
        return None
    headers.append((b"content-type", dataset.media_type.encode("ascii")))
    headers.append((b"content-disposition", content_disposition("inline", dataset.file_name)))
    if scope["method"] == "HEAD":
        await send_head(send, headers, version.size)
        return None
    wanted = _wanted(scope, version)
    if wanted is RangeVerdict.UNSATISFIABLE:
        raise HTTPException(
            416,
            f"the file has {version.size} bytes",
            headers={"Content-Range": f"bytes */{version.size}"},
        )
    if isinstance(wanted, ByteRange):
        content_range = b"bytes %d-%d/%d" % (wanted.start, wanted.stop - 1, version.size)
        headers.append((b"content-range", content_range))
        return _Chosen(wanted.start, wanted.stop, 206, headers)
    if not version.size:
        await send_whole(scope, send, headers, b"")
        return None
    return _Chosen(0, version.size, 200, headers)


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
