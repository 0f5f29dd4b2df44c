"""The image of a family with its coordinates, as the service and as astropy see it."""

from __future__ import annotations

import gzip
import io
import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from support.images import FAMILIES

from soda_service.fits.cards import Header
from soda_service.fits.wcs import CelestialGrid, ImageWcs, needed_tables

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OWN_FRAMES = {"ELON": "barycentricmeanecliptic", "SLON": "supergalactic"}
"""Systems that astropy knows but does not read from a header."""


@dataclass(frozen=True, slots=True)
class Image:
    """The first image HDU of a family."""

    header: Header
    naxis: tuple[int, ...]
    tables: bytes
    hdus: Any
    hdu: Any

    def wcs(self) -> ImageWcs:
        """As the service reads it."""
        return ImageWcs.of(self.header, self.naxis, tables=self.tables)

    def grid(self) -> CelestialGrid:
        """The sky of it."""
        grid = self.wcs().celestial
        assert grid is not None
        return grid

    def astropy_sky(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """ICRS unit vectors (3, N) by astropy's high-level interface."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = WCS(self.hdu.header, self.hdus)
            sky = whole.celestial
            latitude_first = whole.wcs.lat < whole.wcs.lng
            in_order = (sky.wcs.lng == 1) == latitude_first
            pixels = (x, y) if in_order else (y, x)
            kind = sky.wcs.lngtyp
            if kind in _OWN_FRAMES:
                world = sky.all_pix2world(*pixels, 0)
                place = SkyCoord(
                    world[sky.wcs.lng] * u.deg, world[sky.wcs.lat] * u.deg, frame=_OWN_FRAMES[kind]
                )
            else:
                place = sky.pixel_to_world(*pixels)
            vectors: NDArray[np.float64] = place.icrs.cartesian.xyz.value
        return vectors


@cache
def first_image(name: str) -> Image:
    """The first HDU of a family that has pixels."""
    contents = FAMILIES[name]()
    if contents.startswith(b"\x1f\x8b"):
        contents = gzip.decompress(contents)
    return image_of(contents)


def image_of(contents: bytes) -> Image:
    """The first HDU with pixels of a file of these bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hdus = fits.open(io.BytesIO(contents))
        hdu = next(one for one in hdus if one.is_image and one.data is not None)
        raw = hdu.header.tostring().encode("ascii")
    header = Header.parse(raw)
    needed = needed_tables(header) if b"LOOKUP" in raw.upper() or b"-TAB" in raw else ()
    tables = b"".join(_bytes_of(contents, one) for one in hdus if (one.name, one.ver) in needed)
    return Image(header, hdu.data.shape[::-1], tables, hdus, hdu)


def _bytes_of(contents: bytes, hdu: Any) -> bytes:
    where = hdu.fileinfo()
    return contents[where["hdrLoc"] : where["datLoc"] + where["datSpan"]]


def milliarcseconds(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angles between the columns of two arrays of unit vectors."""
    chord = np.linalg.norm(one - other, axis=0)
    angles: NDArray[np.float64] = np.degrees(chord) * 3.6e6
    return angles
