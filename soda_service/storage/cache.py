"""Inflated copies of compressed files, on disk within a budget.

One folder may be shared by any number of processes: the copy of a file is made by whoever
has locked the unfinished one, which has a temporary name, and is renamed when it is complete.
So nobody waits for the copy of another file. A copy that is evicted while somebody reads it
lives on until the reader closes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from contextlib import contextmanager
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from soda_service.errors import ConfigurationError, CorruptFileError, SourceUnavailableError
from soda_service.storage.inflate import inflated_pieces, is_compressed, largest_inflated
from soda_service.storage.inflatedobject import InflatedObject
from soda_service.storage.local import LocalSource
from soda_service.storage.source import open_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from soda_service.storage.remote import RemoteSource
    from soda_service.storage.source import FileVersion, RunSource
    from soda_service.storage.stores import RemoteStores

_COPY: Final = ".inflated"
_UNFINISHED: Final = ".part"
_STRIDE: Final = 16 * 1024 * 1024
"""Bytes for which room is made at one time; the budget may be missed by as many."""
_REMEMBERED: Final = 1000
_TURN_SECONDS: Final = 0.05
"""Between the first two looks whether somebody else has made a copy; twice as long each time."""
_LONGEST_TURN_SECONDS: Final = 0.8
"""Between two looks, however long it takes."""
_PATIENCE_SECONDS: Final = 10.0
"""For which several threads of a process wait for one copy; after that, one of them does."""


class InflatedCache:
    """Compressed files inflated once; safe to use from several threads and processes."""

    def __init__(self, folder: Path, budget_bytes: int, stores: RemoteStores | None = None) -> None:
        """Removes what killed processes left unfinished in *folder*.

        Files in *stores* are opened too. The first compressed file makes the folder where it
        is missing. Raises ConfigurationError where it could not be made, or cannot be listed.
        """
        self._folder = folder
        self._budget = budget_bytes
        self._stores = stores
        self._broken: dict[str, CorruptFileError] = {}
        self._broken_lock = threading.Lock()
        self._first: dict[Path, tuple[int, float]] = {}
        """Of the copies that are waited for: which thread does so for longest, and since when."""
        self._first_lock = threading.Lock()
        try:
            self._clean()
            self._make_room(0)
        except FileNotFoundError:
            # Or it is removed just now: the first compressed file makes it in either case.
            if reason := _obstacle(folder):
                raise ConfigurationError(f"cannot use the folder {folder}: {reason}") from None
        except OSError as error:
            raise ConfigurationError(f"cannot use the folder {folder}: {error.strerror}") from None

    def open(
        self, url: str, version: FileVersion | None = None, packed: bool | None = None
    ) -> RunSource:
        """The file at *url*, or its inflated copy where it is a compressed one; may block long.

        Which it is, its first bytes say; of an object in a store, that costs a request unless
        *packed* says so. The source's version is then that of the copy.
        Raises what `open_source` raises; SourceUnavailableError where *version* is given
        and the file is no longer that one, where there is no room for the copy, or where
        somebody else takes long to make it and another thread waits for that already;
        CorruptFileError where the file cannot be inflated or is larger than any image.
        """
        source = open_source(url, self._stores, version)
        if not isinstance(source, LocalSource):
            return self._open_object(source, packed)
        if version is not None and source.version != version:
            source.close()
            raise SourceUnavailableError(
                "the file has changed since it was looked at", path=source.path
            )
        try:
            compressed = is_compressed(source.read(0, min(3, source.version.size)))
        except BaseException:
            source.close()
            raise
        if not compressed:
            return source
        with source:
            return self._open_copy(source)

    def _open_object(self, source: RemoteSource, packed: bool | None) -> RunSource:
        """The object itself, or what it inflates to, downloaded for each version once."""
        if packed is None:
            packed = is_compressed(source.read(0, min(3, source.version.size)))
        if not packed:
            return source
        return InflatedObject(self._open_copy(source), source)

    def _clean(self) -> None:
        for path in self._folder.glob(f"*{_UNFINISHED}"):
            with _locked(path):
                pass

    def _open_copy(self, source: RunSource) -> LocalSource:
        key = _key(source)
        with self._broken_lock:
            broken = self._broken.get(key)
        if broken is not None:
            raise CorruptFileError(str(broken), path=source.path)
        path = self._folder / (key + _COPY)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            copy = _open_if_there(path)
            if copy is None:
                with self._turn(path, source) as descriptor:
                    # Somebody else may have made it while this one waited.
                    copy = _open_if_there(path) or self._make_copy(source, path, descriptor)
            # The access time says how recently it was wanted; the other one stays, as it is
            # part of the copy's version.
            try:
                os.utime(copy.fileno(), ns=(time.time_ns(), copy.version.modified_ns))
            except OSError:
                copy.close()
                raise
        except CorruptFileError as error:
            self._remember(key, error)
            raise
        except OSError as error:
            reason = error.strerror or "unknown reason"
            raise SourceUnavailableError(
                f"cannot be inflated into the cache: {reason}", path=str(self._folder)
            ) from None
        return copy

    def _make_copy(self, source: RunSource, path: Path, descriptor: int) -> LocalSource:
        """Fills the unfinished copy, locked and open as *descriptor*, and gives it its name."""
        os.ftruncate(descriptor, 0)  # of what a killed process has left
        for piece in self._bounded(source):
            _write(descriptor, piece)
        # A machine that fails must not leave a complete name for incomplete bytes.
        os.fsync(descriptor)
        source.check_unchanged()
        unfinished = path.with_suffix(_UNFINISHED)
        if not _is_at(unfinished, descriptor):  # whoever empties the folder took it away
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        unfinished.rename(path)
        return LocalSource.open(str(path.absolute()))

    def _bounded(self, source: RunSource) -> Iterator[bytes]:
        """What *source* inflates to, room being made for it on the way."""
        largest = largest_inflated(source.version.size, self._budget)
        inflated, with_room = 0, 0
        for piece in inflated_pieces(source):
            inflated += len(piece)
            if inflated > largest:
                raise CorruptFileError(
                    f"it inflates to more than {largest} bytes", path=source.path
                )
            if inflated > with_room:
                # What was written before is counted with the other files of the folder.
                self._make_room(_STRIDE)
                with_room += _STRIDE
            yield piece

    def _make_room(self, wanted: int) -> None:
        """Evicts copies, the longest unused first, until *wanted* more bytes are within budget."""
        copies: list[tuple[int, int, str]] = []
        total = wanted
        for entry in os.scandir(self._folder):
            if not entry.name.endswith((_COPY, _UNFINISHED)):
                continue
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue
            total += status.st_size
            if entry.name.endswith(_COPY):
                copies.append((status.st_atime_ns, status.st_size, entry.path))
        for _, size, path in sorted(copies):
            if total <= self._budget:
                return
            try:
                os.unlink(path)  # noqa: PTH108 - scandir gives strings
            except FileNotFoundError:
                continue
            finally:
                total -= size

    @contextmanager
    def _turn(self, path: Path, source: RunSource) -> Iterator[int]:
        """The right to make the copy *path*, as soon as nobody else makes it.

        Gives the descriptor of the unfinished one, which is empty or has anything in it.
        Raises SourceUnavailableError where that takes long and somebody else waits already.
        """
        pause = _TURN_SECONDS
        try:
            while True:
                with _locked(path.with_suffix(_UNFINISHED)) as descriptor:
                    if descriptor is not None:
                        self._wait_no_more(path)
                        yield descriptor
                        return
                self._refuse_crowd(path, source)
                # A disk that hangs has hold of the other one, and is to be seen to by this one.
                if isinstance(source, LocalSource):
                    source.ask_disk()
                else:
                    source.check_unchanged()
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_TURN_SECONDS)
        finally:
            self._wait_no_more(path)

    def _refuse_crowd(self, path: Path, source: RunSource) -> None:
        """Have the first who waits for *path* go on; others only as long as it has not been long.

        A large file takes minutes: all threads of a process would wait for it.
        """
        now, thread = time.monotonic(), threading.get_ident()
        with self._first_lock:
            first, since = self._first.setdefault(path, (thread, now))
        if first != thread and now - since > _PATIENCE_SECONDS:
            raise SourceUnavailableError(
                "the file is being inflated for others; try again", path=source.path
            )

    def _wait_no_more(self, path: Path) -> None:
        with self._first_lock:
            if self._first.get(path, (None,))[0] == threading.get_ident():
                del self._first[path]

    def _remember(self, key: str, error: CorruptFileError) -> None:
        """So that a file that cannot be inflated is not tried again at each request."""
        with self._broken_lock:
            if len(self._broken) >= _REMEMBERED:
                self._broken.clear()
            self._broken[key] = error


def _key(source: RunSource) -> str:
    version = source.version
    text = f"{version.size} {version.modified_ns} {version.tag}{source.path}"
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=20).hexdigest()


def _obstacle(folder: Path) -> str:
    """Why *folder*, which is not there, could not be made; empty where it could."""
    if os.path.islink(folder):  # noqa: PTH114 - raises nothing, unlike a Path's
        return "it is a link to what is not there"
    above = next((one for one in folder.absolute().parents if os.path.lexists(one)), folder)
    if not os.path.exists(above):  # noqa: PTH110 - the same
        return f"{above} is a link to what is not there"
    return "" if os.access(above, os.W_OK | os.X_OK) else os.strerror(errno.EACCES)


def _open_if_there(path: Path) -> LocalSource | None:
    try:
        return LocalSource.open(str(path.absolute()))
    except FileNotFoundError:
        return None


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


@contextmanager
def _locked(path: Path) -> Iterator[int | None]:
    """Locks the unfinished copy *path*, which is made where it is missing.

    Gives its descriptor, or None where somebody else has it, another thread of this process
    perhaps. What is still there under that name at the end of the block is removed.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        if not _is_at(path, descriptor):
            # Between the two calls it has been renamed, or removed: that lock is worth nothing.
            yield None
            return
        try:
            yield descriptor
        finally:
            # As long as it is locked: afterwards it may be somebody else's.
            if _is_at(path, descriptor):
                path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether *path* names the file that is open as *descriptor*."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
