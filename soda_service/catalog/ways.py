"""The ways into the catalog: for each index, which of its rows may meet a query.

There are four: identifiers, targets, the R*Tree of the sky, and that over facet, time and
wavelength (`schema.dataset_span`). Each names candidates, and none says more than it knows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Final

import numpy as np

from soda_service.catalog.query import (
    Condition,
    conditions,
    facet_conditions,
    identifier_condition,
    merged_intervals,
    target_condition,
)
from soda_service.catalog.schema import (
    BOX_COLUMNS,
    FACET_UNIT,
    FIRST_PIECE,
    MOST_PIECES,
    SPAN_COLUMNS,
)
from soda_service.catalog.skybox import sky_box

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from soda_service.catalog.query import CatalogQuery
    from soda_service.geometry.shapes import Interval

    Range = tuple[float, float]

_MOST_BOXES: Final = 500
"""Boxes in which one R*Tree is searched; what would need more is searched in larger ones."""

_DATASET_OF_PIECE: Final = (
    f"CASE WHEN b.id >= {FIRST_PIECE} THEN (b.id - {FIRST_PIECE}) / {MOST_PIECES}"
    " ELSE b.dataset_id END"
)
"""Pieces of older catalogs do not tell; to ask the tree for another column takes as long as all."""

_SURE_FACETS: Final = 1_000_000
"""Up to here `dataset_span`, in 32 bits, holds two facets apart."""

_ALL: Final = (-1e38, 1e38)
_T_LIMITS: Final = (-1e8, 1e8)
_EM_LIMITS: Final = (0.0, 1e15)
_NANOMETRES: Final = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way into the catalog: rows that name candidates."""

    tables: Condition
    id: str
    """The column of the candidates' ids."""
    condition: Condition
    is_sky: bool = False
    """Whether it is that of the pieces, which may name a dataset several times."""
    may_repeat: bool = False
    """Whether a dataset may be named several times."""
    is_exact: bool = False
    """Whether every candidate meets the query."""

    def holds_fewer(self, connection: sqlite3.Connection, than: int) -> bool:
        """Whether there are fewer candidates *than* that."""
        (count,) = connection.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM {self.tables.sql}"  # noqa: S608 - no text of a request
            f" WHERE {self.condition.sql} LIMIT ?)",
            (*self.tables.parameters, *self.condition.parameters, than),
        ).fetchone()
        return bool(count < than)


def ways_of(query: CatalogQuery, facets: Sequence[int] | None) -> Iterator[Way]:
    """The ways that *query* offers, those first that are most often narrow.

    *facets* are those that its datasets may have; None where they may have any.
    """
    identifiers = identifier_condition(query)
    if identifiers:
        yield _listed(identifiers)
        return  # there are no more candidates than identifiers in the request
    if query.shapes:
        boxes = [sky_box(shape) for shape in query.shapes]
        yield _tree("piece_box", _DATASET_OF_PIECE, BOX_COLUMNS, boxes)
    targets = target_condition(query)
    if targets:
        yield _listed(targets)
    if facets is not None or query.times or query.bands:
        ranges = _few_ranges(
            [(FACET_UNIT * low, FACET_UNIT * (high + 0.5)) for low, high in _runs(facets)]
            if facets is not None
            else [_ALL],
            _ranges(query.times, 1.0, _T_LIMITS),
            _ranges(query.bands, _NANOMETRES, _EM_LIMITS),
        )
        boxes = [(*facet, *time, *band) for facet, time, band in product(*ranges)]
        way = _tree("dataset_span", "b.id", SPAN_COLUMNS, boxes)
        if facets is not None and _is_told_by_facets(query, facets, len(ranges[0])):
            way = replace(way, may_repeat=False, is_exact=True)
        yield way


def _is_told_by_facets(query: CatalogQuery, facets: Sequence[int], ranges: int) -> bool:
    """Whether just what meets *query* is in those *ranges* of `dataset_span`."""
    return (
        not query.shapes
        and len(conditions(query)) == len(facet_conditions(query, ""))
        and ranges == len(_runs(facets))
        and facets[-1] < _SURE_FACETS
    )


def _listed(condition: Condition) -> Way:
    return Way(tables=Condition("dataset AS b"), id="b.id", condition=condition, may_repeat=False)


def _tree(
    name: str, id_column: str, columns: Sequence[str], boxes: Sequence[tuple[float, ...]]
) -> Way:
    """The rows of an R*Tree that meet one of *boxes*; least and largest take turns."""
    least, largest = columns[::2], columns[1::2]
    meets = [
        f"b.{high} >= json_extract(q.value, '$[{2 * axis}]')"
        f" AND b.{low} <= json_extract(q.value, '$[{2 * axis + 1}]')"
        for axis, (low, high) in enumerate(zip(least, largest, strict=True))
    ]
    return Way(
        tables=Condition(f"json_each(?) AS q CROSS JOIN {name} AS b", (json.dumps(boxes),)),
        id=id_column,
        condition=Condition(" AND ".join(meets)),
        is_sky=name == "piece_box",
        may_repeat=name == "piece_box" or len(boxes) > 1,
    )


def facets_of(connection: sqlite3.Connection, query: CatalogQuery) -> list[int] | None:
    """The facets that meet *query*, in order; None where all do."""
    wanted = facet_conditions(query, "")
    if not wanted:
        return None
    where = " AND ".join(one.sql for one in wanted)
    found = connection.execute(
        f"SELECT id FROM facet WHERE {where} ORDER BY id",  # noqa: S608 - no text of a request
        [parameter for one in wanted for parameter in one.parameters],
    ).fetchall()
    (count,) = connection.execute("SELECT count(*) FROM facet").fetchone()
    return None if len(found) == count > 0 else [row[0] for row in found]


def _runs(numbers: Sequence[int]) -> list[Range]:
    """The same *numbers*, which are in order, as runs without gaps: first and last."""
    runs: list[Range] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _ranges(intervals: Sequence[Interval], unit: float, limits: Range) -> list[Range]:
    """*intervals* as `dataset_span` has them."""
    if not intervals:
        return [_ALL]
    least, largest = limits
    return [
        (max(least, min(largest, low * unit)), max(least, min(largest, high * unit)))
        for low, high in merged_intervals(intervals)
    ]


def _few_ranges(*axes: list[Range]) -> list[list[Range]]:
    """*axes*, some of whose ranges are joined where there would be too many boxes."""
    few = list(axes)
    while np.prod([len(ranges) for ranges in few]) > _MOST_BOXES:
        longest = max(range(len(few)), key=lambda axis: len(few[axis]))
        ranges = few[longest]
        few[longest] = [(min(low for low, _ in ranges), max(high for _, high in ranges))]
    return few
