"""Unit vectors, and the smallest cap around some of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from soda_service.geometry.vectors import (
    enclosing_axis,
    lon_lat,
    middle_of,
    unit_vector,
    unit_vectors,
)


@settings(max_examples=200)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 40),
    spread=st.sampled_from([1e-9, 1e-3, 0.5, 2.0]),
)
def test_the_smallest_cap_holds_all_and_no_smaller_one_does(
    seed: int, count: int, spread: float
) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(3, 1)) + spread * rng.normal(size=(3, count))
    vectors /= np.sqrt((vectors * vectors).sum(axis=0))
    found = enclosing_axis(vectors)
    # Other axes, some of them close to what was found, hold no more.
    others = rng.normal(size=(400, 3))
    if found is None:
        others /= np.linalg.norm(others, axis=1)[:, None]
        assert (others @ vectors).min(axis=1).max() < 1e-6
        return
    axis, cosine = found
    assert (np.array(axis) @ vectors).min() >= cosine - 1e-15
    others = np.array(axis) + others * rng.choice([1e-6, 1e-3, 1e-1], size=(400, 1))
    others /= np.linalg.norm(others, axis=1)[:, None]
    assert (others @ vectors).min(axis=1).max() <= cosine + 1e-12


@pytest.mark.parametrize("lat", [-90.0, -89.9999, 0.0, 12.5, 90.0])
def test_vectors_and_back(lat: float) -> None:
    lon = np.array([0.0, 12.0, 359.9])
    vectors = unit_vectors(lon, np.full(3, lat))
    np.testing.assert_allclose((vectors * vectors).sum(axis=0), 1.0, atol=1e-15)
    np.testing.assert_allclose(lon_lat(vectors)[1], lat, atol=1e-12)
    if abs(lat) < 90.0:
        np.testing.assert_allclose(lon_lat(vectors)[0], lon, atol=1e-9)
    np.testing.assert_allclose(unit_vector(12.0, lat), vectors[:, 1], atol=1e-16)


def test_the_middle_of_places() -> None:
    """Across right ascension 0, around a pole, and of one place."""
    lon, lat = middle_of([(359.0, 1.0), (3.0, 1.0), (3.0, -1.0), (359.0, -1.0)])
    assert (lon, lat) == pytest.approx((1.0, 0.0), abs=1e-12)
    assert middle_of([(lon, 89.0) for lon in (0.0, 120.0, 240.0)])[1] == pytest.approx(90.0)
    assert middle_of([(150.1, 2.2)]) == pytest.approx((150.1, 2.2))
