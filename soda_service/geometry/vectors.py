"""Unit vectors, and the smallest cap around some of them.

Arrays of vectors have the shape (3, N), as a WCS gives them; single vectors are tuples of floats,
because for a handful of points numpy's calls cost more than the sums. Angles are radians unless
a name or a docstring says degrees.
"""

from __future__ import annotations

from itertools import combinations
from math import cos, hypot, radians, sin
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

Vector = tuple[float, float, float]

_HELD = -1e-13
"""A point whose cosine falls short of a cap's by less than this counts as held."""


def unit_vector(lon: float, lat: float) -> Vector:
    """The unit vector of a longitude and a latitude in degrees."""
    lon, lat = radians(lon), radians(lat)
    across = cos(lat)
    return across * cos(lon), across * sin(lon), sin(lat)


def unit_vectors(lon: ArrayLike, lat: ArrayLike) -> NDArray[np.float64]:
    """The unit vectors, shape (3, N), of longitudes and latitudes in degrees."""
    lon, lat = np.radians(np.atleast_1d(lon)), np.radians(np.atleast_1d(lat))
    across = np.cos(lat)
    return np.stack([across * np.cos(lon), across * np.sin(lon), np.sin(lat)])


def lon_lat(
    vectors: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitudes (0 to 360) and latitudes in degrees of vectors of any length."""
    x, y, z = vectors
    lon = np.degrees(np.arctan2(y, x)) % 360.0
    return lon, np.degrees(np.arctan2(z, np.hypot(x, y)))


def middle_of(places: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Longitude and latitude of the mean direction of places on the sky, all in degrees."""
    lons, lats = np.array([*places]).T
    lon, lat = lon_lat(unit_vectors(lons, lats).sum(axis=1, keepdims=True))
    return float(lon[0]), float(lat[0])


def dot(a: Vector, b: Vector) -> float:
    """The scalar product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vector, b: Vector) -> Vector:
    """The vector product."""
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )


def east_and_north(axis: Vector) -> tuple[Vector, Vector]:
    """The directions of growing longitude and latitude at a point."""
    x, y, _ = axis
    across = hypot(x, y)
    # At a pole any two directions will do.
    east = (-y / across, x / across, 0.0) if across > 1e-8 else (0.0, 1.0, 0.0)
    return east, cross(axis, east)


def enclosing_axis(vectors: NDArray[np.float64]) -> tuple[Vector, float] | None:
    """Axis of the smallest cap that holds the (3, N) *vectors*, and the cosine of its radius.

    None where they fit in no open hemisphere.
    """
    # A cap is fixed by two or three points on its rim. Adding the point that lies farthest
    # outside and solving for so few points anew makes the cap grow at every turn.
    held: list[Vector] = [_column(vectors, 0)]
    axis, cosine = held[0], 1.0
    for _ in range(vectors.shape[1] + 8):
        cosines = np.asarray(axis) @ vectors
        farthest = int(np.argmin(cosines))
        if cosines[farthest] >= cosine + _HELD:
            break
        solved = _smallest_cap([*held, _column(vectors, farthest)])
        if solved is None or solved[1] <= 0.0:
            return None
        grown = solved[1] < cosine
        axis, cosine, held = solved
        if not grown:
            break  # nothing but rounding is left
    cosine = float((np.asarray(axis) @ vectors).min())
    return (axis, cosine) if cosine > 0.0 else None


def _column(vectors: NDArray[np.float64], index: int) -> Vector:
    x, y, z = vectors[:, index].tolist()
    return x, y, z


def _smallest_cap(points: list[Vector]) -> tuple[Vector, float, list[Vector]] | None:
    """Axis, cosine of the radius and rim points of the smallest cap around up to four points."""
    best: tuple[Vector, float, list[Vector]] | None = None
    rims = [list(rim) for size in (2, 3) for rim in combinations(points, size)]
    for rim in rims:
        axis = _axis_through(rim)
        if axis is None:
            continue
        cosine = min(dot(axis, point) for point in rim)
        if (best is None or cosine > best[1]) and all(
            dot(axis, point) >= cosine + _HELD for point in points
        ):
            best = axis, cosine, rim
    return best


def _axis_through(rim: list[Vector]) -> Vector | None:
    """Axis of the cap with two or three points on its rim; None where they do not fix one."""
    a, b = rim[0], rim[1]
    if len(rim) == 2:
        axis = (a[0] + b[0], a[1] + b[1], a[2] + b[2])
    else:
        c = rim[2]
        axis = cross(
            (b[0] - a[0], b[1] - a[1], b[2] - a[2]), (c[0] - a[0], c[1] - a[1], c[2] - a[2])
        )
        if dot(axis, a) < 0.0:
            axis = (-axis[0], -axis[1], -axis[2])
    length = hypot(*axis)
    if length < 1e-150:
        return None
    return axis[0] / length, axis[1] / length, axis[2] / length
