"""The catalog's database: opened, checked, and brought up to date.

SQLite in WAL mode: readers never wait for the writer nor it for them. Reading
transactions see one state from their first statement to their last; writing ones take the
writer's lock when they begin, so that they cannot fail half-way for want of it.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import URL, Connection, create_engine, event, text
from sqlalchemy.exc import DatabaseError, OperationalError

from soda_service.catalog.schema import APPLICATION_ID, HEAD
from soda_service.catalog.upgrade import Upgrade
from soda_service.errors import ConfigurationError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sqlalchemy import Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

_PATIENCE: Final = 60.0
"""Seconds that a writer waits for another; ingest commits several times a second."""

_POOLED_CONNECTIONS: Final = 16
_WRITING: Final = "soda_writing"
"""Of a transaction that may write: its patience."""

_logger = logging.getLogger(__name__)


class Database:
    """The open catalog file. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Open the catalog at *path*; make it where there is none, migrate an older one.

        Raises ConfigurationError for a file that is not a catalog, or one of a later version.
        """
        self.path = path
        _make_folder(path)
        self._engine = _engine(path)
        self._watcher: sqlite3.Connection | None = None
        self._watcher_lock = threading.Lock()
        try:
            self._prepare()
        except DatabaseError as error:
            self._engine.dispose()
            raise ConfigurationError(
                f"the catalog {path} cannot be used: {_reason(error)}"
            ) from None
        except ConfigurationError:
            self._engine.dispose()
            raise

    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction that sees one state of the catalog and holds nobody up."""
        return self._engine.begin()

    def writing(self, *, patience: float | None = None) -> AbstractContextManager[Connection]:
        """A transaction that may write; one at a time for all processes.

        Raises OperationalError where another one lasts longer than *patience*, in seconds;
        None is a minute.
        """
        seconds = _PATIENCE if patience is None else patience
        return self._engine.execution_options(**{_WRITING: seconds}).begin()

    def data_version(self) -> int:
        """A number that differs from the last call's when the catalog changed in between.

        Costs microseconds; means something within this process only.
        """
        with self._watcher_lock:
            if self._watcher is None:
                self._watcher = sqlite3.connect(
                    self.path, check_same_thread=False, isolation_level=None
                )
            # The watcher never writes, so it sees every commit, those of this process too.
            (version,) = self._watcher.execute("PRAGMA data_version").fetchone()
            return int(version)

    def close(self) -> None:
        """Let go of every connection that is not in use."""
        with self._watcher_lock:
            if self._watcher is not None:
                self._watcher.close()
                self._watcher = None
        self._engine.dispose()

    def _prepare(self) -> None:
        with self._engine.connect() as connection:
            if _is_current(connection, self.path):
                return
        _use_wal(self.path)
        while True:
            try:
                with self.writing() as connection:
                    _migrate(connection, self.path)
            except OperationalError as error:
                if "locked" not in str(error.orig):
                    raise
                # It may be bringing the catalog up to date, which takes as long as it takes.
                _logger.warning("another process writes to the catalog %s; waiting", self.path)
            else:
                return


def driver_of(connection: Connection) -> sqlite3.Connection:
    """The driver's own connection, for what SQLAlchemy's objects would slow down."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the folder of the catalog {path} cannot be made: {error.strerror}"
        ) from None


def _engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path.absolute())),
        pool_size=_POOLED_CONNECTIONS,
        max_overflow=-1,  # each thread that streams an answer holds a connection meanwhile
        connect_args={"check_same_thread": False, "timeout": _PATIENCE},
    )

    @event.listens_for(engine, "connect")
    def _set_up(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        # Transactions begin where `_begin` says, not where the driver guesses.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA temp_store = MEMORY")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        patience = connection.get_execution_options().get(_WRITING)
        if patience is None:
            connection.exec_driver_sql("BEGIN")
            return
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {round(patience * 1000)}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _use_wal(path: Path) -> None:
    """Turn WAL on; it stays on. Two processes may try at once, and SQLite does not queue them."""
    end = time.monotonic() + _PATIENCE
    while True:
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise ConfigurationError(
                    f"the catalog {path} cannot be used: its file system has no shared memory"
                )
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise ConfigurationError(f"the catalog {path} cannot be used: {error}") from None
            time.sleep(0.02)
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(f"the catalog {path} cannot be used: {error}") from None
        else:
            return
        finally:
            connection.close()


def _is_current(connection: Connection, path: Path) -> bool:
    """Whether nothing is to be done; raises ConfigurationError for another program's database."""
    identity = connection.exec_driver_sql("PRAGMA application_id").scalar()
    if identity == APPLICATION_ID:
        statement = "SELECT version_num FROM alembic_version"
        return connection.exec_driver_sql(statement).scalar() == HEAD
    tables = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar()
    if identity or tables:
        raise ConfigurationError(f"{path} is a database, but not a catalog of this service")
    return False


def _migrate(connection: Connection, path: Path) -> None:
    """Make or alter the tables inside the caller's transaction, alone with the file."""
    if _is_current(connection, path):
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
        with Upgrade(driver_of(connection), path) as config.attributes["upgrade"]:
            command.upgrade(config, "head")
    except CommandError:
        raise ConfigurationError(
            f"the catalog {path} was made by another version of the service; ingest into a new one"
        ) from None
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    assert revision == HEAD, revision


def _reason(error: DatabaseError) -> str:
    return str(error.orig)
