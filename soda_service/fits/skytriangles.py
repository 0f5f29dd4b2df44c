"""Triangles of the sphere that stand for the pixels of an image: they hold every one on the sky.

For an image without an outline to follow: an octahedron's faces, halved as often as the size of
the image asks for.
"""

from __future__ import annotations

from math import radians
from typing import TYPE_CHECKING, Final

import numpy as np

from soda_service.fits.skyplaces import separation
from soda_service.fits.skysamples import samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from soda_service.fits.celestial import CelestialGrid

_CELLS: Final = 32
"""Triangles across the size of an image."""
_MERGED: Final = 32
"""Places across a triangle that are told apart where triangles are chosen."""


def cover(grid: CelestialGrid) -> list[NDArray[np.float64]]:
    """Triangles of the sphere that hold every pixel on the sky."""
    points, reach = samples(grid)
    if not points.size:
        return []
    size = 2 * radians(separation(points, points[:, points.shape[1] // 2]))
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
