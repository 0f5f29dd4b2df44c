"""The catalog: which datasets there are, what is known of them, and which meet a query.

Reading never waits for ingest, and ingest never for reading. All of it may block on the
disk; nothing here reads a FITS file.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import and_, func, not_, or_, select

from soda_service.catalog import schema
from soda_service.catalog.database import Database
from soda_service.catalog.dataset import Relation, Relations
from soda_service.catalog.query import candidates, conditions, fold
from soda_service.catalog.rows import OBSCORE_NAMES, dataset_of, obscore_of
from soda_service.catalog.skybox import sky_box
from soda_service.catalog.skymatch import SkyMatch
from soda_service.config import CollectionConfig
from soda_service.storage.source import FileVersion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import ColumnElement, Connection

    from soda_service.catalog.dataset import Dataset, ObsCore
    from soda_service.catalog.query import CatalogQuery
    from soda_service.catalog.rows import Cell, DatasetRows, Fact
    from soda_service.config import LinkRule, Settings

_GULP: Final = 500
"""Rows fetched at once while an answer streams."""

_RELATED_LIMIT: Final = 1_000
"""Datasets that one link rule may name."""

_NOWHERE: Final = ""
"""The path of a row for a moment within a transaction: no two rows may have the same."""

_CONDITIONS: Final = 100
"""Folders that one statement may leave out."""

_ROOTS_LIMIT: Final = 1_000
"""Roots that a collection remembers."""

_DISTINCT_LIMIT: Final = 200
_DISTINCT_SECONDS: Final = 10.0
"""How long a list of values is believed while the catalog changes."""

_SUMMARY_SECONDS: Final = 5.0
"""How long the summaries are; the same for a count while the catalog does not."""

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


class Written(Enum):
    """What became of a dataset that was written."""

    ADDED = "added"
    CHANGED = "changed"
    MOVED = "moved"
    """It has its identifier from the row of a path where it is no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A dataset was not written: another file has its identifier, regardless of case."""

    path: str
    """Of the other file."""
    publisher_did: str
    """As the other file's row spells it."""
    has_changed: bool
    """Whether the other file is not the one of its row any more: it may be another dataset."""


Outcome = Written | Refused


class _Holder(Enum):
    """What has become of the file of a row."""

    THERE = "there"
    """As the row says, as far as can be told."""
    CHANGED = "changed"
    GONE = "gone"


class CatalogStore:
    """The catalog of a service. Safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        """Open the catalog that *settings* names, made where there is none.

        Raises ConfigurationError for a file that is not a catalog of this version.
        """
        self._database = Database(settings.catalog_path)
        self._distinct: dict[str, tuple[int, float, tuple[str, ...]]] = {}
        self._distinct_lock = threading.Lock()
        self._counted = (-1, 0.0, 0)
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
        terms = conditions(query)
        if terms is None or limit <= 0:
            return
        table = schema.dataset
        statement = select(*(table.c[name] for name in columns)).where(*terms).order_by(table.c.id)
        match: SkyMatch | None = None
        if query.shapes:
            match = SkyMatch(query.shapes)
            statement = statement.add_columns(*(table.c[name] for name in match.columns)).where(
                table.c.polygons.is_not(None),
                candidates([sky_box(shape) for shape in query.shapes]),
            )
        else:
            statement = statement.limit(limit)
        left = limit
        with (
            self._database.reading() as connection,
            closing(connection.execute(statement)) as result,
        ):
            # Straight from the driver: a Row for each of them costs as much as all the rest.
            cursor = result.cursor
            while left > 0 and (rows := cursor.fetchmany(_GULP)):
                chosen = match.meeting(rows) if match else rows
                if chosen:
                    yield chosen[:left]
                left -= len(chosen)

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
            details = CollectionConfig.model_validate_json(row["settings"]).details
            dataset = dataset_of(row, hdus, details)
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
        table, collection = schema.dataset, schema.collection
        with self._database.reading() as connection:
            rows = connection.execute(
                select(
                    collection.c.id,
                    collection.c.name,
                    collection.c.title,
                    collection.c.description,
                    func.count(table.c.id).label("datasets"),
                )
                .join(table, table.c.collection_id == collection.c.id)
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
        cell = schema.dataset.c[column]
        with self._database.reading() as connection:
            found = connection.execute(
                select(cell).where(cell.is_not(None)).distinct().limit(_DISTINCT_LIMIT)
            ).scalars()
            values = tuple(str(value) for value in sorted(found))
        with self._distinct_lock:
            self._distinct[column] = (version, now, values)
        return values

    def count(self) -> int:
        """Number of datasets; asked of the catalog once in 5 s while it does not change."""
        version, now = self.data_version(), time.monotonic()
        known_version, counted_at, known = self._counted
        if known_version == version and now - counted_at < _SUMMARY_SECONDS:
            return known
        with self._database.reading() as connection:
            found = connection.execute(
                select(func.count()).select_from(schema.dataset)
            ).scalar_one()
        self._counted = (version, now, found)
        return found

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
                    .limit(_GULP)
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

    def save_collection(self, name: str, root: str, config: CollectionConfig) -> None:
        """Add a collection, or bring what is stored of it up to date; its roots add up."""
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
            if root not in roots and len(roots) < _ROOTS_LIMIT:
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

    def versions(self, paths: list[str]) -> dict[str, tuple[int, int, int, str]]:
        """Of those *paths* that are in the catalog: row id, size, modified_ns and fingerprint."""
        table = schema.dataset
        with self._database.reading() as connection:
            rows = connection.execute(
                select(
                    table.c.path,
                    table.c.id,
                    table.c.size,
                    table.c.modified_ns,
                    table.c.fingerprint,
                ).where(_is_among(table.c.path, paths))
            ).all()
        return {path: (row_id, size, modified, made) for path, row_id, size, modified, made in rows}

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
        self, datasets: list[DatasetRows], scan: int | None = None, *, overtaking: bool = False
    ) -> list[Outcome]:
        """Add or replace *datasets* in one transaction; what became of each, in their order.

        Their collections must have been saved. Without *scan* a row keeps the ingest that
        last saw its file. A dataset whose file moved keeps its row. One whose identifier the
        row of another file has is refused; but with *overtaking* it is given that row where
        the other file has changed since and *scan* has not found the dataset in it again.
        """
        if not datasets:
            return []
        with self._database.writing() as connection:
            writer = _Writer(connection, scan, overtaking=overtaking)
            return [writer.write(one) for one in datasets]

    def remove(self, path: str) -> int:
        """Remove the dataset whose file is *path*; the number of rows that went."""
        table = schema.dataset
        with self._database.writing() as connection:
            return connection.execute(table.delete().where(table.c.path == path)).rowcount

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
                gulp = select(table.c.id).where(below).limit(_GULP)
                count = connection.execute(table.delete().where(table.c.id.in_(gulp))).rowcount
            removed += count
            if count < _GULP:
                return removed


class _Writer:
    """Writes datasets within one transaction."""

    def __init__(self, connection: Connection, scan: int | None, *, overtaking: bool) -> None:
        self._connection = connection
        self._scan = scan
        self._overtaking = overtaking
        self._collections: dict[str, int] = {}
        counters = schema.counters
        self._revision = connection.execute(
            counters.update()
            .values(revision=counters.c.revision + 1)
            .returning(counters.c.revision)
        ).scalar_one()
        last_piece = connection.execute(select(func.max(schema.piece.c.id))).scalar() or 0
        self._piece_ids = itertools.count(last_piece + 1)

    def write(self, new: DatasetRows) -> Outcome:
        """Put *new* in the place of what its path or its identifier had before."""
        table = schema.dataset
        standing = self._connection.execute(
            select(
                table.c.id,
                table.c.path,
                table.c.obs_publisher_did,
                table.c.size,
                table.c.modified_ns,
                table.c.scan,
            ).where(
                or_(
                    table.c.path == new.path,
                    table.c.did_folded == new.dataset["did_folded"],
                )
            )
        ).all()
        same_path = next((row for row in standing if row.path == new.path), None)
        same_did = next((row for row in standing if row is not same_path), None)
        if same_did is not None:
            version = FileVersion(same_did.size, same_did.modified_ns)
            holder = _holder(same_did.path, version)
            is_overtaken = self._overtaking and same_did.scan < (self._scan or 0)
            if holder is _Holder.THERE or (holder is _Holder.CHANGED and not is_overtaken):
                return Refused(
                    path=same_did.path,
                    publisher_did=same_did.obs_publisher_did,
                    has_changed=holder is _Holder.CHANGED,
                )
        # A file that moved and kept its identifier keeps its row.
        kept = same_did or same_path
        displaced = same_path.id if same_did is not None and same_path is not None else None
        if displaced is not None:
            self._displace(displaced, _NOWHERE)
        row_id = self._insert(new) if kept is None else self._replace(kept.id, new)
        self._insert_parts(row_id, new)
        if same_did is not None and displaced is not None:
            self._displace(displaced, same_did.path)
        if same_did is not None:
            return Written.MOVED
        return Written.ADDED if kept is None else Written.CHANGED

    def _displace(self, row_id: int, path: str) -> None:
        """Keep the row of a file that is no more where it was, until it is found or given up.

        It is given the path that the other file came from, but fits no version of a file there.
        """
        table = schema.dataset
        self._connection.execute(
            table.update()
            .where(table.c.id == row_id)
            .values(path=path, modified_ns=-1, revision=self._revision)
        )

    def _insert(self, new: DatasetRows) -> int:
        table = schema.dataset
        cells = {**self._cells(new), "scan": self._scan or 0}
        return int(
            self._connection.execute(table.insert().returning(table.c.id), cells).scalar_one()
        )

    def _replace(self, row_id: int, new: DatasetRows) -> int:
        table, hdu, piece = schema.dataset, schema.hdu, schema.piece
        self._connection.execute(hdu.delete().where(hdu.c.dataset_id == row_id))
        self._connection.execute(piece.delete().where(piece.c.dataset_id == row_id))
        statement = table.update().where(table.c.id == row_id).values(self._cells(new))
        if self._scan is not None:
            statement = statement.values(scan=func.max(table.c.scan, self._scan))
        self._connection.execute(statement)
        return row_id

    def _cells(self, new: DatasetRows) -> dict[str, Cell]:
        return {
            **new.dataset,
            "collection_id": self._collection_id(new.collection),
            "revision": self._revision,
        }

    def _insert_parts(self, row_id: int, new: DatasetRows) -> None:
        hdus = [{**hdu, "dataset_id": row_id} for hdu in new.hdus]
        pieces = [{"id": next(self._piece_ids), "dataset_id": row_id} for _ in new.boxes]
        boxes = [
            {**piece, **dict(zip(schema.BOX_COLUMNS, box, strict=True))}
            for piece, box in zip(pieces, new.boxes, strict=True)
        ]
        for table, rows in (
            (schema.hdu, hdus), (schema.piece, pieces), (schema.piece_box, boxes),
        ):  # fmt: skip
            if rows:
                self._connection.execute(table.insert(), rows)

    def _collection_id(self, name: str) -> int:
        if name not in self._collections:
            collection = schema.collection
            self._collections[name] = self._connection.execute(
                select(collection.c.id).where(collection.c.name_folded == fold(name))
            ).scalar_one()
        return self._collections[name]


def _holder(path: str, version: FileVersion) -> _Holder:
    try:
        status = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return _Holder.GONE
    except OSError:
        return _Holder.THERE  # what cannot be looked at now has not gone away
    is_same = FileVersion(status.st_size, status.st_mtime_ns) == version
    return _Holder.THERE if is_same else _Holder.CHANGED


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
