"""The catalog's tables made or brought up to date, and what is said meanwhile.

That is one transaction, which takes minutes for millions of datasets. SQLite works through
its statements without returning to Python, so it is made to call back: then there is
something to say, and whoever wants to stop it is heard. Nothing of it lasts until it is done.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from sqlalchemy import text

from soda_service.catalog.catalogfile import is_current
from soda_service.catalog.schema import APPLICATION_ID, HEAD
from soda_service.errors import ConfigurationError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from types import TracebackType

    from sqlalchemy import Connection

_STEPS: Final = 50_000
"""Instructions of SQLite's machine between two calls: about a millisecond."""
_TOLD_SECONDS: Final = 10.0
"""How often something is said."""
_GULP: Final = 20_000
"""Datasets that are gone through at once."""

_logger = logging.getLogger(__name__)


def migrate(connection: Connection, path: Path, *, driver: sqlite3.Connection) -> None:
    """Make or alter the tables inside the caller's transaction, alone with the file at *path*.

    *driver* is the driver's own connection within *connection*. Blocks for as long as it takes.
    Raises ConfigurationError for another program's database and for a catalog of a later version,
    KeyboardInterrupt where the user stops it: the transaction is to be given up then.
    """
    if is_current(driver, path):
        return  # another process was quicker

    # Alembic takes 0.2 s to import, and nearly every start finds the catalog up to date.
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    logging.getLogger("alembic").setLevel(logging.WARNING)  # its steps are of no interest
    connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        with Upgrade(driver, path) as config.attributes["upgrade"]:
            command.upgrade(config, "head")
    except CommandError:
        raise ConfigurationError(
            f"the catalog {path} was made by another version of the service; ingest into a new one"
        ) from None
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    assert revision == HEAD, revision


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
