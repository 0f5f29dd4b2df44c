"""Images that are planes: gnomonic and undistorted, so that a matrix maps pixels to directions.

A direction is H (x, y, 1). Great circles are then straight lines, and a circle on the sky,
the directions v with v·c >= cos r |v|, is a conic whose tangents x = const and y = const have
a closed form: with G the inverse of H, S = G Gᵀ and g = G c they are the roots of
D₀₀ − 2 x D₀₂ + x² D₂₂ = 0, where D = sin² r S − g gᵀ is the dual conic (Hartley & Zisserman,
Multiple View Geometry, §2.2.3). So the box needs neither samples nor an index.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import comb, cos, floor, inf, perm, radians, sin, sqrt
from operator import itemgetter, mul
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from .shapes import Circle, Polygon
from .vectors import unit_vector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from .shapes import Range
    from .vectors import Vector

    Floats = NDArray[np.float64]
    Limits = tuple[float, float, float, float]
    """Least x, greatest x, least y, greatest y, in pixels."""
    Ellipse = tuple[float, float, float, float, float]
    """x and y of a centre, and xx, xy, yy of a symmetric matrix: what can be written as the
    centre and L e together, with |e| = 1 and L Lᵀ that matrix."""


class Quickness(Enum):
    """Answer of a verb that was asked to answer quickly, and cannot."""

    NOT_QUICK = "not quick"


NOT_QUICK: Final = Quickness.NOT_QUICK

_MAX_RADIUS = 60.0
"""Degrees; far from where a circle reaches the plane's horizon or has no inside."""
_CLEAR = 1.0 - 1e-3
"""Of the way to the horizon: rounding is divided by what is left of it."""
_MAX_VERTICES = 64
_DOUBT = 1e-5
"""Pixels: a limit that comes closer to an edge between pixels is in doubt. Rounding is a
thousand times less."""
_NO_DOUBT = 1.0 - _DOUBT
_NOWHERE = inf, inf, inf, inf
"""The limits of a shape that is wholly behind the horizon, and so not on the plane at all."""


class Distortion:
    """What moves the pixels of an image before it is a plane: a polynomial, p becomes p + f(p)."""

    __slots__ = (
        "_derivatives", "_higher", "_of_x", "_of_y", "_origin", "_terms",
        "bend", "distort", "reach", "slope", "twist",
    )  # fmt: skip

    def __init__(
        self,
        distort: Callable[[Floats], Floats],
        x_terms: Floats,
        y_terms: Floats,
        origin: tuple[float, float],
        naxis: tuple[int, int],
    ) -> None:
        """The polynomial f by its coefficients: [m, n] belongs to the powers m of x and n of y.

        Powers are those of 0-based pixels less *origin*. *distort* is the same map for pixels
        of the shape (N, 2).
        """
        self.distort = distort
        """From pixels to points of the plane, both of shape (N, 2)."""
        self._origin = origin
        used = np.argwhere((x_terms != 0.0) | (y_terms != 0.0)).tolist()
        powers = {
            (max(m - of_x, 0), max(n - of_y, 0)) for m, n in used for of_x, of_y in _DERIVATIVES
        }
        ordered = sorted(powers | {(0, 0), (1, 1)})
        self._higher = range(2, max(max(pair) for pair in ordered) + 1)
        self._of_x, self._of_y = (itemgetter(*one) for one in zip(*ordered, strict=True))
        self._derivatives = np.array([
            _derivative(terms, of_x, of_y, ordered)
            for of_x, of_y in _DERIVATIVES for terms in (x_terms, y_terms)
        ])  # fmt: skip
        """Of f and of g in turn, by the products of powers, shape (12, N)."""
        self._terms = tuple((m, n, float(x_terms[m, n]), float(y_terms[m, n])) for m, n in used)
        # In the image and a pixel beyond each edge, nothing is greater than this polynomial.
        largest = np.hypot(x_terms, y_terms)
        far = [
            max(abs(1.0 + start), abs(length - start))
            for start, length in zip(origin, naxis, strict=True)
        ]
        self.reach = _largest(largest, far, 0)
        """Bound on how far a pixel of the image is moved."""
        self.slope = _largest(largest, far, 1)
        """Bound on how much faster two points of the image move apart than their pixels do; below
        one the map is injective there, so that a shape inside has one piece."""
        self.bend = _largest(largest, far, 2)
        """Bound on the second derivative of f in the image."""
        self.twist = _largest(largest, far, 3)
        """Bound on its third derivative."""

    def moved(self, x: float, y: float) -> tuple[float, float]:
        """How far a pixel moves in x and in y."""
        xs, ys = self._powers(x, y)
        f = g = 0.0
        for m, n, a, b in self._terms:
            power = xs[m] * ys[n]
            f += a * power
            g += b * power
        return f, g

    def expanded(self, x: float, y: float) -> list[float]:
        """How far a pixel moves in x (f) and in y (g), with all first and second derivatives.

        In this order: f, g, f_x, g_x, f_y, g_y, f_xx, g_xx, f_xy, g_xy, f_yy, g_yy.
        """
        xs, ys = self._powers(x, y)
        products = list(map(mul, self._of_x(xs), self._of_y(ys)))
        derivatives: list[float] = self._derivatives.dot(products).tolist()
        return derivatives

    def _powers(self, x: float, y: float) -> tuple[list[float], list[float]]:
        """Those of the place of a pixel, from the power 0 on."""
        x -= self._origin[0]
        y -= self._origin[1]
        xs, ys = [1.0, x], [1.0, y]
        for _ in self._higher:
            xs.append(xs[-1] * x)
            ys.append(ys[-1] * y)
        return xs, ys


_DERIVATIVES: Final = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
"""How often to derive by x and by y."""


def _derivative(
    terms: Floats, of_x: int, of_y: int, powers: Sequence[tuple[int, int]]
) -> list[float]:
    """Coefficients, at these *powers* of x and y, of a derivative of the polynomial *terms*."""
    size = len(terms)
    return [
        float(terms[m + of_x, n + of_y]) * perm(m + of_x, of_x) * perm(n + of_y, of_y)
        if m + of_x < size and n + of_y < size
        else 0.0
        for m, n in powers
    ]


def _largest(coefficients: Floats, far: Sequence[float], order: int) -> float:
    """Bound on all derivatives of one *order* together, of a polynomial where |x|, |y| <= *far*.

    A derivative that is taken of x and of y in turn counts as often as it has orders.
    """
    powers = range(len(coefficients))
    squares = 0.0
    for of_y in range(order + 1):
        x, y = (
            [perm(power, times) * reach ** max(power - times, 0) for power in powers]
            for reach, times in zip(far, (order - of_y, of_y), strict=True)
        )
        squares += comb(order, of_y) * float(np.array(x) @ coefficients @ np.array(y)) ** 2
    return sqrt(squares)


@dataclass(frozen=True, slots=True)
class SkyPlane:
    """The matrix of such an image, inverted and multiplied out as plain floats."""

    inverse: tuple[Vector, Vector, Vector]
    """Rows of G: from directions to pixels, homogeneous."""
    products: tuple[float, float, float, float, float, float]
    """Of S: S₀₀, S₁₁, S₂₂, S₀₂, S₁₂, S₀₁."""
    minors: tuple[float, float, float]
    """Of S: S₀₀ S₂₂ - S₀₂², S₁₁ S₂₂ - S₁₂², S₀₁ S₂₂ - S₀₂ S₁₂."""

    @classmethod
    def of(cls, inverse: NDArray[np.float64]) -> Self:
        """The plane whose matrix, shape (3, 3), from directions to (x, y, 1) is *inverse*."""
        (s00, s01, s02), (_, s11, s12), (_, _, s22) = (inverse @ inverse.T).tolist()
        first, second, third = ((a, b, c) for a, b, c in inverse.tolist())
        return cls(
            inverse=(first, second, third),
            products=(s00, s11, s22, s02, s12, s01),
            minors=(s00 * s22 - s02 * s02, s11 * s22 - s12 * s12, s01 * s22 - s02 * s12),
        )

    def limits(self, shape: Circle | Polygon | Range) -> Limits | None:
        """How far the shape reaches on the endless plane; None where that has no closed form.

        That is for ranges, for shapes that reach behind the horizon, and for very large ones.
        """
        if isinstance(shape, Circle):
            ellipse = self.ellipse(shape)
            if ellipse is None:
                return None
            x, y, xx, _, yy = ellipse
            half_x, half_y = sqrt(xx), sqrt(yy)
            return x - half_x, x + half_x, y - half_y, y + half_y
        if isinstance(shape, Polygon) and len(shape.vertices) <= _MAX_VERTICES:
            return self._polygon_limits(shape)
        return None

    def ellipse(self, circle: Circle) -> Ellipse | None:
        """The circle on the plane; infinitely far behind the horizon, None where it meets it.

        None as well where it is very large.
        """
        if circle.radius > _MAX_RADIUS:
            return None
        lon, lat = radians(circle.lon), radians(circle.lat)
        z, across = sin(lat), cos(lat)
        x, y = across * cos(lon), across * sin(lon)
        (a, b, c), (d, e, f), (g, h, i) = self.inverse
        depth = g * x + h * y + i * z
        s00, s11, s22, s02, s12, s01 = self.products
        sine = sin(radians(circle.radius))
        if sine * sine * s22 >= depth * depth * _CLEAR:
            return None
        if depth < 0.0:
            return inf, inf, 0.0, 0.0, 0.0
        # All in units of the depth: the centre's pixel, the radius, and -D₂₂.
        x, y = (a * x + b * y + c * z) / depth, (d * x + e * y + f * z) / depth
        sine /= depth
        square = sine * sine
        clear = 1.0 - square * s22
        # D₀₂² less D₀₀ D₂₂, and its like, multiplied out: what would cancel is left out.
        m00, m11, m01 = self.minors
        skew = s22 * y - s12
        xx = s00 + x * (s22 * x - 2.0 * s02) - square * m00
        yy = s11 + y * (skew - s12) - square * m11
        if xx < 0.0 or yy < 0.0:
            return None
        xy = s01 - s02 * y + x * skew - square * m01
        scale = square / (clear * clear)
        x, y = (x - square * s02) / clear, (y - square * s12) / clear
        return x, y, xx * scale, xy * scale, yy * scale

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
) -> tuple[tuple[int, int], tuple[int, int]] | Quickness | None:
    """First pixel and one past the last of a box with these limits, for a shape inside the image.

    None for a shape outside it; NOT_QUICK where it reaches out of the image, or a limit is too
    close to an edge between pixels.
    """
    least_x, most_x, least_y, most_y = limits
    columns, rows = naxis
    if least_x < -0.5 or least_y < -0.5 or most_x > columns - 0.5 or most_y > rows - 0.5:
        return None if is_outside(limits, naxis) else NOT_QUICK
    low_x, high_x, low_y, high_y = least_x + 0.5, most_x + 0.5, least_y + 0.5, most_y + 0.5
    first_x, last_x, first_y, last_y = floor(low_x), floor(high_x), floor(low_y), floor(high_y)
    if (
        _DOUBT < low_x - first_x < _NO_DOUBT
        and _DOUBT < high_x - last_x < _NO_DOUBT
        and _DOUBT < low_y - first_y < _NO_DOUBT
        and _DOUBT < high_y - last_y < _NO_DOUBT
    ):
        return (first_x, first_y), (last_x + 1, last_y + 1)
    return NOT_QUICK


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
