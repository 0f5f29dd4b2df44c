"""Small gnomonic images that know that they are planes, some of them distorted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from astropy.wcs import WCS
from numpy.polynomial.polynomial import polyval2d
from support.grids import AstropyGrid

from soda_service.geometry.skyplane import Distortion, SkyPlane

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

NAXIS = (301, 203)
SCALE = 0.02


class PlaneGrid(AstropyGrid):
    """A gnomonic image that knows it is a plane."""

    def __init__(self, lon: float, lat: float, turn: float) -> None:
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
        wcs.wcs.crval = lon, lat
        wcs.wcs.crpix = 87.3, 131.8
        cos, sin = np.cos(turn), np.sin(turn)
        wcs.wcs.cd = SCALE * np.array([[-cos, 1.1 * sin], [sin, 1.1 * cos]])
        wcs.wcs.set()
        super().__init__(wcs, NAXIS)
        x, y = np.array([0.0, 300, 0, 300]), np.array([0.0, 0, 200, 200])
        self.plane = SkyPlane.of(_fitted(self.pixel_to_sky(x, y), x, y))


def _fitted(vectors: Floats, x: Floats, y: Floats) -> Floats:
    """The matrix from directions to (x, y, 1), up to a factor, by the direct linear transform."""
    rows = []
    for vector, one_x, one_y in zip(vectors.T, x, y, strict=True):
        rows.append([*vector, 0, 0, 0, *(-one_x * vector)])
        rows.append([0, 0, 0, *vector, *(-one_y * vector)])
    matrix: Floats = np.linalg.svd(np.array(rows))[2][-1].reshape(3, 3)
    return matrix if (matrix @ vectors[:, 0])[2] > 0 else -matrix


class DistortedGrid(PlaneGrid):
    """The same behind polynomials of some order, random ones."""

    def __init__(self, order: int, strength: float) -> None:
        super().__init__(120.0, 33.0, 0.7)
        chance = np.random.default_rng(order)
        terms = np.zeros((2, order + 1, order + 1))
        for m in range(order + 1):
            for n in range(order + 1 - m):
                if m + n >= 2:
                    terms[:, m, n] = chance.uniform(-1, 1, 2) * strength / 200.0 ** (m + n - 1)
        self.terms = terms
        self.origin = np.array([70.2, 110.9])
        origin = float(self.origin[0]), float(self.origin[1])
        self.distortion = Distortion(self._distort, terms[0], terms[1], origin, NAXIS)

    def _distort(self, pixels: Floats) -> Floats:
        x, y = (pixels - self.origin).T
        moved: Floats = np.stack([polyval2d(x, y, one) for one in self.terms], axis=1)
        return pixels + moved

    def pixel_to_sky(self, x: Floats, y: Floats) -> Floats:
        """See `SkyGrid`."""
        there = (
            self._distort(np.stack((x, y), 1)) if hasattr(self, "terms") else np.stack((x, y), 1)
        )
        return super().pixel_to_sky(there[:, 0], there[:, 1])

    def sky_to_pixel(self, vectors: Floats) -> tuple[Floats, Floats]:
        """See `SkyGrid`."""
        there = np.stack(super().sky_to_pixel(vectors), 1)
        there[np.abs(there).max(axis=1) > 1000] = np.nan
        pixels = there
        for _ in range(40):
            pixels = np.clip(pixels + there - self._distort(pixels), -1e4, 1e4)
        return pixels[:, 0], pixels[:, 1]


PLANES = [PlaneGrid(10.0, 20.0, 0.3), PlaneGrid(359.9, -89.0, 2.0), PlaneGrid(180.0, 0.0, -1.0)]
DISTORTED = [DistortedGrid(order, strength) for order in (2, 3, 5) for strength in (1e-4, 0.03)]


def sky_of(grid: PlaneGrid, place: tuple[float, float]) -> tuple[float, float]:
    """Longitude and latitude of pixel coordinates, degrees."""
    x, y, z = (float(one[0]) for one in grid.pixel_to_sky(*(np.array([one]) for one in place)))
    return float(np.degrees(np.arctan2(y, x))) % 360.0, float(np.degrees(np.arcsin(z)))
