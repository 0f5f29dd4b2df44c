"""Boxes around shapes, and the match of shapes with footprints: nothing is ever missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.catalogs import make_dataset, make_settings, make_store

from soda_service.catalog.dataset import Footprint
from soda_service.catalog.query import CatalogQuery
from soda_service.catalog.skybox import sky_box
from soda_service.geometry.shapes import Circle, PlainShape, Polygon, Range
from soda_service.geometry.sphere import bounding_cap, contains, intersects
from soda_service.geometry.vectors import enclosing_axis, lon_lat, unit_vectors

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PLACES = [(0.0, 0.0), (359.9, 0.1), (90.0, 0.0), (45.0, 89.9), (200.0, 90.0), (10.0, -89.8),
          (180.0, -90.0), (123.4, 56.7), (0.0, -45.0), (270.0, 1e-7)]  # fmt: skip


def polygon_around(
    rng: np.random.Generator, lon: float, lat: float, radius: float, corners: int
) -> Polygon:
    """A convex polygon with corners on a circle."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    angles[:3] = np.array([0.1, 2.2, 4.3]) + rng.uniform(0, 0.5, 3)  # round the centre
    angles = np.sort(angles)
    centre = unit_vectors(lon, lat)[:, 0]
    east = np.cross([0.0, 0.0, 1.0] if abs(centre[2]) < 0.9 else [1.0, 0.0, 0.0], centre)
    east /= np.linalg.norm(east)
    north = np.cross(centre, east)
    rho = np.radians(radius)
    points = np.cos(rho) * centre[:, None] + np.sin(rho) * (
        np.cos(angles) * east[:, None] + np.sin(angles) * north[:, None]
    )
    lons, lats = lon_lat(points)
    return Polygon(tuple(zip(lons.tolist(), lats.tolist(), strict=True)))


def random_shape(rng: np.random.Generator) -> PlainShape:
    lon, lat = PLACES[rng.integers(len(PLACES))]
    radius = float(10 ** rng.uniform(-3, 1.8))
    lon = (lon + rng.normal(0, radius)) % 360
    lat = float(np.clip(lat + rng.normal(0, radius), -90, 90))
    match rng.integers(3):
        case 0:
            return Circle(lon, lat, radius)
        case 1:
            return polygon_around(rng, lon, lat, min(radius, 80.0), int(rng.integers(3, 9)))
        case _:
            low, high = max(-90.0, lat - radius), min(90.0, lat + radius)
            width = float(rng.uniform(0, 359))
            return Range(lon, (lon + width) % 360, low, high)


def sample(rng: np.random.Generator, shape: PlainShape) -> NDArray[np.float64]:
    """Points of *shape*: drawn from its cap, and for a polygon its corners and edges too."""
    cap = bounding_cap(shape)
    axis = unit_vectors(cap.lon, cap.lat)[:, 0]
    side = np.cross(axis, [1.0, 0, 0] if abs(axis[0]) < 0.9 else [0, 1.0, 0])
    side /= np.linalg.norm(side)
    third = np.cross(axis, side)
    rho = np.radians(cap.radius) * np.sqrt(rng.uniform(0, 1, 2000))
    turn = rng.uniform(0, 2 * np.pi, 2000)
    points = np.cos(rho) * axis[:, None] + np.sin(rho) * (
        np.cos(turn) * side[:, None] + np.sin(turn) * third[:, None]
    )
    inside: NDArray[np.float64] = points[:, contains(shape, points)]
    if not isinstance(shape, Polygon):
        return inside
    corners = unit_vectors(*zip(*shape.vertices, strict=True))
    part = rng.uniform(0, 1, 50)
    edges = [
        corners[:, [at]] * part + np.roll(corners, -1, axis=1)[:, [at]] * (1 - part)
        for at in range(corners.shape[1])
    ]
    along = np.concatenate([corners, *edges], axis=1)
    along /= np.linalg.norm(along, axis=0)
    everything: NDArray[np.float64] = np.concatenate([inside, along], axis=1)
    return everything


@pytest.mark.parametrize("seed", range(60))
def test_box_holds_every_point(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(5):
        shape = random_shape(rng)
        box = np.array(sky_box(shape)).reshape(3, 2)
        points = sample(rng, shape)
        assert (points >= box[:, [0]]).all()
        assert (points <= box[:, [1]]).all()


@pytest.mark.parametrize("place", PLACES)
def test_box_of_a_polygon_is_no_larger_than_it_must(place: tuple[float, float]) -> None:
    rng = np.random.default_rng(1)
    polygon = polygon_around(rng, *place, 5.0, 5)
    box = np.array(sky_box(polygon)).reshape(3, 2)
    points = np.concatenate([sample(rng, polygon) for _ in range(10)], axis=1)
    found = np.stack([points.min(axis=1), points.max(axis=1)], axis=1)
    assert np.abs(box - found).max() < 2e-3


def test_box_of_a_pole_reaches_it() -> None:
    around = Polygon(((0.0, 89.0), (120.0, 89.0), (240.0, 89.0)))
    assert sky_box(around)[5] >= 1.0
    assert sky_box(Circle(77.0, -89.5, 0.6))[4] <= -1.0
    assert sky_box(Range(10.0, 20.0, 80.0, 90.0))[5] >= 1.0
    assert sky_box(Circle(1.0, 2.0, 180.0)) == pytest.approx((-1, 1, -1, 1, -1, 1))


def footprint_of(*polygons: Polygon) -> Footprint:
    corners = np.concatenate(
        [unit_vectors(*zip(*one.vertices, strict=True)) for one in polygons], axis=1
    )
    found = enclosing_axis(corners)
    if found is None:
        return Footprint(polygons=polygons, cap=Circle(0.0, 0.0, 180.0))
    axis, cosine = found
    lon, lat = lon_lat(np.array(axis)[:, None])
    radius = float(np.degrees(np.arccos(cosine))) + 1e-6
    return Footprint(polygons=polygons, cap=Circle(float(lon[0]), float(lat[0]), radius))


def test_match_is_exact_over_the_whole_sky(tmp_path: Path) -> None:
    """Brute force: every footprint against every shape, one at a time."""
    rng = np.random.default_rng(20)
    datasets = []
    for number in range(120):
        lon, lat = PLACES[number % len(PLACES)]
        radius = float(10 ** rng.uniform(-2, 1.3))
        lon, lat = (lon + rng.normal(0, 5)) % 360, float(np.clip(lat + rng.normal(0, 5), -90, 90))
        polygons = [polygon_around(rng, lon, lat, radius, int(rng.integers(3, 7)))]
        if number % 7 == 0:
            polygons.append(polygon_around(rng, (lon + 170) % 360, -lat, radius, 4))
        datasets.append(make_dataset("sky", f"n{number:03}", footprint=footprint_of(*polygons)))
    datasets.append(make_dataset("sky", "nowhere", footprint=None))
    store = make_store(make_settings(tmp_path), *datasets)
    hits = 0
    for _ in range(50):
        shapes = tuple(random_shape(rng) for _ in range(rng.integers(1, 4)))
        found = [one.obs_id for one in store.find(CatalogQuery(shapes=shapes), 1000)]
        expected = [
            one.obscore.obs_id
            for one in datasets
            if one.footprint is not None
            and any(
                intersects(shape, piece) for shape in shapes for piece in one.footprint.polygons
            )
        ]
        assert found == expected
        hits += len(expected)
    assert hits > 300
    store.close()


def test_many_shapes_are_one_query(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    far, near = polygon_around(rng, 10, 10, 0.5, 4), polygon_around(rng, 200.5, -33, 0.5, 4)
    store = make_store(
        make_settings(tmp_path),
        make_dataset("sky", "far", footprint=footprint_of(far)),
        make_dataset("sky", "near", footprint=footprint_of(near)),
    )
    shapes = tuple(Circle(200 + number / 3000, -33.0, 1e-4) for number in range(3000))
    assert [one.obs_id for one in store.find(CatalogQuery(shapes=shapes), 9)] == ["near"]
    store.close()


def test_a_point_on_a_corner_and_on_an_edge_meets(tmp_path: Path) -> None:
    square = Polygon(((359.5, -0.5), (0.5, -0.5), (0.5, 0.5), (359.5, 0.5)))
    store = make_store(
        make_settings(tmp_path), make_dataset("sky", "square", footprint=footprint_of(square))
    )
    for lon, lat in [(359.5, -0.5), (0.5, 0.0), (0.0, 0.0), (0.5, 0.5)]:
        query = CatalogQuery(shapes=(Circle(lon, lat, 0.0),))
        assert len(list(store.find(query, 9))) == 1, (lon, lat)
    for lon, lat in [(0.5001, 0.0), (180.0, 0.0), (0.0, 0.51)]:
        query = CatalogQuery(shapes=(Circle(lon, lat, 0.0),))
        assert not list(store.find(query, 9)), (lon, lat)
    store.close()
