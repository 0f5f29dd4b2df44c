"""The closed form for planes against the search that any image allows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from support.planes import DISTORTED, NAXIS, PLANES, SCALE, sky_of

from soda_service.geometry.pixelbox import NOT_QUICK, box_around, box_around_quickly
from soda_service.geometry.shapes import Circle, Polygon, Range
from soda_service.geometry.skyindex import SkyIndex
from soda_service.geometry.skyplane import SkyPlane

INDICES = [SkyIndex.of(grid) for grid in PLANES]
PLACES = st.tuples(st.floats(-60, NAXIS[0] + 60), st.floats(-60, NAXIS[1] + 60))


@settings(max_examples=150)
@given(number=st.integers(0, 2), place=PLACES, pixels=st.floats(0.01, 120))
def test_circles(number: int, place: tuple[float, float], pixels: float) -> None:
    """What the closed form answers is what the search answers."""
    grid, index = PLANES[number], INDICES[number]
    shape = Circle(*sky_of(grid, place), radius=pixels * SCALE)
    quick = box_around_quickly(shape, grid, None)
    if quick is not NOT_QUICK:
        assert quick == box_around(shape, grid, index)


@settings(max_examples=100)
@given(number=st.integers(0, 2), places=st.lists(PLACES, min_size=3, max_size=6))
def test_polygons(number: int, places: list[tuple[float, float]]) -> None:
    """Crossing edges and spikes included."""
    grid, index = PLANES[number], INDICES[number]
    shape = Polygon(tuple(sky_of(grid, place) for place in places))
    quick = box_around_quickly(shape, grid, None)
    if quick is not NOT_QUICK:
        assert quick == box_around(shape, grid, index)


@pytest.mark.parametrize("number", range(3))
def test_a_circle_inside_is_answered(number: int) -> None:
    """The ordinary case has the closed form; so has a shape that is clearly elsewhere."""
    grid = PLANES[number]
    inside = Circle(*sky_of(grid, (150.2, 100.3)), radius=20 * SCALE)
    outside = Circle(*sky_of(grid, (-55.0, 100.3)), radius=20 * SCALE)
    assert box_around_quickly(inside, grid, None) not in (None, NOT_QUICK)
    assert box_around_quickly(outside, grid, None) is None


@pytest.mark.parametrize("number", range(3))
def test_what_is_behind_the_horizon_is_nowhere(number: int) -> None:
    """A direction and its antipode have the same pixel, but only one of them is in the image."""
    grid = PLANES[number]
    lon, lat = sky_of(grid, (150.2, 100.3))
    lon, lat = (lon + 180.0) % 360.0, -lat
    behind = Polygon(((lon, lat), ((lon + 0.1) % 360.0, lat), (lon, lat * 0.999)))
    for shape in (Circle(lon, lat, 0.3), behind):
        assert box_around_quickly(shape, grid, None) is None
        assert box_around(shape, grid, INDICES[number]) is None


@pytest.mark.parametrize(
    "shape",
    [Range(9, 10, 19, 20), Circle(10, 20, 61), Circle(100, 0, 30), Circle(10, 20, 59.9)],
    ids=["range", "large", "horizon", "image"],
)
def test_no_closed_form_is_no_answer(shape: Circle | Range) -> None:
    """Ranges, very large circles, and what lies behind or reaches the horizon."""
    assert box_around_quickly(shape, PLANES[0], None) is NOT_QUICK


@pytest.mark.parametrize("number", range(6))
def test_derivatives_and_their_bounds(number: int) -> None:
    """As differences give them; nowhere in the image does one exceed its bound."""
    distortion = DISTORTED[number].distortion
    assert distortion is not None
    step = 1e-3
    chance = np.random.default_rng(3)
    for x, y in chance.uniform((-1, -1), NAXIS, (40, 2)).tolist():
        f, g, f_x, g_x, f_y, g_y, f_xx, g_xx, f_xy, g_xy, f_yy, g_yy = distortion.expanded(x, y)
        assert distortion.distort(np.array([[x, y]]))[0] == pytest.approx([x + f, y + g], rel=1e-13)
        along_x = np.subtract(distortion.expanded(x + step, y), distortion.expanded(x - step, y))
        along_y = np.subtract(distortion.expanded(x, y + step), distortion.expanded(x, y - step))
        along_x /= 2 * step
        along_y /= 2 * step
        assert along_x[:6] == pytest.approx([f_x, g_x, f_xx, g_xx, f_xy, g_xy], rel=1e-5, abs=1e-12)
        assert along_y[:6] == pytest.approx([f_y, g_y, f_xy, g_xy, f_yy, g_yy], rel=1e-5, abs=1e-12)
        thirds = [*along_x[6::2], along_y[10], *along_x[7::2], along_y[11]]
        counted = np.array([1, 3, 3, 1] * 2)
        assert np.hypot(f, g) <= distortion.reach
        assert np.linalg.norm([f_x, f_y, g_x, g_y]) <= distortion.slope
        assert np.linalg.norm([f_xx, f_xy, f_xy, f_yy, g_xx, g_xy, g_xy, g_yy]) <= distortion.bend
        assert float(np.sqrt(counted @ np.square(thirds))) <= distortion.twist * 1.0001 + 1e-12


@pytest.mark.parametrize("degrees", [one / 2 for one in range(60, 150)])
def test_circles_that_just_reach_the_horizon(degrees: float) -> None:
    """All of the image is in them: what has no closed form there is not told to be elsewhere."""
    inverse = np.linalg.inv(np.array([[0.0, 0.0, 1.0], [1e-4, 0.0, 0.0], [0.0, 1e-4, 0.0]]))
    plane = SkyPlane.of(inverse)
    for beyond in (-1e-9, 0.0, 1e-9):
        limits = plane.limits(Circle(0.0, degrees, 90.0 - degrees + beyond))
        assert limits is None or max(map(abs, limits)) < 1e9
