"""The short way to a box, for gnomonic images and distorted ones, against the search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.wcs import first_image

from soda_service.geometry.pixelbox import NOT_QUICK, box_around, box_around_quickly
from soda_service.geometry.shapes import Circle, Polygon
from soda_service.geometry.skyindex import SkyIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLAIN = ["tan", "cd_rotated", "swapped_axes", "pole_tan", "ra_wrap", "fk5_of_1975"]
DISTORTED = ["tan_sip", "tan_sip_no_inverse", "tan_sip_galactic", "swapped_axes_sip"]


@pytest.mark.parametrize("family", [*PLAIN, *DISTORTED])
def test_what_is_quick_is_what_the_search_finds(family: str) -> None:
    """Circles and polygons all over the image and beyond it, from a tenth of a pixel on."""
    grid = first_image(family).grid()
    assert grid.plane is not None
    assert (grid.distortion is not None) == (family in DISTORTED)
    index = SkyIndex.of(grid)
    chance = np.random.default_rng(8)
    columns, rows = grid.naxis
    step = grid.pixel_to_sky(*np.array([[0.0, 1.0], [0.0, 0.0]]))
    pixel = float(np.degrees(np.linalg.norm(step[:, 0] - step[:, 1])))
    answered = 0
    for number in range(60):
        place = chance.uniform(-5, columns + 5), chance.uniform(-5, rows + 5)
        radius = float(10 ** chance.uniform(-1, 1.2))
        if number % 2:
            centre = _lon_lat(grid.pixel_to_sky(*np.array(place)[:, None]))[0]
            shape: Circle | Polygon = Circle(*centre, radius * pixel)
        else:
            around = np.array(place)[:, None] + radius * chance.uniform(-1, 1, (2, 4))
            shape = Polygon(tuple(_lon_lat(grid.pixel_to_sky(*around))))
        quick = box_around_quickly(shape, grid, None)
        if quick is not NOT_QUICK:
            answered += 1
            assert quick == box_around(shape, grid, index)
    assert answered >= 25


def _lon_lat(vectors: NDArray[np.float64]) -> list[tuple[float, float]]:
    lon = np.degrees(np.arctan2(vectors[1], vectors[0])) % 360
    return [
        (float(a), float(b)) for a, b in zip(lon, np.degrees(np.arcsin(vectors[2])), strict=True)
    ]
