"""Which cells of an image are faithful: what they show is in one place of them, and of no other.

Where a distortion folds the image, some are not: two of its pixels show one direction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from .survey import sampled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .cells import Cells
    from .pixelbox import SkyGrid
    from .survey import Survey

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

_LEAST_AREA: Final = 0.2
"""Least area of a square between samples of a faithful cell, against its greatest. One that lies
a step beside a fold has a quarter, and none there has another sign."""
_BACK: Final = 0.1
"""Pixels from a sample to where the inverse map has it, if that is the same place."""
_SLIVER: Final = 1e-6
"""Pixels along an edge that may be elsewhere, too: the ends of a map of all longitudes are."""


def are_faithful(grid: SkyGrid, cells: Cells, survey: Survey) -> Bools:
    """Which of the calm cells are faithful.

    The map is one to one where the inverse map leads back, because that has one place for each
    direction. It is asked at nine samples of a cell; between them a calm map that has turned
    round would have had no area somewhere.
    """
    if _is_one_to_one(grid):
        return survey.is_calm
    which = np.flatnonzero(survey.is_calm)
    which = which[_keep_one_sign(_areas(survey.vectors[..., which]))]
    if which.size:
        places = survey.x[::2, which], survey.y[::2, which]
        back = _lead_back(grid, survey.vectors[:, ::2, ::2, which], *places)
        astray = np.flatnonzero(~back)
        if astray.size:
            lower, upper = cells.take(which[astray]).edges
            inner = sampled(grid, lower + _SLIVER, upper - _SLIVER, np.linspace(0.0, 1.0, 3))
            back[astray] = _lead_back(grid, *inner)
        which = which[back]
    faithful = np.zeros(len(cells), dtype=bool)
    faithful[which] = True
    return faithful


def _is_one_to_one(grid: SkyGrid) -> bool:
    """Whether no two pixels of the image show one direction, as far as is known of its kind."""
    if grid.plane is None:
        return False
    return grid.distortion is None or grid.distortion.slope < 1.0


def _areas(vectors: Floats) -> Floats:
    """Signed areas at the corners of all squares between the samples, shape (all, cells).

    Between four samples the map is nearly bilinear, whose area is least at one of the corners.
    """
    x_steps, y_steps = np.diff(vectors, axis=1), np.diff(vectors, axis=2)
    ends = slice(None, -1), slice(1, None)
    areas = [
        (vectors[:, i, j] * np.cross(x_steps[:, :, j], y_steps[:, i], axis=0)).sum(axis=0)
        for i in ends
        for j in ends
    ]
    squares = (vectors.shape[1] - 1) ** 2
    return np.stack(areas).reshape(len(areas) * squares, vectors.shape[-1])


def _keep_one_sign(areas: Floats) -> Bools:
    """Whether areas of a cell are of one sign, and none comes near zero; shape (all, cells)."""
    least, most = areas.min(axis=0), areas.max(axis=0)
    up, down = least > _LEAST_AREA * most, most < _LEAST_AREA * least
    one_sign: Bools = (up & (least > 0.0)) | (down & (most < 0.0))
    return one_sign


def _lead_back(grid: SkyGrid, vectors: Floats, x: Floats, y: Floats) -> Bools:
    """Whether the inverse map has all samples of a cell where they are; see `sampled`."""
    shape = vectors.shape[1:]
    back_x, back_y = (part.reshape(shape) for part in grid.sky_to_pixel(vectors.reshape(3, -1)))
    with np.errstate(invalid="ignore"):
        near = (np.abs(back_x - x[:, None]) <= _BACK) & (np.abs(back_y - y[None]) <= _BACK)
    found: Bools = np.logical_and.reduce(near, axis=(0, 1))
    return found
