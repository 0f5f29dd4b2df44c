"""The catalog's database: the open file, its connections and its transactions.

SQLite in WAL mode: readers never wait for the writer nor it for them. Reading
transactions see one state from their first statement to their last; writing ones take the
writer's lock when they begin, so that they cannot fail half-way for want of it.

Where another file is put in the place of the open one it may be gone over to, if it is a catalog
and once what SQLite keeps beside the old one is out of its way: `catalogfile` makes files and
judges them. Nothing is written to a file that is not under the catalog's name any more, nor to
one that has come back without what was beside it: nobody else would see that.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import QueuePool, create_engine, event
from sqlalchemy.exc import DatabaseError, OperationalError

from soda_service.catalog.catalogfile import (
    BESIDE,
    alone_in,
    calls_itself_a_catalog,
    has_a_name,
    is_current,
    is_there,
    make_file,
    open_connection,
    put_aside,
    refuse_unusable,
    unusable,
    use_wal,
)
from soda_service.catalog.presence import file_at
from soda_service.catalog.upgrade import migrate
from soda_service.errors import ConfigurationError, SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

_PATIENCE: Final = 60.0
"""Seconds that a writer waits for another; ingest commits several times a second."""

_LOOK_SECONDS: Final = 0.5
"""Between two looks at which file is under the catalog's name."""

_TOLD_SECONDS: Final = 3.0
"""After which the log is told that a file cannot be used: it may have been in the making."""

_CLOSE_SECONDS: Final = 2.0
"""How long the end waits for a look that is under way, and for the lock of the folder."""

_POOLED_CONNECTIONS: Final = 16
_WRITING: Final = "soda_writing"
"""Of a transaction that may write: its patience."""

_PATIENT: Final = f"PRAGMA busy_timeout = {round(_PATIENCE * 1000)}"
_IMPATIENT: Final = "soda_impatient"
"""Of a connection: whether it waits for another writer as long as its last writer said."""

_NUMBER: Final = "soda_number"
"""Of a connection: see `number_of`."""

_NUMBER_SHIFT: Final = 32
"""SQLite's own number of changes is below."""

_logger = logging.getLogger(__name__)


class Database:
    """The open catalog file. Safe to use from several threads."""

    def __init__(self, path: Path, *, make: bool = True) -> None:
        """Open the catalog at *path*; *make* it where there is none, and migrate an older one.

        It stays with the file that it has opened, as whoever writes one thing after the other
        must; see `follow`. Raises ConfigurationError for a file that is not a catalog, or one of a
        later version; where none is to be made, also for an older one, and where there is none.
        """
        self.path = path
        self._follower: threading.Thread | None = None
        self._ended = threading.Event()
        self._fault: str | None = None
        self._in_vain: float | None = None
        """Since when another file cannot be used; infinite once the log has been told."""
        self._look_lock = threading.Lock()
        if make:
            make_file(path)
        self._file = _File(path, 0)
        self._before: list[_File] = []
        """Answers on their way may read them, and until the next look whoever had one in hand."""
        try:
            if make:
                self._prepare()
            else:
                refuse_unusable(path)
            self._file.open()
        except (DatabaseError, sqlite3.DatabaseError, SourceUnavailableError) as error:
            self._file.close()
            raise unusable(path, _reason(error)) from None
        except ConfigurationError:
            self._file.close()
            raise

    def follow(self) -> None:
        """From now on go over to the catalog that is put in the place of this one.

        A thread looks for it, whether anybody asks or not: what is left of this one beside the
        other is in the way of every process that opens that.
        """
        if self._follower is None:
            self._follower = threading.Thread(
                target=self._look_on, name="catalog-follower", daemon=True
            )
            self._follower.start()

    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction that sees one state of the catalog and holds nobody up.

        To enter it raises SourceUnavailableError where that takes a new connection and the file is
        not there any more.
        """
        return self._file.engine.begin()

    @contextmanager
    def writing(self, *, patience: float | None = None) -> Iterator[Connection]:
        """A transaction that may write; one at a time for all processes.

        Raises OperationalError where another one lasts longer than *patience*, in seconds;
        None is a minute. Raises SourceUnavailableError, and nothing is written, where the file is
        not under the catalog's name, at the end of the block too.
        """
        file = self._file
        file.refuse_lost()
        with file.begin_writing(_PATIENCE if patience is None else patience) as connection:
            yield connection
            file.refuse_lost()

    def data_version(self) -> int:
        """A number that differs from the last call's when the catalog changed in between.

        So it does when another one has taken its place. Costs microseconds; means something
        within this process only.
        """
        return self._file.data_version()

    def fault(self) -> str | None:
        """What is wrong with the file under the catalog's name, for people; may block.

        None where it is the one that is open. What was open is still read.
        """
        self._look()
        return self._fault

    def close(self) -> None:
        """Let go of every connection that is not in use."""
        self._ended.set()
        if self._follower is not None:
            self._follower.join(_CLOSE_SECONDS)
        if self._follower is None or not self._follower.is_alive():
            self._leave()
        for one in (*self._before, self._file):
            one.close()

    def _leave(self) -> None:
        """See to it that nothing is left beside the catalog that another one could be hurt by."""
        if not self._file.is_lost:
            self._file.empty_wal()
            return
        try:
            self._file.take_away(patience=_CLOSE_SECONDS)
        except OSError as error:
            _logger.error("%s", self._is_left_behind(error))  # noqa: TRY400 - the reason is told

    def _look_on(self) -> None:
        told = False
        while not self._ended.wait(_LOOK_SECONDS):
            try:
                self._look()
            except Exception:
                # Whatever it is: who stops looking serves what is not there any more.
                if not told:
                    _logger.exception("cannot tell which file is the catalog %s", self.path)
                told = True

    def _look(self) -> None:
        """Find out which file is there now, and go over to it where that is to be done."""
        # Nobody waits for who looks already: what is open can be read meanwhile.
        if not self._look_lock.acquire(blocking=False):
            return
        try:
            self._fault = self._fault_now()
        finally:
            self._look_lock.release()

    def _fault_now(self) -> str | None:
        for one in self._before:
            one.close()
        self._before = [one for one in self._before if one.is_in_use]
        there = file_at(self.path)
        if there is None:
            return "The file of the catalog is gone, or cannot be looked at."
        if not self._file.is_lost:
            self._in_vain = None
            return None
        if self._follower is None:
            return "The file of the catalog is another one now."
        reason = self._go_over(there)
        if reason is None:
            self._in_vain = None
            _logger.info("the catalog %s is served from another file now", self.path)
            return None
        now = time.monotonic()
        if self._in_vain is None:
            self._in_vain = now
        if now - self._in_vain >= _TOLD_SECONDS:
            self._in_vain = inf
            served = "nothing" if self._file.is_closed else "the one before"
            _logger.error("%s; %s is served meanwhile", reason, served)
        if self._file.is_closed:
            return "The file of the catalog was away, and cannot be used so far."
        return "The file of the catalog is another one now, which cannot be used so far."

    def _go_over(self, there: tuple[int, int]) -> str | None:
        """Read and write the file that is *there* from now on; else why that cannot be."""
        if there == self._file.identity:
            # It was away meanwhile. Who has it open still shares nothing with who opens it now,
            # neither locks nor what was written last; a process opens what is beside it once.
            self._file.close()
        if any(one.is_in_use for one in (*self._before, self._file) if one.identity == there):
            return f"the catalog {self.path} was away; answers of before are waited for"
        try:
            if not calls_itself_a_catalog(self.path):
                return f"the catalog {self.path} has been replaced by a file that is none"
        except OSError as error:
            return f"the catalog {self.path} was replaced and cannot be read: {error.strerror}"
        fresh = _File(self.path, self._file.number + 1)
        try:
            # Before it is judged, and even if it is refused: else whoever is told to bring it up
            # to date would read into it what belongs to the one before.
            self._file.take_away()
            refuse_unusable(self.path)
            fresh.open()
        except OSError as error:
            fresh.close()
            return self._is_left_behind(error)
        except (ConfigurationError, SourceUnavailableError, sqlite3.Error) as error:
            fresh.close()
            return str(error)
        self._before.append(self._file)
        self._file = fresh
        return None

    def _is_left_behind(self, error: OSError) -> str:
        """What to say where that which is beside the file cannot be taken away."""
        names = " and ".join(f"{self.path.name}{end}" for end in BESIDE)
        beside = f"the catalog {self.path} has been replaced or removed, but not {names} beside it"
        if isinstance(error, BlockingIOError):
            return (
                f"{beside}, which belong to the one before: another program holds the folder "
                "locked, and is waited for"
            )
        return (
            f"{beside}, which belong to the one before and cannot be taken away "
            f"({error.strerror}): remove them"
        )

    def _prepare(self) -> None:
        with self._file.engine.connect() as connection:
            if is_current(driver_of(connection), self.path):
                return
        use_wal(self.path, patience=_PATIENCE)
        while True:
            try:
                with self._file.begin_writing(_PATIENCE) as connection:
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
        self._set_up()
        self._path = path
        self._real = Path(os.path.realpath(path))
        """SQLite calls what is beside the file after it, not after a link to it."""
        self._beside: list[tuple[int, int] | None] | None = None
        """As the first connection has found it, which lasts: all others have to share it."""
        self._watcher: sqlite3.Connection | None = None
        self._watcher_lock = threading.Lock()
        self._version = 0
        """What the watcher has said last."""
        self._in_use: set[ConnectionPoolEntry] = set()
        self.is_closed = False
        """Whether nobody gets a connection to it any more."""

    def open(self) -> None:
        """Open the connection that lasts; others may be had before that to prepare the file."""
        self.engine.dispose()
        with self._watcher_lock:
            self._watcher = self._connect()
            self._watcher.isolation_level = None
            if os.access(self._real, os.W_OK):
                # A copy need not have it (VACUUM INTO); it takes a lock only where that is so.
                self._watcher.execute("PRAGMA journal_mode = WAL").fetchone()
                self._watcher.execute("PRAGMA schema_version").fetchone()
            self._beside = _beside(self._real)
        self.data_version()
        self.refuse_lost()

    def begin_writing(self, patience: float) -> AbstractContextManager[Connection]:
        """A transaction that has the writer's lock, for which it waits *patience*, in seconds."""
        return self.engine.execution_options(**{_WRITING: patience}).begin()

    def data_version(self) -> int:
        """See `Database.data_version`."""
        # Where the watcher is busy, with a checkpoint perhaps, the next call will see what is new.
        if self._watcher_lock.acquire(blocking=False):
            try:
                if self._watcher is None:
                    raise _lost()
                # The watcher never writes, so it sees every commit, those of this process too.
                (self._version,) = self._watcher.execute("PRAGMA data_version").fetchone()
            finally:
                self._watcher_lock.release()
        return self.number << _NUMBER_SHIFT | self._version

    @property
    def is_lost(self) -> bool:
        """Whether others who open the catalog would open another file, or this and not all of it.

        So it is once it has been away, and what was beside it has been taken away.
        """
        return (
            self.is_closed
            or file_at(self._path) != self.identity
            or (self._beside is not None and _beside(self._real) != self._beside)
        )

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
                self._watcher.execute("PRAGMA busy_timeout = 0")
                try:
                    self._watcher.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                finally:
                    self._watcher.execute(_PATIENT)

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
            connection = open_connection(self._path, check_same_thread=False, timeout=_PATIENCE)
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


def _beside(path: Path) -> list[tuple[int, int] | None]:
    return [file_at(path.with_name(path.name + end)) for end in BESIDE]


def _lost() -> SourceUnavailableError:
    return SourceUnavailableError("the catalog is gone or has just been replaced")


def _reason(error: Exception) -> str:
    return str(error.orig if isinstance(error, DatabaseError) else error)
