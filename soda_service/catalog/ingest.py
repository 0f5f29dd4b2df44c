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
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Final, Self

from soda_service.catalog.crew import Crew, IndexTask
from soda_service.catalog.indexer import index
from soda_service.catalog.query import fold
from soda_service.catalog.store import CatalogStore
from soda_service.catalog.walk import Places, Walk, folder_of, includes, is_below
from soda_service.catalog.worker import IndexFailure
from soda_service.catalog.writing import Refused, Written
from soda_service.errors import SourceUnavailableError, UsageError
from soda_service.storage.remoteplace import place_of
from soda_service.storage.remotesettings import remote_limits
from soda_service.storage.source import is_remote
from soda_service.storage.stores import RemoteStores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from soda_service.catalog.dataset import Dataset
    from soda_service.catalog.indexer import Place
    from soda_service.catalog.rows import DatasetRows
    from soda_service.catalog.walk import FoundFile
    from soda_service.catalog.writing import Outcome
    from soda_service.config import CollectionsFile, Settings
    from soda_service.storage.source import FileVersion

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


_WAITING_WORKERS: Final = 8
"""Processes that read headers in stores: each waits for most of the time."""

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
    paths: Sequence[Path | str],
    settings: Settings,
    collections: CollectionsFile,
    *,
    collection: str | None = None,
    workers: int | None = None,
    move: bool = False,
    allow_empty: bool = False,
    progress: Progress | None = None,
    problem: Callable[[str, str], None] | None = None,
) -> IngestReport:
    """Bring the catalog up to date with the files and folders *paths*.

    A string is the URL of an object in a store, or of a place there that holds objects.
    What lies in a folder and is not (or no longer) in the catalog is added, what changed is
    replaced, and what the catalog has below the folder but is not found there any more is
    removed. So it is with a path that is gone itself. But where nothing at all is found at
    the root of a collection, or the root is gone, as when a disk is not mounted, its rows
    stay and it counts as failed, unless *allow_empty*. What could not be listed stays in any
    case.
    *collection* names the collection of all of them; to take files out of another one, whereby
    their identifiers change, it needs *move*. *progress* is told (files
    done, files in all if known, path), and *problem* (path, reason) of each failure. Raises
    ConfigurationError for a catalog that cannot be used and for a URL or the settings of a
    store that cannot be right, UsageError for a *collection* that
    cannot be a name and for files of another one, IngestInterrupted where the user stops it.
    """
    store = CatalogStore(settings)
    crew = Crew(workers or _workers_for(paths))
    stores = RemoteStores((), limits=remote_limits(settings))
    try:
        rows = store.collection_rows()
        if collection is not None and not move:
            _refuse_renaming(paths, collection, store)
        run = _Ingest(
            store,
            crew,
            Places(settings, collections, rows, named=collection, stores=stores),
            stores,
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
        stores.close()
        store.close()


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


def index_file(
    path: Path | str,
    settings: Settings,
    collections: CollectionsFile,
    stores: RemoteStores | None = None,
) -> Dataset:
    """The dataset in the file *path* as ingest would make it, without a catalog.

    *path* may be a URL where there are *stores*; they learn of its place. Raises
    UnknownDatasetError, SourceUnavailableError, CorruptFileError, ConfigurationError.
    """
    located = _located(path)
    folder = folder_of(located)
    place = Places(settings, collections, (), stores=stores).of(folder, folder)
    return index(located, place, stores=stores)


def _refuse_renaming(paths: Sequence[Path | str], collection: str, store: CatalogStore) -> None:
    """Raise UsageError where files of *paths* are in the catalog in another collection."""
    for path in paths:
        located = _located(path)
        for name, count in store.collections_below(located).items():
            if fold(name) != fold(collection):
                files = f"{count} file{'s' * (count > 1)}"
                raise UsageError(
                    f"{files} at {located} belong to the collection {name}; in {collection} their "
                    "identifiers would be others. Leave out --collection to keep them, or say "
                    "--move as well to move them"
                )


def _workers_for(paths: Sequence[Path | str]) -> int:
    """As many as there are cores, and more where they mostly wait for stores."""
    cores = os.cpu_count() or 1
    is_waiting = any(isinstance(path, str) and is_remote(path) for path in paths)
    return max(cores, _WAITING_WORKERS) if is_waiting else cores


class _Ingest:
    """One run."""

    def __init__(
        self,
        store: CatalogStore,
        crew: Crew,
        places: Places,
        stores: RemoteStores,
        *,
        allow_empty: bool,
        progress: Progress,
        problem: Callable[[str, str], None],
    ) -> None:
        self.report = IngestReport()
        self._store = store
        self._crew = crew
        self._places = places
        self._stores = stores
        self._allow_empty = allow_empty
        self._progress = progress
        self._problem = problem
        self._scan = store.begin_scan()
        self._saved: set[tuple[str, str | None]] = set()
        self._empty_roots: list[str] = []
        """Roots that the catalog has datasets of and of which no file has been found so far."""
        self._guarded: list[str] = []
        """Folders of stores that look empty and are not taken at their word."""
        self._waiting: list[tuple[IndexTask, DatasetRows]] = []
        self._waiting_bytes = 0
        self._written_at = time.monotonic()
        self._done = 0
        self._found = 0
        self._total: int | None = None

    def run(self, paths: Sequence[Path | str], *, excluded: Path) -> None:
        walk = Walk(self._places, excluded=excluded, problem=self._fail, stores=self._stores)
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
        kept = [*walk.unread, *self._guarded, *self._refuse_empty_roots(walk.unread)]
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
            is_unread = any(is_below(one, root) or is_below(root, one) for one in unread)
            if not count or is_told or is_unread:
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

    def _sorted(self, paths: Sequence[Path | str]) -> tuple[list[str], list[str]]:
        """The folders, those within others left out, and the files among *paths*."""
        located = list(dict.fromkeys(_located(path) for path in paths))
        as_folders = {_located(path) for path in paths if str(path).endswith("/")}
        folders = [path for path in located if not is_remote(path) and Path(path).is_dir()]
        files: list[str] = []
        for path in located:
            if path in folders:
                continue
            if is_remote(path):
                is_file = path not in as_folders and self._is_object(path)
                (files if is_file else folders).append(path)
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

    def _is_object(self, url: str) -> bool:
        """Whether *url* is an object rather than what others lie below.

        A web server may have a page there: what has a file's name is one.
        """
        place = place_of(url)
        if not place.key:
            return False
        config = self._places.of(url, url).config
        if place.scheme in {"http", "https"}:
            return self._store.has_file(url) or includes(config, place.key)
        try:
            return self._stores.version_of(url) is not None or self._store.has_file(url)
        except SourceUnavailableError:
            return False  # to list it will fail as well, and say why

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
            elif path in walk.vanished:
                self._take_vanished(path)
        for folder in folders:
            before = self._found, self.report.failures
            for found in walk.files(folder):
                yield self._noted(found)
            if (self._found, self.report.failures) != before:
                continue
            if self._store.has_below(folder):
                self._guard(folder)
            else:
                patterns = ", ".join(self._places.of(folder, folder).config.include)
                self._fail(folder, f"no file in it has a name like {patterns}")

    def _guard(self, folder: str) -> None:
        """Keep what the catalog has below a folder of a store that answers as if it were empty.

        Some web servers that are out of order do: then their whole root is empty, too.
        """
        if not is_remote(folder) or self._allow_empty or folder in self._empty_roots:
            return
        missing = self._places.missing_root(folder)
        if missing is not None and self._store.has_below(missing):
            self._guarded.append(folder)
            self._fail(
                folder,
                f"{missing}, the root of a collection, is empty or not there. Its datasets stay in "
                "the catalog; --allow-empty removes them",
            )

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
                is_same = row is not None and row.version.is_of_same_content(file.version)
                if row is not None and is_same and row.fingerprint == file.place.fingerprint:
                    unchanged.append(row.row_id)
                    self._save_collection(file.place)
                else:
                    tasks.append(
                        IndexTask(
                            path=file.path,
                            place=file.place,
                            known_id=row.row_id if row else None,
                            version=file.version if is_remote(file.path) else None,
                        )
                    )
            if unchanged:
                self._store.mark_seen(unchanged, self._scan)
                self.report.unchanged += len(unchanged)
                self._advance(len(unchanged), gulp[-1].path)
            yield from tasks

    def _save_collection(self, place: Place) -> None:
        """Let the catalog know the collection and its root, of which a file is in it.

        Not of a file that turns out to be none: its folder would be a root for ever after.
        """
        self._save(place, place.root)

    def _save(self, place: Place, root: str | None) -> None:
        key = (place.collection, root)
        if key not in self._saved:
            self._saved |= {key, (place.collection, None)}
            self._store.save_collection(place.collection, root, place.config)

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
        with _interrupts_held():
            self._write_waiting(contested)

    def _write_waiting(self, contested: _PutAside | None) -> None:
        batch, self._waiting, self._waiting_bytes = self._waiting, [], 0
        for task, _ in batch:
            self._save(task.place, None)
        outcomes = self._store.write(
            [rows for _, rows in batch],
            self._scan,
            overtaking=contested is None,
            look=self._look_at_object,
        )
        done = 0
        for (task, rows), outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Refused) and outcome.has_changed and contested is not None:
                contested.put(task)
            else:
                done += 1
                self._report(task, rows, outcome)
            if not isinstance(outcome, Refused):
                self._save_collection(task.place)
        self._advance(done, batch[-1][0].path)

    def _look_at_object(self, url: str) -> FileVersion | None:
        """What the object of another row is now."""
        self._places.of(folder_of(url), folder_of(url))
        return self._stores.version_of_known(url)

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


def _located(path: Path | str) -> str:
    """The absolute path, links on the way to it resolved, but its own name as it was given.

    Of a URL in a store, the one form that the catalog has.
    """
    if isinstance(path, str):
        if is_remote(path):
            return place_of(path).url
        path = Path(path)
    absolute = path.absolute()
    if absolute.is_dir():
        return str(absolute.resolve())
    return str(absolute.parent.resolve() / absolute.name)


def _no_progress(done: int, total: int | None, current: str) -> None:
    """Tell nobody."""


def _no_problem(path: str, reason: str) -> None:
    """Tell nobody."""
