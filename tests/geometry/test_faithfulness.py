"""The faithful cells of an index, against its pixels and where a distortion folds."""

from __future__ import annotations

import numpy as np
import pytest
from support.grids import GRIDS

from soda_service.geometry.skyindex import SkyIndex


@pytest.mark.parametrize("name", GRIDS)
def test_no_two_pixels_of_faithful_cells_show_one_direction(name: str) -> None:
    grid = GRIDS[name]()
    index = SkyIndex.of(grid)
    assert not index.wild[: index.faithful].any()
    is_faithful = np.zeros(grid.naxis, dtype=bool)
    for number in range(index.faithful):
        (x1, y1), (x2, y2) = index.cells.lower[:, number], index.cells.upper[:, number]
        is_faithful[x1:x2, y1:y2] = True
    x, y = (part.astype(float) for part in np.nonzero(is_faithful))
    there = grid.pixel_to_sky(x, y)
    beside = grid.pixel_to_sky(x + 1e-3, y), grid.pixel_to_sky(x, y + 1e-3)
    step = 1e3 * np.minimum(*(np.linalg.norm(one - there, axis=0) for one in beside))
    for number in range(x.size):
        apart = np.linalg.norm(there - there[:, number, None], axis=0)
        near = np.flatnonzero(apart < 0.6 * step[number])
        assert np.abs(x[near] - x[number]).max() < 4.0
        assert np.abs(y[near] - y[number]).max() < 4.0


def test_beside_a_fold_cells_are_not_faithful_and_far_from_it_they_are() -> None:
    grid = GRIDS["folded tan-sip"]()
    index = SkyIndex.of(grid)
    lower, upper = index.cells.edges
    fold = 30.0 - 1.0 - 0.5 / 0.02
    beside = (lower[0] <= fold + 0.5) & (upper[0] >= fold - 0.5)
    assert beside.any()
    assert (np.flatnonzero(beside) >= index.faithful).all()
    far = (lower[0] > fold + 10.0) & (upper[0] < fold + 40.0)
    assert far.any()
    assert (np.flatnonzero(far) < index.faithful).all()
