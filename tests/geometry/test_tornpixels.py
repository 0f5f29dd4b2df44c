"""Pixels at limbs, seams and poles, against a million samples of each.

At such pixels the map ends, jumps or bends within a pixel. The oracle looks at 1,024 by 1,024
points of a pixel: what two of them show is larger than a millionth of it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from support.grids import GRIDS, CutGrid
from support.wcs import first_image

from soda_service.geometry.dali import format_pos
from soda_service.geometry.pixelbox import box_around
from soda_service.geometry.shapes import Circle, Polygon, Range
from soda_service.geometry.skyindex import SkyIndex
from soda_service.geometry.sphere import contains, lon_lat

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from soda_service.geometry.pixelbox import SkyGrid
    from soda_service.geometry.shapes import Shape

    Floats = NDArray[np.float64]

SAMPLES = 1024
FAMILIES = ("whole_zea", "sin_limb", "ait_all_sky", "mol_all_sky", "hpx_all_sky")
TORN = ("zea with both poles", "sin whole hemisphere", "ait all-sky", "arc", *FAMILIES)
"""Grids whose maps end within the image."""


@cache
def grid_of(name: str) -> SkyGrid:
    if name in FAMILIES:
        return first_image(name).grid()
    return GRIDS[name]()


@cache
def torn_pixels(name: str) -> NDArray[np.int64]:
    """Pixels, shape (2, N), parts of which are not on the sky."""
    grid = grid_of(name)
    columns, rows = grid.naxis
    x, y = np.meshgrid(np.arange(4 * columns) / 4 - 0.4, np.arange(4 * rows) / 4 - 0.4)
    known = np.isfinite(grid.pixel_to_sky(x.ravel(), y.ravel())[0])
    counts = known.reshape(rows, 4, columns, 4).sum(axis=(1, 3))
    j, i = np.nonzero((counts > 0) & (counts < 16))
    return np.stack([i, j])


def samples_of(grid: SkyGrid, pixel: NDArray[np.int64]) -> Floats:
    """Directions all over a pixel, those that there are."""
    way = (np.arange(SAMPLES) + 0.5) / SAMPLES - 0.5
    x, y = np.meshgrid(pixel[0] + way, pixel[1] + way)
    vectors = grid.pixel_to_sky(x.ravel(), y.ravel())
    return vectors[:, np.isfinite(vectors[0])]


class OnePixel(CutGrid):
    """A pixel of another grid as an image of its own."""

    def __init__(self, grid: SkyGrid, pixel: NDArray[np.int64]) -> None:
        super().__init__(grid, (int(pixel[0]), int(pixel[1])), (1, 1))  # type: ignore[arg-type]  # any grid serves


def shape_at(rng: np.random.Generator, vectors: Floats) -> Shape:
    """A small shape, from hardly larger than counts to the size of the pixel.

    It begins at a sample near the limb: one that is far from the middle of all.
    """
    middle = vectors.mean(axis=1)
    apart = np.sqrt(((vectors - middle[:, None]) ** 2).sum(axis=0))
    rank = np.argsort(apart)[-1 - int(apart.size * rng.choice([0.0, 1e-5, 1e-3, 0.1, 0.9])) :][0]
    at = vectors[:, rank]
    size = float(np.degrees(apart.max()) * 10.0 ** rng.uniform(-3.5, 0.0))
    lons, lats = lon_lat(at[:, None])
    lon, lat = float(lons[0]), float(lats[0])
    match rng.integers(3):
        case 0:
            return Circle(lon, lat, size)
        case 1:
            width = min(size / max(np.cos(np.radians(lat)), 0.02), 170.0)
            south, north = max(lat - 1e-3 * size, -90.0), min(lat + 1e-3 * size, 90.0)
            return Range((lon - width) % 360.0, (lon + width) % 360.0, south, north)
        case _:
            side = np.cross(at, rng.normal(size=3))
            side /= np.linalg.norm(side)
            across = np.cross(at, side)
            length, breadth = np.radians(min(size, 60.0)), np.radians(min(size, 60.0)) * 1e-3
            corners = np.stack([
                at + length * side, at + breadth * across, at - length * side,
                at - breadth * across,
            ], axis=1)  # fmt: skip
            lons, lats = lon_lat(corners / np.linalg.norm(corners, axis=0))
            return Polygon(tuple(zip(lons.tolist(), lats.tolist(), strict=True)))


@pytest.mark.parametrize("name", TORN)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_is_larger_than_a_millionth_of_a_torn_pixel_is_found(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = grid_of(name)
    pixels = torn_pixels(name)
    pixel = pixels[:, rng.integers(pixels.shape[1])]
    vectors = samples_of(grid, pixel)
    if vectors.shape[1] < 2:
        return
    cut = OnePixel(grid, pixel)
    index = SkyIndex.of(cut)
    for _ in range(6):
        shape = shape_at(rng, vectors)
        found = box_around(shape, cut, index)
        held = np.count_nonzero(contains(shape, vectors))
        if held > 1:
            assert found is not None, (pixel.tolist(), held, format_pos(shape))
