"""An object in a store as a source: few requests, in parallel, and what they gave is kept.

Every answer is of the version that the source was opened on, or it is an error. Whether the
object is still that version is asked by the same requests; where everything was kept already,
by a request of its own, once in a while (`RemoteLimits.fresh_seconds`).
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from hashlib import blake2b
from math import prod
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import TYPE_CHECKING, Final

import numpy as np

from soda_service.errors import CorruptFileError
from soda_service.storage.blockcache import BLOCK_BYTES
from soda_service.storage.closing import Closable
from soda_service.storage.fetching import Fetching
from soda_service.storage.objectstore import ObjectChangedError
from soda_service.storage.spans import Span, Spread, blocks, joined, pieces

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from soda_service.storage.blockcache import Part
    from soda_service.storage.objectstore import Put, Store
    from soda_service.storage.remoteplace import RemotePlace
    from soda_service.storage.runs import RunGrid
    from soda_service.storage.source import Buffer, FileVersion, Piece, RunSource, Write
    from soda_service.storage.stores import Way

RESIDENT_LIMIT: Final = 1024 * 1024
"""Most bytes that one call copies without waiting."""

_LARGE_BOX: Final = 6 * 1024 * 1024
"""Bytes of a box above which it is not kept in memory."""

_OWN_PAGES: Final = 1024 * 1024
"""Bytes that are worth a call of the operating system, and another one to be rid of them."""

_RESIDENT_BLOCKS: Final = 128
"""Most blocks from which they are copied: each costs some microseconds."""
_RESIDENT_RUNS: Final = 16_384
_AHEAD_SHARE: Final = 8
"""The share of the memory cache that is read ahead for one reader."""
_PREFETCH_SHARE: Final = 4
"""The share of it that one reader may bring in: others must not drive it out before it is read."""


class RemoteSource(Closable):
    """An object of one version; safe to use from several threads. It holds nothing open."""

    def __init__(
        self,
        store: Store,
        place: RemotePlace,
        version: FileVersion,
        way: Way,
    ) -> None:
        """*way* is that of all sources of this process."""
        self.version = version
        self.path = place.url
        self._store = store
        self._place = place
        self._way = way
        self._fetching = Fetching(store.limits, way)
        self._cache = way.cache
        named = f"{version.size} {version.modified_ns} {version.tag} {place.url}"
        self._key = blake2b(named.encode(), digest_size=20).hexdigest()
        self._confirmed = float("-inf")
        """When the store last said that the object is that of `version`."""
        self._changed: ObjectChangedError | None = None
        self._run_start = 0
        """Where the readings began of which each began where the one before it ended."""
        self._read_to = -1
        """Where the last of them ended."""
        self._ahead = 0
        """Bytes to be read beyond what is asked for, as far as readings follow each other."""

    @property
    def gulp_bytes(self) -> int:
        """How much of a box is best asked for at once, and is where there is room for it."""
        return max(BLOCK_BYTES, self._way.held.largest)

    def read(self, start: int, length: int) -> bytes:
        """Exactly *length* bytes from *start*; may block.

        Raises CorruptFileError where the object ends before them, SourceUnavailableError where
        they cannot be reached or the object has changed.
        """
        self._check_inside(start, length)
        buffer = bytearray(length)
        self.read_into(start, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fills *buffer* with the bytes from *start*; raises what `read` raises."""
        stop = start + len(buffer)
        self._check_inside(start, len(buffer))

        def put(at: int, content: memoryview) -> None:
            low, high = max(at, start), min(at + len(content), stop)
            if low < high:
                buffer[low - start : high - start] = content[low - at : high - at]

        limit = self._store.limits.piece_bytes
        most = min(limit, self._cache.budget // _AHEAD_SHARE)
        # Who reads on will want what follows; each time more, as much as one request gives.
        follows = start == self._read_to and most >= BLOCK_BYTES
        self._ahead = min(max(2 * self._ahead, BLOCK_BYTES), most) if follows else 0
        self._run_start = self._run_start if follows else start
        self._read_to = stop
        if not len(buffer):
            return
        # A file that is read from end to end must not drive out what others want again.
        passes = follows and stop - self._run_start > limit
        keep = self._keep_in_memory if passes else self._keep
        self._gather([Span(start, stop)], put, keep, ahead=self._ahead)
        if passes:
            self._cache.forget(self._key, start, stop)

    def read_runs(self, grid: RunGrid) -> memoryview:
        """The runs of *grid*, one after another; may block; raises what `read` raises."""
        return self._read_runs(grid, self._keep_for(grid.size))

    def bands(self, grid: RunGrid, band_bytes: int, *, most_runs: int) -> Iterator[memoryview]:
        """The runs of *grid* in bands of about *band_bytes* at most; may block.

        More is read at once where there is room for it. Raises what `read` raises.
        """
        keep = self._keep_for(grid.size)
        gulp = max(band_bytes, self.gulp_bytes)
        for much in grid.bands(gulp, most_runs=most_runs):
            with self._way.held.share(much.size) as room:
                # Where there is none, it is a band at a time.
                some = max(room, band_bytes)
                for part in much.bands(some, most_runs=most_runs):
                    yield from _in_copies(self._read_runs(part, keep), band_bytes)

    def _keep_for(self, size: int) -> Put | None:
        """How what is read for a box of *size* bytes is kept; None where it is not."""
        if size <= _LARGE_BOX:
            return self._keep
        # Of a box of many gulps nothing would be there any more when it is wanted again, nor
        # anything else.
        return self._put_aside if self._cache.has_disk else None

    def _read_runs(self, grid: RunGrid, keep: Put | None) -> memoryview:
        self._check_inside(grid.start, grid.end - grid.start)
        runs = _room_for(grid.size)
        if grid.size:
            starts = grid.starts()
            spans = joined(starts, grid.length, gap=self._store.limits.gap_bytes)
            self._gather(spans, Spread(starts, grid.length, runs.data).put, keep)
        return runs.data

    def read_once(self, start: int, length: int) -> bytes:
        """The same as `read`, by one request, and nothing of it is kept."""
        self._check_inside(start, length)
        self.check_unchanged()
        if not length:
            return b""
        parts = self._request(Span(start, start + length))
        return b"".join(part.content for part in parts)

    def prefetch(self, spans: Iterable[tuple[int, int]]) -> None:
        """Bring these ranges into memory, by few requests in parallel; may block.

        They are half-open and ascend. Readings soon after make no request; where they are too
        much to be kept for so long, nothing is done. Raises what `read` raises.
        """
        wanted: list[Span] = []
        for start, stop in spans:
            self._check_inside(start, stop - start)
            _append(wanted, Span(start, stop), gap=self._store.limits.gap_bytes)
        if sum(span.stop - span.start for span in wanted) > self._cache.budget // _PREFETCH_SHARE:
            return
        self._gather([span for span in wanted if span.start < span.stop], _put_nowhere, self._keep)

    def resident_runs(self, grid: RunGrid, *, in_thread: bool = False) -> Buffer | None:
        """The runs of *grid*, one after another, if they are in memory; never blocks.

        None where they are not, are more than `RESIDENT_LIMIT` or too much scattered, or where
        the store has not been asked for some time whether the object is still the same.
        """
        del in_thread  # blocks of our own memory never make anybody wait
        if grid.size > RESIDENT_LIMIT or prod(grid.counts) > _RESIDENT_RUNS or not grid.size:
            return None
        if grid.start < 0 or grid.end > self.version.size or not self.is_fresh:
            return None
        starts, length = grid.starts(), grid.length
        spans = joined(starts, length, gap=self._store.limits.gap_bytes)
        if sum(span.stop - span.start for span in spans) > _RESIDENT_BLOCKS * BLOCK_BYTES:
            return None
        runs = np.empty(grid.size, np.uint8).data
        spread = Spread(starts, length, runs)
        for span in spans:
            for block in blocks(span, BLOCK_BYTES):
                content = self._cache.peek(self._key, *block)
                if content is None:
                    return None
                spread.put(block.start, content)
        return runs

    def write_resident(self, _pieces: Sequence[Piece], _write: Write) -> int:
        """0: what is in memory lies there in blocks, to be copied."""
        return 0

    @property
    def is_fresh(self) -> bool:
        """Whether the store has said lately that the object is the one of `version`."""
        return (
            self._changed is None
            and time.monotonic() - self._confirmed < self._store.limits.fresh_seconds
        )

    def confirm(self) -> None:
        """Asks the store whether the object is still the same, unless that is fresh; may block.

        Raises ObjectChangedError where it is not, SourceUnavailableError where it does not tell.
        """
        self.check_unchanged()
        if not self.is_fresh:
            self._confirm()

    def check_unchanged(self) -> None:
        """Raises SourceUnavailableError where a reading has found that the object has changed.

        No request is made: what has been read was of this version, whatever came after it.
        """
        if self._changed is not None:
            raise ObjectChangedError(str(self._changed), path=self.path)

    def close(self) -> None:
        """Nothing is held open."""

    def __repr__(self) -> str:
        return f"<RemoteSource of {self.version.size} bytes>"

    def _gather(
        self,
        spans: list[Span],
        put: Put,
        keep: Put | None,
        *,
        ahead: int = 0,
    ) -> None:
        """Gives *put* what *spans* hold, part by part and in no order.

        What is missing is asked for in one go, and up to *ahead* bytes beyond its end. If it is
        to be kept, *keep* is given it by the block. If not, *put* is given it by other threads.
        """
        self.check_unchanged()
        limits = self._store.limits
        missing: list[Span] = []
        for span in spans:
            for block in blocks(span, BLOCK_BYTES):
                content = self._cache.get(self._key, *block)
                if content is None:
                    _append(missing, block, gap=limits.gap_bytes)
                else:
                    put(block.start, content)
        if missing:
            start, stop = missing[-1]
            missing[-1] = Span(start, min(stop + ahead, self.version.size))
            wanted = pieces(missing, most=limits.piece_bytes, grain=BLOCK_BYTES)
            if keep is None:
                self._fetching.fetch(
                    wanted, partial(self._request_into, put), _put_nowhere, _put_nowhere
                )
            else:
                self._fetching.fetch(wanted, self._request, put, keep)
        elif not self.is_fresh:
            self._confirm()

    def _request(self, span: Span) -> list[Part]:
        with self._noticing():
            return self._store.fetch(self._place, self.version, span)

    def _request_into(self, put: Put, span: Span) -> list[Part]:
        """Nothing is left to be put where it belongs."""
        with self._noticing():
            self._store.fetch_into(self._place, self.version, span, put)
        return []

    def _keep(self, start: int, content: memoryview) -> None:
        self._cache.put(self._key, start, content)

    def _keep_in_memory(self, start: int, content: memoryview) -> None:
        self._cache.put(self._key, start, content, only_memory=True)

    def _put_aside(self, start: int, content: memoryview) -> None:
        self._cache.put_aside(self._key, start, content)

    def _confirm(self) -> None:
        """Asks the store whether the object is still the same."""
        with self._noticing():
            self._store.confirm(self._place, self.version)

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        """Remembers what a request of the block has told of the object's version."""
        try:
            yield
        except ObjectChangedError as error:
            self._changed = error
            raise
        self._confirmed = time.monotonic()

    def _check_inside(self, start: int, length: int) -> None:
        if start < 0 or length < 0:
            raise ValueError(f"no such range: {length} bytes from {start}")
        if start + length > self.version.size:
            raise CorruptFileError(
                f"the file ends before byte {start + length}: it has {self.version.size} bytes",
                path=self.path,
            )


def run_bands(
    source: RunSource, grid: RunGrid, band_bytes: int, *, most_runs: int
) -> Iterator[memoryview]:
    """The runs of *grid* in bands of at most *band_bytes*; raises what `RunSource.read` raises."""
    if isinstance(source, RemoteSource):
        return source.bands(grid, band_bytes, most_runs=most_runs)
    return map(source.read_runs, grid.bands(band_bytes, most_runs=most_runs))


def _append(spans: list[Span], span: Span, *, gap: int) -> None:
    """Adds *span* to those before it, to the last of them where not more than *gap* is between."""
    if spans and span.start - spans[-1].stop <= gap:
        spans[-1] = Span(spans[-1].start, max(span.stop, spans[-1].stop))
    else:
        spans.append(span)


def _in_copies(runs: memoryview, band_bytes: int) -> Iterator[memoryview]:
    """*runs* in bands, none of which keeps all of them in memory."""
    if len(runs) <= band_bytes:
        yield runs
        return
    for at in range(0, len(runs), band_bytes):
        yield np.array(runs[at : at + band_bytes]).data


def _room_for(size: int) -> NDArray[np.uint8]:
    """So many bytes that are not cleared, or are zeros."""
    if size < _OWN_PAGES:
        return np.empty(size, np.uint8)
    # What the C library is given back by one of many threads it seldom gives back itself.
    pages = mmap(-1, size, flags=MAP_PRIVATE | MAP_ANONYMOUS)
    return np.frombuffer(pages, np.uint8)


def _put_nowhere(start: int, content: memoryview) -> None:
    """What is wanted later stays in the cache."""
