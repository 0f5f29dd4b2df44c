"""Pixels at limbs, seams and poles, against a million samples of each.

At such pixels the map ends, jumps or bends within a pixel. The oracle looks at 1,024 by 1,024
points of a pixel, and then into the squares around those that the shape holds: a sliver may hold a
row of points and yet be far below a millionth of the pixel.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, example, given, settings, strategies as st
from support.grids import GRIDS, CutGrid
from support.wcs import first_image

from soda_service.geometry.dali import format_pos
from soda_service.geometry.pixelbox import PixelBox, box_around
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


def area_of(grid: SkyGrid, pixel: NDArray[np.int64], shape: Shape) -> float:
    """Part of a pixel that the shape covers within the squares whose middles it holds.

    A random point of each of 64 parts of a square, of 4,096 squares at most: no more than what it
    covers, to a tenth of a millionth or a tenth of it.
    """
    way = (np.arange(SAMPLES) + 0.5) / SAMPLES - 0.5
    x, y = (part.ravel() for part in np.meshgrid(pixel[0] + way, pixel[1] + way))
    held = np.flatnonzero(contains(shape, grid.pixel_to_sky(x, y)))[:4096]
    rng = np.random.default_rng(held.size)
    parts = (np.indices((8, 8)).reshape(2, -1)[:, None] + rng.random((2, held.size, 64))) / 8 - 0.5
    x, y = x[held, None] + parts[0] / SAMPLES, y[held, None] + parts[1] / SAMPLES
    covered = contains(shape, grid.pixel_to_sky(x.ravel(), y.ravel()))
    return float(np.count_nonzero(covered)) / (8 * SAMPLES) ** 2


@pytest.mark.parametrize("name", TORN)
@settings(max_examples=4)
@given(seed=st.integers(0, 2**32 - 1))
@example(seed=281)
def test_what_is_larger_than_a_millionth_of_a_torn_pixel_is_found(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = grid_of(name)
    pixels = torn_pixels(name)
    pixel = pixels[:, rng.integers(pixels.shape[1])]
    vectors = samples_of(grid, pixel)
    assume(vectors.shape[1] > 1)
    cut = OnePixel(grid, pixel)
    index = SkyIndex.of(cut)
    for _ in range(6):
        shape = shape_at(rng, vectors)
        if box_around(shape, cut, index) is None:
            # Twice as much leaves no doubt in the count of random points.
            area = area_of(grid, pixel, shape)
            assert area < 2e-6, (pixel.tolist(), area, format_pos(shape))


LIMB = np.array([59, 22])
"""The pixel of `whole_zea` of which a strip at its first edge is on the sky: the limb, where one
point of the sky is drawn out to a circle, follows."""
SLIVER = Range(193.0904029352718, 193.9114038660946, -41.00198151433369, -41.001361912781505)
"""A hundred thousandth of that pixel, within a thousandth of a pixel before the limb."""


def test_a_strip_of_sky_along_one_edge_of_a_pixel_is_searched_to_the_limb() -> None:
    """It reaches further on the sky across the edge than along it."""
    grid = grid_of("whole_zea")
    cut = OnePixel(grid, LIMB)
    index = SkyIndex.of(cut)
    vectors = samples_of(grid, LIMB)
    middle = vectors.mean(axis=1)
    farthest = vectors[:, np.argmax(((vectors - middle[:, None]) ** 2).sum(axis=0))]
    for way in np.linspace(0.0, 1.0, 9):
        at = middle + way * (farthest - middle)
        at = vectors[:, np.argmin(((vectors - at[:, None]) ** 2).sum(axis=0))]
        lons, lats = lon_lat(at[:, None])
        shape = Circle(float(lons[0]), float(lats[0]), 0.5)
        assert area_of(grid, LIMB, shape) > 2e-6
        assert box_around(shape, cut, index) is not None, way


@pytest.mark.parametrize("is_whole", [False, True])
def test_a_sliver_just_before_the_limb_is_found(is_whole: bool) -> None:
    """In the pixel alone, and among the many that the limb passes through."""
    grid = grid_of("whole_zea")
    assert area_of(grid, LIMB, SLIVER) > 9e-6
    image = grid if is_whole else OnePixel(grid, LIMB)
    found = box_around(SLIVER, image, SkyIndex.of(image))
    lower = (59, 22) if is_whole else (0, 0)
    assert found == PixelBox(lower, (lower[0] + 1, lower[1] + 1))
