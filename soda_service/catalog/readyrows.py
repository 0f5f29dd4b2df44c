"""Rows of answers that were made ready beforehand, kept beside their datasets.

Each has the form that it was made in; what is of another form, or has changed since, is made
anew. What stands in their cells is the business of whoever makes them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select

from soda_service.catalog import schema
from soda_service.catalog.search import GULP, Columns, search

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection

    from soda_service.catalog.query import CatalogQuery
    from soda_service.catalog.rows import Cell, Fact

    MakeReady = Callable[[Sequence[tuple[Fact, ...]]], Sequence[tuple[Cell, ...] | None]]
    """From ObsCore columns of some datasets to the cells of their ready rows; None where there
    cannot be one."""


class ReadyGulp(NamedTuple):
    """Some of the rows that a search finds."""

    rows: list[tuple[Any, ...]]
    """Cells of ready rows; of one that is not ready the first is its dataset's id, others null."""
    facts: dict[int, tuple[Fact, ...]]
    """ObsCore columns of those that are not, by their place."""


def form_of_ready(connection: Connection) -> int | None:
    """The form of the ready rows, as far as the first of them tells; None where there are none."""
    return connection.execute(select(schema.ready_row.c.form).limit(1)).scalar()


def search_ready(
    connection: sqlite3.Connection,
    query: CatalogQuery,
    limit: int,
    ready: Sequence[str],
    columns: Sequence[str],
    *,
    form: int,
) -> Iterator[ReadyGulp]:
    """Cells of the columns *ready*, of rows made ready in *form*, of what meets *query*.

    Where there is no such row, ObsCore *columns* are told instead.
    """
    first, *others = (f"r.{name}" for name in ready)
    wanted = Columns(
        [f"ifnull({first}, {{id}})", *others],
        "LEFT JOIN ready_row AS r ON r.dataset_id = {id} AND r.form = ?",
        (form,),
        need_dataset=False,
    )
    for rows in search(connection, query, limit, wanted):
        cells = [row[0] for row in rows]
        lacking = {}
        if set(map(type, cells)) != {bytes}:
            lacking = {cell: at for at, cell in enumerate(cells) if not isinstance(cell, bytes)}
        facts = _facts(connection, list(lacking), columns) if lacking else {}
        yield ReadyGulp(rows, {lacking[row_id]: facts[row_id] for row_id in lacking})


def lacking_ready(connection: sqlite3.Connection, form: int, *, after: int) -> list[int]:
    """The next datasets after one that have no ready row in *form*, by id."""
    found = connection.execute(
        "SELECT d.id FROM dataset AS d LEFT JOIN ready_row AS r"
        " ON r.dataset_id = d.id AND r.form = ?"
        " WHERE d.id > ? AND r.dataset_id IS NULL ORDER BY d.id LIMIT ?",
        (form, after, GULP),
    )
    return [row[0] for row in found]


def put_ready(
    connection: sqlite3.Connection,
    ids: list[int],
    make: MakeReady,
    columns: Sequence[str],
    *,
    form: int,
) -> None:
    """Make the rows of the datasets *ids* ready, of their ObsCore *columns*."""
    facts = _facts(connection, ids, columns)
    made = zip(facts, make(list(facts.values())), strict=True)
    connection.executemany(
        "INSERT OR REPLACE INTO ready_row"
        " (dataset_id, form, tabledata, head, link_length, tail)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [(row_id, form, *cells) for row_id, cells in made if cells is not None],
    )


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
