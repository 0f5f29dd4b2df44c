"""Whether a cutout is a piece of its parent: told by astropy, from the two files alone."""

from __future__ import annotations

import gzip
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]
    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Piece:
    """One image of a cutout, and the image that it was cut out of."""

    image: Any
    parent: Any
    lower: tuple[int, ...]
    """0-based corner in the parent, in FITS order."""

    @property
    def box(self) -> tuple[slice, ...]:
        """What it is of the parent's array, in numpy's order."""
        return tuple(
            slice(low, low + length)
            for low, length in zip(self.lower[::-1], self.image.shape, strict=True)
        )

    def assert_true(self, parent_hdus: Any = None, hdus: Any = None) -> None:
        """Its pixels are the parent's to the bit, and their positions to 0.1 mas."""
        stored = self.image.data.dtype.newbyteorder(">")
        assert stored == self.parent.data.dtype.newbyteorder(">")
        its_data = self.parent.data[self.box].astype(stored)
        assert self.image.data.astype(stored).tobytes() == its_data.tobytes()
        here = celestial(self.image.header, hdus)
        there = celestial(self.parent.header, parent_hdus)
        x, y = celestial_axes(self.parent.header, parent_hdus)
        shape = (self.image.header[f"NAXIS{y + 1}"], self.image.header[f"NAXIS{x + 1}"])
        rows, columns = np.indices(shape)
        mine = here.pixel_to_world(columns, rows)
        its = there.pixel_to_world(columns + self.lower[x], rows + self.lower[y])
        apart = mine.separation(its).mas
        assert np.array_equal(np.isnan(mine.spherical.lon), np.isnan(its.spherical.lon))
        assert np.nanmax(apart) < 0.1

    def assert_best(self, inside: Flags, more: int = 1) -> None:
        """The box holds each pixel whose centre is *inside*, and few rows *more* on any side.

        A pixel counts whose area is touched: one row more, but for the corners of polygons.
        """
        x, y = celestial_axes(self.parent.header)
        for axis, flags in ((x, inside.any(axis=0)), (y, inside.any(axis=1))):
            wanted = np.flatnonzero(flags)
            low = self.lower[axis]
            high = low + self.image.header[f"NAXIS{axis + 1}"] - 1
            assert wanted[0] - more <= low <= wanted[0]
            assert wanted[-1] <= high <= wanted[-1] + more


def pieces(cutout: bytes, parent: Path) -> list[Piece]:
    """Every image of *cutout* with the image of the same name in the file *parent*.

    An image that has no name, but for the one that a compressor gave it, is found by its place.
    """
    content = parent.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)
    whole = fits.HDUList.fromstring(content, do_not_scale_image_data=True)
    cut = fits.HDUList.fromstring(cutout, do_not_scale_image_data=True)
    found = []
    for index, hdu in enumerate(cut):
        if not hdu.is_image or not hdu.header["NAXIS"]:
            continue
        its = whole[hdu.name, hdu.ver] if index and hdu.name else whole[index]
        found.append(Piece(hdu, its, _lower(hdu.header, its.header)))
    return found


def _lower(header: fits.Header, parent: fits.Header) -> tuple[int, ...]:
    moved = []
    for axis in range(1, header["NAXIS"] + 1):
        by = parent.get(f"CRPIX{axis}", 0.0) - header.get(f"CRPIX{axis}", 0.0)
        assert abs(by - round(by)) < 1e-9
        assert 0 <= round(by) <= parent[f"NAXIS{axis}"] - header[f"NAXIS{axis}"]
        moved.append(round(by))
    return tuple(moved)


def celestial(header: fits.Header, hdus: Any = None) -> Any:
    """The two axes of the sky; *hdus* where tables of the file describe them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return WCS(header, hdus).celestial


def celestial_axes(header: fits.Header, hdus: Any = None) -> tuple[int, int]:
    """Which axes of the image are those of the sky, 0-based, ascending."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        wcs = WCS(header, hdus)
    first, second = sorted((wcs.wcs.lng, wcs.wcs.lat))
    return first, second


def sky_of(header: fits.Header) -> SkyCoord:
    """Where every pixel of an image is on the sky, ICRS."""
    return _sky_of(header.tostring())


@lru_cache(maxsize=64)
def _sky_of(text: str) -> SkyCoord:
    header = fits.Header.fromstring(text)
    x, y = celestial_axes(header)
    rows, columns = np.indices((header[f"NAXIS{y + 1}"], header[f"NAXIS{x + 1}"]))
    return celestial(header).pixel_to_world(columns, rows).icrs


def within_circle(sky: SkyCoord, lon: float, lat: float, radius: float) -> Flags:
    """Which positions lie in a circle."""
    flags: Flags = sky.separation(SkyCoord(lon, lat, unit="deg")).deg <= radius
    return flags


def within_polygon(sky: SkyCoord, *numbers: float) -> Flags:
    """Which positions lie in a convex polygon of great circles, whatever its winding."""
    corners = SkyCoord(list(numbers[::2]), list(numbers[1::2]), unit="deg").cartesian.xyz.value.T
    points = sky.cartesian.xyz.value
    normals = np.cross(corners, np.roll(corners, -1, axis=0))
    sides = np.tensordot(normals, points, axes=1) >= 0
    same = np.abs(sides.sum(axis=0) - len(corners) / 2) == len(corners) / 2
    middle = np.tensordot(corners.mean(axis=0), points, axes=1) > 0
    flags: Flags = same & middle
    return flags


def within_range(sky: SkyCoord, lon1: float, lon2: float, lat1: float, lat2: float) -> Flags:
    """Which positions lie between two meridians and two parallels."""
    lon, lat = sky.ra.deg, sky.dec.deg
    flags: Flags = ((lon - lon1) % 360 <= (lon2 - lon1) % 360) & (lat >= lat1) & (lat <= lat2)
    return flags


def place(header: fits.Header, lon: float, lat: float) -> tuple[float, float]:
    """0-based pixel coordinates, along the two axes of the sky, of a position."""
    x, y = celestial(header).world_to_pixel(SkyCoord(lon, lat, unit="deg"))
    return float(x), float(y)


def centroid(image: Floats) -> tuple[float, float]:
    """Where the light of the brightest thing of a small image is, 0-based (x, y)."""
    light = np.where(np.isfinite(image), image, np.nanmedian(image))
    light = light - np.median(light)
    row, column = np.unravel_index(np.argmax(light), light.shape)
    rows, columns = np.indices(light.shape)
    near = (abs(rows - row) <= 2) & (abs(columns - column) <= 2)
    light = np.where(near, np.clip(light, 0, None), 0)
    return float((light * columns).sum() / light.sum()), float((light * rows).sum() / light.sum())
