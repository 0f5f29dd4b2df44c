"""The box around a shape in the ordinary case, in some tens of microseconds.

The ordinary case: the shape is small, lies well inside an image whose map is smooth there, and no
edge of its box comes close to an edge between pixels. All of that is checked: whoever finds a check
failed says NOT_QUICK, and the search of `boxsearch` decides.

On planes the box follows from the shape itself (`skyplane`, `distortedplane`). Elsewhere the edge
of the shape is sampled, the inverse map gives the pixels of the samples and the forward map
confirms them.

The edge's pixels enclose all of the shape where the map is one to one: where no pixel of the image
shows the same as another near the shape, and where they do not enclose all the rest of the sky
instead. On planes that is proved. Elsewhere the index tells, from samples of its cells: those that
the shape could reach must be faithful, and the box must hold neither others nor the antipodes.
Besides, cells that the shape could reach away from the box would be a second piece of it.
"""

from __future__ import annotations

from math import acos, fsum, hypot, isnan, pi, radians, sqrt
from typing import TYPE_CHECKING, Final

import numpy as np

from .distortedplane import find_on_distorted_plane
from .edgelimits import DOUBT, box_of, chain_limits, circle_limits, is_inside
from .edgesamples import MAX_VERTICES, edge_of
from .shapes import Circle, Polygon, Range
from .skyplane import NOT_QUICK, Quickness, box_within
from .skyregion import range_width, region_of
from .vectors import dot, east_and_north, unit_vector

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .edgelimits import Found
    from .edgesamples import Edge
    from .pixelbox import SkyGrid
    from .shapes import PlainShape as Shape
    from .skyindex import SkyIndex
    from .vectors import Vector

    Floats = NDArray[np.float64]

_MAX_RADIUS: Final = radians(20.0)
_ASTRAY: Final = 2e-4
"""Pixels that the samples, taken together, may miss the edge of the shape by."""
_ROUNDING: Final = 4e-15
"""Radians that a map may stray by rounding."""


def find_quickly(shape: Shape, grid: SkyGrid, index: SkyIndex | None) -> Found | Quickness | None:
    """First pixel and one past the last of the box, None for no overlap, or NOT_QUICK."""
    plane = grid.plane
    if plane is not None:
        if grid.distortion is not None:
            found = find_on_distorted_plane(shape, plane, grid.distortion, grid.naxis)
        else:
            limits = plane.limits(shape)
            found = box_within(limits, grid.naxis) if limits is not None else NOT_QUICK
        if found is not NOT_QUICK:
            return found
    return _find_by_samples(shape, grid, index) if index is not None else NOT_QUICK


def _find_by_samples(shape: Shape, grid: SkyGrid, index: SkyIndex) -> Found | Quickness | None:
    """The same for any image, by samples of the edge on the sky."""
    cap = _cap_around(shape)
    if cap is None:
        return NOT_QUICK
    axis, radius = cap
    near = index.roughly_near(axis, radius)
    if not near.size:
        return None
    if int(near[-1]) >= index.faithful and (index.near(axis, radius) >= index.faithful).any():
        return NOT_QUICK
    edge = edge_of(shape, axis, radius)
    limits = _limits(edge, grid, index.finest)
    if limits is None:
        # Nothing to go by; but cells that are near the cap may all be far from the shape.
        return None if _are_far(shape, index, near) else NOT_QUICK
    found = box_of(limits, grid.naxis)
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
            if len(shape.vertices) > MAX_VERTICES:
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


def _limits(edge: Edge, grid: SkyGrid, finest: float) -> list[float] | None:
    """Least x and y, greatest x and y, and the doubt about them; pixels."""
    x, y = grid.sky_to_pixel(edge.vectors)
    pixels = np.array((x, y))
    if isnan(float(np.add.reduce(pixels, axis=None))):
        return None
    limits = chain_limits(pixels, edge.parts) if edge.parts else circle_limits(pixels)
    if limits is None:
        return None
    doubt = limits[-1]
    if not is_inside(limits, grid.naxis):
        return None  # also where a sample has no pixel: NaN compares as false
    astray = (grid.pixel_to_sky(x, y) - edge.vectors).ravel()
    # All samples together are counted as what one of them may be; NaN compares as false.
    missed = sqrt(float(astray @ astray))
    if not missed <= max(_ASTRAY * finest, _ROUNDING):
        return None
    # Twice: the map's pixels are nowhere smaller than the finest, but a little may be skewed.
    limits[-1] = doubt + DOUBT + (2.0 * missed / finest if finest else _ASTRAY)
    return limits


def _is_elsewhere_too(
    shape: Shape, edge: Edge, axis: Vector, found: Found, index: SkyIndex, near: NDArray[np.intp]
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
    east, north = east_and_north(axis)
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
