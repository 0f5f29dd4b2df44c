"""Batches: datasets that have been read wait for each other, and are written together.

Only what lasts counts as done, also where the user stops the ingest between the two.
"""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self

from soda_service.catalog.writing import Refused, Written

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from soda_service.catalog.crew import IndexTask
    from soda_service.catalog.holdings import Holdings
    from soda_service.catalog.indexer import Place
    from soda_service.catalog.rows import DatasetRows
    from soda_service.catalog.tally import Tally
    from soda_service.catalog.writing import LookAtObject, Outcome

_BATCH: Final = 100
"""Datasets written in one transaction."""

_BATCH_BYTES: Final = 8 * 1024**2
"""Of the compressed headers of a batch, about."""

_BATCH_SECONDS: Final = 0.5
"""How long a dataset waits for its batch to fill."""

_TOLD_AT_ONCE: Final = 1_000


class Batches:
    """The datasets of one ingest on their way into the catalog."""

    def __init__(self, holdings: Holdings, scan: int, tally: Tally, look: LookAtObject) -> None:
        """*look* tells what the objects of other rows are now."""
        self._holdings = holdings
        self._scan = scan
        self._tally = tally
        self._look = look
        self._saved: set[tuple[str, str | None]] = set()
        self._waiting: list[tuple[IndexTask, DatasetRows]] = []
        self._waiting_bytes = 0
        self._written_at = time.monotonic()

    def put(self, task: IndexTask, rows: DatasetRows) -> None:
        """Let a dataset wait."""
        self._waiting.append((task, rows))
        self._waiting_bytes += rows.header_bytes

    @property
    def is_due(self) -> bool:
        """Whether what waits is to be written now."""
        return (
            len(self._waiting) >= _BATCH
            or self._waiting_bytes > _BATCH_BYTES
            or time.monotonic() - self._written_at > _BATCH_SECONDS
        )

    def write(self, contested: PutAside, *, deciding: bool = False) -> None:
        """Make lasting what has come in; only then does it count as done.

        What is contested is put aside; when *deciding*, it is what was put aside.
        """
        self._written_at = time.monotonic()
        if not self._waiting:
            return
        with _interrupts_held():
            self._write_waiting(contested, deciding=deciding)

    def _write_waiting(self, contested: PutAside, *, deciding: bool) -> None:
        batch, self._waiting, self._waiting_bytes = self._waiting, [], 0
        for task, _ in batch:
            self._save(task.place, None)
        outcomes = self._holdings.write(
            [rows for _, rows in batch],
            self._scan,
            overtaking=contested if deciding else (),
            look=self._look,
        )
        done = 0
        for (task, rows), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Refused) and outcome.has_changed and not deciding:
                contested.put(task, outcome.path)
            else:
                done += 1
                self._report(task, rows, outcome)
            if not isinstance(outcome, Refused):
                self.save_root(task.place)
        self._tally.advance(done, batch[-1][0].path)

    def save_root(self, place: Place) -> None:
        """Let the catalog know the collection and its root, of which a file is in it.

        Not of a file that turns out to be none: its folder would be a root for ever after.
        """
        self._save(place, place.root)

    def _save(self, place: Place, root: str | None) -> None:
        key = (place.collection, root)
        if key not in self._saved:
            self._saved |= {key, (place.collection, None)}
            self._holdings.save_collection(place.collection, root, place.config)

    def _report(self, task: IndexTask, rows: DatasetRows, outcome: Outcome) -> None:
        match outcome:
            case Written.MOVED:
                self._tally.report.moved += 1
            case Written.ADDED if task.known_id is None:
                self._tally.report.added += 1
            case Written():  # also where the row of the path went with the dataset that it held
                self._tally.report.changed += 1
            case Refused():
                removed = 0 if task.known_id is None else self._holdings.remove(task.path)
                is_same = rows.publisher_did == outcome.publisher_did
                other = "" if is_same else ", but for small and capital letters,"
                self._tally.fail(
                    task.path,
                    f"its identifier {rows.publisher_did} is{other} already that of {outcome.path}",
                    removed=removed,
                )


class PutAside:
    """Files to be looked at again, and those whose identifiers they have.

    Kept in a database of this process alone, which SQLite puts on disk where it grows.
    """

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._kept = sqlite3.connect("", isolation_level=None)
        self._kept.execute("PRAGMA cache_size = -1024")  # kibibytes; the rest is on disk
        self._kept.execute("CREATE TABLE file (path TEXT PRIMARY KEY, fingerprint TEXT)")
        self._kept.execute("CREATE TABLE holder (path TEXT PRIMARY KEY)")
        self._told = 0

    def put(self, task: IndexTask, holder: str) -> None:
        """Remember the file, its place, and the file that has its identifier."""
        self._places[task.place.fingerprint] = task.place
        row = task.path, task.place.fingerprint
        self._kept.execute("INSERT OR REPLACE INTO file VALUES (?, ?)", row)
        self._kept.execute("INSERT OR IGNORE INTO holder VALUES (?)", [holder])

    def others(self) -> list[str]:
        """Some files that have the identifiers of these and are not among them, each told once."""
        rows = self._kept.execute(
            "SELECT rowid, path FROM holder"
            " WHERE rowid > ? AND path NOT IN (SELECT path FROM file) ORDER BY rowid LIMIT ?",
            [self._told, _TOLD_AT_ONCE],
        ).fetchall()
        self._told = max((row_id for row_id, _ in rows), default=self._told)
        return [path for _, path in rows]

    def __contains__(self, path: object) -> bool:
        found = self._kept.execute("SELECT 1 FROM file WHERE path = ?", [path]).fetchone()
        return found is not None

    def __iter__(self) -> Iterator[tuple[str, Place]]:
        for path, fingerprint in self._kept.execute(
            "SELECT path, fingerprint FROM file ORDER BY rowid"
        ):
            yield path, self._places[fingerprint]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C within the block counts at its end: what was written is counted, too."""
    handler = signal.getsignal(signal.SIGINT)
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or handler is not signal.default_int_handler:
        yield
        return
    came = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        came = True

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            raise KeyboardInterrupt
