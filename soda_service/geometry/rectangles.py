"""Whether a region meets rectangles of an image: pixels, parts of them, cells of many.

A rectangle is decided by its outline on the sky, whose chords are taken so short that they leave
its edges by less than counts. That holds where the map is calm, as a `Survey` tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from .arcs import Outlines
from .survey import Survey, chunks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .effort import Effort
    from .pixelbox import SkyGrid
    from .skyregion import SkyRegion

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

_CHORDS: Final = (1, 4, 16, 64, 256)
"""Chords that stand for a side, taken until they leave it by less than counts."""
_TOGETHER: Final = 1 << 14
"""Vertices of outlines that are looked at together."""
_DEARNESS: Final = 3
"""How much longer it takes to compare a side with a region than a point, about."""
_ROUNDING: Final = 4e-15
"""Radians of a bend that may be rounding."""
_COUNTS: Final = 1e-7
"""Part of half a side by which chords may leave it."""
_BOUNDED: Final = 0.1
"""Part of half a side up to which what chords leave says how much larger ones hold the side."""
_FLAT: Final = 1e-4
"""Width against length of a rectangle on the sky whose sides are as good as one."""


class Rectangles:
    """A region and a grid, to ask of rectangles whether they meet.

    Rectangles are given by their edges, shape (2, N), in pixel coordinates.
    """

    def __init__(self, region: SkyRegion, grid: SkyGrid, effort: Effort) -> None:
        self._region = region
        self._grid = grid
        self._effort = effort

    def meet(self, lower: Floats, upper: Floats) -> Bools:
        """Whether the region has a point in common with each."""
        met = np.zeros(lower.shape[1], dtype=bool)
        open_ = np.arange(lower.shape[1])
        for parts in _CHORDS:
            survey = Survey.between(self._grid, lower[:, open_], upper[:, open_], samples=3)
            error, is_flat = _error(survey, parts)
            sure = error <= _COUNTS
            sure |= parts == _CHORDS[-1]
            inner = np.maximum(1.0 - np.where(sure, 0.0, error), 0.02)
            found, _ = self._meet(lower[:, open_], upper[:, open_], inner, parts)
            met[open_] = found
            unsure = ~sure & ~found
            if not unsure.any():
                break
            open_, error, is_flat = open_[unsure], error[unsure], is_flat[unsure]
            found, unknown = self._meet(lower[:, open_], upper[:, open_], _outer(error), parts)
            open_ = open_[found | unknown | is_flat | (error > _BOUNDED)]
            if not open_.size:
                break
        return met

    def may_meet(self, lower: Floats, upper: Floats, survey: Survey) -> Bools:
        """The same of large ones, whose *survey* has three samples; in doubt they do."""
        error, is_flat = _error(survey, _CHORDS[1])
        possible = is_flat | (error > _BOUNDED)
        some = np.flatnonzero(~possible)
        if some.size:
            met, unknown = self._meet(
                lower[:, some], upper[:, some], _COUNTS + _outer(error[some]), _CHORDS[1]
            )
            possible[some] = met | unknown
        return possible

    def _meet(self, lower: Floats, upper: Floats, scale: Floats, parts: int) -> tuple[Bools, Bools]:
        """Whether the region meets rectangles scaled about their middles.

        Each side in so many chords. Then which are not on the sky all around.
        """
        way = np.arange(parts) * (2.0 / parts) - 1.0
        side = np.ones(parts)
        x = np.concatenate([way, side, -way, -side])
        y = np.concatenate([-side, way, side, -way])
        centre, half = (lower + upper) / 2.0, (upper - lower) / 2.0 * scale
        met = np.empty(lower.shape[1], dtype=bool)
        unknown = np.empty(lower.shape[1], dtype=bool)
        for some in chunks(met.size, max(1, _TOGETHER // x.size)):
            self._effort.spend(_DEARNESS * met[some].size * x.size)
            vectors = self._grid.pixel_to_sky(
                (centre[0, some, None] + half[0, some, None] * x).ravel(),
                (centre[1, some, None] + half[1, some, None] * y).ravel(),
            )
            starts = np.arange(met[some].size, dtype=np.intp) * x.size
            met[some] = self._region.meets(Outlines(vectors, starts))
            unknown[some] = np.isnan(vectors[0]).reshape(-1, x.size).any(axis=1)
        return met, unknown


def _outer(error: Floats) -> Floats:
    """How much larger a rectangle must be for its chords to hold this one, where `_BOUNDED`.

    Its sides bend by the square of that, and more where the map bends more outside.
    """
    return 1.0 + 2.0 * np.minimum(error, _BOUNDED)


def _error(survey: Survey, parts: int) -> tuple[Floats, Bools]:
    """Part of half a side by which chords leave it at most, each side in so many.

    Then which rectangles are too flat for that to say how much larger ones hold them.
    """
    along_x = survey.vectors[:, -1, 1] - survey.vectors[:, 0, 1]
    along_y = survey.vectors[:, 1, -1] - survey.vectors[:, 1, 0]
    longest = np.sqrt(np.maximum((along_x**2).sum(axis=0), (along_y**2).sum(axis=0)))
    area = np.sqrt((np.cross(along_x, along_y, axis=0) ** 2).sum(axis=0))
    width = np.minimum(area / np.maximum(longest, 1e-300), 2.0 * survey.step)
    is_flat = ~(width > _FLAT * longest)
    # A chord leaves a parabola by half the second difference of its middle; a side that bends at
    # one end only, by twice as much there.
    bend = survey.sideways_bend() / (parts * parts)
    half = np.maximum(np.maximum(width, _FLAT * longest) / 2.0, 1e-300)
    return np.where(bend <= _ROUNDING, 0.0, bend / half), is_flat
