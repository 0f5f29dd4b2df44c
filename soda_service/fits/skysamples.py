"""Points all over an image, and the directions of those that are on the sky."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from soda_service.fits.celestial import CelestialGrid

Block = tuple[float, float, float, float]
"""x from, x to, y from, y to, in 0-based pixel coordinates."""

_SAMPLES: Final = 200
"""Points along each axis of an image that triangles are chosen with, at most."""
_HALVINGS: Final = 12
"""Steps by which the limb between two samples is closed in upon."""


def lattice(block: Block, points: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """X and y of so many points along each axis of *block*, edges included."""
    x, y = np.meshgrid(
        np.linspace(block[0], block[1], points), np.linspace(block[2], block[3], points)
    )
    return x, y


def samples(grid: CelestialGrid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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
