"""The catalog's file: made where there is none, its folder locked meanwhile, and judged.

What is said here is said of a path, or of a connection of SQLite's own driver. `Database` keeps
the file open, and `upgrade` puts the tables in it.

SQLite finds its `-wal` and `-shm` by the name of the catalog. Who removes the file alone leaves
them behind, and in the hands of whoever has it open: beside another file they are wrong.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
from contextlib import closing, contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING, Final

from soda_service.catalog.presence import file_at
from soda_service.catalog.schema import APPLICATION_ID, HEAD
from soda_service.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BESIDE: Final = ("-wal", "-shm")
"""What SQLite keeps beside a catalog, and calls so."""

_LOOK_PATIENCE: Final = 0.2
"""Seconds for which a look at another file waits: whoever makes it may have it for itself."""

_HOLD_UP_SECONDS: Final = 0.1
_HOLD_UP_EACH: Final = 25
"""For how long, and in which of its attempts, who wants a file alone holds up those who come."""

_LOCK_SECONDS: Final = 10.0
"""For which the lock of a folder is waited for: somebody may hold it for a purpose of his own."""

_TOLD_SECONDS: Final = 1.0
"""After which the log is told of what is waited for: a moment is nothing."""

_CANNOT_OPEN: Final = "unable to open database file"
"""What SQLite says whatever is in its way."""

_logger = logging.getLogger(__name__)


def make_file(path: Path) -> None:
    """Make the folder and an empty file where there is none.

    What a catalog that is gone has left there is taken away first. Raises ConfigurationError where
    that cannot be done, or another program holds the folder locked for ten seconds.
    """
    _make_folder(path)
    try:
        path = path.resolve()
        if is_there(path):
            return
        with alone_in(path.parent, patience=_LOCK_SECONDS):
            if is_there(path):
                return
            for end in BESIDE:
                put_aside(path.with_name(path.name + end))
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644))
    except BlockingIOError:
        raise unusable(path, "another program holds its folder locked") from None
    except OSError as error:
        raise unusable(path, f"{_CANNOT_OPEN} ({error.strerror})") from None
    except RuntimeError:
        # So Python says it up to 3.12; later `stat` does, with an OSError.
        raise unusable(path, "it is a symbolic link that leads to itself") from None


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the folder of the catalog {path} cannot be made: {error.strerror}"
        ) from None


def is_there(path: Path) -> bool:
    """Whether it is; raises OSError where nobody can tell, which `exists` may call absent."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def put_aside(left: Path) -> None:
    """Take away what a catalog has left that is gone; its last changes are kept."""
    if left.name.endswith("-wal") and is_there(left) and left.stat().st_size:
        kept = _free_name(left)
        left.replace(kept)
        _logger.warning(
            "%s holds what was last written to a catalog that was removed or moved away; it is "
            "kept as %s, and belongs beside that one, which may be broken without it",
            left, kept,
        )  # fmt: skip
    else:
        left.unlink(missing_ok=True)


def _free_name(left: Path) -> Path:
    """A name under which *left* may be kept; an empty file is there, so that nobody else has it."""
    for number in count(1):
        kept = left.with_name(f"{left.name}.before{number if number > 1 else ''}")
        try:
            kept.touch(exist_ok=False)
        except FileExistsError:
            continue
        return kept
    raise AssertionError


def has_a_name(identity: tuple[int, int]) -> bool:
    """Whether a file that this process has open is still in a folder, whatever it is called."""
    # Not opened anew: to close that would let go of all locks that SQLite has on the file.
    with suppress(OSError):
        for descriptor in os.listdir("/dev/fd"):  # noqa: PTH208 - numbers are wanted
            with suppress(OSError):  # the listing's own is closed by now
                status = os.fstat(int(descriptor))
                if (status.st_dev, status.st_ino) == identity:
                    return status.st_nlink > 0
    return False


@contextmanager
def alone_in(folder: Path, *, patience: float) -> Iterator[None]:
    """A block in which nobody else is for this folder, where its file system has locks.

    Waits for whoever has it. Raises BlockingIOError where that takes longer than *patience*, in
    seconds, and OSError where the folder cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(descriptor, patience)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, patience: float) -> None:
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
            time.sleep(0.02)
        except OSError:
            return  # it has none
        else:
            return


def use_wal(
    connection: sqlite3.Connection, path: Path, *, patience: float, look: Callable[[], None]
) -> None:
    """Turn WAL on; it stays on, and is had alone: whoever reads *path* meanwhile is in the way.

    Tries again for *patience*, in seconds; the *connection* waits for no lock afterwards. Calls
    *look* after each attempt that fails, which raises what it likes where the file is not worth
    waiting for any more. Raises ConfigurationError where the file is no database, is not to be had
    alone, or is where WAL cannot be had.
    """
    began, told = time.monotonic(), False
    for attempt in count(1):
        # SQLite holds up those who come while it waits, which should be rare. But where it never
        # does, readers that overlap are never all gone.
        held_up = 0.0 if attempt % _HOLD_UP_EACH else _HOLD_UP_SECONDS
        try:
            connection.execute(f"PRAGMA busy_timeout = {round(held_up * 1000)}")
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.DatabaseError as error:
            look()  # what SQLite says may be of a file that is not there any more
            if not isinstance(error, sqlite3.OperationalError) or "locked" not in str(error):
                raise unusable(path, str(error)) from None
            waited = time.monotonic() - began
            if waited >= _TOLD_SECONDS and not told:
                told = True
                _logger.warning(
                    "the catalog %s is not in WAL mode so far, and somebody reads or writes it; "
                    "waiting",
                    path,
                )
            if waited >= patience:
                raise unusable(
                    path, f"{error}; somebody reads or writes it, and it is not in WAL mode so far"
                ) from None
            time.sleep(0.02)
        else:
            connection.execute("PRAGMA busy_timeout = 0")
            break
    if mode != "wal":
        raise unusable(path, "its file system has no shared memory")


def open_connection(
    path: Path, *, timeout: float = 5.0, check_same_thread: bool = True
) -> sqlite3.Connection:
    """A connection to the file at *path*, which is not made where there is none.

    Its statements wait *timeout* seconds for a lock. Raises sqlite3.OperationalError where the file
    cannot be opened; what is no database is noticed by the first statement only.
    """
    uri = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=timeout, check_same_thread=check_same_thread)


def refuse_unusable(path: Path, *, patience: float = _LOOK_PATIENCE) -> None:
    """Raise ConfigurationError unless there is a catalog at *path*, and up to date.

    So too where somebody has it for himself for longer than *patience*, in seconds.
    """
    if file_at(path) is None:
        raise ConfigurationError(
            f"there is no catalog {path}: run `soda-service ingest`, or say in SODA_CATALOG where "
            "it is"
        )
    try:
        with closing(open_connection(path, timeout=patience)) as connection:
            revision = _revision(connection, path)
    except sqlite3.DatabaseError as error:
        raise unusable(path, str(error)) from None
    if revision is None:
        raise ConfigurationError(f"the catalog {path} is an empty file: run `soda-service ingest`")
    if revision != HEAD:
        raise ConfigurationError(
            f"the catalog {path} was made by another version of the service: `soda-service ingest` "
            "or `soda-service serve` bring an older one up to date"
        )


def is_current(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether *connection* reads a catalog that is up to date; *path* is for messages.

    Raises ConfigurationError for another program's database, and sqlite3.DatabaseError for what is
    none, or is locked longer than the connection waits.
    """
    return _revision(connection, path) == HEAD


def _revision(connection: sqlite3.Connection, path: Path) -> str | None:
    """Of the catalog's schema, None of a file without any; raises ConfigurationError likewise."""
    (identity,) = connection.execute("PRAGMA application_id").fetchone()
    if identity == APPLICATION_ID:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return "" if row is None else str(row[0])
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if identity or tables:
        raise ConfigurationError(f"{path} is a database, but not a catalog of this service")
    return None


def calls_itself_a_catalog(path: Path) -> bool:
    """Whether a file has the mark of catalogs (SQLite's file format §1.3.17).

    SQLite does not open it, nor what is beside it. Not for a file that this process has open: to
    close it lets go of all locks that SQLite has on it. Raises OSError where it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(100)[68:72] == APPLICATION_ID.to_bytes(4, "big")


def unusable(path: Path, reason: str) -> ConfigurationError:
    """What is to be raised where SQLite or the system gives *reason* not to use the catalog."""
    if reason.startswith(_CANNOT_OPEN):
        reason += "; its folder or disk may be read-only or full"
    return ConfigurationError(f"the catalog {path} cannot be used: {reason}")
