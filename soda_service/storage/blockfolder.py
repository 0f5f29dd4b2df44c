"""Blocks of objects on disk, within a budget of bytes.

One folder may be shared by any number of processes. A block is written under a temporary name
and renamed, and carries a check sum: what a process that was killed, or a machine that failed,
left behind is not taken for a block.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
import tempfile
import threading
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from soda_service.errors import ConfigurationError
from soda_service.storage.blockcache import BLOCK_BYTES, Part

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER: Final = struct.Struct("<4sIQ")
"""Magic, check sum of what follows it, first byte in the object."""
_MAGIC: Final = b"SBK1"
_BLOCK: Final = ".block"
_UNFINISHED: Final = ".part"
_LOCK: Final = "lock"
_STRIDE: Final = 20
"""The share of the budget that a process writes before it looks at the folder again."""
_KEPT: Final = 0.9
"""Of the budget, what is left after blocks were evicted."""
_ABANDONED_SECONDS: Final = 3600.0
"""Age of an unfinished block that nobody will finish."""
_QUIET_SECONDS: Final = 60.0

_logger = logging.getLogger(__name__)


class BlockFolder:
    """Blocks by key and number; safe to use from several threads and processes.

    It never fails: a block that cannot be read is not there, and one that cannot be written is
    not kept. The log says why.
    """

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        """Each process may exceed *budget_bytes* by a twentieth.

        Makes the folder. Raises ConfigurationError where that is not possible.
        """
        self._folder = folder
        self._budget = budget_bytes
        self._lock = threading.Lock()
        self._unseen = 0
        """Bytes written since the folder was looked at."""
        self._complained = float("-inf")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            self._evict()
        except OSError as error:
            raise ConfigurationError(f"cannot use the folder {folder}: {error.strerror}") from None

    def get(self, key: str, number: int) -> Part | None:
        """What there is of this block."""
        path = self._path(key, number)
        try:
            with path.open("rb", buffering=0) as file:
                raw = file.read(_HEADER.size + BLOCK_BYTES + 1)
                # The access time says how recently it was wanted.
                os.utime(file.fileno())
        except FileNotFoundError:
            return None
        except OSError as error:
            self._complain("read", error)
            return None
        part = _decoded(raw, number)
        if part is None:
            with suppress(OSError):
                path.unlink()
        return part

    def put(self, key: str, number: int, part: Part) -> None:
        """Keep *part* of this block."""
        path = self._path(key, number)
        start = struct.pack("<Q", part.start)
        header = _HEADER.pack(_MAGIC, zlib.crc32(part.content, zlib.crc32(start)), part.start)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor, unfinished = tempfile.mkstemp(suffix=_UNFINISHED, dir=path.parent)
            try:
                written = _write(descriptor, header, part.content)
                Path(unfinished).rename(path)
            except BaseException:
                Path(unfinished).unlink(missing_ok=True)
                raise
            with self._lock:
                self._unseen += written
                is_due = self._unseen > self._budget // _STRIDE
            if is_due:
                self._evict()
        except OSError as error:
            self._complain("written", error)

    def _evict(self) -> None:
        """Removes the blocks longest unused where there are too many; one process at a time."""
        descriptor = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # whoever holds it does the same
        else:
            with self._lock:
                self._unseen = 0
            self._remove_oldest()
        finally:
            os.close(descriptor)

    def _remove_oldest(self) -> None:
        found: list[tuple[int, int, str]] = []
        total = 0
        for entry in self._entries():
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue
            if entry.name.endswith(_UNFINISHED):
                if time.time() - status.st_mtime > _ABANDONED_SECONDS:
                    _unlink(entry.path)
                continue
            total += status.st_size
            found.append((status.st_atime_ns, status.st_size, entry.path))
        # A stride is still to be written before the next look.
        if total <= self._budget - self._budget // _STRIDE:
            return
        for _, size, path in sorted(found):
            if total <= self._budget * _KEPT:
                return
            _unlink(path)
            total -= size

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        with os.scandir(self._folder) as folders:
            for folder in folders:
                if not folder.is_dir(follow_symlinks=False):
                    continue
                with os.scandir(folder.path) as entries:
                    for entry in entries:
                        if entry.name.endswith((_BLOCK, _UNFINISHED)):
                            yield entry

    def _path(self, key: str, number: int) -> Path:
        return self._folder / key[:2] / f"{key}-{number:x}{_BLOCK}"

    def _complain(self, what: str, error: OSError) -> None:
        now = time.monotonic()
        if now - self._complained > _QUIET_SECONDS:
            self._complained = now
            _logger.warning("a block in %s cannot be %s: %s", self._folder, what, error.strerror)


def _decoded(raw: bytes, number: int) -> Part | None:
    """The part in *raw*, None where it is damaged or of another block."""
    if not _HEADER.size < len(raw) <= _HEADER.size + BLOCK_BYTES:
        return None
    magic, checksum, start = _HEADER.unpack_from(raw)
    if magic != _MAGIC or checksum != zlib.crc32(memoryview(raw)[8:]):
        return None
    if start // BLOCK_BYTES != number:
        return None
    return Part(start, memoryview(raw)[_HEADER.size :])


def _write(descriptor: int, *pieces: bytes | memoryview) -> int:
    """Closes *descriptor*; gives how many bytes were written, which are all."""
    with open(descriptor, "wb") as file:
        return sum(file.write(piece) for piece in pieces)


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - scandir gives strings
