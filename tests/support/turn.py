"""The event loop of a server, seen from the thread of a test."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MOST_SECONDS = 60.0


class Turn:
    """A turn of the event loop that lasts as long as a test holds it, on any machine."""

    def __init__(self) -> None:
        self._stands_still = threading.Event()
        self._goes_on = threading.Event()

    def stand_still(self) -> None:
        """Be called in that turn: it ends with the test's block."""
        self._stands_still.set()
        assert self._goes_on.wait(_MOST_SECONDS)
        self._goes_on.clear()

    @contextmanager
    def held(self) -> Iterator[None]:
        """The turn, of which somebody was asked, goes on meanwhile."""
        assert self._stands_still.wait(_MOST_SECONDS)
        try:
            yield
        finally:
            self._stands_still.clear()
            self._goes_on.set()


def until(condition: Callable[[], object]) -> None:
    """Wait until it holds, of which nobody tells."""
    end = time.monotonic() + _MOST_SECONDS
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)
