"""The cells of an index, against every pixel of the image."""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.grids import GRIDS, CutGrid
from support.wcs import first_image

from soda_service.geometry.skyindex import SkyIndex
from soda_service.geometry.sphere import unit_vector

if TYPE_CHECKING:
    from soda_service.geometry.pixelbox import SkyGrid

WILD = (
    "sin whole hemisphere",
    "car all-sky",
    "car wider than the sky",
    "ait all-sky",
    "zea with both poles",
    "arc",
    "whole_zea",
)
"""Grids that have cells in which the map ends or is torn."""


def grid_of(name: str) -> SkyGrid:
    return GRIDS[name]() if name in GRIDS else first_image(name).grid()


def farthest(grid: SkyGrid, index: SkyIndex, number: int) -> float:
    """Radians from the centre of a cell to the farthest of many points of it; 0 without any."""
    lower, upper = index.cells.lower[:, number], index.cells.upper[:, number]
    x, y = np.meshgrid(*(
        np.linspace(low - 0.5, high - 0.5, 42) for low, high in zip(lower, upper, strict=True)
    ))  # fmt: skip
    vectors = grid.pixel_to_sky(x.ravel(), y.ravel())
    vectors = vectors[:, np.isfinite(vectors[0])]
    chords = np.sqrt(((vectors - index.centre[:, number, None]) ** 2).sum(axis=0))
    return float(2.0 * np.arcsin(np.minimum(chords.max(initial=0.0) / 2.0, 1.0)))


@pytest.mark.parametrize("name", GRIDS)
def test_every_defined_point_lies_in_a_cell_and_within_its_reach(name: str) -> None:
    grid = GRIDS[name]()
    index = SkyIndex.of(grid)
    seen = np.zeros(grid.naxis, dtype=int)
    for number in range(len(index.cells)):
        (x1, y1), (x2, y2) = index.cells.lower[:, number], index.cells.upper[:, number]
        seen[x1:x2, y1:y2] += 1
        if index.wild[number]:
            continue
        x, y = np.meshgrid(
            np.linspace(x1 - 0.5, x2 - 0.5, 23), np.linspace(y1 - 0.5, y2 - 0.5, 23), indexing="ij"
        )
        vectors = grid.pixel_to_sky(x.ravel(), y.ravel())
        assert np.isfinite(vectors).all()
        chords = np.sqrt(((vectors - index.centre[:, number, None]) ** 2).sum(axis=0))
        assert 2.0 * np.arcsin(chords.max() / 2.0) <= index.reach[number]
    assert seen.max() == 1
    x, y = np.meshgrid(*(np.arange(length, dtype=float) for length in grid.naxis), indexing="ij")
    defined = np.isfinite(grid.pixel_to_sky(x.ravel(), y.ravel())[0]).reshape(grid.naxis)
    assert (seen[defined] == 1).all()


@pytest.mark.parametrize("name", WILD)
def test_what_a_wild_cell_shows_lies_within_its_reach(name: str) -> None:
    grid = grid_of(name)
    index = SkyIndex.of(grid)
    wild = np.flatnonzero(index.wild)
    assert wild.size
    assert np.count_nonzero(index.reach[wild] >= pi) < wild.size / 2
    for number in wild.tolist():
        assert farthest(grid, index, number) <= index.reach[number]


@pytest.mark.parametrize("name", WILD)
def test_what_an_image_of_one_wild_pixel_shows_lies_within_the_reach_of_its_cell(name: str) -> None:
    """A limb that leaves only one edge of the pixel on the sky may draw it out the other way."""
    grid = grid_of(name)
    cells = SkyIndex.of(grid)
    seen = 0
    for number in np.flatnonzero(cells.wild).tolist():
        (x1, y1), (x2, y2) = cells.cells.lower[:, number], cells.cells.upper[:, number]
        for x, y in np.ndindex(x2 - x1, y2 - y1):
            pixel = CutGrid(grid, (int(x1 + x), int(y1 + y)), (1, 1))  # type: ignore[arg-type]  # any grid serves
            index = SkyIndex.of(pixel)
            if index.wild.any():
                seen += 1
                assert farthest(pixel, index, 0) <= index.reach[0], (x1 + x, y1 + y)
    assert seen > 20


@pytest.mark.parametrize("name", ["tan turned", "car all-sky", "ait all-sky"])
def test_no_calm_cell_within_a_cap_is_overlooked(name: str) -> None:
    grid = GRIDS[name]()
    index = SkyIndex.of(grid)
    rng = np.random.default_rng(5)
    calm = np.nonzero(~index.wild)[0]
    for number in rng.choice(calm, 20):
        (x1, y1), (x2, y2) = index.cells.lower[:, number], index.cells.upper[:, number]
        x, y = rng.uniform(x1 - 0.5, x2 - 0.5, 1), rng.uniform(y1 - 0.5, y2 - 0.5, 1)
        vector = grid.pixel_to_sky(x, y)[:, 0]
        assert number in index.near((float(vector[0]), float(vector[1]), float(vector[2])), 0.0)


def test_an_image_that_is_nowhere_on_the_sky_has_no_cells() -> None:
    grid = GRIDS["sin whole hemisphere"]()
    grid.wcs.wcs.crpix = [-400.0, -400.0]
    grid.wcs.wcs.set()
    index = SkyIndex.of(grid)
    assert len(index.cells) == 0
    assert index.near(unit_vector(0.0, 0.0), 3.0).size == 0
