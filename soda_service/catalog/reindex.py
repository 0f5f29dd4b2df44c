"""A dataset of the catalog indexed anew, because its file has changed.

Whoever may write to the archive may have put anything there, and somebody waits for the
answer: a process of its own reads the headers, and is ended when it takes too long.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import OperationalError

from soda_service.catalog.crew import Crew, IndexTask
from soda_service.catalog.indexer import place_in
from soda_service.catalog.query import fold
from soda_service.catalog.rows import dataset_of
from soda_service.catalog.walk import is_below
from soda_service.catalog.worker import IndexFailure
from soda_service.errors import CorruptFileError, SourceUnavailableError, UnknownDatasetError

if TYPE_CHECKING:
    from soda_service.catalog.dataset import Dataset
    from soda_service.catalog.indexer import Place
    from soda_service.catalog.store import CatalogStore
    from soda_service.config import Settings

SECONDS: Final = 60.0
"""How long a file may take while a client waits; `ingest` has more patience."""

_logger = logging.getLogger(__name__)


def reindexed(dataset: Dataset, store: CatalogStore, settings: Settings) -> Dataset:
    """The dataset that the file of *dataset* holds now; stored, where the catalog lets itself.

    Raises UnknownDatasetError, SourceUnavailableError or CorruptFileError, the last also
    where reading the file took too long or ended the process that did it.
    """
    place = _place_of(dataset, store, settings)
    task = IndexTask(
        path=dataset.url, place=place, known_id=None, earlier_local_part=dataset.local_part
    )
    crew = Crew(1, file_seconds=SECONDS)
    try:
        rows = next(done[1] for done in crew.index([task]) if done is not None)
    finally:
        crew.close()
    if isinstance(rows, IndexFailure):
        if rows.vanished:
            raise UnknownDatasetError(dataset.publisher_did, "its file is gone")
        kind = CorruptFileError if rows.lasting else SourceUnavailableError
        raise kind(rows.reason, path=dataset.url)
    try:
        store.write([rows])
    except OperationalError as error:
        _logger.warning("cannot store %s anew: %s", dataset.publisher_did, error.orig)
    return dataset_of(rows.dataset, rows.hdus, place.config.details)


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
