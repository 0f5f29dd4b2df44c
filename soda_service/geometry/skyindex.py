"""Where the pixels of an image lie on the sky, roughly and safely.

A `SkyIndex` cuts an image into cells of whole pixels and keeps for each a point of the sky and a
*reach*: no point of the cell lies further than that from the point. Cells where the map from
pixels to the sky is undefined somewhere, torn or strongly bent are cut again, and are *wild* where
that does not help: limbs, seams and poles of some projections. There nothing is taken for granted.
The others are *calm*; they are *faithful*, too, where what they show of the sky is in one place of
them and in no other faithful cell. A distortion that folds the image has cells that are not.

The work does not grow with the image: about a thousand cells, and at most `_MAX_WILD` wild ones.
The arrays are plain, so that a caller can keep them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, inf, pi, radians
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from .cells import Cells, joined
from .faithfulness import are_faithful
from .survey import Survey, chunks, sampled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .pixelbox import SkyGrid
    from .vectors import Vector

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Whole = NDArray[np.int64]

_ROOT_CELLS: Final = 40
_SMALLEST: Final = 4
"""Pixels along a cell that is cut no further."""
_MAX_WILD: Final = 40_000
_STRIDE: Final = 1 << 31
"""More cells than there are along an axis."""
_TOGETHER: Final = 2_048
"""Cells that are surveyed together: arrays of a megabyte."""
_CLOSER: Final = np.arange(-1, 10) / 8.0
"""Where closer samples lie along a cell: one beyond each edge."""
_WIDE: Final = radians(75.0)


@dataclass(frozen=True, slots=True, eq=False)
class SkyIndex:
    """The cells of an image, and where they lie."""

    cells: Cells
    centre: Floats
    """A point of each cell, shape (3, N)."""
    reach: Floats
    """Radians; for wild cells a guess on the safe side, up to pi."""
    wild: Bools
    faithful: int
    """How many cells are faithful; they come first, and other calm ones before the wild ones."""
    is_wide: bool
    """Whether the image may show more than a cap of 75 degrees."""
    farthest: float
    """The largest reach of a cell."""
    outer: Whole
    """Lower edges less a cell, then upper edges plus a cell with the sign turned, shape (4, N):
    a cell is further than its own size from a box where any of them exceeds the box's opposite."""
    finest: float
    """Radians of the shortest way across a pixel of a faithful cell; 0 where there is none."""

    @classmethod
    def of(cls, grid: SkyGrid) -> Self:
        """Build the index; some milliseconds, 30,000 evaluations of the map for a plain image."""
        cells = _roots(grid.naxis)
        seeds = _seeds(grid)
        faithful_parts: list[_Placed] = []
        calm_parts: list[_Placed] = []
        wild_parts: list[_Placed] = []
        while len(cells):
            placed = _Placed.of(grid, cells)
            faithful_parts.append(placed.take(placed.is_faithful))
            calm_parts.append(placed.take(placed.is_calm & ~placed.is_faithful))
            keep = ~placed.is_calm
            keep &= _near_defined(cells, placed.is_defined, grid.naxis) | _hold(cells, seeds)
            placed = placed.take(keep)
            final = np.logical_and.reduce(placed.cells.size <= _SMALLEST, axis=0)
            if 16 * np.count_nonzero(~final) > _MAX_WILD:
                final = np.ones(len(placed.cells), dtype=bool)
            wild_parts.append(_looked_at_closely(grid, placed.take(final)))
            cells = placed.cells.take(~final).split(_SMALLEST)
        faithful = sum(len(part.cells) for part in faithful_parts)
        calm = faithful + sum(len(part.cells) for part in calm_parts)
        parts = faithful_parts + calm_parts + wild_parts
        all_cells = joined([part.cells for part in parts])
        centre = np.concatenate([part.centre for part in parts], axis=1)
        reach = np.concatenate([part.reach for part in parts])
        finest = np.concatenate([part.finest for part in faithful_parts])
        return cls(
            cells=all_cells,
            centre=centre,
            reach=reach,
            outer=np.concatenate(
                [all_cells.lower - all_cells.size, -(all_cells.upper + all_cells.size)]
            ),
            faithful=faithful,
            is_wide=_are_wide(centre, reach),
            farthest=float(reach.max(initial=0.0)),
            finest=float(finest.min(initial=inf)) if faithful else 0.0,
            wild=np.arange(len(all_cells)) >= calm,
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        cells = self.cells
        arrays = (
            cells.lower, cells.upper, cells.size, self.centre, self.reach, self.wild, self.outer
        )  # fmt: skip
        return sum(array.nbytes for array in arrays)

    def near(self, axis: Vector, radius: float) -> NDArray[np.intp]:
        """Indices of the cells that a cap may meet."""
        close = self.roughly_near(axis, radius)
        cosines = np.array(axis) @ self.centre[:, close]
        far = np.cos(np.minimum(self.reach[close] + (radius + 1e-9), pi))
        return close[cosines >= far - 1e-15]

    def roughly_near(self, axis: Vector, radius: float) -> NDArray[np.intp]:
        """Indices of the cells that a cap could meet if all had the largest reach."""
        far = cos(min(radius + self.farthest + 1e-9, pi)) - 1e-15
        return (np.array(axis) @ self.centre >= far).nonzero()[0]


@dataclass(frozen=True, slots=True, eq=False)
class _Placed:
    """Cells and what the index keeps of their surveys, which take a hundred times the room."""

    cells: Cells
    centre: Floats
    reach: Floats
    finest: Floats
    """Radians of the shortest way across a pixel; says nothing of cells that are not calm."""
    is_calm: Bools
    is_faithful: Bools
    is_defined: Bools

    @classmethod
    def of(cls, grid: SkyGrid, cells: Cells) -> Self:
        """Survey *cells*, some at a time."""
        count = len(cells)
        placed = cls(
            cells=cells,
            centre=np.empty((3, count)),
            reach=np.empty(count),
            finest=np.empty(count),
            is_calm=np.empty(count, dtype=bool),
            is_faithful=np.empty(count, dtype=bool),
            is_defined=np.empty(count, dtype=bool),
        )
        widest = (cells.upper - cells.lower).max(axis=0)
        for some in chunks(count, _TOGETHER):
            survey = Survey.of(grid, cells.take(some), samples=5)
            centre, reach, rough = survey.centre, survey.reach, ~survey.is_calm
            if rough.any():
                centre = centre.copy()
                centre[:, rough], reach[rough] = _guess(survey.vectors[..., rough])
            placed.centre[:, some], placed.reach[some] = centre, reach
            placed.finest[some] = survey.step * 4.0 / widest[some]
            placed.is_calm[some] = survey.is_calm
            placed.is_faithful[some] = are_faithful(grid, cells.take(some), survey)
            placed.is_defined[some] = survey.is_defined
        return placed

    def take(self, which: Bools | NDArray[np.intp]) -> _Placed:
        """Some of the cells."""
        return _Placed(
            cells=self.cells.take(which),
            centre=self.centre[:, which],
            reach=self.reach[which],
            finest=self.finest[which],
            is_calm=self.is_calm[which],
            is_faithful=self.is_faithful[which],
            is_defined=self.is_defined[which],
        )


def _roots(naxis: tuple[int, int]) -> Cells:
    """The first cells: at most `_ROOT_CELLS` along an axis."""
    starts, sizes = [], []
    for length in naxis:
        size = _SMALLEST
        while size * _ROOT_CELLS < length:
            size *= 2
        starts.append(np.arange(0, length, size, dtype=np.int64))
        sizes.append(size)
    x, y = (part.ravel() for part in np.meshgrid(starts[0], starts[1], indexing="ij"))
    lower = np.stack([x, y])
    size_of = np.broadcast_to(np.array(sizes, dtype=np.int64)[:, None], lower.shape)
    upper = np.minimum(lower + size_of, np.array(naxis, dtype=np.int64)[:, None])
    return Cells(lower, upper, size_of.copy())


def _seeds(grid: SkyGrid) -> Whole:
    """Pixels, shape (2, N), that hold a thousand points of the whole sky, as the inverse map tells.

    So a small island of defined pixels in a large empty image is not overlooked.
    """
    count = 1000
    turn = np.arange(count) * (pi * (1.0 + 5.0**0.5))
    z = 1.0 - (2.0 * np.arange(count) + 1.0) / count
    across = np.sqrt(1.0 - z * z)
    x, y = grid.sky_to_pixel(np.stack([across * np.cos(turn), across * np.sin(turn), z]))
    with np.errstate(invalid="ignore"):
        on = (x > -0.5) & (x < grid.naxis[0] - 0.5) & (y > -0.5) & (y < grid.naxis[1] - 0.5)
    return np.floor(np.stack([x[on], y[on]]) + 0.5).astype(np.int64)


def _hold(cells: Cells, pixels: Whole) -> Bools:
    """Which of *cells*, which are of one size, hold any of *pixels*."""
    size = cells.size[:, :1]
    keys = [places[0] * _STRIDE + places[1] for places in (cells.lower // size, pixels // size)]
    return np.isin(keys[0], keys[1])


def _near_defined(cells: Cells, defined: Bools, naxis: tuple[int, int]) -> Bools:
    """Whether a cell, or one that touches it, is defined; cells of other sizes count as defined."""
    size = cells.size[:, 0]  # cells that are surveyed together have one size
    columns = cells.lower // size[:, None]
    limits = -(-np.array(naxis) // size)
    stride = int(limits[1]) + 2
    keys = (columns[0] + 1) * stride + columns[1] + 1
    empty = np.sort(keys[~defined])
    near = defined.copy()
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            x, y = columns[0] + i, columns[1] + j
            outside = (x < 0) | (y < 0) | (x >= limits[0]) | (y >= limits[1])
            place = np.searchsorted(empty, keys + i * stride + j)
            known = np.zeros(keys.size, dtype=bool)
            fits = place < empty.size
            known[fits] = empty[place[fits]] == (keys + i * stride + j)[fits]
            near |= ~(outside | known)
    return near


def _looked_at_closely(grid: SkyGrid, placed: _Placed) -> _Placed:
    """Wild cells without those in and around which closer samples find nothing either.

    What is around counts because a limb may bulge into a cell between two samples of its edge.
    Cells with so few samples that they may lie anywhere are looked at, too.
    """
    unknown = np.flatnonzero(placed.reach >= pi)
    kept = placed.is_defined.copy()
    for some in chunks(unknown.size, _TOGETHER // 4):
        which = unknown[some]
        vectors, _, _ = sampled(grid, *placed.cells.take(which).edges, _CLOSER)
        centre, reach = _guess(vectors)
        placed.centre[:, which], placed.reach[which] = centre, reach
        kept[which] = np.isfinite(vectors[0]).any(axis=(0, 1))
    return placed.take(kept)


def _are_wide(centre: Floats, reach: Floats) -> bool:
    """Whether cells do not fit into a cap of `_WIDE` about their middle."""
    middle = centre.sum(axis=1)
    length = float(np.sqrt(middle @ middle))
    if not length:
        return bool(reach.size)
    apart = np.arccos(np.clip(middle @ centre / length, -1.0, 1.0))
    return bool((apart + reach).max() > _WIDE)


def _guess(vectors: Floats) -> tuple[Floats, Floats]:
    """Centre and reach of wild cells by their samples, on the safe side; any without samples."""
    samples = vectors.reshape(3, -1, vectors.shape[-1])
    defined = np.isfinite(samples[0])
    filled = np.where(defined, samples, 0.0)
    centre = filled.sum(axis=1)
    centre /= np.maximum(np.sqrt((centre * centre).sum(axis=0)), 1e-300)
    filled -= centre[:, None, :]
    chord = np.sqrt(np.where(defined, (filled * filled).sum(axis=0), 0.0)).max(axis=0, initial=0.0)
    # At a limb the way from the last sample on is longer than the steps before, if no more than
    # three times so.
    steps = (np.diff(vectors, axis=axis) for axis in (1, 2))
    squares = [np.fmax.reduce((step * step).sum(axis=0), axis=(0, 1)) for step in steps]
    step = np.sqrt(np.fmax(np.fmax(*squares), 0.0))
    reach = np.minimum(3.0 * (2.0 * np.arcsin(np.minimum(chord / 2.0, 1.0)) + step), pi)
    # A step along x says nothing of the way along y, which a limb may draw out.
    is_known = np.isfinite(squares[0]) & np.isfinite(squares[1])
    return centre, np.where(is_known, reach, pi)
