"""The catalog's database: the open file, its connections and its transactions.

SQLite in WAL mode: readers never wait for the writer nor it for them. Reading
transactions see one state from their first statement to their last; writing ones take the
writer's lock when they begin, so that they cannot fail half-way for want of it.

Where another file is put in the place of the open one it may be gone over to, if it is a catalog
and once what SQLite keeps beside the old one is out of its way: `catalogfile` makes files and
judges them.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Final

from sqlalchemy import QueuePool, create_engine, event
from sqlalchemy.exc import DatabaseError, OperationalError

from soda_service.catalog.catalogfile import (
    BESIDE,
    alone_in,
    calls_itself_a_catalog,
    is_current,
    make_file,
    open_connection,
    refuse_unusable,
    unusable,
    use_wal,
)
from soda_service.catalog.presence import file_at
from soda_service.catalog.upgrade import migrate
from soda_service.errors import ConfigurationError, SourceUnavailableError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

_PATIENCE: Final = 60.0
"""Seconds that a writer waits for another; ingest commits several times a second."""

_LOOK_SECONDS: Final = 0.5
"""How old the last look at which file is under the catalog's name may be."""

_TOLD_SECONDS: Final = 3.0
"""After which the log is told that a file cannot be used: it may have been in the making."""

_POOLED_CONNECTIONS: Final = 16
_WRITING: Final = "soda_writing"
"""Of a transaction that may write: its patience."""

_NUMBER: Final = "soda_number"
"""Of a connection: see `number_of`."""

_NUMBER_SHIFT: Final = 32
"""SQLite's own number of changes is below."""

_logger = logging.getLogger(__name__)


class Database:
    """The open catalog file. Safe to use from several threads."""

    def __init__(self, path: Path, *, make: bool = True, follow: bool = True) -> None:
        """Open the catalog at *path*; *make* it where there is none, and migrate an older one.

        One that follows goes over to the catalog that is put in the place of this one; else it
        stays with its file, as whoever writes one thing after the other must. Raises
        ConfigurationError for a file that is not a catalog, or one of a later version; where
        none is to be made, also for an older one, and where there is none.
        """
        self.path = path
        self.follows = follow
        """Whether it goes over to another file."""
        self._fault: str | None = None
        self._in_vain: float | None = None
        """Since when another file cannot be used; infinite once the log has been told."""
        self._looked_at = float("-inf")
        self._look_lock = threading.Lock()
        if make:
            make_file(path)
        self._file = _File(path, 0)
        self._before: _File | None = None
        """Whoever had just been about to ask it still may, until the next look."""
        try:
            if make:
                self._prepare()
            else:
                refuse_unusable(path)
            self._file.data_version()
        except (DatabaseError, sqlite3.DatabaseError, SourceUnavailableError) as error:
            self._file.close()
            raise unusable(path, _reason(error)) from None
        except ConfigurationError:
            self._file.close()
            raise

    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction that sees one state of the catalog and holds nobody up.

        To enter it, or to write, raises SourceUnavailableError where that takes a new connection
        and the file is not there any more.
        """
        return self._current().engine.begin()

    def writing(self, *, patience: float | None = None) -> AbstractContextManager[Connection]:
        """A transaction that may write; one at a time for all processes.

        Raises OperationalError where another one lasts longer than *patience*, in seconds;
        None is a minute.
        """
        seconds = _PATIENCE if patience is None else patience
        return self._current().engine.execution_options(**{_WRITING: seconds}).begin()

    def data_version(self) -> int:
        """A number that differs from the last call's when the catalog changed in between.

        So it does when another one has taken its place. Costs microseconds; means something
        within this process only.
        """
        return self._current().data_version()

    def fault(self) -> str | None:
        """What is wrong with the file under the catalog's name, for people; may block.

        None where it is the one that is open. What was open is still read and written.
        """
        self._look()
        return self._fault

    def close(self) -> None:
        """Let go of every connection that is not in use."""
        self._close_before()
        self._file.close()

    def _current(self) -> _File:
        if self.follows and time.monotonic() - self._looked_at > _LOOK_SECONDS:
            self._look()
        return self._file

    def _look(self) -> None:
        """Find out which file is there now, and go over to it where that is to be done."""
        # Nobody waits for who looks already: what is open can be read meanwhile.
        if not self._look_lock.acquire(blocking=False):
            return
        try:
            self._looked_at = time.monotonic()
            self._fault = self._fault_now()
        finally:
            self._look_lock.release()

    def _fault_now(self) -> str | None:
        there = file_at(self.path)
        if there == self._file.identity:
            self._in_vain = None
            self._close_before()
            return None
        if there is None:
            return "The file of the catalog is gone, or cannot be looked at."
        if not self.follows:
            return "The file of the catalog is another one now."
        fresh = _File(self.path, self._file.number + 1)
        reason = self._why_not(fresh)
        if reason is not None:
            fresh.close()
            now = time.monotonic()
            if self._in_vain is None:
                self._in_vain = now
            if now - self._in_vain >= _TOLD_SECONDS:
                self._in_vain = inf
                _logger.error("%s; the one before is served meanwhile", reason)
            return "The file of the catalog is another one now, which cannot be used so far."
        self._in_vain = None
        self._close_before()
        self._before, self._file = self._file, fresh
        _logger.info("the catalog %s is served from another file now", self.path)
        return None

    def _why_not(self, fresh: _File) -> str | None:
        """Why *fresh*, which has taken the place of the file, cannot be gone over to."""
        try:
            self._file.remove_left_behind()
            refuse_unusable(self.path)
            fresh.data_version()
        except OSError as error:
            names = " and ".join(f"{self.path.name}{end}" for end in BESIDE)
            return (
                f"the catalog {self.path} has been replaced, but not {names} beside it, which "
                f"belong to the one before and cannot be removed ({error.strerror}): remove them"
            )
        except (ConfigurationError, SourceUnavailableError, sqlite3.Error) as error:
            return str(error)
        return None

    def _close_before(self) -> None:
        """Let go of the file before, but for answers on their way: they have connections."""
        if self._before is not None:
            self._before.close()
            self._before = None

    def _prepare(self) -> None:
        with self._file.engine.connect() as connection:
            if is_current(driver_of(connection), self.path):
                return
        use_wal(self.path, patience=_PATIENCE)
        while True:
            try:
                with self.writing() as connection:
                    migrate(connection, self.path, driver=driver_of(connection))
            except OperationalError as error:
                if "locked" not in str(error.orig):
                    raise
                # It may be bringing the catalog up to date, which takes as long as it takes.
                _logger.warning("another process writes to the catalog %s; waiting", self.path)
            else:
                return


class _File:
    """The file under a catalog's name, for as long as it is that."""

    def __init__(self, path: Path, number: int) -> None:
        self.number = number
        """Of the files that have been under the name."""
        self.identity = file_at(path)
        self.engine = create_engine(
            "sqlite://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=_POOLED_CONNECTIONS,
            max_overflow=-1,  # each thread that streams an answer holds a connection meanwhile
        )
        _set_up(self.engine, number)
        self._path = path
        self._beside: list[tuple[int, int] | None] = []
        self._watcher: sqlite3.Connection | None = None
        self._watcher_lock = threading.Lock()

    def data_version(self) -> int:
        """See `Database.data_version`."""
        with self._watcher_lock:
            if self._watcher is None:
                self._watcher = self._connect()
                self._watcher.isolation_level = None
            # The watcher never writes, so it sees every commit, those of this process too.
            (version,) = self._watcher.execute("PRAGMA data_version").fetchone()
            return self.number << _NUMBER_SHIFT | int(version)

    def remove_left_behind(self) -> None:
        """Remove what belongs to this file where another one has been put beside it.

        It would be taken for what was last written to that one, which it would destroy. Raises
        OSError where it cannot be removed, and ConfigurationError where that one is no catalog, so
        that this one may come back.
        """
        path = self._path.resolve()
        with alone_in(path.parent):
            if file_at(path) in (None, self.identity) or not self._are_there(path):
                return
            if not calls_itself_a_catalog(path):
                raise ConfigurationError(
                    f"the catalog {self._path} has been replaced by a file that is none"
                )
            # Whoever has moved this file away may want it with what was last written to it.
            with self._watcher_lock, suppress(sqlite3.Error):
                if self._watcher is not None:
                    self._watcher.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            for one in self._are_there(path):
                one.unlink(missing_ok=True)

    def _are_there(self, path: Path) -> list[Path]:
        """What is beside *path* and belongs to this file; open, so that no other has its number."""
        return [
            path.with_name(path.name + end)
            for end, ours, there in zip(BESIDE, self._beside, _beside(path), strict=False)
            if ours and ours == there
        ]

    def close(self) -> None:
        """Let go of every connection that is not in use."""
        with self._watcher_lock:
            if self._watcher is not None:
                self._watcher.close()
                self._watcher = None
        self.engine.dispose()

    def _connect(self) -> sqlite3.Connection:
        """A connection to this file; raises SourceUnavailableError where it is there no more."""
        connection = None
        try:
            connection = open_connection(self._path, check_same_thread=False, timeout=_PATIENCE)
            # Before the first question, at which SQLite opens what is beside the file: what is left
            # beside another one would be written into it when the connection is closed.
            self._refuse_another()
            connection.execute("PRAGMA schema_version").fetchone()
            beside = _beside(self._path)
            self._refuse_another()
        except (sqlite3.Error, SourceUnavailableError):
            if connection is not None:
                connection.close()
            self._refuse_another()
            raise
        self._beside = beside
        return connection

    def _refuse_another(self) -> None:
        if file_at(self._path) != self.identity:
            raise SourceUnavailableError("the catalog is gone or has just been replaced")


def number_of(connection: Connection) -> int:
    """Which of the files that have been under the catalog's name this reads."""
    number = connection.info[_NUMBER]
    assert isinstance(number, int)
    return number


def driver_of(connection: Connection) -> sqlite3.Connection:
    """The driver's own connection, for what SQLAlchemy's objects would slow down."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _set_up(engine: Engine, number: int) -> None:
    """Say how its connections are set up, and how its transactions begin."""

    @event.listens_for(engine, "connect")
    def _connection(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        # Transactions begin where `_begin` says, not where the driver guesses.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA temp_store = MEMORY")
        cursor.close()
        record.info[_NUMBER] = number

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        patience = connection.get_execution_options().get(_WRITING)
        if patience is None:
            connection.exec_driver_sql("BEGIN")
            return
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {round(patience * 1000)}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _beside(path: Path) -> list[tuple[int, int] | None]:
    path = path.resolve()  # SQLite calls them after the file, not after a link to it
    return [file_at(path.with_name(path.name + end)) for end in BESIDE]


def _reason(error: Exception) -> str:
    return str(error.orig if isinstance(error, DatabaseError) else error)
