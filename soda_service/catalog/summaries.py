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

_EXAMPLES: Final = 4
"""Of a collection: one that cannot be cut, a damaged file say, does not stand for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSummary:
    """A collection for people to look at."""

    name: str
    title: str
    """The name where the configuration gives none."""
    description: str
    count: int
    """Datasets."""
    examples: tuple[ObsCore, ...]
    """A few of them, by obs_id, that have a place on the sky."""


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
            examples=_examples(connection, row.id),
        )
        for row in rows
    )


def _examples(connection: Connection, collection_id: int) -> tuple[ObsCore, ...]:
    table = schema.dataset
    statement = (
        select(*_OBSCORE_COLUMNS)
        .where(table.c.collection_id == collection_id, table.c.s_ra.is_not(None))
        .order_by(table.c.obs_id, table.c.id)
        .limit(_EXAMPLES)
    )
    return tuple(obscore_of(row) for row in connection.execute(statement).mappings())
