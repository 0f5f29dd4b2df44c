"""Light onto pixels: point sources and galaxies drawn where a WCS says they are.

Pixel coordinates are 0-based, axis 1 first, integers being pixel centres. A point spread function
(PSF) is a sum of round Gaussians that *includes* the response of the pixels, so that the value of
a pixel is the function at its centre, the sum over the pixels is the flux, and the centroid is the
position, all of them far below the noise as long as sigma is not under 0.8 pixels.
"""

from __future__ import annotations

import warnings
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .sky import PROFILE, TRANSIENT, truth

if TYPE_CHECKING:
    from astropy.io.fits import Header
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_REACH = 5.5
"""Sigmas beyond which nothing is drawn; 3e-7 of a Gaussian's light lies there."""


@dataclass(frozen=True, slots=True)
class Psf:
    """The image of a point: (share of the flux, sigma in pixels) of each Gaussian."""

    parts: tuple[tuple[float, float], ...]

    @classmethod
    def of_width(cls, fwhm: float) -> Psf:
        """A core of that FWHM, in pixels, in a faint halo."""
        sigma = fwhm / 2.3548
        return cls(((0.88, sigma), (0.12, 2.2 * sigma)))


class Grid:
    """The pixels of an image and where they lie on the sky."""

    def __init__(self, header: Header, naxis: tuple[int, int]) -> None:
        """*header* has the WCS cards; *naxis* the lengths of the two celestial axes."""
        self.header = header
        self.naxis = naxis

    @cached_property
    def _wcs(self) -> Any:  # astropy is untyped
        from astropy.wcs import WCS, FITSFixedWarning

        with warnings.catch_warnings():
            # Some instruments have old spellings on purpose, PC001001 say.
            warnings.simplefilter("ignore", FITSFixedWarning)
            return WCS(self.header).celestial

    def blank(self) -> Floats:
        """An image without light."""
        return np.zeros(self.naxis[::-1])

    def pixels(self, ra: Floats, dec: Floats) -> tuple[Floats, Floats]:
        """Where ICRS positions fall, in whatever frame the image has its axes."""
        from astropy.coordinates import SkyCoord
        from astropy.wcs.utils import wcs_to_celestial_frame

        sky = SkyCoord(ra, dec, unit="deg", frame="icrs")
        native = sky.transform_to(wcs_to_celestial_frame(self._wcs)).spherical
        x, y = self._wcs.all_world2pix(native.lon.deg, native.lat.deg, 0, tolerance=1e-8)
        return x, y

    def jacobians(self, ra: Floats, dec: Floats) -> Floats:
        """Pixels per arcsec towards (east, north) at each position: shape (N, 2, 2)."""
        x, y = self.pixels(ra, dec)
        x_east, y_east = self.pixels(ra + 1 / 3600 / np.cos(np.radians(dec)), dec)
        x_north, y_north = self.pixels(ra, dec + 1 / 3600)
        columns = (np.stack((x_east - x, y_east - y)), np.stack((x_north - x, y_north - y)))
        return np.stack(columns, axis=1).transpose(2, 0, 1)


def paint_sky(image: Floats, grid: Grid, psf: Psf, *, band: str) -> None:
    """Add every source of the truth table, in nJy a pixel."""
    sources = truth()
    x, y = grid.pixels(sources["ra"], sources["dec"])
    extended = sources["scale"] > 0
    flux = sources[f"flux_{band}"]
    paint_points(image, x[~extended], y[~extended], flux[~extended], psf=psf)
    galaxies = sources[extended]
    shapes = shape_covariances(grid.jacobians(galaxies["ra"], galaxies["dec"]), galaxies)
    paint_galaxies(image, x[extended], y[extended], flux[extended], shapes=shapes, psf=psf)


def paint_transient(image: Floats, grid: Grid, psf: Psf, *, flux: float) -> None:
    """Add the transient as bright as *flux*, in nJy."""
    x, y = grid.pixels(np.array([TRANSIENT.ra]), np.array([TRANSIENT.dec]))
    paint_points(image, x, y, np.array([flux]), psf=psf)


def chance(*names: str) -> np.random.Generator:
    """Random numbers of its own for each product, whatever is made before or beside it."""
    return np.random.Generator(np.random.PCG64([42, zlib.crc32(" ".join(names).encode())]))


def paint_points(image: Floats, x: Floats, y: Floats, flux: Floats, *, psf: Psf) -> None:
    """Add point sources to *image*."""
    for share, sigma in psf.parts:
        for at_x, at_y, amount in zip(x, y, flux * share, strict=True):
            box = _box(image, at_x, at_y, _REACH * sigma, _REACH * sigma)
            if box is None or amount == 0.0:
                continue
            rows, columns = box
            along_y = _gaussian(np.arange(rows.start, rows.stop) - at_y, sigma)
            along_x = _gaussian(np.arange(columns.start, columns.stop) - at_x, sigma)
            image[rows, columns] += amount * along_y[:, None] * along_x


def paint_galaxies(
    image: Floats,
    x: Floats,
    y: Floats,
    flux: Floats,
    *,
    shapes: Floats,
    psf: Psf,
) -> None:
    """Add galaxies to *image*; *shapes* are covariances in pixels, (N, 2, 2), at unit scale."""
    for at_x, at_y, amount, shape in zip(x, y, flux, shapes, strict=True):
        for share, width in PROFILE:
            for psf_share, sigma in psf.parts:
                covariance = shape * width**2 + np.eye(2) * sigma**2
                _paint_ellipse(image, at_x, at_y, amount * share * psf_share, covariance)


def shape_covariances(jacobians: Floats, sources: NDArray[np.void]) -> Floats:
    """Covariances in pixels of *sources* seen through *jacobians*."""
    angle = np.radians(sources["position_angle"])
    major = np.stack((np.sin(angle), np.cos(angle)), axis=1) * sources["scale"][:, None]
    minor = (
        np.stack((np.cos(angle), -np.sin(angle)), axis=1)
        * (sources["scale"] * sources["axis_ratio"])[:, None]
    )
    axes = np.stack((major, minor), axis=2)
    seen = jacobians @ axes
    covariances: Floats = seen @ seen.transpose(0, 2, 1)
    return covariances


def _paint_ellipse(image: Floats, x: float, y: float, amount: float, covariance: Floats) -> None:
    reach = _REACH * np.sqrt(np.diag(covariance))
    box = _box(image, x, y, reach[0], reach[1])
    if box is None:
        return
    rows, columns = box
    dy = np.arange(rows.start, rows.stop)[:, None] - y
    dx = np.arange(columns.start, columns.stop)[None, :] - x
    determinant = covariance[0, 0] * covariance[1, 1] - covariance[0, 1] ** 2
    exponent = (
        covariance[1, 1] * dx**2 - 2 * covariance[0, 1] * dx * dy + covariance[0, 0] * dy**2
    ) / (-2 * determinant)
    image[rows, columns] += amount / (2 * np.pi * np.sqrt(determinant)) * np.exp(exponent)


def _gaussian(offset: Floats, sigma: float) -> Floats:
    values: Floats = np.exp(-0.5 * (offset / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma)
    return values


def _box(
    image: Floats, x: float, y: float, reach_x: float, reach_y: float
) -> tuple[slice, slice] | None:
    height, width = image.shape
    x1, x2 = max(0, int(np.ceil(x - reach_x))), min(width, int(np.floor(x + reach_x)) + 1)
    y1, y2 = max(0, int(np.ceil(y - reach_y))), min(height, int(np.floor(y + reach_y)) + 1)
    return (slice(y1, y2), slice(x1, x2)) if x1 < x2 and y1 < y2 else None
