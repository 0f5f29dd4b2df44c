"""What a catalog of an older version says while it is brought up to date.

That is one transaction, which takes minutes for millions of datasets. SQLite works through
its statements without returning to Python, so it is made to call back: then there is
something to say, and whoever wants to stop it is heard. Nothing of it lasts until it is done.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

_STEPS: Final = 50_000
"""Instructions of SQLite's machine between two calls: about a millisecond."""
_TOLD_SECONDS: Final = 10.0
"""How often something is said."""
_GULP: Final = 20_000
"""Datasets that are gone through at once."""

_logger = logging.getLogger(__name__)


class Upgrade:
    """Speaks of one upgrade, and ends it at the user's word, within its `with` block."""

    def __init__(self, driver: sqlite3.Connection, path: Path) -> None:
        """*driver* is within the transaction of the upgrade of the catalog at *path*."""
        self._driver = driver
        self._path = path
        self._begun = self._told = time.monotonic()
        self._is_told = False
        self._is_stopped = False
        self._doing = ""

    def __enter__(self) -> Self:
        self._driver.set_progress_handler(self._on_the_way, _STEPS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._driver.set_progress_handler(None, _STEPS)
        if self._is_stopped:
            raise KeyboardInterrupt from None
        if kind is None and self._is_told:
            _logger.warning(
                "the catalog %s is up to date after %.0f s",
                self._path,
                time.monotonic() - self._begun,
            )

    def gulps(self, what: str) -> Iterator[tuple[int, int]]:
        """All ids of datasets in half-open ranges; *what* is done with them is told."""
        (last,) = self._driver.execute("SELECT coalesce(max(id), -1) FROM dataset").fetchone()
        for first in range(0, last + 1, _GULP):
            self._doing = f", {what}: {100 * first // (last + 1)} %"
            yield first, first + _GULP
        self._doing = ""

    def _on_the_way(self) -> int:
        """Called by SQLite; other than 0 ends the statement."""
        try:
            now = time.monotonic()
            if now - self._told >= _TOLD_SECONDS:
                self._told = now
                self._tell(now - self._begun)
        except KeyboardInterrupt:  # what the user says is heard wherever Python is
            self._is_stopped = True
            return 1
        return 0

    def _tell(self, seconds: float) -> None:
        if not self._is_told:
            self._is_told = True
            _logger.warning(
                "the catalog %s is of an older version and is brought up to date; it may be "
                "stopped, and is then as it was",
                self._path,
            )
        _logger.warning("%.0f s%s", seconds, self._doing)
