"""What the catalog holds of which file: asked and changed by ingest, and where a file changes.

Each change is a short transaction of its own, for which other writers wait. Paths are absolute,
or URLs in the form that the catalog has.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import and_, func, not_, or_, select

from soda_service.catalog import schema
from soda_service.catalog.openfile import driver_of
from soda_service.catalog.query import fold
from soda_service.catalog.readyrows import lacking_ready, put_ready
from soda_service.catalog.search import GULP
from soda_service.catalog.writing import DatasetWriter, NotLookedAtError, holders, look_at
from soda_service.storage.source import FileVersion

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from sqlalchemy import ColumnElement

    from soda_service.catalog.database import Database
    from soda_service.catalog.readyrows import MakeReady
    from soda_service.catalog.rows import DatasetRows
    from soda_service.catalog.writing import Found, LookAtObject, Outcome
    from soda_service.config import CollectionConfig

_CONDITIONS: Final = 100
"""Folders that one statement may leave out."""

_ROOTS_LIMIT: Final = 1_000
"""Roots that a collection remembers."""


class KnownFile(NamedTuple):
    """What the catalog has of a file."""

    row_id: int
    version: FileVersion
    fingerprint: str
    """Of what made the row."""


class Holdings:
    """The datasets of a catalog by their files. Safe to use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

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

    def not_met(self, paths: list[str], scan: int) -> list[str]:
        """The files at those *paths* that datasets are of and that *scan* has not met so far."""
        table = schema.dataset
        with self._database.reading() as connection:
            return list(
                connection.execute(
                    select(table.c.path).where(_is_among(table.c.path, paths), table.c.scan < scan)
                ).scalars()
            )

    def write(
        self,
        datasets: list[DatasetRows],
        scan: int | None = None,
        *,
        overtaking: Container[str] = (),
        look: LookAtObject | None = None,
        patience: float | None = None,
    ) -> list[Outcome]:
        """Add or replace *datasets* in one transaction; what became of each, in their order.

        Their collections must have been saved. Without *scan* a row keeps the ingest that
        last saw its file. A dataset whose file moved keeps its row. One whose identifier the
        row of another file has is refused; but it is given that row where the other file has
        changed since, is among *overtaking*, those that have been read and hold other datasets
        now, and *scan* has not found the dataset in it after all.
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

    def write_ready(self, make: MakeReady, columns: Sequence[str], *, form: int) -> Iterator[int]:
        """Make ready what is not yet in *form*; how many datasets were looked at, gulp by gulp.

        *make* gets ObsCore *columns* of some datasets and gives back the cells of their ready
        rows, None where there cannot be one.
        """
        last = -1
        while ids := self._lacking_ready(form, last):
            with self._database.writing() as connection:
                put_ready(driver_of(connection), ids, make, columns, form=form)
            last = ids[-1]
            yield len(ids)

    def _lacking_ready(self, form: int, after: int) -> list[int]:
        with self._database.reading() as connection:
            return lacking_ready(driver_of(connection), form, after=after)

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

        What is in *unread*, or lies below a folder in it, stays: unreadable is not absent.
        """
        table = schema.dataset
        kept = [and_(table.c.path != one, not_(and_(*_below(one)))) for one in _outermost(unread)]
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
