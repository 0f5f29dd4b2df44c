"""What discovery tells about the place of an image: its footprint, middle, size and scale."""

from __future__ import annotations

from dataclasses import dataclass
from math import degrees
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from soda_service.fits.footprint import footprint
from soda_service.fits.skyplaces import place_of, separation, vectors_of
from soda_service.fits.skysamples import lattice, samples

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from soda_service.fits.celestial import CelestialGrid
    from soda_service.fits.skyplaces import Place

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
        radius = separation(vertices, centre)
        if radius >= 90.0:
            # A smaller cap is convex, so it holds the polygons whose vertices it holds.
            radius = max(radius, separation(samples(grid)[0], centre))
        return cls(polygons, place_of(centre), radius, scale)


def extents_of(grids: Iterable[CelestialGrid]) -> list[SkyExtent | None]:
    """The extent of each image, found once for images of one size that show the same sky."""
    known: dict[tuple[tuple[int, int], bytes], SkyExtent | None] = {}
    extents = []
    for grid in grids:
        width, height = grid.naxis
        x, y = lattice((-0.5, width - 0.5, -0.5, height - 0.5), _ALIKE)
        key = grid.naxis, grid.pixel_to_sky(x.ravel(), y.ravel()).tobytes()
        if key not in known:
            known[key] = SkyExtent.of(grid)
        extents.append(known[key])
    return extents


def _middle(grid: CelestialGrid) -> tuple[NDArray[np.float64], float] | None:
    """Direction and pixel scale (arcsec) of the pixel on the sky that is nearest the middle.

    None where no pixel that is looked at is on the sky.
    """
    width, height = grid.naxis
    x, y = np.array([(width - 1) / 2]), np.array([(height - 1) / 2])
    found = _nearest(grid, x, y)
    if found is not None and np.isfinite(found[1]):
        return found
    across, along = lattice((-0.5, width - 0.5, -0.5, height - 0.5), 33)
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
