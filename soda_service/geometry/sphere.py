"""What shapes on the sky have to do with each other.

Everything is closed and spherical: no flat approximation, nothing special at the poles or at
longitude 0.
"""

from __future__ import annotations

from math import degrees, radians
from typing import TYPE_CHECKING

import numpy as np

from .arcs import TOUCH, Outlines, separations
from .moc import Moc
from .mocregion import moc_holds
from .shapes import Circle, Range
from .skyregion import CircleRegion, RangeRegion, range_width, region_of
from .vectors import lon_lat, unit_vector, unit_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .shapes import PlainShape, Polygon, Shape

__all__ = [
    "Outlines",
    "bounding_cap",
    "contains",
    "intersects",
    "intersects_many",
    "lon_lat",
    "unit_vector",
    "unit_vectors",
]

_WIDER = 1.0 + 1e-14
"""Makes up for the rounding of degrees and back."""


def contains(shape: Shape, vectors: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether *shape* holds each of the unit *vectors*, shape (3, N); NaN is held by none.

    What is on the edge of a MOC is in the cell that HEALPix puts it into.
    """
    if isinstance(shape, Moc):
        return moc_holds(shape, vectors)
    held: NDArray[np.bool_] = region_of(shape).margin(vectors) >= -TOUCH
    return held


def bounding_cap(shape: Shape) -> Circle:
    """A circle that holds *shape*: the smallest for polygons, a small one for others."""
    if isinstance(shape, Circle):
        return shape
    region = region_of(shape)
    lon, lat = lon_lat(np.array(region.axis)[:, None])
    radius = min(degrees(region.radius) * _WIDER + 1e-13, 180.0)
    return Circle(float(lon[0]), float(lat[0]), radius)


def intersects(a: PlainShape, b: PlainShape) -> bool:
    """Whether two shapes have a point in common."""
    if isinstance(a, Circle):
        return _circle_intersects(a, b)
    if isinstance(b, Circle):
        return _circle_intersects(b, a)
    if not isinstance(b, Range):
        return bool(intersects_many(a, Outlines.of([b]))[0])
    if not isinstance(a, Range):
        return bool(intersects_many(b, Outlines.of([a]))[0])
    return _ranges_intersect(a, b)


def intersects_many(shape: Shape, outlines: Outlines) -> NDArray[np.bool_]:
    """Whether *shape* has a point in common with each of many polygons (`Outlines.of`)."""
    if not len(outlines):
        return np.zeros(0, dtype=bool)
    return region_of(shape).meets(outlines)


def _circle_intersects(circle: Circle, other: Circle | Polygon | Range) -> bool:
    if isinstance(other, Circle):
        reach = radians(circle.radius) + radians(other.radius)
        centre = np.array(unit_vector(other.lon, other.lat))[:, None]
        apart = separations(unit_vector(circle.lon, circle.lat), centre)
        return bool(apart[0] <= reach + TOUCH)
    if isinstance(other, Range):
        distance = RangeRegion(other).distance(unit_vector(circle.lon, circle.lat))
        return distance <= radians(circle.radius) + TOUCH
    return bool(CircleRegion(circle).meets(Outlines.of([other]))[0])


def _ranges_intersect(a: Range, b: Range) -> bool:
    if a.lat1 > b.lat2 or b.lat1 > a.lat2:
        return False
    if max(a.lat1, b.lat1) <= -90.0 or min(a.lat2, b.lat2) >= 90.0:
        return True  # every range that reaches a pole holds it, whatever its longitudes
    first, second = (b.lon1 - a.lon1) % 360.0, (a.lon1 - b.lon1) % 360.0
    return first <= range_width(a) or second <= range_width(b)
