"""The convex hull of polygons on the sphere."""

from __future__ import annotations

from math import cos, radians
from typing import TYPE_CHECKING, Final

import numpy as np

from .shapes import Polygon
from .vectors import cross, enclosing_axis, unit_vectors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .vectors import Vector

_WIDEST: Final = cos(radians(85.0))
"""Cosine of the radius of the widest cap whose plane is drawn: beyond, rounding is magnified."""


def convex_hull(polygons: Sequence[Polygon]) -> Polygon | None:
    """The smallest convex polygon that holds all of *polygons*; None where none does.

    Its vertices are vertices of theirs. Seen from the centre of the sphere on the tangent plane
    great circles are straight, so that this is the hull of points on a plane.
    """
    vertices = sorted({vertex for polygon in polygons for vertex in polygon.vertices})
    vectors = unit_vectors([lon for lon, _ in vertices], [lat for _, lat in vertices])
    found = enclosing_axis(vectors)
    if found is None or found[1] < _WIDEST:
        return None
    east, north = _directions(found[0])
    height = np.asarray(found[0]) @ vectors
    x, y = (np.asarray(east) @ vectors / height), (np.asarray(north) @ vectors / height)
    order = np.lexsort((y, x)).tolist()
    points = list(zip(x.tolist(), y.tolist(), strict=True))
    rim = [*_half(order, points), *_half(reversed(order), points)]
    return Polygon(tuple(vertices[index] for index in rim)) if len(rim) > 2 else None


def _half(order: Iterable[int], points: list[tuple[float, float]]) -> list[int]:
    """The points of one side of the hull, without the last (Andrew's monotone chain)."""
    side: list[int] = []
    for index in order:
        while len(side) > 1 and _turn(points[side[-2]], points[side[-1]], points[index]) <= 0.0:
            side.pop()
        side.append(index)
    return side[:-1]


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    """Above zero where the way from *a* by *b* to *c* turns left."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _directions(axis: Vector) -> tuple[Vector, Vector]:
    """Two directions that stand on *axis* and on each other."""
    aside = (0.0, 0.0, 1.0) if abs(axis[2]) < 0.9 else (1.0, 0.0, 0.0)
    x, y, z = cross(aside, axis)
    length = (x * x + y * y + z * z) ** 0.5
    east = x / length, y / length, z / length
    return east, cross(axis, east)
