"""Convex hulls: they hold everything, and leave nothing out that could go."""

from __future__ import annotations

import numpy as np
import pytest

from soda_service.geometry.hull import convex_hull
from soda_service.geometry.shapes import Polygon
from soda_service.geometry.sphere import contains
from soda_service.geometry.vectors import lon_lat, unit_vectors


def scattered(seed: int, size: float) -> list[Polygon]:
    """Triangles within *size* radians of a random place, poles and longitude 0 among them."""
    rng = np.random.default_rng(seed)
    centre = np.array([(0.0, 0.0, 1.0), (1.0, 0.0, 0.0), rng.normal(size=3)][seed % 3])
    centre /= np.linalg.norm(centre)
    points = centre[:, None] + size * rng.uniform(-1, 1, (3, 15))
    lon, lat = lon_lat(points / np.linalg.norm(points, axis=0))
    corners = list(zip(lon.tolist(), lat.tolist(), strict=True))
    return [Polygon(tuple(corners[at : at + 3])) for at in range(0, 15, 3)]


@pytest.mark.parametrize("size", [1e-5, 0.01, 0.3])
@pytest.mark.parametrize("seed", range(9))
def test_it_holds_every_vertex_and_needs_its_own(seed: int, size: float) -> None:
    """Without any one of its vertices it would not hold that one."""
    polygons = scattered(seed, size)
    hull = convex_hull(polygons)
    assert hull is not None
    every = {vertex for polygon in polygons for vertex in polygon.vertices}
    assert set(hull.vertices) <= every
    vectors = unit_vectors(*zip(*every, strict=True))
    inner = vectors + 1e-9 * size * (vectors.mean(axis=1, keepdims=True) - vectors)
    assert contains(hull, inner / np.linalg.norm(inner, axis=0)).all()
    for index, vertex in enumerate(hull.vertices):
        less = Polygon(hull.vertices[:index] + hull.vertices[index + 1 :])
        assert len(less.vertices) < 3 or not contains(less, unit_vectors(*zip(vertex))).any()


def test_what_fits_in_no_hemisphere_has_none() -> None:
    """Opposite sides of the sphere, and more than a plane can show."""
    north = Polygon(((0.0, 80.0), (120.0, 80.0), (240.0, 80.0)))
    south = Polygon(((0.0, -80.0), (120.0, -80.0), (240.0, -80.0)))
    assert convex_hull([north, south]) is None
    wide = Polygon(((0.0, 2.0), (120.0, 2.0), (240.0, 2.0)))
    assert convex_hull([wide]) is None
    assert convex_hull([north]) is not None
