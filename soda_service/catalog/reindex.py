"""A dataset of the catalog indexed anew, because its file has changed.

Whoever may write to the archive may have put anything there, and somebody waits for the
answer: a process of its own reads the headers, and is ended when it takes too long. Starting
one takes half a second, so it is kept for the next file, for a while.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy.exc import OperationalError

from soda_service.catalog.crew import Crew, IndexTask
from soda_service.catalog.indexer import place_in
from soda_service.catalog.query import fold
from soda_service.catalog.rows import dataset_of
from soda_service.catalog.walk import is_below
from soda_service.catalog.worker import IndexFailure
from soda_service.errors import CorruptFileError, SourceUnavailableError, UnknownDatasetError
from soda_service.storage import disks
from soda_service.storage.disks import DiskHangsError, disk_of
from soda_service.storage.remoteplace import place_of
from soda_service.storage.source import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from soda_service.catalog.dataset import Dataset
    from soda_service.catalog.indexer import Place
    from soda_service.catalog.rows import DatasetRows
    from soda_service.catalog.store import CatalogStore
    from soda_service.config import Settings
    from soda_service.storage.disks import Touch

    _Outcome = tuple[IndexTask, DatasetRows | IndexFailure] | None

SECONDS: Final = 60.0
"""How long a file may take while a client waits; `ingest` has more patience."""

_PATIENCE: Final = 2.0
"""Seconds that a client waits for another writer: it need not be stored to be answered."""

IDLE_SECONDS: Final = 30.0
"""How long a process is kept that has nothing to do: it takes a hundred megabytes."""

_FILES_EACH: Final = 500
"""Files that one process reads before another takes its place."""

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Reader:
    """A process that reads headers, or will when it is needed."""

    crew: Crew
    files: int = 0
    idle_since: float = 0.0


class _Rest(NamedTuple):
    """Why a file could not be read, and until when nobody tries again."""

    end: float
    reason: str


class Reindexer:
    """Indexes changed files anew. Safe to use from several threads; to be closed."""

    def __init__(self, store: CatalogStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._lock = threading.Lock()
        self._idle: list[_Reader] = []
        self._resting: dict[str, _Rest] = {}
        """By their URLs, files that could not be read."""
        self._timer: threading.Timer | None = None
        self._is_closed = False

    def reindexed(self, dataset: Dataset) -> Dataset:
        """The dataset that the file of *dataset* holds now; stored, where the catalog lets itself.

        Raises UnknownDatasetError; CorruptFileError, also where reading the file ended the process
        that did it; SourceUnavailableError where that took too long, its disk does not answer, or
        it did not let itself be read a moment ago. Such a file is left alone for as long as it
        took, so that those of others have their turns.
        """
        place = _place_of(dataset, self._store, self._settings)
        self._refuse_resting(dataset.url)
        began = time.monotonic()
        try:
            rows = self._read(
                IndexTask(
                    path=dataset.url,
                    place=place,
                    known_id=None,
                    earlier_local_part=dataset.local_part,
                )
            )
            if isinstance(rows, IndexFailure):
                if rows.vanished:
                    raise UnknownDatasetError(dataset.publisher_did, "its file is gone")
                kind = CorruptFileError if rows.lasting else SourceUnavailableError
                raise kind(rows.reason, path=dataset.url)
        except SourceUnavailableError as error:
            self._let_rest(dataset.url, began, str(error))
            raise
        try:
            self._store.holdings.write([rows], patience=_PATIENCE)
        except (OperationalError, SourceUnavailableError) as error:
            # Another one writes for long, or the catalog is gone: the file can be cut all the same.
            reason = getattr(error, "orig", error)
            _logger.warning("cannot store %s anew: %s", dataset.publisher_did, reason)
        return dataset_of(rows.dataset, rows.hdus, place.config)

    def close(self) -> None:
        """End the processes that have nothing to do, and the others when they have not."""
        with self._lock:
            self._is_closed = True
            ended, self._idle = self._idle, []
            if self._timer is not None:
                self._timer.cancel()
        for reader in ended:
            reader.crew.close()

    def _refuse_resting(self, url: str) -> None:
        with self._lock:
            rest = self._resting.get(url)
        if rest is not None and time.monotonic() < rest.end:
            raise SourceUnavailableError(rest.reason, path=url)

    def _let_rest(self, url: str, began: float, reason: str) -> None:
        now = time.monotonic()
        with self._lock:
            self._resting = {url: one for url, one in self._resting.items() if now < one.end}
            self._resting[url] = _Rest(now + (now - began), reason)

    def _read(self, task: IndexTask) -> DatasetRows | IndexFailure:
        with self._lock:
            reader = self._idle.pop() if self._idle else None
        if reader is None:
            reader = _Reader(Crew(1, file_seconds=SECONDS))
        try:
            reader.crew.drop_ended()
            rows = _answer_of(reader.crew, task)
        except BaseException:
            reader.crew.close()
            raise
        reader.files += 1
        self._keep(reader)
        return rows

    def _keep(self, reader: _Reader) -> None:
        with self._lock:
            if not self._is_closed and reader.files < _FILES_EACH:
                reader.idle_since = time.monotonic()
                self._idle.append(reader)
                self._wait()
                return
        reader.crew.close()

    def _wait(self) -> None:
        """Have the idle ended in time; under the lock."""
        if self._timer is None:
            self._timer = threading.Timer(IDLE_SECONDS, self._end_idle)
            self._timer.daemon = True
            self._timer.start()

    def _end_idle(self) -> None:
        with self._lock:
            self._timer = None
            last = time.monotonic() - IDLE_SECONDS / 2
            ended = [one for one in self._idle if one.idle_since < last]
            self._idle = [one for one in self._idle if one.idle_since >= last]
            if self._idle:
                self._wait()
        for reader in ended:
            reader.crew.close()


def _answer_of(crew: Crew, task: IndexTask) -> DatasetRows | IndexFailure:
    """What came of *task*. Raises DiskHangsError where its disk does not answer."""
    if is_remote(task.path):  # stores have time-outs
        return _first(crew.index([task]))
    with disk_of(task.path).touched(task.path) as touch:
        return _first(_while_it_works(crew, task, touch))


def _while_it_works(crew: Crew, task: IndexTask, touch: Touch) -> Iterator[_Outcome]:
    """What the crew gives. Who waits for a process is as lost in the disk as that one is.

    A process that takes no time of a processor waits for one answer; with each it goes on.
    """
    worked = 0
    for done in crew.index([task]):
        yield done
        before, worked = worked, crew.worked
        if worked != before:
            touch.goes_on()
        elif time.monotonic() - touch.since > disks.HANGS_SECONDS:
            crew.close()  # in here: it may take some seconds, too
            raise DiskHangsError(task.path)


def _first(outcomes: Iterable[_Outcome]) -> DatasetRows | IndexFailure:
    (rows,) = [done[1] for done in outcomes if done is not None]
    return rows


def _top_of(url: str) -> str:
    """A root that holds *url* in any case."""
    return place_of(url)._replace(key="").url if is_remote(url) else "/"


def _place_of(dataset: Dataset, store: CatalogStore, settings: Settings) -> Place:
    collection = next(
        (row for row in store.collection_rows() if fold(row.name) == fold(dataset.collection)),
        None,
    )
    if collection is None:
        raise UnknownDatasetError(dataset.publisher_did)
    roots = [root for root in collection.roots if is_below(dataset.url, root)]
    return place_in(
        settings,
        collection=collection.name,
        root=max(roots, key=len, default=_top_of(dataset.url)),
        config=collection.config,
    )
