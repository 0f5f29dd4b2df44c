"""Where an image lies on the sky, as polygons with great-circle edges.

The polygons hold every pixel that is on the sky, and little else. An image whose outline is
one simple curve is one polygon that runs along it; a large one is cut into several, each
fitting into a hemisphere. Where there is no outline to follow (maps of the whole sky, limbs,
seams), triangles of the sphere stand for the pixels: an octahedron's faces, halved as often
as the size of the image asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import cos, degrees, radians
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from soda_service.fits.celestial import CelestialGrid

    _Grid: TypeAlias = "CelestialGrid | _Continued"

Place = tuple[float, float]
"""Longitude and latitude, ICRS degrees, longitude from 0 to 360."""
Block = tuple[float, float, float, float]
"""x from, x to, y from, y to, in 0-based pixel coordinates."""

_FINENESS: Final = 1e-3
"""Part of the size of an image by which its polygon may be larger, if that is more than a pixel."""
_ALONG: Final = 64
"""Points along each side of a block that its polygon is checked with."""
_INSIDE: Final = 17
"""Points along each axis of a block that its regularity is checked with."""
_HALF_WIDTH: Final = cos(radians(65.0))
"""A polygon stays within 65 degrees of its middle."""
_MOST_VERTICES: Final = 256
_DEPTH: Final = 3
"""How often a block is cut into four before triangles take over."""
_SAMPLES: Final = 200
"""Points along each axis of an image that triangles are chosen with, at most."""
_HALVINGS: Final = 12
"""Steps by which the limb between two samples is closed in upon."""
_CELLS: Final = 32
"""Triangles across the size of an image."""
_MERGED: Final = 32
"""Places across a triangle that are told apart where triangles are chosen."""
_WITHIN: Final = 1e-9
"""Pixels from the edge of an image that are taken for it."""
_ALIKE: Final = 33
"""Points along each axis at which images with one extent show the same directions."""


@dataclass(frozen=True, slots=True)
class SkyExtent:
    """What discovery tells about the place of an image."""

    polygons: tuple[tuple[Place, ...], ...]
    """Great-circle polygons, each within a hemisphere, that together hold every pixel."""
    centre: Place
    """The middle of the image on the sky."""
    radius: float
    """Degrees from the centre to the farthest vertex or pixel."""
    pixel_scale: float
    """Side of a square pixel as large as the one in the middle, arcsec."""

    @property
    def fov(self) -> float:
        """Diameter of a circle around the centre that holds the image, degrees."""
        return min(2 * self.radius, 360.0)

    @classmethod
    def of(cls, grid: CelestialGrid) -> Self | None:
        """The extent of an image; None where no pixel of it is on the sky."""
        polygons = footprint(grid)
        middle = _middle(grid) if polygons else None
        if middle is None:
            return None
        centre, scale = middle
        vertices = vectors_of([place for polygon in polygons for place in polygon])
        radius = _separation(vertices, centre)
        if radius >= 90.0:
            # A smaller cap is convex, so it holds the polygons whose vertices it holds.
            radius = max(radius, _separation(_samples(grid)[0], centre))
        return cls(polygons, place_of(centre), radius, scale)


def extents_of(grids: Iterable[CelestialGrid]) -> list[SkyExtent | None]:
    """The extent of each image, found once for images of one size that show the same sky."""
    known: dict[tuple[tuple[int, int], bytes], SkyExtent | None] = {}
    extents = []
    for grid in grids:
        width, height = grid.naxis
        x, y = _lattice((-0.5, width - 0.5, -0.5, height - 0.5), _ALIKE)
        key = grid.naxis, grid.pixel_to_sky(x.ravel(), y.ravel()).tobytes()
        if key not in known:
            known[key] = SkyExtent.of(grid)
        extents.append(known[key])
    return extents


def footprint(grid: CelestialGrid) -> tuple[tuple[Place, ...], ...]:
    """Polygons that hold every pixel of an image; none where no pixel is on the sky."""
    width, height = grid.naxis
    whole = (-0.5, width - 0.5, -0.5, height - 0.5)
    polygons = _follow(grid, whole, _DEPTH)
    if polygons is None:
        # The map may end at the edge of the image, as at that of a cube's face.
        polygons = _follow(_Continued(grid), whole, _DEPTH)
    if polygons is None:
        polygons = _cover(grid)
    return tuple(tuple(place_of(vertex) for vertex in polygon.T) for polygon in polygons)


def place_of(vector: NDArray[np.float64]) -> Place:
    """Longitude and latitude of a unit vector."""
    x, y, z = (float(part) for part in vector)
    return degrees(np.arctan2(y, x)) % 360.0, degrees(np.arctan2(z, np.hypot(x, y)))


def vectors_of(places: list[Place]) -> NDArray[np.float64]:
    """Unit vectors (3, N) of longitudes and latitudes."""
    lon, lat = np.radians(np.array(places, dtype=np.float64)).T
    return np.stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))


def _separation(vectors: NDArray[np.float64], centre: NDArray[np.float64]) -> float:
    """Degrees from *centre* to the farthest of *vectors*."""
    chord = np.linalg.norm(vectors - centre[:, None], axis=0).max()
    return degrees(2 * np.arcsin(min(chord / 2, 1.0)))


def _middle(grid: CelestialGrid) -> tuple[NDArray[np.float64], float] | None:
    """Direction and pixel scale (arcsec) of the pixel on the sky that is nearest the middle.

    None where no pixel that is looked at is on the sky.
    """
    width, height = grid.naxis
    x, y = np.array([(width - 1) / 2]), np.array([(height - 1) / 2])
    found = _nearest(grid, x, y)
    if found is not None and np.isfinite(found[1]):
        return found
    across, along = _lattice((-0.5, width - 0.5, -0.5, height - 0.5), 33)
    order = np.argsort(np.hypot((across - x) / width, (along - y) / height).ravel(), kind="stable")
    return _nearest(grid, across.ravel()[order], along.ravel()[order]) or found


def _nearest(
    grid: CelestialGrid, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float] | None:
    """Direction and pixel scale of the first place on the sky, one with a scale if there is any."""
    here = grid.pixel_to_sky(x, y)
    dx = grid.pixel_to_sky(x + 0.25, y) - grid.pixel_to_sky(x - 0.25, y)
    dy = grid.pixel_to_sky(x, y + 0.25) - grid.pixel_to_sky(x, y - 0.25)
    area = 4 * np.linalg.norm(np.cross(dx.T, dy.T), axis=1)
    sound = np.isfinite(here[0])
    best = sound & np.isfinite(area)
    if best.any():
        chosen = int(np.argmax(best))
        return here[:, chosen], degrees(float(np.sqrt(area[chosen]))) * 3600
    if sound.any():
        return here[:, int(np.argmax(sound))], float("nan")
    return None


def _lattice(block: Block, points: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.meshgrid(
        np.linspace(block[0], block[1], points), np.linspace(block[2], block[3], points)
    )
    return x, y


class _Continued:
    """A grid that goes on straight beyond the edges of its image, for a pixel or two."""

    def __init__(self, grid: CelestialGrid) -> None:
        self._grid = grid
        self.naxis = grid.naxis

    def pixel_to_sky(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """As the grid's own; beyond an edge as far on as the pixel mirrored at it lies back."""
        edge_x, edge_y = (
            np.clip(at, -0.5 + _WITHIN, length - 0.5 - _WITHIN)
            for at, length in zip((x, y), self.naxis, strict=True)
        )
        edge = self._grid.pixel_to_sky(edge_x, edge_y)
        sky = 2 * edge - self._grid.pixel_to_sky(2 * edge_x - x, 2 * edge_y - y)
        length = np.linalg.norm(sky, axis=0)
        ahead: NDArray[np.float64] = sky / np.where(length > 0, length, 1.0)
        return ahead


# ---------------------------------------------------------------- polygons along the outline


def _follow(grid: _Grid, block: Block, depth: int) -> list[NDArray[np.float64]] | None:
    """Polygons along the outline of *block*, cut into four up to *depth* times; None if in vain."""
    if (polygon := _outline_polygon(grid, block)) is not None:
        return [polygon]
    if depth == 0 or not _is_continuous(grid, block):
        return None
    found: list[NDArray[np.float64]] = []
    for part in _quarters(block):
        polygons = _follow(grid, part, depth - 1)
        if polygons is None:
            return None
        found += polygons
    return found


def _quarters(block: Block) -> Iterator[Block]:
    x0, x1, y0, y1 = block
    xs = (x0, (x0 + x1) / 2, x1) if x1 - x0 > 2 else (x0, x1)
    ys = (y0, (y0 + y1) / 2, y1) if y1 - y0 > 2 else (y0, y1)
    for left, right in pairwise(xs):
        for bottom, top in pairwise(ys):
            yield left, right, bottom, top


def _is_continuous(grid: _Grid, block: Block) -> bool:
    """Whether every pixel of *block* is on the sky and neighbours are near each other."""
    x, y = _lattice(block, 2 * _ALONG + 1)
    sky = grid.pixel_to_sky(x.ravel(), y.ravel()).reshape(3, *x.shape)
    if np.isnan(sky).any():
        return False
    steps = np.concatenate(
        [np.linalg.norm(np.diff(sky, axis=axis), axis=0).ravel() for axis in (1, 2)]
    )
    return bool(steps.max() < 0.2)


def _outline_polygon(grid: _Grid, block: Block) -> NDArray[np.float64] | None:
    """Unit vectors (3, N) of a polygon around *block*; None where there is no simple one."""
    inside = _regular_inside(grid, block)
    if inside is None:
        return None
    middle = inside[:, inside.shape[1] // 2]
    if (middle @ inside).min() < _HALF_WIDTH:
        return None
    edge = grid.pixel_to_sky(*_outline(block, 0.0, _ALONG))
    if np.isnan(edge).any():
        return None
    size = max(block[1] - block[0], block[3] - block[2])
    most = max(1.0, _FINENESS * size)
    for pad in (most / 4, most / 2, most * 0.9):
        vertices = _vertices(grid, block, pad)
        if vertices is None or (middle @ vertices).min() < _HALF_WIDTH:
            return None
        if _holds(vertices, middle, edge) and _holds(vertices, middle, inside):
            return vertices
    return None


def _regular_inside(grid: _Grid, block: Block) -> NDArray[np.float64] | None:
    """Directions of a lattice over *block*; None where it is torn, folded or off the sky."""
    x, y = _lattice(block, _INSIDE)
    sky = grid.pixel_to_sky(x.ravel(), y.ravel()).reshape(3, *x.shape)
    if np.isnan(sky).any():
        return None
    right = np.diff(sky, axis=2)
    up = np.diff(sky, axis=1)
    turning = np.einsum(
        "iyx,iyx->yx",
        np.cross(right[:, :-1], up[:, :, :-1], axis=0),
        sky[:, :-1, :-1],
    )
    if not (turning > 0).all() and not (turning < 0).all():
        return None
    for steps in (right, up):
        lengths = np.linalg.norm(steps, axis=0)
        if lengths.max() > 8 * np.median(lengths):
            return None
    return sky.reshape(3, -1)


def _outline(
    block: Block, pad: float, points: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points along the outline of *block*, moved outward by *pad* pixels; none twice."""
    corners = _corners(block, pad)
    part = np.arange(points) / points
    sides = [
        (start[None, :] + part[:, None] * (end - start)[None, :])
        for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True)
    ]
    x, y = np.concatenate(sides).T
    return x, y


def _corners(block: Block, pad: float) -> NDArray[np.float64]:
    x0, x1, y0, y1 = block
    return np.array([
        (x0 - pad, y0 - pad), (x1 + pad, y0 - pad), (x1 + pad, y1 + pad), (x0 - pad, y1 + pad),
    ])  # fmt: skip


def _vertices(grid: _Grid, block: Block, pad: float) -> NDArray[np.float64] | None:
    """Vertices along the padded outline, as many as keep great circles near it."""
    corners = _corners(block, pad)
    vertices: list[NDArray[np.float64]] = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        count = 1
        while True:
            points = start + (np.arange(2 * count + 1) / (2 * count))[:, None] * (end - start)
            sky = grid.pixel_to_sky(points[:, 0], points[:, 1])
            if np.isnan(sky).any():
                return None
            if _straight(grid, sky, points, pad):
                break
            count *= 2
            if 4 * count > _MOST_VERTICES:
                return None
        vertices.append(sky[:, :-1:2])
    return np.concatenate(vertices, axis=1)


def _straight(
    grid: _Grid, sky: NDArray[np.float64], points: NDArray[np.float64], pad: float
) -> bool:
    """Whether the great circles between every second point pass near the points between."""
    chords = sky[:, :-1:2] + sky[:, 2::2]
    chords /= np.linalg.norm(chords, axis=0)
    off = np.linalg.norm(chords - sky[:, 1::2], axis=0)
    x, y = points[1::2].T
    pixel_x = np.linalg.norm(grid.pixel_to_sky(x + 0.5, y) - sky[:, 1::2], axis=0)
    pixel_y = np.linalg.norm(grid.pixel_to_sky(x, y + 0.5) - sky[:, 1::2], axis=0)
    return bool((off < pad * np.minimum(pixel_x, pixel_y)).all())


def _holds(
    vertices: NDArray[np.float64], middle: NDArray[np.float64], points: NDArray[np.float64]
) -> bool:
    """Whether all *points* lie inside the polygon, by the even-odd rule around *middle*."""
    east = np.cross([0.0, 0, 1] if abs(middle[2]) < 0.9 else [1.0, 0, 0], middle)
    east /= np.linalg.norm(east)
    north = np.cross(middle, east)
    plane = np.stack((east, north))
    corner_x, corner_y = plane @ vertices / (middle @ vertices)
    x, y = plane @ points / (middle @ points)
    next_x, next_y = np.roll(corner_x, -1), np.roll(corner_y, -1)
    inside = np.zeros(len(x), dtype=bool)
    for x0, y0, x1, y1 in zip(corner_x, corner_y, next_x, next_y, strict=True):
        crosses = (y0 > y) != (y1 > y)
        if y1 != y0:
            inside ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return bool(inside.all())


# ---------------------------------------------------------------- triangles


def _cover(grid: CelestialGrid) -> list[NDArray[np.float64]]:
    """Triangles of the sphere that hold every pixel on the sky."""
    points, reach = _samples(grid)
    if not points.size:
        return []
    size = 2 * radians(_separation(points, points[:, points.shape[1] // 2]))
    edge = max(size / _CELLS, 2 * float(np.median(reach)))
    depth = max(0, int(np.ceil(np.log2(np.pi / 2 / edge))))
    points, reach = _merged(points, reach, edge / _MERGED)
    found: list[NDArray[np.float64]] = []
    for face in _octahedron():
        found += _triangles(face, points, reach, depth)[0]
    return found


def _merged(
    points: NDArray[np.float64], reach: NDArray[np.float64], size: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One of all points that lie in the same cube of this size, which speaks for them, too.

    So that a map that shows one place everywhere costs no more than a small image.
    """
    cubes = np.floor((points - points.min(axis=1)[:, None]) / size).astype(np.int64)
    stride = int(cubes.max()) + 1
    keys = (cubes[0] * stride + cubes[1]) * stride + cubes[2]
    order = np.argsort(keys, kind="stable")
    firsts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    farthest = np.maximum.reduceat(reach[order], firsts)
    alone = np.diff(firsts, append=keys.size) == 1
    return points[:, order[firsts]], farthest + np.where(alone, 0.0, size * np.sqrt(3.0))


def _samples(grid: CelestialGrid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Directions all over the image that are on the sky, and how far each speaks for others.

    That is the distance in radians to the farthest neighbour, jumps over seams left out.
    """
    width, height = grid.naxis
    columns, rows = (min(6 * length + 1, _SAMPLES) for length in (width, height))
    x, y = np.meshgrid(
        np.linspace(-0.5, width - 0.5, columns), np.linspace(-0.5, height - 0.5, rows)
    )
    sky = grid.pixel_to_sky(x.ravel(), y.ravel()).reshape(3, rows, columns)
    right = np.linalg.norm(np.diff(sky, axis=2), axis=0)
    up = np.linalg.norm(np.diff(sky, axis=1), axis=0)
    steps = np.concatenate((right.ravel(), up.ravel()))
    usual = float(np.median(steps[np.isfinite(steps)])) if np.isfinite(steps).any() else 0.0
    # Near a limb steps are long too; a step of a third of a radian there is no jump.
    longest = max(8 * usual, min(0.35, usual * max(rows, columns) / 4))
    reach = np.full((rows, columns), usual)
    edges: list[NDArray[np.float64]] = []
    for lengths, before, after in (
        (right, np.s_[:, :-1], np.s_[:, 1:]),
        (up, np.s_[:-1, :], np.s_[1:, :]),
    ):
        sound = np.where(lengths <= longest, lengths, 0.0)
        for side in (before, after):
            reach[side] = np.maximum(reach[side], sound)
        here, there = (np.stack((x[side], y[side])) for side in (before, after))
        ends = np.isfinite(sky[0][before]) != np.isfinite(sky[0][after])
        forward = np.isfinite(sky[0][before])[ends]
        inner = np.where(forward, here[:, ends], there[:, ends])
        outer = np.where(forward, there[:, ends], here[:, ends])
        edges += _towards_the_limb(grid, inner, outer)
    on_sky = np.isfinite(sky[0])
    limb = np.concatenate([np.empty((3, 0)), *edges], axis=1)
    directions = np.concatenate((sky[:, on_sky], limb), axis=1)
    return directions, np.append(reach[on_sky], np.full(limb.shape[1], usual)) + 1e-9


def _towards_the_limb(
    grid: CelestialGrid, inner: NDArray[np.float64], outer: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Directions between pixels (2, N) on the sky and others off it, ever nearer the limit."""
    found: list[NDArray[np.float64]] = []
    for _ in range(_HALVINGS if inner.shape[1] else 0):
        middle = (inner + outer) / 2
        sky = grid.pixel_to_sky(*middle)
        there = np.isfinite(sky[0])
        inner, outer = np.where(there, middle, inner), np.where(there, outer, middle)
        found.append(sky[:, there])
    return found


def _octahedron() -> Iterator[NDArray[np.float64]]:
    """The eight faces, corners counter-clockwise seen from outside, as columns."""
    for x in (1.0, -1.0):
        for y in (1.0, -1.0):
            for z in (1.0, -1.0):
                corners = np.diag((x, y, z))
                yield corners if x * y * z > 0 else corners[:, ::-1]


def _triangles(
    triangle: NDArray[np.float64],
    points: NDArray[np.float64],
    reach: NDArray[np.float64],
    depth: int,
) -> tuple[list[NDArray[np.float64]], bool]:
    """Triangles of the given depth within *triangle* that come near any of *points*.

    Where all parts of it are taken, it stands for them; whether it does is the second value.
    """
    normals = np.cross(triangle.T, np.roll(triangle.T, -1, axis=0))
    normals /= np.linalg.norm(normals, axis=1)[:, None]
    near = ((normals @ points) >= -np.sin(np.minimum(reach, 1.0))).all(axis=0)
    if not near.any():
        return [], False
    if depth == 0:
        return [triangle], True
    a, b, c = triangle.T
    ab, bc, ca = (one / np.linalg.norm(one) for one in (a + b, b + c, c + a))
    parts = [
        _triangles(np.stack(part, axis=1), points[:, near], reach[near], depth - 1)
        for part in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
    ]
    if all(is_whole for _, is_whole in parts):
        return [triangle], True
    return [one for found, _ in parts for one in found], False
