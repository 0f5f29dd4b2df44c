"""The services that endpoints work with, made once for each process."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Thread
from typing import TYPE_CHECKING, Final

from soda_service.catalog.remotes import catalog_stores
from soda_service.catalog.resolver import Resolver
from soda_service.catalog.store import CatalogStore
from soda_service.cutout.cutter import Cutter
from soda_service.storage.resultcache import result_cache
from soda_service.web.threads import Threads
from soda_service.web.urls import Proxies, UrlsFactory

if TYPE_CHECKING:
    from typing import Self

    from soda_service.catalog.skycoverage import SkyCoverages
    from soda_service.config import Settings
    from soda_service.storage.resultcache import ResultCache
    from soda_service.storage.stores import RemoteStores

_LONG_WAITING: Final = 25
"""Calls that may wait for each thread of the long work."""

_CLOSE_SECONDS: Final = 10.0
"""How long files are closed at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What requests share."""

    settings: Settings
    store: CatalogStore
    resolver: Resolver
    cutter: Cutter
    stores: RemoteStores
    coverages: SkyCoverages
    results: ResultCache | None
    """None where answers are not kept."""
    urls: UrlsFactory
    threads: Threads
    """For what takes milliseconds: searches, links, documents."""
    long_work: Threads
    """For what may take seconds: indexing, inflating, boxes that are hard to find, files."""
    up_since: datetime

    @classmethod
    def of(cls, settings: Settings, *, make: bool = True) -> Self:
        """The services that *settings* describe; opens the catalog, or may *make* it."""
        store = CatalogStore(settings, make=make)
        stores = catalog_stores(settings, store)
        resolver = Resolver(store, settings, stores=stores)
        return cls(
            settings=settings,
            store=store,
            resolver=resolver,
            cutter=Cutter(resolver, settings, stores),
            stores=stores,
            coverages=store.coverages,
            results=result_cache(settings),
            urls=UrlsFactory(settings, Proxies(settings.proxy_networks)),
            threads=Threads(settings.threads),
            long_work=Threads(settings.threads, waiting_per_thread=_LONG_WAITING),
            up_since=datetime.now(UTC),
        )

    def close(self) -> None:
        """Let go of threads and files."""
        self.threads.close()
        self.long_work.close()
        # What learns beside the requests may be lost in a disk that hangs.
        closing = Thread(target=self.cutter.close, name="closer", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)
        self.stores.close()
        self.resolver.close()
        self.store.close()
