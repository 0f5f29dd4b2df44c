"""Names what keeps a command waiting: of a disk that hangs a bar only stands still.

Of a large file that is inflated, and of a slow store, it does so too.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LOOK_SECONDS: Final = 1.0
_PATIENCE: Final = 10
"""Looks at which a path must have been there before it is named."""

_logger = logging.getLogger(__name__)


class Watch:
    """Names, for the length of its block, each path that is asked about for long; once.

    It looks from a thread of its own: who asks is held up by the disk, and cannot.
    """

    def __init__(self, asked: Callable[[], Iterable[str]]) -> None:
        """*asked* gives the paths that are asked about now; empty ones do not count."""
        self._asked = asked
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look_on(self) -> None:
        seen: dict[str, int] = {}
        while not self._ended.wait(LOOK_SECONDS):
            seen = {path: seen.get(path, 0) + 1 for path in self._asked() if path}
            for path, looks in seen.items():
                if looks == _PATIENCE:
                    _logger.warning("still waiting for %s", path)
