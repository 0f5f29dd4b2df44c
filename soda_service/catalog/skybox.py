"""Boxes around shapes in the x, y, z of unit vectors, for the R*Tree.

A box holds the whole shape: its vertices, the bulge of its arcs between them, and its
interior. Nothing special happens at a pole or at longitude 0.
"""

from __future__ import annotations

from math import acos, cos, pi, radians
from typing import TYPE_CHECKING, Final

import numpy as np

from soda_service.geometry.shapes import Circle, Polygon
from soda_service.geometry.sphere import bounding_cap, contains
from soda_service.geometry.vectors import unit_vector

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from soda_service.geometry.shapes import Shape

SkyBox = tuple[float, float, float, float, float, float]
"""min x, max x, min y, max y, min z, max z."""

_SLACK: Final = 1e-9
"""Above every rounding error of the sums below; 0.2 mas."""

_AXES: Final = np.eye(3)
_ENDS: Final = np.concatenate([-_AXES, _AXES], axis=1)


def sky_box(shape: Shape) -> SkyBox:
    """A box that holds every point of *shape*; for a polygon the smallest one."""
    if isinstance(shape, Polygon):
        return _box_of_polygon(shape)
    return _box_of_cap(bounding_cap(shape))


def _box_of_cap(cap: Circle) -> SkyBox:
    reach = radians(cap.radius) + _SLACK
    limits: list[float] = []
    for component in unit_vector(cap.lon, cap.lat):
        distance = acos(max(-1.0, min(1.0, component)))  # of the centre from the axis
        limits += [
            cos(min(pi, distance + reach)) - _SLACK,
            cos(max(0.0, distance - reach)) + _SLACK,
        ]
    return _box(limits)


def _box_of_polygon(polygon: Polygon) -> SkyBox:
    starts = np.array([unit_vector(lon, lat) for lon, lat in polygon.vertices]).T
    limits = np.stack([starts.min(axis=1), starts.max(axis=1)], axis=1)
    _widen_by_arcs(limits, starts, np.roll(starts, -1, axis=1))
    holds_low, holds_high = contains(polygon, _ENDS).reshape(2, 3)
    limits[holds_low, 0] = -1.0
    limits[holds_high, 1] = 1.0
    return _box((limits + np.array([-_SLACK, _SLACK])).ravel().tolist())


def _widen_by_arcs(
    limits: NDArray[np.float64], starts: NDArray[np.float64], ends: NDArray[np.float64]
) -> None:
    """Let *limits* hold what the arcs reach between their ends.

    A great circle comes nearest to the axis e at e - (e·n)n, n being its pole; that point
    counts where it lies on the arc.
    """
    poles = np.cross(starts, ends, axis=0)
    lengths = np.linalg.norm(poles, axis=0)
    for axis in range(3):
        with np.errstate(invalid="ignore", divide="ignore"):
            n = poles / lengths
            nearest = _AXES[:, [axis]] - n[axis] * n
            on_arc = (_triple(starts, nearest, n) >= 0) & (_triple(nearest, ends, n) >= 0)
            on_far_arc = (_triple(starts, -nearest, n) >= 0) & (_triple(-nearest, ends, n) >= 0)
            reach = np.linalg.norm(nearest, axis=0)
        limits[axis, 1] = max(limits[axis, 1], np.max(reach, where=on_arc, initial=-1.0))
        limits[axis, 0] = min(limits[axis, 0], np.min(-reach, where=on_far_arc, initial=1.0))


def _triple(
    a: NDArray[np.float64], b: NDArray[np.float64], n: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Of each column, (a × b) · n: not negative where going from a to b turns about n.

    A column that is not a number (an arc without length) compares as false.
    """
    product: NDArray[np.float64] = np.einsum("ij,ij->j", np.cross(a, b, axis=0), n)
    return product


def _box(limits: list[float]) -> SkyBox:
    x0, x1, y0, y1, z0, z1 = limits
    return x0, x1, y0, y1, z0, z1
