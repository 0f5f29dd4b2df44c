"""The cells that polygons touch, against mocpy."""

from __future__ import annotations

import astropy.units as u
import mocpy
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given, settings, strategies as st
from support.mocs import reference

from soda_service.geometry.healpix import cell_count
from soda_service.geometry.moc import Moc, parse_moc
from soda_service.geometry.mocbuilder import MocBuilder
from soda_service.geometry.shapes import Polygon
from soda_service.geometry.vectors import lon_lat


def quadrangle(rng: np.random.Generator, size: float, centre: tuple[float, ...] = ()) -> Polygon:
    """About *size* radians from its middle to its corners, convex."""
    up = np.array(centre) if centre else rng.normal(size=3)
    up /= np.linalg.norm(up)
    east = np.cross(up, rng.normal(size=3))
    east /= np.linalg.norm(east)
    turns = np.array([0.0, 1.6, 3.1, 4.6]) + rng.uniform(-0.3, 0.3, 4)
    around = np.cos(turns) * east[:, None] + np.sin(turns) * np.cross(up, east)[:, None]
    corners = up[:, None] + size * around
    return Polygon(tuple(zip(*(part.tolist() for part in lon_lat(corners)), strict=True)))


def built(order: int, *polygons: Polygon) -> Moc:
    builder = MocBuilder(order)
    builder.add(polygons)
    return builder.moc(most_cells=10**7)


def by_mocpy(order: int, polygon: Polygon) -> mocpy.MOC:
    return mocpy.MOC.from_polygon_skycoord(
        SkyCoord(np.array(polygon.vertices) * u.deg), max_depth=order
    )


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), order=st.integers(0, 8), place=st.integers(0, 5))
def test_no_cell_is_missing_and_few_are_too_many(seed: int, order: int, place: int) -> None:
    rng = np.random.default_rng(seed)
    centre = ((0.0, 0.0, 1.0), (1e-3, 0.0, -1.0), (1.0, 0.0, 0.0))[place] if place < 3 else ()
    polygon = quadrangle(rng, 10.0 ** rng.uniform(-4, -0.1), centre)
    moc, expected = reference(built(order, polygon)), by_mocpy(order, polygon)
    assert expected.difference(moc).empty()
    # What is too many lies within a quarter of a cell.
    nearer = by_mocpy(order + 3, polygon).add_neighbours().add_neighbours().add_neighbours()
    assert moc.difference(nearer.degrade_to_order(order)).empty()


def test_many_polygons_are_the_union_of_each() -> None:
    rng = np.random.default_rng(4)
    polygons = [quadrangle(rng, float(size)) for size in np.geomspace(1e-4, 0.9, 60)]
    together = MocBuilder(7)
    for piece in (polygons[:7], [], polygons[7:]):
        together.add(piece)
    expected = mocpy.MOC.union(*(reference(built(7, one)) for one in polygons))
    assert reference(together.moc(most_cells=10**7)) == expected


def test_a_map_goes_on_from_a_moc() -> None:
    rng = np.random.default_rng(5)
    first, second = quadrangle(rng, 0.1), quadrangle(rng, 0.02)
    builder = MocBuilder(8)
    builder.add_moc(built(8, first))
    builder.add_moc(built(3, first))
    builder.add([second])
    assert reference(builder.moc(most_cells=10**7)) == mocpy.MOC.union(
        reference(built(8, first)), reference(built(3, first)), reference(built(8, second))
    )


def test_a_moc_of_too_many_cells_is_coarser_and_covers_as_much() -> None:
    polygon = quadrangle(np.random.default_rng(6), 0.3)
    builder = MocBuilder(9)
    builder.add([polygon])
    fine = builder.moc(most_cells=10**7)
    coarse = builder.moc(most_cells=200)
    assert coarse.order < fine.order == 9
    assert coarse.cell_count <= 200 < fine.cell_count
    assert reference(fine).difference(reference(coarse)).empty()
    assert builder.moc(most_cells=10**7) == fine


@pytest.mark.parametrize("order", [0, 4])
def test_nothing_and_everything(order: int) -> None:
    assert MocBuilder(order).moc(most_cells=10) == parse_moc(f"{order}/")
    octants = [
        Polygon(((lon, 0.0), (lon + 90.0, 0.0), (lon, pole)))
        for lon in (0.0, 90.0, 180.0, 270.0)
        for pole in (90.0, -90.0)
    ]
    whole = built(order, *octants)
    assert whole == Moc.of(np.array([0]), np.array([cell_count(order)]), order)
