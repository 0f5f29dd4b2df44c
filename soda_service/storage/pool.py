"""Files kept open, so that a request for a file seen before opens nothing."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from types import TracebackType

    from soda_service.storage.source import FileVersion, RunSource

    Key = tuple[str, FileVersion]


class OpenVersion(Protocol):
    """Opens a file of this version."""

    def __call__(self, url: str, version: FileVersion, packed: bool | None, /) -> RunSource:
        """*packed* says whether it is compressed as a whole, if that is known."""


class OpenFiles:
    """The files used last, open; safe to use from several threads.

    A file that is replaced has another version and is opened anew. A source is closed when it
    has left the pool and its last borrower has given it back, never under a reader.
    """

    def __init__(self, limit: int, open_version: OpenVersion) -> None:
        """*open_version* opens a file not yet in the pool: `InflatedCache.open`, say.

        More than *limit* sources are open only while more are borrowed at one time.
        """
        self._limit = limit
        self._open = open_version
        self._lock = threading.Lock()
        self._entries: OrderedDict[Key, BorrowedSource] = OrderedDict()

    def borrow(self, url: str, version: FileVersion, packed: bool | None = None) -> BorrowedSource:
        """The file of this version, for one `with` block; opens it where need be and may block.

        *packed* is handed to *open_version*. Raises what that raises.
        """
        found = self.peek(url, version)
        if found is not None:
            return found
        source = self._open(url, version, packed)
        key = (url, version)
        with self._lock:
            entry = self._entries.get(key)
            redundant = [] if entry is None else [source]
            if entry is None:
                entry = self._entries[key] = BorrowedSource(self, source)
                redundant += self._drop_other_versions(key)
            entry.users += 1
            redundant += self._drop_over_limit()
        _close(redundant)
        return entry

    def peek(self, url: str, version: FileVersion) -> BorrowedSource | None:
        """The same if the file is open already, otherwise None; never blocks."""
        key = (url, version)
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            entry.users += 1
            return entry

    def discard(self, url: str, version: FileVersion) -> None:
        """Have the file opened anew for the next borrower."""
        with self._lock:
            entry = self._entries.pop((url, version), None)
            idle = [entry.source] if entry is not None and self._leaves(entry) else []
        _close(idle)

    def close(self) -> None:
        """Closes what nobody has borrowed now, and the rest when it is given back."""
        with self._lock:
            idle = [entry.source for entry in self._entries.values() if self._leaves(entry)]
            self._entries.clear()
        _close(idle)

    def __len__(self) -> int:
        return len(self._entries)

    def give_back(self, entry: BorrowedSource) -> None:
        """What the end of the `with` block does."""
        with self._lock:
            entry.users -= 1
            idle = [entry.source] if entry.has_left and not entry.users else []
            if len(self._entries) > self._limit:
                idle += self._drop_over_limit()
        if idle:
            _close(idle)

    def _drop_other_versions(self, key: Key) -> list[RunSource]:
        old = [other for other in self._entries if other[0] == key[0] and other != key]
        gone = [self._entries.pop(other) for other in old]
        return [entry.source for entry in gone if self._leaves(entry)]

    def _drop_over_limit(self) -> list[RunSource]:
        """Takes idle sources out, the longest unused first; to be closed outside the lock."""
        idle: list[RunSource] = []
        for key in [key for key, entry in self._entries.items() if not entry.users]:
            if len(self._entries) <= self._limit:
                break
            idle.append(self._entries.pop(key).source)
        return idle

    @staticmethod
    def _leaves(entry: BorrowedSource) -> bool:
        """Marks *entry* as out of the pool; whether its source can be closed at once."""
        entry.has_left = True
        return not entry.users


class BorrowedSource:
    """A source of the pool; whoever borrows it has it within one `with` block."""

    __slots__ = ("_pool", "has_left", "source", "users")

    def __init__(self, pool: OpenFiles, source: RunSource) -> None:
        self._pool = pool
        self.source = source
        self.users = 0
        """How many have borrowed it now."""
        self.has_left = False
        """Whether it is no longer in the pool, and closed when the last gives it back."""

    def __enter__(self) -> RunSource:
        return self.source

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.give_back(self)


def _close(sources: list[RunSource]) -> None:
    for source in sources:
        source.close()
