"""Grids of runs: their bands are the same runs in the same order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from soda_service.storage.runs import RunGrid

if TYPE_CHECKING:
    from collections.abc import Iterator


@st.composite
def _grids(draw: st.DrawFn) -> RunGrid:
    itemsize = draw(st.sampled_from((1, 2, 4, 8)))
    length = itemsize * draw(st.integers(1, 12))
    counts, steps = [], []
    step = length
    for _ in range(draw(st.integers(0, 3))):
        step += itemsize * draw(st.integers(0, 5))
        counts.append(draw(st.integers(1, 6)))
        steps.append(step)
        step *= counts[-1]
    start = draw(st.integers(0, 50))
    return RunGrid(start, length, tuple(counts[::-1]), tuple(steps[::-1]), itemsize)


def _bytes(grid: RunGrid) -> list[int]:
    """Every byte number, the slow and obvious way."""

    def starts(start: int, level: int) -> Iterator[int]:
        if level == len(grid.counts):
            yield start
            return
        for number in range(grid.counts[level]):
            yield from starts(start + number * grid.steps[level], level + 1)

    return [byte for start in starts(grid.start, 0) for byte in range(start, start + grid.length)]


@settings(max_examples=200)
@given(_grids(), st.integers(1, 400), st.integers(1, 30))
def test_bands_hold_the_same_bytes_in_the_same_order(
    grid: RunGrid, band_bytes: int, most_runs: int
) -> None:
    """No byte is lost, doubled or moved, and no band is too large."""
    bands = list(grid.bands(band_bytes, most_runs=most_runs))
    assert [byte for band in bands for byte in _bytes(band)] == _bytes(grid)
    assert all(band.size <= max(band_bytes, grid.itemsize) for band in bands)
    assert all(len(band.starts()) <= most_runs for band in bands)
    assert all(band.size % grid.itemsize == 0 for band in bands)


@given(_grids().filter(lambda grid: len(grid.counts) < 2), st.data())
def test_split_keeps_every_byte(grid: RunGrid, data: st.DataObject) -> None:
    """The parts, one after another, are the whole, and the first has as many as was said."""
    at = data.draw(st.integers(0, grid.size))
    before, after = grid.split(at)
    every = [byte for part in before for byte in _bytes(part)]
    assert len(every) == at
    assert every + [byte for part in after for byte in _bytes(part)] == _bytes(grid)


@given(_grids())
def test_size_end_and_starts_agree_with_the_bytes(grid: RunGrid) -> None:
    """What is computed is what counting gives."""
    every = _bytes(grid)
    assert grid.size == len(every)
    assert grid.end == every[-1] + 1
    assert np.array_equal(grid.starts(), every[:: grid.length])


def test_bands_are_about_as_large_as_asked_for() -> None:
    """A cube of small planes is read in bands of many planes, not in one for each."""
    cube = RunGrid(0, 200, (1000, 50), (1_000_000, 4000), 4)
    sizes = [band.size for band in cube.bands(262_144, most_runs=100_000)]
    assert min(sizes) > 200_000


@pytest.mark.parametrize("band_bytes", [1000, 4096])
def test_a_long_run_is_taken_apart_between_pixels(band_bytes: int) -> None:
    """Rows longer than a band do not make the band longer."""
    row = RunGrid(7, 100_000, (3,), (200_000,), 8)
    assert all(
        band.size <= band_bytes and band.size % 8 == 0
        for band in row.bands(band_bytes, most_runs=10)
    )
