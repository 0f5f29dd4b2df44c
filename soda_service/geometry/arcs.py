"""Great-circle arcs, and outlines: closed chains of them within an open hemisphere.

An outline is the footprint of an image, or the edge of a pixel. Angles are radians, vectors have
the shape (3, N); what touches within `TOUCH` meets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import pi
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from .vectors import enclosing_axis, unit_vectors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from .shapes import Polygon
    from .vectors import Vector

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

TOUCH: Final = 2e-15
"""What lies this close touches: about ten roundings of a unit vector."""

_MAX_PAIRS: Final = 1 << 16
"""Pairs of arcs, or of a point and an arc, looked at together: arrays that a cache holds."""


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
            normal = np.where(length > 0.0, normal, tangents(self.start)[0])
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
        return _distances(
            self.normal.T @ vectors,
            self.ahead.T @ vectors,
            self.behind.T @ vectors,
            self.start.T @ vectors,
            self.end.T @ vectors,
        )

    def distances_beside(self, which: NDArray[np.intp], vectors: Floats) -> Floats:
        """The same of the arc of each index from the one point beside it."""
        parts = (self.normal, self.ahead, self.behind, self.start, self.end)
        return _distances(*((part[:, which] * vectors).sum(axis=0) for part in parts))

    def least_distances(self, vectors: Floats) -> Floats:
        """Distance of every point from the nearest arc, all being less than a right angle apart."""
        beyond = self.ahead.T @ vectors
        np.minimum(beyond, self.behind.T @ vectors, out=beyond)
        np.minimum(beyond, 0.0, out=beyond)
        squared = self.normal.T @ vectors
        squared *= squared
        beyond *= beyond
        squared += beyond
        least: Floats = arcsin(np.sqrt(squared.min(axis=0)))
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
        for piece in pieces(count, others.start.shape[1]):
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
        return Arcs(self.vertices, self.vertices[:, self._following])

    @cached_property
    def _following(self) -> NDArray[np.intp]:
        """For each vertex, the next one of its outline."""
        following = np.arange(1, self.vertices.shape[1] + 1)
        if following.size:
            following[self.starts + self.counts - 1] = self.starts
        return following

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
        east, north = tangents(self.axes)
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
        following = self._following
        crossed = are_left(point_x, point_y, x, y, x[following], y[following])
        odd = np.add.reduceat(crossed.astype(np.intp), self.starts) % 2 == 1
        held: Bools = odd & (height > 0.0)
        return held

    @cached_property
    def radii(self) -> Floats:
        """How far each outline reaches from its axis."""
        apart = self.vertices - np.repeat(self.axes, self.counts, axis=1)
        chords = np.sqrt(np.maximum.reduceat((apart * apart).sum(axis=0), self.starts))
        radii: Floats = 2.0 * np.arcsin(np.minimum(chords / 2.0, 1.0))
        return radii

    @cached_property
    def widths(self) -> Floats:
        """How wide each outline is where it is narrow: area against half the way around."""
        _, _, x, y = self._flat
        following = self._following
        area = np.add.reduceat(x * y[following] - x[following] * y, self.starts) / 2.0
        way = np.hypot(x[following] - x, y[following] - y)
        around = np.maximum(np.add.reduceat(way, self.starts), 1e-300)
        widths: Floats = 2.0 * np.abs(area) / around
        return widths

    def held_and_distance(self, which: NDArray[np.intp], points: Floats) -> tuple[Bools, Floats]:
        """Whether the outline of each index holds the point beside it, and how far off its edge is.

        The distance is pi / 2 at most.
        """
        arc, point, firsts = self._arcs_of(which)
        east, north, x, y = self._flat
        height = (self.axes[:, which] * points).sum(axis=0)
        safe = np.where(height > 0.0, height, 1.0)
        point_x = (east[:, which] * points).sum(axis=0) / safe
        point_y = (north[:, which] * points).sum(axis=0) / safe
        following = self._following[arc]
        crossed = are_left(
            point_x[point], point_y[point], x[arc], y[arc], x[following], y[following]
        )
        odd = np.add.reduceat(crossed.astype(np.intp), firsts) % 2 == 1
        distances = self.arcs.distances_beside(arc, points[:, point])
        return odd & (height > 0.0), np.minimum.reduceat(distances, firsts)

    def crossed(self, which: NDArray[np.intp], chains: Floats) -> Bools:
        """Whether the outline of each index crosses the closed chain of points beside it.

        The chains have the shape (3, points, chains); what only touches does not cross.
        """
        arc, chain, firsts = self._arcs_of(which)
        ends = np.roll(chains, -1, axis=1)
        normals = Arcs(chains.reshape(3, -1), ends.reshape(3, -1)).normal.reshape(chains.shape)
        own = (self.arcs.normal[:, None, arc] * chains[..., chain]).sum(axis=0)
        starts = (normals[..., chain] * self.arcs.start[:, None, arc]).sum(axis=0)
        stops = (normals[..., chain] * self.arcs.end[:, None, arc]).sum(axis=0)
        own_stops = np.roll(own, -1, axis=0)
        crossing = (own > 0.0) & (own_stops < 0.0) & (starts < 0.0) & (stops > 0.0)
        crossing |= (own < 0.0) & (own_stops > 0.0) & (starts > 0.0) & (stops < 0.0)
        found: Bools = np.logical_or.reduceat(crossing.any(axis=0), firsts)
        return found

    def _arcs_of(
        self, which: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """All arcs of the outlines of these indices, one after the other.

        With the place in *which* that each belongs to, and where those of each place begin.
        """
        counts = self.counts[which]
        firsts = np.cumsum(counts) - counts
        place = np.repeat(np.arange(which.size), counts)
        arc = np.arange(place.size) - np.repeat(firsts - self.starts[which], counts)
        return arc, place, firsts

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


def separations(point: Vector, vectors: Floats) -> Floats:
    """Distances of *vectors* from *point*, exact near zero and near pi."""
    x, y, z = vectors
    side = np.where(x * point[0] + y * point[1] + z * point[2] >= 0.0, 1.0, -1.0)
    dx, dy, dz = side * x - point[0], side * y - point[1], side * z - point[2]
    near = 2.0 * np.arcsin(np.minimum(0.5 * np.sqrt(dx * dx + dy * dy + dz * dz), 1.0))
    distances: Floats = np.where(side > 0.0, near, pi - near)
    return distances


def _distances(
    sideways: Floats, after: Floats, before: Floats, start_side: Floats, end_side: Floats
) -> Floats:
    """Distances of points from arcs by their scalar products with the arcs' vectors."""
    across = np.abs(sideways)
    # Beyond an end, the sine of the distance from that end has the parts across and along.
    # The end that is nearer is the one beyond which the point lies.
    beside = (after >= 0.0) & (before >= 0.0)
    from_start = np.where(start_side > 0.0, np.hypot(across, after), 1.0)
    from_end = np.where(end_side > 0.0, np.hypot(across, before), 1.0)
    sines = np.where(beside, across, np.minimum(from_start, from_end))
    distances: Floats = np.arcsin(np.minimum(sines, 1.0))
    return distances


def _lie_on(arcs: Arcs, which: NDArray[np.intp], points: Floats) -> Bools:
    """Whether points of the great circles of some of *arcs* lie between their ends."""
    ahead, behind = arcs.ahead[:, which], arcs.behind[:, which]
    lie: Bools = ((ahead * points).sum(axis=0) >= -TOUCH) & (
        (behind * points).sum(axis=0) >= -TOUCH
    )
    # The antipodes of an arc without length lie on both its ends' sides too.
    lie &= ((arcs.start[:, which] + arcs.end[:, which]) * points).sum(axis=0) > 0.0
    return lie


def are_left(x: Floats, y: Floats, x1: Floats, y1: Floats, x2: Floats, y2: Floats) -> Bools:
    """Whether a ray from (x, y) towards greater x crosses the line from 1 to 2."""
    astride = (y1 > y) != (y2 > y)
    rise = y2 - y1
    beyond: Bools = ((x2 - x1) * (y - y1) - (x - x1) * rise) * np.sign(rise) > 0.0
    left: Bools = astride & beyond
    return left


def tangents(axes: Floats) -> tuple[Floats, Floats]:
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


def arcsin(sines: Floats) -> Floats:
    """Angles of sines that rounding may have made larger than one."""
    clipped: Floats = np.arcsin(np.minimum(sines, 1.0))
    return clipped


def pieces(count: int, partners: int) -> Iterator[slice]:
    """Slices of *count* things that keep the number of pairs bounded."""
    size = max(1, _MAX_PAIRS // max(1, partners))
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))
