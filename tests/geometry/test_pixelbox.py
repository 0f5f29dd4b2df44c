"""The box around a shape, against every pixel of small images all over the sky.

The oracle looks at 11 by 11 points inside each pixel. What one of them shows must be in the box,
and each side of the box must have a point of the shape within a tenth of a pixel.
"""

from __future__ import annotations

from functools import cache
from math import degrees, radians, tan
from typing import TYPE_CHECKING, Final

import numpy as np
import pytest
from astropy.wcs import WCS
from hypothesis import given, settings, strategies as st
from support.grids import GRIDS, AstropyGrid, CutGrid, TurnedGrid

from soda_service.errors import UsageError
from soda_service.fits.cards import Header
from soda_service.fits.wcs import ImageWcs
from soda_service.geometry.dali import format_pos, parse_polygon
from soda_service.geometry.pixelbox import (
    NOT_QUICK,
    PixelBox,
    Quickness,
    SkyGrid,
    box_around,
    box_around_quickly,
)
from soda_service.geometry.shapes import Circle, Polygon, Range
from soda_service.geometry.skyindex import SkyIndex
from soda_service.geometry.skyregion import region_of
from soda_service.geometry.sphere import contains, lon_lat, unit_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from soda_service.geometry.shapes import Shape

    Floats = NDArray[np.float64]

SIZES = [1e-6, 1e-3, 0.1, 0.5, 1.0, 3.0, 10.0, 40.0, 300.0]
"""Sizes of shapes in pixels."""

SMOOTH = [name for name in GRIDS if name.startswith(("tan", "stg", "one", "tiny"))]


@cache
def grid_of(name: str) -> SkyGrid:
    return GRIDS[name]()


@cache
def index_of(name: str) -> SkyIndex:
    return SkyIndex.of(grid_of(name))


def boxed(name: str, shape: Shape) -> PixelBox | None:
    return box_around(shape, grid_of(name), index_of(name))


def place(grid: SkyGrid, x: float, y: float) -> Floats:
    return grid.pixel_to_sky(np.array([x]), np.array([y]))[:, 0]


def random_shape(rng: np.random.Generator, grid: SkyGrid) -> Shape:
    """A shape in or about the image: at its corners, its middle, a pole, or anywhere."""
    lon, lat, size = random_place(rng, grid)
    match rng.integers(3):
        case 0:
            return Circle(lon, lat, size)
        case 1:
            return random_polygon(rng, unit_vectors([lon], [lat])[:, 0], min(size, 80.0))
        case _:
            height = size * rng.uniform(0.2, 1.0)
            width = min(size / max(np.cos(radians(lat)), 1e-3), 179.0)
            south, north = max(-90.0, lat - height), min(90.0, lat + height)
            return Range((lon - width) % 360.0, (lon + width) % 360.0, south, north)


def random_place(rng: np.random.Generator, grid: SkyGrid) -> tuple[float, float, float]:
    """Degrees: longitude and latitude of a shape's middle, and its size."""
    columns, rows = grid.naxis
    while True:
        match rng.integers(4):
            case 0:
                x, y = rng.choice([-0.5, columns - 0.5]), rng.choice([-0.5, rows - 0.5])
                x, y = x + rng.uniform(-0.5, 0.5), y + rng.uniform(-0.5, 0.5)
            case _:
                x, y = rng.uniform(-0.3, 1.3) * columns, rng.uniform(-0.3, 1.3) * rows
        centre = place(grid, float(x), float(y))
        if np.isfinite(centre).all():
            break
    if rng.random() < 0.08:
        centre = np.array([0.0, 0.0, rng.choice([-1.0, 1.0])])
    middle = place(grid, columns / 2, rows / 2), place(grid, columns / 2 + 1, rows / 2)
    pixel = degrees(float(np.linalg.norm(middle[1] - middle[0])))
    size = min(float(rng.choice(SIZES)) * pixel * rng.uniform(0.5, 2.0), 179.0)
    lons, lats = lon_lat(centre[:, None])
    return float(lons[0]), float(lats[0]), size


def random_polygon(rng: np.random.Generator, centre: Floats, size: float) -> Polygon:
    while True:
        numbers: list[str] = []
        for _ in range(rng.integers(3, 8)):
            aside = np.cross(centre, rng.normal(size=3))
            aside /= np.linalg.norm(aside)
            corner = centre + tan(radians(size * rng.uniform(0.05, 1.0))) * aside
            lon, lat = lon_lat(corner[:, None])
            numbers += [repr(float(lon[0])), repr(float(lat[0]))]
        try:
            return parse_polygon(" ".join(numbers))
        except UsageError:
            size = min(1.5 * size, 80.0)  # too small for its corners to differ


def box_of_samples(grid: SkyGrid, shape: Shape, count: int = 11) -> PixelBox | None:
    """The box of the pixels that hold one of *count* squared samples of the shape."""
    columns, rows = grid.naxis
    offsets = (np.arange(count) + 0.5) / count - 0.5
    x = (np.arange(columns)[:, None] + offsets).ravel()
    y = (np.arange(rows)[:, None] + offsets).ravel()
    x, y = (part.ravel() for part in np.meshgrid(x, y, indexing="ij"))
    held = contains(shape, grid.pixel_to_sky(x, y)).reshape(columns, count, rows, count)
    i, j = np.nonzero(held.any(axis=(1, 3)))
    if not i.size:
        return None
    return PixelBox((int(i.min()), int(j.min())), (int(i.max()) + 1, int(j.max()) + 1))


def closest(grid: SkyGrid, shape: Shape, lower: tuple[int, int], upper: tuple[int, int]) -> float:
    """How far, in tenths of a pixel, the shape stays away from a strip of pixels."""
    ways = [
        np.linspace(low - 0.5, high - 0.5, 10 * (high - low) + 1)
        for low, high in zip(lower, upper, strict=True)
    ]
    x, y = np.meshgrid(*ways, indexing="ij")
    vectors = grid.pixel_to_sky(x.ravel(), y.ravel()).reshape(3, *x.shape)
    with np.errstate(invalid="ignore"):
        x_step = np.sqrt((np.diff(vectors, axis=1) ** 2).sum(axis=0))
        y_step = np.sqrt((np.diff(vectors, axis=2) ** 2).sum(axis=0))
        step = max(float(np.nanmax(x_step)), float(np.nanmax(y_step)))
    margin = region_of(shape).margin(vectors.reshape(3, -1))
    return max(0.0, -float(np.nanmax(margin))) / step


def check(grid: SkyGrid, shape: Shape, box: PixelBox | None) -> None:
    sampled = box_of_samples(grid, shape)
    if sampled is not None:
        assert box is not None, format_pos(shape)
        assert all(a <= b for a, b in zip(box.lower, sampled.lower, strict=True)), format_pos(shape)
        assert all(a >= b for a, b in zip(box.upper, sampled.upper, strict=True)), format_pos(shape)
    if box is None or box == sampled:
        return
    (x1, y1), (x2, y2) = box.lower, box.upper
    for lower, upper in (
        ((x1, y1), (x1 + 1, y2)),
        ((x2 - 1, y1), (x2, y2)),
        ((x1, y1), (x2, y1 + 1)),
        ((x1, y2 - 1), (x2, y2)),
    ):
        # A sample is no further than 0.71 tenths of a pixel from any point of the strip.
        assert closest(grid, shape, lower, upper) < 1.0, (format_pos(shape), box, sampled)


@pytest.mark.parametrize("name", GRIDS)
@settings(max_examples=12)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_box_holds_every_pixel_that_the_shape_meets_and_no_more(name: str, seed: int) -> None:
    grid = grid_of(name)
    shape = random_shape(np.random.default_rng(seed), grid)
    check(grid, shape, boxed(name, shape))


@pytest.mark.parametrize("name", GRIDS)
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_quick_answer_is_the_answer(name: str, seed: int) -> None:
    shape = random_shape(np.random.default_rng(seed), grid_of(name))
    quick = box_around_quickly(shape, grid_of(name), index_of(name))
    if not isinstance(quick, Quickness):
        assert quick == boxed(name, shape), format_pos(shape)


@pytest.mark.parametrize("name", ["tan turned", "tan-sip", "tan swapped"])
def test_most_shapes_within_an_ordinary_image_are_quick(name: str) -> None:
    grid, index = grid_of(name), index_of(name)
    rng = np.random.default_rng(8)
    answers = []
    for _ in range(40):
        x, y = (length * rng.uniform(0.4, 0.6) for length in grid.naxis)
        centre, beside = place(grid, x, y), place(grid, x + 4.0, y)
        size = degrees(float(np.linalg.norm(beside - centre)))
        lons, lats = lon_lat(centre[:, None])
        shape: Shape = Circle(float(lons[0]), float(lats[0]), size * rng.uniform(0.1, 1.5))
        if rng.random() < 0.5:
            shape = random_polygon(rng, centre, size * 1.5)
        answers.append(box_around_quickly(shape, grid, index))
        if not isinstance(answers[-1], Quickness):
            check(grid, shape, answers[-1])
    assert answers.count(NOT_QUICK) < 10
    assert None not in answers


FOLDED: Final = (
    "CTYPE1  = 'RA---TAN-SIP'", "CTYPE2  = 'DEC--TAN-SIP'", "CRVAL1  = 150.0", "CRVAL2  = 2.0",
    "CRPIX1  = 30.0", "CRPIX2  = 30.0", "CD1_1   = -0.001", "CD2_2   = 0.001",
    "A_ORDER = 2", "B_ORDER = 2", "A_2_0   = 0.02",
)  # fmt: skip
"""An image that is folded along its fifth column: the columns before it show what those behind it
show, which is what the inverse map finds."""


def folded_grid() -> SkyGrid:
    header = Header.parse("".join(card.ljust(80) for card in FOLDED).encode())
    grid = ImageWcs.of(header, (60, 60)).celestial
    assert grid is not None
    return grid


def spot(grid: SkyGrid, pixels: list[tuple[float, float]], kind: str) -> Shape:
    """A small shape through or around pixels."""
    vectors = grid.pixel_to_sky(*np.array(pixels, dtype=float).T)
    lons, lats = (part.tolist() for part in lon_lat(vectors))
    match kind:
        case "polygon":
            return Polygon(tuple(zip(lons, lats, strict=True)))
        case "range":
            return Range(min(lons), max(lons), min(lats), max(lats))
        case _:
            return Circle(lons[0], lats[0], 0.3e-3)


@pytest.mark.parametrize("kind", ["polygon", "range", "circle"])
@pytest.mark.parametrize("x", [4.4, 5.0, 5.7, 6.9, 8.1])
def test_what_a_folded_image_shows_twice_is_found_twice_before_and_after_its_index(
    kind: str, x: float
) -> None:
    grid = folded_grid()
    index = SkyIndex.of(grid)
    for y in (19.0, 30.2):
        shape = spot(grid, [(x, y), (x + 0.7, y + 0.1), (x + 0.3, y + 0.3)], kind)
        sampled = box_of_samples(grid, shape, 33)
        assert sampled is not None
        assert sampled.lower[0] <= 4 < sampled.upper[0]
        box = box_around(shape, grid, index)
        check(grid, shape, box)
        for known in (None, index):
            assert box_around_quickly(shape, grid, known) in (NOT_QUICK, box)


def test_far_from_its_fold_an_image_is_quick() -> None:
    grid = folded_grid()
    index = SkyIndex.of(grid)
    answers = []
    for kind in ("polygon", "range", "circle"):
        for x in (30.2, 41.3, 50.1):
            shape = spot(grid, [(x, 20.1), (x + 2.7, 21.2), (x + 1.3, 23.3)], kind)
            answers.append(box_around_quickly(shape, grid, index))
            assert answers[-1] in (NOT_QUICK, box_around(shape, grid, index))
    assert answers.count(NOT_QUICK) < 3


@pytest.mark.parametrize("radius", [18.7, 19.3])
def test_a_circle_about_infinity_reaches_all_edges_of_the_image(radius: float) -> None:
    """The pixels of its edge enclose all the sky but what is in the circle."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---STG", "DEC--STG"
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (200.0, -80.0), (1001.0, 901.0), (-0.7, 0.7)
    wcs.wcs.set()
    grid = AstropyGrid(wcs, (2001, 1801))
    index = SkyIndex.of(grid)
    around, beside = Circle(20.0, 80.0, radius), Circle(190.0, -60.0, 3.1)
    corners = unit_vectors(*wcs.all_pix2world([0, 2000, 0, 2000], [0, 0, 1800, 1800], 0))
    assert contains(around, corners).all()
    assert box_around(around, grid, index) == PixelBox.whole(grid.naxis)
    assert box_around_quickly(around, grid, index) is NOT_QUICK
    assert box_around_quickly(beside, grid, index) == box_around(beside, grid, index)


def test_without_an_index_nothing_is_quick() -> None:
    assert box_around_quickly(Circle(150.0, 2.2, 0.02), grid_of("tan turned")) is NOT_QUICK


@pytest.mark.parametrize("name", GRIDS)
def test_the_whole_sphere_is_the_whole_image_and_the_antipodes_are_nothing(name: str) -> None:
    grid = grid_of(name)
    whole = box_of_samples(grid, Circle(0.0, 0.0, 180.0))
    for shape in (Circle(12.0, 34.0, 180.0), Range(0.0, 360.0, -90.0, 90.0)):
        box = boxed(name, shape)
        assert box is not None
        assert whole is not None
        assert all(a <= b for a, b in zip(box.lower, whole.lower, strict=True))
        assert all(a >= b for a, b in zip(box.upper, whole.upper, strict=True))
        check(grid, shape, box)
    if name in SMOOTH:
        lon, lat = lon_lat(-place(grid, 0.0, 0.0)[:, None])
        shape = Circle(float(lon[0]), float(lat[0]), 5.0)
        assert boxed(name, shape) is None
        assert box_around_quickly(shape, grid, index_of(name)) is None


@pytest.mark.parametrize("name", SMOOTH)
def test_a_shape_without_area_is_in_the_pixel_that_holds_it(name: str) -> None:
    grid = grid_of(name)
    rng = np.random.default_rng(3)
    for _ in range(10):
        x, y = (int(rng.integers(length)) for length in grid.naxis)
        at = place(grid, x + rng.uniform(-0.4, 0.4), y + rng.uniform(-0.4, 0.4))
        lon, lat = lon_lat(at[:, None])
        point = float(lon[0]), float(lat[0])
        for shape in (Circle(*point, 0.0), Range(point[0], point[0], point[1], point[1])):
            assert boxed(name, shape) == PixelBox((x, y), (x + 1, y + 1))


def test_a_point_on_the_edge_between_pixels_is_in_one_of_them() -> None:
    grid = grid_of("tan turned")
    lon, lat = lon_lat(place(grid, 10.5, 7.0)[:, None])
    box = boxed("tan turned", Circle(float(lon[0]), float(lat[0]), 1e-12))
    assert box in {
        PixelBox((10, 7), (11, 8)),
        PixelBox((11, 7), (12, 8)),
        PixelBox((10, 7), (12, 8)),
    }


@pytest.mark.parametrize("offset", [0.0, 1e-5, -1e-5])
def test_edges_that_lie_on_edges_between_pixels_add_nothing(offset: float) -> None:
    """Pixels of one degree: their edges lie at half degrees, their rows along parallels."""
    grid = grid_of("car piece")
    lon, lat = lon_lat(grid.pixel_to_sky(np.array([24.5, 14.5]), np.array([3.5, 13.5])))
    west, east = (round(float(value), 6) for value in lon)
    south, north = (round(float(value), 6) for value in lat)
    shape = Range(west - offset, east + offset, south - offset, north + offset)
    more = 1 if offset > 0.0 else 0
    assert boxed("car piece", shape) == PixelBox((15 - more, 4 - more), (25 + more, 14 + more))


def test_a_polygon_through_the_corners_of_pixels_adds_nothing() -> None:
    grid = grid_of("tan turned")
    x, y = np.array([9.5, 30.5, 30.5, 9.5]), np.array([4.5, 4.5, 22.5, 22.5])
    lon, lat = lon_lat(grid.pixel_to_sky(x, y))
    shape = Polygon(tuple(zip(lon.tolist(), lat.tolist(), strict=True)))
    assert boxed("tan turned", shape) == PixelBox((10, 5), (31, 23))


@pytest.mark.parametrize("name", GRIDS)
@settings(max_examples=12)
@given(seed=st.integers(0, 2**32 - 1), factor=st.floats(1.0, 2.0))
def test_a_larger_circle_has_no_smaller_box(name: str, seed: int, factor: float) -> None:
    lon, lat, radius = random_place(np.random.default_rng(seed), grid_of(name))
    small = boxed(name, Circle(lon, lat, radius))
    large = boxed(name, Circle(lon, lat, min(radius * factor, 180.0)))
    if small is not None:
        assert large is not None
        assert all(a >= b for a, b in zip(small.lower, large.lower, strict=True))
        assert all(a <= b for a, b in zip(small.upper, large.upper, strict=True))


@pytest.mark.parametrize("name", GRIDS)
@settings(max_examples=12)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_way_round_a_polygon_does_not_matter(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lon, lat, size = random_place(rng, grid_of(name))
    shape = random_polygon(rng, unit_vectors([lon], [lat])[:, 0], min(size, 80.0))
    box = boxed(name, shape)
    turned = shape.vertices[2:] + shape.vertices[:2]
    for vertices in (shape.vertices[::-1], turned):
        assert boxed(name, Polygon(vertices)) == box


@pytest.mark.parametrize("name", SMOOTH)
@settings(max_examples=8)
@given(seed=st.integers(0, 2**32 - 1))
def test_cutting_and_turning_the_image_cuts_and_turns_the_box(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = GRIDS[name]()
    shape = random_shape(rng, grid)
    box = boxed(name, shape)

    turned = TurnedGrid(grid)
    answer = box_around(shape, turned, SkyIndex.of(turned))
    if box is None:
        assert answer is None
    else:
        columns = turned.naxis[0]
        (x1, y1), (x2, y2) = box.lower, box.upper
        assert answer == PixelBox((columns - y2, x1), (columns - y1, x2))

    lower = [int(rng.integers(length)) for length in grid.naxis]
    upper = [
        int(rng.integers(low, length)) + 1 for low, length in zip(lower, grid.naxis, strict=True)
    ]
    naxis = upper[0] - lower[0], upper[1] - lower[1]
    cut = CutGrid(grid, (lower[0], lower[1]), naxis)
    answer = box_around(shape, cut, SkyIndex.of(cut))
    if answer is not None:
        # The box in the cutout is within the box in the whole image, and holds all of it
        # that was seen there.
        assert box is not None
        assert all(a + c >= b for a, c, b in zip(answer.lower, lower, box.lower, strict=True))
        assert all(a + c <= b for a, c, b in zip(answer.upper, lower, box.upper, strict=True))
    check(cut, shape, answer)


def test_an_index_of_a_huge_image_is_small() -> None:
    grid = GRIDS["tan turned"]()
    grid.naxis = (120_000, 100_000)
    grid.wcs.wcs.cd = grid.wcs.wcs.cd / 20_000.0
    grid.wcs.wcs.crpix = [60_000.3, 50_000.1]
    grid.wcs.wcs.set()
    index = SkyIndex.of(grid)
    assert len(index.cells) < 2000
    centre = grid.wcs.wcs.crval
    box = box_around(Circle(centre[0] + 0.01, centre[1] - 0.02, 1e-3), grid, index)
    assert box is not None
    assert box.naxis == (4001, 4001) or box.naxis in {(4000, 4001), (4001, 4000), (4000, 4000)}


def test_pixels_of_a_range_near_the_pole_are_found_though_its_corners_are_elsewhere() -> None:
    """RANGE 0 360 89.5 90 is a cap: no corner of it lies on its edge."""
    grid = grid_of("tan with the pole")
    shape = Range(0.0, 360.0, 89.7, 90.0)
    cap = Circle(0.0, 90.0, 0.3)
    assert boxed("tan with the pole", shape) == boxed("tan with the pole", cap)
    check(grid, shape, boxed("tan with the pole", shape))


def test_a_box_turns_round_the_axes_in_one_place() -> None:
    box = PixelBox((2, 5, 0), (7, 6, 3))
    assert box.naxis == (5, 1, 3)
    assert box.shape == (3, 1, 5)
    assert box.slices == (slice(0, 3), slice(5, 6), slice(2, 7))
    assert box.section == "[3:7,6:6,1:3]"
    assert box.pixel_count == 15
    assert box.replaced(1, 0, 9) == PixelBox((2, 0, 0), (7, 9, 3))
    assert PixelBox.whole((4, 3)) == PixelBox((0, 0), (4, 3))
    for lower, upper in (((0, 0), (1,)), ((0,), (0,)), ((-1,), (1,))):
        with pytest.raises(ValueError, match=r"box|axes"):
            PixelBox(lower, upper)


def test_unit_vectors_and_back() -> None:
    lon, lat = np.array([0.0, 359.9, 12.0]), np.array([-90.0, 0.0, 45.0])
    back = lon_lat(unit_vectors(lon, lat))
    np.testing.assert_allclose(back[0][1:], lon[1:], atol=1e-12)
    np.testing.assert_allclose(back[1], lat, atol=1e-12)
