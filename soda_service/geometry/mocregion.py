"""A MOC prepared for many questions.

The edges of HEALPix cells are neither great nor small circles. So distances are told by how many
cells lie between, which bounds them from below, and whether a cell meets an outline is decided by
cutting it into ever smaller cells, until their edges are great circles but for what does not count.
"""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING, Final

import numpy as np

from .arcs import separations
from .healpix import (
    CAP_HEIGHT,
    CELL_RADIUS,
    DIRECTIONS,
    FASTEST,
    FASTEST_BETWEEN_CAPS,
    MAX_ORDER,
    cell_count,
    cells_at,
    neighbours,
    places_of,
    squares,
    vectors_at,
)
from .vectors import enclosing_axis

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .arcs import Outlines
    from .moc import Moc
    from .vectors import Vector

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Whole = NDArray[np.int64]
    Indices = NDArray[np.intp]

_EMPTY, _FULL, _MIXED = 0, 1, 2
"""What of a cell is covered: nothing, all, or some."""

_SMOOTH: Final = 4e-8
"""Part of an outline's width by which the edge of a cell may stray from great circles."""
_ROUNDING: Final = 1e-16
_PARTS: Final = 4
"""Great circles that stand for a side of a cell, once it is small enough."""
_MAX_PAIRS: Final = 1 << 18
"""Pairs of an arc and a cell that are looked at together."""
_MAX_HALVINGS: Final = 40
"""How often a cell is cut, at most; then it is as small as a rounding."""

_CLUSTERS: Final = 48
"""Groups of cells whose distance tells how far a point is from all."""
_SOME: Final = 256
"""Cells whose points are given out, at most."""

_AROUND: Final = np.arange(_PARTS) / _PARTS
_RIM: Final = np.stack([
    np.concatenate([_AROUND, np.ones(_PARTS), 1.0 - _AROUND, np.zeros(_PARTS)]),
    np.concatenate([np.zeros(_PARTS), _AROUND, np.ones(_PARTS), 1.0 - _AROUND]),
])  # fmt: skip
"""Places along the sides of a square, each corner once."""


def moc_holds(moc: Moc, vectors: Floats) -> Bools:
    """Whether a cell of *moc* holds each point, of which there may be many; NaN is in none."""
    starts, ends = moc.ranges
    cells = cells_at(vectors)
    place = np.searchsorted(ends, cells, side="right")
    held: Bools = np.append(starts, np.iinfo(np.int64).max)[place] <= cells
    return held & (cells >= 0)


class MocRegion:
    """A prepared MOC."""

    dearness: Final = 5.0
    is_simple: Final = False

    def __init__(self, moc: Moc) -> None:
        self._moc = moc
        self._starts, self._ends = moc.ranges
        self._order = moc.order
        self._is_all = self._starts.size == 1 and int(
            self._ends[0] - self._starts[0]
        ) == cell_count(MAX_ORDER)
        self._squares = _Squares.of(moc)
        self._centres = self._squares.centres()
        self._radii = CELL_RADIUS * self._squares.size
        clusters = self._squares.clusters(_CLUSTERS)
        self._clusters = clusters.centres(), CELL_RADIUS * clusters.size
        self.axis, self.radius = self._cap()

    def margin(self, vectors: Floats) -> Floats:
        """See `SkyRegion`; down to an eighth of the distance."""
        inside = moc_holds(self._moc, vectors)
        unknown = ~np.isfinite(vectors[0])
        if self._is_all or not self._starts.size:
            margin = np.full(inside.size, pi)
        else:
            known = np.where(unknown, 1.0, vectors)
            margin = self._distance(known, inside)
            margin = np.where(inside, margin, np.maximum(margin, self._distance_from_afar(known)))
        margin = np.where(inside, margin, -margin)
        return np.where(unknown, np.nan, margin)

    def meets(self, outlines: Outlines) -> Bools:
        """See `SkyRegion`."""
        met = outlines.any(moc_holds(self._moc, outlines.vertices))
        if self._starts.size and not met.all():
            met |= _Crossing(outlines, ~met).met_by(self._squares, self._centres, self._radii)
        return met

    def points(self, count: int) -> Floats:
        """See `SkyRegion`; corners and centres of cells, of so many that each gives some."""
        cells = self._squares
        total = len(cells)
        some = cells.take(np.linspace(0, total - 1, min(total, _SOME)).astype(np.intp))
        ways = [(0.5, 0.5), (0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]
        if total * len(ways) < count:
            ways += [(float(x), float(y)) for x, y in _RIM.T]
        return np.concatenate([some.at(x, y) for x, y in ways], axis=1)

    def _cap(self) -> tuple[Vector, float]:
        if not len(self._squares):
            return (0.0, 0.0, 1.0), 0.0
        found = enclosing_axis(self._centres)
        axis = found[0] if found else (0.0, 0.0, 1.0)
        reach = float((separations(axis, self._centres) + self._radii).max())
        return axis, min(reach, pi)

    def _covered(self, cells: Whole, shift: Whole) -> Whole:
        """What of each cell is covered; *shift* is twice the orders that it is coarser than 29."""
        low, high = cells << shift, (cells + 1) << shift
        place = np.searchsorted(self._ends, low, side="right")
        starts = np.append(self._starts, np.iinfo(np.int64).max)[place]
        ends = np.append(self._ends, np.iinfo(np.int64).max)[place]
        return np.where(
            starts >= high, _EMPTY, np.where((starts <= low) & (ends >= high), _FULL, _MIXED)
        )

    def _distance(self, vectors: Floats, inside: Bools) -> Floats:
        """How far the edge of the MOC is from each point, at least."""
        cells = cells_at(vectors)
        alike = np.where(inside, _FULL, _EMPTY)
        # The coarsest order at which a cell and those around it are all like the point. At finer
        # orders they are too, so that it can be found by halves; the last is one too fine.
        low = np.zeros(cells.size, dtype=np.int64)
        high = np.full(cells.size, self._order + 1, dtype=np.int64)
        while (open_ := np.flatnonzero(low < high)).size:
            middle = (low[open_] + high[open_]) >> 1
            fits = self._are_alike(cells[open_], middle, alike[open_])
            high[open_] = np.where(fits, middle, high[open_])
            low[open_] = np.where(fits, low[open_], middle + 1)
        distance = np.zeros(cells.size)
        for order in (high, high - 1):
            some = np.flatnonzero((order >= 0) & (order <= self._order))
            nearest = self._nearest(vectors[:, some], cells[some], order[some], alike[some])
            distance[some] = np.maximum(distance[some], nearest)
        # Between the caps the map is gentler; that counts where the whole way is there.
        lat = np.arcsin(np.clip(np.abs(vectors[2]), 0.0, 1.0))
        gentle = distance / FASTEST_BETWEEN_CAPS
        stays = lat + gentle < np.arcsin(CAP_HEIGHT) - 1e-9
        found: Floats = np.where(stays, gentle, distance / FASTEST)
        return found

    def _distance_from_afar(self, vectors: Floats) -> Floats:
        """How far the MOC is from each point, at least; good where that is far."""
        centres, radii = self._clusters
        apart = np.full(vectors.shape[1], pi)
        for centre, radius in zip(centres.T, radii.tolist(), strict=True):
            # An arc cosine is blind to small angles.
            np.minimum(apart, np.arccos(np.clip(centre @ vectors, -1.0, 1.0)) - radius, out=apart)
        return apart - 3e-8

    def _are_alike(self, cells: Whole, order: Whole, alike: Whole) -> Bools:
        """Whether the cells of *order* that hold cells of order 29, and those around them, are."""
        shift = 2 * (MAX_ORDER - order)
        own = cells >> shift
        fits: Bools = self._covered(own, shift) == alike
        some = np.flatnonzero(fits)
        around = self._covered(neighbours(own[some], order[some]), shift[some])
        fits[some] = (around == alike[some]).all(axis=0)
        return fits

    def _nearest(self, vectors: Floats, cells: Whole, order: Whole, alike: Whole) -> Floats:
        """How far a face's coordinates must change to reach a cell that is not like the point.

        Or to leave the cells of *order* that are around it, where these are all alike.
        """
        shift = 2 * (MAX_ORDER - order)
        around = self._covered(neighbours(cells >> shift, order), shift)
        _, x, y = places_of(vectors)
        size = np.ldexp(1.0, -order.astype(np.int32))
        x, y = (np.clip(part / size - np.floor(part / size), 0.0, 1.0) for part in (x, y))
        # A place on the far edge of a face is counted with the last cell there.
        sides = {-1: x, 0: np.zeros(x.size), 1: 1.0 - x}, {-1: y, 0: np.zeros(y.size), 1: 1.0 - y}
        least = 1.0 + np.minimum(np.minimum(x, 1.0 - x), np.minimum(y, 1.0 - y))
        for state, (right, up) in zip(around, DIRECTIONS, strict=True):
            way = np.maximum(sides[0][right], sides[1][up])
            least = np.where(state != alike, np.minimum(least, way), least)
        return np.where(self._covered(cells >> shift, shift) == alike, least * size, 0.0)


class _Squares:
    """Squares on the faces: cells, and parts of them however small."""

    def __init__(self, face: Whole, x: Floats, y: Floats, size: Floats) -> None:
        self.face = face
        self.x = x
        self.y = y
        self.size = size

    @classmethod
    def of(cls, moc: Moc) -> _Squares:
        """The cells of a MOC."""
        faces: list[Whole] = [np.empty(0, np.int64)]
        xs: list[Floats] = [np.empty(0)]
        ys: list[Floats] = [np.empty(0)]
        sizes: list[Floats] = [np.empty(0)]
        for order, first, stop in moc.runs():
            counts = stop - first
            ahead = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
            face, column, row = squares(np.repeat(first, counts) + ahead, order)
            side = float(2.0**-order)
            faces.append(face)
            xs.append(np.multiply(column, side, dtype=np.float64))
            ys.append(np.multiply(row, side, dtype=np.float64))
            sizes.append(np.full(face.size, side))
        places = np.concatenate(xs), np.concatenate(ys)
        return cls(np.concatenate(faces), *places, np.concatenate(sizes))

    def clusters(self, most: int) -> _Squares:
        """At most so many squares that hold all of them, or twelve."""
        order = MAX_ORDER
        squares_ = self
        while len(squares_) > most and order:
            order -= 1
            size = float(2.0**-order)
            fine = squares_.size < size
            x = np.where(fine, np.floor(squares_.x / size) * size, squares_.x)
            y = np.where(fine, np.floor(squares_.y / size) * size, squares_.y)
            sizes = np.where(fine, size, squares_.size)
            _, first = np.unique(np.stack([squares_.face, x, y, sizes]), axis=1, return_index=True)
            squares_ = _Squares(squares_.face[first], x[first], y[first], sizes[first])
        return squares_

    def at(self, x: float, y: float) -> Floats:
        """A point of each, by its place within the square."""
        return vectors_at(self.face, self.x + x * self.size, self.y + y * self.size)

    def centres(self) -> Floats:
        """The middle of each."""
        return self.at(0.5, 0.5)

    def rims(self) -> Floats:
        """Points along the sides, shape (3, points, N)."""
        count = _RIM.shape[1]
        x = self.x + _RIM[0][:, None] * self.size
        y = self.y + _RIM[1][:, None] * self.size
        face = np.broadcast_to(self.face, (count, len(self)))
        return vectors_at(face.ravel(), x.ravel(), y.ravel()).reshape(3, count, len(self))

    def take(self, which: Bools | Indices) -> _Squares:
        """Some of them."""
        return _Squares(self.face[which], self.x[which], self.y[which], self.size[which])

    def quarters(self) -> _Squares:
        """Each cut in four: the first quarter of all, then the second."""
        half = self.size / 2.0
        return _Squares(
            np.tile(self.face, 4),
            np.concatenate([self.x + right * half for right in (0, 1, 0, 1)]),
            np.concatenate([self.y + up * half for up in (0, 0, 1, 1)]),
            np.tile(half, 4),
        )

    def __len__(self) -> int:
        return self.face.size


class _Crossing:
    """The search for cells that meet outlines, none of whose vertices are in a cell."""

    def __init__(self, outlines: Outlines, wanted: Bools) -> None:
        self._outlines = outlines
        self._wanted = np.flatnonzero(wanted)
        self._met = np.zeros(len(outlines), dtype=bool)
        self._axes = outlines.axes
        self._radii = outlines.radii
        self._smooth = _SMOOTH * outlines.widths + _ROUNDING

    def met_by(self, squares_: _Squares, centres: Floats, radii: Floats) -> Bools:
        """Whether each wanted outline and any of the cells have a point in common."""
        for which, cell in self._near(centres, radii):
            self._search(which, squares_.take(cell))
        return self._met

    def _near(self, centres: Floats, radii: Floats) -> Iterator[tuple[Indices, Indices]]:
        """Pairs of outlines and cells whose caps meet, some at a time."""
        few = max(1, _MAX_PAIRS // max(1, radii.size))
        for first in range(0, self._wanted.size, few):
            some = self._wanted[first : first + few]
            cosines = self._axes[:, some].T @ centres
            reach = np.minimum(self._radii[some][:, None] + radii + 1e-9, pi)
            outline, cell = np.nonzero(cosines >= np.cos(reach) - 1e-15)
            for piece in range(0, outline.size, _MAX_PAIRS):
                chosen = slice(piece, piece + _MAX_PAIRS)
                yield some[outline[chosen]], cell[chosen]

    def _search(self, which: Indices, cells: _Squares) -> None:
        """Cut the cells that may meet their outlines until all is decided."""
        for _ in range(_MAX_HALVINGS):
            which, cells = self._still_open(which, cells)
            if not which.size:
                return
            rims = cells.rims()
            final = _stray(rims) <= self._smooth[which]
            self._decide(which[final], rims[:, :, final])
            which, cells = np.tile(which[~final], 4), cells.take(~final).quarters()

    def _still_open(self, which: Indices, cells: _Squares) -> tuple[Indices, _Squares]:
        """The pairs that are neither apart nor known to meet."""
        keep = ~self._met[which]
        which, cells = which[keep], cells.take(keep)
        centres = cells.centres()
        reach = CELL_RADIUS * cells.size
        apart = centres - self._axes[:, which]
        far = 2.0 * np.sin(np.minimum(self._radii[which] + reach, pi) / 2.0)
        keep = np.sqrt((apart * apart).sum(axis=0)) <= far + _ROUNDING
        which, cells, centres, reach = which[keep], cells.take(keep), centres[:, keep], reach[keep]
        near = np.zeros(which.size, dtype=bool)
        for piece in self._pieces(which):
            held, distance = self._outlines.held_and_distance(which[piece], centres[:, piece])
            self._met[which[piece][held]] = True
            near[piece] = distance <= reach[piece]
        near &= ~self._met[which]
        return which[near], cells.take(near)

    def _decide(self, which: Indices, rims: Floats) -> None:
        """Decide on cells whose sides are great circles from point to point."""
        points = rims.shape[1]
        for piece in self._pieces(which, points):
            for number in range(points):
                some = which[piece]
                held, _ = self._outlines.held_and_distance(some, rims[:, number, piece])
                self._met[some[held]] = True
            left = np.flatnonzero(~self._met[which[piece]]) + piece.start
            if left.size:
                crossed = self._outlines.crossed(which[left], rims[:, :, left])
                self._met[which[left][crossed]] = True

    def _pieces(self, which: Indices, partners: int = 1) -> Iterator[slice]:
        """Slices of pairs that keep the number of arcs looked at bounded."""
        if not which.size:
            return
        most = int(self._outlines.counts[which].max()) * partners
        few = max(1, _MAX_PAIRS // most)
        for first in range(0, which.size, few):
            yield slice(first, min(first + few, which.size))


def _stray(rims: Floats) -> Floats:
    """How far the sides of squares are from the great circles between the points of their rims.

    A side bends one way, so that it is a sixteenth of what its middle is off the great circle
    between its corners; twice that is on the safe side.
    """
    corners = rims[:, ::_PARTS]
    chords = corners + np.roll(corners, -1, axis=1)
    chords /= np.sqrt((chords * chords).sum(axis=0))
    off = chords - rims[:, _PARTS // 2 :: _PARTS]
    stray: Floats = np.sqrt((off * off).sum(axis=0)).max(axis=0) * (2.0 / _PARTS**2)
    return stray
