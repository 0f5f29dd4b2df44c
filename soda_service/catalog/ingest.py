"""Ingest: the catalog is made to say what the files say.

Other processes read the headers; this one alone writes, in short transactions, so that it
may be stopped at any moment and a service may answer meanwhile. Memory does not grow with
the number of files: what has been seen is noted in the catalog, not here.

A file whose identifier is that of another file, which has changed since, is put aside until
all others have been read, the other one in any case: by then the catalog tells whether that
still is the dataset, and this one a copy to be refused, or whether the two have changed places.
Where the user stops the ingest before, that is left to the next one.
"""

from __future__ import annotations

import os
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from soda_service.catalog.batches import Batches, PutAside
from soda_service.catalog.crew import Crew, IndexTask
from soda_service.catalog.emptyroots import EmptyRoots
from soda_service.catalog.indexer import index
from soda_service.catalog.query import fold
from soda_service.catalog.store import CatalogStore
from soda_service.catalog.tally import IngestInterrupted, Tally
from soda_service.catalog.walk import (
    Places,
    Walk,
    folder_of,
    includes,
    is_below,
    is_utf8,
    real_path,
)
from soda_service.catalog.watch import Watch
from soda_service.catalog.worker import IndexFailure
from soda_service.errors import SourceUnavailableError, UsageError
from soda_service.storage.remoteplace import place_of
from soda_service.storage.remotesettings import remote_limits
from soda_service.storage.source import is_remote
from soda_service.storage.stores import RemoteStores

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from soda_service.catalog.dataset import Dataset
    from soda_service.catalog.rows import DatasetRows
    from soda_service.catalog.tally import IngestReport, Problem, Progress
    from soda_service.catalog.walk import FoundFile
    from soda_service.config import CollectionsFile, Settings
    from soda_service.storage.source import FileVersion

_LOOKED_UP: Final = 400
"""Files compared with the catalog at once."""

_COUNTING_SECONDS: Final = 2.0
"""How long files may be counted beforehand, so that the total is known from the beginning."""

_WAITING_WORKERS: Final = 8
"""Processes that read headers in stores: each waits for most of the time."""


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
    problem: Problem | None = None,
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
        tally = Tally(progress, problem)
        run = _Ingest(
            store,
            crew,
            Places(settings, collections, rows, named=collection, stores=stores),
            stores,
            tally=tally,
            allow_empty=allow_empty,
        )
        try:
            with Watch(run.asked):
                run.run(paths, excluded=settings.cache_dir)
        except KeyboardInterrupt:
            run.stop()
            raise IngestInterrupted(tally.report) from None
        return tally.report
    finally:
        crew.close()
        stores.close()
        store.close()


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
        if not is_utf8(located):
            continue  # the catalog has no such file
        for name, count in store.holdings.collections_below(located).items():
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
        tally: Tally,
        allow_empty: bool,
    ) -> None:
        self._holdings = store.holdings
        self._crew = crew
        self._walks: tuple[Walk, ...] = ()
        self._given = ""
        """The path given that is asked about now."""
        self._places = places
        self._stores = stores
        self._tally = tally
        self._scan = store.holdings.begin_scan()
        self._empty_roots = EmptyRoots(store.holdings, places, tally, allow_empty=allow_empty)
        self._batches = Batches(store.holdings, self._scan, tally, self._look_at_object)

    def asked(self) -> list[str]:
        """The files and folders that are asked about now, as any thread may ask."""
        return [self._given, *(walk.asked for walk in self._walks), *self._crew.at_work]

    def run(self, paths: Sequence[Path | str], *, excluded: Path) -> None:
        tally = self._tally
        walk = Walk(self._places, excluded=excluded, problem=tally.fail, stores=self._stores)
        folders, files = self._sorted(paths)
        self._empty_roots.suspect(folders)
        tally.total = self._count(folders, files, excluded)
        self._walks = (walk,)
        with PutAside() as contested:
            self._index(self._to_index(self._all_files(walk, folders, files)), contested)
            while others := contested.others():
                self._index(self._to_index(self._unmet(walk, others)), contested)
            tally.total = tally.found
            again = (walk.look_at(path, place) for path, place in contested)
            tasks = self._to_index(found for found in again if found is not None)
            self._index(tasks, contested, deciding=True)
        kept = self._empty_roots.keep(walk.unread) + walk.unknown
        for folder in folders:
            tally.report.removed += self._holdings.remove_unseen(folder, self._scan, unread=kept)

    def stop(self) -> None:
        """Make lasting what has been read, but decide nothing that is contested.

        The file that has the identifier may be among those not read yet. The catalog stays as
        it is there, and the next ingest reads them all again.
        """
        with PutAside() as undecided:
            self._batches.write(undecided)

    def _index(
        self, tasks: Iterator[IndexTask], contested: PutAside, *, deciding: bool = False
    ) -> None:
        """Read and write *tasks*; what is *contested* is put aside, or decided."""
        for outcome in self._crew.index(tasks):
            if outcome is not None:
                self._take(*outcome)
            if self._batches.is_due:
                self._batches.write(contested, deciding=deciding)
        self._batches.write(contested, deciding=deciding)

    def _unmet(self, walk: Walk, paths: list[str]) -> Iterator[FoundFile]:
        """Those of *paths* that this run has not read, whether or not it was asked to."""
        for path in self._holdings.not_met(paths, self._scan):
            found = walk.file(path)
            if found is not None:
                yield self._noted(found)

    def _count(self, folders: list[str], files: list[str], excluded: Path) -> int | None:
        """How many files there are to be looked at, if that can be told soon."""
        walk = Walk(self._places, excluded=excluded, problem=_tell_nobody)
        self._walks = (walk,)
        until = time.monotonic() + _COUNTING_SECONDS
        total = len(files)
        for folder in folders:
            count = walk.count(folder, until=until)
            if count is None:
                return None
            total += count
        return total

    def _located(self, path: Path | str) -> str:
        self._given = str(path)
        try:
            return _located(path)
        finally:
            self._given = ""

    def _sorted(self, paths: Sequence[Path | str]) -> tuple[list[str], list[str]]:
        """The folders, those within others left out, and the files among *paths*."""
        located = list(dict.fromkeys(map(self._located, paths)))
        as_folders = {self._located(path) for path in paths if str(path).endswith("/")}
        folders = [
            path
            for path in located
            if is_utf8(path) and not is_remote(path) and _is_folder(Path(path))
        ]
        files: list[str] = []
        for path in located:
            if not is_utf8(path):
                self._tally.fail(path.encode(errors="replace").decode(), "its name is not UTF-8")
                continue
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
                self._tally.fail(path, f"cannot be looked at: {error.strerror}")
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
            return self._holdings.has_file(url) or includes(config, place.key)
        try:
            return self._stores.version_of(url) is not None or self._holdings.has_file(url)
        except SourceUnavailableError:
            return False  # to list it will fail as well, and say why

    def _take_vanished(self, path: str) -> None:
        """Remove what the catalog has at *path* and below, where nothing is any more."""
        if self._empty_roots.keeps_vanished(path):
            return
        removed = self._holdings.remove(path) + self._holdings.remove_unseen(path, self._scan)
        self._tally.report.removed += removed
        if not removed:
            self._tally.fail(path, "nothing is there, and the catalog has nothing of it")

    def _all_files(self, walk: Walk, folders: list[str], files: list[str]) -> Iterator[FoundFile]:
        for path in files:
            found = walk.file(path)
            if found is not None:
                yield self._noted(found)
            elif path in walk.vanished:
                self._take_vanished(path)
        for folder in folders:
            before = self._tally.found, self._tally.report.failures
            for found in walk.files(folder):
                yield self._noted(found)
            if (self._tally.found, self._tally.report.failures) != before:
                continue
            if self._holdings.has_below(folder):
                self._empty_roots.guard(folder)
            else:
                patterns = ", ".join(self._places.of(folder, folder).config.include)
                self._tally.fail(folder, f"no file in it has a name like {patterns}")

    def _noted(self, found: FoundFile) -> FoundFile:
        self._tally.found += 1
        self._empty_roots.clear(found.path)
        return found

    def _to_index(self, files: Iterator[FoundFile]) -> Iterator[IndexTask]:
        """What is new or has changed among *files*; the rest is noted as seen."""
        while gulp := list(islice(files, _LOOKED_UP)):
            known = self._holdings.versions([file.path for file in gulp])
            unchanged: list[int] = []
            tasks: list[IndexTask] = []
            for file in gulp:
                row = known.get(file.path)
                is_same = row is not None and row.version.is_of_same_content(file.version)
                if row is not None and is_same and row.fingerprint == file.place.fingerprint:
                    unchanged.append(row.row_id)
                    self._batches.save_root(file.place)
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
                self._holdings.mark_seen(unchanged, self._scan)
                self._tally.report.unchanged += len(unchanged)
                self._tally.advance(len(unchanged), gulp[-1].path)
            yield from tasks

    def _take(self, task: IndexTask, indexed: DatasetRows | IndexFailure) -> None:
        if not isinstance(indexed, IndexFailure):
            self._batches.put(task, indexed)
            return
        removed = 0
        if task.known_id is not None:
            # A file that cannot be read just now keeps its row; one that is broken does not.
            if indexed.lasting:
                removed = self._holdings.remove(task.path)
            else:
                self._holdings.mark_seen([task.known_id], self._scan)
        tell = self._tally.leave_out if indexed.imageless else self._tally.fail
        tell(task.path, indexed.reason, removed=removed)
        self._tally.advance(1, task.path)

    def _look_at_object(self, url: str) -> FileVersion | None:
        """What the object of another row is now."""
        self._places.of(folder_of(url), folder_of(url))
        return self._stores.version_of_known(url)


def _located(path: Path | str) -> str:
    """The absolute path, links on the way to it resolved, but its own name as it was given.

    Of a URL in a store, the one form that the catalog has.
    """
    if isinstance(path, str):
        if is_remote(path):
            return place_of(path).url
        path = Path(path)
    absolute = path.absolute()
    if _is_folder(absolute):
        return real_path(absolute)
    return str(Path(real_path(absolute.parent)) / absolute.name)


def _is_folder(path: Path) -> bool:
    """Whether *path* is a folder or leads to one; what cannot be looked at is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _tell_nobody(path: str, reason: str) -> None:
    """What is counted beforehand is looked at again, and told of then."""
