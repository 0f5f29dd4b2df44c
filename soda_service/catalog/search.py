"""How datasets are found: which index is entered first, and in what order rows come out.

`ways` says which indices there are and which of their rows may meet the query, `candidates` takes
the narrowest of them; all the rest of the query is then asked of those that it names. Where there
is a narrow one, datasets come in the order of ingest. Where all are wide, they
come in the order of the index, as they are found: nothing is sorted before the first of them.
So the work grows with what is found and not with the catalog, but for what no index knows
(field of view, resolutions, exposure time) and for wide constraints that hardly ever meet.
"""

from __future__ import annotations

import json
from contextlib import closing
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from soda_service.catalog.candidates import FEW_ROWS, candidates_of
from soda_service.catalog.query import (
    Condition,
    conditions,
    is_impossible,
)
from soda_service.catalog.skymatch import SkyMatch
from soda_service.catalog.ways import facets_of, ways_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from soda_service.catalog.candidates import Candidates
    from soda_service.catalog.query import CatalogQuery, Parameter
    from soda_service.catalog.ways import Way

    Cells = tuple[Any, ...]

GULP: Final = 500
"""Rows fetched at once while an answer streams."""

_SPARE: Final = 10
"""Rows fetched beyond those that are wanted: not every one of them need meet the query."""


_MATCHED: Final = 2_000
"""Candidates that are compared with shapes at once."""


_IDS: Final = "dataset_span_rowid AS d"
"""Where SQLite keeps the ids of that R*Tree, which has every dataset: eleven bytes for each."""


class Columns(NamedTuple):
    """What is read of each dataset that is found."""

    names: Sequence[str]
    """In SQL; `d` is the dataset, `{id}` its id."""
    join: str = ""
    """Of a table that they are read from beside `dataset`, or instead of it."""
    parameters: tuple[Parameter, ...] = ()
    """Of that."""
    need_dataset: bool = True
    """Whether one of them is read from `dataset`."""


def search(
    connection: sqlite3.Connection, query: CatalogQuery, limit: int, columns: Columns
) -> Iterator[list[Cells]]:
    """*columns* of at most *limit* datasets that meet *query*, some at a time, none empty."""
    if limit <= 0 or is_impossible(query):
        return
    facets = facets_of(connection, query)
    if facets == []:
        return
    ways = list(ways_of(query, facets))
    narrow = candidates_of(connection, query, ways, limit)
    if narrow:
        found = _narrow_rows(connection, query, narrow, columns, limit)
    else:
        found = _wide_rows(connection, query, next(iter(ways), None), columns, limit)
    left = limit
    for rows in found:
        if rows:
            yield rows[:left]
        left -= len(rows)
        if left <= 0:
            return


def _narrow_rows(
    connection: sqlite3.Connection,
    query: CatalogQuery,
    candidates: Candidates,
    columns: Columns,
    limit: int,
) -> Iterator[list[Cells]]:
    """The *candidates* that meet *query*, in the order of ingest.

    Those whose box lies in the shape need not be looked at.
    """
    ids, unsure, are_placed, are_exact = candidates
    if not len(ids):
        return
    # Whatever has a piece has a footprint.
    terms = conditions(query) if are_placed else _terms(query)
    match = SkyMatch(query.shapes) if query.shapes else None
    rows = _Rows(connection, columns, [] if are_exact else terms, match)
    step = min(_MATCHED, limit + _SPARE)
    cuts = [*range(step, len(ids), step)]
    if limit > FEW_ROWS:  # as many as can be are compared together, what is sure lies between
        cuts = np.flatnonzero(unsure)[step::step].tolist()
    for start, end in pairwise([0, *cuts, len(ids)]):
        some, asked = ids[start:end], unsure[start:end]
        if len(some) <= GULP and asked.all():
            yield rows.matched(some.tolist())
            continue
        if asked.any():
            keep = ~asked
            keep[np.searchsorted(some, rows.matching(some[asked].tolist()))] = True
            some = some[keep]
        for at in range(0, len(some), GULP):
            yield rows.plain(some[at : at + GULP].tolist())


def _terms(query: CatalogQuery) -> list[Condition]:
    """What a dataset has to be; one without a footprint meets no shape."""
    terms = conditions(query)
    if query.shapes:
        terms.append(Condition("d.cap_lon IS NOT NULL"))
    return terms


class _Rows:
    """Reads datasets by their ids, those that meet the conditions."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        columns: Columns,
        terms: Sequence[Condition],
        match: SkyMatch | None,
    ) -> None:
        self._connection = connection
        self._columns = columns
        self._terms = terms
        self._match = match

    def plain(self, ids: list[int]) -> list[Cells]:
        """The columns, wherever the datasets lie."""
        return self._read(ids, self._columns)

    def matched(self, ids: list[int]) -> list[Cells]:
        """The columns of those that meet a shape."""
        width = len(self._columns.names)
        return [row[:width] for row in self._met(ids, self._columns)]

    def matching(self, ids: list[int]) -> list[int]:
        """The ids of those that meet a shape."""
        return [row[0] for row in self._met(ids, Columns(["{id}"]))]

    def _met(self, ids: list[int], columns: Columns) -> list[Cells]:
        assert self._match is not None
        names = [*columns.names, *self._match.columns]
        rows = self._read(ids, columns._replace(names=names, need_dataset=True))
        return self._match.meeting(rows) if rows else rows

    def _read(self, ids: list[int], columns: Columns) -> list[Cells]:
        tables = "json_each(?) AS i"
        if columns.need_dataset or self._terms:
            tables += " CROSS JOIN dataset AS d ON d.id = i.value"
        statement = (
            f"SELECT {', '.join(columns.names)} FROM {tables} {columns.join}"  # noqa: S608 - see _where
            f" WHERE {_where(self._terms)}"
        )
        parameters = (json.dumps(ids), *columns.parameters, *_parameters(self._terms))
        return self._connection.execute(statement.replace("{id}", "i.value"), parameters).fetchall()


def _wide_rows(
    connection: sqlite3.Connection,
    query: CatalogQuery,
    way: Way | None,
    columns: Columns,
    limit: int,
) -> Iterator[list[Cells]]:
    """What meets *query*, as it comes out of the index, or of the table where there is no *way*."""
    terms = _terms(query)
    match = SkyMatch(query.shapes) if query.shapes else None
    once = _Once(connection) if way and way.may_repeat else None
    tables, order, row_id = Condition("dataset AS d"), " ORDER BY d.id", "d.id"
    if way and way.is_exact and not columns.need_dataset:
        tables, terms, order, row_id = way.tables, [way.condition], "", way.id
    elif way:
        # CROSS JOIN keeps SQLite to this order of the tables.
        tables = Condition(f"{way.tables.sql} CROSS JOIN dataset AS d", way.tables.parameters)
        terms[:0] = [way.condition, Condition(f"d.id = {way.id}")]
        order = ""
    elif not (columns.need_dataset or terms or match):
        tables, order, row_id = Condition(_IDS), " ORDER BY d.rowid", "d.rowid"
    names = [*columns.names, *([row_id] if once else []), *(match.columns if match else ())]
    statement = f"SELECT {', '.join(names)} FROM {tables.sql} {columns.join} WHERE {_where(terms)}"  # noqa: S608 - see _where
    width, left = len(columns.names), limit
    with closing(connection.cursor()) as cursor:
        cursor.execute(
            statement.replace("{id}", row_id) + order,
            (*tables.parameters, *columns.parameters, *_parameters(terms)),
        )
        while found := cursor.fetchmany(min(GULP, left + _SPARE)):
            if once:
                found = once.new(found, width)
            if match and found:
                found = match.meeting(found)
            if len(names) > width:
                found = [row[:width] for row in found]
            yield found
            left = max(0, left - len(found))


def _where(terms: Sequence[Condition]) -> str:
    """All *terms* as SQL: no text of a request gets into it, all of that is parameters."""
    return " AND ".join(f"({term.sql})" for term in terms) or "1"


def _parameters(terms: Sequence[Condition]) -> list[Parameter]:
    return [one for term in terms for one in term.parameters]


class _Once:
    """Tells which datasets have not come before, in a byte for each id of the catalog."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        (last,) = connection.execute("SELECT max(id) FROM dataset").fetchone()
        self._seen = np.zeros((last or 0) + 1, dtype=bool)

    def new(self, rows: list[Cells], place: int) -> list[Cells]:
        """Those of *rows* whose id, at *place* of each, comes for the first time."""
        ids = np.array([row[place] for row in rows])
        _, first = np.unique(ids, return_index=True)
        fresh = first[~self._seen[ids[first]]]
        self._seen[ids] = True
        return rows if len(fresh) == len(rows) else [rows[at] for at in np.sort(fresh).tolist()]
