"""What shapes have to do with each other, against dense samples of the sphere and regions."""

from __future__ import annotations

from math import cos, degrees, radians, tan
from typing import TYPE_CHECKING

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import assume, given, reject, settings, strategies as st
from regions import CircleSphericalSkyRegion

from soda_service.errors import UsageError
from soda_service.geometry.dali import format_pos, parse_polygon, parse_pos
from soda_service.geometry.shapes import Circle, Polygon, Range
from soda_service.geometry.skyregion import region_of
from soda_service.geometry.sphere import (
    Outlines,
    bounding_cap,
    contains,
    intersects,
    intersects_many,
    lon_lat,
    unit_vectors,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from soda_service.geometry.shapes import PlainShape

    Bools = NDArray[np.bool_]

COUNT = 40_000
"""Points over the sphere: none is further than a degree from the next."""

_TURN = np.arange(COUNT) * np.pi * (1.0 + 5.0**0.5)
_Z = 1.0 - (2.0 * np.arange(COUNT) + 1.0) / COUNT
POINTS = np.stack(
    [np.sqrt(1.0 - _Z * _Z) * np.cos(_TURN), np.sqrt(1.0 - _Z * _Z) * np.sin(_TURN), _Z]
)

longitudes = st.one_of(st.floats(0.0, 360.0), st.sampled_from([0.0, 90.0, 180.0, 360.0]))
latitudes = st.one_of(st.floats(-90.0, 90.0), st.sampled_from([-90.0, 90.0, 0.0, 89.9]))


@st.composite
def circles(draw: st.DrawFn) -> Circle:
    radius = draw(st.one_of(st.floats(0.0, 180.0), st.floats(0.0, 3.0), st.floats(88.0, 92.0)))
    return Circle(draw(longitudes), draw(latitudes), radius)


@st.composite
def ranges(draw: st.DrawFn) -> Range:
    south, north = sorted((draw(latitudes), draw(latitudes)))
    west = draw(longitudes)
    widths = st.floats(0.0, 359.0), st.floats(0.0, 3.0), st.just(180.0), st.just(360.0)
    width = draw(st.one_of(*widths))
    if width == 360.0:
        return Range(0.0, 360.0, south, north)
    return Range(west, (west + width) % 360.0, south, north)


@st.composite
def polygons(draw: st.DrawFn) -> Polygon:
    """Polygons about a centre, often crossing themselves."""
    centre = unit_vectors(draw(longitudes), draw(latitudes))[:, 0]
    aside = np.cross(centre, [0.3, -0.5, 0.81])
    aside /= np.linalg.norm(aside)
    above = np.cross(centre, aside)
    size = draw(st.sampled_from([2.0, 30.0, 85.0]))
    numbers = []
    for _ in range(draw(st.integers(3, 7))):
        turn, away = draw(st.floats(0, 6.28)), radians(draw(st.floats(0.1, size)))
        vector = centre + tan(away) * (np.cos(turn) * aside + np.sin(turn) * above)
        lon, lat = lon_lat(vector[:, None])
        numbers += [repr(float(lon[0])), repr(float(lat[0]))]
    try:
        return parse_polygon(" ".join(numbers))
    except UsageError:
        reject()


shapes = st.one_of(circles(), ranges(), polygons())


def held(shape: PlainShape) -> Bools:
    """Which of POINTS the shape holds, by means of its own."""
    lon, lat = lon_lat(POINTS)
    match shape:
        case Circle():
            centre = unit_vectors(shape.lon, shape.lat)[:, 0]
            near: Bools = centre @ POINTS >= cos(radians(shape.radius))
            return near
        case Range():
            within: Bools = (lat >= shape.lat1) & (lat <= shape.lat2)
            if shape.lon2 - shape.lon1 >= 360.0:
                return within
            if shape.lon1 <= shape.lon2:
                return within & (lon >= shape.lon1) & (lon <= shape.lon2)
            return within & ((lon >= shape.lon1) | (lon <= shape.lon2))
        case Polygon():
            return winding_is_odd(shape)


def winding_is_odd(polygon: Polygon) -> Bools:
    """Even-odd by counting crossings of the meridian arc from each point to a far point."""
    corners = unit_vectors(*np.array(polygon.vertices).T)
    cap = bounding_cap(polygon)
    far = -unit_vectors(cap.lon, cap.lat)[:, 0]
    crossings = np.zeros(COUNT, dtype=int)
    ways = np.cross(POINTS.T, far)
    for index in range(corners.shape[1]):
        a, b = corners[:, index], corners[:, (index + 1) % corners.shape[1]]
        normal = np.cross(a, b)
        sides = POINTS.T @ normal, np.full(COUNT, far @ normal)
        ends = ways @ a, ways @ b
        crossings += (sides[0] * sides[1] < 0) & (ends[0] * ends[1] < 0) & (sides[0] * ends[1] > 0)
    odd: Bools = crossings % 2 == 1
    return odd


@settings(max_examples=150)
@given(shape=shapes)
def test_points_are_held_as_counted_otherwise(shape: PlainShape) -> None:
    margin = region_of(shape).margin(POINTS)
    doubtful = np.abs(margin) < 1e-9
    assert (contains(shape, POINTS) == held(shape))[~doubtful].all(), format_pos(shape)


@settings(max_examples=150)
@given(shape=shapes)
def test_the_margin_is_no_more_than_the_distance_from_the_edge(shape: PlainShape) -> None:
    """Within the margin around a point, every other point is on the same side."""
    margin = region_of(shape).margin(POINTS)
    inside = margin >= 0.0
    for index in range(0, COUNT, 1999):
        cosines = POINTS[:, index] @ POINTS
        around = cosines > np.cos(min(abs(float(margin[index])), np.pi)) + 1e-9
        assert (inside[around] == inside[index]).all(), format_pos(shape)


@settings(max_examples=300)
@given(a=shapes, b=shapes)
def test_shapes_with_a_sample_in_common_intersect_and_others_come_close(
    a: PlainShape, b: PlainShape
) -> None:
    answer = intersects(a, b)
    assert intersects(b, a) == answer
    both = np.minimum(region_of(a).margin(POINTS), region_of(b).margin(POINTS))
    if (both >= 0.0).any():
        assert answer, (format_pos(a), format_pos(b))
    elif answer:
        # A point of both has a sample within a degree of it.
        assert both.max() > -radians(1.0), (format_pos(a), format_pos(b))


@settings(max_examples=150)
@given(shape=shapes)
def test_the_bounding_cap_holds_the_shape(shape: PlainShape) -> None:
    inside = contains(shape, POINTS)
    assert contains(bounding_cap(shape), POINTS)[inside].all(), format_pos(shape)
    edge = region_of(shape).points(40)
    assert (region_of(bounding_cap(shape)).margin(edge) >= -1e-13).all()


@settings(max_examples=60)
@given(shape=shapes, others=st.lists(polygons(), min_size=1, max_size=6))
def test_many_outlines_at_once_are_as_one_by_one(shape: PlainShape, others: list[Polygon]) -> None:
    together = intersects_many(shape, Outlines.of(others))
    assert together.tolist() == [intersects(shape, other) for other in others]


SQUARE = parse_polygon("10 -5 20 -5 20 5 10 5")


@pytest.mark.parametrize(
    ("a", "b", "answer"),
    [
        ("CIRCLE 30 0 10", "CIRCLE 50 0 10", True),  # they touch
        ("CIRCLE 30 0 10", "CIRCLE 50.0000001 0 10", False),
        ("CIRCLE 0 90 1", "RANGE 10 20 80 90", True),  # every range up to the pole holds it
        ("RANGE 10 20 80 90", "RANGE 200 210 85 90", True),
        ("RANGE 10 20 80 89.9", "RANGE 200 210 85 90", False),
        ("RANGE 359 1 -1 1", "CIRCLE 0 0 0.1", True),
        ("RANGE 10 190 -85 10", "CIRCLE 100 0 1", True),  # half a turn
        ("RANGE 10 190 -85 10", "CIRCLE 280 0 1", False),
        ("RANGE 359 1 -1 1", "POLYGON 1 0 2 1 2 -1", True),  # a corner on the meridian
        ("RANGE 359 1 -1 1", "POLYGON 1.001 0 2 1 2 -1", False),
        ("RANGE 0 360 -90 90", "CIRCLE 12 34 0.001", True),
        ("RANGE 0 360 60 70", "POLYGON 0 80 120 80 240 80", False),
        ("RANGE 0 360 60 70", "POLYGON 0 30 120 30 240 30", True),  # the ring lies in it
        ("RANGE 0 360 80 85", "POLYGON 0 30 120 30 240 30", True),
        ("POLYGON 0 30 120 30 240 30", "CIRCLE 7 90 0.001", True),
        ("CIRCLE 0 -90 170", "POLYGON 0 79 120 79 240 79", True),
        ("CIRCLE 0 -90 170", "POLYGON 0 85 120 85 240 85", False),
        # An arc from 0 to 60 at 45 degrees rises to 49.1: the parallel does not.
        ("POLYGON 0 45 60 45 30 30", "RANGE 29 31 48 49", True),
        ("POLYGON 0 45 60 45 30 30", "RANGE 29 31 49.2 50", False),
        ("POLYGON 0 45 60 45 30 80", "RANGE 20 40 44 45.2", False),
        # Its parallel alone meets the polygon, between two vertices.
        ("POLYGON 0 45 60 45 30 80", "RANGE 0 60 40 49.2", True),
        ("POLYGON 10 0 20 0 15 10", "POLYGON 20 0 30 0 25 10", True),
        ("POLYGON 10 0 20 0 15 10", "POLYGON 14 2 16 2 15 3", True),
        ("POLYGON 10 0 20 0 15 10", "POLYGON 194 2 196 2 195 3", False),
        ("POLYGON 10 0 20 0 15 10", "POLYGON 190 0 200 0 195 -10", False),  # the antipodes
    ],
)
def test_pairs_that_are_easily_got_wrong(a: str, b: str, answer: bool) -> None:
    assert intersects(parse_pos(a), parse_pos(b)) is answer
    assert intersects(parse_pos(b), parse_pos(a)) is answer


def test_a_nan_vector_is_held_by_nothing() -> None:
    nothing = np.full((3, 1), np.nan)
    for text in ("CIRCLE 0 0 180", "RANGE 0 360 -90 90", "POLYGON 10 0 20 0 15 10"):
        assert not contains(parse_pos(text), nothing).any()


@settings(max_examples=40)
@given(circle=circles())
def test_circles_hold_what_regions_says(circle: Circle) -> None:
    assume(0.0 < circle.radius < 179.0)
    lon, lat = lon_lat(POINTS[:, ::37])
    centre = SkyCoord(circle.lon * u.deg, circle.lat * u.deg)
    theirs = CircleSphericalSkyRegion(centre, circle.radius * u.deg).contains(
        SkyCoord(lon * u.deg, lat * u.deg)
    )
    ours = contains(circle, POINTS[:, ::37])
    doubtful = np.abs(region_of(circle).margin(POINTS[:, ::37])) < 1e-7
    assert (ours == theirs)[~doubtful].all()


def test_the_cap_of_a_polygon_is_the_smallest() -> None:
    cap = bounding_cap(SQUARE)
    assert cap.lon == pytest.approx(15.0)
    assert cap.lat == pytest.approx(0.0, abs=1e-9)
    corner = unit_vectors(20.0, 5.0)[:, 0] @ unit_vectors(15.0, 0.0)[:, 0]
    assert cap.radius == pytest.approx(degrees(np.arccos(corner)))
