"""HEALPix cells against astropy-healpix, which has code of its own."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import astropy.units as u
import numpy as np
import pytest
from astropy_healpix import HEALPix

from soda_service.geometry.healpix import (
    CAP_HEIGHT,
    CELL_RADIUS,
    FASTEST,
    FASTEST_BETWEEN_CAPS,
    MAX_ORDER,
    cell_count,
    cells_at,
    neighbours,
    numbers,
    places_of,
    squares,
    vectors_at,
)
from soda_service.geometry.vectors import lon_lat, unit_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Whole = NDArray[np.int64]

ORDERS = [0, 1, 2, 3, 5, 8, 13, 20, 28, 29]


def reference(order: int) -> HEALPix:
    return HEALPix(2**order, order="nested")


def some_cells(order: int) -> Whole:
    """All of them where they are few, and those at the corners of faces where not."""
    count = cell_count(order)
    if order <= 4:
        return np.arange(count)
    rng = np.random.default_rng(order)
    corners = np.arange(12)[:, None] * (count // 12) + np.array([
        0, count // 12 - 1, (count // 12 - 1) // 3, (count // 12 - 1) // 3 * 2
    ])  # fmt: skip
    return np.concatenate([rng.integers(0, count, 3000), corners.ravel()])


def at(cells: Whole, order: int, x: float = 0.5, y: float = 0.5) -> Floats:
    """A point of each cell, by its place within it."""
    face, column, row = squares(cells, order)
    places = [np.asarray((one + way) / 2**order) for one, way in ((column, x), (row, y))]
    return vectors_at(face, *(place.astype(np.float64) for place in places))


def some_points() -> Floats:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(3, 50_000))
    vectors /= np.linalg.norm(vectors, axis=0)
    near_poles = vectors * np.array([[1e-4], [1e-4], [1.0]])
    return np.concatenate([vectors, near_poles / np.linalg.norm(near_poles, axis=0)], axis=1)


@pytest.mark.parametrize("order", ORDERS)
def test_points_are_in_the_cells_that_hold_them(order: int) -> None:
    vectors = some_points()
    lon, lat = lon_lat(vectors)
    expected = reference(order).lonlat_to_healpix(lon * u.deg, lat * u.deg)
    found = cells_at(vectors) >> (2 * (MAX_ORDER - order))
    # Where a point is within a rounding of an edge, either side will do.
    assert np.count_nonzero(found != expected) <= (5 if order == MAX_ORDER else 0)


@pytest.mark.parametrize("order", ORDERS)
def test_cells_have_their_middle_where_they_should(order: int) -> None:
    cells = some_cells(order)
    lon, lat = reference(order).healpix_to_lonlat(cells)
    found = at(cells, order)
    np.testing.assert_allclose(
        found, unit_vectors(lon.to_value(u.deg), lat.to_value(u.deg)), rtol=0, atol=3e-15
    )
    np.testing.assert_array_equal(numbers(*squares(cells, order), order), cells)
    np.testing.assert_array_equal(cells_at(found) >> (2 * (MAX_ORDER - order)), cells)


@pytest.mark.parametrize("order", ORDERS)
def test_neighbours_are_those_around(order: int) -> None:
    cells = some_cells(order)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it marks a missing corner by a NaN
        expected = reference(order).neighbours(cells)
    found = neighbours(cells, order)
    for around, own in zip(expected.T.tolist(), found.T.tolist(), strict=True):
        assert set(own) == set(around) - {-1}


def test_places_and_vectors_are_each_others_inverse() -> None:
    vectors = some_points()
    np.testing.assert_allclose(vectors_at(*places_of(vectors)), vectors, rtol=0, atol=4e-15)


@pytest.mark.parametrize(
    ("lon", "lat", "face"),
    [(0.0, 90.0, 0), (0.0, -90.0, 8), (0.0, 0.0, 4), (360.0, 0.0, 4), (45.0, 60.0, 0)],
)
def test_poles_and_the_first_meridian_have_a_place(lon: float, lat: float, face: int) -> None:
    vectors = unit_vectors(lon, lat)
    found = int(cells_at(vectors)[0])
    assert found >> (2 * MAX_ORDER) == face
    np.testing.assert_allclose(vectors_at(*places_of(vectors)), vectors, rtol=0, atol=1e-15)


def test_what_is_not_on_the_sky_is_in_no_cell() -> None:
    vectors = np.array([[1.0, np.nan], [0.0, np.nan], [0.0, np.nan]])
    assert (cells_at(vectors) >= 0).tolist() == [True, False]


@pytest.mark.parametrize("order", [0, 1, 2, 4, 10])
def test_no_point_of_a_cell_is_farther_from_its_middle_than_said(order: int) -> None:
    cells = some_cells(order)
    centre = at(cells, order)
    for way in np.linspace(0.0, 1.0, 9):
        for x, y in ((way, 0.0), (way, 1.0), (0.0, way), (1.0, way)):
            chord = np.linalg.norm(at(cells, order, x, y) - centre, axis=0)
            assert (2.0 * np.arcsin(chord / 2.0)).max() <= CELL_RADIUS * 0.5**order


def test_faces_are_nowhere_crossed_faster_than_said() -> None:
    rng = np.random.default_rng(5)
    face = rng.integers(0, 12, 200_000)
    x, y = rng.uniform(0.001, 0.999, (2, face.size))
    # At the poles' corners too, where it is fastest.
    x[:5000] = y[:5000] = 1.0 - 10.0 ** rng.uniform(-6, -3, 5000)
    here = vectors_at(face, x, y)
    fastest, between = 0.0, 0.0
    for turn in np.linspace(0.0, np.pi, 41):
        right, up = 1e-7 * np.cos(turn), 1e-7 * np.sin(turn)
        there = vectors_at(face, x + right, y + up)
        speed = max(abs(right), abs(up)) / np.linalg.norm(there - here, axis=0)
        fastest = max(fastest, float(speed.max()))
        between = max(between, float(speed[np.abs(here[2]) < CAP_HEIGHT - 1e-6].max()))
    assert 0.99 * FASTEST < fastest <= FASTEST
    assert 0.99 * FASTEST_BETWEEN_CAPS < between <= FASTEST_BETWEEN_CAPS
