"""Files in a folder whose bytes together stay within a budget.

One folder may be shared by any number of processes. A file is written under a temporary name
and renamed when it is complete; those longest unused are removed when there are too many. One
that is removed while somebody reads it lives on until the reader closes it.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from soda_service.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    Buffer = bytes | bytearray | memoryview

_UNFINISHED: Final = ".part"
_LOCK: Final = "lock"
_STRIDE: Final = 20
"""The share of the budget that a process writes before it looks at the folder again."""
_KEPT: Final = 0.9
"""Of the budget, what is left after files were removed."""
_ABANDONED_SECONDS: Final = 3600.0
"""Age of an unfinished file that nobody will finish."""
_QUIET_SECONDS: Final = 60.0
"""Between two complaints about a folder."""

_logger = logging.getLogger(__name__)


class BudgetedFolder:
    """Files by name; safe to use from several threads and processes."""

    def __init__(self, folder: Path, budget_bytes: int, *, suffix: str) -> None:
        """Each process may exceed *budget_bytes* by a twentieth.

        Makes the folder. Raises ConfigurationError where that is not possible.
        """
        self._folder = folder
        self._budget = budget_bytes
        self._suffix = suffix
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

    def path(self, name: str) -> Path:
        """Where the file of this name is, if it is there; *name* has at least two characters."""
        return self._folder / name[:2] / f"{name}{self._suffix}"

    def begin(self, name: str) -> UnfinishedFile:
        """A new file of this name. Raises OSError."""
        path = self.path(name)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        return UnfinishedFile(self, path)

    def note(self, written: int) -> None:
        """Take account of so many bytes more, and remove files where they are too many."""
        with self._lock:
            self._unseen += written
            is_due = self._unseen > self._budget // _STRIDE
        if is_due:
            self._evict()

    def complain(self, what: str, error: OSError) -> None:
        """Say in the log that a file cannot be read or written, unless that was said just now."""
        now = time.monotonic()
        if now - self._complained > _QUIET_SECONDS:
            self._complained = now
            _logger.warning("a file in %s cannot be %s: %s", self._folder, what, error.strerror)

    def _evict(self) -> None:
        """Removes the files longest unused where there are too many; one process at a time."""
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
                        if entry.name.endswith((self._suffix, _UNFINISHED)):
                            yield entry


class UnfinishedFile:
    """A file that is there for nobody until it is finished; for one thread at a time."""

    def __init__(self, folder: BudgetedFolder, path: Path) -> None:
        self._folder = folder
        self._final = path
        self._descriptor, self._path = tempfile.mkstemp(suffix=_UNFINISHED, dir=path.parent)
        self.size = 0

    def write(self, piece: Buffer) -> None:
        """Append *piece*, unless the file has been abandoned. Raises OSError."""
        if self._descriptor < 0:
            return
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self.size += len(piece)

    def finish(self, *, is_certain: bool = False) -> None:
        """Give it its name; where *is_certain*, after a failure of the machine too.

        Raises OSError.
        """
        if is_certain:
            os.fsync(self._descriptor)
        Path(self._path).rename(self._final)
        self._let_go()
        self._folder.note(self.size)

    def abandon(self) -> None:
        """Remove it, unless it is finished."""
        if self._descriptor >= 0:
            _unlink(self._path)
            self._let_go()

    def _let_go(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - scandir gives strings
