"""Ingest: the catalog is made to say what the files say.

Other processes read the headers; this one alone writes, in short transactions, so that it
may be stopped at any moment and a service may answer meanwhile. Memory does not grow with
the number of files: what has been seen is noted in the catalog, not here.

A file whose identifier is that of another file, which has changed since, is put aside until
all others have been read: by then the catalog tells whether the other one still is that
dataset, and this one a copy to be refused, or whether the two have changed places.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Final, Self

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
    from soda_service.catalog.store import Outcome
    from soda_service.catalog.walk import FoundFile
    from soda_service.config import CollectionsFile, Settings

    Progress = Callable[[int, int | None, str], None]

_LOOKED_UP: Final = 400
"""Files compared with the catalog at once."""

_COUNTING_SECONDS: Final = 2.0
"""How long files may be counted beforehand, so that the total is known from the beginning."""

_BATCH: Final = 100
"""Datasets written in one transaction."""

_BATCH_BYTES: Final = 8 * 1024**2
"""Of the compressed headers of a batch, about."""

_BATCH_SECONDS: Final = 0.5
"""How long a dataset waits for its batch to fill."""


_FAILURES_KEPT: Final = 1_000

_SPOOLED_BYTES: Final = 64 * 1024


@dataclass(slots=True, kw_only=True)
class IngestReport:
    """What an ingest did."""

    added: int = 0
    changed: int = 0
    moved: int = 0
    """Files found at another path, whose datasets kept their identifiers."""
    unchanged: int = 0
    removed: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    """Path and reason of each file or folder that could not be read; the first 1,000."""
    failures: int = 0
    """All of them."""


class IngestInterrupted(KeyboardInterrupt):
    """The user stopped an ingest; what *report* tells of lasts."""

    def __init__(self, report: IngestReport) -> None:
        super().__init__()
        self.report = report


def ingest(
    paths: Sequence[Path],
    settings: Settings,
    collections: CollectionsFile,
    *,
    collection: str | None = None,
    workers: int | None = None,
    allow_empty: bool = False,
    progress: Progress | None = None,
    problem: Callable[[str, str], None] | None = None,
) -> IngestReport:
    """Bring the catalog up to date with the files and folders *paths*.

    What lies in a folder and is not (or no longer) in the catalog is added, what changed is
    replaced, and what the catalog has below the folder but is not found there any more is
    removed. So it is with a path that is gone itself. But where nothing at all is found at
    the root of a collection, or the root is gone, as when a disk is not mounted, its rows
    stay and it counts as failed, unless *allow_empty*.
    *collection* names the collection of all of them; *progress* is told (files
    done, files in all if known, path), and *problem* (path, reason) of each failure. Raises
    ConfigurationError for a catalog that cannot be used, UsageError for a *collection* that
    cannot be a name, IngestInterrupted where the user stops it.
    """
    store = CatalogStore(settings)
    crew = Crew(workers or os.cpu_count() or 1)
    try:
        run = _Ingest(
            store,
            crew,
            Places(settings, collections, store.collection_rows(), named=collection),
            allow_empty=allow_empty,
            progress=progress or _no_progress,
            problem=problem or _no_problem,
        )
        try:
            run.run(paths, excluded=settings.cache_dir)
        except KeyboardInterrupt:
            run.stop()
            raise IngestInterrupted(run.report) from None
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
        self,
        store: CatalogStore,
        crew: Crew,
        places: Places,
        *,
        allow_empty: bool,
        progress: Progress,
        problem: Callable[[str, str], None],
    ) -> None:
        self.report = IngestReport()
        self._store = store
        self._crew = crew
        self._places = places
        self._allow_empty = allow_empty
        self._progress = progress
        self._problem = problem
        self._scan = store.begin_scan()
        self._saved: set[str] = set()
        self._empty_roots: list[str] = []
        """Roots that the catalog has datasets of and of which no file has been found so far."""
        self._waiting: list[tuple[IndexTask, DatasetRows]] = []
        self._waiting_bytes = 0
        self._written_at = time.monotonic()
        self._done = 0
        self._found = 0
        self._total: int | None = None

    def run(self, paths: Sequence[Path], *, excluded: Path) -> None:
        walk = Walk(self._places, excluded=excluded, problem=self._fail)
        folders, files = self._sorted(paths)
        self._empty_roots = [
            root for root in self._places.roots() if self._is_at_risk(root, folders)
        ]
        self._total = self._count(folders, files, excluded)
        with _PutAside() as contested:
            self._index(self._to_index(self._all_files(walk, folders, files)), contested)
            self._total = self._found
            again = (walk.look_at(path, place) for path, place in contested)
            self._index(self._to_index(found for found in again if found is not None), None)
        kept = [*walk.unread, *self._refuse_empty_roots(walk.unread)]
        for folder in folders:
            self.report.removed += self._store.remove_unseen(folder, self._scan, unread=kept)

    def stop(self) -> None:
        """Make lasting what has been read."""
        self._write(None)

    def _index(self, tasks: Iterator[IndexTask], contested: _PutAside | None) -> None:
        """Read and write *tasks*; what is contested is put aside, or decided if that is None."""
        for outcome in self._crew.index(tasks):
            if outcome is not None:
                self._take(*outcome)
            if self._is_due():
                self._write(contested)
        self._write(contested)

    def _is_due(self) -> bool:
        return (
            len(self._waiting) >= _BATCH
            or self._waiting_bytes > _BATCH_BYTES
            or time.monotonic() - self._written_at > _BATCH_SECONDS
        )

    def _is_at_risk(self, root: str, folders: list[str]) -> bool:
        """Whether all datasets below *root* would go if no file of *folders* were found."""
        if self._allow_empty or not any(is_below(root, folder) for folder in folders):
            return False
        return self._store.has_below(root)

    def _refuse_empty_roots(self, unread: list[str]) -> list[str]:
        """The roots in which nothing was found, though the catalog has datasets below them.

        One in which a folder could not be listed is not empty.
        """
        refused: list[str] = []
        for root in self._empty_roots:
            count = self._store.count_below(root)
            is_told = any(is_below(root, other) for other in refused)
            if not count or is_told or any(is_below(folder, root) for folder in unread):
                continue
            refused.append(root)
            self._fail(
                root,
                "no file is found any more in this root of a collection: is its disk mounted? "
                f"Its {count} datasets stay in the catalog; --allow-empty removes them",
            )
        return refused

    def _count(self, folders: list[str], files: list[str], excluded: Path) -> int | None:
        """How many files there are to be looked at, if that can be told soon."""
        walk = Walk(self._places, excluded=excluded, problem=_no_problem)
        until = time.monotonic() + _COUNTING_SECONDS
        total = len(files)
        for folder in folders:
            count = walk.count(folder, until=until)
            if count is None:
                return None
            total += count
        return total

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
        missing = None if self._allow_empty else self._places.missing_root(path)
        if missing is not None and self._store.has_below(missing):
            self._fail(
                path,
                f"{missing}, the root of a collection, is empty or not there: is its disk "
                "mounted? Its datasets stay in the catalog; --allow-empty removes them",
            )
            return
        removed = self._store.remove(path) + self._store.remove_unseen(path, self._scan)
        self.report.removed += removed
        if not removed:
            self._fail(path, "nothing is there, and the catalog has nothing of it")

    def _all_files(self, walk: Walk, folders: list[str], files: list[str]) -> Iterator[FoundFile]:
        for path in files:
            found = walk.file(path)
            if found is not None:
                yield self._noted(found)
        for folder in folders:
            before = self._found, self.report.failures
            for found in walk.files(folder):
                yield self._noted(found)
            if (self._found, self.report.failures) == before and not self._store.has_below(folder):
                patterns = ", ".join(self._places.of(folder, folder).config.include)
                self._fail(folder, f"no file in it has a name like {patterns}")

    def _noted(self, found: FoundFile) -> FoundFile:
        self._found += 1
        if self._empty_roots:
            self._empty_roots = [
                root for root in self._empty_roots if not is_below(found.path, root)
            ]
        return found

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
            self._waiting_bytes += indexed.header_bytes
            return
        self._fail(task.path, indexed.reason)
        if task.known_id is not None:
            # A file that cannot be read just now keeps its row; one that is broken does not.
            if indexed.lasting:
                self._remove(task.path)
            else:
                self._store.mark_seen([task.known_id], self._scan)
        self._advance(1, task.path)

    def _write(self, contested: _PutAside | None) -> None:
        """Make lasting what has come in; only then does it count as done.

        With None for *contested*, what was put aside is decided.
        """
        self._written_at = time.monotonic()
        if not self._waiting:
            return
        batch, self._waiting, self._waiting_bytes = self._waiting, [], 0
        outcomes = self._store.write(
            [rows for _, rows in batch], self._scan, overtaking=contested is None
        )
        done = 0
        for (task, rows), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Refused) and outcome.has_changed and contested is not None:
                contested.put(task)
            else:
                done += 1
                self._report(task, rows, outcome)
        self._advance(done, batch[-1][0].path)

    def _report(self, task: IndexTask, rows: DatasetRows, outcome: Outcome) -> None:
        match outcome:
            case Written.MOVED:
                self.report.moved += 1
            case Written.ADDED if task.known_id is None:
                self.report.added += 1
            case Written():  # also where the row of the path went with the dataset that it held
                self.report.changed += 1
            case Refused():
                self._fail(
                    task.path,
                    f"its identifier {rows.publisher_did} is already that of {outcome.path}",
                )
                if task.known_id is not None:
                    self._remove(task.path)

    def _remove(self, path: str) -> None:
        self.report.removed += self._store.remove(path)

    def _fail(self, path: str, reason: str) -> None:
        self.report.failures += 1
        if len(self.report.failed) < _FAILURES_KEPT:
            self.report.failed.append((path, reason))
        self._problem(path, reason)

    def _advance(self, count: int, path: str) -> None:
        self._done += count
        total = self._total if self._total is None else max(self._total, self._done)
        self._progress(self._done, total, path)


class _PutAside:
    """Files to be looked at again, kept on disk where there are many."""

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._lines = SpooledTemporaryFile(  # noqa: SIM115 - closed with this object
            _SPOOLED_BYTES, mode="w+", encoding="ascii"
        )

    def put(self, task: IndexTask) -> None:
        self._places[task.place.fingerprint] = task.place
        self._lines.write(json.dumps([task.path, task.place.fingerprint]) + "\n")

    def __iter__(self) -> Iterator[tuple[str, Place]]:
        self._lines.seek(0)
        for line in self._lines:
            path, fingerprint = json.loads(line)
            yield path, self._places[fingerprint]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()


def _located(path: Path) -> str:
    """The absolute path, links on the way to it resolved, but its own name as it was given."""
    absolute = path.absolute()
    if absolute.is_dir():
        return str(absolute.resolve())
    return str(absolute.parent.resolve() / absolute.name)


def _no_progress(done: int, total: int | None, current: str) -> None:
    """Tell nobody."""


def _no_problem(path: str, reason: str) -> None:
    """Tell nobody."""
