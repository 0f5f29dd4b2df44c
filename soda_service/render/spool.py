"""Disk where answers wait whose size is known only when they are whole.

The files have no names, so nothing is left behind by a process that dies.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from typing import TYPE_CHECKING, Final

from soda_service.errors import SourceUnavailableError, UsageError
from soda_service.storage.closing import Closable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Buffer = bytes | bytearray | memoryview

_AT_ONCE: Final = 256 * 1024
"""Bytes that are written together."""
_CLAIM: Final = 256 * 1024
"""Bytes by which a file claims its part of the budget."""


class SpoolRoom:
    """A folder with a budget for all the files in it together; for several threads."""

    def __init__(self, folder: Path, budget: int) -> None:
        """*budget* in bytes. The folder is made when the first file is."""
        self.folder = folder
        self.budget = budget
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """Bytes claimed by the files that are open."""
        return self._taken

    def open(self) -> Spool:
        """A new, empty file. Raises SourceUnavailableError where none can be made."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder, buffering=0) as file:
                return Spool(self, os.dup(file.fileno()))
        except OSError as error:
            raise _no_disk(error, self.folder) from None

    def claim(self, size: int, own: int) -> None:
        """Take *size* bytes more for a file that has *own* already.

        Raises UsageError where it could never fit, SourceUnavailableError where others are
        in its way now.
        """
        if own + size > self.budget:
            raise UsageError(
                f"compressed, the answer takes more than {self.budget} bytes of temporary disk: "
                "ask for less, or for it uncompressed"
            )
        with self._lock:
            if self._taken + size > self.budget:
                raise SourceUnavailableError("too many compressed answers are waiting to be sent")
            self._taken += size

    def release(self, size: int) -> None:
        """Give bytes back."""
        with self._lock:
            self._taken -= size


class Spool(Closable):
    """One file: written once, from its beginning to its end but for what is skipped; then read.

    For one thread at a time.
    """

    def __init__(self, room: SpoolRoom, descriptor: int) -> None:
        """Takes the open *descriptor* over."""
        self._room = room
        self._descriptor = descriptor
        self._waiting = bytearray()
        self._written = 0
        self._claimed = [0]
        self._finalizer = weakref.finalize(self, _let_go, room, descriptor, self._claimed)

    @property
    def size(self) -> int:
        """Bytes up to the end, what was skipped included."""
        return self._written + len(self._waiting)

    def append(self, piece: Buffer) -> None:
        """Write at the end. Raises UsageError and SourceUnavailableError as `SpoolRoom.claim`."""
        self._claim(self.size + len(piece))
        self._waiting += piece
        if len(self._waiting) >= _AT_ONCE:
            self._flush()

    def skip(self, size: int) -> None:
        """Leave room for what `write_at` will fill in; zeros until then."""
        self._claim(self.size + size)
        self._flush()
        self._written += size

    def write_at(self, start: int, piece: Buffer) -> None:
        """Fill in what was skipped."""
        if start + len(piece) > self._written:
            raise ValueError("not what was skipped")
        self._put(start, piece)

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from *start* up to *end*."""
        self._flush()
        while start < end:
            try:
                chunk = os.pread(self._descriptor, min(_AT_ONCE, end - start), start)
            except OSError as error:
                raise _no_disk(error, self._room.folder) from None
            if not chunk:
                # Skipped at the very end, and never filled in.
                chunk = bytes(min(_AT_ONCE, end - start))
            yield chunk
            start += len(chunk)

    def close(self) -> None:
        """Let go of the disk; nothing can be read any more."""
        self._finalizer()

    def _claim(self, size: int) -> None:
        claimed = self._claimed[0]
        if size <= claimed:
            return
        # In steps, but never more than would be left for this file alone.
        step = max(size - claimed, min(_CLAIM, self._room.budget - claimed))
        self._room.claim(step, claimed)
        self._claimed[0] += step

    def _flush(self) -> None:
        if self._waiting:
            self._put(self._written, self._waiting)
            self._written += len(self._waiting)
            self._waiting = bytearray()

    def _put(self, start: int, piece: Buffer) -> None:
        rest = memoryview(piece)
        try:
            while rest:
                done = os.pwrite(self._descriptor, rest, start)
                rest, start = rest[done:], start + done
        except OSError as error:
            raise _no_disk(error, self._room.folder) from None
        finally:
            rest.release()


def _let_go(room: SpoolRoom, descriptor: int, claimed: list[int]) -> None:
    os.close(descriptor)
    room.release(claimed[0])


def _no_disk(error: OSError, folder: Path) -> SourceUnavailableError:
    return SourceUnavailableError(
        f"the temporary disk cannot be used: {error.strerror}", path=str(folder)
    )
