"""Which pixels a region meets where the map is torn, bent or partly undefined.

These are the pixels at limbs, seams and poles of some projections. They are cut into pieces, down
to a 4,096th of a pixel. A piece where the map is calm is decided exactly, like a pixel, unless
the region is a MOC; of the others samples are looked at, and the points of the limb, or of the
two sides of a tear, that lie between two samples.

The work is bounded: where very many pixels are in doubt at the same time, as along a limb that
the region follows on its other side, only the most promising pieces of each are cut again.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

import numpy as np

from .survey import Survey, chunks, sampled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .effort import Effort
    from .pixelbox import SkyGrid
    from .rectangles import Rectangles
    from .skyregion import SkyRegion

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Whole = NDArray[np.int64]
    Indices = NDArray[np.intp]

FRAME: Final = 1.5e-7
"""Pixels left out along the edge of a pixel: what a region has in common with no more than this
frame is below a millionth of the pixel, and may be rounding."""
_DEPTH: Final = 6
"""How often pieces are cut in four along each axis."""
_WAYS: Final = np.arange(-1, 6) / 4.0
"""Where samples lie along a piece: one is beyond each edge, for a limb may bulge into a piece
between two samples of its edge."""
_REACH: Final = 4.0
"""Usual steps between samples beyond which nothing is expected of a piece."""
_BEYOND: Final = 3.0
"""Steps that the map may go on for beyond the last sample before a limb."""
_BESIDE: Final = 3.0
"""Times that a piece may reach as far aside of the ways between samples as these lie apart."""
_STRAY: Final = 0.2
"""Part of a step by which such a way may stray from the straight."""
_SHORT: Final = 0.1
"""Radians; longer steps are not straight enough to go by."""
_JUMP: Final = 8.0
"""Usual steps that make a step the crossing of a tear."""
_HALVINGS: Final = 20
_TOGETHER: Final = 1_024
"""Pieces that are sampled together."""
_MOST_PIECES: Final = 768
"""Pieces of all pixels in hand that are cut again."""
_MOST_WORK: Final = 2_000_000
"""Samples that the pixels looked at closely share."""
_FEWEST: Final = 4
"""Pieces of a pixel that are cut again, however many pixels are in doubt."""
_WALKS: Final = 16
"""Pieces of a pixel from which points of the region are walked to."""
_STEP: Final = 1e-4
"""Pixels over which a slope of the map is taken."""
_NEWTON_STEPS: Final = 8
_REACHED: Final = 1e-6
"""Pixels between a point and the place that is its own."""


@dataclass(frozen=True, slots=True, eq=False)
class _Pieces:
    """Pieces of pixels; all arrays have one entry, or one column, for each."""

    lower: Floats
    upper: Floats
    pixel: Indices
    """Which of the pixels in hand it is a piece of."""
    promise: Floats
    """How deep inside the region the best sample is, in usual steps."""

    def take(self, which: Bools | Indices) -> _Pieces:
        return _Pieces(
            self.lower[:, which], self.upper[:, which], self.pixel[which], self.promise[which]
        )

    def quartered(self) -> _Pieces:
        """Each cut in four along each axis."""
        steps = np.array([(i, j) for j in range(4) for i in range(4)], dtype=np.float64).T
        size = (self.upper - self.lower) / 4.0
        lowers = self.lower[:, :, None] + size[:, :, None] * steps[:, None, :]
        uppers = self.lower[:, :, None] + size[:, :, None] * (steps + 1.0)[:, None, :]
        return _Pieces(
            lowers.reshape(2, -1),
            uppers.reshape(2, -1),
            np.repeat(self.pixel, 16),
            np.repeat(self.promise, 16),
        )

    def best(self, count: int) -> _Pieces:
        """The most promising of each pixel, at most so many."""
        order = np.lexsort((-self.promise, self.pixel))
        firsts = np.searchsorted(self.pixel[order], self.pixel[order])
        return self.take(order[np.arange(order.size) - firsts < count])

    def __len__(self) -> int:
        return self.pixel.size


class TornPixels:
    """A region and a grid, to ask of pixels whether they meet."""

    def __init__(
        self, region: SkyRegion, grid: SkyGrid, rectangles: Rectangles, effort: Effort
    ) -> None:
        self._region = region
        self._grid = grid
        self._rectangles = rectangles
        self._effort = effort
        self._most_work = int(_MOST_WORK / region.dearness)
        self._work = 0
        self._met = np.empty(0, dtype=bool)

    def look(self, pixels: Whole) -> tuple[Bools, Bools]:
        """Which pixels, shape (2, N), clearly meet the region, and which others may."""
        self._met = np.zeros(pixels.shape[1], dtype=bool)
        work = self._work
        left = self._looked_at(_pieces_of(pixels), see_limb=True)
        self._work = work
        doubtful = np.zeros(pixels.shape[1], dtype=bool)
        doubtful[left.pixel] = True
        return self._met, doubtful & ~self._met

    def look_closely(self, pixels: Whole, waiting: int) -> Bools:
        """Which pixels, shape (2, N) and at most `group_size`, meet the region.

        *waiting* is how many pixels share what work is left, these among them.
        """
        self._met = np.zeros(pixels.shape[1], dtype=bool)
        pieces = _pieces_of(pixels)
        if self._work > self._most_work:
            return self._met
        for depth in range(1, _DEPTH + 1):
            pieces = pieces.take(~self._met[pieces.pixel]).best(self._followed(waiting))
            if not len(pieces):
                break
            is_last = depth == _DEPTH
            pieces = self._looked_at(pieces.quartered(), see_limb=is_last)
        pieces = pieces.take(~self._met[pieces.pixel]).best(_WALKS)
        for some in chunks(len(pieces), _TOGETHER):
            self._walk_to_points(pieces.take(np.arange(len(pieces))[some]))
        return self._met

    def group_size(self, waiting: int) -> int:
        """How many of the pixels that wait are best looked at together."""
        return max(1, _TOGETHER // 4 // self._followed(waiting))

    def _followed(self, waiting: int) -> int:
        """Pieces of each pixel that are cut again."""
        left = max(self._most_work - self._work, 0) // max(waiting, 1)
        return min(_MOST_PIECES, max(_FEWEST, left // (_DEPTH * 16 * _WAYS.size**2)))

    def _looked_at(self, pieces: _Pieces, *, see_limb: bool) -> _Pieces:
        """Sample pieces; those that are neither decided nor clearly beside the region."""
        found = []
        for some in chunks(len(pieces), _TOGETHER):
            part = pieces.take(np.arange(len(pieces))[some])
            found.append(self._looked_at_together(part, see_limb=see_limb))
        return _Pieces(
            np.concatenate([np.empty((2, 0)), *[part.lower for part in found]], axis=1),
            np.concatenate([np.empty((2, 0)), *[part.upper for part in found]], axis=1),
            np.concatenate([np.empty(0, np.intp), *[part.pixel for part in found]]),
            np.concatenate([np.empty(0), *[part.promise for part in found]]),
        )

    def _looked_at_together(self, pieces: _Pieces, *, see_limb: bool) -> _Pieces:
        pieces = pieces.take(~self._met[pieces.pixel])
        if not len(pieces):
            return pieces
        around, x, y = sampled(self._grid, pieces.lower, pieces.upper, _WAYS)
        self._spend(around[0].size)
        near = np.isfinite(around[0]).any(axis=(0, 1))
        usual = _usual_step(around)
        near &= self._near_cap(around, usual)
        near[near] = self._comes_near(around[..., near]) | (usual[near] == 0.0)
        pieces, usual, around = pieces.take(near), usual[near], around[..., near]
        x, y = x[:, near], y[:, near]
        survey = Survey.of_samples(around[:, 1:-1, 1:-1], x[1:-1], y[1:-1])
        margin = self._margin(survey.vectors)
        deepest = margin.max(axis=(0, 1))
        self._found(pieces, deepest > 4.0 * FRAME * usual)
        # Each quarter of a calm piece lies around its nearest samples with a quarter of the reach.
        calm = survey.is_calm
        reach = np.where(calm, 0.26 * survey.reach + survey.bend, _REACH * usual)
        is_alone = usual == 0.0
        pieces.promise[:] = np.where(is_alone, -_REACH, deepest / np.maximum(usual, 1e-300))
        open_ = (is_alone | (deepest >= -reach)) & ~self._met[pieces.pixel]
        if self._region.is_simple:
            self._decide(pieces.take(calm & open_))
            open_ &= ~calm
        torn = np.flatnonzero(open_)
        if see_limb:
            self._see_limb(pieces, torn, survey, margin, usual)
        torn = torn[~self._met[pieces.pixel[torn]]]
        return pieces.take(torn)

    def _near_cap(self, vectors: Floats, usual: Floats) -> Bools:
        """Whether the samples of a piece say that it may reach into the cap around the region.

        A calm piece reaches no further than that beyond its samples, either.
        """
        chords = ((vectors - np.array(self._region.axis)[:, None, None, None]) ** 2).sum(axis=0)
        nearest = np.sqrt(np.where(np.isnan(chords), inf, chords).min(axis=(0, 1)))
        apart = 2.0 * np.arcsin(np.minimum(nearest / 2.0, 1.0))
        near: Bools = (apart <= self._region.radius + _REACH * usual + 1e-9) | (usual == 0.0)
        return near

    def _comes_near(self, vectors: Floats) -> Bools:
        """Whether the ways from sample to sample come near the cap around the region.

        At a singular limb, as opposite to the centre of ZEA, a pixel is drawn out on the sky, and
        what is not far by the length of its steps may be far from the strip that it covers.
        """
        axis = np.array(self._region.axis)[:, None, None, None]
        nearest = np.full(vectors.shape[-1], inf)
        beside = np.zeros(vectors.shape[-1])
        right, up = np.diff(vectors, axis=1), np.diff(vectors, axis=2)
        for number, steps in ((1, right), (2, up)):
            start, step = (np.moveaxis(one, number, 1) for one in (vectors, steps))
            here = start[:, :-1]
            length = (step * step).sum(axis=0)
            # Beyond the last sample the way goes on to the limb, at a square root's pace.
            is_end = np.isnan(start[0, 2:])
            is_start = np.isnan(start[0, :-2])
            along = ((axis - here) * step).sum(axis=0) / np.maximum(length, 1e-300)
            least, most = np.zeros(along.shape), np.ones(along.shape)
            least[1:][is_start] = -_BEYOND
            most[:-1][is_end] = 1.0 + _BEYOND
            missed = here + np.clip(along, least, most) * step - axis
            distances = np.sqrt((missed * missed).sum(axis=0))
            nearest = np.fmin(nearest, np.fmin.reduce(distances, axis=(0, 1)))
            # What a way bends aside between samples.
            bend, way = np.diff(step, axis=1), step[:, :-1] + step[:, 1:]
            square = np.maximum((way * way).sum(axis=0), 1e-300)
            bend = bend - (bend * way).sum(axis=0) / square * way
            aside = np.sqrt((bend * bend).sum(axis=0))
            beside = np.fmax(beside, np.fmax.reduce(aside, axis=(0, 1)))
        # The ways lie apart by the heights of the parallelograms between them.
        right, up = right[:, :, :-1], up[:, :-1]
        area = np.sqrt((np.cross(right, up, axis=0) ** 2).sum(axis=0))
        longest = np.sqrt(np.maximum((right * right).sum(axis=0), (up * up).sum(axis=0)))
        heights = np.fmax.reduce(area / np.maximum(longest, 1e-300), axis=(0, 1))
        apart = 2.0 * np.arcsin(np.minimum(nearest / 2.0, 1.0))
        way = np.fmax(np.fmax.reduce(longest, axis=(0, 1)), 0.0)
        slack = _BESIDE * (np.fmax(heights, 0.0) + beside) + _STRAY * way + 1e-9
        far: Bools = (apart > self._region.radius + slack) & (way < _SHORT)
        return ~far

    def _margin(self, vectors: Floats) -> Floats:
        """Margins of samples, shape (3, n, n, pieces), far below zero where there is no map."""
        flat = vectors.reshape(3, -1)
        known = np.isfinite(flat[0])
        margin = np.full(known.size, -inf)
        margin[known] = self._region.margin(flat[:, known])
        return margin.reshape(vectors.shape[1:])

    def _decide(self, pieces: _Pieces) -> None:
        """Decide calm pieces, the most promising first."""
        for some in chunks(len(pieces), _TOGETHER // 4):
            part = pieces.take(np.argsort(-pieces.promise, kind="stable")[some])
            part = part.take(~self._met[part.pixel])
            if len(part):
                self._work += 40 * len(part)
                self._found(part, self._rectangles.meet(part.lower, part.upper))

    def _see_limb(
        self, pieces: _Pieces, torn: Indices, survey: Survey, margin: Floats, usual: Floats
    ) -> None:
        """Go to the limb, or to a tear, between samples of pieces, and look there."""
        which, ends = _across(survey, margin, torn, usual)
        if not which.size:
            return
        for some in chunks(which.size, 4 * _TOGETHER):
            left = np.flatnonzero(~self._met[pieces.pixel[which[some]]]) + some.start
            if not left.size:
                continue
            self._spend(_HALVINGS * left.size)
            sides = self._closed_in(*ends[:, :, left])
            margins = np.stack([self._region.margin(side) for side in sides])
            deep: Bools = (margins > 4.0 * FRAME * usual[which[left]]).any(axis=0)
            self._found(pieces.take(which[left]), deep)

    def _closed_in(self, inner: Floats, outer: Floats) -> tuple[Floats, Floats]:
        """Directions on the two sides of where the map ends, or jumps, between places (2, N)."""
        here, there = self._grid.pixel_to_sky(*inner), self._grid.pixel_to_sky(*outer)
        for _ in range(_HALVINGS):
            middle = (inner + outer) / 2.0
            between = self._grid.pixel_to_sky(*middle)
            known, is_there = np.isfinite(between[0]), np.isfinite(there[0])
            with np.errstate(invalid="ignore"):
                nearer = ((between - here) ** 2).sum(axis=0) <= ((between - there) ** 2).sum(axis=0)
            is_inner = known & (nearer | ~is_there)
            inner, outer = np.where(is_inner, middle, inner), np.where(is_inner, outer, middle)
            here, there = np.where(is_inner, between, here), np.where(is_inner, there, between)
        return here, there

    def _walk_to_points(self, pieces: _Pieces) -> None:
        """Go from pieces of pixels to points of the region, which may be too small for samples.

        Newton's steps by the forward map; a pixel counts where they end in it, on the point.
        """
        points = self._region.points(16)
        place = (pieces.lower + pieces.upper) / 2.0
        here = self._grid.pixel_to_sky(*place)
        known: Bools = np.isfinite(here[0])
        if not points.shape[1] or not known.any():
            return
        self._spend(3 * _NEWTON_STEPS * len(pieces))
        pieces = pieces.take(known)
        place, here = place[:, known], here[:, known]
        pixel = np.floor(place + 0.5)
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
            left = np.sqrt(((wanted - here) ** 2).sum(axis=0))
            reached = left <= _REACHED * np.sqrt(np.minimum(xx, yy))
            reached &= (np.floor(place + 0.5) == pixel).all(axis=0)
        self._found(pieces, reached)

    def _found(self, pieces: _Pieces, which: Bools) -> None:
        self._met[pieces.pixel[which]] = True

    def _spend(self, samples: int) -> None:
        self._work += samples
        self._effort.spend(samples)


def _pieces_of(pixels: Whole) -> _Pieces:
    """Each pixel as one piece."""
    centre, count = pixels.astype(np.float64), pixels.shape[1]
    half = 0.5 - FRAME
    return _Pieces(centre - half, centre + half, np.arange(count), np.zeros(count))


def _usual_step(vectors: Floats) -> Floats:
    """The usual step from one sample to the next, along x or along y, whichever is longer.

    That is the median of each, for then it crosses no tear; 0 without steps.
    """
    usual = np.zeros(vectors.shape[-1])
    for axis in (1, 2):
        steps = np.diff(vectors, axis=axis).reshape(3, -1, usual.size)
        lengths = np.sqrt((steps * steps).sum(axis=0))
        known = np.isfinite(lengths)
        order = np.sort(np.where(known, lengths, inf), axis=0)
        middle = np.minimum(known.sum(axis=0) // 2, len(order) - 1)
        median = order[middle, np.arange(usual.size)]
        usual = np.maximum(usual, np.where(known.any(axis=0), median, 0.0))
    return usual


def _across(survey: Survey, margin: Floats, torn: Indices, usual: Floats) -> tuple[Indices, Floats]:
    """Neighbouring samples of *torn* pieces between which the map ends or jumps, near the region.

    Which piece each pair belongs to, and their places: of one on the sky, then of the other; shape
    (2, 2, pairs). The pairs deepest in the region come first.
    """
    vectors = survey.vectors[..., torn]
    shape = vectors.shape[1:]
    places = np.stack([
        np.broadcast_to(survey.x[:, None, torn], shape),
        np.broadcast_to(survey.y[None, :, torn], shape),
    ])  # fmt: skip
    depth = margin[..., torn]
    which, depths, ends = [], [], []
    for one, other in (
        (np.s_[..., :-1, :, :], np.s_[..., 1:, :, :]),
        (np.s_[..., :-1, :], np.s_[..., 1:, :]),
    ):
        here, there = np.isfinite(vectors[one][0]), np.isfinite(vectors[other][0])
        step = np.sqrt(((vectors[one] - vectors[other]) ** 2).sum(axis=0))
        deep = np.maximum(depth[one], depth[other])
        crossing = (here != there) | (step > _JUMP * usual[torn])
        crossing &= (deep >= -_REACH * usual[torn]) | (usual[torn] == 0.0)
        pair = np.stack([places[one], places[other]])
        which.append(np.broadcast_to(torn, crossing.shape)[crossing])
        depths.append(deep[crossing])
        ends.append(np.where(here, pair, pair[::-1])[..., crossing])
    order = np.argsort(-np.concatenate(depths), kind="stable")
    return np.concatenate(which)[order], np.concatenate(ends, axis=-1)[..., order]
