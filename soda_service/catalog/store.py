"""The catalog: which datasets there are, what is known of them, and which meet a query.

Reading never waits for ingest, and ingest, which changes the `holdings`, never for reading. All
of it may block on the disk; nothing here reads a FITS file.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from sqlalchemy import func, select

from soda_service.catalog import schema
from soda_service.catalog.database import Database
from soda_service.catalog.dataset import Relation, Relations
from soda_service.catalog.holdings import Holdings
from soda_service.catalog.openfile import driver_of, number_of
from soda_service.catalog.query import fold
from soda_service.catalog.readyrows import form_of_ready, search_ready
from soda_service.catalog.rows import OBSCORE_NAMES, dataset_of, obscore_of
from soda_service.catalog.search import GULP, Columns, search
from soda_service.catalog.skycoverage import SkyCoverages
from soda_service.catalog.summaries import summarize
from soda_service.config import CollectionConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection

    from soda_service.catalog.dataset import Dataset, ObsCore
    from soda_service.catalog.query import CatalogQuery
    from soda_service.catalog.readyrows import ReadyGulp
    from soda_service.catalog.rows import Fact
    from soda_service.catalog.summaries import CollectionSummary
    from soda_service.config import LinkRule, Settings

_RELATED_LIMIT: Final = 1_000
"""Datasets that one link rule may name."""

_DISTINCT_LIMIT: Final = 200
_DISTINCT_SECONDS: Final = 10.0
"""How long a list of values is believed while the catalog changes."""

_SUMMARY_SECONDS: Final = 5.0
"""How long the summaries are."""

_REVISION_SHIFT: Final = 40
"""No catalog has been written to so often, in powers of two."""

DistinctColumn = Literal[
    "obs_collection", "facility_name", "instrument_name", "dataproduct_type",
    "dataproduct_subtype", "calib_level", "lsst_band", "pol_states",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionRow:
    """A collection as ingest left it."""

    name: str
    roots: tuple[str, ...]
    """Absolute paths that local parts of identifiers are relative to."""
    config: CollectionConfig
    """What holds for all collections is filled in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDataset:
    """A dataset with what tells whether it is still the stored one."""

    dataset: Dataset
    revision: int
    """Grows with every write of the row; differs where another catalog has been gone over to."""


class CatalogStore:
    """The catalog of a service. Safe to use from several threads."""

    def __init__(self, settings: Settings, *, make: bool = True) -> None:
        """Open the catalog that *settings* names; *make* it where there is none.

        It stays with the file that it has opened; see `follow`. Raises ConfigurationError for a
        file that is not a catalog of this version; where none is to be made, also for an older one,
        and where there is none.
        """
        self._database = Database(settings.catalog_path, make=make)
        self.holdings = Holdings(self._database)
        """What it holds of which file, to be changed."""
        self.coverages = SkyCoverages(self._database)
        """What of the sky its collections cover."""
        self._distinct: dict[str, tuple[int, float, tuple[str, ...]]] = {}
        self._distinct_lock = threading.Lock()
        self._counted = (-1, 0)
        self._ready_form: tuple[int, int | None] = (-1, None)
        self._summaries: tuple[int, float, tuple[CollectionSummary, ...]] = (-1, 0.0, ())
        self._summary_lock = threading.Lock()

    def close(self) -> None:
        """Let go of the catalog's file."""
        self._database.close()

    def follow(self) -> None:
        """From now on go over to the catalog that is put in the place of this one.

        Not for who writes one thing after the other, and counts on what it has written.
        """
        self._database.follow()

    def fault(self) -> str | None:
        """What is wrong with the file under the catalog's name, for people; else None."""
        return self._database.fault()

    def data_version(self) -> int:
        """A number that differs from the last call's when the catalog changed in between."""
        return self._database.data_version()

    def find(self, query: CatalogQuery, limit: int) -> Iterator[ObsCore]:
        """Datasets that meet *query*, at most *limit*; as `find_rows`, one by one."""
        for rows in self.find_rows(query, limit, OBSCORE_NAMES):
            for row in rows:
                yield obscore_of(dict(zip(OBSCORE_NAMES, row, strict=True)))

    def find_rows(
        self, query: CatalogQuery, limit: int, columns: Sequence[str]
    ) -> Iterator[Sequence[tuple[Fact, ...]]]:
        """Rows of ObsCore *columns* that meet *query*, some at a time, none empty.

        At most *limit* rows, in the order in which they were ingested, all of one state of
        the catalog, that of the first step; few are in memory at a time. Closing the iterator
        early lets go of the catalog.
        """
        with self._database.reading() as connection:
            yield from search(
                driver_of(connection), query, limit, Columns([f"d.{name}" for name in columns])
            )

    def find_ready(
        self,
        query: CatalogQuery,
        limit: int,
        ready: Sequence[str],
        columns: Sequence[str],
        *,
        form: int,
    ) -> Iterator[ReadyGulp]:
        """The same with cells of the columns *ready* of rows that were made ready in *form*.

        Where there is no such row the cells are null, and ObsCore *columns* are told instead.
        """
        with self._database.reading() as connection:
            driver = driver_of(connection)
            yield from search_ready(driver, query, limit, ready, columns, form=form)

    def is_ready(self, form: int) -> bool:
        """Whether rows were made ready in *form*, as far as the first of them tells."""
        version = self.data_version()
        if self._ready_form[0] != version:
            with self._database.reading() as connection:
                self._ready_form = (version, form_of_ready(connection))
        return self._ready_form[1] == form

    def get(self, identifier: str) -> Dataset | None:
        """The dataset of this publisher DID, whatever its case."""
        stored = self.get_stored(identifier)
        return stored.dataset if stored else None

    def get_stored(self, identifier: str) -> StoredDataset | None:
        """The same with its revision."""
        table, hdu, collection = schema.dataset, schema.hdu, schema.collection
        if not identifier.isascii():
            return None  # no identifier of the catalog is
        with self._database.reading() as connection:
            row = (
                connection.execute(
                    select(table, collection.c.settings)
                    .join(collection, table.c.collection_id == collection.c.id)
                    .where(table.c.did_folded == fold(identifier))
                )
                .mappings()
                .one_or_none()
            )
            if row is None:
                return None
            hdus = connection.execute(
                select(hdu).where(hdu.c.dataset_id == row["id"]).order_by(hdu.c.position)
            ).mappings()
            config = CollectionConfig.model_validate_json(row["settings"])
            dataset = dataset_of(row, hdus, config)
            revision = _told_apart(connection, row["revision"])
        return StoredDataset(dataset=dataset, revision=revision)

    def revision_of(self, identifier: str) -> int | None:
        """The stored dataset's revision; None where there is none."""
        table = schema.dataset
        with self._database.reading() as connection:
            revision = connection.execute(
                select(table.c.revision).where(table.c.did_folded == fold(identifier))
            ).scalar()
            return None if revision is None else _told_apart(connection, revision)

    def related(self, dataset: Dataset) -> Relations:
        """The other datasets that the collection's link rules name, at most 1,000 for each rule."""
        collection = schema.collection
        with self._database.reading() as connection:
            settings = connection.execute(
                select(collection.c.settings).where(
                    collection.c.name_folded == fold(dataset.collection)
                )
            ).scalar()
            if settings is None:
                return Relations()
            rules = CollectionConfig.model_validate_json(settings).links
            found = [
                _related_by(connection, dataset.obscore, rule)
                for rule in rules
                if rule.collection is not None
            ]
        return Relations(
            found=tuple(relation for one in found for relation in one[:_RELATED_LIMIT]),
            is_complete=all(len(one) <= _RELATED_LIMIT for one in found),
        )

    def collections(self) -> tuple[CollectionSummary, ...]:
        """Every collection with datasets in it, by name; up to 5 s old."""
        with self._summary_lock:  # whoever comes meanwhile waits rather than asks as well
            version, now = self.data_version(), time.monotonic()
            known = self._summaries
            if known[0] == version or (known[0] >= 0 and now - known[1] < _SUMMARY_SECONDS):
                return known[2]
            with self._database.reading() as connection:
                self._summaries = (version, now, summarize(connection))
            return self._summaries[2]

    def distinct(self, column: DistinctColumn) -> tuple[str, ...]:
        """The values of *column*, sorted, nulls left out; at most 200, and up to 10 s old."""
        version, now = self.data_version(), time.monotonic()
        with self._distinct_lock:
            known = self._distinct.get(column)
        if known and (known[0] == version or now - known[1] < _DISTINCT_SECONDS):
            return known[2]
        cell = schema.facet.c[column]
        with self._database.reading() as connection:
            found = connection.execute(
                select(cell).where(cell.is_not(None)).distinct().limit(_DISTINCT_LIMIT)
            ).scalars()
            values = tuple(str(value) for value in sorted(found))
        with self._distinct_lock:
            self._distinct[column] = (version, now, values)
        return values

    def count(self) -> int:
        """Number of datasets; asked of the catalog once for each state of it."""
        version = self.data_version()
        if self._counted[0] != version:
            total = select(func.coalesce(func.sum(schema.facet.c.datasets), 0))
            with self._database.reading() as connection:
                self._counted = (version, int(connection.execute(total).scalar_one()))
        return self._counted[1]

    def identifiers(self) -> Iterator[str]:
        """Every publisher DID, in the order of ingest, in gulps that hold nothing open."""
        table = schema.dataset
        last = -1
        while True:
            with self._database.reading() as connection:
                rows = connection.execute(
                    select(table.c.id, table.c.obs_publisher_did)
                    .where(table.c.id > last)
                    .order_by(table.c.id)
                    .limit(GULP)
                ).all()
            if not rows:
                return
            for row in rows:
                yield row.obs_publisher_did
            last = rows[-1].id

    def collection_rows(self) -> tuple[CollectionRow, ...]:
        """Every collection as ingest left it."""
        table = schema.collection
        with self._database.reading() as connection:
            rows = connection.execute(select(table).order_by(table.c.name)).all()
        return tuple(
            CollectionRow(
                name=row.name,
                roots=tuple(json.loads(row.roots)),
                config=CollectionConfig.model_validate_json(row.settings),
            )
            for row in rows
        )


def _told_apart(connection: Connection, revision: int) -> int:
    """A row's revision, which no row of the catalog's files before or after this one has."""
    return number_of(connection) << _REVISION_SHIFT | revision


def _related_by(connection: Connection, obscore: ObsCore, rule: LinkRule) -> list[Relation]:
    """What *rule* names; one more than the limit where that is not all."""
    table, collection = schema.dataset, schema.collection
    assert rule.collection is not None
    rows = connection.execute(
        select(table.c.obs_publisher_did, table.c.obs_title)
        .join(collection, table.c.collection_id == collection.c.id)
        .where(
            collection.c.name_folded == fold(rule.collection),
            *(table.c[name] == getattr(obscore, name) for name in rule.on),
            # `= NULL` would become IS NULL: a null agrees with nothing.
            *(table.c[name].is_not(None) for name in rule.on),
            table.c.did_folded != fold(obscore.obs_publisher_did),
        )
        .order_by(table.c.id)
        .limit(_RELATED_LIMIT + 1)
    ).all()
    return [
        Relation(
            semantics=rule.semantics,
            publisher_did=row.obs_publisher_did,
            description=rule.description or row.obs_title or "",
        )
        for row in rows
    ]
