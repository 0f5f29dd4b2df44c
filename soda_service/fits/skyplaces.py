"""Places on the sky as longitude and latitude, and as unit vectors, shape (3, N) for many."""

from __future__ import annotations

from math import degrees
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Place = tuple[float, float]
"""Longitude and latitude, ICRS degrees, longitude from 0 to 360."""


def place_of(vector: NDArray[np.float64]) -> Place:
    """Longitude and latitude of a unit vector."""
    x, y, z = (float(part) for part in vector)
    return degrees(np.arctan2(y, x)) % 360.0, degrees(np.arctan2(z, np.hypot(x, y)))


def vectors_of(places: list[Place]) -> NDArray[np.float64]:
    """Unit vectors (3, N) of longitudes and latitudes."""
    lon, lat = np.radians(np.array(places, dtype=np.float64)).T
    return np.stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))


def separation(vectors: NDArray[np.float64], centre: NDArray[np.float64]) -> float:
    """Degrees from *centre* to the farthest of *vectors*."""
    chord = np.linalg.norm(vectors - centre[:, None], axis=0).max()
    return degrees(2 * np.arcsin(min(chord / 2, 1.0)))
