"""The cells of an index, against every pixel of the image."""

from __future__ import annotations

import numpy as np
import pytest
from support.grids import GRIDS

from soda_service.geometry.skyindex import SkyIndex
from soda_service.geometry.sphere import unit_vector


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
