"""Shapes prepared for many questions.

A `SkyRegion` knows of a shape what does not depend on the question: a cap around it, the signed
distance of points from its edge, and which outlines it meets. Angles are radians, vectors have the
shape (3, N).

All answers are closed: what touches within `TOUCH` meets.
"""

from __future__ import annotations

from functools import cached_property
from math import atan2, cos, degrees, hypot, pi, radians, sin
from typing import TYPE_CHECKING, Final, Protocol, assert_never

import numpy as np

from .arcs import TOUCH, Arcs, Outlines, arcsin, are_left, pieces, separations, tangents
from .moc import Moc
from .mocregion import MocRegion
from .shapes import Circle, Polygon, Range
from .vectors import dot, enclosing_axis, unit_vector, unit_vectors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .shapes import Shape
    from .vectors import Vector

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

_NEAR: Final = radians(44.0)
"""What lies within such a cap is less than a right angle apart."""
_AFAR: Final = 3.0
"""Radii of a polygon's cap from which on its distance says enough."""


class SkyRegion(Protocol):
    """A shape prepared for many questions."""

    @property
    def axis(self) -> Vector:
        """Centre of a cap that holds the shape."""

    @property
    def radius(self) -> float:
        """Radius of that cap, up to pi."""

    @property
    def dearness(self) -> float:
        """How much longer it takes to compare a point with it than with a circle, about."""

    @property
    def is_simple(self) -> bool:
        """Whether it is compared with outlines as fast as with some points."""

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
        case Moc():
            return MocRegion(shape)
        case _:
            assert_never(shape)


class CircleRegion:
    """A prepared circle."""

    dearness: Final = 1.0
    is_simple: Final = True

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
        east, north = tangents(axis)
        turn = np.arange(count) * (2.0 * pi / count)
        rim = sin(self.radius) * (east * np.cos(turn) + north * np.sin(turn))
        return np.concatenate([cos(self.radius) * axis + rim, axis], axis=1)


class PolygonRegion:
    """A prepared polygon."""

    is_simple: Final = True

    def __init__(self, polygon: Polygon) -> None:
        self.outline = Outlines.of([polygon])
        self.dearness: Final = 1.0 + len(polygon.vertices) / 40.0
        found = enclosing_axis(self.outline.vertices)
        if found is None:
            raise ValueError("a polygon that fits in no open hemisphere")
        self.axis: Vector = found[0]
        centre = np.array(self.axis)
        self.radius = float(separations(self.axis, self.outline.vertices).max())
        self._east, self._north = tangents(centre[:, None])
        height = centre @ self.outline.vertices
        self._x = (self._east.T @ self.outline.vertices)[0] / height
        self._y = (self._north.T @ self.outline.vertices)[0] / height

    def margin(self, vectors: Floats) -> Floats:
        """See `SkyRegion`; the distance itself near the polygon, from afar that of its cap."""
        margin = self.radius - separations(self.axis, vectors)
        near = np.flatnonzero(~(margin < -_AFAR * self.radius))
        if near.size < margin.size:
            margin[near] = self._margin_nearby(vectors[:, near])
            return margin
        return self._margin_nearby(vectors)

    def _margin_nearby(self, vectors: Floats) -> Floats:
        """The distance itself up to a right angle."""
        count = vectors.shape[1]
        margin = np.empty(count)
        arcs = self.outline.arcs
        is_near = self.radius < _NEAR and bool((np.array(self.axis) @ vectors > cos(_NEAR)).all())
        for piece in pieces(count, self._x.size):
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
        left = are_left(
            x[point], y[point], self._x[edge], self._y[edge], self._x[following], self._y[following]
        )
        crossed = np.bincount(point[left], minlength=x.size)
        held: Bools = (crossed % 2 == 1) & (height > 0.0)
        return held


class RangeRegion:
    """A prepared range."""

    dearness: Final = 1.5
    is_simple: Final = True

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
            np.where(x * west_x + y * west_y >= 0.0, arcsin(np.abs(after_west)), from_pole),
            np.where(x * east_x + y * east_y >= 0.0, arcsin(np.abs(before_east)), from_pole),
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
        nearest = arcsin(np.abs(arcs.normal[2]))
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


def _range_cap(sky_range: Range, width: float) -> tuple[Vector, float]:
    """Axis and radius of a small cap around a range."""
    caps = [
        ((0.0, 0.0, 1.0), radians(90.0 - sky_range.lat1)),
        ((0.0, 0.0, -1.0), radians(90.0 + sky_range.lat2)),
    ]
    if width <= 180.0:
        lons = [sky_range.lon1] * 2 + [sky_range.lon2] * 2
        corners = unit_vectors(lons, [sky_range.lat1, sky_range.lat2] * 2)
        middle = unit_vector(sky_range.lon1 + width / 2, 0.0)
        caps.append((middle, max(pi / 2, float(separations(middle, corners).max()))))
        # A cap below a hemisphere that is centred on the middle meridian and holds the corners
        # holds the meridians, being convex, and the parallels, whose ends lie farthest off.
        # Of half a turn the corners are on one great circle, and the cap may be on its other side.
        found = enclosing_axis(corners)
        if found is not None and dot(found[0], middle) > 0.0:
            caps.append((found[0], float(separations(found[0], corners).max())))
    axis, radius = min(caps, key=lambda cap: cap[1])
    return axis, min(radius, pi)
