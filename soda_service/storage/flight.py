"""Bytes on their way from stores to clients, within one budget for all answers of a process.

What flies has been asked for and is not yet where it belongs. That ends soon, unless a store
hangs, so whoever finds no room waits a little. What is held waits for its client, which may
take as long as it likes: nobody waits for that, but the less room there is the less is read at
once.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL_REQUEST: Final = 1024 * 1024
"""Bytes for which a thread that has asked for nothing else needs no room."""

_SHARE: Final = 4
"""The part of the free room that one answer may hold: others come after it."""


class FlyingBytes:
    """Room for what has been asked for; safe to use from several threads."""

    def __init__(self, budget: int, *, patience: float = 1.0) -> None:
        """Whoever has nothing that flies waits *patience* seconds for room.

        Then small requests have to do: what a store that hangs does not give must not keep
        others from reading elsewhere.
        """
        self._budget = budget
        self._patience = patience
        self._changed = threading.Condition()
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes that fly now, but for small requests."""
        return self._size

    def take(self, wanted: int) -> bool:
        """Whether there is room for *wanted* bytes soon, which then is taken; may block.

        For a thread that has taken none: nobody waits for somebody who waits.
        """
        with self._changed:
            has_room = self._changed.wait_for(lambda: self._has(wanted), self._patience)
            self._size += wanted if has_room else 0
        return has_room

    def take_at_once(self, wanted: int) -> bool:
        """The same without waiting."""
        with self._changed:
            has_room = self._has(wanted)
            self._size += wanted if has_room else 0
        return has_room

    def give_back(self, taken: int) -> None:
        """What flew has landed."""
        with self._changed:
            self._size -= taken
            self._changed.notify_all()

    def _has(self, wanted: int) -> bool:
        return not self._size or self._size + wanted <= self._budget


class HeldBytes:
    """Room for what waits for clients; safe to use from several threads, and never blocks."""

    def __init__(self, budget: int) -> None:
        self.largest = budget // _SHARE
        """Most bytes that one answer is given."""
        self._budget = budget
        self._lock = threading.Lock()
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes that are held now."""
        return self._size

    @contextmanager
    def share(self, wanted: int) -> Iterator[int]:
        """Room for up to *wanted* bytes during the block: for how many, 0 being possible."""
        with self._lock:
            taken = min(wanted, (self._budget - self._size) // _SHARE)
            self._size += taken
        try:
            yield taken
        finally:
            with self._lock:
                self._size -= taken
