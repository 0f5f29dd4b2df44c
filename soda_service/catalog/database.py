"""The catalog's database: which file it is, and the transactions on that.

SQLite in WAL mode: readers never wait for the writer nor it for them. Reading
transactions see one state from their first statement to their last; writing ones take the
writer's lock when they begin, so that they cannot fail half-way for want of it.

Where another file is put in the place of the open one it may be gone over to, if it is a catalog
and once what SQLite keeps beside the old one is out of its way: `openfile` has each of the two,
`catalogfile` makes files and judges them. Nothing is written to a file that is not under the
catalog's name any more, nor to one that has come back without what was beside it: nobody else
would see that.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from math import inf
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import DatabaseError, OperationalError

from soda_service.catalog.catalogfile import (
    BESIDE,
    calls_itself_a_catalog,
    is_current,
    make_file,
    open_connection,
    refuse_unusable,
    unusable,
    use_wal,
)
from soda_service.catalog.openfile import PATIENCE, OpenFile, driver_of
from soda_service.catalog.presence import file_at
from soda_service.catalog.upgrade import migrate
from soda_service.errors import ConfigurationError, SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sqlalchemy import Connection

_LOOK_SECONDS: Final = 0.5
"""Between two looks at which file is under the catalog's name."""

_TOLD_SECONDS: Final = 3.0
"""After which the log is told that a file cannot be used: it may have been in the making."""

_CLOSE_SECONDS: Final = 2.0
"""How long the end waits for a look that is under way, and for the lock of the folder."""

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
        self._told_of: tuple[int, int] | None = None
        """Which file that is."""
        self._look_lock = threading.Lock()
        if make:
            make_file(path)
        self._file = OpenFile(path, 0)
        self._before: list[OpenFile] = []
        """Answers on their way may read them, and until the next look whoever had one in hand."""
        try:
            if make:
                self._prepare()
            else:
                # Who closes it last has it for himself while he takes away what is beside it.
                refuse_unusable(path, patience=PATIENCE)
            self._file.open(patience=PATIENCE)
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
        with file.begin_writing(patience) as connection:
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
                told = False
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
        if there != self._told_of:
            self._told_of, self._in_vain = there, None
        if not self._file.is_lost:
            return self._fault_in_place()
        if self._follower is None:
            return "The file of the catalog is another one now."
        reason = self._go_over(there)
        if reason is None:
            self._in_vain = None
            _logger.info("the catalog %s is served from another file now", self.path)
            return None
        served = "nothing" if self._file.is_closed else "the one before"
        self._tell_in_vain(f"{reason}; {served} is served meanwhile")
        if self._file.is_closed:
            return "The file of the catalog was away, and cannot be used so far."
        return "The file of the catalog is another one now, which cannot be used so far."

    def _fault_in_place(self) -> str | None:
        """What is wrong with the open file, which is where it should be."""
        try:
            self._file.note_beside()
        except sqlite3.DatabaseError as error:
            self._tell_in_vain(str(unusable(self.path, str(error))))
            return "The file of the catalog cannot be read any more."
        self._in_vain = None
        return None

    def _tell_in_vain(self, reason: str) -> None:
        """Tell the log, once, of a file that cannot be used for some time."""
        now = time.monotonic()
        if self._in_vain is None:
            self._in_vain = now
        if now - self._in_vain >= _TOLD_SECONDS:
            self._in_vain = inf
            _logger.error("%s", reason)

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
        fresh = OpenFile(self.path, self._file.number + 1)
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
            said = unusable(self.path, str(error)) if isinstance(error, sqlite3.Error) else error
            return str(said)
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
        with closing(open_connection(self.path, timeout=0.0)) as alone:
            use_wal(alone, self.path, patience=PATIENCE, look=self._file.refuse_lost)
        while True:
            try:
                with self._file.begin_writing() as connection:
                    migrate(connection, self.path, driver=driver_of(connection))
            except OperationalError as error:
                if "locked" not in str(error.orig):
                    raise
                # It may be bringing the catalog up to date, which takes as long as it takes.
                _logger.warning("another process writes to the catalog %s; waiting", self.path)
            else:
                return


def _reason(error: Exception) -> str:
    return str(error.orig if isinstance(error, DatabaseError) else error)
