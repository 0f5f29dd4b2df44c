"""Polygons with great-circle edges that run along the outline of an image.

They exist where the outline is one simple curve, or where that of each of some parts is.
"""

from __future__ import annotations

from itertools import pairwise
from math import cos, radians
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from soda_service.fits.skysamples import lattice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from soda_service.fits.skysamples import Block

_FINENESS: Final = 1e-3
"""Part of the size of an image by which its polygon may be larger, if that is more than a pixel."""
_ALONG: Final = 64
"""Points along each side of a block that its polygon is checked with."""
_INSIDE: Final = 17
"""Points along each axis of a block that its regularity is checked with."""
_HALF_WIDTH: Final = cos(radians(65.0))
"""A polygon stays within 65 degrees of its middle."""
_MOST_VERTICES: Final = 256


class PixelSky(Protocol):
    """What is asked of an image: where its pixels are on the sky."""

    def pixel_to_sky(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Unit vectors (3, N) of pixel coordinates; NaN where undefined."""


def follow(grid: PixelSky, block: Block, depth: int) -> list[NDArray[np.float64]] | None:
    """Polygons along the outline of *block*, cut into four up to *depth* times; None if in vain."""
    if (polygon := _outline_polygon(grid, block)) is not None:
        return [polygon]
    if depth == 0 or not _is_continuous(grid, block):
        return None
    found: list[NDArray[np.float64]] = []
    for part in _quarters(block):
        polygons = follow(grid, part, depth - 1)
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


def _is_continuous(grid: PixelSky, block: Block) -> bool:
    """Whether every pixel of *block* is on the sky and neighbours are near each other."""
    x, y = lattice(block, 2 * _ALONG + 1)
    sky = grid.pixel_to_sky(x.ravel(), y.ravel()).reshape(3, *x.shape)
    if np.isnan(sky).any():
        return False
    steps = np.concatenate(
        [np.linalg.norm(np.diff(sky, axis=axis), axis=0).ravel() for axis in (1, 2)]
    )
    return bool(steps.max() < 0.2)


def _outline_polygon(grid: PixelSky, block: Block) -> NDArray[np.float64] | None:
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


def _regular_inside(grid: PixelSky, block: Block) -> NDArray[np.float64] | None:
    """Directions of a lattice over *block*; None where it is torn, folded or off the sky."""
    x, y = lattice(block, _INSIDE)
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


def _vertices(grid: PixelSky, block: Block, pad: float) -> NDArray[np.float64] | None:
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
    grid: PixelSky, sky: NDArray[np.float64], points: NDArray[np.float64], pad: float
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
