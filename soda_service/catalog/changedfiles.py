"""Files that have changed since they were indexed: who indexes them anew, and when nobody does."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import OrderedDict
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Final, NamedTuple

from soda_service.catalog.query import fold
from soda_service.errors import CorruptFileError, SourceUnavailableError, UnknownDatasetError
from soda_service.storage.disks import Disk, disk_of
from soda_service.storage.remoteplace import place_of
from soda_service.storage.source import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from soda_service.catalog.dataset import Dataset
    from soda_service.catalog.reindex import Reindexer
    from soda_service.catalog.store import CatalogStore
    from soda_service.config import Settings
    from soda_service.storage.remoteplace import RemotePlace
    from soda_service.storage.source import FileVersion

_WAIT_SECONDS: Final = 10.0
"""How long a request waits while others' changed files are indexed."""

_LOOK_SECONDS: Final = 0.1
"""Between two looks of who waits at those he waits for."""

_AT_ONCE_THERE: Final = 2
"""Changed files of one disk, or of one store; the threads beside them go on with the others."""

_AT_ONCE: Final = 6
"""Changed files of one process, of three disks say: each takes another process for itself, of a
hundred megabytes, which is kept for a while."""

_KEPT_FREE: Final = 2
"""Of these, for disks in which nobody is lost: where one server goes, several disks may hang."""

_BROKEN_LIMIT: Final = 1_000
"""Changed files of which it is remembered that they do not hold their datasets any more."""

_ANOTHER: Final = "its file holds another dataset now"

_logger = logging.getLogger(__name__)


class _Broken(NamedTuple):
    """A file that could not be indexed anew as its dataset."""

    path: str
    version: FileVersion | None
    reason: str | None = None
    """None where it holds another dataset."""


class _Turn(NamedTuple):
    """The right to index one dataset, as long as it is somebody's."""

    place: Disk | RemotePlace
    """The disk, or the store, on which its file lies."""
    thread: int
    """The number of the thread whose it is."""


class ChangedFiles:
    """Indexes changed files anew, few at a time. Safe to use from several threads; to be closed.

    One that does not hold its dataset any more is not read again until it changes. Disks have
    their turns each for itself: one that hangs keeps only its own files waiting.
    """

    def __init__(self, store: CatalogStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._lock = threading.Lock()
        self._reindexer: Reindexer | None = None
        self._broken: OrderedDict[str, _Broken] = OrderedDict()
        self._turns: dict[str, _Turn] = {}
        """By the folded identifiers of the datasets."""
        self._turn_ended = threading.Condition()

    def close(self) -> None:
        """End the processes that read changed files."""
        if self._reindexer is not None:
            self._reindexer.close()

    @contextmanager
    def turn(self, folded: str, url: str) -> Iterator[None]:
        """The right to index one dataset, whose file is at *url*.

        Raises SourceUnavailableError when it is long, DiskHangsError where who waits would wait
        for a disk that hangs.
        """
        place = _place_of(url)
        with self._turn_ended:
            if self._before(folded, place):
                self._wait(folded, place, url)
            self._turns[folded] = _Turn(place, threading.get_ident())
        try:
            yield
        finally:
            with self._turn_ended:
                del self._turns[folded]
                self._turn_ended.notify_all()

    def indexed(self, identifier: str, dataset: Dataset, version: FileVersion | None) -> Dataset:
        """What the file of *dataset*, which is of this *version*, holds now; within its `turn`.

        Stored for the others, where the catalog lets itself. Raises UnknownDatasetError where
        the file is gone or holds another dataset, else what `Reindexer.reindexed` raises.
        """
        folded = fold(identifier)
        self._refuse_broken(identifier, _Broken(dataset.url, version))
        _logger.info("indexing a changed file anew: %s", dataset.url)
        try:
            found = self.reindexer().reindexed(dataset)
        except CorruptFileError as error:
            self._remember_broken(folded, _Broken(dataset.url, version, str(error)))
            raise
        if fold(found.publisher_did) != folded:
            self._remember_broken(folded, _Broken(dataset.url, version))
            raise UnknownDatasetError(identifier, _ANOTHER)
        return found

    def reindexer(self) -> Reindexer:
        """Who reads them; made when it is asked for first."""
        # Late: a server that meets no changed file does not need what reads headers.
        from soda_service.catalog.reindex import Reindexer

        with self._lock:
            if self._reindexer is None:
                self._reindexer = Reindexer(self._store, self._settings)
                weakref.finalize(self, self._reindexer.close)
            return self._reindexer

    def _wait(self, folded: str, place: Disk | RemotePlace, url: str) -> None:
        """Until it is the turn of that dataset. Under the lock, which others have meanwhile.

        Who waits for somebody who is lost in a disk is lost with him, and counts as that.
        """
        end = time.monotonic() + _WAIT_SECONDS
        # Stores have time-outs.
        with place.awaited(url) if isinstance(place, Disk) else nullcontext() as wait:
            while before := self._before(folded, place):
                if wait is not None:
                    wait.look_at(one.thread for one in before if one.place is place)
                if time.monotonic() > end:
                    raise SourceUnavailableError(
                        "changed files are being indexed; try again", path=url
                    )
                self._turn_ended.wait(_LOOK_SECONDS)

    def _before(self, folded: str, place: Disk | RemotePlace) -> list[_Turn]:
        """The turns one of which has to end before it is that dataset's. Under the lock."""
        if folded in self._turns:
            return [self._turns[folded]]
        there = [one for one in self._turns.values() if one.place == place]
        if len(there) >= _AT_ONCE_THERE:
            return there
        may_hang = not isinstance(place, Disk) or place.lost
        most = _AT_ONCE - _KEPT_FREE if may_hang else _AT_ONCE
        return list(self._turns.values()) if len(self._turns) >= most else []

    def _refuse_broken(self, identifier: str, now: _Broken) -> None:
        """Raise what was wrong with a file when it was indexed and has not changed since."""
        with self._lock:
            known = self._broken.get(fold(identifier))
        if known is None or known[:2] != now[:2]:
            return
        if known.reason is None:
            raise UnknownDatasetError(identifier, _ANOTHER)
        raise CorruptFileError(known.reason, path=known.path)

    def _remember_broken(self, folded: str, broken: _Broken) -> None:
        with self._lock:
            self._broken[folded] = broken
            while len(self._broken) > _BROKEN_LIMIT:
                self._broken.popitem(last=False)


def _place_of(url: str) -> Disk | RemotePlace:
    """What may hang, or not, as one."""
    return place_of(url)._replace(key="") if is_remote(url) else disk_of(url)
