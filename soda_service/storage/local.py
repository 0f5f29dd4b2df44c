"""A local file as a source, read from the page cache where that cannot block.

There are two ways to the bytes. `read`, `read_into` and `read_runs` use `preadv`, which may
block and ends in bytes or in an error. `resident_runs` copies out of a mapping of the file,
which costs no more than the copy: ten times less than a read for each row of a small box.

The mapping is touched in one place only, for at most `RESIDENT_LIMIT` bytes, immediately after
the kernel has said that the pages are in the page cache; `mapping` sees to it that a file that
is truncated just then does no harm.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from functools import lru_cache
from math import prod
from mmap import PAGESIZE
from stat import S_ISREG
from typing import TYPE_CHECKING, ClassVar, Final, Self
from urllib.parse import unquote, urlsplit

import numpy as np

from soda_service.errors import (
    ConfigurationError,
    CorruptFileError,
    SodaServiceError,
    SourceUnavailableError,
)
from soda_service.storage.closing import Closable
from soda_service.storage.disks import disk_of
from soda_service.storage.mapping import FileMapping
from soda_service.storage.runs import LONG_RUN
from soda_service.storage.source import FileVersion

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from soda_service.storage.disks import Disk, Touch
    from soda_service.storage.runs import RunGrid
    from soda_service.storage.source import Buffer, Piece, Write

RESIDENT_LIMIT: Final = 1024 * 1024
"""Most bytes that one call copies out of the mapping."""

_WARM_GAP: Final = 4 * 1024
"""Bytes between two runs that are copied faster than another read is called."""
_COLD_GAP: Final = 128 * 1024
"""Bytes between two runs that a disk reads faster than it begins anew."""
_SPAN: Final = 2 * 1024 * 1024
"""Most bytes that are read at once for the sake of the runs in them."""
_ASKED_AT_ONCE: Final = 16 * 1024 * 1024
"""Most bytes about whose pages the kernel is asked in one call, which takes microseconds."""
_MOST_RUNS: Final = 1024
"""Most calls of the kernel for the sake of one box."""
_MOST_BUFFERS: Final = 1024
"""That Linux takes in one call (IOV_MAX)."""


class LocalSource(Closable):
    """A file on a disk of this machine, opened once; safe to use from several threads.

    It must not be closed while a thread reads; `OpenFiles` sees to that. Whatever may block
    raises DiskHangsError where the disk is known to hang.
    """

    gulp_bytes: Final = 0
    """A disk gives many small pieces as soon as a large one."""
    _read_at_once: ClassVar[int] = 8 * 1024 * 1024
    """Most bytes in one call: a disk that is only slow is to be seen to give some."""

    def __init__(self, descriptor: int, path: str, disk: Disk) -> None:
        """Takes the open *descriptor* over, of a file on *disk*; may block.

        Raises SourceUnavailableError, and CorruptFileError when it is no file; it is then still the
        caller's.
        """
        self._descriptor = descriptor
        self._disk = disk
        self._mapped: FileMapping | None = None
        self.path = path
        status = self._status()
        if not S_ISREG(status.st_mode):
            # To try again does not help: somebody has put something else in its place.
            raise CorruptFileError("cannot be opened: not a file", path=path)
        self.version = FileVersion(status.st_size, status.st_mtime_ns)

    @classmethod
    def open(cls, url: str, disk: Disk | None = None) -> Self:
        """The file at *url*, an absolute path or a file URL, on *disk* if that is known.

        Raises FileNotFoundError, which names no path, when nothing is there: who knows the
        identifier makes an UnknownDatasetError of it. Raises SourceUnavailableError when it
        cannot be opened, CorruptFileError when it is no file, ConfigurationError for any other
        kind of URL.
        """
        path = local_path(url)
        disk = disk_of(path) if disk is None else disk
        with disk.touched(path):
            return cls._opened(path, disk)

    @classmethod
    def _opened(cls, path: str, disk: Disk) -> Self:
        try:
            # A pipe would otherwise wait for its writer; for a file the flag means nothing.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(errno.ENOENT, "no such file") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a path"
            raise SourceUnavailableError(f"cannot be opened: {reason}", path=path) from None
        try:
            return cls(descriptor, path, disk)
        except BaseException:
            os.close(descriptor)
            raise

    def fileno(self) -> int:
        """The descriptor, valid until `close`."""
        return self._descriptor

    def read(self, start: int, length: int) -> bytes:
        """Exactly *length* bytes from *start*; may block.

        Raises CorruptFileError when the file ends before them, SourceUnavailableError when
        they cannot be read.
        """
        with self._touched() as touch:
            self._check_inside(start, length)
            if length <= self._read_at_once:
                try:
                    whole = os.pread(self._descriptor, length, start)
                except OSError as error:
                    raise self._unreadable(error) from None
                if len(whole) == length:
                    return whole
            # One call may give less.
            buffer = bytearray(length)
            self._fill(start, memoryview(buffer), touch)
            return bytes(buffer)

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fills *buffer* with the bytes from *start*; raises what `read` raises."""
        with self._touched() as touch:
            self._fill(start, buffer, touch)

    def _fill(self, start: int, buffer: memoryview, touch: Touch) -> None:
        self._check_inside(start, len(buffer))
        done = 0
        while done < len(buffer):
            try:
                count = os.preadv(
                    self._descriptor, [buffer[done : done + self._read_at_once]], start + done
                )
            except OSError as error:
                raise self._unreadable(error) from None
            if count == 0:
                raise self._ends_before(start + len(buffer))
            done += count
            touch.goes_on()

    def read_runs(self, grid: RunGrid) -> memoryview:
        """The runs of *grid*, one after another; may block.

        Raises what `read` raises, and SourceUnavailableError where the file has changed
        since it was opened.
        """
        with self._touched() as touch:
            return self._runs(grid, touch)

    def _runs(self, grid: RunGrid, touch: Touch) -> memoryview:
        self._check_inside(grid.start, grid.end - grid.start)
        if grid.length < LONG_RUN:
            found = self.resident_runs(grid, in_thread=True)
            if found is not None:
                return memoryview(found)
        # Not cleared first, as a bytearray would be.
        runs = np.empty(grid.size, np.uint8)
        target = runs.data
        if not grid.counts:
            self._fill(grid.start, target, touch)
        elif grid.length >= LONG_RUN and grid.steps[-1] - grid.length > _WARM_GAP:
            for number, start in enumerate(grid.starts().tolist()):
                at = number * grid.length
                self._fill(start, target[at : at + grid.length], touch)
        else:
            self._read_spans(grid, runs, touch)
        self._refuse_changed()
        return target

    def resident_runs(self, grid: RunGrid, *, in_thread: bool = False) -> Buffer | None:
        """The runs of *grid*, one after another, if they are in the page cache; never blocks.

        *in_thread* the interpreter is let go of meanwhile, for a page that was there a moment ago
        may have to be waited for.

        None where a page is missing, the runs are more than `RESIDENT_LIMIT`, they are too much
        scattered to ask about, or the file has changed since it was opened.
        """
        start, length, counts, steps, _ = grid
        version, descriptor = self.version, self._descriptor
        end = start + length
        if len(counts) == 1:
            end += (counts[0] - 1) * steps[0]
        else:
            for count, step in zip(counts, steps, strict=True):
                end += (count - 1) * step
        if grid.size > RESIDENT_LIMIT or start < 0 or end > version.size or descriptor < 0:
            return None
        mapping = self._mapped or self._map()
        if not mapping.may_be_asked:
            return self._read_without_waiting(grid)
        if end - start <= _ASKED_AT_ONCE:
            is_there = mapping.has_resident(start, end, in_thread=in_thread)
        else:
            is_there = _planes_resident(mapping, grid, in_thread=in_thread)
        if not is_there:
            return None
        runs: Buffer
        if in_thread:
            there: NDArray[np.uint8] = np.ndarray(
                (*counts, length), np.uint8, mapping.content, start, (*steps, 1)
            )
            runs = there.copy().reshape(-1).data
        else:
            # A run that is one item is copied in one go, twice as fast as numbers or bytes are,
            # but numpy does not let go of the interpreter for such items.
            items: NDArray[np.void] = np.ndarray(
                counts, _item(length), mapping.content, start, steps
            )
            runs = items.tobytes()
        if mapping.is_torn:
            self._mapped = None
            return None
        try:
            status = os.fstat(descriptor)
        except OSError:
            return None  # who reads it is told
        is_same = status.st_mtime_ns == version.modified_ns and status.st_size == version.size
        return runs if is_same else None

    def write_resident(self, pieces: Sequence[Piece], write: Write) -> int:
        """Have *write* take *pieces* from where they lie in memory; how many bytes it took.

        Never blocks. 0 where a page is missing, where a run is so short that a copy is cheaper,
        and for runs of more than one dimension. Raises SourceUnavailableError where the file
        has changed meanwhile: what was taken is then worthless.
        """
        mapping = self._mapped or self._map()
        if not mapping.may_be_asked or not self._is_unchanged():
            return 0
        buffers: list[bytes | memoryview] = []
        for piece in pieces:
            if isinstance(piece, bytes):
                buffers.append(piece)
                continue
            end, length = piece.end, piece.length
            if not piece.may_be_named or end > self.version.size:
                return 0
            starts = piece.starts().tolist()
            if end - piece.start <= _ASKED_AT_ONCE:
                is_there = mapping.has_resident(piece.start, end)
            else:
                is_there = all(mapping.has_resident(at, at + length) for at in starts)
            if not is_there:
                return 0
            view = mapping.view
            buffers += [view[start : start + length] for start in starts]
        taken = write(buffers[:_MOST_BUFFERS])
        if taken and mapping.is_torn:
            self._mapped = None
            raise SourceUnavailableError("the file is lost while it is read", path=self.path)
        if taken:
            self._refuse_changed()
        return taken

    def prefetch(self, spans: Iterable[tuple[int, int]]) -> None:
        """Nothing: the kernel reads ahead."""

    def is_resident(self, start: int, length: int) -> bool:
        """Whether these bytes are in the page cache; never blocks.

        They may be evicted as soon as the answer is given. False where the kernel does not
        say and the range is too long to try.
        """
        if length <= 0 or start < 0 or start + length > self.version.size:
            return False
        mapped = self._mapped or self._map()
        if mapped.may_be_asked:
            return mapped.has_resident(start, start + length)
        return self._try_pages(start, length)

    def check_unchanged(self) -> None:
        """Raises SourceUnavailableError where the file has changed since it was opened."""
        with self._touched():
            self._refuse_changed()

    def ask_disk(self) -> None:
        """Have the disk, and not the memory, give a byte of the file; may block.

        For who waits for somebody else that reads the file: he is held up as that one is.
        Raises what `check_unchanged` and `read` raise.
        """
        last = max(0, self.version.size - 1) // PAGESIZE * PAGESIZE
        with self._disk.touched(self.path):
            with suppress(OSError):  # of a disk that knows no such thing
                os.posix_fadvise(self._descriptor, last, 0, os.POSIX_FADV_DONTNEED)
            try:
                os.pread(self._descriptor, 1, last)
            except OSError as error:
                raise self._unreadable(error) from None
            self._refuse_changed()

    def _refuse_changed(self) -> None:
        if not self._is_unchanged():
            raise SourceUnavailableError("the file changes while it is read", path=self.path)

    def close(self) -> None:
        """Let go of the descriptor and, once nobody holds it any more, of the mapping."""
        descriptor, self._descriptor = self._descriptor, -1
        self._mapped = None
        if descriptor >= 0:
            os.close(descriptor)

    def __repr__(self) -> str:
        return f"<LocalSource of {self.version.size} bytes>"

    def _touched(self) -> Touch:
        """The block within which the disk is asked; who is lost over this file is lost alone."""
        return self._disk.touched(self.path, self)

    def _map(self) -> FileMapping:
        """Maps the file. Threads that do so together have one mapping each, and the last stays."""
        try:
            made = FileMapping(self._descriptor, self.version.size)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it has shrunk"
            raise SourceUnavailableError(f"cannot be mapped: {reason}", path=self.path) from None
        self._mapped = made
        return made

    def _status(self) -> os.stat_result:
        """That of the open file, which another machine may know no more."""
        try:
            return os.fstat(self._descriptor)
        except OSError as error:
            raise self._unreadable(error) from None

    def _is_unchanged(self) -> bool:
        status = self._status()
        version = self.version
        return status.st_mtime_ns == version.modified_ns and status.st_size == version.size

    def _read_spans(self, grid: RunGrid, runs: NDArray[np.uint8], touch: Touch) -> None:
        """Fills *runs* by reading over the gaps that are cheaper to read than to leave out."""
        starts, length = grid.starts(), grid.length
        target = runs.data
        span: NDArray[np.uint8] | None = None
        begin = 0
        breaks = np.flatnonzero(np.diff(starts) > length + _COLD_GAP) + 1
        for stop in [*breaks.tolist(), len(starts)]:
            while begin < stop:
                first = int(starts[begin])
                fitting = int(np.searchsorted(starts, first + _SPAN - length, "right"))
                end = max(begin + 1, min(stop, fitting))
                here = slice(begin * length, end * length)
                size = int(starts[end - 1]) + length - first
                if size == (end - begin) * length:
                    self._fill(first, target[here], touch)
                else:
                    if span is None:
                        span = np.empty(_SPAN, np.uint8)
                    self._fill(first, span.data[:size], touch)
                    # Row i of this view is what begins at byte i of the span.
                    rows: NDArray[np.uint8] = np.ndarray(
                        (size - length + 1, length), np.uint8, span, 0, (1, 1)
                    )
                    runs[here].reshape(-1, length)[:] = rows[starts[begin:end] - first]
                begin = end

    def _read_without_waiting(self, grid: RunGrid) -> memoryview | None:
        """`resident_runs` for a file about which the kernel tells this process nothing."""
        if prod(grid.counts) > _MOST_RUNS:
            return None
        runs = np.empty(grid.size, np.uint8).data
        for number, start in enumerate(grid.starts().tolist()):
            at = number * grid.length
            if not self._fill_without_waiting(start, runs[at : at + grid.length]):
                return None
        return runs if self._is_unchanged() else None

    def _fill_without_waiting(self, start: int, buffer: memoryview) -> bool:
        try:
            return os.preadv(self._descriptor, [buffer], start, os.RWF_NOWAIT) == len(buffer)
        except OSError:
            return False

    def _try_pages(self, start: int, length: int) -> bool:
        """Reads everything where it is cheap, and says no where it is not."""
        if length > _SPAN:
            return False
        return self._fill_without_waiting(start, memoryview(bytearray(length)))

    def _check_inside(self, start: int, length: int) -> None:
        if start < 0 or length < 0:
            raise ValueError(f"no such range: {length} bytes from {start}")
        if start + length > self.version.size:
            raise self._ends_before(start + length)

    def _ends_before(self, end: int) -> CorruptFileError:
        return CorruptFileError(
            f"the file ends before byte {end}: it has {self._status().st_size} bytes",
            path=self.path,
        )

    def _unreadable(self, error: OSError) -> SodaServiceError:
        return SourceUnavailableError(
            f"cannot be read: {error.strerror or 'unknown reason'}", path=self.path
        )


def local_path(url: str) -> str:
    """The path that *url* names. Raises ConfigurationError where it is no absolute local one."""
    if url.startswith("/"):
        return url
    parts = urlsplit(url)
    path = unquote(parts.path, errors="surrogateescape")
    local = parts.scheme == "file" and parts.netloc in ("", "localhost")
    if not local or not path.startswith("/") or parts.query or parts.fragment:
        raise ConfigurationError(
            f"only absolute paths and file URLs are supported, got a URL of scheme {parts.scheme!r}"
        )
    return path


@lru_cache(maxsize=1024)
def _item(length: int) -> np.dtype[np.void]:
    """The type of items of so many bytes."""
    return np.dtype((np.void, length))


def _planes_resident(mapping: FileMapping, grid: RunGrid, *, in_thread: bool) -> bool:
    """Whether the pages are there of runs that lie in planes far apart."""
    if len(grid.counts) < 2 or prod(grid.counts[:-1]) > _MOST_RUNS:
        return False
    plane = grid._replace(counts=grid.counts[-1:], steps=grid.steps[-1:])
    reach = plane.end - plane.start
    planes = grid._replace(counts=grid.counts[:-1], steps=grid.steps[:-1])
    return reach <= _ASKED_AT_ONCE and all(
        mapping.has_resident(start, start + reach, in_thread=in_thread)
        for start in planes.starts().tolist()
    )
