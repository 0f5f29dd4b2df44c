"""Shapes prepared for many questions.

A `SkyRegion` knows of a shape what does not depend on the question: a cap around it, the signed
distance of points from its edge, and which outlines it meets. An outline is a closed chain of
great-circle arcs within an open hemisphere: the footprint of an image, or the edge of a pixel.
Angles are radians, vectors have the shape (3, N).

All answers are closed: what touches within `TOUCH` meets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import atan2, cos, degrees, hypot, pi, radians, sin
from typing import TYPE_CHECKING, Final, Protocol, Self, assert_never

import numpy as np

from .shapes import Circle, Polygon, Range
from .vectors import enclosing_axis, unit_vector, unit_vectors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from .shapes import Shape
    from .vectors import Vector

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

TOUCH: Final = 2e-15
"""What lies this close touches: about ten roundings of a unit vector."""

_NEAR: Final = radians(44.0)
"""What lies within such a cap is less than a right angle apart."""

_MAX_PAIRS: Final = 1 << 16
"""Pairs of arcs, or of a point and an arc, looked at together: arrays that a cache holds."""


class SkyRegion(Protocol):
    """A shape prepared for many questions."""

    @property
    def axis(self) -> Vector:
        """Centre of a cap that holds the shape."""

    @property
    def radius(self) -> float:
        """Radius of that cap, up to pi."""

    def margin(self, vectors: Floats) -> Floats:
        """How deep inside the shape each point lies; below zero outside, NaN for NaN.

        Never more than the distance from the edge in magnitude, and going to zero with it.
        """

    def meets(self, outlines: Outlines) -> Bools:
        """Whether the shape and each outline have a point in common."""

    def points(self, count: int) -> Floats:
        """About *count* points along the edge, and some inside if that is easy."""


def region_of(shape: Shape) -> SkyRegion:
    """The prepared *shape*."""
    match shape:
        case Circle():
            return CircleRegion(shape)
        case Polygon():
            return PolygonRegion(shape)
        case Range():
            return RangeRegion(shape)
        case _:
            assert_never(shape)


@dataclass(frozen=True, eq=False)
class Arcs:
    """Great-circle arcs, each shorter than half a circle."""

    start: Floats
    end: Floats

    @cached_property
    def normal(self) -> Floats:
        """Left of the way from start to end, unit length; an arc without length has any way."""
        # (a + b) x (b - a) is 2 a x b, without the loss that nearly equal vectors bring.
        normal = _cross(self.start + self.end, self.end - self.start)
        length = np.sqrt((normal * normal).sum(axis=0))
        if not length.all():
            normal = np.where(length > 0.0, normal, _tangents(self.start)[0])
            length = np.where(length > 0.0, length, 1.0)
        unit: Floats = normal / length
        return unit

    @cached_property
    def ahead(self) -> Floats:
        """Along the way, at the start."""
        return _cross(self.normal, self.start)

    @cached_property
    def behind(self) -> Floats:
        """Against the way, at the end."""
        return _cross(self.end, self.normal)

    def part(self, piece: slice) -> Arcs:
        """Some of the arcs."""
        return Arcs(self.start[:, piece], self.end[:, piece])

    def distances(self, vectors: Floats) -> Floats:
        """Distance of every point from every arc, shape (arcs, points), at most pi / 2."""
        across = np.abs(self.normal.T @ vectors)
        after = self.ahead.T @ vectors
        before = self.behind.T @ vectors
        # Beyond an end, the sine of the distance from that end has the parts across and along.
        # The end that is nearer is the one beyond which the point lies.
        beside = (after >= 0.0) & (before >= 0.0)
        start_side = self.start.T @ vectors
        end_side = self.end.T @ vectors
        from_start = np.where(start_side > 0.0, np.hypot(across, after), 1.0)
        from_end = np.where(end_side > 0.0, np.hypot(across, before), 1.0)
        sines = np.where(beside, across, np.minimum(from_start, from_end))
        distances: Floats = np.arcsin(np.minimum(sines, 1.0))
        return distances

    def least_distances(self, vectors: Floats) -> Floats:
        """Distance of every point from the nearest arc, all being less than a right angle apart."""
        beyond = self.ahead.T @ vectors
        np.minimum(beyond, self.behind.T @ vectors, out=beyond)
        np.minimum(beyond, 0.0, out=beyond)
        squared = self.normal.T @ vectors
        squared *= squared
        beyond *= beyond
        squared += beyond
        least: Floats = _arcsin(np.sqrt(squared.min(axis=0)))
        return least

    def distances_from(self, point: Vector) -> Floats:
        """Distance of every arc from one point, whatever it is."""
        distances = self.distances(np.array(point)[:, None])[:, 0]
        ends = np.minimum(separations(point, self.start), separations(point, self.end))
        # An arc that keeps a right angle off comes nearest with an end.
        exact: Floats = np.where(distances < pi / 2, distances, ends)
        return exact

    def meet(self, others: Arcs) -> Bools:
        """Whether each of these arcs has a point in common with any of *others*."""
        count = self.start.shape[1]
        met = np.zeros(count, dtype=bool)
        for piece in _pieces(count, others.start.shape[1]):
            met[piece] = self.part(piece)._meet_at_once(others)  # noqa: SLF001 - the same class
        return met

    def _meet_at_once(self, others: Arcs) -> Bools:
        starts = self.normal.T @ others.start
        ends = self.normal.T @ others.end
        own_starts = self.start.T @ others.normal
        own_ends = self.end.T @ others.normal
        crossing = (starts > 0.0) & (ends < 0.0) & (own_starts < 0.0) & (own_ends > 0.0)
        crossing |= (starts < 0.0) & (ends > 0.0) & (own_starts > 0.0) & (own_ends < 0.0)
        met: Bools = np.logical_or.reduce(crossing, axis=1)
        for products, arcs, points in (
            (starts, self, others.start),
            (ends, self, others.end),
        ):
            which, point = np.nonzero(np.abs(products) <= TOUCH)
            met[which[_lie_on(arcs, which, points[:, point])]] = True
        for products, points in ((own_starts, self.start), (own_ends, self.end)):
            point, which = np.nonzero(np.abs(products) <= TOUCH)
            met[point[_lie_on(others, which, points[:, point])]] = True
        return met


@dataclass(frozen=True, eq=False)
class Outlines:
    """Many closed chains of great-circle arcs, each within an open hemisphere."""

    vertices: Floats
    """Shape (3, V), one outline after the other, the first vertex not repeated."""
    starts: NDArray[np.intp]
    """Index of the first vertex of each outline."""

    @classmethod
    def of(cls, polygons: Sequence[Polygon]) -> Self:
        """The outlines of polygons."""
        counts = [len(polygon.vertices) for polygon in polygons]
        lon_lat = np.array(
            [vertex for polygon in polygons for vertex in polygon.vertices], dtype=np.float64
        ).reshape(-1, 2)
        starts = np.cumsum([0, *counts[:-1]], dtype=np.intp)[: len(polygons)]
        return cls(unit_vectors(lon_lat[:, 0], lon_lat[:, 1]), starts)

    @cached_property
    def counts(self) -> NDArray[np.intp]:
        """Vertices of each outline."""
        return np.diff(self.starts, append=self.vertices.shape[1])

    @cached_property
    def arcs(self) -> Arcs:
        """All arcs; each starts at the vertex of its index."""
        following = np.arange(1, self.vertices.shape[1] + 1)
        if following.size:
            following[self.starts + self.counts - 1] = self.starts
        return Arcs(self.vertices, self.vertices[:, following])

    @cached_property
    def axes(self) -> Floats:
        """For each outline, the axis of a hemisphere that holds it."""
        axes = np.add.reduceat(self.vertices, self.starts, axis=1)
        axes /= np.maximum(np.sqrt((axes * axes).sum(axis=0)), 1e-300)
        cosines = (np.repeat(axes, self.counts, axis=1) * self.vertices).sum(axis=0)
        for index in np.nonzero(np.minimum.reduceat(cosines, self.starts) < 0.1)[0]:
            first = self.starts[index]
            found = enclosing_axis(self.vertices[:, first : first + self.counts[index]])
            if found is not None:
                axes[:, index] = found[0]
        return axes

    @cached_property
    def _flat(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Two directions for each outline, and the vertices on the tangent plane at its axis."""
        east, north = _tangents(self.axes)
        height = (np.repeat(self.axes, self.counts, axis=1) * self.vertices).sum(axis=0)
        x = (np.repeat(east, self.counts, axis=1) * self.vertices).sum(axis=0) / height
        y = (np.repeat(north, self.counts, axis=1) * self.vertices).sum(axis=0) / height
        return east, north, x, y

    def hold(self, point: Vector) -> Bools:
        """Whether each outline holds *point* by the even-odd rule; on the edge either way."""
        east, north, x, y = self._flat
        height = np.asarray(point) @ self.axes
        safe = np.where(height > 0.0, height, 1.0)
        point_x = np.repeat(np.asarray(point) @ east / safe, self.counts)
        point_y = np.repeat(np.asarray(point) @ north / safe, self.counts)
        following = np.arange(1, x.size + 1)
        following[self.starts + self.counts - 1] = self.starts
        crossed = _are_left(point_x, point_y, x, y, x[following], y[following])
        odd = np.add.reduceat(crossed.astype(np.intp), self.starts) % 2 == 1
        held: Bools = odd & (height > 0.0)
        return held

    def any(self, of_arcs: Bools) -> Bools:
        """Whether something that is known of each arc is true of any arc of each outline."""
        found: Bools = np.logical_or.reduceat(of_arcs, self.starts)
        return found

    @property
    def first(self) -> Floats:
        """The first vertex of each."""
        return self.vertices[:, self.starts]

    def __len__(self) -> int:
        return self.starts.size


class CircleRegion:
    """A prepared circle."""

    def __init__(self, circle: Circle) -> None:
        self.axis: Vector = unit_vector(circle.lon, circle.lat)
        self.radius = radians(circle.radius)

    def margin(self, vectors: Floats) -> Floats:
        """See `SkyRegion`; the distance itself."""
        if self.radius >= pi:
            return np.where(np.isnan(vectors[0]), np.nan, pi)
        return self.radius - separations(self.axis, vectors)

    def meets(self, outlines: Outlines) -> Bools:
        """See `SkyRegion`."""
        if self.radius >= pi:
            return np.ones(len(outlines), dtype=bool)
        distances = outlines.arcs.distances_from(self.axis)
        near = outlines.any(distances <= self.radius + TOUCH)
        return near | outlines.hold(self.axis)

    def points(self, count: int) -> Floats:
        """See `SkyRegion`; the centre is the last."""
        axis = np.array(self.axis)[:, None]
        east, north = _tangents(axis)
        turn = np.arange(count) * (2.0 * pi / count)
        rim = sin(self.radius) * (east * np.cos(turn) + north * np.sin(turn))
        return np.concatenate([cos(self.radius) * axis + rim, axis], axis=1)


class PolygonRegion:
    """A prepared polygon."""

    def __init__(self, polygon: Polygon) -> None:
        self.outline = Outlines.of([polygon])
        found = enclosing_axis(self.outline.vertices)
        if found is None:
            raise ValueError("a polygon that fits in no open hemisphere")
        self.axis: Vector = found[0]
        centre = np.array(self.axis)
        self.radius = float(separations(self.axis, self.outline.vertices).max())
        self._east, self._north = _tangents(centre[:, None])
        height = centre @ self.outline.vertices
        self._x = (self._east.T @ self.outline.vertices)[0] / height
        self._y = (self._north.T @ self.outline.vertices)[0] / height

    def margin(self, vectors: Floats) -> Floats:
        """See `SkyRegion`; the distance itself up to a right angle."""
        count = vectors.shape[1]
        margin = np.empty(count)
        arcs = self.outline.arcs
        is_near = self.radius < _NEAR and bool((np.array(self.axis) @ vectors > cos(_NEAR)).all())
        for piece in _pieces(count, self._x.size):
            some = vectors[:, piece]
            distances = arcs.least_distances(some) if is_near else arcs.distances(some).min(axis=0)
            margin[piece] = np.where(self._holds(some), distances, -distances)
        return margin

    def meets(self, outlines: Outlines) -> Bools:
        """See `SkyRegion`."""
        met = outlines.any(outlines.arcs.meet(self.outline.arcs))
        met |= self.margin(outlines.first) >= -TOUCH
        x, y, z = self.outline.vertices[:, 0].tolist()
        return met | outlines.hold((x, y, z))

    def points(self, count: int) -> Floats:
        """See `SkyRegion`; each vertex is among them."""
        arcs = self.outline.arcs
        parts = max(1, count // self._x.size)
        points = [arcs.start + (arcs.end - arcs.start) * (part / parts) for part in range(parts)]
        chords = np.concatenate(points, axis=1)
        on_arcs: Floats = chords / np.sqrt((chords * chords).sum(axis=0))
        return on_arcs

    def _holds(self, vectors: Floats) -> Bools:
        height = np.array(self.axis) @ vectors
        safe = np.where(height > 0.0, height, 1.0)
        x = (self._east.T @ vectors)[0] / safe
        y = (self._north.T @ vectors)[0] / safe
        above = self._y[:, None] > y
        edge, point = np.nonzero(above != np.roll(above, -1, axis=0))
        following = (edge + 1) % self._x.size
        left = _are_left(
            x[point], y[point], self._x[edge], self._y[edge], self._x[following], self._y[following]
        )
        crossed = np.bincount(point[left], minlength=x.size)
        held: Bools = (crossed % 2 == 1) & (height > 0.0)
        return held


class RangeRegion:
    """A prepared range."""

    def __init__(self, sky_range: Range) -> None:
        self.range = sky_range
        self.width = range_width(sky_range)
        """Degrees of longitude."""
        self.is_all_round = self.width >= 360.0
        self._lat1, self._lat2 = radians(sky_range.lat1), radians(sky_range.lat2)
        self._lat1_bounds, self._lat2_bounds = sky_range.lat1 > -90.0, sky_range.lat2 < 90.0
        self.axis, self.radius = _range_cap(sky_range, self.width)
        west, east = radians(sky_range.lon1), radians(sky_range.lon1 + self.width)
        middle = (west + east) / 2
        self._west = cos(west), sin(west)
        self._east = (cos(radians(sky_range.lon2)), sin(radians(sky_range.lon2)))
        self._middle = cos(middle), sin(middle)

    def margin(self, vectors: Floats) -> Floats:
        """See `SkyRegion`; less than the distance near the corners only."""
        x, y, z = vectors
        across = np.hypot(x, y)
        lat = np.arctan2(z, across)
        margin = np.where(np.isnan(lat), np.nan, pi)
        if self._lat1_bounds:
            margin = np.minimum(margin, lat - self._lat1)
        if self._lat2_bounds:
            margin = np.minimum(margin, self._lat2 - lat)
        if self.is_all_round:
            return margin
        (west_x, west_y), (east_x, east_y) = self._west, self._east
        after_west = y * west_x - x * west_y
        before_east = x * east_y - y * east_x
        from_pole = np.arctan2(across, np.abs(z))
        distance = np.minimum(
            np.where(x * west_x + y * west_y >= 0.0, _arcsin(np.abs(after_west)), from_pole),
            np.where(x * east_x + y * east_y >= 0.0, _arcsin(np.abs(before_east)), from_pole),
        )
        if self.width > 180.0:
            between = (after_west >= 0.0) | (before_east >= 0.0)
        else:
            between = (after_west >= 0.0) & (before_east >= 0.0)
            if self.width < 180.0:
                between &= x * self._middle[0] + y * self._middle[1] >= 0.0
        return np.minimum(margin, np.where(between, distance, -distance))

    def meets(self, outlines: Outlines) -> Bools:
        """See `SkyRegion`."""
        met = self.margin(outlines.first) >= -TOUCH
        for lon, lat in self._edge_points():
            met |= outlines.hold(unit_vector(lon, lat))
        crossed = np.zeros(outlines.vertices.shape[1], dtype=bool)
        if not self.is_all_round:
            crossed |= outlines.arcs.meet(self._meridians)
        for lat, bounds in (
            (self.range.lat1, self._lat1_bounds),
            (self.range.lat2, self._lat2_bounds),
        ):
            if bounds:
                crossed |= self._cross_parallel(outlines.arcs, lat)
        return met | outlines.any(crossed)

    def points(self, count: int) -> Floats:
        """See `SkyRegion`; the middle is the last."""
        way = np.linspace(0.0, 1.0, max(2, count // 4))
        lons = self.range.lon1 + self.width * way
        lats = self.range.lat1 + (self.range.lat2 - self.range.lat1) * way
        full = np.ones(way.size)
        middle = [self.range.lon1 + self.width / 2], [(self.range.lat1 + self.range.lat2) / 2]
        return unit_vectors(
            np.concatenate([lons, lons, full * self.range.lon1, full * self.range.lon2, middle[0]]),
            np.concatenate([full * self.range.lat1, full * self.range.lat2, lats, lats, middle[1]]),
        )

    def distance(self, point: Vector) -> float:
        """Distance of *point* from the range, zero inside."""
        vector = np.array(point)[:, None]
        if float(self.margin(vector)[0]) >= 0.0:
            return 0.0
        lat = atan2(point[2], hypot(point[0], point[1]))
        distances = [self._distance_from_parallel(point, lat, end) for end in self._lats]
        if not self.is_all_round:
            distances.append(float(self._meridians.distances_from(point).min()))
        return min(distances)

    @property
    def _lats(self) -> tuple[float, float]:
        return self._lat1, self._lat2

    @cached_property
    def _meridians(self) -> Arcs:
        """The two meridians, each in two halves so that none is half a circle."""
        lat1, lat2 = self.range.lat1, self.range.lat2
        middle = (lat1 + lat2) / 2
        lons = [self.range.lon1] * 2 + [self.range.lon2] * 2
        return Arcs(unit_vectors(lons, [lat1, middle] * 2), unit_vectors(lons, [middle, lat2] * 2))

    def _edge_points(self) -> Iterator[tuple[float, float]]:
        """A point on each separate piece of the edge."""
        if not self.is_all_round:
            yield self.range.lon1, self.range.lat1
            return
        if self._lat1_bounds:
            yield 0.0, self.range.lat1
        if self._lat2_bounds:
            yield 0.0, self.range.lat2

    def _cross_parallel(self, arcs: Arcs, lat: float) -> Bools:
        """Whether each arc meets the range's part of the parallel at *lat* degrees."""
        # Counted from the nearer pole, where a sine would tell nothing of the latitude.
        pole = 1.0 if lat >= 0.0 else -1.0
        from_pole = radians(90.0 - abs(lat))
        nearest = _arcsin(np.abs(arcs.normal[2]))
        towards = np.arctan2(pole * arcs.ahead[2], pole * arcs.start[2])
        # cos(from_pole) = cos(nearest) cos(turn), by half angles
        half = np.sin((from_pole + nearest) / 2) * np.sin((from_pole - nearest) / 2)
        squared = half / np.maximum(np.cos(nearest), 1e-300)
        possible = (squared >= -TOUCH) & (squared <= 1.0)
        turn = 2 * np.arcsin(np.sqrt(np.clip(squared, 0.0, 1.0)))
        length = np.arctan2(
            (arcs.ahead * arcs.end).sum(axis=0), (arcs.start * arcs.end).sum(axis=0)
        )
        met = np.zeros(possible.size, dtype=bool)
        for angle in (towards - turn, towards + turn):
            along = (angle + TOUCH) % (2 * pi) - TOUCH
            points = arcs.start * np.cos(along) + arcs.ahead * np.sin(along)
            met |= possible & (along <= length + TOUCH) & self._are_between(points)
        for points in (arcs.start, arcs.end):
            lats = np.arctan2(points[2], np.hypot(points[0], points[1]))
            met |= (np.abs(lats - radians(lat)) <= TOUCH) & self._are_between(points)
        return met

    def _are_between(self, points: Floats) -> Bools:
        """Whether points of a parallel lie between the meridians."""
        if self.is_all_round:
            return np.ones(points.shape[1], dtype=bool)
        x, y = points[0], points[1]
        slack = 1e-15 + 4e-16 / np.maximum(np.hypot(x, y), 1e-300)
        offset = (np.arctan2(y, x) - radians(self.range.lon1) + slack) % (2 * pi)
        between: Bools = offset <= radians(self.width) + 2 * slack
        return between

    def _distance_from_parallel(self, point: Vector, lat: float, parallel: float) -> float:
        offset = (degrees(atan2(point[1], point[0])) - self.range.lon1) % 360.0
        if self.is_all_round or offset <= self.width:
            return abs(lat - parallel)
        ends = unit_vectors([self.range.lon1, self.range.lon2], [degrees(parallel)] * 2)
        return float(separations(point, ends).min())


def range_width(sky_range: Range) -> float:
    """Degrees of longitude from the western to the eastern edge, 360 for all."""
    width = sky_range.lon2 - sky_range.lon1
    return width if width >= 0.0 else width + 360.0


def separations(point: Vector, vectors: Floats) -> Floats:
    """Distances of *vectors* from *point*, exact near zero and near pi."""
    x, y, z = vectors
    side = np.where(x * point[0] + y * point[1] + z * point[2] >= 0.0, 1.0, -1.0)
    dx, dy, dz = side * x - point[0], side * y - point[1], side * z - point[2]
    near = 2.0 * np.arcsin(np.minimum(0.5 * np.sqrt(dx * dx + dy * dy + dz * dz), 1.0))
    distances: Floats = np.where(side > 0.0, near, pi - near)
    return distances


def _range_cap(sky_range: Range, width: float) -> tuple[Vector, float]:
    """Axis and radius of a small cap around a range."""
    caps = [
        ((0.0, 0.0, 1.0), radians(90.0 - sky_range.lat1)),
        ((0.0, 0.0, -1.0), radians(90.0 + sky_range.lat2)),
    ]
    if width <= 180.0:
        # A cap below a hemisphere that is centred on the middle meridian and holds the corners
        # holds the meridians, being convex, and the parallels, whose ends lie farthest off.
        lons = [sky_range.lon1] * 2 + [sky_range.lon2] * 2
        corners = unit_vectors(lons, [sky_range.lat1, sky_range.lat2] * 2)
        found = enclosing_axis(corners)
        if found is not None:
            caps.append((found[0], float(separations(found[0], corners).max())))
    axis, radius = min(caps, key=lambda cap: cap[1])
    return axis, min(radius, pi)


def _lie_on(arcs: Arcs, which: NDArray[np.intp], points: Floats) -> Bools:
    """Whether points of the great circles of some of *arcs* lie between their ends."""
    ahead, behind = arcs.ahead[:, which], arcs.behind[:, which]
    lie: Bools = ((ahead * points).sum(axis=0) >= -TOUCH) & (
        (behind * points).sum(axis=0) >= -TOUCH
    )
    # The antipodes of an arc without length lie on both its ends' sides too.
    lie &= ((arcs.start[:, which] + arcs.end[:, which]) * points).sum(axis=0) > 0.0
    return lie


def _are_left(x: Floats, y: Floats, x1: Floats, y1: Floats, x2: Floats, y2: Floats) -> Bools:
    """Whether a ray from (x, y) towards greater x crosses the line from 1 to 2."""
    astride = (y1 > y) != (y2 > y)
    rise = y2 - y1
    beyond: Bools = ((x2 - x1) * (y - y1) - (x - x1) * rise) * np.sign(rise) > 0.0
    left: Bools = astride & beyond
    return left


def _tangents(axes: Floats) -> tuple[Floats, Floats]:
    """Two unit vectors that stand on each axis and on each other."""
    thin = np.abs(axes[2]) < 0.9
    aside = np.where(thin, np.array([[0.0], [0.0], [1.0]]), np.array([[1.0], [0.0], [0.0]]))
    east = _cross(aside, axes)
    east /= np.sqrt((east * east).sum(axis=0))
    return east, _cross(axes, east)


def _cross(a: Floats, b: Floats) -> Floats:
    return np.stack(
        [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
    )


def _arcsin(sines: Floats) -> Floats:
    clipped: Floats = np.arcsin(np.minimum(sines, 1.0))
    return clipped


def _pieces(count: int, partners: int) -> Iterator[slice]:
    """Slices of *count* things that keep the number of pairs bounded."""
    size = max(1, _MAX_PAIRS // max(1, partners))
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))
