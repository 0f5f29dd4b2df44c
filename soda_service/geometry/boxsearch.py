"""The search for the smallest box of pixels that a shape meets.

The inverse map is a hint only: it points at pixels, which the forward map confirms. Whether there
are others is proved by the cells of a `SkyIndex`: those that the shape cannot reach are dropped,
those that lie within the box found so far need no look, and of the others what sticks out of it
is cut down to pixels. The outermost cells go first, and are cut down to pixels before the next
are looked at, so that little is held at any time and most cells need no look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from .cells import Cells, joined
from .effort import Effort
from .rectangles import Rectangles
from .survey import Survey, chunks
from .tornpixels import FRAME, TornPixels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .pixelbox import SkyGrid
    from .skyindex import SkyIndex
    from .skyregion import SkyRegion

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Whole = NDArray[np.int64]

_BATCH: Final = 256
"""Pixels, or cells, that are decided together."""
_RING: Final = np.array(
    [(x, y) for x in (-1, 1, 3, 5) for y in (-1, 1, 3, 5) if {x, y} & {-1, 5}], dtype=np.float64
).T / 4.0  # fmt: skip
"""Places around a cell, against its size."""
_POINTS: Final = 1_024
"""Pixels that are looked at for a shape too small to be found otherwise."""
_EXACT: Final = 1e-6
"""Part of a step by which the inverse map may be wrong just before a limb."""
_LARGE: Final = 1e-5
"""Pixels; what is larger is found in a pixel, if not in the frames between them."""


class BoxSearch:
    """The growing box of pixels that are known to meet a region."""

    def __init__(self, region: SkyRegion, grid: SkyGrid, *, stops_at_edge: bool = False) -> None:
        """With *stops_at_edge* it ends as soon as the box touches an edge of the image."""
        self._region = region
        self._grid = grid
        self._stops_at_edge = stops_at_edge
        self._effort = Effort(region)
        self._rectangles = Rectangles(region, grid, self._effort)
        self._low = np.array([2**62, 2**62])
        self._high = np.array([-1, -1])
        self._missed: list[Whole] = []

    @property
    def found(self) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """First pixel and one past the last, of both axes."""
        if self._high[0] < 0:
            return None
        (x1, y1), (x2, y2) = self._low.tolist(), (self._high + 1).tolist()
        return (x1, y1), (x2, y2)

    @property
    def is_at_edge(self) -> bool:
        """Whether the box touches an edge of the image."""
        last = np.array(self._grid.naxis) - 1
        return bool((self._low <= 0).any() or (self._high >= last).any())

    def look_where_the_inverse_points(self) -> None:
        """Start from pixels that hold points of the shape; the forward map confirms them."""
        points = self._region.points(64)
        if not points.shape[1]:
            return
        x, y = self._grid.sky_to_pixel(points)
        with np.errstate(invalid="ignore"):
            on = (x > -0.5) & (y > -0.5)
            on &= (x < self._grid.naxis[0] - 0.5) & (y < self._grid.naxis[1] - 0.5)
        x, y, points = x[on], y[on], points[:, on]
        if not x.size:
            return
        # Within a thousandth of a pixel on all sides the map must hold the point.
        offset = 1e-3
        pixels = np.floor(np.stack([x, y]) + 0.5)
        inside = np.abs(np.stack([x, y]) - pixels).max(axis=0) < 0.5 - 2 * offset
        there = self._grid.pixel_to_sky(x, y)
        x_step, y_step = self._steps(x, y, there, offset)
        with np.errstate(invalid="ignore"):
            error = _lengths(there - points)
            is_last = np.isnan(x_step) | np.isnan(y_step)
            near = error <= 0.5 * np.minimum(x_step, y_step)
        if is_last.any():
            # Just before a limb the map goes on towards the inside only, and the point must not
            # lie beyond.
            x, y, there = x[is_last], y[is_last], there[:, is_last]
            x_back, y_back = self._steps(x, y, there, -offset)
            step = np.minimum(np.fmin(x_step[is_last], x_back), np.fmin(y_step[is_last], y_back))
            with np.errstate(invalid="ignore"):
                near[is_last] = error[is_last] <= _EXACT * step
        self._add(pixels[:, inside & near].astype(np.int64))

    def _steps(self, x: Floats, y: Floats, there: Floats, offset: float) -> tuple[Floats, Floats]:
        """Radians from *there*, where the map has (x, y), to an offset along x and along y."""
        along_x = self._grid.pixel_to_sky(x + offset, y)
        along_y = self._grid.pixel_to_sky(x, y + offset)
        with np.errstate(invalid="ignore"):
            return _lengths(along_x - there), _lengths(along_y - there)

    def look_everywhere(self, index: SkyIndex) -> None:
        """Find every pixel that enlarges the box, and prove that there are no others.

        Raises UsageError where that takes more than a search may cost.
        """
        region = self._region
        near = index.near(region.axis, region.radius)
        self._effort.spend(near.size)
        margin = region.margin(index.centre[:, near])
        reach = index.reach[near]
        keep = margin >= -reach
        near, margin, reach = near[keep], margin[keep], reach[keep]
        inside = ~index.wild[near] & (margin > reach)
        cells = index.cells.take(near)
        self._add_whole(cells.take(inside))
        self._search_torn(self._search_cells(cells.take(~inside)))
        if self.found is None:
            self._decide_points()

    @property
    def _is_over(self) -> bool:
        return self._stops_at_edge and self.is_at_edge

    def _search_cells(self, cells: Cells) -> Whole:
        """Cut cells until all pixels are decided but those that are torn, which are returned."""
        pending = list(self._batches(cells))[::-1]
        torn: list[Whole] = [np.empty((2, 0), dtype=np.int64)]
        while pending and not self._is_over:
            batch = self._sticking_out(pending.pop())
            single = np.logical_and.reduce(batch.size == 1, axis=0)
            self._decide_pixels(batch.take(single).lower)
            parts = self._sticking_out(batch.take(~single).split(1))
            if not len(parts):
                continue
            self._effort.spend(9 * len(parts))
            survey = Survey.of(self._grid, parts, samples=3)
            calm = survey.is_calm
            empty = ~survey.is_defined
            if empty.any():
                empty[empty] = ~self._border_on_the_sky(parts.take(empty))
                parts, survey, calm = parts.take(~empty), survey.take(~empty), calm[~empty]
            single = np.logical_and.reduce(parts.size == 1, axis=0)
            torn.append(parts.lower[:, ~calm & single])
            undecided = self._undecided_of(parts.take(calm), survey.take(calm))
            parts = joined([*undecided, parts.take(~calm & ~single)])
            pending += list(self._batches(parts))[::-1]
        return np.concatenate(torn, axis=1)

    def _border_on_the_sky(self, cells: Cells) -> Bools:
        """Whether there is a map around cells in which no sample shows one.

        Then a limb may bulge into them between two samples of their edge.
        """
        lower, upper = cells.edges
        self._effort.spend(_RING.shape[1] * len(cells))
        x, y = (lower[:, :, None] + (upper - lower)[:, :, None] * _RING[:, None, :]).reshape(2, -1)
        vectors = self._grid.pixel_to_sky(x, y)
        found: Bools = np.isfinite(vectors[0]).reshape(len(cells), -1).any(axis=1)
        return found

    def _batches(self, cells: Cells) -> Iterator[Cells]:
        """The cells that stick out, some at a time, the outermost first."""
        cells = self._sticking_out(cells)
        order = self._outermost_first(cells.lower, cells.upper)
        for some in chunks(order.size, _BATCH):
            yield cells.take(order[some])

    def _undecided_of(self, cells: Cells, survey: Survey) -> Iterator[Cells]:
        """Those calm cells that may meet the region; what is certain enlarges the box."""
        order = self._outermost_first(cells.lower, cells.upper)
        for some in chunks(order.size, _BATCH):
            which = order[some]
            which = which[~self._is_inside(cells.lower[:, which], cells.upper[:, which])]
            if which.size:
                yield self._undecided(cells.take(which), survey.take(which))

    def _outermost_first(self, lower: Whole, upper: Whole) -> NDArray[np.intp]:
        excess = np.maximum(self._low[:, None] - lower, upper - 1 - self._high[:, None])
        return np.argsort(-excess.max(axis=0), kind="stable")

    def _undecided(self, cells: Cells, survey: Survey) -> Cells:
        """Those calm cells that may meet the region; what is certain enlarges the box."""
        count = len(cells)
        margin = self._region.margin(survey.vectors.reshape(3, -1)).reshape(3, 3, count)
        # So deep inside, a sample on the edge of its pixel has more than the frame in common.
        deep = margin > FRAME * survey.step
        i, j, which = np.nonzero(deep)
        at = np.floor(np.stack([survey.x[i, which], survey.y[j, which]]) + 0.5).astype(np.int64)
        self._add(np.clip(at, cells.lower[:, which], cells.upper[:, which] - 1))
        centre = margin[1, 1]
        self._add_whole(cells.take(centre > survey.reach))
        # Each quarter of the cell lies around its nearest sample with half the reach.
        half = 0.51 * survey.reach + survey.bend
        least_outside = np.maximum(-centre - survey.reach, -margin.max(axis=(0, 1)) - half)
        near = least_outside <= 0.0
        near &= ~self._is_inside(cells.lower, cells.upper)
        large = np.flatnonzero(near & (cells.size > 1).any(axis=0))
        if large.size and self._region.is_simple:
            some = cells.take(large)
            near[large] = self._rectangles.may_meet(*some.edges, survey.take(large))
        return cells.take(near)

    def _decide_pixels(self, pixels: Whole) -> None:
        """Decide single pixels, shape (2, N)."""
        if not pixels.shape[1]:
            return
        centre, half = pixels.astype(np.float64), 0.5 - FRAME
        self._add(pixels[:, self._rectangles.meet(centre - half, centre + half)])
        if self.found is None and len(self._missed) < _POINTS:
            self._missed.append(pixels)

    def _decide_points(self) -> None:
        """Find the pixel of a region so small that it lies in the frames between pixels."""
        if not self._missed:
            return
        pixels = np.concatenate(self._missed, axis=1)[:, :_POINTS]
        centre = pixels.astype(np.float64)
        survey = Survey.between(self._grid, centre - 0.5, centre + 0.5, samples=3)
        small: Bools = survey.step * _LARGE >= self._region.radius
        if small.any():
            centre, half = centre[:, small], 0.5 + 1e-9
            met = self._rectangles.meet(centre - half, centre + half)
            self._add(pixels[:, small][:, met])

    def _search_torn(self, pixels: Whole) -> None:
        """Decide pixels where the map is torn, bent or undefined, the outermost first."""
        torn = TornPixels(self._region, self._grid, self._rectangles, self._effort)
        pixels = pixels[:, self._outermost_first(pixels, pixels + 1)]
        doubtful: list[Whole] = [np.empty((2, 0), dtype=np.int64)]
        for some in chunks(pixels.shape[1], _BATCH):
            group = self._outer_pixels(pixels[:, some])
            if group.shape[1] and not self._is_over:
                met, may_meet = torn.look(group)
                self._add(group[:, met])
                doubtful.append(group[:, may_meet])
        waiting = self._outer_pixels(np.concatenate(doubtful, axis=1))
        while waiting.shape[1] and not self._is_over:
            group = waiting[:, : torn.group_size(waiting.shape[1])]
            self._add(group[:, torn.look_closely(group, waiting.shape[1])])
            waiting = self._outer_pixels(waiting[:, group.shape[1] :])

    def _outer_pixels(self, pixels: Whole) -> Whole:
        """Those pixels that are not in the box."""
        return pixels[:, ~self._is_inside(pixels, pixels + 1)]

    def _sticking_out(self, cells: Cells) -> Cells:
        """What sticks out of the box of cells, so far as it is a cell too."""
        low, end = self._low[:, None], self._high[:, None] + 1
        below, above = cells.lower < low, cells.upper > end
        out = below | above
        # Of a cell that lies within the box on one axis, what is in the box needs no look.
        one_way = ~out[::-1] & (below != above)
        lower = np.where(one_way & above, np.maximum(cells.lower, end), cells.lower)
        upper = np.where(one_way & below, np.minimum(cells.upper, low), cells.upper)
        sticks_out: Bools = np.logical_or.reduce(out, axis=0)
        return Cells(lower, upper, cells.size).take(sticks_out)

    def _is_inside(self, lower: Whole, upper: Whole) -> Bools:
        inside: Bools = np.logical_and.reduce(
            (lower >= self._low[:, None]) & (upper <= self._high[:, None] + 1), axis=0
        )
        return inside

    def _add(self, pixels: Whole) -> None:
        if pixels.shape[1]:
            self._low = np.minimum(self._low, pixels.min(axis=1))
            self._high = np.maximum(self._high, pixels.max(axis=1))

    def _add_whole(self, cells: Cells) -> None:
        self._add(cells.lower)
        self._add(cells.upper - 1)


def _lengths(vectors: Floats) -> Floats:
    lengths: Floats = np.sqrt((vectors * vectors).sum(axis=0))
    return lengths
