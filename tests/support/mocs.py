"""MOCs at random, and what mocpy says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import astropy.units as u
import mocpy
import numpy as np
from astropy.coordinates import Latitude, Longitude

from soda_service.geometry.healpix import MAX_ORDER, cells_at
from soda_service.geometry.moc import Moc, format_moc
from soda_service.geometry.vectors import lon_lat

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from soda_service.geometry.pixelbox import SkyGrid

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

SIZES = [0.05, 0.5, 1.0, 3.0, 10.0, 40.0, 300.0]
"""Sizes of cells in pixels."""


def random_moc(rng: np.random.Generator, grid: SkyGrid) -> Moc:
    """Some cells in or about an image, of sizes that differ, together or apart."""
    columns, rows = grid.naxis
    middle = grid.pixel_to_sky(
        np.array([columns / 2, columns / 2 + 1]), np.array([rows / 2, rows / 2])
    )
    pixel = max(float(np.linalg.norm(middle[:, 1] - middle[:, 0])), 1e-12)
    usual = int(np.clip(np.round(-np.log2(pixel * float(rng.choice(SIZES)))), 0, MAX_ORDER))
    starts, ends = [], []
    for _ in range(int(rng.integers(1, 12))):
        order = int(np.clip(usual + rng.integers(-1, 3), 0, MAX_ORDER))
        shift = 2 * (MAX_ORDER - order)
        cell = int(cells_at(random_place(rng, grid))[0]) >> shift
        starts.append(cell << shift)
        ends.append((cell + 1) << shift)
    return Moc.of(np.array(starts), np.array(ends), MAX_ORDER)


def random_place(rng: np.random.Generator, grid: SkyGrid) -> Floats:
    """A point in the image, at a corner of it, beside it, or at a pole."""
    columns, rows = grid.naxis
    if rng.random() < 0.05:
        return np.array([[1e-9], [0.0], [rng.choice([-1.0, 1.0])]])
    while True:
        x, y = rng.uniform(-0.3, 1.3) * columns, rng.uniform(-0.3, 1.3) * rows
        if rng.random() < 0.3:
            x, y = rng.choice([-0.5, columns - 0.5]), rng.choice([-0.5, rows - 0.5])
            x, y = x + rng.uniform(-1.0, 1.0), y + rng.uniform(-1.0, 1.0)
        place = grid.pixel_to_sky(np.array([float(x)]), np.array([float(y)]))
        if np.isfinite(place).all():
            return place


def reference(moc: Moc) -> mocpy.MOC:
    """The same cells as mocpy has them."""
    return mocpy.MOC.from_string(format_moc(moc))


def held(moc: Moc, vectors: Floats) -> Bools:
    """Which points lie in *moc*, by mocpy; none that are not on the sky."""
    inside = np.zeros(vectors.shape[1], dtype=bool)
    known = np.isfinite(vectors[0])
    lon, lat = lon_lat(vectors[:, known])
    inside[known] = reference(moc).contains_lonlat(
        Longitude(lon, u.deg), Latitude(np.clip(lat, -90.0, 90.0), u.deg)
    )
    return inside
