"""A dataset of the catalog indexed anew, because its file has changed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy.exc import OperationalError

from soda_service.catalog.indexer import index, place_in
from soda_service.catalog.query import fold
from soda_service.catalog.rows import rows_of
from soda_service.catalog.walk import is_below
from soda_service.errors import UnknownDatasetError

if TYPE_CHECKING:
    from soda_service.catalog.dataset import Dataset
    from soda_service.catalog.indexer import Place
    from soda_service.catalog.store import CatalogStore
    from soda_service.config import Settings

_logger = logging.getLogger(__name__)


def reindexed(dataset: Dataset, store: CatalogStore, settings: Settings) -> Dataset:
    """The dataset that the file of *dataset* holds now; stored, where the catalog lets itself.

    Raises UnknownDatasetError, SourceUnavailableError or CorruptFileError.
    """
    place = _place_of(dataset, store, settings)
    fresh = index(dataset.url, place, local_part=dataset.local_part)
    try:
        store.write([rows_of(fresh, place.fingerprint)])
    except OperationalError as error:
        _logger.warning("cannot store %s anew: %s", dataset.publisher_did, error.orig)
    return fresh


def index_again(dataset: Dataset, store: CatalogStore, settings: Settings) -> Dataset:
    """The dataset that the file of *dataset* holds now; the catalog stays as it is.

    Raises UnknownDatasetError, SourceUnavailableError or CorruptFileError.
    """
    place = _place_of(dataset, store, settings)
    return index(dataset.url, place, local_part=dataset.local_part)


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
        root=max(roots, key=len, default="/"),
        config=collection.config,
    )
