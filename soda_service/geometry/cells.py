"""Cells: parts of an image, of whole pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Cells of whole pixels; all arrays have one entry, or one column, for each cell."""

    lower: Whole
    """First pixel on both axes, shape (2, N)."""
    upper: Whole
    """One past the last pixel, shape (2, N)."""
    size: Whole
    """Pixels on both axes before the edge of the image cuts, shape (2, N); powers of two."""

    @property
    def edges(self) -> tuple[Floats, Floats]:
        """Lower and upper edges in pixel coordinates."""
        return self.lower.astype(np.float64) - 0.5, self.upper.astype(np.float64) - 0.5

    def take(self, which: Bools | NDArray[np.intp] | slice) -> Cells:
        """Some of the cells."""
        return Cells(self.lower[:, which], self.upper[:, which], self.size[:, which])

    def split(self, smallest: int) -> Cells:
        """The cells cut in four along each axis, or so far as *smallest* pixels allow."""
        size: Whole = np.maximum(np.minimum(self.size, smallest), self.size // 4)
        steps = np.array([(i, j) for j in range(4) for i in range(4)], dtype=np.int64).T
        lower: Whole = self.lower[:, :, None] + size[:, :, None] * steps[:, None, :]
        inside = (lower < self.upper[:, :, None]).all(axis=0)
        inside &= (steps[:, None, :] * size[:, :, None] < self.size[:, :, None]).all(axis=0)
        sizes = np.broadcast_to(size[:, :, None], lower.shape)[:, inside]
        uppers = np.broadcast_to(self.upper[:, :, None], lower.shape)[:, inside]
        lowers = lower[:, inside]
        return Cells(lowers, np.minimum(lowers + sizes, uppers), sizes)

    def __len__(self) -> int:
        return len(self.lower[0])


def joined(parts: list[Cells]) -> Cells:
    """All the cells of *parts*."""
    empty = np.empty((2, 0), dtype=np.int64)
    parts = [Cells(empty, empty, empty), *parts]
    return Cells(
        np.concatenate([part.lower for part in parts], axis=1),
        np.concatenate([part.upper for part in parts], axis=1),
        np.concatenate([part.size for part in parts], axis=1),
    )
