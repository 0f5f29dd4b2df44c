"""Ingest: the catalog is made to say what the files say.

Other processes read the headers; this one alone writes, in short transactions, so that it
may be stopped at any moment and a service may answer meanwhile. Memory does not grow with
the number of files.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from soda_service.catalog.crew import Crew, IndexTask
from soda_service.catalog.indexer import index
from soda_service.catalog.store import CatalogStore, Refused, Written
from soda_service.catalog.walk import Places, Walk, is_below
from soda_service.catalog.worker import IndexFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from soda_service.catalog.dataset import Dataset
    from soda_service.catalog.indexer import Place
    from soda_service.catalog.rows import DatasetRows
    from soda_service.catalog.walk import FoundFile
    from soda_service.config import CollectionsFile, Settings

    Progress = Callable[[int, int | None, str], None]

_LOOKED_UP: Final = 400
"""Files compared with the catalog at once."""

_AHEAD: Final = 10_000
"""Files found ahead of being looked at, so that small ingests know their total at once."""

_BATCH: Final = 100
"""Datasets written in one transaction."""

_BATCH_SECONDS: Final = 0.5
"""How long a dataset waits for its batch to fill."""


@dataclass(slots=True, kw_only=True)
class IngestReport:
    """What an ingest did."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    """Path and reason of each file or folder that could not be read."""


def ingest(
    paths: Sequence[Path],
    settings: Settings,
    collections: CollectionsFile,
    *,
    collection: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Bring the catalog up to date with the files and folders *paths*.

    What lies in a folder and is not (or no longer) in the catalog is added, what changed is
    replaced, and what the catalog has below the folder but is not found there any more is
    removed. So it is with a path that is gone itself, unless the root of its collection is
    gone too, as when a disk is not mounted: then the rows stay and it counts as failed.
    *collection* names the collection of all of them; *progress* is told (files
    done, files in all if known, path). Raises ConfigurationError for a catalog that cannot
    be used, UsageError for a *collection* that cannot be a name.
    """
    store = CatalogStore(settings)
    crew = Crew(workers or os.cpu_count() or 1)
    try:
        run = _Ingest(
            store,
            crew,
            Places(settings, collections, store.collection_rows(), named=collection),
            progress,
        )
        run.run(paths, excluded=settings.cache_dir)
        return run.report
    finally:
        crew.close()
        store.close()


def index_file(path: Path, settings: Settings, collections: CollectionsFile) -> Dataset:
    """The dataset in the file *path* as ingest would make it, without a catalog.

    Raises UnknownDatasetError, SourceUnavailableError, CorruptFileError.
    """
    located = _located(path)
    folder = str(Path(located).parent)
    return index(located, Places(settings, collections, ()).of(folder, folder))


class _Ingest:
    """One run."""

    def __init__(
        self, store: CatalogStore, crew: Crew, places: Places, progress: Progress | None
    ) -> None:
        self.report = IngestReport()
        self._store = store
        self._crew = crew
        self._places = places
        self._progress = progress or _no_progress
        self._scan = store.begin_scan()
        self._saved: set[str] = set()
        self._waiting: list[tuple[IndexTask, DatasetRows]] = []
        self._written_at = time.monotonic()
        self._done = 0
        self._found = 0
        self._total: int | None = None

    def run(self, paths: Sequence[Path], *, excluded: Path) -> None:
        walk = Walk(self._places, excluded=excluded, problem=self._fail)
        folders, files = self._sorted(paths)
        found = self._counted(self._all_files(walk, folders, files))
        for outcome in self._crew.index(self._to_index(found)):
            if outcome is not None:
                self._take(*outcome)
            if len(self._waiting) >= _BATCH or time.monotonic() - self._written_at > _BATCH_SECONDS:
                self._write()
        self._write()
        for folder in folders:
            self.report.removed += self._store.remove_unseen(folder, self._scan, unread=walk.unread)

    def _sorted(self, paths: Sequence[Path]) -> tuple[list[str], list[str]]:
        """The folders, those within others left out, and the files among *paths*."""
        located = list(dict.fromkeys(_located(path) for path in paths))
        folders = [path for path in located if Path(path).is_dir()]
        files = []
        for path in located:
            if path in folders:
                continue
            try:
                os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                self._take_vanished(path)
            except OSError as error:
                self._fail(path, f"cannot be looked at: {error.strerror}")
            else:
                files.append(path)
        outermost = [
            one
            for one in folders
            if not any(one != other and is_below(one, other) for other in folders)
        ]
        return outermost, files

    def _take_vanished(self, path: str) -> None:
        """Remove what the catalog has at *path* and below, where nothing is any more."""
        missing = self._places.missing_root(path)
        if missing is not None and self._store.has_below(missing):
            self._fail(
                path,
                f"{missing}, the root of a collection, is not there: is its disk mounted? "
                "Its datasets stay in the catalog",
            )
            return
        removed = self._store.remove(path) + self._store.remove_unseen(path, self._scan)
        self.report.removed += removed
        if not removed:
            self._fail(path, "nothing is there, and the catalog has nothing of it")

    @staticmethod
    def _all_files(walk: Walk, folders: list[str], files: list[str]) -> Iterator[FoundFile]:
        for path in files:
            found = walk.file(path)
            if found is not None:
                yield found
        for folder in folders:
            yield from walk.files(folder)

    def _counted(self, files: Iterator[FoundFile]) -> Iterator[FoundFile]:
        """*files*, found somewhat ahead; the total is known once the last has been found."""
        while ahead := list(islice(files, _AHEAD)):
            self._found += len(ahead)
            if len(ahead) < _AHEAD:
                self._total = self._found
            yield from ahead

    def _to_index(self, files: Iterator[FoundFile]) -> Iterator[IndexTask]:
        """What is new or has changed among *files*; the rest is noted as seen."""
        while gulp := list(islice(files, _LOOKED_UP)):
            known = self._store.versions([file.path for file in gulp])
            unchanged: list[int] = []
            tasks: list[IndexTask] = []
            for file in gulp:
                row = known.get(file.path)
                self._save_collection(file.place)
                if row is not None and row[1:] == (
                    file.size,
                    file.modified_ns,
                    file.place.fingerprint,
                ):
                    unchanged.append(row[0])
                else:
                    tasks.append(
                        IndexTask(
                            path=file.path, place=file.place, known_id=row[0] if row else None
                        )
                    )
            if unchanged:
                self._store.mark_seen(unchanged, self._scan)
                self.report.unchanged += len(unchanged)
                self._advance(len(unchanged), gulp[-1].path)
            yield from tasks

    def _save_collection(self, place: Place) -> None:
        key = f"{place.collection}/{place.root}"
        if key not in self._saved:
            self._saved.add(key)
            self._store.save_collection(place.collection, place.root, place.config)

    def _take(self, task: IndexTask, indexed: DatasetRows | IndexFailure) -> None:
        if not isinstance(indexed, IndexFailure):
            self._waiting.append((task, indexed))
            return
        self._fail(task.path, indexed.reason)
        if task.known_id is not None:
            # A file that cannot be read just now keeps its row; one that is broken does not.
            if indexed.lasting:
                self._remove(task.path)
            else:
                self._store.mark_seen([task.known_id], self._scan)
        self._advance(1, task.path)

    def _write(self) -> None:
        """Make lasting what has come in; only then does it count as done."""
        self._written_at = time.monotonic()
        if not self._waiting:
            return
        batch, self._waiting = self._waiting, []
        outcomes = self._store.write([rows for _, rows in batch], self._scan)
        for (task, rows), outcome in zip(batch, outcomes, strict=True):
            match outcome:
                case Written.ADDED:
                    self.report.added += 1
                case Written.CHANGED:
                    self.report.changed += 1
                case Refused():
                    self._fail(
                        task.path,
                        f"its identifier {rows.publisher_did} is already that of {outcome.path}",
                    )
                    if task.known_id is not None:
                        self._remove(task.path)
        self._advance(len(batch), batch[-1][0].path)

    def _remove(self, path: str) -> None:
        self.report.removed += self._store.remove(path)

    def _fail(self, path: str, reason: str) -> None:
        self.report.failed.append((path, reason))

    def _advance(self, count: int, path: str) -> None:
        self._done += count
        self._progress(self._done, self._total, path)


def _located(path: Path) -> str:
    """The absolute path, links on the way to it resolved, but its own name as it was given."""
    absolute = path.absolute()
    if absolute.is_dir():
        return str(absolute.resolve())
    return str(absolute.parent.resolve() / absolute.name)


def _no_progress(done: int, total: int | None, current: str) -> None:
    """Tell nobody."""
