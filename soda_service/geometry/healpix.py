"""The cells of HEALPix in NESTED numbering, of every order up to 29.

The sphere is twelve *faces*, each a square. A place on a face has the coordinates x (towards
north-east) and y (towards north-west), both from 0 to 1, with x = y = 0 at the south corner.
A cell of order k is a square of side 2^-k of a face, and its number is that of the face
followed by the bits of its column and row in turn. Vectors have the shape (3, N); angles are
radians. Source: Górski et al. 2005, ApJ 622, 759, §5 and appendix.
"""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Whole = NDArray[np.int64]

MAX_ORDER: Final = 29
"""The finest order of MOC 2.0 §3.1; a cell of it is 0.4 mas wide."""

CELL_RADIUS: Final = 1.07
"""Radians by which a cell's points may be off its centre, for a cell as large as a face; in
proportion for others. The most is sqrt(0.8 + 0.8226 / 2.4), at the edge of a polar cap."""

FASTEST: Final = 1.452
"""How much a coordinate of the face changes along a radian on the sphere, at most: at a pole."""
FASTEST_BETWEEN_CAPS: Final = 1.0215
"""The same between the polar caps."""
CAP_HEIGHT: Final = 2.0 / 3.0
"""Sine of the latitude at which the polar caps begin."""

_MASKS: Final = (
    (16, 0x0000FFFF0000FFFF),
    (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F),
    (2, 0x3333333333333333),
    (1, 0x5555555555555555),
)
"""Shifts, and the bits that are in their place after each."""

_SOUTH_CORNER: Final = np.array([2.0] * 4 + [3.0] * 4 + [4.0] * 4)
"""Of each face, how far its south corner is from the north pole, in diagonals of half a face."""
_MIDDLE: Final = np.array([1.0, 3.0, 5.0, 7.0, 0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0])
"""Of each face, the longitude of its middle, in eighths of a turn."""


def cell_count(order: int) -> int:
    """Cells of the whole sphere."""
    return 12 << (2 * order)


def cells_at(vectors: Floats) -> Whole:
    """The cell of order 29 that holds each point; -1 for NaN."""
    known = np.isfinite(vectors[0])
    face, x, y = places_of(np.where(known, vectors, 1.0))
    size = 1 << MAX_ORDER
    columns = np.minimum((x * size).astype(np.int64), size - 1)
    rows = np.minimum((y * size).astype(np.int64), size - 1)
    return np.where(known, numbers(face, columns, rows, MAX_ORDER), -1)


def places_of(vectors: Floats) -> tuple[Whole, Floats, Floats]:
    """Face, x and y of points, which need not have unit length."""
    px, py, pz = vectors
    across = np.hypot(px, py)
    length = np.hypot(across, pz)
    z = pz / length
    quarter = np.arctan2(py, px) * (2.0 / pi) % 4.0
    quarter = np.where(quarter >= 4.0, 0.0, quarter)
    # Between the caps: diagonals that rise and that fall, counted from the equator at longitude 0.
    rising = 0.5 + quarter - 0.75 * z
    falling = 0.5 + quarter + 0.75 * z
    rise, fall = np.floor(rising).astype(np.int64), np.floor(falling).astype(np.int64)
    face = np.where(rise == fall, (rise & 3) + 4, np.where(rise < fall, rise & 3, (fall & 3) + 8))
    x, y = falling - fall, 1.0 - (rising - rise)
    # In the caps, meridians converge on the pole; 1 - |z| is taken from what is large near it.
    capped = np.abs(z) > CAP_HEIGHT
    face_across = np.minimum(quarter.astype(np.int64), 3)
    along = quarter - face_across
    height = np.sqrt(3.0 / (1.0 + np.abs(z))) * across / length
    east, west = along * height, (1.0 - along) * height
    north = z > 0.0
    face = np.where(capped, np.where(north, face_across, face_across + 8), face)
    x = np.where(capped, np.where(north, 1.0 - west, east), x)
    y = np.where(capped, np.where(north, 1.0 - east, west), y)
    return face, np.clip(x, 0.0, 1.0), np.clip(y, 0.0, 1.0)


def vectors_at(face: Whole, x: Floats, y: Floats) -> Floats:
    """The unit vectors of places."""
    down = _SOUTH_CORNER[face] - x - y
    north, south = down < 1.0, down > 3.0
    # How far around the pole a face reaches there, against how far it does between the caps.
    width = np.where(north, down, np.where(south, 4.0 - down, 1.0))
    capped = north | south
    squared = width * width / 3.0
    z = np.where(capped, np.where(north, 1.0 - squared, squared - 1.0), (2.0 - down) / 1.5)
    across = np.where(
        capped, width * np.sqrt((2.0 - squared) / 3.0), np.sqrt((1.0 - z) * (1.0 + z))
    )
    # A face's own coordinates, divided by its width, tell the longitude from its middle.
    aside = np.where(width > 0.0, (x - y) / np.where(width > 0.0, width, 1.0), 0.0)
    lon = (_MIDDLE[face] + aside) * (pi / 4.0)
    return np.stack([across * np.cos(lon), across * np.sin(lon), z])


def numbers(face: Whole, columns: Whole, rows: Whole, order: int | Whole) -> Whole:
    """The numbers of cells."""
    number: Whole = (face << (2 * np.int64(order))) | _spread(columns) | (_spread(rows) << 1)
    return number


def squares(cells: Whole, order: int | Whole) -> tuple[Whole, Whole, Whole]:
    """Face, column and row of cells."""
    face = cells >> (2 * np.int64(order))
    bits = cells - (face << (2 * np.int64(order)))
    return face, _gathered(bits), _gathered(bits >> 1)


def neighbours(cells: Whole, order: int | Whole) -> Whole:
    """The eight cells around each, shape (8, N), going round from the south-west side.

    First column less, then row; where only three faces meet, one of the sides stands for the
    corner that is missing.
    """
    face, column, row = squares(cells, order)
    base = face << (2 * np.int64(order))
    columns = [base | _spread(column + right) for right in (-1, 0, 1)]
    rows = [_spread(row + up) << 1 for up in (-1, 0, 1)]
    found = np.stack([columns[1 + right] | rows[1 + up] for right, up in DIRECTIONS])
    # Few cells are at the edge of their face.
    last = (np.int64(1) << np.int64(order)) - 1
    edge = np.flatnonzero((column == 0) | (row == 0) | (column == last) | (row == last))
    order_there = np.broadcast_to(np.int64(order), cells.shape)[edge]
    for number, (right, up) in enumerate(DIRECTIONS):
        place = _stepped(face[edge], column[edge], row[edge], order_there, right, up)
        found[number, edge] = numbers(*place, order_there)
    return found


DIRECTIONS: Final = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
"""Columns and rows from a cell to each of its `neighbours`."""


def _stepped(
    face: Whole, column: Whole, row: Whole, order: Whole, right: int, up: int
) -> tuple[Whole, Whole, Whole]:
    """The cells so many columns and rows on, each -1, 0 or 1."""
    face, column, row, turned = _crossed(face, column + right, row, order)
    column, row = np.where(turned, column + up, column), np.where(turned, row, row + up)
    face, column, row, _ = _crossed(face, column, row, order)
    return face, column, row


def _crossed(
    face: Whole, column: Whole, row: Whole, order: Whole
) -> tuple[Whole, Whole, Whole, Bools]:
    """Squares that may be one beyond a side of their face, told by the face that they are on.

    The last says where the columns of that face run along the rows of the first.
    """
    size = np.int64(1) << order
    zone, place = face >> 2, face & 3
    # From one face of a cap to the next one the way turns: around the pole.
    north, south = zone == 0, zone == 2
    far_x, far_y, near_x, near_y = column >= size, row >= size, column < 0, row < 0
    turned = (north & (far_x | far_y)) | (south & (near_x | near_y))
    eastward = (north & far_x) | (south & near_y)
    westward = (north & far_y) | (south & near_x)
    place = np.where(eastward, place + 1, np.where(westward, place + 3, place)) & 3
    x = np.where(turned, row, column)
    y = np.where(turned, column, row)
    # Beyond a side by one is within the next face by none, whichever way one goes.
    x = np.where(turned & far_y, size - 1, np.where(turned & near_y, 0, x))
    y = np.where(turned & far_x, size - 1, np.where(turned & near_x, 0, y))
    # From zone to zone it does not: a face between the caps lies half a face aside.
    up, down = ~turned & (far_x | far_y), ~turned & (near_x | near_y)
    middle = zone == 1
    shift = np.where(
        middle,
        np.where(far_y | near_x, 3, 0),
        np.where((north & near_y) | (south & far_x), 1, 0),
    )
    moved = up | down
    place = np.where(moved, (place + shift) & 3, place)
    zone = np.where(up, zone - 1, np.where(down, zone + 1, zone))
    x = np.where(moved & far_x, 0, np.where(moved & near_x, size - 1, x))
    y = np.where(moved & far_y, 0, np.where(moved & near_y, size - 1, y))
    return (zone << 2) | place, x, y, turned


def _spread(values: Whole) -> Whole:
    """Values with a zero bit put before each of their bits."""
    bits = values
    for shift, mask in _MASKS:
        bits = (bits | (bits << shift)) & mask
    return bits


def _gathered(bits: Whole) -> Whole:
    """Every other bit, the lowest first; the inverse of the above."""
    values = bits & _MASKS[-1][1]
    for (shift, _), (_, mask) in zip(_MASKS[::-1], _MASKS[-2::-1], strict=False):
        values = (values | (values >> shift)) & mask
    return (values | (values >> 16)) & 0xFFFFFFFF
