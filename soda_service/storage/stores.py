"""Object stores and HTTP servers, as far as the operator has named them.

What is reached is what lies below a `RemoteRoot`; any other URL is refused before anything is
sent.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from soda_service.errors import ConfigurationError, SourceUnavailableError
from soda_service.storage.blockcache import BlockCache
from soda_service.storage.closing import Closable
from soda_service.storage.flight import FlyingBytes, HeldBytes
from soda_service.storage.objectstore import Store
from soda_service.storage.remoteplace import (
    BUCKETS,
    HTTP,
    RemoteLimits,
    RemotePlace,
    RemoteRoot,
    place_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from soda_service.storage.objectstore import StoredObject
    from soda_service.storage.remote import RemoteSource
    from soda_service.storage.source import FileVersion

_FOUND_SECONDS: Final = 1.0
"""How long roots that have been looked for are believed to be all."""

_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]*").fullmatch
"""How the names of variables of the environment are written."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What all answers of a process share on the way from stores to clients."""

    cache: BlockCache
    pool: ThreadPoolExecutor
    """Makes requests beside those of the reading threads."""
    flying: FlyingBytes
    held: HeldBytes


class RemoteStores(Closable):
    """What lies below the operator's roots; safe to use from several threads.

    A process that forks must not have used it before.
    """

    def __init__(
        self,
        roots: Iterable[RemoteRoot],
        *,
        limits: RemoteLimits | None = None,
        cache: BlockCache | None = None,
        find_roots: Callable[[], Iterable[RemoteRoot]] | None = None,
    ) -> None:
        """Nothing is reached yet. *find_roots* is asked where *roots* do not hold what is wanted.

        Raises ConfigurationError for a URL that is none, two roots of one URL, and a secret
        that the environment does not have; such roots from *find_roots* are logged.
        """
        self.limits = limits or RemoteLimits()
        self.cache = cache or BlockCache(0)
        self._find_roots = find_roots
        self._found_at = float("-inf")
        self._roots: dict[RemotePlace, RemoteRoot] = {}
        self._stores: dict[RemotePlace, Store] = {}
        self._lock = threading.Lock()
        self._finding = threading.Lock()
        for root in roots:
            place = place_of(root.url)
            if place in self._roots:
                raise ConfigurationError(f"two roots have the URL {place.url}")
            self.add(root)
        self._way = Way(
            cache=self.cache,
            pool=ThreadPoolExecutor(self.limits.connections, thread_name_prefix="stores"),
            flying=FlyingBytes(self.limits.flight_bytes),
            held=HeldBytes(self.limits.held_bytes),
        )

    def add(self, root: RemoteRoot) -> None:
        """Let what is below *root* be reached as it says, whatever was said of its URL before.

        Raises ConfigurationError for a URL that is none and for a secret that the environment
        does not have.
        """
        place = place_of(root.url)
        for option, name in root.secrets.items():
            if name not in os.environ:
                # What is not written as such names are may be the secret itself.
                which = name if _VARIABLE(name) else f"of the name that `{option}` gives"
                raise ConfigurationError(f"the environment has no variable {which}")
        if root.endpoint and place.scheme in HTTP:
            raise ConfigurationError(f"{place.url} is HTTP and has no other endpoint")
        with self._lock:
            if self._roots.get(place) != root:
                self._roots[place] = root
                self._stores.pop(place, None)

    def open_known(self, url: str, version: FileVersion | None = None) -> RemoteSource:
        """The same as `open` for a URL that the catalog has.

        That it cannot be reached as things are set up is SourceUnavailableError: those who ask
        have not done wrong. The log says what it is.
        """
        try:
            return self.open(url, version)
        except ConfigurationError as error:
            raise _not_set_up(error, url) from None

    def open(self, url: str, version: FileVersion | None = None) -> RemoteSource:
        """The object at *url*; without a request where its *version* is known.

        Raises FileNotFoundError, which names nothing, where there is none;
        SourceUnavailableError where the store does not tell, or does not say how one version
        is told from the next; ConfigurationError where it lies below no root.
        """
        from soda_service.storage.remote import RemoteSource  # it needs this module

        place = place_of(url)
        store = self._store(place)
        if version is None:
            version = store.version_of(place)
        return RemoteSource(store, place, version, self._way)

    def version_of(self, url: str) -> FileVersion | None:
        """The version of the object at *url* now, by one request; None where there is none.

        Raises SourceUnavailableError, ConfigurationError as `open` does.
        """
        place = place_of(url)
        try:
            return self._store(place).version_of(place)
        except FileNotFoundError:
            return None

    def version_of_known(self, url: str) -> FileVersion | None:
        """The same as `version_of` for a URL that the catalog has; see `open_known`."""
        try:
            return self.version_of(url)
        except ConfigurationError as error:
            raise _not_set_up(error, url) from None

    def list(self, url: str) -> Iterator[StoredObject]:
        """The objects below *url*, in the order and the pages in which the store gives them.

        HTTP servers must speak WebDAV for it. What could not be opened by its URL is left out,
        and logged. Raises SourceUnavailableError, on the way too,
        and ConfigurationError where *url* lies below no root.
        """
        place = place_of(url)
        yield from self._store(place).list(place)

    def try_to_reach(self, url: str) -> None:
        """One request that any store answers which lets its objects be read.

        Raises SourceUnavailableError, whose message says why it does not, and ConfigurationError.
        """
        place = place_of(url)
        store = self._store(place)
        if place.scheme in BUCKETS:
            next(store.list(place), None)
        else:
            store.confirm_answers(place)

    def holds(self, url: str) -> bool:
        """Whether *url* lies below a root."""
        try:
            place = place_of(url)
        except ConfigurationError:
            return False
        if self._root(place) is None:
            self._look_for_roots()
        return self._root(place) is not None

    def close(self) -> None:
        """Let go of the threads, once they have ended what they do."""
        self._way.pool.shutdown(wait=False, cancel_futures=True)

    def _root(self, place: RemotePlace) -> RemotePlace | None:
        """The deepest root that holds *place*."""
        key = place.key
        while True:
            root = place._replace(key=key)
            if root in self._roots:
                return root
            if not key:
                return None
            key = key.rpartition("/")[0]

    def _store(self, place: RemotePlace) -> Store:
        root = self._root(place)
        if root is None:
            self._look_for_roots()
            root = self._root(place)
        if root is None:
            raise ConfigurationError(f"{place.url} lies below the root of no collection")
        with self._lock:
            store = self._stores.get(root)
            if store is None:
                store = self._stores[root] = Store(self._roots[root], self.limits)
        return store

    def _look_for_roots(self) -> None:
        """Learn what has been added since, by an ingest in another process say."""
        if self._find_roots is None:
            return
        # Who comes while others look waits for what they find.
        with self._finding:
            if time.monotonic() - self._found_at < _FOUND_SECONDS:
                return
            for root in self._find_roots():
                try:
                    self.add(root)
                except ConfigurationError as error:
                    _logger.warning("%s cannot be reached: %s", root.url, error)
            self._found_at = time.monotonic()


def _not_set_up(error: ConfigurationError, url: str) -> SourceUnavailableError:
    _logger.error("%s: %s", url, error)
    return SourceUnavailableError("its store is not set up as it should be", path=url)
