"""The box around a MOC, against mocpy's word on every pixel of small images all over the sky.

The oracle looks at 11 by 11 points inside each pixel, and follows the edges of the cells through
the pixels. What these touch must be in the box, and each side of the box must be touched.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from support.grids import GRIDS
from support.mocs import held, random_moc

from soda_service.geometry.arcs import Outlines
from soda_service.geometry.healpix import (
    MAX_ORDER,
    cells_at,
    numbers,
    places_of,
    squares,
    vectors_at,
)
from soda_service.geometry.moc import Moc, format_moc, parse_moc
from soda_service.geometry.pixelbox import NOT_QUICK, PixelBox, box_around, box_around_quickly
from soda_service.geometry.shapes import Circle, Polygon
from soda_service.geometry.skyindex import SkyIndex
from soda_service.geometry.skyregion import region_of
from soda_service.geometry.sphere import bounding_cap, contains, lon_lat, unit_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from soda_service.geometry.pixelbox import SkyGrid

    Floats = NDArray[np.float64]

SMOOTH = [name for name in GRIDS if name.startswith(("tan", "stg", "one", "tiny"))]
FOLLOWED = [name for name in GRIDS if not name.startswith("folded")]
"""Those whose inverse map leads to every pixel, so that edges can be followed by it."""
ALL_SKY = parse_moc("0/0-11")


@cache
def grid_of(name: str) -> SkyGrid:
    return GRIDS[name]()


@cache
def index_of(name: str) -> SkyIndex:
    return SkyIndex.of(grid_of(name))


def boxed(name: str, moc: Moc) -> PixelBox | None:
    return box_around(moc, grid_of(name), index_of(name))


def sampled(grid: SkyGrid, moc: Moc, *, least: int, count: int = 11) -> NDArray[np.int64]:
    """The pixels, shape (2, N), that have *least* of *count* squared samples in the MOC."""
    columns, rows = grid.naxis
    offsets = (np.arange(count) + 0.5) / count - 0.5
    x = (np.arange(columns)[:, None] + offsets).ravel()
    y = (np.arange(rows)[:, None] + offsets).ravel()
    x, y = (part.ravel() for part in np.meshgrid(x, y, indexing="ij"))
    inside = held(moc, grid.pixel_to_sky(x, y)).reshape(columns, count, rows, count)
    return np.stack(np.nonzero(inside.sum(axis=(1, 3)) >= least))


def edges(moc: Moc, count: int = 3000) -> Floats:
    """Points along the sides of its cells, and their middles."""
    parts = []
    way = np.linspace(0.0, 1.0, count)  # corners included, the last one too
    ways = [(way, 0.0 * way), (way, 0.0 * way + 1.0), (0.0 * way, way), (0.0 * way + 1.0, way)]
    for order, first, stop in moc.runs():
        cells = np.concatenate([np.arange(a, b) for a, b in zip(first, stop, strict=True)])
        face, column, row = (part[:, None] for part in squares(cells, order))
        for x, y in [*ways, (np.array([0.5]), np.array([0.5]))]:
            place = (column + x) * 0.5**order, (row + y) * 0.5**order
            faces = np.broadcast_to(face, place[0].shape)
            parts.append(vectors_at(faces.ravel(), place[0].ravel(), place[1].ravel()))
    return np.concatenate(parts, axis=1)


def crossings(grid: SkyGrid, moc: Moc, count: int = 300, levels: int = 3) -> Floats:
    """Where sides of its cells enter and leave the image, in pixels, shape (2, N).

    For images that are smooth for as far as the sides come near them. Stretches of sides that
    may cross the border are cut finer until they are as good as straight.
    """
    found = [np.empty((2, 0))]
    for order, first, stop in moc.runs():
        cells = np.concatenate([np.arange(a, b) for a, b in zip(first, stop, strict=True)])
        for side in range(4):
            cell = np.repeat(cells, count)
            start = np.tile(np.arange(count) / count, cells.size)
            step = 1.0 / count
            for _ in range(levels):
                one, other = (_on_sides(grid, cell, order, side, start + at) for at in (0.0, step))
                near = _may_cross(grid, one, other)
                parts = np.arange(32) * (step / 32)
                cell = np.repeat(cell[near], 32)
                start = (start[near, None] + parts).ravel()
                step /= 32
            one, other = one[:, near], other[:, near]
            enters, leaves = _within(grid, one, other, 0.0)
            for at in (enters, leaves):
                which = (enters <= leaves) & (at > 0.0) & (at < 1.0)
                found.append((one + at * (other - one))[:, which])
    return np.concatenate(found, axis=1)


def _on_sides(grid: SkyGrid, cells: NDArray[np.int64], order: int, side: int, at: Floats) -> Floats:
    """Pixel coordinates of points along one side of each cell, *at* from 0 to 1; NaN off it."""
    if not cells.size:  # wcslib takes none for an error
        return np.empty((2, 0))
    face, column, row = squares(cells, order)
    x, y = ((at, 0.0 * at), (at, 0.0 * at + 1.0), (0.0 * at, at), (0.0 * at + 1.0, at))[side]
    points = vectors_at(face, (column + x) * 0.5**order, (row + y) * 0.5**order)
    places = np.stack(grid.sky_to_pixel(points))
    places[:, ~(np.abs(places) < 1e9).all(axis=0)] = np.nan
    return places


def _may_cross(grid: SkyGrid, one: Floats, other: Floats) -> NDArray[np.bool_]:
    """Whether stretches may cross the border, for all that they may bend aside."""
    aside = 0.1 * np.sqrt(((other - one) ** 2).sum(axis=0)) + 1e-9
    enters, leaves = _within(grid, one, other, aside)
    first, last = _within(grid, one, other, -aside)
    crosses: NDArray[np.bool_] = (enters <= leaves) & ~((first == 0.0) & (last == 1.0))
    crosses |= np.isnan(one[0]) != np.isnan(other[0])
    return crosses


def _within(
    grid: SkyGrid, one: Floats, other: Floats, more: Floats | float
) -> tuple[Floats, Floats]:
    """Where straight ways enter and leave the image with as many pixels more around it.

    As parts of the way, 0 to 1; what never enters it leaves before.
    """
    enters, leaves = np.zeros(one.shape[1]), np.ones(one.shape[1])
    for axis, length in enumerate(grid.naxis):
        way = other[axis] - one[axis]
        with np.errstate(divide="ignore", invalid="ignore"):
            low = (-0.5 - more - one[axis]) / way
            high = (length - 0.5 + more - one[axis]) / way
        enters = np.maximum(enters, np.minimum(low, high))
        leaves = np.minimum(leaves, np.maximum(low, high))
    return enters, leaves


def followed(grid: SkyGrid, moc: Moc) -> Floats:
    """Where the edges run, in pixels of the image, shape (2, N)."""
    points = edges(moc)
    x, y = grid.sky_to_pixel(points)
    with np.errstate(invalid="ignore"):
        on = (x > -0.5) & (y > -0.5) & (x < grid.naxis[0] - 0.5) & (y < grid.naxis[1] - 0.5)
        x, y = x[on], y[on]
        if not x.size:  # wcslib takes none for an error
            return np.empty((2, 0))
        there = grid.pixel_to_sky(x, y)
        missed = ((there - points[:, on]) ** 2).sum(axis=0)
        true = np.zeros(x.size, dtype=bool)
        # At a limb the map is defined on one side only.
        for aside, up in ((0.01, 0.0), (-0.01, 0.0), (0.0, 0.01), (0.0, -0.01)):
            beside = grid.pixel_to_sky(x + aside, y + up)
            true |= missed < ((beside - there) ** 2).sum(axis=0)
    return np.stack([x[true], y[true]])


def check(grid: SkyGrid, moc: Moc, box: PixelBox | None, *, is_smooth: bool) -> None:
    """At a limb or a seam, slivers thinner than samples tell may be overlooked."""
    told = format_moc(moc)
    pixels = sampled(grid, moc, least=1 if is_smooth else 4)
    if box is None:
        assert not pixels.size, told
        return
    low, high = np.array(box.lower)[:, None], np.array(box.upper)[:, None]
    assert ((pixels >= low) & (pixels < high)).all(), told
    places = followed(grid, moc)
    if is_smooth:
        # Those that are a hundredth of a pixel inside a pixel.
        nearest = np.floor(places + 0.5)
        deep = np.abs(places - nearest).max(axis=0, initial=0.0) < 0.49
        assert ((nearest >= low) & (nearest < high))[:, deep].all(), told
    # Where the image ends, the outermost point is that at which an edge leaves it.
    ends = crossings(grid, moc) if is_smooth else np.empty((2, 0))
    seen = np.concatenate([sampled(grid, moc, least=1).astype(float), places, ends], axis=1)
    for axis in (0, 1):
        across = (seen[1 - axis] > box.lower[1 - axis] - 0.6) & (
            seen[1 - axis] < box.upper[1 - axis] - 0.4
        )
        slack = 1e-3 if is_smooth else 0.1
        assert seen[axis, across].min() < box.lower[axis] + 0.5 + slack, (told, box)
        assert seen[axis, across].max() > box.upper[axis] - 1.5 - slack, (told, box)


@pytest.mark.parametrize("name", FOLLOWED)
@settings(max_examples=6)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_box_holds_every_pixel_that_a_moc_meets_and_no_more(name: str, seed: int) -> None:
    grid = grid_of(name)
    moc = random_moc(np.random.default_rng(seed), grid)
    check(grid, moc, boxed(name, moc), is_smooth=name in SMOOTH)


@pytest.mark.parametrize("name", GRIDS)
def test_the_whole_sky_is_the_whole_image_and_no_cells_are_nothing(name: str) -> None:
    grid, index = grid_of(name), index_of(name)
    assert boxed(name, ALL_SKY) == box_around(Circle(0.0, 0.0, 180.0), grid, index)
    assert boxed(name, parse_moc("29/")) is None


@pytest.mark.parametrize("name", SMOOTH)
def test_cells_elsewhere_are_nothing(name: str) -> None:
    opposite = -grid_of(name).pixel_to_sky(np.array([0.0]), np.array([0.0]))
    assert boxed(name, cell_around(opposite, 4)) is None


@pytest.mark.parametrize("name", SMOOTH)
def test_a_cell_finer_than_a_pixel_is_in_the_pixel_that_holds_it(name: str) -> None:
    grid = grid_of(name)
    rng = np.random.default_rng(3)
    for _ in range(10):
        x, y = (int(rng.integers(length)) for length in grid.naxis)
        at = grid.pixel_to_sky(
            np.array([x + rng.uniform(-0.3, 0.3)]), np.array([y + rng.uniform(-0.3, 0.3)])
        )
        if name == "tiny pixels":  # of which a cell of the finest order holds some
            continue
        assert boxed(name, cell_around(at, MAX_ORDER)) == PixelBox((x, y), (x + 1, y + 1))


def test_cells_apart_are_in_one_box() -> None:
    grid = grid_of("tan turned")
    near = grid.pixel_to_sky(np.array([3.0, 50.0]), np.array([37.0, 5.0]))
    moc = joined(cell_around(near[:, :1], MAX_ORDER), cell_around(near[:, 1:], MAX_ORDER))
    assert boxed("tan turned", moc) == PixelBox((3, 5), (51, 38))


def test_cells_over_a_pole() -> None:
    """The four that meet there, against the image that holds it."""
    grid = grid_of("tan with the pole")
    x, y = grid.sky_to_pixel(np.array([[0.0], [0.0], [1.0]]))
    for order in (5, 9, 12, 14, 20):
        moc = parse_moc(" ".join(f"{order}/{face * 4**order + 4**order - 1}" for face in range(4)))
        box = boxed("tan with the pole", moc)
        assert box is not None
        assert box.lower[0] <= round(x[0]) < box.upper[0]
        assert box.lower[1] <= round(y[0]) < box.upper[1]
        check(grid, moc, box, is_smooth=True)


def test_an_image_within_a_cell_and_one_cut_by_its_edge() -> None:
    grid = grid_of("tan swapped")
    centre = grid.pixel_to_sky(np.array([18.0]), np.array([29.0]))
    assert boxed("tan swapped", cell_around(centre, 1)) == PixelBox((0, 0), (37, 58))
    for order in range(2, 12):
        moc = cell_around(centre, order)
        check(grid, moc, boxed("tan swapped", moc), is_smooth=True)


def test_what_touches_a_pixel_by_less_than_counts_is_not_in_the_box() -> None:
    """Pixels that are cells: a HEALPix image of the sky between the caps, 45 degrees turned."""
    order, size = 6, 24
    grid = CellGrid(order, size)
    index = SkyIndex.of(grid)
    for low, high in (((3, 5), (9, 8)), ((0, 0), (24, 24)), ((7, 7), (8, 8))):
        moc = grid.moc(low, high)
        assert box_around(moc, grid, index) == PixelBox(low, high)


class CellGrid:
    """An image whose pixels are the cells of one order in a corner of a face."""

    plane = None
    distortion = None

    def __init__(self, order: int, size: int) -> None:
        self.naxis = (size, size)
        self._order = order

    def pixel_to_sky(self, x: Floats, y: Floats) -> Floats:
        """See `SkyGrid`."""
        side = 0.5**self._order
        return vectors_at(
            np.full(x.shape, 5), (x + 20.5) * side, (y + 30.5) * side
        )  # far enough from the sides of the face

    def sky_to_pixel(self, vectors: Floats) -> tuple[Floats, Floats]:
        """See `SkyGrid`."""
        face, x, y = places_of(vectors)
        side = 0.5**self._order
        there = face == 5
        return (
            np.where(there, x / side - 20.5, np.nan),
            np.where(there, y / side - 30.5, np.nan),
        )

    def moc(self, low: tuple[int, int], high: tuple[int, int]) -> Moc:
        """The cells that are the pixels of a box."""
        column, row = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
        cells = numbers(np.full(column.size, 5), column.ravel() + 20, row.ravel() + 30, self._order)
        return Moc.of(cells, cells + 1, self._order)


def cell_around(vectors: Floats, order: int) -> Moc:
    cells = cells_at(vectors) >> (2 * (MAX_ORDER - order))
    return Moc.of(cells, cells + 1, order)


def joined(*mocs: Moc) -> Moc:
    starts, ends = np.concatenate([moc.ranges for moc in mocs], axis=1)
    return Moc.of(starts, ends, MAX_ORDER)


def test_a_moc_is_never_quick() -> None:
    grid, index = grid_of("tan turned"), index_of("tan turned")
    assert box_around_quickly(ALL_SKY, grid, index) is NOT_QUICK


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_margin_bounds_the_distance_from_the_edge(seed: int) -> None:
    """And is at least an eighth of it, near the edge."""
    rng = np.random.default_rng(seed)
    grid = grid_of(list(GRIDS)[int(rng.integers(len(GRIDS)))])
    moc = random_moc(rng, grid)
    region = region_of(moc)
    centre = vector_of(bounding_cap(moc))
    spread = rng.normal(size=(3, 400)) * region.radius * 10.0 ** rng.uniform(-3, 0.3, 400)
    points = np.asarray(centre)[:, None] + spread
    points /= np.linalg.norm(points, axis=0)
    margin = region.margin(points)
    np.testing.assert_array_equal(margin > 0, held(moc, points))
    rim = edges(moc, 600)
    apart = np.array([
        2.0 * np.arcsin(np.minimum(np.linalg.norm(rim - point[:, None], axis=0).min() / 2, 1.0))
        for point in points.T
    ])  # fmt: skip
    # Sides within the MOC are no edge of it: inside, the distance may be larger than from a side.
    step = np.linalg.norm(np.diff(rim[:, :600], axis=1), axis=0).max()
    outside = margin < 0
    assert (-margin[outside] <= apart[outside] + 1e-15).all()
    assert (-margin[outside] >= (apart[outside] - 3 * step) / 8).all()
    assert (margin[~outside] >= 0).all()


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_deep_inside_is_far_from_what_is_outside(seed: int) -> None:
    """No point within the margin is on the other side."""
    rng = np.random.default_rng(seed)
    grid = grid_of(list(GRIDS)[int(rng.integers(len(GRIDS)))])
    moc = random_moc(rng, grid)
    region = region_of(moc)
    rim = edges(moc, 20)
    points = rim[:, rng.integers(0, rim.shape[1], 60)] + rng.normal(size=(3, 60)) * (
        region.radius * 10.0 ** rng.uniform(-4, -1, 60)
    )
    points /= np.linalg.norm(points, axis=0)
    inside, margin = held(moc, points), region.margin(points)
    for number in range(points.shape[1]):
        way = rng.normal(size=(3, 400))
        way -= (way * points[:, [number]]).sum(axis=0) * points[:, [number]]
        way /= np.linalg.norm(way, axis=0)
        reach = abs(margin[number]) * np.sqrt(rng.random(400)) * (1 - 1e-9)
        near = points[:, [number]] * np.cos(reach) + way * np.sin(reach)
        assert (held(moc, near) == inside[number]).all(), (format_moc(moc), points[:, number])


def test_nan_is_nowhere() -> None:
    vectors = np.array([[np.nan, 1.0], [np.nan, 0.0], [np.nan, 0.0]])
    moc = parse_moc("0/4")
    assert contains(moc, vectors).tolist() == [False, True]
    assert np.isnan(region_of(moc).margin(vectors)).tolist() == [True, False]


@pytest.mark.parametrize("text", ["3/10-12 5/45", "29/345876451382054092", "0/0-11", "0/0 8", "7/"])
def test_the_cap_holds_the_moc(text: str) -> None:
    moc = parse_moc(text)
    cap = bounding_cap(moc)
    assert 0.0 <= cap.radius <= 180.0
    if moc.cell_count:
        assert contains(cap, edges(moc, 50)).all()


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_outlines_that_meet_a_moc(seed: int) -> None:
    """Large and small triangles, against dense samples of both."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=3)
    centre /= np.linalg.norm(centre)
    size = 10.0 ** rng.uniform(-7, -0.5)
    order = int(np.clip(round(-np.log2(size)) + rng.integers(-4, 4), 0, 26))
    near = centre + rng.normal(size=3) * 1.5 * size
    moc = cell_around((near / np.linalg.norm(near))[:, None], order)
    corners = centre[:, None] + rng.normal(size=(3, 3)) * size
    corners /= np.linalg.norm(corners, axis=0)
    triangle = Polygon(tuple(zip(*(part.tolist() for part in lon_lat(corners)), strict=True)))
    (met,) = region_of(moc).meets(Outlines.of([triangle]))
    weights = rng.dirichlet([0.4, 0.4, 0.4], 20_000).T
    within = corners @ weights
    seen = bool(held(moc, within / np.linalg.norm(within, axis=0)).any())
    seen = seen or bool(contains(triangle, edges(moc, 4000)).any())
    assert bool(met) or not seen, (format_moc(moc), triangle)
    if met and not seen:
        gap = -region_of(triangle).margin(edges(moc, 4000)).max()
        assert gap < 2e-3 * max(size, 0.5**order), (format_moc(moc), triangle)


def vector_of(cap: Circle) -> Floats:
    return unit_vectors(cap.lon, cap.lat)[:, 0]
