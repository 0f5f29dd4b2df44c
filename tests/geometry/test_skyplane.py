"""The closed form for planes against the search that any image allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.wcs import WCS
from hypothesis import given, settings, strategies as st
from numpy.polynomial.polynomial import polyval2d
from support.grids import AstropyGrid

from soda_service.geometry import quickbox
from soda_service.geometry.pixelbox import NOT_QUICK, box_around, box_around_quickly
from soda_service.geometry.shapes import Circle, Polygon, Range
from soda_service.geometry.skyindex import SkyIndex
from soda_service.geometry.skyplane import Distortion, SkyPlane

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

NAXIS = (301, 203)
SCALE = 0.02


class PlaneGrid(AstropyGrid):
    """A gnomonic image that knows it is a plane."""

    def __init__(self, lon: float, lat: float, turn: float) -> None:
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
        wcs.wcs.crval = lon, lat
        wcs.wcs.crpix = 87.3, 131.8
        cos, sin = np.cos(turn), np.sin(turn)
        wcs.wcs.cd = SCALE * np.array([[-cos, 1.1 * sin], [sin, 1.1 * cos]])
        wcs.wcs.set()
        super().__init__(wcs, NAXIS)
        x, y = np.array([0.0, 300, 0, 300]), np.array([0.0, 0, 200, 200])
        self.plane = SkyPlane.of(_fitted(self.pixel_to_sky(x, y), x, y))


def _fitted(vectors: Floats, x: Floats, y: Floats) -> Floats:
    """The matrix from directions to (x, y, 1), up to a factor, by the direct linear transform."""
    rows = []
    for vector, one_x, one_y in zip(vectors.T, x, y, strict=True):
        rows.append([*vector, 0, 0, 0, *(-one_x * vector)])
        rows.append([0, 0, 0, *vector, *(-one_y * vector)])
    matrix: Floats = np.linalg.svd(np.array(rows))[2][-1].reshape(3, 3)
    return matrix if (matrix @ vectors[:, 0])[2] > 0 else -matrix


GRIDS = [PlaneGrid(10.0, 20.0, 0.3), PlaneGrid(359.9, -89.0, 2.0), PlaneGrid(180.0, 0.0, -1.0)]
INDICES = [SkyIndex.of(grid) for grid in GRIDS]
PLACES = st.tuples(st.floats(-60, NAXIS[0] + 60), st.floats(-60, NAXIS[1] + 60))


def _sky(grid: PlaneGrid, place: tuple[float, float]) -> tuple[float, float]:
    x, y, z = (float(one[0]) for one in grid.pixel_to_sky(*(np.array([one]) for one in place)))
    return float(np.degrees(np.arctan2(y, x))) % 360.0, float(np.degrees(np.arcsin(z)))


@settings(max_examples=150, deadline=None)
@given(number=st.integers(0, 2), place=PLACES, pixels=st.floats(0.01, 120))
def test_circles(number: int, place: tuple[float, float], pixels: float) -> None:
    """What the closed form answers is what the search answers."""
    grid, index = GRIDS[number], INDICES[number]
    shape = Circle(*_sky(grid, place), radius=pixels * SCALE)
    quick = box_around_quickly(shape, grid, None)
    if quick is not NOT_QUICK:
        assert quick == box_around(shape, grid, index)


@settings(max_examples=100, deadline=None)
@given(number=st.integers(0, 2), places=st.lists(PLACES, min_size=3, max_size=6))
def test_polygons(number: int, places: list[tuple[float, float]]) -> None:
    """Crossing edges and spikes included."""
    grid, index = GRIDS[number], INDICES[number]
    shape = Polygon(tuple(_sky(grid, place) for place in places))
    quick = box_around_quickly(shape, grid, None)
    if quick is not NOT_QUICK:
        assert quick == box_around(shape, grid, index)


@pytest.mark.parametrize("number", range(3))
def test_a_circle_inside_is_answered(number: int) -> None:
    """The ordinary case has the closed form; so has a shape that is clearly elsewhere."""
    grid = GRIDS[number]
    inside = Circle(*_sky(grid, (150.2, 100.3)), radius=20 * SCALE)
    outside = Circle(*_sky(grid, (-55.0, 100.3)), radius=20 * SCALE)
    assert box_around_quickly(inside, grid, None) not in (None, NOT_QUICK)
    assert box_around_quickly(outside, grid, None) is None


@pytest.mark.parametrize("number", range(3))
def test_what_is_behind_the_horizon_is_nowhere(number: int) -> None:
    """A direction and its antipode have the same pixel, but only one of them is in the image."""
    grid = GRIDS[number]
    lon, lat = _sky(grid, (150.2, 100.3))
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
    assert box_around_quickly(shape, GRIDS[0], None) is NOT_QUICK


class DistortedGrid(PlaneGrid):
    """The same behind polynomials of some order, random ones."""

    def __init__(self, order: int, strength: float) -> None:
        super().__init__(120.0, 33.0, 0.7)
        chance = np.random.default_rng(order)
        terms = np.zeros((2, order + 1, order + 1))
        for m in range(order + 1):
            for n in range(order + 1 - m):
                if m + n >= 2:
                    terms[:, m, n] = chance.uniform(-1, 1, 2) * strength / 200.0 ** (m + n - 1)
        self.terms = terms
        self.origin = np.array([70.2, 110.9])
        origin = float(self.origin[0]), float(self.origin[1])
        self.distortion = Distortion(self._distort, terms[0], terms[1], origin, NAXIS)

    def _distort(self, pixels: Floats) -> Floats:
        x, y = (pixels - self.origin).T
        moved: Floats = np.stack([polyval2d(x, y, one) for one in self.terms], axis=1)
        return pixels + moved

    def pixel_to_sky(self, x: Floats, y: Floats) -> Floats:
        """See `SkyGrid`."""
        there = (
            self._distort(np.stack((x, y), 1)) if hasattr(self, "terms") else np.stack((x, y), 1)
        )
        return super().pixel_to_sky(there[:, 0], there[:, 1])

    def sky_to_pixel(self, vectors: Floats) -> tuple[Floats, Floats]:
        """See `SkyGrid`."""
        there = np.stack(super().sky_to_pixel(vectors), 1)
        there[np.abs(there).max(axis=1) > 1000] = np.nan
        pixels = there
        for _ in range(40):
            pixels = np.clip(pixels + there - self._distort(pixels), -1e4, 1e4)
        return pixels[:, 0], pixels[:, 1]


DISTORTED = [DistortedGrid(order, strength) for order in (2, 3, 5) for strength in (1e-4, 0.03)]
DISTORTED_INDICES = [SkyIndex.of(grid) for grid in DISTORTED]


@settings(max_examples=200, deadline=None)
@given(number=st.integers(0, 5), place=PLACES, pixels=st.floats(0.01, 60))
def test_distorted_circles(number: int, place: tuple[float, float], pixels: float) -> None:
    """What two derivatives and their doubt answer is what the search answers."""
    grid, index = DISTORTED[number], DISTORTED_INDICES[number]
    shape = Circle(*_sky(grid, place), radius=pixels * SCALE)
    quick = box_around_quickly(shape, grid, None)
    if quick is not NOT_QUICK:
        assert quick == box_around(shape, grid, index)


@pytest.mark.parametrize("number", range(6))
def test_derivatives_and_their_bounds(number: int) -> None:
    """As differences give them; nowhere in the image does one exceed its bound."""
    distortion = DISTORTED[number].distortion
    assert distortion is not None
    step = 1e-3
    chance = np.random.default_rng(3)
    for x, y in chance.uniform((-1, -1), NAXIS, (40, 2)).tolist():
        f, g, f_x, f_y, g_x, g_y, f_xx, f_xy, f_yy, g_xx, g_xy, g_yy = distortion.expanded(x, y)
        assert distortion.distort(np.array([[x, y]]))[0] == pytest.approx([x + f, y + g], rel=1e-13)
        along_x = np.subtract(distortion.expanded(x + step, y), distortion.expanded(x - step, y))
        along_y = np.subtract(distortion.expanded(x, y + step), distortion.expanded(x, y - step))
        along_x /= 2 * step
        along_y /= 2 * step
        assert along_x[:6] == pytest.approx([f_x, g_x, f_xx, f_xy, g_xx, g_xy], rel=1e-5, abs=1e-12)
        assert along_y[:6] == pytest.approx([f_y, g_y, f_xy, f_yy, g_xy, g_yy], rel=1e-5, abs=1e-12)
        thirds = [*along_x[6:9], along_y[8], *along_x[9:], along_y[11]]
        counted = np.array([1, 3, 3, 1] * 2)
        assert np.hypot(f, g) <= distortion.reach
        assert np.linalg.norm([f_x, f_y, g_x, g_y]) <= distortion.slope
        assert np.linalg.norm([f_xx, f_xy, f_xy, f_yy, g_xx, g_xy, g_xy, g_yy]) <= distortion.bend
        assert float(np.sqrt(counted @ np.square(thirds))) <= distortion.twist * 1.0001 + 1e-12


def test_an_ordinary_distorted_circle_needs_no_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weak distortions of most instruments."""
    monkeypatch.setattr(quickbox, "_find_by_distorted_samples", lambda *_: NOT_QUICK)
    for number in (0, 2, 4):
        grid = DISTORTED[number]
        shape = Circle(*_sky(grid, (150.2, 100.3)), radius=20 * SCALE)
        assert box_around_quickly(shape, grid, None) == box_around(
            shape, grid, DISTORTED_INDICES[number]
        )
