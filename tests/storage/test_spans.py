"""Spans: the ranges that are asked for hold what is wanted, and little else where that can be."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from soda_service.storage.runs import RunGrid
from soda_service.storage.spans import WASTE, Span, Spread, blocks, joined, pieces

GAP = 256 * 1024

GRIDS = st.builds(
    lambda length, rows, gap, planes, more, start: RunGrid(
        start, length, (planes, rows), (rows * (length + gap) + more, length + gap)
    ),
    st.integers(1, 5000),
    st.integers(1, 40),
    st.integers(0, 5000),
    st.integers(1, 4),
    st.integers(0, 9000),
    st.integers(0, 3000),
)


class TestJoined:
    """Runs become ranges."""

    @given(GRIDS, st.integers(0, 9000))
    def test_every_run_lies_in_one_range(self, grid: RunGrid, gap: int) -> None:
        """Ranges ascend, do not touch, and begin and end with a run."""
        starts = grid.starts()
        spans = joined(starts, grid.length, gap=gap)
        assert all(one.stop < two.start for one, two in pairwise(spans))
        holding = [
            [one for one in spans if one.start <= start and start + grid.length <= one.stop]
            for start in starts.tolist()
        ]
        assert all(len(found) == 1 for found in holding)
        assert {one.start for one in spans} <= set(starts.tolist())
        assert {one.stop for one in spans} <= set((starts + grid.length).tolist())

    @given(GRIDS, st.integers(0, 9000))
    def test_two_ranges_where_they_are_enough(self, grid: RunGrid, gap: int) -> None:
        """Wherever any two ranges hold at most 1.2 times what is wanted, there are no more."""
        starts, length = grid.starts(), grid.length
        spans = joined(starts, length, gap=gap)
        ends = starts + length
        totals = [int(ends[-1] - starts[0])] + [
            int(ends[at] - starts[0] + ends[-1] - starts[at + 1]) for at in range(len(starts) - 1)
        ]
        if min(totals) <= WASTE * grid.size:
            assert len(spans) <= 2
            assert sum(one.stop - one.start for one in spans) <= WASTE * grid.size

    def test_near_runs_are_one_range(self) -> None:
        """200 x 200 pixels out of rows of 40 kB: one request for 8 MB, not 200 for 160 kB."""
        grid = RunGrid(2880, 800, (200,), (40_000,), 4)
        assert joined(grid.starts(), 800, gap=GAP) == [Span(2880, grid.end)]

    def test_far_runs_are_ranges_of_their_own(self) -> None:
        """Rows of 400 kB: what is between them costs more than to ask again."""
        grid = RunGrid(2880, 800, (200,), (400_000,), 4)
        assert len(joined(grid.starts(), 800, gap=GAP)) == 200

    def test_planes_of_a_cube(self) -> None:
        """Rows of a plane are joined, planes are not."""
        grid = RunGrid(0, 800, (10, 200), (64_000_000, 8_000), 4)
        spans = joined(grid.starts(), 800, gap=GAP)
        assert spans == [Span(at * 64_000_000, at * 64_000_000 + 1_592_800) for at in range(10)]


class TestTakenApart:
    """Ranges become pieces and blocks."""

    @given(st.integers(0, 500), st.integers(1, 500), st.integers(1, 40), st.integers(1, 5))
    def test_nothing_is_lost(self, start: int, length: int, grain: int, grains: int) -> None:
        """Pieces follow each other, none is too long, and all inner edges are multiples."""
        span = Span(start, start + length)
        for taken, most in (
            (pieces([span], most=grain * grains, grain=grain), grain * grains),
            (blocks(span, grain), grain),
        ):
            assert [one.start for one in taken[1:]] == [one.stop for one in taken[:-1]]
            assert (taken[0].start, taken[-1].stop) == span
            assert all(0 < one.stop - one.start <= most for one in taken)
            assert all(one.stop % grain == 0 for one in taken[:-1])


class TestSpread:
    """What came goes where it belongs."""

    @given(GRIDS, st.randoms(use_true_random=False), st.integers(1, 20_000))
    def test_in_any_order_and_of_any_size(self, grid: RunGrid, random: object, size: int) -> None:
        """Parts that begin and end within runs too."""
        content = np.random.default_rng(1).bytes(grid.end)
        target = bytearray(grid.size)
        spread = Spread(grid.starts(), grid.length, memoryview(target))
        parts = blocks(Span(grid.start, grid.end), size)
        random.shuffle(parts)  # type: ignore[attr-defined] # hypothesis gives a Random
        for part in parts:
            spread.put(part.start, memoryview(content)[part.start : part.stop])
        starts = grid.starts().tolist()
        assert target == b"".join(content[at : at + grid.length] for at in starts)

    def test_what_nobody_wants_is_left_out(self) -> None:
        """Parts before, behind and between the runs change nothing."""
        target = bytearray(4)
        spread = Spread(np.array([10, 20]), 2, memoryview(target))
        for start in (0, 12, 22):
            spread.put(start, memoryview(b"xxxxxxxx"))
        assert target == bytes(4)

    def test_a_target_of_another_size_is_a_bug(self) -> None:
        """The runs must fill it."""
        with pytest.raises(ValueError, match="reshape"):
            Spread(np.array([0]), 3, memoryview(bytearray(4)))
