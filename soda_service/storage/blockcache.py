"""Blocks of objects in memory, and behind them on disk, both within a budget of bytes.

An object is named by a key that is another for each version of it, so what is kept is never
wrong, only unwanted. A block lies between two multiples of `BLOCK_BYTES`; of a block there may
be a part only, without holes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from soda_service.storage.blockfolder import BlockFolder

BLOCK_BYTES: Final = 128 * 1024
"""Of a whole block: much less than what is asked for at once, much more than its entry.

And no more than the gap over which ranges are joined, as a rule: then what is asked for at one
time never has two parts of one block with a hole between them.
"""

_ENTRY_BYTES: Final = 300
"""What an entry takes beside the bytes, about."""


class Part(NamedTuple):
    """What there is of a block."""

    start: int
    """First byte, counted in the object."""
    content: memoryview

    @property
    def stop(self) -> int:
        """One past the last byte, counted in the object."""
        return self.start + len(self.content)

    def cut(self, start: int, stop: int) -> memoryview | None:
        """These bytes of the object, if they are all here."""
        if start < self.start or stop > self.stop:
            return None
        return self.content[start - self.start : stop - self.start]


class BlockCache:
    """The blocks used last; safe to use from several threads."""

    def __init__(self, memory_bytes: int, folder: BlockFolder | None = None) -> None:
        """Keeps at most *memory_bytes* in memory, 0 being nothing, and more in *folder*."""
        self.budget = memory_bytes
        """Most bytes in memory."""
        self._folder = folder
        self._lock = threading.Lock()
        self._parts: OrderedDict[tuple[str, int], Part] = OrderedDict()
        self._size = 0

    @property
    def has_disk(self) -> bool:
        """Whether blocks are kept on disk too."""
        return self._folder is not None

    @property
    def size(self) -> int:
        """Bytes in memory now."""
        return self._size

    def peek(self, key: str, start: int, stop: int) -> memoryview | None:
        """These bytes, which lie in one block, if they are in memory; never blocks."""
        place = (key, start // BLOCK_BYTES)
        with self._lock:
            part = self._parts.get(place)
            if part is None:
                return None
            self._parts.move_to_end(place)
        return part.cut(start, stop)

    def get(self, key: str, start: int, stop: int) -> memoryview | None:
        """The same where they may come from disk."""
        found = self.peek(key, start, stop)
        if found is not None or self._folder is None:
            return found
        part = self._folder.get(key, start // BLOCK_BYTES)
        if part is None:
            return None
        found = part.cut(start, stop)
        if found is not None:
            self._keep(key, part)
        return found

    def put(self, key: str, start: int, content: memoryview, *, only_memory: bool = False) -> None:
        """Keep *content*, the bytes from *start* on, which lie in one block.

        The memory under it is kept too: it should be no larger than *content*.
        """
        part = self._keep(key, Part(start, content))
        if self._folder is not None and not only_memory:
            self._folder.put(key, start // BLOCK_BYTES, part)

    def put_aside(self, key: str, start: int, content: memoryview) -> None:
        """Keep *content* on disk, where that is done, and not in memory."""
        if self._folder is not None:
            self._folder.put(key, start // BLOCK_BYTES, Part(start, content))

    def forget(self, key: str, start: int, stop: int) -> None:
        """Take the block of *start*, and those between it and that of *stop*, out of memory."""
        with self._lock:
            for number in range(start // BLOCK_BYTES, stop // BLOCK_BYTES):
                part = self._parts.pop((key, number), None)
                if part is not None:
                    self._size -= _cost(part)

    def _keep(self, key: str, part: Part) -> Part:
        """Puts *part* into memory; gives it joined with what was there already."""
        place = (key, part.start // BLOCK_BYTES)
        with self._lock:
            old = self._parts.get(place)
        # Outside the lock, as a copy may be made; who comes between is forgotten, no more.
        part = part if old is None else _joined(old, part)
        with self._lock:
            old = self._parts.pop(place, None)
            if old is not None:
                self._size -= _cost(old)
            self._parts[place] = part
            self._size += _cost(part)
            while self._size > self.budget:
                _, oldest = self._parts.popitem(last=False)
                self._size -= _cost(oldest)
        return part


def _cost(part: Part) -> int:
    return len(part.content) + _ENTRY_BYTES


def _joined(old: Part, new: Part) -> Part:
    """Both in one piece where nothing is missing between them; otherwise the new one."""
    if old.start <= new.start and new.stop <= old.stop:
        return old
    if (
        new.start > old.stop
        or old.start > new.stop
        or (new.start <= old.start and old.stop <= new.stop)
    ):
        return new
    start, stop = min(old.start, new.start), max(old.stop, new.stop)
    content = bytearray(stop - start)
    for part in (old, new):
        content[part.start - start : part.stop - start] = part.content
    return Part(start, memoryview(content).toreadonly())
