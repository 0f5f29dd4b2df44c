"""Pixel boxes.

Axes are in FITS order (axis 1 first); indices are 0-based and half-open; integer
coordinates are pixel centres, so pixel 0 covers [-0.5, 0.5]. `shape` and `slices` are the
only places where the order is turned round for numpy, and `section` the only place where
numbers become 1-based.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Self


@dataclass(frozen=True, slots=True)
class PixelBox:
    """A box of whole pixels in an image of any number of axes."""

    lower: tuple[int, ...]
    """First pixel of each axis."""
    upper: tuple[int, ...]
    """One past the last pixel of each axis."""

    def __post_init__(self) -> None:
        if len(self.lower) != len(self.upper):
            raise ValueError(f"axes differ: {self.lower} against {self.upper}")
        if any(low >= high or low < 0 for low, high in zip(self.lower, self.upper, strict=True)):
            raise ValueError(f"an empty or negative box: {self.lower} to {self.upper}")

    @classmethod
    def whole(cls, naxis: tuple[int, ...]) -> Self:
        """The box that holds every pixel of an image of these axis lengths."""
        return cls((0,) * len(naxis), naxis)

    @property
    def naxis(self) -> tuple[int, ...]:
        """Axis lengths in FITS order."""
        return tuple(high - low for low, high in zip(self.lower, self.upper, strict=True))

    @property
    def pixel_count(self) -> int:
        """Number of pixels."""
        return prod(self.naxis)

    @property
    def shape(self) -> tuple[int, ...]:
        """Axis lengths in numpy order."""
        return self.naxis[::-1]

    @property
    def slices(self) -> tuple[slice, ...]:
        """Indices in numpy order."""
        pairs = zip(self.lower, self.upper, strict=True)
        return tuple(slice(low, high) for low, high in pairs)[::-1]

    @property
    def section(self) -> str:
        """FITS section syntax, 1-based and closed: `[low:high,low:high]`."""
        pairs = zip(self.lower, self.upper, strict=True)
        return "[" + ",".join(f"{low + 1}:{high}" for low, high in pairs) + "]"

    def replaced(self, axis: int, lower: int, upper: int) -> Self:
        """The same box with other limits on one axis (0-based, FITS order)."""
        low, high = list(self.lower), list(self.upper)
        low[axis], high[axis] = lower, upper
        return type(self)(tuple(low), tuple(high))
