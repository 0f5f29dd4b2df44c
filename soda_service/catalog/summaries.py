"""The collections of the catalog for people to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select

from soda_service.catalog import schema
from soda_service.catalog.rows import OBSCORE_NAMES, obscore_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from soda_service.catalog.dataset import ObsCore

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


def summarize(connection: Connection) -> tuple[CollectionSummary, ...]:
    """Every collection with datasets in it, by name."""
    facet, collection = schema.facet, schema.collection
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
