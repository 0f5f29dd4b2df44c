"""Small images all over the sky, as `SkyGrid`s made of astropy's WCS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from astropy.wcs import WCS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from soda_service.geometry.skyplane import Distortion, SkyPlane

    Floats = NDArray[np.float64]


class AstropyGrid:
    """A celestial WCS whose world coordinates are ICRS."""

    plane: SkyPlane | None = None
    distortion: Distortion | None = None

    def __init__(self, wcs: WCS, naxis: tuple[int, int]) -> None:
        self.wcs = wcs
        self.naxis = naxis
        self._is_swapped = wcs.wcs.lng == 1

    def pixel_to_sky(self, x: Floats, y: Floats) -> Floats:
        """See `SkyGrid`."""
        pixels = np.stack((x, y), axis=1)
        if self.wcs.sip is not None:
            pixels = self.wcs.sip_pix2foc(pixels, 0) + self.wcs.wcs.crpix - 1.0
        world = np.radians(self.wcs.wcs.p2s(pixels, 0)["world"])
        lon, lat = world.T[::-1] if self._is_swapped else world.T
        return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])

    def sky_to_pixel(self, vectors: Floats) -> tuple[Floats, Floats]:
        """See `SkyGrid`."""
        lon = np.degrees(np.arctan2(vectors[1], vectors[0]))
        lat = np.degrees(np.arctan2(vectors[2], np.hypot(vectors[0], vectors[1])))
        world = np.stack((lat, lon) if self._is_swapped else (lon, lat), axis=1)
        undistorted = self.wcs.wcs.s2p(world, 0)["pixcrd"]
        pixels = undistorted
        if self.wcs.sip is not None:
            for _ in range(12):
                there = self.wcs.sip_pix2foc(pixels, 0) + self.wcs.wcs.crpix - 1.0
                pixels = pixels + undistorted - there
        return pixels[:, 0], pixels[:, 1]


class CutGrid:
    """The part of another grid that starts at a pixel."""

    plane: SkyPlane | None = None
    distortion: Distortion | None = None

    def __init__(self, grid: AstropyGrid, lower: tuple[int, int], naxis: tuple[int, int]) -> None:
        self._grid = grid
        self._lower = lower
        self.naxis = naxis

    def pixel_to_sky(self, x: Floats, y: Floats) -> Floats:
        """See `SkyGrid`."""
        return self._grid.pixel_to_sky(x + self._lower[0], y + self._lower[1])

    def sky_to_pixel(self, vectors: Floats) -> tuple[Floats, Floats]:
        """See `SkyGrid`."""
        x, y = self._grid.sky_to_pixel(vectors)
        return x - self._lower[0], y - self._lower[1]


class TurnedGrid:
    """Another grid with its axes swapped and the new first one turned round."""

    plane: SkyPlane | None = None
    distortion: Distortion | None = None

    def __init__(self, grid: AstropyGrid) -> None:
        self._grid = grid
        self.naxis = grid.naxis[::-1]

    def pixel_to_sky(self, x: Floats, y: Floats) -> Floats:
        """See `SkyGrid`."""
        return self._grid.pixel_to_sky(y, self.naxis[0] - 1 - x)

    def sky_to_pixel(self, vectors: Floats) -> tuple[Floats, Floats]:
        """See `SkyGrid`."""
        x, y = self._grid.sky_to_pixel(vectors)
        return self.naxis[0] - 1 - y, x


def _grid(
    projection: str,
    naxis: tuple[int, int],
    *,
    crval: tuple[float, float],
    crpix: tuple[float, float],
    step: float,
    turn: float = 0.0,
    swapped: bool = False,
    sip: bool = False,
    fold: float = 0.0,
) -> AstropyGrid:
    """A grid of square pixels of *step* degrees, turned by *turn* degrees.

    With *sip* it is a little distorted; with *fold* it is folded along the column that is half
    the inverse of it before CRPIX1.
    """
    wcs = WCS(naxis=2)
    names = [f"RA---{projection}", f"DEC--{projection}"]
    cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    matrix = step * np.array([[-cosine, sine], [sine, cosine]])
    values = list(crval)
    if swapped:
        names, matrix, values = names[::-1], matrix[::-1], values[::-1]
    if sip or fold:
        names = [f"{name}-SIP" for name in names]
    wcs.wcs.ctype = names
    wcs.wcs.crval = values
    wcs.wcs.crpix = list(crpix)
    wcs.wcs.cd = matrix
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.radesys = "ICRS"
    if sip:
        from astropy.wcs import Sip

        a, b = np.zeros((4, 4)), np.zeros((4, 4))
        a[2, 0], a[1, 1], a[0, 3] = 3e-4, -2e-4, 4e-6
        b[0, 2], b[1, 1], b[3, 0] = -2e-4, 3e-4, -5e-6
        wcs.sip = Sip(a, b, -a, -b, crpix)
    if fold:
        from astropy.wcs import Sip

        a, b = np.zeros((3, 3)), np.zeros((3, 3))
        a[2, 0] = fold
        wcs.sip = Sip(a, b, None, None, crpix)
    wcs.wcs.set()
    return AstropyGrid(wcs, naxis)


GRIDS: dict[str, Callable[[], AstropyGrid]] = {
    "tan turned": lambda: _grid(
        "TAN", (61, 43), crval=(150.0, 2.2), crpix=(31.3, 20.1), step=0.01, turn=33.0
    ),
    "tan across longitude 0": lambda: _grid(
        "TAN", (53, 40), crval=(0.02, -41.0), crpix=(20.0, 25.0), step=0.02, turn=-10.0
    ),
    "tan swapped": lambda: _grid(
        "TAN", (37, 58), crval=(221.0, 63.0), crpix=(11.0, 30.0), step=0.05, swapped=True
    ),
    "tan with the pole": lambda: _grid(
        "TAN", (47, 52), crval=(77.0, 89.9), crpix=(20.0, 30.0), step=0.02, turn=70.0
    ),
    "tan far from its centre": lambda: _grid(
        "TAN", (60, 31), crval=(10.0, 20.0), crpix=(150.0, -60.0), step=0.2
    ),
    "tan-sip": lambda: _grid(
        "TAN", (57, 64), crval=(310.0, -67.0), crpix=(30.0, 30.0), step=0.01, turn=120.0, sip=True
    ),
    "tan-sip that runs away": lambda: _grid(
        "TAN", (90, 75), crval=(310.0, 10.0), crpix=(-60.0, -75.0), step=0.01, turn=5.0, sip=True
    ),
    "folded tan-sip": lambda: _grid(
        "TAN", (60, 51), crval=(150.0, 2.0), crpix=(30.0, 30.0), step=0.001, fold=0.02
    ),
    "sin whole hemisphere": lambda: _grid(
        "SIN", (50, 46), crval=(100.0, 40.0), crpix=(24.0, 22.0), step=3.0
    ),
    "car all-sky": lambda: _grid("CAR", (73, 36), crval=(0.0, 0.0), crpix=(37.0, 18.5), step=5.0),
    "car wider than the sky": lambda: _grid(
        "CAR", (90, 36), crval=(50.0, 0.0), crpix=(40.0, 18.5), step=5.0
    ),
    "car piece": lambda: _grid("CAR", (40, 30), crval=(0.0, 0.0), crpix=(20.5, -20.0), step=1.0),
    "ait all-sky": lambda: _grid("AIT", (70, 37), crval=(0.0, 0.0), crpix=(35.0, 18.0), step=5.0),
    "zea with both poles": lambda: _grid(
        "ZEA", (49, 53), crval=(0.0, 90.0), crpix=(24.0, 27.0), step=5.0
    ),
    "stg": lambda: _grid("STG", (41, 44), crval=(200.0, -80.0), crpix=(13.0, 20.0), step=0.7),
    "arc": lambda: _grid(
        "ARC", (60, 55), crval=(33.0, 48.0), crpix=(28.0, 30.0), step=6.0, turn=20.0
    ),
    "tiny pixels": lambda: _grid(
        "TAN", (50, 40), crval=(83.6, 22.0), crpix=(3.0, 80.0), step=1e-8, turn=12.0
    ),
    "one row": lambda: _grid(
        "TAN", (55, 1), crval=(150.0, 2.2), crpix=(31.3, 1.0), step=0.01, turn=33.0
    ),
    "one pixel": lambda: _grid("TAN", (1, 1), crval=(15.0, 72.0), crpix=(1.0, 1.0), step=0.01),
}
"""Grids by name, never square and never symmetric."""
