"""Rectangles of images that meet a region, against points that the forward map puts into them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from support.grids import GRIDS
from support.wcs import first_image

from soda_service.geometry.effort import Effort
from soda_service.geometry.rectangles import Rectangles
from soda_service.geometry.shapes import Circle
from soda_service.geometry.skyregion import region_of
from soda_service.geometry.sphere import lon_lat
from soda_service.geometry.survey import Survey

if TYPE_CHECKING:
    from soda_service.geometry.pixelbox import SkyGrid

BENT = ("mol_all_sky", "ait all-sky", "zea with both poles", "stg", "tan-sip that runs away")
"""Grids of pixels with curved edges."""
RADIUS = 1e-4
"""Radius of the circle that is asked for, against the shorter side of the rectangle."""


@cache
def grid_of(name: str) -> SkyGrid:
    return GRIDS[name]() if name in GRIDS else first_image(name).grid()


WAYS = st.one_of(st.floats(-0.2, -0.01), st.floats(0.01, 0.99), st.floats(1.01, 1.2))
"""Where a point lies along a rectangle, from 0 at the lower to 1 at the upper edge; on neither."""


@pytest.mark.parametrize("name", BENT)
@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), way_x=WAYS, way_y=WAYS)
def test_a_small_circle_meets_a_calm_rectangle_where_its_centre_lies_in_it(
    name: str, seed: int, way_x: float, way_y: float
) -> None:
    rng = np.random.default_rng(seed)
    grid = grid_of(name)
    while True:
        lower = np.array([[rng.uniform(-0.5, length - 1.5)] for length in grid.naxis])
        upper = lower + 4.0 ** -rng.integers(0, 4)
        survey = Survey.between(grid, lower, upper, samples=5)
        x, y = lower + np.array([[way_x], [way_y]]) * (upper - lower)
        at = grid.pixel_to_sky(x, y)
        if survey.is_calm[0] and np.isfinite(at).all():
            break
    lon, lat = lon_lat(at)
    radius = float(np.degrees(RADIUS * 4.0 * survey.step[0]))
    region = region_of(Circle(float(lon[0]), float(lat[0]), radius))
    met = Rectangles(region, grid, Effort(region)).meet(lower, upper)
    assert met[0] == (0.0 < way_x < 1.0 and 0.0 < way_y < 1.0)


def test_a_rectangle_whose_sides_bend_by_half_its_width_holds_what_is_near_its_corner() -> None:
    """Of a pixel near a pole of MOL, which one chord for each side says nothing of."""
    grid = grid_of("mol_all_sky")
    lower, upper = np.array([[37.75], [1.75]]), np.array([[38.0], [2.0]])
    way = np.linspace(0.01, 0.99, 15)
    for x, y in np.stack(np.meshgrid(37.75 + way / 4, 1.75 + way / 4), axis=-1).reshape(-1, 2):
        lon, lat = lon_lat(grid.pixel_to_sky(np.array([x]), np.array([y])))
        region = region_of(Circle(float(lon[0]), float(lat[0]), 1e-3))
        assert Rectangles(region, grid, Effort(region)).meet(lower, upper)[0], (x, y)
