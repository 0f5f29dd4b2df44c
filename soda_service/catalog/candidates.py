"""Candidates: the ids of the datasets that the narrowest way into the catalog names.

A way is narrow where it names few; they are counted in turn up to small budgets, and the first
that has few is taken. Where the sky is the only way and the answer long, the nodes of its tree are
read instead of its rows (`boxtree`). For most, their boxes tell whether they meet the shapes.
"""

from __future__ import annotations

from math import cos, radians
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from soda_service.catalog.boxtree import NoPieces, pieces_meeting
from soda_service.catalog.query import Condition
from soda_service.catalog.skybox import sky_box
from soda_service.geometry.shapes import Circle
from soda_service.geometry.skyregion import region_of
from soda_service.geometry.vectors import unit_vector

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from soda_service.catalog.boxtree import Pieces
    from soda_service.catalog.query import CatalogQuery
    from soda_service.catalog.ways import Way
    from soda_service.geometry.shapes import Shape

    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

BUDGETS: Final = (256, 2_048, 16_384)
"""Candidates of each way that are counted, in turn; a way with more than the last is wide."""

FEW_ROWS: Final = 1_000
"""For an answer of so many rows, the last of these budgets would cost more than the rows."""

_FEW_PIECES: Final = 128
"""Of so many SQLite tells sooner than numpy."""

_MOST_SHAPES: Final = 8
"""Shapes whose candidates are read from the nodes of the tree; each costs a look at every cell."""

_DEAREST: Final = 2.0
"""`SkyRegion.dearness` of a shape up to which boxes are compared with it; 40 vertices."""

_SLACK: Final = 1e-12
"""Above the error of a scalar product."""

_ANGLE_SLACK: Final = 1e-7
"""Radians; above the error of an angle, whatever it was made from. A fiftieth of an arcsecond."""


class Candidates(NamedTuple):
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
    def of(cls, keys: Ints, are_placed: bool, are_exact: bool) -> Candidates:
        """Of twice the ids, and one more where they are not sure; sorts *keys*.

        Of several pieces of a dataset one suffices that is sure.
        """
        keys.sort()
        ids = keys // 2
        is_first = np.ones(len(ids), dtype=bool)
        is_first[1:] = ids[1:] > ids[:-1]
        return cls(ids[is_first], keys[is_first] % 2 > 0, are_placed, are_exact)


def candidates_of(
    connection: sqlite3.Connection, query: CatalogQuery, ways: Sequence[Way], limit: int
) -> Candidates | None:
    """Those of the narrowest way, about; None where each is wide."""
    budgets = BUDGETS if limit > FEW_ROWS else BUDGETS[:-1]
    if limit > FEW_ROWS and len(ways) == 1 and ways[0].is_sky:
        few = min(_FEW_PIECES, budgets[-1])
        if len(query.shapes) <= _MOST_SHAPES and not ways[0].holds_fewer(connection, few):
            pieces = pieces_meeting(connection, [*map(sky_box, query.shapes)], budgets[-1])
            if pieces is NoPieces.TOO_MANY:
                return None
            if pieces is not NoPieces.UNREADABLE:
                return told_by_boxes(query.shapes, pieces)
    way = _narrow(connection, ways, budgets)
    if way is None:
        return None
    is_sure = Condition("1")
    if query.shapes:
        is_sure = _boxes_within(query.shapes) if way.is_sky else Condition("0")
    return _named_by(way, connection, is_sure)


def _named_by(way: Way, connection: sqlite3.Connection, sure: Condition) -> Candidates:
    """The candidates of *way*; sure is for which *sure* holds."""
    # One text: to fetch the numbers one by one takes three times as long.
    (text,) = connection.execute(
        f"SELECT group_concat(2 * ({way.id}) + (NOT ({sure.sql})))"  # noqa: S608 - no text of a request
        f" FROM {way.tables.sql} WHERE {way.condition.sql}",
        (*sure.parameters, *way.tables.parameters, *way.condition.parameters),
    ).fetchone()
    keys = np.fromstring(text or "", dtype=np.int64, sep=",")
    return Candidates.of(keys, way.is_sky, way.is_exact)


def told_by_boxes(shapes: Sequence[Shape], pieces: Pieces) -> Candidates:
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
    return Candidates.of(keys[~is_apart], are_placed=True, are_exact=False)


def _narrow(
    connection: sqlite3.Connection, ways: Sequence[Way], budgets: Sequence[int]
) -> Way | None:
    """The way that names fewest candidates, about; None where each of them names many."""
    for budget in budgets if len(ways) > 1 else budgets[-1:]:
        for way in ways:
            if way.holds_fewer(connection, budget):
                return way
    return None


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
