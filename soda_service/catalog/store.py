"""The catalog: which datasets there are, what is known of them, and which meet a query.

Reading never waits for ingest, and ingest never for reading. All of it may block on the
disk; nothing here reads a FITS file.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from sqlalchemy import and_, func, not_, or_, select

from soda_service.catalog import schema
from soda_service.catalog.database import Database, driver_of
from soda_service.catalog.dataset import Relation, Relations
from soda_service.catalog.query import fold
from soda_service.catalog.rows import OBSCORE_NAMES, dataset_of, obscore_of
from soda_service.catalog.search import GULP, Columns, search
from soda_service.catalog.writing import DatasetWriter, NotLookedAtError, holders, look_at
from soda_service.config import CollectionConfig
from soda_service.storage.source import FileVersion

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import ColumnElement, Connection

    from soda_service.catalog.dataset import Dataset, ObsCore
    from soda_service.catalog.query import CatalogQuery
    from soda_service.catalog.rows import Cell, DatasetRows, Fact
    from soda_service.catalog.writing import Found, LookAtObject, Outcome
    from soda_service.config import LinkRule, Settings

_RELATED_LIMIT: Final = 1_000
"""Datasets that one link rule may name."""

_CONDITIONS: Final = 100
"""Folders that one statement may leave out."""

_ROOTS_LIMIT: Final = 1_000
"""Roots that a collection remembers."""

_DISTINCT_LIMIT: Final = 200
_DISTINCT_SECONDS: Final = 10.0
"""How long a list of values is believed while the catalog changes."""

_SUMMARY_SECONDS: Final = 5.0
"""How long the summaries are."""

DistinctColumn = Literal[
    "obs_collection", "facility_name", "instrument_name", "dataproduct_type",
    "dataproduct_subtype", "calib_level", "lsst_band", "pol_states",
]  # fmt: skip

_OBSCORE_COLUMNS: Final = tuple(schema.dataset.c[name] for name in OBSCORE_NAMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSummary:
    """A collection for people to look at."""

    name: str
    title: str
    """The name where the configuration gives none."""
    description: str
    count: int
    """Datasets."""
    example: ObsCore | None
    """One of them, with a place on the sky where any has one; None where there are none."""


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
    """Grows with every write of the row."""


class KnownFile(NamedTuple):
    """What the catalog has of a file."""

    row_id: int
    version: FileVersion
    fingerprint: str
    """Of what made the row."""


class ReadyGulp(NamedTuple):
    """Some of the rows that a search finds."""

    rows: list[tuple[Any, ...]]
    """Cells of ready rows, then the dataset's id; null where the row is not ready."""
    facts: dict[int, tuple[Fact, ...]]
    """ObsCore columns of those that are not, by their place."""


class CatalogStore:
    """The catalog of a service. Safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        """Open the catalog that *settings* names, made where there is none.

        Raises ConfigurationError for a file that is not a catalog of this version.
        """
        self._database = Database(settings.catalog_path)
        self._distinct: dict[str, tuple[int, float, tuple[str, ...]]] = {}
        self._distinct_lock = threading.Lock()
        self._counted = (-1, 0)
        self._ready_form: tuple[int, int | None] = (-1, None)
        self._summaries: tuple[int, float, tuple[CollectionSummary, ...]] = (-1, 0.0, ())
        self._summary_lock = threading.Lock()

    def close(self) -> None:
        """Let go of the catalog's file."""
        self._database.close()

    def data_version(self) -> int:
        """A number that differs from the last call's when the catalog changed in between."""
        return self._database.data_version()

    # Reading.

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
        wanted = Columns(
            [*(f"r.{name}" for name in ready), "{id}"],
            "LEFT JOIN ready_row AS r ON r.dataset_id = {id} AND r.form = ?",
            (form,),
            need_dataset=False,
        )
        with self._database.reading() as connection:
            driver = driver_of(connection)
            for rows in search(driver, query, limit, wanted):
                lacking = {row[-1]: place for place, row in enumerate(rows) if row[0] is None}
                facts = _facts(driver, list(lacking), columns) if lacking else {}
                yield ReadyGulp(rows, {lacking[row_id]: facts[row_id] for row_id in lacking})

    def is_ready(self, form: int) -> bool:
        """Whether rows were made ready in *form*, as far as the first of them tells."""
        version = self.data_version()
        if self._ready_form[0] != version:
            with self._database.reading() as connection:
                statement = select(schema.ready_row.c.form).limit(1)
                self._ready_form = (version, connection.execute(statement).scalar())
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
        return StoredDataset(dataset=dataset, revision=row["revision"])

    def revision_of(self, identifier: str) -> int | None:
        """The stored dataset's revision; None where there is none."""
        table = schema.dataset
        with self._database.reading() as connection:
            return connection.execute(
                select(table.c.revision).where(table.c.did_folded == fold(identifier))
            ).scalar()

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
            self._summaries = (version, now, self._collections_now())
            return self._summaries[2]

    def _collections_now(self) -> tuple[CollectionSummary, ...]:
        facet, collection = schema.facet, schema.collection
        with self._database.reading() as connection:
            rows = connection.execute(
                select(
                    collection.c.id,
                    collection.c.name,
                    collection.c.title,
                    collection.c.description,
                    func.sum(facet.c.datasets).label("datasets"),
                )
                .join(facet, facet.c.collection_id == collection.c.id)
                .group_by(collection.c.id)
                .order_by(collection.c.name)
            ).all()
            return tuple(
                CollectionSummary(
                    name=row.name,
                    title=row.title or row.name,
                    description=row.description,
                    count=row.datasets,
                    example=_example(connection, row.id),
                )
                for row in rows
            )

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

    # Writing; ingest and the resolver alone do.

    def save_collection(self, name: str, root: str | None, config: CollectionConfig) -> None:
        """Add a collection, or bring what is stored of it up to date.

        Its roots add up; None is none.
        """
        table = schema.collection
        values = {
            "title": config.title,
            "description": config.description,
            "settings": config.model_dump_json(),
        }
        with self._database.writing() as connection:
            known = connection.execute(
                select(table).where(table.c.name_folded == fold(name))
            ).one_or_none()
            roots = json.loads(known.roots) if known else []
            if root is not None and root not in roots and len(roots) < _ROOTS_LIMIT:
                roots.append(root)
            values["roots"] = json.dumps(roots)
            if known is None:
                connection.execute(
                    table.insert().values(name=name, name_folded=fold(name), **values)
                )
            elif any(getattr(known, column) != value for column, value in values.items()):
                connection.execute(table.update().where(table.c.id == known.id).values(**values))

    def begin_scan(self) -> int:
        """The number of a new ingest, above those of all before it."""
        table = schema.counters
        with self._database.writing() as connection:
            statement = table.update().values(scan=table.c.scan + 1).returning(table.c.scan)
            return int(connection.execute(statement).scalar_one())

    def versions(self, paths: list[str]) -> dict[str, KnownFile]:
        """What the catalog has of the files at those *paths* that are in it."""
        table = schema.dataset
        with self._database.reading() as connection:
            rows = connection.execute(
                select(
                    table.c.path,
                    table.c.id,
                    table.c.size,
                    table.c.modified_ns,
                    table.c.tag,
                    table.c.fingerprint,
                ).where(_is_among(table.c.path, paths))
            ).all()
        return {
            row.path: KnownFile(
                row.id, FileVersion(row.size, row.modified_ns, row.tag), row.fingerprint
            )
            for row in rows
        }

    def mark_seen(self, ids: list[int], scan: int) -> None:
        """Note that the ingest *scan* met these rows' files and found them unchanged."""
        table = schema.dataset
        with self._database.writing() as connection:
            connection.execute(
                table.update()
                # A later ingest may be at work.
                .where(_is_among(table.c.id, ids), table.c.scan < scan)
                .values(scan=scan)
            )

    def write(
        self,
        datasets: list[DatasetRows],
        scan: int | None = None,
        *,
        overtaking: bool = False,
        look: LookAtObject | None = None,
        patience: float | None = None,
    ) -> list[Outcome]:
        """Add or replace *datasets* in one transaction; what became of each, in their order.

        Their collections must have been saved. Without *scan* a row keeps the ingest that
        last saw its file. A dataset whose file moved keeps its row. One whose identifier the
        row of another file has is refused; but with *overtaking* it is given that row where
        the other file has changed since and *scan* has not found the dataset in it again.
        *look* tells what an object in a store is now; without it, it is what it was. Raises
        OperationalError where another writer takes longer than *patience*, in seconds; None is
        a minute.
        """
        if not datasets:
            return []
        with self._database.reading() as connection:
            paths = holders(connection, datasets)
        found: dict[str, Found] = {}
        while True:
            found |= {path: look_at(path, look) for path in paths}
            try:
                with self._database.writing(patience=patience) as connection:
                    writer = DatasetWriter(connection, scan, overtaking=overtaking, found=found)
                    return [writer.write(one) for one in datasets]
            except NotLookedAtError as error:  # the catalog has changed meanwhile
                paths = [error.path]

    def write_ready(
        self,
        make: Callable[[Sequence[tuple[Fact, ...]]], Sequence[tuple[Cell, ...] | None]],
        columns: Sequence[str],
        *,
        form: int,
    ) -> Iterator[int]:
        """Make ready what is not yet in *form*; how many datasets were looked at, gulp by gulp.

        *make* gets ObsCore *columns* of some datasets and gives back the cells of their ready
        rows, None where there cannot be one.
        """
        last = -1
        while ids := self._lacking_ready(form, last):
            with self._database.writing() as connection:
                driver = driver_of(connection)
                facts = _facts(driver, ids, columns)
                made = zip(facts, make(list(facts.values())), strict=True)
                driver.executemany(
                    "INSERT OR REPLACE INTO ready_row"
                    " (dataset_id, form, tabledata, head, link_length, tail)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    [(row_id, form, *cells) for row_id, cells in made if cells is not None],
                )
            last = ids[-1]
            yield len(ids)

    def _lacking_ready(self, form: int, after: int) -> list[int]:
        """The next datasets after one that have no ready row in *form*, by id."""
        with self._database.reading() as connection:
            found = driver_of(connection).execute(
                "SELECT d.id FROM dataset AS d LEFT JOIN ready_row AS r"
                " ON r.dataset_id = d.id AND r.form = ?"
                " WHERE d.id > ? AND r.dataset_id IS NULL ORDER BY d.id LIMIT ?",
                (form, after, GULP),
            )
            return [row[0] for row in found]

    def remove(self, path: str) -> int:
        """Remove the dataset whose file is *path*; the number of rows that went."""
        table = schema.dataset
        with self._database.writing() as connection:
            return connection.execute(table.delete().where(table.c.path == path)).rowcount

    def has_file(self, path: str) -> bool:
        """Whether there is a dataset whose file is *path*."""
        statement = select(schema.dataset.c.id).where(schema.dataset.c.path == path)
        with self._database.reading() as connection:
            return connection.execute(statement).first() is not None

    def has_below(self, folder: str) -> bool:
        """Whether the file of any dataset lies below *folder*."""
        statement = select(schema.dataset.c.id).where(*_below(folder)).limit(1)
        with self._database.reading() as connection:
            return connection.execute(statement).first() is not None

    def count_below(self, folder: str) -> int:
        """How many datasets have their files below *folder*."""
        statement = select(func.count()).select_from(schema.dataset).where(*_below(folder))
        with self._database.reading() as connection:
            return int(connection.execute(statement).scalar_one())

    def collections_below(self, path: str) -> dict[str, int]:
        """How many datasets of each collection have *path* as their file, or theirs below it."""
        table, collection = schema.dataset, schema.collection
        statement = (
            select(collection.c.name, func.count())
            .join(table, table.c.collection_id == collection.c.id)
            .where(or_(table.c.path == path, and_(*_below(path))))
            .group_by(collection.c.id)
            .order_by(collection.c.name)
        )
        with self._database.reading() as connection:
            return {name: int(count) for name, count in connection.execute(statement)}

    def remove_unseen(self, folder: str, scan: int, *, unread: Sequence[str] = ()) -> int:
        """Remove the datasets below *folder* that *scan* has not met; how many went.

        What lies below a folder in *unread* stays: unreadable is not absent.
        """
        table = schema.dataset
        kept = [not_(and_(*_below(one))) for one in _outermost(unread)]
        below = and_(*_below(folder), table.c.scan < scan, *kept)
        removed = 0
        while True:
            # In gulps, so that other writers get their turn.
            with self._database.writing() as connection:
                gulp = select(table.c.id).where(below).limit(GULP)
                count = connection.execute(table.delete().where(table.c.id.in_(gulp))).rowcount
            removed += count
            if count < GULP:
                return removed


def _facts(
    connection: sqlite3.Connection, ids: list[int], columns: Sequence[str]
) -> dict[int, tuple[Fact, ...]]:
    """By id, *columns* of those of the datasets *ids* that there are, in order."""
    rows = connection.execute(
        f"SELECT id, {', '.join(columns)} FROM dataset"  # noqa: S608 - names of columns
        " WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id",
        (json.dumps(ids),),
    )
    return {row[0]: row[1:] for row in rows}


def _is_among(column: ColumnElement[Any], values: Sequence[int | str]) -> ColumnElement[bool]:
    """That *column* has one of *values*, in a statement whose text does not depend on them."""
    one = func.json_each(json.dumps(values)).table_valued("value")
    return column.in_(select(one.c.value))


def _outermost(folders: Sequence[str]) -> list[str]:
    """Few folders that hold all of *folders*: SQLite takes no long chain of conditions."""
    few = set(folders)
    while len(few) > _CONDITIONS:
        few = {os.path.dirname(one) for one in few}  # noqa: PTH120 - as text, like the paths of rows
    return sorted(few)


def _below(folder: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """That the path lies below *folder*: after `folder/`, before `folder0` (0 follows /)."""
    path = schema.dataset.c.path
    start = folder.rstrip("/")
    return path > f"{start}/", path < f"{start}0"


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


def _example(connection: Connection, collection_id: int) -> ObsCore | None:
    table = schema.dataset
    of_collection = select(*_OBSCORE_COLUMNS).where(table.c.collection_id == collection_id)
    for statement in (of_collection.where(table.c.s_ra.is_not(None)), of_collection):
        row = (
            connection.execute(statement.order_by(table.c.obs_id, table.c.id).limit(1))
            .mappings()
            .one_or_none()
        )
        if row is not None:
            return obscore_of(row)
    return None
