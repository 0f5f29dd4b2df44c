"""Frames: boxes that are asked for in pixels, and may reach out of the image.

Pixels are counted as in a `PixelBox`: 0-based, half-open, axes in FITS order.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from operator import lt
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from .arcs import TOUCH
from .boxsearch import BoxSearch
from .moc import Moc
from .pixelbox import PixelBox, SteppedBox
from .skyindex import SkyIndex
from .skyregion import region_of
from .vectors import unit_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .pixelbox import SkyGrid
    from .shapes import Shape
    from .skyregion import SkyRegion

    Floats = NDArray[np.float64]

MOST_BEYOND: Final = 32_768
"""Pixels beyond the image that a shape is followed for."""

_FIRST_MARGIN: Final = 2_048
"""Pixels beyond the image that are looked at first."""

_EDGE_SAMPLES: Final = 1_025
"""Along each side of the widest grid."""

_STEP: Final = 1e-3
"""Pixels between the samples that tell how the map changes."""
_CONVERGED: Final = 1e-10
_ACCEPTED: Final = 1e-6
"""Pixels between a place and what the forward map says of it."""
_NEWTON_STEPS: Final = 8


class Stamp(NamedTuple):
    """A number of pixels around a position, the same wherever the position lies in its pixel."""

    lon: float
    """ICRS degrees, like `lat`."""
    lat: float
    naxis: tuple[int, int]
    """Pixels along the two celestial axes, in FITS order."""


class PixelSection(NamedTuple):
    """Pixels of an image by their numbers."""

    axes: tuple[tuple[int, int] | None, ...]
    """First pixel and one past the last of each axis; None is a whole axis, as are those left
    out at the end."""


@dataclass(slots=True, unsafe_hash=True)
class Frame(PixelBox):
    """A box that may reach out of its image: `lower` may be negative, `upper` too large.

    It is what an answer shows, never what is read: that is what `trimmed` gives.
    """

    def __post_init__(self) -> None:
        if len(self.lower) != len(self.upper) or not all(map(lt, self.lower, self.upper)):
            raise ValueError(f"an empty frame: {self.lower} to {self.upper}")

    def trimmed(self, naxis: tuple[int, ...]) -> PixelBox | None:
        """What an image of these axis lengths has of it; None where that is nothing."""
        lower = tuple([max(low, 0) for low in self.lower])
        upper = tuple(map(min, self.upper, naxis))
        return PixelBox(lower, upper) if all(map(lt, lower, upper)) else None


@dataclass(slots=True, unsafe_hash=True)
class SteppedFrame(SteppedBox, Frame):
    """A frame that has only every so-manyth pixel of one axis, and stays in its image there."""

    def __post_init__(self) -> None:
        Frame.__post_init__(self)
        self._refuse_uneven()

    @property
    def whole_box(self) -> Frame:
        """The frame without gaps."""
        return Frame(self.lower, self.upper)

    def trimmed(self, naxis: tuple[int, ...]) -> SteppedBox | None:
        """What an image of these axis lengths has of it; None where that is nothing."""
        held = Frame.trimmed(self, naxis)
        return None if held is None else SteppedBox(held.lower, held.upper, self.axis, self.step)


def frame_of_section(section: PixelSection, naxis: tuple[int, ...]) -> Frame:
    """The pixels of *section* in an image of these axis lengths; ValueError for too many axes."""
    given = section.axes
    if len(given) > len(naxis):
        raise ValueError(f"{len(given)} axes for an image of {len(naxis)}")
    whole = [(0, length) for length in naxis]
    limits = [one or other for one, other in zip(given, whole, strict=False)] + whole[len(given) :]
    return Frame(tuple([low for low, _ in limits]), tuple([high for _, high in limits]))


def frame_of_stamp(stamp: Stamp, place: tuple[float, float]) -> Frame:
    """The frame whose middle is nearest to *place*, the pixel coordinates of the stamp's position.

    An odd number of pixels has the position in the middle one; of two that are as near, the
    frame further up the axis is taken.
    """
    lower = tuple([floor(at - (n - 1) / 2 + 0.5) for at, n in zip(place, stamp.naxis, strict=True)])
    upper = tuple([low + n for low, n in zip(lower, stamp.naxis, strict=True)])
    return Frame(lower, upper)


def place_of(
    stamp: Stamp, grid: SkyGrid, *, near: tuple[float, float] | None = None
) -> tuple[float, float] | None:
    """The pixel coordinates of the stamp's position, as exact as the forward map is.

    It is looked for around *near*, or where the inverse map points; None where it is not found,
    which says nothing of other places.
    """
    wanted = unit_vectors(stamp.lon, stamp.lat)
    if near is None:
        x, y = grid.sky_to_pixel(wanted)
        near = float(x[0]), float(y[0])
    at = np.array(near)
    for _ in range(_NEWTON_STEPS):
        if not np.isfinite(at).all():
            return None
        offsets = np.array([[0, 1, -1, 0, 0], [0, 0, 0, 1, -1]]) * _STEP
        sky = grid.pixel_to_sky(*(at[:, None] + offsets))
        missed = wanted[:, 0] - sky[:, 0]
        slopes = np.stack([sky[:, 1] - sky[:, 2], sky[:, 3] - sky[:, 4]], axis=1) / (2 * _STEP)
        if not np.isfinite(slopes).all():
            return None
        squares = slopes.T @ slopes
        if np.linalg.det(squares) <= 0:
            return None
        step = np.linalg.solve(squares, slopes.T @ missed)
        at = at + step
        if np.abs(step).max() < _CONVERGED:
            break
    there = grid.pixel_to_sky(at[:1], at[1:])[:, 0]
    scale = np.sqrt(min(squares[0, 0], squares[1, 1]))
    if not np.linalg.norm(wanted[:, 0] - there) <= _ACCEPTED * scale:
        return None
    return float(at[0]), float(at[1])


def is_surely_inside(shape: Shape, box: PixelBox, naxis: tuple[int, int]) -> bool:
    """Whether *shape*, whose box in an image of these axis lengths this is, lies in it wholly.

    What is of one piece and meets no pixel of the edge does not get out.
    """
    if isinstance(shape, Moc):
        return False
    return is_within(box, naxis)


def frame_around(shape: Shape, grid: SkyGrid, index: SkyIndex) -> Frame | None:
    """The box of the pixels that *shape* would meet if the image went on; slow.

    Beyond its edges the map is what its formula says. *index* is the grid's own. None where the
    shape meets nothing, or goes on for more than `MOST_BEYOND` pixels. Raises UsageError where
    that is too hard to tell.
    """
    region = region_of(shape)
    # The finest pixels say most, and may be much finer than those beyond the edges.
    width = 2 * region.radius
    margin = min(_FIRST_MARGIN, ceil(width / index.finest) + 3) if index.finest else _FIRST_MARGIN
    while True:
        wider = _WiderGrid(grid, margin)
        search = BoxSearch(region, wider, stops_at_edge=True)
        search.look_where_the_inverse_points()
        if not search.is_at_edge:
            search.look_everywhere(SkyIndex.of(wider))
        if search.found is None:
            return None
        if not search.is_at_edge:
            lower, upper = search.found
            return Frame(
                (lower[0] - margin, lower[1] - margin), (upper[0] - margin, upper[1] - margin)
            )
        if margin == MOST_BEYOND or _goes_on(region, _WiderGrid(grid, MOST_BEYOND)):
            return None
        margin = min(4 * margin, MOST_BEYOND)


def _goes_on(region: SkyRegion, wider: _WiderGrid) -> bool:
    """Whether some sample of the edge of the widest grid lies in the region; many do not."""
    x, y = (np.linspace(-0.5, length - 0.5, _EDGE_SAMPLES) for length in wider.naxis)
    first = np.full(_EDGE_SAMPLES, -0.5)
    vectors = wider.pixel_to_sky(
        np.concatenate([x, x, first, first + wider.naxis[0]]),
        np.concatenate([first, first + wider.naxis[1], y, y]),
    )
    return bool((region.margin(vectors) > TOUCH).any())


def is_within(box: PixelBox, naxis: tuple[int, int]) -> bool:
    """Whether there is a pixel of the image between the box and every edge."""
    return min(box.lower) > 0 and all(map(lt, box.upper, naxis))


class _WiderGrid:
    """A grid that goes on for some pixels beyond the edges of another."""

    plane = None
    distortion = None

    def __init__(self, grid: SkyGrid, margin: int) -> None:
        self._grid = grid
        self.margin = margin
        width, height = grid.naxis
        self.naxis = width + 2 * margin, height + 2 * margin

    def pixel_to_sky(self, x: Floats, y: Floats) -> Floats:
        """See `SkyGrid`."""
        return self._grid.pixel_to_sky(x - self.margin, y - self.margin)

    def sky_to_pixel(self, vectors: Floats) -> tuple[Floats, Floats]:
        """See `SkyGrid`."""
        x, y = self._grid.sky_to_pixel(vectors)
        return x + self.margin, y + self.margin
