"""The search for the smallest box of pixels that a shape meets.

The inverse map is a hint only: it points at pixels, which the forward map confirms. Whether there
are others is proved by the cells of a `SkyIndex`: those that the shape cannot reach are dropped,
those that lie within the box found so far need no look, and the rest are cut down to pixels. A
single pixel is decided by its outline, whose chords are taken so short that they leave its edge by
less than counts.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

import numpy as np

from .arcs import Outlines
from .skyindex import Cells, Survey, joined

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .pixelbox import SkyGrid
    from .skyindex import SkyIndex
    from .skyregion import SkyRegion

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

_FRAME: Final = 1.5e-7
"""Pixels left out along the edge of a pixel: what a shape has in common with no more than this
frame is below a millionth of the pixel, and may be rounding."""
_CHORDS: Final = (1, 4, 16, 64, 256)
"""Chords that stand for a side of a pixel, taken until they leave it by less than counts."""
_STARTS: Final = 4096
"""Pieces of pixels from which points of the shape are walked to together."""
_STEP: Final = 1e-4
"""Pixels over which a slope of the map is taken."""
_NEWTON_STEPS: Final = 8
_REACHED: Final = 1e-6
"""Pixels between a point and the place that is its own."""
_BATCH: Final = 256
"""Pixels, or cells, that are decided together."""


class BoxSearch:
    """The growing box of pixels that are known to meet a region."""

    def __init__(self, region: SkyRegion, grid: SkyGrid) -> None:
        self._region = region
        self._grid = grid
        self._low = np.array([2**62, 2**62])
        self._high = np.array([-1, -1])

    @property
    def found(self) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """First pixel and one past the last, of both axes."""
        if self._high[0] < 0:
            return None
        (x1, y1), (x2, y2) = self._low.tolist(), (self._high + 1).tolist()
        return (x1, y1), (x2, y2)

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
        aside = self._grid.pixel_to_sky(x + offset, y), self._grid.pixel_to_sky(x, y + offset)
        with np.errstate(invalid="ignore"):
            error = _lengths(there - points)
            near = error <= 0.5 * np.minimum(*(_lengths(other - there) for other in aside))
        self._add(pixels[:, inside & near].astype(np.int64))

    def look_everywhere(self, index: SkyIndex) -> None:
        """Find every pixel that enlarges the box, and prove that there are no others."""
        region = self._region
        near = index.near(region.axis, region.radius)
        margin = region.margin(index.centre[:, near])
        reach = index.reach[near]
        keep = margin >= -reach
        near, margin, reach = near[keep], margin[keep], reach[keep]
        wild = index.wild[near]
        inside = ~wild & (margin > reach)
        cells = index.cells.take(near)
        self._add_whole(cells.take(inside))
        pixels, torn = self._search_cells(cells.take(~inside))
        self._decide_pixels(pixels)
        self._search_torn(torn)
        if self.found is None and len(pixels):
            self._decide_points(pixels)

    def _search_cells(self, cells: Cells) -> tuple[Cells, Cells]:
        """Cut cells until single pixels are left undecided: calm ones, and ones that are torn."""
        pixels: list[Cells] = []
        torn: list[Cells] = []
        cells = self._outside(cells)
        while len(cells):
            single = (cells.size == 1).all(axis=0)
            pixels.append(cells.take(single))
            parts = self._outside(cells.take(~single).split(1))
            if not len(parts):
                break
            survey = Survey.of(self._grid, parts, samples=3)
            calm = survey.is_calm
            single = (parts.size == 1).all(axis=0)
            torn.append(parts.take(~calm & single & survey.is_defined))
            uncalm = parts.take(~calm & ~single)
            undecided = self._undecided_of(parts.take(calm), survey.take(calm))
            cells = self._outside(joined([*undecided, uncalm]))
        return joined(pixels), joined(torn)

    def _undecided_of(self, cells: Cells, survey: Survey) -> Iterator[Cells]:
        """The same for many cells: the outermost first, so that most need no look."""
        while len(cells):
            order = self._outermost_first(cells)
            batch, rest = order[:_BATCH], order[_BATCH:]
            yield self._undecided(cells.take(batch), survey.take(batch))
            rest = rest[~self._is_inside(cells.lower[:, rest], cells.upper[:, rest])]
            cells, survey = cells.take(rest), survey.take(rest)

    def _outermost_first(self, cells: Cells) -> NDArray[np.intp]:
        excess = np.maximum(self._low[:, None] - cells.lower, cells.upper - 1 - self._high[:, None])
        return np.argsort(-excess.max(axis=0), kind="stable")

    def _undecided(self, cells: Cells, survey: Survey) -> Cells:
        """Those calm cells that may meet the region; what is certain enlarges the box."""
        count = len(cells)
        margin = self._region.margin(survey.vectors.reshape(3, -1)).reshape(3, 3, count)
        # A third of a millionth of a pixel lies around a point that is so deep inside.
        deep = margin > _FRAME * survey.step
        i, j, which = np.nonzero(deep)
        at = np.floor(np.stack([survey.x[i, which], survey.y[j, which]]) + 0.5).astype(np.int64)
        self._add(np.clip(at, cells.lower[:, which], cells.upper[:, which] - 1))
        centre = margin[1, 1]
        self._add_whole(cells.take(centre > survey.reach))
        # Each quarter of the cell lies around its nearest sample with half the reach.
        half = 0.51 * survey.reach + survey.bend
        least_outside = np.maximum(-centre - survey.reach, -margin.max(axis=(0, 1)) - half)
        return cells.take(least_outside <= 0.0)

    def _decide_pixels(self, pixels: Cells) -> None:
        """Decide single pixels, the outermost first, so that most need no look."""
        pixels = self._outside(pixels)
        while len(pixels):
            order = self._outermost_first(pixels)
            batch, rest = pixels.take(order[:_BATCH]), pixels.take(order[_BATCH:])
            self._add(batch.lower[:, self._meet(batch.lower.astype(np.float64))])
            pixels = self._outside(rest)

    def _meet(self, centre: Floats) -> Bools:
        """Whether the region meets each pixel, the frame of `_FRAME` left out."""
        met = np.zeros(centre.shape[1], dtype=bool)
        open_ = np.arange(centre.shape[1])
        half = 0.5 - _FRAME
        for parts in _CHORDS:
            some = centre[:, open_]
            survey = Survey.between(self._grid, some - 0.5, some + 0.5, samples=3)
            # A chord leaves a parabola by half the second difference of its middle; a side that
            # bends at one end only, by twice as much there.
            error = survey.sideways_bend() / (parts * parts)
            error = np.where(error <= 4e-15, 0.0, error / np.maximum(2.0 * survey.step, 1e-300))
            sure = error <= 5e-8
            sure |= parts == _CHORDS[-1]
            inner = self._meet_outlines(
                some, np.maximum(half - np.where(sure, 0.0, error), 0.01), parts
            )
            met[open_] = inner
            unsure = ~sure & ~inner
            if not unsure.any():
                break
            open_, some, error = open_[unsure], some[:, unsure], error[unsure]
            outer = self._meet_outlines(some, half + error, parts)
            open_ = open_[outer]
            if not open_.size:
                break
        return met

    def _meet_outlines(self, centre: Floats, half: Floats, parts: int) -> Bools:
        """Whether the region meets squares of these half sides, each side in so many chords."""
        way = np.arange(parts) * (2.0 / parts) - 1.0
        side = np.ones(parts)
        x = np.concatenate([way, side, -way, -side])
        y = np.concatenate([-side, way, side, -way])
        vectors = self._grid.pixel_to_sky(
            (centre[0][:, None] + half[:, None] * x).ravel(),
            (centre[1][:, None] + half[:, None] * y).ravel(),
        )
        starts = np.arange(centre.shape[1], dtype=np.intp) * (4 * parts)
        return self._region.meets(Outlines(vectors, starts))

    def _decide_points(self, pixels: Cells) -> None:
        """Find the pixel of a region so small that it lies in the frames between pixels."""
        centre = pixels.lower.astype(np.float64)
        survey = Survey.between(self._grid, centre - 0.5, centre + 0.5, samples=3)
        small = survey.step * 1e-5 >= self._region.radius
        if small.any():
            centre = centre[:, small]
            touched = self._meet_outlines(centre, np.full(centre.shape[1], 0.5 + 1e-9), 1)
            self._add(pixels.lower[:, small][:, touched])

    def _search_torn(self, pixels: Cells) -> None:
        """Look for pixels that meet the region where the map is torn, bent or undefined."""
        lower, upper = self._outside(pixels).edges
        for is_last in (False, False, True):
            # To a 64th of a pixel: samples are all that there is to go by.
            if not lower.shape[1]:
                return
            lower, upper = self._look_at(lower, upper)
            if not is_last:
                lower, upper = self._quartered(lower, upper)
        for at in range(0, lower.shape[1], _STARTS):
            some = slice(at, at + _STARTS)
            self._walk_to_points(lower[:, some], upper[:, some])

    def _walk_to_points(self, lower: Floats, upper: Floats) -> None:
        """Go from pieces of pixels to points of the shape, which may be too small for samples.

        Newton's steps by the forward map; a pixel counts where they end in it, on the point.
        """
        points = self._region.points(16)
        place = (lower + upper) / 2.0
        pixel = np.floor(place + 0.5)
        here = self._grid.pixel_to_sky(*place)
        known = np.isfinite(here).all(axis=0)
        if not points.shape[1] or not known.any():
            return
        place, pixel, here = place[:, known], pixel[:, known], here[:, known]
        wanted = points[:, np.argmax(points.T @ here, axis=0)]
        with np.errstate(all="ignore"):
            for _ in range(_NEWTON_STEPS):
                along_x = (self._grid.pixel_to_sky(place[0] + _STEP, place[1]) - here) / _STEP
                along_y = (self._grid.pixel_to_sky(place[0], place[1] + _STEP) - here) / _STEP
                xx, yy = (along_x**2).sum(axis=0), (along_y**2).sum(axis=0)
                xy = (along_x * along_y).sum(axis=0)
                missed = wanted - here
                x, y = (along_x * missed).sum(axis=0), (along_y * missed).sum(axis=0)
                step = np.stack([yy * x - xy * y, xx * y - xy * x]) / (xx * yy - xy * xy)
                place = place + np.clip(step, -0.25, 0.25)
                here = self._grid.pixel_to_sky(*place)
            reached = _lengths(wanted - here) <= _REACHED * np.sqrt(np.minimum(xx, yy))
            reached &= (np.floor(place + 0.5) == pixel).all(axis=0)
        self._add(pixel[:, reached].astype(np.int64))

    def _look_at(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Sample pieces of pixels; those that remain undecided."""
        survey = Survey.between(self._grid, lower, upper, samples=5)
        count, vectors = lower.shape[1], survey.vectors
        margin = self._region.margin(vectors.reshape(3, -1)).reshape(25, count)
        deepest = np.where(np.isnan(margin), -inf, margin).max(axis=0)
        pixel = np.floor((lower + upper) / 2 + 0.5).astype(np.int64)
        self._add(pixel[:, deepest > 0.0])
        steps = [np.diff(vectors, axis=axis).reshape(3, -1, count) for axis in (1, 2)]
        lengths = _lengths(np.concatenate(steps, axis=1))
        known = np.isfinite(lengths)
        # The median step is one that crosses no tear; four of them reach beyond the next sample.
        order = np.sort(np.where(known, lengths, inf), axis=0)
        typical = order[known.sum(axis=0) // 2, np.arange(count)]
        keep = (deepest >= -4.0 * typical) & survey.is_defined & ~self._is_inside(pixel, pixel + 1)
        return lower[:, keep], upper[:, keep]

    def _quartered(self, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
        steps = np.array([(i, j) for j in range(4) for i in range(4)], dtype=np.float64).T
        size = (upper - lower) / 4.0
        lowers = lower[:, :, None] + size[:, :, None] * steps[:, None, :]
        sizes = np.broadcast_to(size[:, :, None], lowers.shape)
        return lowers.reshape(2, -1), (lowers + sizes).reshape(2, -1)

    def _outside(self, cells: Cells) -> Cells:
        """Those cells that stick out of the box."""
        return cells.take(~self._is_inside(cells.lower, cells.upper))

    def _is_inside(self, lower: NDArray[np.int64], upper: NDArray[np.int64]) -> Bools:
        inside: Bools = np.logical_and.reduce(
            (lower >= self._low[:, None]) & (upper <= self._high[:, None] + 1), axis=0
        )
        return inside

    def _add(self, pixels: NDArray[np.int64]) -> None:
        if pixels.shape[1]:
            self._low = np.minimum(self._low, pixels.min(axis=1))
            self._high = np.maximum(self._high, pixels.max(axis=1))

    def _add_whole(self, cells: Cells) -> None:
        self._add(cells.lower)
        self._add(cells.upper - 1)


def _lengths(vectors: Floats) -> Floats:
    lengths: Floats = np.sqrt((vectors * vectors).sum(axis=0))
    return lengths
