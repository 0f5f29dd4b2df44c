"""Where an image lies on the sky, as polygons with great-circle edges.

The polygons hold every pixel that is on the sky, and little else. An image whose outline is
one simple curve is one polygon that runs along it; a large one is cut into several, each
fitting into a hemisphere. Where there is no outline to follow (maps of the whole sky, limbs,
seams), triangles of the sphere stand for the pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from soda_service.fits.outlines import follow
from soda_service.fits.skyplaces import place_of
from soda_service.fits.skytriangles import cover

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from soda_service.fits.celestial import CelestialGrid
    from soda_service.fits.skyplaces import Place

_DEPTH: Final = 3
"""How often a block is cut into four before triangles take over."""
_WITHIN: Final = 1e-9
"""Pixels from the edge of an image that are taken for it."""


def footprint(grid: CelestialGrid) -> tuple[tuple[Place, ...], ...]:
    """Polygons that hold every pixel of an image; none where no pixel is on the sky."""
    width, height = grid.naxis
    whole = (-0.5, width - 0.5, -0.5, height - 0.5)
    polygons = follow(grid, whole, _DEPTH)
    if polygons is None:
        # The map may end at the edge of the image, as at that of a cube's face.
        polygons = follow(_Continued(grid), whole, _DEPTH)
    if polygons is None:
        polygons = cover(grid)
    return tuple(tuple(place_of(vertex) for vertex in polygon.T) for polygon in polygons)


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
