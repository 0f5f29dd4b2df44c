"""The stores in which the collections of a catalog lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from soda_service.storage.remotesettings import block_cache, remote_limits, remote_root
from soda_service.storage.source import is_remote
from soda_service.storage.stores import RemoteStores

if TYPE_CHECKING:
    from collections.abc import Iterator

    from soda_service.catalog.store import CatalogStore
    from soda_service.config import Settings
    from soda_service.storage.remoteplace import RemoteRoot


def catalog_roots(store: CatalogStore) -> Iterator[RemoteRoot]:
    """The roots of all collections that lie in stores, to be reached as ingest was told."""
    for row in store.collection_rows():
        for root in row.roots:
            if is_remote(root):
                yield remote_root(root, row.config.store)


def catalog_stores(settings: Settings, store: CatalogStore) -> RemoteStores:
    """Access to these roots and to those that are added later; to be closed.

    Nothing is reached yet. Raises ConfigurationError where the cache's folder cannot be used.
    """
    return RemoteStores(
        (),
        limits=remote_limits(settings),
        cache=block_cache(settings),
        find_roots=lambda: catalog_roots(store),
    )
