"""The cells that polygons touch, gathered in memory that does not grow with their number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from .arcs import Outlines
from .healpix import CELL_RADIUS, cell_count, squares, vectors_at
from .moc import Moc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .shapes import Polygon

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Whole = NDArray[np.int64]
    Indices = NDArray[np.intp]

_CLOSER: Final = 2
"""Orders beyond that of the map at which cells are held against polygons: a cell is counted in
where a polygon comes as near as a quarter of its size, and never left out where one touches it."""

_MAX_PAIRS: Final = 1 << 15
"""Pairs of a polygon and a cell that are looked at together."""
_MAX_ARCS: Final = 1 << 18
"""Pairs of an arc and a cell that are."""

_SLACK: Final = 1e-12
"""Radians, above every rounding."""


class MocBuilder:
    """A map of all cells of one order: a byte for each, 12 MB at order 10."""

    def __init__(self, order: int) -> None:
        self._order = order
        self._covered = np.zeros(cell_count(order), dtype=np.bool_)

    def add_moc(self, moc: Moc) -> None:
        """Cover what *moc* does, which is of no finer order."""
        for order, first, stop in moc.runs():
            block = 1 << (2 * (self._order - order))
            for low, high in zip(first.tolist(), stop.tolist(), strict=True):
                self._covered[low * block : high * block] = True

    def add(self, polygons: Sequence[Polygon]) -> None:
        """Cover every cell that one of *polygons* touches."""
        if not polygons:
            return
        outlines = Outlines.of(polygons)
        which = np.repeat(np.arange(len(outlines)), 12)
        cells = np.tile(np.arange(12, dtype=np.int64), len(outlines))
        waiting = [(0, which, cells)]
        while waiting:
            order, which, cells = waiting.pop()
            if which.size > _MAX_PAIRS:
                half = which.size // 2
                waiting.append((order, which[half:], cells[half:]))
                waiting.append((order, which[:half], cells[:half]))
                continue
            which, cells = self._touching(outlines, order, which, cells)
            if order == self._order + _CLOSER:
                self._covered[cells >> (2 * _CLOSER)] = True
            elif which.size:
                quarters = (cells[:, None] << 2) + np.arange(4)
                waiting.append((order + 1, np.repeat(which, 4), quarters.ravel()))

    def moc(self, *, most_cells: int) -> Moc:
        """What is covered, at a coarser order where it would have more cells than that."""
        order = self._order
        covered: Bools = self._covered
        while True:
            bounds = np.concatenate([[False], covered, [False]])
            edges = np.flatnonzero(bounds[1:] != bounds[:-1])
            moc = Moc.of(edges[::2], edges[1::2], order)
            if order == 0 or moc.cell_count <= most_cells:
                return moc
            order -= 1
            covered = np.logical_or.reduce(covered.reshape(-1, 4), axis=1)

    def _touching(
        self, outlines: Outlines, order: int, which: Indices, cells: Whole
    ) -> tuple[Indices, Whole]:
        """Pairs that need a closer look: those that may touch, and are not covered already."""
        face, column, row = squares(cells, order)
        side = float(2.0**-order)
        x, y = (np.multiply(one + 0.5, side, dtype=np.float64) for one in (column, row))
        centres = vectors_at(face, x, y)
        reach = CELL_RADIUS * side + _SLACK
        apart = centres - outlines.axes[:, which]
        far = 2.0 * np.sin(np.minimum(outlines.radii[which] + reach, np.pi) / 2.0) + _SLACK
        near: Bools = np.sqrt((apart * apart).sum(axis=0)) <= far
        near[near] = ~self._is_covered(cells[near], order)
        which, cells, centres = which[near], cells[near], centres[:, near]
        # A cell that is large beside a polygon is not worth measuring.
        small = np.flatnonzero(reach < 2.0 * outlines.radii[which])
        touch = np.ones(which.size, dtype=np.bool_)
        whole = np.zeros(which.size, dtype=np.bool_)
        for some in _in_pieces(small, outlines.counts[which[small]]):
            held, distance = outlines.held_and_distance(which[some], centres[:, some])
            touch[some] = held | (distance <= reach)
            whole[some] = held & (distance > reach)
        self._cover(cells[whole], order)
        left = touch & ~whole
        return which[left], cells[left]

    def _is_covered(self, cells: Whole, order: int) -> Bools:
        """Whether each cell is covered; of cells much coarser than the map that is not asked."""
        if order >= self._order:
            fine: Bools = self._covered[cells >> (2 * (order - self._order))]
            return fine
        block = 1 << (2 * (self._order - order))
        if block > 64:
            return np.zeros(cells.size, dtype=np.bool_)
        blocks = self._covered.reshape(-1, block)[cells]
        covered: Bools = np.logical_and.reduce(blocks, axis=1)
        return covered

    def _cover(self, cells: Whole, order: int) -> None:
        if order >= self._order:
            self._covered[cells >> (2 * (order - self._order))] = True
        else:
            self._covered.reshape(-1, 1 << (2 * (self._order - order)))[cells] = True


def _in_pieces(indices: Indices, costs: Indices) -> list[Indices]:
    """The indices in pieces whose costs are bounded, as far as that of each one is."""
    if not indices.size:
        return []
    piece = np.cumsum(costs) // _MAX_ARCS
    return np.split(indices, np.flatnonzero(np.diff(piece)) + 1)
