"""One file that is under the catalog's name, open: its connections, and whether it still is there.

SQLite knows the file by what it has opened, everybody else by its name. Where the two part, what
SQLite keeps beside the file belongs to nobody's catalog and is taken for another one's.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import QueuePool, create_engine, event

from soda_service.catalog.catalogfile import (
    BESIDE,
    alone_in,
    has_a_name,
    is_there,
    open_connection,
    put_aside,
    use_wal,
)
from soda_service.catalog.presence import file_at
from soda_service.errors import SourceUnavailableError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

PATIENCE: Final = 60.0
"""Seconds that a writer waits for another; ingest commits several times a second."""

_POOLED_CONNECTIONS: Final = 16
_WRITING: Final = "soda_writing"
"""Of a transaction that may write: its patience."""

_PATIENT: Final = f"PRAGMA busy_timeout = {round(PATIENCE * 1000)}"
_AT_ONCE: Final = "PRAGMA busy_timeout = 0"
_IMPATIENT: Final = "soda_impatient"
"""Of a connection: whether it waits for another writer as long as its last writer said."""

_CLOSING_SECONDS: Final = 10.0
"""For which whoever closes a file last, and has it alone for an instant, is waited for."""

_NUMBER: Final = "soda_number"
"""Of a connection: see `number_of`."""

_PRIMARY_CODE: Final = 0xFF
"""Of SQLite's codes of errors, whose upper bits tell more."""

_NUMBER_SHIFT: Final = 32
"""SQLite's own number of changes is below."""


class OpenFile:
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
        self._set_up()
        self._path = path
        self._real = Path(os.path.realpath(path))
        """SQLite calls what is beside the file after it, not after a link to it."""
        self._beside: list[tuple[int, int] | None] | None = None
        """What is there and shared by the first connection, which lasts; all others share it."""
        self._watcher: sqlite3.Connection | None = None
        self._watcher_lock = threading.Lock()
        self._version_lock = threading.Lock()
        """Of those who ask the watcher for the version; nobody has it for long."""
        self._version = 0
        """What the watcher has said last."""
        self._in_use: set[ConnectionPoolEntry] = set()
        self.is_closed = False
        """Whether nobody gets a connection to it any more."""

    def open(self, *, patience: float = 0.0) -> None:
        """Open the connection that lasts; others may be had before that to prepare the file.

        Waits *patience* seconds for whoever reads a file that is not in WAL mode, as a copy need
        not be (VACUUM INTO). Raises ConfigurationError, also where it stays without.
        """
        self.engine.dispose()
        with self._watcher_lock:
            self._watcher = self._connect()
            self._watcher.isolation_level = None
            self._watcher.execute(_AT_ONCE)
            # Where nothing can be written beside the file, nobody writes to it from here, either.
            if os.access(self._real, os.W_OK) and os.access(self._real.parent, os.W_OK):
                use_wal(self._watcher, self._path, patience=patience, look=self.refuse_lost)
                self._share(min(patience, _CLOSING_SECONDS))
            else:
                self._note_shared()
        self.data_version()
        self.refuse_lost()

    def _share(self, patience: float) -> None:
        """Have the watcher share, and note, what is beside a file in WAL mode; with its lock."""
        assert self._watcher is not None
        # It has let go of the file for an instant, in which another one may have it.
        self._watcher.execute(f"PRAGMA busy_timeout = {round(patience * 1000)}")
        try:
            self._watcher.execute("PRAGMA schema_version").fetchone()
        except sqlite3.OperationalError:
            self.refuse_lost()
            raise
        self._watcher.execute(_AT_ONCE)
        self._beside = _beside(self._real)

    def begin_writing(self, patience: float | None = None) -> AbstractContextManager[Connection]:
        """A transaction that has the writer's lock; see `Database.writing`."""
        return self.engine.execution_options(
            **{_WRITING: PATIENCE if patience is None else patience}
        ).begin()

    def data_version(self) -> int:
        """See `Database.data_version`."""
        with self._version_lock:
            # Where the watcher makes a checkpoint, the next call will see what is new.
            if self._watcher_lock.acquire(blocking=False):
                try:
                    self._version = self._version_now()
                finally:
                    self._watcher_lock.release()
            return self.number << _NUMBER_SHIFT | self._version

    def _version_now(self) -> int:
        if self._watcher is None:
            raise _lost()
        try:
            # The watcher never writes, so it sees every commit, those of this process too.
            (version,) = self._watcher.execute("PRAGMA data_version").fetchone()
        except sqlite3.OperationalError as error:
            if not _is_busy(error):
                raise
            return self._version  # a commit to a copy without WAL is under way
        assert isinstance(version, int)
        if version != self._version:
            self._note_shared()  # the commit may have turned WAL on, which is shared from now on
        return version

    @property
    def is_lost(self) -> bool:
        """Whether others who open the catalog would open another file, or this and not all of it.

        So it is once it has been away, and what was beside it has been taken away. A file that
        this process may only read need not have had anything beside it.
        """
        return (
            self.is_closed
            or file_at(self._path) != self.identity
            or (any(self._beside or ()) and _beside(self._real) != self._beside)
        )

    def note_beside(self) -> None:
        """Take note of what another program has put beside a file that had nothing there.

        That is a file that this process may only read, in which WAL has been turned on since.
        SQLite shares what is there then, so that it stays: else it would be gone with the last one
        who may write, and nobody could read the file. Raises sqlite3.OperationalError where that
        has happened.
        """
        # Who has the lock notes it himself, or has something to do that is soon over.
        if any(self._beside or ()) or not self._watcher_lock.acquire(blocking=False):
            return
        try:
            # Whoever looks makes nothing there: its owner could not write to what is another's.
            if any(_beside(self._real)) or not os.access(self._real.parent, os.W_OK):
                self._note_shared()
        finally:
            self._watcher_lock.release()

    def _note_shared(self) -> None:
        """See `note_beside`; with the watcher's lock."""
        if self._watcher is None or any(self._beside or ()):
            return
        if file_at(self._real) != self.identity:
            return  # SQLite would open what is another file's by now, and let go of its locks
        beside = _beside(self._real)
        try:
            self._watcher.execute("PRAGMA schema_version").fetchone()
        except sqlite3.OperationalError as error:
            if _is_busy(error):
                return  # somebody has it alone for an instant
            raise
        # What has come after the question is not shared so far.
        if all(beside) and beside == _beside(self._real) and file_at(self._real) == self.identity:
            self._beside = beside

    def refuse_lost(self) -> None:
        """Raise SourceUnavailableError where it is lost."""
        if self.is_lost:
            raise _lost()

    @property
    def is_in_use(self) -> bool:
        """Whether answers on their way have connections to it."""
        return bool(self._in_use)

    def take_away(self, *, patience: float = 0.0) -> None:
        """Take away what is beside this file where it is not under its name any more.

        It would be taken for what was last written to another one that is there, or will be, and
        destroy it. What is not in this file so far is kept. Raises OSError where it cannot be
        done, BlockingIOError where the folder is locked for longer than *patience*, in seconds.
        """
        if self.is_closed or self._is_in_place() or not self._left_behind():
            return
        with alone_in(self._real.parent, patience=patience):
            if self._is_in_place():
                return
            # Whoever has moved this file away wants it with what was last written to it. But who
            # has removed it may have a copy, which lacks that.
            if self.identity is not None and has_a_name(self.identity):
                self.empty_wal()
            for one in self._left_behind():
                put_aside(one)

    def _is_in_place(self) -> bool:
        return is_there(self._real) and file_at(self._real) == self.identity

    def _left_behind(self) -> list[Path]:
        """What is beside and belongs to this file; open, so that no other has its number."""
        return [
            self._real.with_name(self._real.name + end)
            for end, ours, there in zip(
                BESIDE, self._beside or [], _beside(self._real), strict=False
            )
            if ours and ours == there
        ]

    def empty_wal(self) -> None:
        """Move what was last written into the file itself, unless somebody still reads it."""
        with self._watcher_lock, suppress(sqlite3.Error):
            if self._watcher is not None:
                self._watcher.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Let go of every connection, of those in use when they are not any more."""
        self.is_closed = True
        with self._watcher_lock:
            watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.close()
        self.engine.dispose()

    def _connect(self) -> sqlite3.Connection:
        """A connection to this file; raises SourceUnavailableError where it is there no more."""
        connection = None
        try:
            connection = open_connection(self._path, check_same_thread=False, timeout=PATIENCE)
            # Before the first question, at which SQLite opens what is beside the file: what is left
            # beside another one would be written into it when the connection is closed.
            self.refuse_lost()
            connection.execute("PRAGMA schema_version").fetchone()
            self.refuse_lost()
        except (sqlite3.Error, SourceUnavailableError):
            if connection is not None:
                connection.close()
            self.refuse_lost()
            raise
        return connection

    def _set_up(self) -> None:
        """Say how connections are set up, how transactions begin, and who has one in use."""

        @event.listens_for(self.engine, "connect")
        def _connection(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
            # Transactions begin where `_begin` says, not where the driver guesses.
            connection.isolation_level = None
            cursor = connection.cursor()
            cursor.execute("PRAGMA foreign_keys = ON")
            cursor.execute("PRAGMA temp_store = MEMORY")
            cursor.close()
            record.info[_NUMBER] = self.number

        @event.listens_for(self.engine, "begin")
        def _begin(connection: Connection) -> None:
            patience = connection.get_execution_options().get(_WRITING)
            if patience is None:
                connection.exec_driver_sql("BEGIN")
                return
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {round(patience * 1000)}")
            connection.info[_IMPATIENT] = True
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        @event.listens_for(self.engine, "checkout")
        def _taken(
            connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object
        ) -> None:
            del connection
            self._in_use.add(record)
            if self.is_closed:  # meanwhile, and perhaps nobody is waited for any more
                raise _lost()

        @event.listens_for(self.engine, "checkin")  # codespell:ignore
        def _given_back(connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
            if connection is not None and self.is_closed:
                connection.close()  # its pool is gone by then, and would keep it
            elif connection is not None and record.info.pop(_IMPATIENT, False):
                connection.cursor().execute(_PATIENT)
            self._in_use.discard(record)
            with suppress(sqlite3.Error):  # the next look tells
                self.note_beside()  # what the transaction has shared


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


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & _PRIMARY_CODE == sqlite3.SQLITE_BUSY


def _beside(path: Path) -> list[tuple[int, int] | None]:
    return [file_at(path.with_name(path.name + end)) for end in BESIDE]


def _lost() -> SourceUnavailableError:
    return SourceUnavailableError("the catalog is gone or has just been replaced")
