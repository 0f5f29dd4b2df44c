"""From an identifier to a dataset, as the file is now."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from soda_service.catalog.changedfiles import ChangedFiles
from soda_service.catalog.localparts import encoded_identifier
from soda_service.catalog.query import fold
from soda_service.catalog.store import StoredDataset
from soda_service.errors import SodaServiceError, SourceUnavailableError, UnknownDatasetError
from soda_service.storage.disks import disk_of, mounts_now
from soda_service.storage.source import FileVersion, is_remote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from soda_service.catalog.dataset import Dataset
    from soda_service.catalog.store import CatalogStore
    from soda_service.config import Settings
    from soda_service.storage.disks import Disk
    from soda_service.storage.stores import RemoteStores

_CATALOG_SECONDS: Final = 0.5
"""How old the last look at the catalog may be."""

_DISK_SECONDS: Final = 30.0
"""How old the last look for a file's disk may be: a link in its path may lead elsewhere by now."""

_DOUBTED_LIMIT: Final = 10_000
"""Datasets that are remembered to be in doubt; who reads another one of them finds out again."""

CACHE_BYTES: Final = 64 * 1024**2
"""Of all datasets kept, about."""

_HEADER_COPIES: Final = 2
"""Times a header's own bytes that a dataset takes which has been looked into."""
_HDU_BYTES: Final = 2_000
_DATASET_BYTES: Final = 5_000
"""What the rest of an HDU and of a dataset takes, as measured."""


@dataclass(slots=True)
class _Entry:
    stored: StoredDataset
    catalog_version: int
    """That of the catalog when the entry was last compared with it."""
    checked: int = -1
    """The resolver's count of changes when that was done, and the disk looked for."""
    checked_at: float = float("-inf")
    """When that was."""
    peeked: int = -1
    """The same count where its file may be looked at on an event loop, else -1."""
    _found: tuple[int, Disk] | None = None
    """What was mounted when the disk was found on which its file lies, and that."""

    def check(self, changes: int) -> None:
        """Find out whether the file may be looked at on an event loop, as of so many *changes*."""
        self._found = None
        # What another machine answers for may hold up whoever asks.
        is_quick = is_remote(self.stored.dataset.url) or self.disk.is_local
        self.peeked = changes if is_quick else -1
        self.checked = changes
        self.checked_at = time.monotonic()

    @property
    def disk(self) -> Disk:
        """The disk on which its file lies, as things are mounted now."""
        mounts = mounts_now()
        found = self._found
        if found is None or found[0] != mounts:
            found = self._found = mounts, disk_of(self.stored.dataset.url)
        return found[1]

    @property
    def memory(self) -> int:
        """Bytes that it takes, about."""
        hdus = self.stored.dataset.hdus
        headers = sum(len(hdu.layout.header.raw) for hdu in hdus)
        return _DATASET_BYTES + len(hdus) * _HDU_BYTES + headers * _HEADER_COPIES


class Resolver:
    """Finds datasets and keeps those used last. Safe to use from several threads; to be closed.

    As many are kept as the settings say and as fit into *memory* bytes. At every call the file
    is asked (size and modification time) whether it is still the one that was indexed, and
    twice a second the catalog whether another process wrote to it. An object in a store is not
    asked: who reads it notices that it has changed, and says so (`doubt`).
    """

    def __init__(
        self,
        store: CatalogStore,
        settings: Settings,
        *,
        memory: int = CACHE_BYTES,
        stores: RemoteStores | None = None,
    ) -> None:
        """*stores* are asked about objects in doubt."""
        self._store = store
        self._stores = stores
        self._changed = ChangedFiles(store, settings)
        self._doubted: OrderedDict[str, None] = OrderedDict()
        """Datasets whose objects have changed, or seemed to."""
        self._limit = settings.plan_cache_datasets
        self._memory_limit = memory
        self._memory = 0
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._catalog_version = -1
        self._mounts = -1
        self._changes = 0
        """Of the catalog, and of what is mounted, that were seen."""
        self._looked_at = float("-inf")

    def close(self) -> None:
        """End the processes that read changed files."""
        self._changed.close()

    def resolve(self, identifier: str) -> Dataset:
        """The dataset with this publisher DID, whatever its case; may block.

        A file that changed since it was indexed is indexed anew. Raises UnknownDatasetError
        when there is none or its file is gone, SourceUnavailableError when the file system
        does not tell, the root of its collection is gone too, or others' changed files take too
        long, SourceUnavailableError or CorruptFileError when a file that changed cannot be indexed.
        """
        self._look_at_catalog()
        folded = fold(identifier)
        entry = self._cached(folded)
        if entry is None or not self._still_stored(folded, entry):
            entry = self._load(identifier, folded)
        dataset = entry.stored.dataset
        in_doubt = folded in self._doubted
        version = self._version_of(folded, entry)
        if version is None:
            # It may have moved, and the catalog know it already.
            entry = self._load(identifier, folded)
            dataset = entry.stored.dataset
            version = self._version_of(folded, entry)
        if version is None:
            self._forget(folded)
            self._refuse_missing_root(dataset.url)
            raise UnknownDatasetError(identifier, "its file is gone")
        if not version.is_of_same_content(dataset.version):
            return self._index_anew(identifier, dataset.url)
        if in_doubt:
            self._trust(folded)
        return dataset

    def doubt(self, dataset: Dataset) -> None:
        """Have the object of *dataset* looked at before it is resolved again.

        To be called by whoever has read that it is not the one of the catalog any more.
        """
        folded = fold(dataset.publisher_did)
        with self._lock:
            self._drop(folded)
            self._doubted[folded] = None
            while len(self._doubted) > _DOUBTED_LIMIT:
                self._doubted.popitem(last=False)

    def has_changed(self, identifiers: Iterable[str]) -> bool:
        """Whether `resolve` has to read the file of one of these; may block, but not for long."""
        self._look_at_catalog()
        for identifier in identifiers:
            folded = fold(identifier)
            try:
                entry = self._cached(folded)
                if entry is None or not self._still_stored(folded, entry):
                    entry = self._load(identifier, folded)
                dataset = entry.stored.dataset
                if is_remote(dataset.url):
                    if folded in self._doubted:
                        return True
                    continue
                version = _version_of(dataset.url, entry.disk)
            except SodaServiceError:
                continue  # `resolve` will say so, soon
            if version is not None and version != dataset.version:
                return True
        return False

    def peek(self, identifier: str) -> Dataset | None:
        """The same where that needs no more than one look at the file's entry; else None.

        For an event loop: the entry of a file on a network file system is not looked at.
        """
        folded = fold(identifier)
        with self._lock:
            entry = self._entries.get(folded)
            if entry is not None:
                self._entries.move_to_end(folded)
        now = time.monotonic()
        if (
            entry is None
            or entry.peeked != self._changes
            or now - self._looked_at > _CATALOG_SECONDS
            or now - entry.checked_at > _DISK_SECONDS
        ):
            return None
        dataset = entry.stored.dataset
        try:
            status = os.stat(dataset.url)  # noqa: PTH116 - a Path costs as much as the call itself
        except OSError:
            # No file has the name of an object. Else `resolve` will say why.
            return dataset if is_remote(dataset.url) else None
        version = dataset.version
        is_same = status.st_mtime_ns == version.modified_ns and status.st_size == version.size
        return dataset if is_same else None

    def _look_at_catalog(self) -> None:
        now = time.monotonic()
        if now - self._looked_at > _CATALOG_SECONDS:
            seen = self._store.data_version(), mounts_now()
            with self._lock:
                if seen != (self._catalog_version, self._mounts):
                    self._catalog_version, self._mounts = seen
                    self._changes += 1
            self._looked_at = now

    def _cached(self, folded: str) -> _Entry | None:
        with self._lock:
            entry = self._entries.get(folded)
            if entry is not None:
                self._entries.move_to_end(folded)
            return entry

    def _still_stored(self, folded: str, entry: _Entry) -> bool:
        """Whether the catalog still has what was read; asked once for each version of it."""
        with self._lock:
            changes, version = self._changes, self._catalog_version
        if entry.checked == changes and time.monotonic() - entry.checked_at <= _DISK_SECONDS:
            return True
        if entry.catalog_version != version:
            if self._store.revision_of(folded) != entry.stored.revision:
                return False
            entry.catalog_version = version
        entry.check(changes)
        return True

    def _load(self, identifier: str, folded: str) -> _Entry:
        with self._lock:
            changes, version = self._changes, self._catalog_version
        stored = self._store.get_stored(folded)
        if stored is None:
            self._forget(folded)
            raise UnknownDatasetError(identifier, hint=self._hint(identifier))
        return self._keep(folded, _Entry(stored, version), changes)

    def _hint(self, identifier: str) -> str:
        """What to say to whoever meant a dataset, but lost the encoding of its name on the way."""
        meant = encoded_identifier(identifier)
        if meant is None or self._store.revision_of(fold(meant)) is None:
            return ""
        return f"its identifier is {meant[:200]!r}, and in a URL each % of it is %25"

    def _keep(self, folded: str, entry: _Entry, changes: int) -> _Entry:
        entry.check(changes)
        with self._lock:
            self._drop(folded)
            self._entries[folded] = entry
            self._memory += entry.memory
            while len(self._entries) > self._limit or (
                self._memory > self._memory_limit and len(self._entries) > 1
            ):
                self._drop(next(iter(self._entries)))
        return entry

    def _forget(self, folded: str) -> None:
        with self._lock:
            self._drop(folded)

    def _drop(self, folded: str) -> None:
        """Under the lock."""
        entry = self._entries.pop(folded, None)
        if entry is not None:
            self._memory -= entry.memory

    def _index_anew(self, identifier: str, path: str) -> Dataset:
        """Have the file at *path* indexed as ingest would, unless somebody has just done it."""
        folded = fold(identifier)
        with self._changed.turn(folded, path):
            # Another request, or another process, may have done it while this one waited.
            entry = self._load(identifier, folded)
            current = entry.stored.dataset
            version = self._version_of(folded, entry)
            if version is not None and version.is_of_same_content(current.version):
                self._trust(folded)
                return current
            try:
                dataset = self._changed.indexed(identifier, current, version)
            except UnknownDatasetError:
                self._forget(folded)
                raise
            self._trust(folded)
            fresh = self._load(identifier, folded)
            if fresh.stored.dataset.version != dataset.version:
                # A catalog that may only be read keeps the old row; this process need not.
                stored = StoredDataset(dataset=dataset, revision=fresh.stored.revision)
                entry = _Entry(stored, fresh.catalog_version)
                fresh = self._keep(folded, entry, fresh.checked)
            return fresh.stored.dataset

    def _version_of(self, folded: str, entry: _Entry) -> FileVersion | None:
        """That of its file now, None where there is none; of an object only where in doubt."""
        dataset = entry.stored.dataset
        if not is_remote(dataset.url):
            return _version_of(dataset.url, entry.disk)
        if folded not in self._doubted or self._stores is None:
            return dataset.version
        return self._stores.version_of_known(dataset.url)

    def _refuse_missing_root(self, path: str) -> None:
        """Raise SourceUnavailableError where all is gone, as when a disk is not mounted.

        A store says by itself when it is not there.
        """
        if is_remote(path):
            return
        roots = [root for one in self._store.collection_rows() for root in one.roots]
        above = [root for root in roots if path.startswith(root.rstrip("/") + "/")]
        # A root that holds another one is never empty: it has that one's mount point.
        if above and not _has_something(max(above, key=len)):
            raise SourceUnavailableError(
                "the root of its collection is empty or not there", path=path
            )

    def _trust(self, folded: str) -> None:
        with self._lock:
            self._doubted.pop(folded, None)


class FixedResolver:
    """A resolver that knows one dataset, for work without a catalog."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def resolve(self, identifier: str) -> Dataset:
        """The dataset, if that is its identifier; otherwise raises UnknownDatasetError."""
        found = self.peek(identifier)
        if found is None:
            raise UnknownDatasetError(identifier)
        return found

    def doubt(self, dataset: Dataset) -> None:
        """Nothing: there is no catalog that could be brought up to date."""

    def peek(self, identifier: str) -> Dataset | None:
        """The dataset, if that is its identifier."""
        return self._dataset if fold(identifier) == fold(self._dataset.publisher_did) else None


def _has_something(folder: str) -> bool:
    """Raises DiskHangsError."""
    try:
        with disk_of(folder).touched(folder), os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


def _version_of(path: str, disk: Disk) -> FileVersion | None:
    """The file as it is now, None where there is none; raises SourceUnavailableError."""
    try:
        with disk.touched(path):
            status = os.stat(path)  # noqa: PTH116 - a Path costs as much as the call itself
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SourceUnavailableError(
            f"its file cannot be looked at: {error.strerror}", path=path
        ) from None
    return FileVersion(status.st_size, status.st_mtime_ns)
