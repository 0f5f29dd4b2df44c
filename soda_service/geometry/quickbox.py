"""The box around a shape in the ordinary case, in some tens of microseconds.

The ordinary case: the shape is small, lies well inside an image whose map is smooth there, and no
edge of its box comes close to an edge between pixels. All of that is checked: whoever finds a check
failed says NOT_QUICK, and the search of `boxsearch` decides.

The edge of the shape is sampled, the inverse map gives the pixels of the samples and the forward
map confirms them. Between samples the edge is smooth; how far it strays is told by differences of
second order, for circles by what is left when an ellipse is taken away.

The edge's pixels enclose all of the shape where the map is one to one: where no pixel of the image
shows the same as another near the shape, and where they do not enclose all the rest of the sky
instead. On planes that is proved. Elsewhere the index tells, from samples of its cells: those that
the shape could reach must be faithful, and the box must hold neither others nor the antipodes.
Besides, cells that the shape could reach away from the box would be a second piece of it.
"""

from __future__ import annotations

from functools import lru_cache
from math import acos, cos, floor, fsum, hypot, isfinite, isnan, pi, radians, sin, sqrt
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from .shapes import Circle, Polygon, Range
from .skyplane import NOT_QUICK, Quickness, box_within, is_outside
from .skyregion import range_width, region_of
from .vectors import cross, dot, unit_vector

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .pixelbox import SkyGrid
    from .shapes import PlainShape as Shape
    from .skyindex import SkyIndex
    from .skyplane import Distortion, Ellipse, SkyPlane
    from .vectors import Vector

    Floats = NDArray[np.float64]
    Found = tuple[tuple[int, int], tuple[int, int]]


_MAX_RADIUS: Final = radians(20.0)
_MAX_VERTICES: Final = 64
_ASTRAY: Final = 2e-4
"""Pixels that the samples, taken together, may miss the edge of the shape by."""
_DOUBT: Final = 1e-5
"""Pixels: an edge of the box that comes closer to an edge between pixels is in doubt, whatever
else makes it doubtful."""
_ROUNDING: Final = 4e-15
"""Radians that a map may stray by rounding."""

_STEEP: Final = 0.5
"""Slope of a distortion from which on it is not called nearly none."""
_SHORT_STEP: Final = 0.01
"""Pixels of a step after which the next would change nothing that counts."""
_BOWED: Final = 0.1
"""Part of its half width by which a distorted ellipse may be bowed and is still called one."""
_STEPS: Final = 12
_CONVERGED: Final = 1e-18
"""Square pixels, of all samples together."""

_ON_CIRCLE: Final = 32
_TURN: Final = np.arange(_ON_CIRCLE) * (2.0 * pi / _ON_CIRCLE)
_WAVES: Final = np.stack([np.cos(_TURN), np.sin(_TURN)])
_ELLIPSE: Final = np.stack([np.full(_ON_CIRCLE, 0.5), *_WAVES], axis=1) * (2.0 / _ON_CIRCLE)
"""Samples times this: centre, cosine part and sine part of the ellipse through them."""
_ELLIPSE_BACK: Final = np.concatenate([np.ones((1, _ON_CIRCLE)), _WAVES])
_BESIDE: Final = cos(2.0 * pi / _ON_CIRCLE), sin(2.0 * pi / _ON_CIRCLE)


def find_quickly(shape: Shape, grid: SkyGrid, index: SkyIndex | None) -> Found | Quickness | None:
    """First pixel and one past the last of the box, None for no overlap, or NOT_QUICK."""
    plane = grid.plane
    if plane is not None:
        if grid.distortion is not None:
            found = _find_on_distorted_plane(shape, plane, grid.distortion, grid.naxis)
        else:
            limits = plane.limits(shape)
            found = box_within(limits, grid.naxis) if limits is not None else NOT_QUICK
        if found is not NOT_QUICK:
            return found
    return _find_by_samples(shape, grid, index) if index is not None else NOT_QUICK


def _find_on_distorted_plane(
    shape: Shape, plane: SkyPlane, distortion: Distortion, naxis: tuple[int, int]
) -> Found | Quickness | None:
    """The same where pixels are distorted before they are points of a plane.

    The edge of the shape is known on the plane; where the distortion is injective, and the
    edge's pixels lie inside the image, they enclose all of the shape.
    """
    if distortion.slope >= _STEEP:
        return NOT_QUICK
    if isinstance(shape, Circle):
        ellipse = plane.ellipse(shape)
        found = _distorted_ellipse(ellipse, distortion, naxis) if ellipse is not None else None
        if found is not None:
            return found
    limits = plane.limits(shape)
    if limits is None:
        return NOT_QUICK
    if is_outside(limits, naxis, reach=distortion.reach):
        return None
    return _find_by_distorted_samples(shape, plane, distortion, naxis)


def _distorted_ellipse(
    ellipse: Ellipse, distortion: Distortion, naxis: tuple[int, int]
) -> Found | None:
    """The box of an ellipse on the plane from the distortion's first two derivatives at its centre.

    With M = 1 + f' there, a point w beside the centre on the plane belongs to the pixel
    p + v - M⁻¹ f''(v, v) / 2 with v = M⁻¹ w, and to what third derivatives add. v is on an
    ellipse again, whose extremes the second term moves by its value there; what it adds by moving
    them along the ellipse, and all else that is left out, is bounded and counts as doubt. None
    where that is too much. As the ellipse grows from its centre its limits only widen, so that
    no pixel of it lies outside the image, where nothing would be known of the distortion.
    """
    x0, y0, xx, xy, yy = ellipse
    f, g = distortion.moved(x0, y0)
    x, y = x0 - f, y0 - g  # nearly the pixel of the centre; Newton's steps do the rest
    for _ in range(2):
        f, g, f_x, f_y, g_x, g_y, f_xx, f_xy, f_yy, g_xx, g_xy, g_yy = distortion.expanded(x, y)
        one, other = 1.0 + f_x, 1.0 + g_y
        area = one * other - f_y * g_x
        if not area > 0.0:
            return None
        a, b, c, d = other / area, -f_y / area, -g_x / area, one / area  # M⁻¹
        f += x - x0
        g += y - y0
        step_x, step_y = a * f + b * g, c * f + d * g
        x -= step_x
        y -= step_y
        step = hypot(step_x, step_y)
        if step < _SHORT_STEP:
            break
    # The ellipse of v.
    ax, ay, cx, cy = a * xx + b * xy, a * xy + b * yy, c * xx + d * xy, c * xy + d * yy
    v_xx, v_xy, v_yy = ax * a + ay * b, ax * c + ay * d, cx * c + cy * d
    if not (v_xx > 0.0 and v_yy > 0.0):
        return None
    half_x, half_y = sqrt(v_xx), sqrt(v_yy)
    aside_x, aside_y = v_xy / half_y, v_xy / half_x
    # The quadratic forms M⁻¹ f'', and their values at the extremes.
    p_xx, p_xy, p_yy = a * f_xx + b * g_xx, a * f_xy + b * g_xy, a * f_yy + b * g_yy
    q_xx, q_xy, q_yy = c * f_xx + d * g_xx, c * f_xy + d * g_xy, c * f_yy + d * g_yy
    bow_x = 0.5 * (p_xx * v_xx + 2.0 * p_xy * half_x * aside_y + p_yy * aside_y * aside_y)
    bow_y = 0.5 * (q_xx * aside_x * aside_x + 2.0 * q_xy * aside_x * half_y + q_yy * v_yy)
    if abs(bow_x) > _BOWED * half_x or abs(bow_y) > _BOWED * half_y:
        return None
    stretch = 1.0 / (1.0 - distortion.slope)
    bend, twist = distortion.bend, distortion.twist
    square = v_xx + v_yy
    across, on_plane = sqrt(square), xx + yy
    doubt = (
        # the third derivatives of the map from the plane to pixels
        stretch**4 * (3.0 * stretch * bend * bend + twist) * on_plane * sqrt(on_plane) / 6.0
        # extremes that move along the ellipse
        + max((p_xx * p_xx + 2.0 * p_xy * p_xy + p_yy * p_yy) / half_x,
              (q_xx * q_xx + 2.0 * q_xy * q_xy + q_yy * q_yy) / half_y) * square * square / 2.0
        # the last of Newton's steps, and derivatives from where it began
        + stretch * step * (bend * (step + across) + stretch * (twist + bend * bend) * square)
        + _DOUBT
    )  # fmt: skip
    limits = [x - half_x - bow_x, y - half_y - bow_y, x + half_x - bow_x, y + half_y - bow_y, doubt]
    return _pixels(limits, naxis) if _is_inside(limits, naxis) else None


def _find_by_distorted_samples(
    shape: Shape, plane: SkyPlane, distortion: Distortion, naxis: tuple[int, int]
) -> Found | Quickness:
    points, parts = _edge_on_plane(shape, plane)
    if points is None:
        return NOT_QUICK
    pixels = points.copy()
    for _ in range(_STEPS):
        missed = points - distortion.distort(pixels)
        pixels += missed
        square = float(np.vdot(missed, missed))
        if square <= _CONVERGED:
            break
    else:
        return NOT_QUICK
    edge = pixels.T
    reaches = _chain_limits(edge, parts) if parts else _circle_limits(edge)
    if reaches is None or not _is_inside(reaches, naxis):
        return NOT_QUICK
    reaches[-1] += _DOUBT
    return _pixels(reaches, naxis) or NOT_QUICK


def _edge_on_plane(shape: Shape, plane: SkyPlane) -> tuple[Floats | None, int]:
    """Points of the edge, shape (N, 2), and how many there are to a side; 0 for a circle."""
    if isinstance(shape, Circle):
        ellipse = plane.ellipse(shape)
        if ellipse is None:
            return None, 0
        x, y, xx, xy, yy = ellipse
        root = sqrt(xx)
        skew = xy / root if root else 0.0
        halves = np.array([[x, y], [root, skew], [0.0, sqrt(max(0.0, yy - skew * skew))]])
        return _ELLIPSE_BACK.T @ halves, 0
    if isinstance(shape, Polygon) and (corners := plane.corners(shape)):
        weights, parts = _chain(len(corners))
        return weights.T @ np.array(corners), parts
    return None, 0


def _find_by_samples(shape: Shape, grid: SkyGrid, index: SkyIndex) -> Found | Quickness | None:
    """The same for any image."""
    cap = _cap_around(shape)
    if cap is None:
        return NOT_QUICK
    axis, radius = cap
    near = index.roughly_near(axis, radius)
    if not near.size:
        return None
    if int(near[-1]) >= index.faithful and (index.near(axis, radius) >= index.faithful).any():
        return NOT_QUICK
    edge = _edge(shape, axis, radius)
    limits = _limits(edge, grid, index.finest)
    if limits is None:
        # Nothing to go by; but cells that are near the cap may all be far from the shape.
        return None if _are_far(shape, index, near) else NOT_QUICK
    found = _pixels(limits, grid.naxis)
    if found is None or _is_elsewhere_too(shape, edge, axis, found, index, near):
        return NOT_QUICK
    return NOT_QUICK if _may_be_inside_out(axis, found, index) else found


def _cap_around(shape: Shape) -> tuple[Vector, float] | None:
    """Axis and radius of a cap around the shape; None where that is large or takes long."""
    match shape:
        case Circle():
            radius = radians(shape.radius)
            return (unit_vector(shape.lon, shape.lat), radius) if radius < _MAX_RADIUS else None
        case Polygon():
            if len(shape.vertices) > _MAX_VERTICES:
                return None
            corners = [unit_vector(lon, lat) for lon, lat in shape.vertices]
            x, y, z = (fsum(parts) for parts in zip(*corners, strict=True))
        case Range():
            width = range_width(shape)
            if width > 90.0 or max(-shape.lat1, shape.lat2) > 80.0:
                return None
            lons = shape.lon1, shape.lon1 + width
            corners = [unit_vector(lon, lat) for lon in lons for lat in (shape.lat1, shape.lat2)]
            # On the middle meridian, so that the parallels lie farthest off at their ends.
            x, y, z = unit_vector(shape.lon1 + width / 2, (shape.lat1 + shape.lat2) / 2)
    length = hypot(x, y, z)
    if length < 0.5:
        return None
    axis = x / length, y / length, z / length
    radius = acos(min(1.0, *(dot(axis, corner) for corner in corners))) + 3e-8
    return (axis, radius) if radius < _MAX_RADIUS else None


class _Edge(NamedTuple):
    """Samples along the edge of a shape."""

    vectors: Floats
    parts: int
    """Samples to a smooth side of a closed chain; 0 for a circle's whole edge."""


def _edge(shape: Shape, axis: Vector, radius: float) -> _Edge:
    match shape:
        case Circle():
            return _Edge(_circle_edge(axis, radius), 0)
        case Polygon():
            return _polygon_edge(shape)
        case Range():
            return _Edge(_range_edge(shape), _RANGE_PARTS)


def _limits(edge: _Edge, grid: SkyGrid, finest: float) -> list[float] | None:
    """Least x and y, greatest x and y, and the doubt about them; pixels."""
    x, y = grid.sky_to_pixel(edge.vectors)
    pixels = np.array((x, y))
    if isnan(float(np.add.reduce(pixels, axis=None))):
        return None
    limits = _chain_limits(pixels, edge.parts) if edge.parts else _circle_limits(pixels)
    if limits is None:
        return None
    doubt = limits[-1]
    if not _is_inside(limits, grid.naxis):
        return None  # also where a sample has no pixel: NaN compares as false
    astray = (grid.pixel_to_sky(x, y) - edge.vectors).ravel()
    # All samples together are counted as what one of them may be; NaN compares as false.
    missed = sqrt(float(astray @ astray))
    if not missed <= max(_ASTRAY * finest, _ROUNDING):
        return None
    # Twice: the map's pixels are nowhere smaller than the finest, but a little may be skewed.
    limits[-1] = doubt + _DOUBT + (2.0 * missed / finest if finest else _ASTRAY)
    return limits


def _is_inside(limits: list[float], naxis: tuple[int, int]) -> bool:
    least_x, least_y, most_x, most_y, _ = limits
    columns, rows = naxis
    return least_x > -0.5 and least_y > -0.5 and most_x < columns - 0.5 and most_y < rows - 0.5


def _circle_edge(axis: Vector, radius: float) -> Floats:
    x, y, z = axis
    east, north = _east_and_north(axis)
    size, depth = sin(radius), cos(radius)
    centre_and_waves = np.array(
        [
            (depth * x, size * east[0], size * north[0]),
            (depth * y, size * east[1], size * north[1]),
            (depth * z, size * east[2], size * north[2]),
        ]
    )
    edge: Floats = centre_and_waves @ _ELLIPSE_BACK
    return edge


def _east_and_north(axis: Vector) -> tuple[Vector, Vector]:
    x, y, _ = axis
    across = hypot(x, y)
    # At a pole any two directions will do.
    east = (-y / across, x / across, 0.0) if across > 1e-8 else (0.0, 1.0, 0.0)
    return east, cross(axis, east)


def _circle_limits(pixels: Floats) -> list[float] | None:
    """The limits of the curve through the samples, which is an ellipse and a little more."""
    ellipse = pixels @ _ELLIPSE
    rest = np.maximum.reduce(np.abs(pixels - ellipse @ _ELLIPSE_BACK), axis=1).tolist()
    (x, x_cos, x_sin), (y, y_cos, y_sin) = ellipse.tolist()
    half_x, half_y = hypot(x_cos, x_sin), hypot(y_cos, y_sin)
    if not isfinite(half_x + half_y):
        return None
    if max(rest) <= _DOUBT:
        # Between samples a smooth rest hardly grows.
        return [x - half_x, y - half_y, x + half_x, y + half_y, 2.0 * max(rest)]
    if rest[0] > 0.01 * half_x or rest[1] > 0.01 * half_y:
        return None  # the greatest sample might not be next to the greatest point
    # Through a greatest sample and its neighbours passes one wave of the circle's own length.
    lows, highs = pixels.argmin(axis=1).tolist(), pixels.argmax(axis=1).tolist()
    rows = pixels.tolist()
    extremes = [
        _crest(row, at, side)
        for side, places in ((-1.0, lows), (1.0, highs))
        for row, at in zip(rows, places, strict=True)
    ]
    return [*extremes, 2e-3 * max(rest)]


def _crest(samples: list[float], at: int, side: float) -> float:
    before, here, after = samples[at - 1], samples[at], samples[(at + 1) % len(samples)]
    along = (2.0 * here - before - after) / (2.0 * (1.0 - _BESIDE[0]))
    across = (after - before) / (2.0 * _BESIDE[1])
    return here - along + side * hypot(along, across)


@lru_cache(maxsize=_MAX_VERTICES)
def _chain(vertices: int) -> tuple[Floats, int]:
    """Weights that make samples of the vertices of a closed chain, and samples per arc."""
    parts = 8 if vertices <= 8 else 4
    weights = np.zeros((vertices, vertices * parts + 1))
    for vertex in range(vertices):
        for part in range(parts):
            weights[vertex, vertex * parts + part] += 1.0 - part / parts
            weights[(vertex + 1) % vertices, vertex * parts + part] += part / parts
    weights[0, -1] = 1.0  # closed, so that each arc has both its ends in one row
    return weights, parts


def _polygon_edge(polygon: Polygon) -> _Edge:
    corners = np.array([unit_vector(lon, lat) for lon, lat in polygon.vertices]).T
    weights, parts = _chain(len(polygon.vertices))
    edge: Floats = corners @ weights
    edge /= np.sqrt(np.add.reduce(edge * edge, axis=0))
    return _Edge(edge, parts)


_RANGE_PARTS: Final = 16
_WAY: Final = np.arange(_RANGE_PARTS) / _RANGE_PARTS
_AROUND_LON: Final = np.concatenate(
    [_WAY, np.ones(_RANGE_PARTS), 1.0 - _WAY, np.zeros(_RANGE_PARTS + 1)]
)
_AROUND_LAT: Final = np.concatenate(
    [np.zeros(_RANGE_PARTS), _WAY, np.ones(_RANGE_PARTS), 1.0 - _WAY, np.zeros(1)]
)


def _range_edge(sky_range: Range) -> Floats:
    lon = radians(sky_range.lon1) + radians(range_width(sky_range)) * _AROUND_LON
    lat = radians(sky_range.lat1) + radians(sky_range.lat2 - sky_range.lat1) * _AROUND_LAT
    across = np.cos(lat)
    return np.stack((across * np.cos(lon), across * np.sin(lon), np.sin(lat)))


def _chain_limits(pixels: Floats, parts: int) -> list[float]:
    """The limits of a closed chain; the doubt is how far it may bulge between samples."""
    steps = pixels[:, 1:] - pixels[:, :-1]
    bends = steps[:, 1:] - steps[:, :-1]
    # At the corners there is no bend but a turn; all others count.
    bends[:, parts - 1 :: parts] = 0.0
    # An eighth would do if each side were a parabola.
    bulge = 0.25 * max(float(bends.max()), -float(bends.min()))
    least, most = np.minimum.reduce(pixels, axis=1), np.maximum.reduce(pixels, axis=1)
    return [*least.tolist(), *most.tolist(), bulge]


def _pixels(limits: list[float], naxis: tuple[int, int]) -> Found | None:
    """The box of the limits; None where they are in doubt."""
    *edges, doubt = limits
    if not isfinite(doubt) or doubt > 0.25:
        return None
    low_x, low_y, high_x, high_y = (_pixel(edge, doubt) for edge in edges)
    if low_x is None or low_y is None or high_x is None or high_y is None:
        return None
    if low_x < 0 or low_y < 0 or high_x >= naxis[0] or high_y >= naxis[1]:
        return None
    return (low_x, low_y), (high_x + 1, high_y + 1)


def _pixel(edge: float, doubt: float) -> int | None:
    """The pixel that holds *edge*, if it does with all its doubt."""
    pixel = floor(edge + 0.5)
    return pixel if abs(edge - pixel) <= 0.5 - doubt else None


def _is_elsewhere_too(
    shape: Shape, edge: _Edge, axis: Vector, found: Found, index: SkyIndex, near: NDArray[np.intp]
) -> bool:
    """Whether the shape might meet pixels that are further than a cell from the box."""
    (low_x, low_y), (high_x, high_y) = found
    limits = np.array([[high_x], [high_y], [-low_x], [-low_y]])
    beyond = np.logical_or.reduce(index.outer[:, near] > limits, axis=0)
    apart = near[beyond]
    if not apart.size:
        return False
    if edge.parts:
        apart = apart[~_are_beside(edge.vectors, axis, index, apart)]
    return bool(apart.size) and not _are_far(shape, index, apart)


def _may_be_inside_out(axis: Vector, found: Found, index: SkyIndex) -> bool:
    """Whether the edge's pixels might enclose all that is *not* of the shape about *axis*.

    So it is with what lies about infinity: the antipodes of a stereographic map. Then they
    enclose the antipodes of the shape, or a tear.
    """
    if index.faithful < len(index.cells) and _any_in(found, index, slice(index.faithful, None)):
        return True
    x, y, z = axis
    return index.is_wide and _any_in(found, index, index.near((-x, -y, -z), 0.0))


def _any_in(found: Found, index: SkyIndex, which: slice | NDArray[np.intp]) -> bool:
    """Whether any of these cells has pixels of the box."""
    low, high = (np.array(ends)[:, None] for ends in found)
    cells = index.cells
    meets = (cells.lower[:, which] < high) & (cells.upper[:, which] > low)
    return bool(meets.all(axis=0).any())


_SIDES: Final = np.stack(
    [np.cos(np.arange(16) * (pi / 8)), np.sin(np.arange(16) * (pi / 8))], axis=1
)


def _are_beside(
    edge: Floats, axis: Vector, index: SkyIndex, cells: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Whether a great circle lies between each cell and the samples of a chain."""
    east, north = _east_and_north(axis)
    plane = np.array([east, north, axis])
    flat = plane @ edge
    centre = plane @ index.centre[:, cells]
    # On the tangent plane great circles are straight lines. The samples of a parallel may bulge.
    rims = (_SIDES @ (flat[:2] / flat[2])).max(axis=1)
    rims += 0.01 * rims.max()
    normals = np.concatenate([_SIDES, -rims[:, None]], axis=1)
    normals /= np.sqrt(1.0 + rims * rims)[:, None]
    reach = index.reach[cells]
    beside: NDArray[np.bool_] = np.logical_or.reduce(normals @ centre > np.sin(reach), axis=0)
    return beside & (reach < 1.5)


def _are_far(shape: Shape, index: SkyIndex, cells: NDArray[np.intp]) -> bool:
    """Whether the shape reaches none of these cells."""
    margin = region_of(shape).margin(index.centre[:, cells])
    return bool((margin < -index.reach[cells]).all())
