"""Images that are planes: gnomonic and undistorted, so that a matrix maps pixels to directions.

A direction is H (x, y, 1). Great circles are then straight lines, and a circle on the sky,
the directions v with v·c >= cos r |v|, is a conic whose tangents x = const and y = const have
a closed form: with G the inverse of H, S = G Gᵀ and g = G c they are the roots of
D₀₀ − 2 x D₀₂ + x² D₂₂ = 0, where D = sin² r S − g gᵀ is the dual conic (Hartley & Zisserman,
Multiple View Geometry, §2.2.3). So the box needs neither samples nor an index.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, inf, radians, sin, sqrt
from typing import TYPE_CHECKING, NamedTuple, Self

from .shapes import Circle, Polygon
from .vectors import unit_vector

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from .shapes import Range
    from .vectors import Vector

    Floats = NDArray[np.float64]
    Limits = tuple[float, float, float, float]
    """Least x, greatest x, least y, greatest y, in pixels."""

_MAX_RADIUS = 60.0
"""Degrees; far from where a circle reaches the plane's horizon or has no inside."""
_MAX_VERTICES = 64
_DOUBT = 1e-5
"""Pixels: a limit that comes closer to an edge between pixels is in doubt. Rounding is a
thousand times less."""
_NOWHERE = inf, inf, inf, inf
"""The limits of a shape that is wholly behind the horizon, and so not on the plane at all."""


class Ellipse(NamedTuple):
    """The points centre + w with w = L e, |e| = 1, L Lᵀ being this symmetric matrix."""

    centre: tuple[float, float]
    xx: float
    xy: float
    yy: float


@dataclass(frozen=True, slots=True)
class Distortion:
    """What moves the pixels of an image before it is a plane."""

    distort: Callable[[Floats], Floats]
    """From pixels to points of the plane, both of shape (N, 2)."""
    slope: float
    """Bound on how much faster two points of the image move apart than their pixels do; below
    one the map is injective there, so that a shape inside has one piece."""
    reach: float
    """Bound on how far a pixel of the image is moved."""


@dataclass(frozen=True, slots=True)
class SkyPlane:
    """The matrix of such an image, inverted and multiplied out as plain floats."""

    inverse: tuple[Vector, Vector, Vector]
    """Rows of G: from directions to pixels, homogeneous."""
    products: tuple[float, float, float, float, float, float]
    """Of S: S₀₀, S₁₁, S₂₂, S₀₂, S₁₂, S₀₁."""

    @classmethod
    def of(cls, inverse: NDArray[np.float64]) -> Self:
        """The plane whose matrix, shape (3, 3), from directions to (x, y, 1) is *inverse*."""
        products = inverse @ inverse.T
        rows = [tuple(float(one) for one in row) for row in inverse]
        return cls(
            inverse=((rows[0][0], rows[0][1], rows[0][2]),
                     (rows[1][0], rows[1][1], rows[1][2]),
                     (rows[2][0], rows[2][1], rows[2][2])),
            products=(float(products[0, 0]), float(products[1, 1]), float(products[2, 2]),
                      float(products[0, 2]), float(products[1, 2]), float(products[0, 1])),
        )  # fmt: skip

    def limits(self, shape: Circle | Polygon | Range) -> Limits | None:
        """How far the shape reaches on the endless plane; None where that has no closed form.

        That is for ranges, for shapes that reach behind the horizon, and for very large ones.
        """
        if isinstance(shape, Circle):
            return self._circle_limits(shape) if shape.radius <= _MAX_RADIUS else None
        if isinstance(shape, Polygon) and len(shape.vertices) <= _MAX_VERTICES:
            return self._polygon_limits(shape)
        return None

    def ellipse(self, circle: Circle) -> Ellipse | None:
        """The circle on the plane; None where it reaches the horizon, or is behind it."""
        found = self._conic(circle)
        return found if isinstance(found, Ellipse) else None

    def _circle_limits(self, circle: Circle) -> Limits | None:
        found = self._conic(circle)
        if not isinstance(found, Ellipse):
            return found
        x, y = found.centre
        half_x, half_y = sqrt(found.xx), sqrt(found.yy)
        return x - half_x, x + half_x, y - half_y, y + half_y

    def _conic(self, circle: Circle) -> Ellipse | Limits | None:
        """The ellipse that the circle is; `_NOWHERE` behind the horizon, None where it meets it."""
        x, y, depth = self._projected(unit_vector(circle.lon, circle.lat))
        s00, s11, s22, s02, s12, s01 = self.products
        square = sin(radians(circle.radius)) ** 2
        d22 = square * s22 - depth * depth
        if d22 >= 0.0:
            return None
        if depth < 0.0:
            return _NOWHERE
        # D₀₂² less D₀₀ D₂₂, and its like, multiplied out: what would cancel is left out.
        xx = s00 * depth * depth - 2.0 * s02 * x * depth + s22 * x * x
        yy = s11 * depth * depth - 2.0 * s12 * y * depth + s22 * y * y
        xy = s01 * depth * depth - (s02 * y + s12 * x) * depth + s22 * x * y
        xx -= square * (s00 * s22 - s02 * s02)
        yy -= square * (s11 * s22 - s12 * s12)
        xy -= square * (s01 * s22 - s02 * s12)
        if xx < 0.0 or yy < 0.0:
            return None
        scale = square / (d22 * d22)
        centre = (square * s02 - x * depth) / d22, (square * s12 - y * depth) / d22
        return Ellipse(centre, xx * scale, xy * scale, yy * scale)

    def corners(self, polygon: Polygon) -> list[tuple[float, float]] | None:
        """The vertices on the plane, its sides being straight; None unless all are in front."""
        corners = [self._projected(unit_vector(lon, lat)) for lon, lat in polygon.vertices]
        if any(depth <= 0.0 for _, _, depth in corners):
            return None
        return [(x / depth, y / depth) for x, y, depth in corners]

    def _polygon_limits(self, polygon: Polygon) -> Limits | None:
        corners = [self._projected(unit_vector(lon, lat)) for lon, lat in polygon.vertices]
        if all(depth < 0.0 for _, _, depth in corners):
            return _NOWHERE
        if any(depth <= 0.0 for _, _, depth in corners):
            return None
        xs, ys = [x / depth for x, _, depth in corners], [y / depth for _, y, depth in corners]
        return min(xs), max(xs), min(ys), max(ys)

    def _projected(self, vector: Vector) -> Vector:
        """G times a direction: x and y times the depth, and the depth, positive in front."""
        x, y, z = vector
        (a, b, c), (d, e, f), (g, h, i) = self.inverse
        return a * x + b * y + c * z, d * x + e * y + f * z, g * x + h * y + i * z


def box_within(
    limits: Limits, naxis: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """First pixel and one past the last of a box with these limits, for a shape inside the image.

    None where it reaches out of the image, or a limit is too close to an edge between pixels.
    """
    least_x, most_x, least_y, most_y = limits
    columns, rows = naxis
    if least_x < -0.5 or least_y < -0.5 or most_x > columns - 0.5 or most_y > rows - 0.5:
        return None
    first_x, last_x = floor(least_x + 0.5), floor(most_x + 0.5)
    first_y, last_y = floor(least_y + 0.5), floor(most_y + 0.5)
    for limit, pixel in (
        (least_x, first_x), (most_x, last_x), (least_y, first_y), (most_y, last_y),
    ):  # fmt: skip
        if not _DOUBT < limit + 0.5 - pixel < 1.0 - _DOUBT:
            return None
    return (first_x, first_y), (last_x + 1, last_y + 1)


def is_outside(limits: Limits, naxis: tuple[int, int], *, reach: float = 0.0) -> bool:
    """Whether a shape with these limits does not come within *reach* of the image."""
    least_x, most_x, least_y, most_y = limits
    columns, rows = naxis
    beside = 0.5 + _DOUBT + reach
    return (
        most_x < -beside
        or most_y < -beside
        or least_x > columns - 1 + beside
        or least_y > rows - 1 + beside
    )
