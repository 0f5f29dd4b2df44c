"""What samples of the map from pixels to the sky say of cells of an image.

A cell is *calm* where the map is defined at all samples and bends little from one to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .cells import Cells
    from .pixelbox import SkyGrid

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

_BENT: Final = 0.3
"""Change of a step from one sample to the next, against the step, that makes a cell wild."""


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """What samples of the map say of cells."""

    vectors: Floats
    """Shape (3, n, n, cells): samples in x, then in y, edges included; NaN where undefined."""
    x: Floats
    """Pixel coordinates of the samples, shape (n, cells)."""
    y: Floats
    centre: Floats
    reach: Floats
    """Radians; no point of a calm cell lies further from the centre."""
    bend: Floats
    """Radians by which a calm cell's map leaves the straight way between samples."""
    step: Floats
    """Radians; the shortest way from one sample to the next, along x or along y."""
    is_calm: Bools
    is_defined: Bools
    """Whether any sample is."""

    @classmethod
    def of(cls, grid: SkyGrid, cells: Cells, *, samples: int) -> Self:
        """Sample whole-pixel cells, edges included."""
        return cls.between(grid, *cells.edges, samples=samples)

    @classmethod
    def between(cls, grid: SkyGrid, lower: Floats, upper: Floats, *, samples: int) -> Self:
        """Sample cells given by their edges, shape (2, cells), in pixel coordinates."""
        return cls.of_samples(*sampled(grid, lower, upper, np.linspace(0.0, 1.0, samples)))

    @classmethod
    def of_samples(cls, vectors: Floats, x: Floats, y: Floats) -> Self:
        """What an odd number of samples on both axes, edges included, says; see `sampled`."""
        half = len(x) // 2
        centre = vectors[:, half, half, :]
        with np.errstate(invalid="ignore"):
            x_steps, y_steps = np.diff(vectors, axis=1), np.diff(vectors, axis=2)
            x_step, y_step = _largest(x_steps), _largest(y_steps)
            # Two turns in a row are compared: one sample would not see a bend within it.
            x_bend, y_bend = _largest(np.diff(x_steps, axis=1)), _largest(np.diff(y_steps, axis=2))
            extent = _largest(vectors - centre[:, None, None, :])
            bend = x_bend + y_bend
            # A chord is shorter than its arc, by a 24th of its cube; 2% hold for small cells.
            reach = 1.02 * extent * (1.0 + extent * extent / 20.0) + bend
            longest = np.maximum(x_step, y_step)
            defined = np.isfinite(vectors[0])
            calm = defined.all(axis=(0, 1)) & (bend <= _BENT * longest + 1e-14)
        return cls(
            vectors=vectors,
            x=x,
            y=y,
            centre=centre,
            reach=reach,
            bend=bend,
            step=np.minimum(_smallest(x_steps), _smallest(y_steps)),
            is_calm=calm,
            is_defined=defined.any(axis=(0, 1)),
        )

    def sideways_bend(self) -> Floats:
        """As `bend`, without what only keeps the way on the sphere."""
        level = []
        for axis, up in ((1, self.vectors[:, 1:-1]), (2, self.vectors[:, :, 1:-1])):
            bend = np.diff(self.vectors, n=2, axis=axis)
            level.append(_largest(bend - (bend * up).sum(axis=0) * up))
        return np.maximum(*level)

    def take(self, which: Bools | NDArray[np.intp]) -> Survey:
        """The survey of some of the cells."""
        return Survey(
            vectors=self.vectors[..., which],
            x=self.x[:, which],
            y=self.y[:, which],
            centre=self.centre[:, which],
            reach=self.reach[which],
            bend=self.bend[which],
            step=self.step[which],
            is_calm=self.is_calm[which],
            is_defined=self.is_defined[which],
        )


def sampled(
    grid: SkyGrid, lower: Floats, upper: Floats, ways: Floats
) -> tuple[Floats, Floats, Floats]:
    """Directions of samples of cells, and their pixel coordinates in x and in y.

    *ways* says where on both axes they lie, from 0 at the lower to 1 at the upper edge. The
    directions have the shape (3, n, n, cells): in x, then in y; the coordinates (n, cells).
    """
    x = lower[0] + ways[:, None] * (upper[0] - lower[0])
    y = lower[1] + ways[:, None] * (upper[1] - lower[1])
    shape = (ways.size, ways.size, x.shape[1])
    vectors = grid.pixel_to_sky(
        np.broadcast_to(x[:, None, :], shape).ravel(),
        np.broadcast_to(y[None, :, :], shape).ravel(),
    )
    return vectors.reshape(3, *shape), x, y


def chunks(count: int, size: int) -> Iterator[slice]:
    """Slices of *size* of so many things."""
    for first in range(0, count, size):
        yield slice(first, first + size)


def _largest(differences: Floats) -> Floats:
    """Largest length of the vectors of each cell."""
    lengths: Floats = np.sqrt((differences * differences).sum(axis=0).max(axis=(0, 1)))
    return lengths


def _smallest(differences: Floats) -> Floats:
    """Smallest length of the vectors of each cell."""
    lengths: Floats = np.sqrt((differences * differences).sum(axis=0).min(axis=(0, 1)))
    return lengths
