"""Pixel boxes.

Axes are in FITS order (axis 1 first); indices are 0-based and half-open; integer
coordinates are pixel centres, so pixel 0 covers [-0.5, 0.5]. `shape` and `slices` are the
only places where the order is turned round for numpy, and `section` the only place where
numbers become 1-based.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod
from operator import lt, sub
from typing import TYPE_CHECKING, Protocol, Self

from .boxsearch import BoxSearch
from .moc import Moc
from .quickbox import find_quickly
from .skyplane import NOT_QUICK, Quickness
from .skyregion import region_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from .shapes import Shape
    from .skyindex import SkyIndex
    from .skyplane import Distortion, SkyPlane

    Floats = NDArray[np.float64]

__all__ = [
    "NOT_QUICK",
    "PixelBox",
    "Quickness",
    "SkyGrid",
    "SteppedBox",
    "box_around",
    "box_around_quickly",
]


class SkyGrid(Protocol):
    """A map between the two celestial pixel axes of an image, in FITS order, and the sky.

    Vectors are ICRS unit vectors, shape (3, N).
    """

    @property
    def naxis(self) -> tuple[int, int]:
        """Lengths of the two axes."""

    @property
    def plane(self) -> SkyPlane | None:
        """The image as a plane, where it is gnomonic but for its `distortion`."""

    @property
    def distortion(self) -> Distortion | None:
        """What moves pixels before they are points of the plane, if anything does."""

    def pixel_to_sky(self, x: Floats, y: Floats) -> Floats:
        """The vectors of 0-based pixel coordinates; NaN where the map is undefined."""

    def sky_to_pixel(self, vectors: Floats) -> tuple[Floats, Floats]:
        """0-based pixel coordinates of vectors, NaN where undefined; a hint, never the judge."""


@dataclass(slots=True, unsafe_hash=True)
class PixelBox:
    """A box of whole pixels in an image of any number of axes; never changed once made.

    Not frozen, because that would make it three times dearer to make.
    """

    lower: tuple[int, ...]
    """First pixel of each axis."""
    upper: tuple[int, ...]
    """One past the last pixel of each axis."""

    def __post_init__(self) -> None:
        lower, upper = self.lower, self.upper
        if len(lower) == 2 == len(upper):
            # As most boxes have it, at a third of the price.
            (x, y), (end_x, end_y) = lower, upper
            if 0 <= x < end_x and 0 <= y < end_y:
                return
        if len(lower) != len(upper):
            raise ValueError(f"axes differ: {lower} against {upper}")
        if not all(map(lt, lower, upper)) or min(lower, default=0) < 0:
            raise ValueError(f"an empty or negative box: {lower} to {upper}")

    @classmethod
    def whole(cls, naxis: tuple[int, ...]) -> Self:
        """The box that holds every pixel of an image of these axis lengths."""
        return cls((0,) * len(naxis), naxis)

    @property
    def naxis(self) -> tuple[int, ...]:
        """Axis lengths in FITS order."""
        return tuple(map(sub, self.upper, self.lower))

    @property
    def pixel_count(self) -> int:
        """Number of pixels."""
        return prod(map(sub, self.upper, self.lower))

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
        lower, upper = self.lower, self.upper
        if len(lower) == 2:
            return f"[{lower[0] + 1}:{upper[0]},{lower[1] + 1}:{upper[1]}]"
        return (
            f"[{','.join([f'{low + 1}:{high}' for low, high in zip(lower, upper, strict=True)])}]"
        )

    def replaced(self, axis: int, lower: int, upper: int) -> Self:
        """The same box with other limits on one axis (0-based, FITS order)."""
        low, high = list(self.lower), list(self.upper)
        low[axis], high[axis] = lower, upper
        return type(self)(tuple(low), tuple(high))


@dataclass(slots=True, unsafe_hash=True)
class SteppedBox(PixelBox):
    """A box that has only every so-manyth pixel of one axis, its first and its last among them."""

    axis: int
    """0-based, in FITS order."""
    step: int

    def __post_init__(self) -> None:
        PixelBox.__post_init__(self)
        self._refuse_uneven()

    def _refuse_uneven(self) -> None:
        reach = self.upper[self.axis] - self.lower[self.axis] - 1
        if self.step < 1 or reach % self.step:
            raise ValueError(f"steps of {self.step} do not lead through {reach + 1} pixels")

    @property
    def whole_box(self) -> PixelBox:
        """The box without gaps."""
        return PixelBox(self.lower, self.upper)

    @property
    def naxis(self) -> tuple[int, ...]:
        """Axis lengths in FITS order."""
        reach = self.upper[self.axis] - self.lower[self.axis] - 1
        before, after = self.whole_box.naxis[: self.axis], self.whole_box.naxis[self.axis + 1 :]
        return (*before, reach // self.step + 1, *after)

    @property
    def pixel_count(self) -> int:
        """Number of pixels."""
        return prod(self.naxis)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Indices in numpy order."""
        slices = list(self.whole_box.slices)
        at = -1 - self.axis
        slices[at] = slice(slices[at].start, slices[at].stop, self.step)
        return tuple(slices)

    @property
    def section(self) -> str:
        """FITS section syntax with the step: `[low:high,low:high:step]`."""
        sections = self.whole_box.section[1:-1].split(",")
        sections[self.axis] += f":{self.step}"
        return f"[{','.join(sections)}]"

    def parts(self) -> Iterator[PixelBox]:
        """Boxes without gaps whose pixels, one box after another, are those of this one."""
        outer = [range(self.lower[self.axis], self.upper[self.axis], self.step)]
        later = slice(self.axis + 1, None)
        outer += map(range, self.lower[later], self.upper[later])
        kind = type(self.whole_box)
        for places in product(*reversed(outer)):
            low = places[::-1]
            yield kind(
                (*self.lower[: self.axis], *low),
                (*self.upper[: self.axis], *[one + 1 for one in low]),
            )


def box_around(shape: Shape, grid: SkyGrid, index: SkyIndex) -> PixelBox | None:
    """The smallest box of the image's pixels whose areas *shape* meets; None where it meets none.

    What is less than a millionth of a pixel does not count, except that a shape without area is
    in the pixel that holds it. *index* is the grid's own (`SkyIndex.of`).
    """
    search = BoxSearch(region_of(shape), grid)
    search.look_where_the_inverse_points()
    search.look_everywhere(index)
    return PixelBox(*search.found) if search.found else None


def box_around_quickly(
    shape: Shape, grid: SkyGrid, index: SkyIndex | None = None
) -> PixelBox | Quickness | None:
    """The answer of `box_around` in some tens of microseconds, or NOT_QUICK.

    It is given where the shape is no MOC and lies well inside the image, where the map is smooth,
    and no edge of the box is in doubt; and where the shape is clearly elsewhere (None). Without the
    grid's *index* there is a proof, and so an answer, only where the image is a plane.
    """
    if isinstance(shape, Moc):
        return NOT_QUICK
    found = find_quickly(shape, grid, index)
    return PixelBox(*found) if isinstance(found, tuple) else found
