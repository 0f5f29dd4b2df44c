"""How datasets are found: which index is entered first, and in what order rows come out.

There are four ways in: identifiers, targets, the R*Tree of the sky, and that over facet, time
and wavelength (`schema.dataset_span`). Each of them names candidates, rows that may meet the
query; all the rest of it is then asked of those. A way is narrow where it names few of them, and
where there is a narrow one, datasets come in the order of ingest. Where all are wide, they
come in the order of the index, as they are found: nothing is sorted before the first of them.
Where the sky is the only way and the answer long, the nodes of its tree are read instead of its
rows (`boxtree`).
So the work grows with what is found and not with the catalog, but for what no index knows
(field of view, resolutions, exposure time) and for wide constraints that hardly ever meet.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise, product
from math import cos, radians
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from soda_service.catalog.boxtree import NoPieces, pieces_meeting
from soda_service.catalog.query import (
    Condition,
    conditions,
    facet_conditions,
    identifier_condition,
    is_impossible,
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
from soda_service.catalog.skymatch import SkyMatch
from soda_service.geometry.shapes import Circle
from soda_service.geometry.skyregion import region_of
from soda_service.geometry.vectors import unit_vector

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from soda_service.catalog.boxtree import Pieces
    from soda_service.catalog.query import CatalogQuery, Parameter
    from soda_service.geometry.shapes import Interval, Shape

    Cells = tuple[Any, ...]
    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]
    Range = tuple[float, float]

GULP: Final = 500
"""Rows fetched at once while an answer streams."""

_SPARE: Final = 10
"""Rows fetched beyond those that are wanted: not every one of them need meet the query."""

_BUDGETS: Final = (256, 2_048, 16_384)
"""Candidates of each way that are counted, in turn; a way with more than the last is wide."""

_FEW_ROWS: Final = 1_000
"""For an answer of so many rows, the last of these budgets would cost more than the rows."""

_MATCHED: Final = 2_000
"""Candidates that are compared with shapes at once."""

_MOST_BOXES: Final = 500
"""Boxes in which one R*Tree is searched; what would need more is searched in larger ones."""

_DATASET_OF_PIECE: Final = (
    f"CASE WHEN b.id >= {FIRST_PIECE} THEN (b.id - {FIRST_PIECE}) / {MOST_PIECES}"
    " ELSE b.dataset_id END"
)
"""Pieces of older catalogs do not tell; to ask the tree for another column takes as long as all."""

_IDS: Final = "dataset_span_rowid AS d"
"""Where SQLite keeps the ids of that R*Tree, which has every dataset: eleven bytes for each."""

_FEW_PIECES: Final = 128
"""Of so many SQLite tells sooner than numpy."""

_MOST_SHAPES: Final = 8
"""Shapes whose candidates are read from the nodes of the tree; each costs a look at every cell."""

_DEAREST: Final = 2.0
"""`SkyRegion.dearness` of a shape up to which boxes are compared with it; 40 vertices."""

_SURE_FACETS: Final = 1_000_000
"""Up to here `dataset_span`, in 32 bits, holds two facets apart."""

_SLACK: Final = 1e-12
"""Above the error of a scalar product."""

_ANGLE_SLACK: Final = 1e-7
"""Radians; above the error of an angle, whatever it was made from. A fiftieth of an arcsecond."""

_ALL: Final = (-1e38, 1e38)
_T_LIMITS: Final = (-1e8, 1e8)
_EM_LIMITS: Final = (0.0, 1e15)
_NANOMETRES: Final = 1e9


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
    facets = _facets(connection, query)
    if facets == []:
        return
    ways = list(_ways(query, facets))
    narrow = _candidates(connection, query, ways, limit)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
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
            f"SELECT count(*) FROM (SELECT 1 FROM {self.tables.sql}"  # noqa: S608 - see _where
            f" WHERE {self.condition.sql} LIMIT ?)",
            (*self.tables.parameters, *self.condition.parameters, than),
        ).fetchone()
        return bool(count < than)

    def candidates(self, connection: sqlite3.Connection, sure: Condition) -> _Candidates:
        """The candidates; sure is for which *sure* holds."""
        # One text: to fetch the numbers one by one takes three times as long.
        (text,) = connection.execute(
            f"SELECT group_concat(2 * ({self.id}) + (NOT ({sure.sql})))"  # noqa: S608 - see _where
            f" FROM {self.tables.sql} WHERE {self.condition.sql}",
            (*sure.parameters, *self.tables.parameters, *self.condition.parameters),
        ).fetchone()
        keys = np.fromstring(text or "", dtype=np.int64, sep=",")
        return _Candidates.of(keys, self.is_sky, self.is_exact)


class _Candidates(NamedTuple):
    """The rows that a narrow way names."""

    ids: Ints
    """In the order of ingest."""
    unsure: Bools
    """Whether each has to be compared with the shapes, if there are any."""
    are_placed: bool
    """Whether each has a footprint."""
    are_exact: bool
    """Whether each meets the query."""

    @classmethod
    def of(cls, keys: Ints, are_placed: bool, are_exact: bool) -> _Candidates:
        """Of twice the ids, and one more where they are not sure; sorts *keys*.

        Of several pieces of a dataset one suffices that is sure.
        """
        keys.sort()
        ids = keys // 2
        is_first = np.ones(len(ids), dtype=bool)
        is_first[1:] = ids[1:] > ids[:-1]
        return cls(ids[is_first], keys[is_first] % 2 > 0, are_placed, are_exact)


def _candidates(
    connection: sqlite3.Connection, query: CatalogQuery, ways: Sequence[_Way], limit: int
) -> _Candidates | None:
    """Those of the narrowest way, about; None where each is wide."""
    budgets = _BUDGETS if limit > _FEW_ROWS else _BUDGETS[:-1]
    if limit > _FEW_ROWS and len(ways) == 1 and ways[0].is_sky:
        few = min(_FEW_PIECES, budgets[-1])
        if len(query.shapes) <= _MOST_SHAPES and not ways[0].holds_fewer(connection, few):
            pieces = pieces_meeting(connection, [*map(sky_box, query.shapes)], budgets[-1])
            if pieces is NoPieces.TOO_MANY:
                return None
            if pieces is not NoPieces.UNREADABLE:
                return _told_by_boxes(query.shapes, pieces)
    way = _narrow(connection, ways, budgets)
    if way is None:
        return None
    is_sure = Condition("1")
    if query.shapes:
        is_sure = _boxes_within(query.shapes) if way.is_sky else Condition("0")
    return way.candidates(connection, is_sure)


def _told_by_boxes(shapes: Sequence[Shape], pieces: Pieces) -> _Candidates:
    """The datasets of those *pieces* whose boxes do not lie apart from all shapes.

    A box cuts from the sphere what lies in a cap around its centre's direction. Where that cap is
    inside of a shape the piece is too; where it is apart from each of them the piece is too.
    """
    least, largest = pieces.boxes[:, :, 0].T, pieces.boxes[:, :, 1].T
    centres = (least + largest) / 2
    diagonals = np.sqrt(((largest - least) ** 2).sum(axis=0))
    lengths = np.maximum(np.sqrt((centres * centres).sum(axis=0)), 1e-9)
    # A unit vector within half a diagonal h of a point at the distance L from the middle is at an
    # angle a from it with 4 L sin²(a/2) = h² - (1 - L)² at most.
    sines = np.minimum(diagonals / 4 / np.sqrt(lengths), 1.0)
    radii = 2 * np.arcsin(sines) + _ANGLE_SLACK
    directions = centres / lengths
    is_sure = np.zeros(len(radii), dtype=bool)
    is_apart = np.ones(len(radii), dtype=bool)
    for region in map(region_of, shapes):
        if region.is_simple and region.dearness <= _DEAREST:
            margin = region.margin(directions)
            is_sure |= margin >= radii
            is_apart &= margin < -radii
        else:
            is_apart[:] = False
    keys = 2 * pieces.datasets + ~is_sure
    return _Candidates.of(keys[~is_apart], are_placed=True, are_exact=False)


def _narrow(
    connection: sqlite3.Connection, ways: Sequence[_Way], budgets: Sequence[int]
) -> _Way | None:
    """The way that names fewest candidates, about; None where each of them names many."""
    for budget in budgets if len(ways) > 1 else budgets[-1:]:
        for way in ways:
            if way.holds_fewer(connection, budget):
                return way
    return None


def _narrow_rows(
    connection: sqlite3.Connection,
    query: CatalogQuery,
    candidates: _Candidates,
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
    if limit > _FEW_ROWS:  # as many as can be are compared together, what is sure lies between
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
    way: _Way | None,
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


def _boxes_within(shapes: Sequence[Shape]) -> Condition:
    """That a piece's box, and with it the piece, lies in the one circle that *shapes* are.

    A circle is what of the sphere lies beyond a plane. A box does where its corner nearest to
    the plane does, and which one that is the signs of the plane's normal tell.
    """
    circles = [shape for shape in shapes if isinstance(shape, Circle)]
    if len(shapes) != 1 or not circles:
        return Condition("0")
    normal = unit_vector(circles[0].lon, circles[0].lat)
    corner = [
        f"b.{'min' if component > 0 else 'max'}_{axis} * ?"
        for axis, component in zip("xyz", normal, strict=True)
    ]
    least = cos(radians(circles[0].radius)) + _SLACK
    return Condition(f"{' + '.join(corner)} > ?", (*normal, least))


def _ways(query: CatalogQuery, facets: Sequence[int] | None) -> Iterator[_Way]:
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


def _listed(condition: Condition) -> _Way:
    return _Way(tables=Condition("dataset AS b"), id="b.id", condition=condition, may_repeat=False)


def _tree(
    name: str, id_column: str, columns: Sequence[str], boxes: Sequence[tuple[float, ...]]
) -> _Way:
    """The rows of an R*Tree that meet one of *boxes*; least and largest take turns."""
    least, largest = columns[::2], columns[1::2]
    meets = [
        f"b.{high} >= json_extract(q.value, '$[{2 * axis}]')"
        f" AND b.{low} <= json_extract(q.value, '$[{2 * axis + 1}]')"
        for axis, (low, high) in enumerate(zip(least, largest, strict=True))
    ]
    return _Way(
        tables=Condition(f"json_each(?) AS q CROSS JOIN {name} AS b", (json.dumps(boxes),)),
        id=id_column,
        condition=Condition(" AND ".join(meets)),
        is_sky=name == "piece_box",
        may_repeat=name == "piece_box" or len(boxes) > 1,
    )


def _facets(connection: sqlite3.Connection, query: CatalogQuery) -> list[int] | None:
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
