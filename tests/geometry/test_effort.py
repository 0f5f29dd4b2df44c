"""What a search may cost, whatever the image and the shape."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from support.hostile import SPECIMENS
from support.wcs import first_image, image_of

from soda_service.errors import UsageError
from soda_service.geometry import effort
from soda_service.geometry.frames import frame_around
from soda_service.geometry.pixelbox import box_around
from soda_service.geometry.shapes import Circle, Polygon, Range
from soda_service.geometry.skyindex import SkyIndex

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from soda_service.geometry.pixelbox import SkyGrid
    from soda_service.geometry.shapes import Shape

    Floats = NDArray[np.float64]

MOST_BYTES = 40_000_000
"""At any time of a search, or while an index is made; a third of it is usual."""
BEYOND = 20_000


class WideGrid:
    """Another grid that goes on for many pixels on all sides."""

    plane = None
    distortion = None

    def __init__(self, grid: SkyGrid) -> None:
        self._grid = grid
        columns, rows = grid.naxis
        self.naxis = columns + 2 * BEYOND, rows + 2 * BEYOND

    def pixel_to_sky(self, x: Floats, y: Floats) -> Floats:
        """See `SkyGrid`."""
        return self._grid.pixel_to_sky(x - BEYOND, y - BEYOND)

    def sky_to_pixel(self, vectors: Floats) -> tuple[Floats, Floats]:
        """See `SkyGrid`."""
        x, y = self._grid.sky_to_pixel(vectors)
        return x + BEYOND, y + BEYOND


def hostile_grid(name: str) -> SkyGrid:
    return image_of(SPECIMENS[name].make()).grid()


def comb(lon: float, lat: float, size: float, teeth: int = 300) -> Polygon:
    """A polygon of many thin teeth."""
    step = 2 * size / teeth
    vertices = [(lon - size, lat - 2 * size), (lon - size, lat - size)]
    for tooth in range(teeth):
        west = lon - size + tooth * step
        vertices += [(west + step / 2, lat + size), (west + 0.99 * step, lat - size)]
    return Polygon((*vertices, (lon + size, lat - 2 * size)))


def peak_of(work: Callable[[], object]) -> int:
    """Most bytes in use meanwhile, numpy's among them; giving up is an answer, too."""
    tracemalloc.start()
    try:
        with suppress(UsageError):
            work()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize("name", [
    "absurd_tiny_cdelt", "absurd_huge_step", "absurd_sip", "absurd_map_of_one_column",
])  # fmt: skip
def test_no_map_makes_an_index_or_a_search_large(name: str) -> None:
    """Not one that is torn everywhere, nor one that shows the same again and again."""
    grid = WideGrid(hostile_grid(name))
    indices: list[SkyIndex] = []
    assert peak_of(lambda: indices.append(SkyIndex.of(grid))) < MOST_BYTES
    shapes: list[Shape] = [Circle(150.1, 2.2, 0.002), Range(120.0, 180.0, 2.2, 2.2)]
    for shape in shapes:
        assert peak_of(lambda shape=shape: box_around(shape, grid, indices[0])) < MOST_BYTES  # type: ignore[misc]  # the default binds


def test_a_shape_that_goes_on_for_ever_is_seen_to_do_so() -> None:
    """One column of the sky is shown by every column of the image."""
    grid = hostile_grid("absurd_tiny_cdelt")
    index = SkyIndex.of(grid)
    answers: list[object] = []
    circle = Circle(150.1, 2.2, 0.002)
    assert peak_of(lambda: answers.append(frame_around(circle, grid, index))) < MOST_BYTES // 4
    assert answers == [None]


def test_a_polygon_of_many_teeth_is_found() -> None:
    """Its box is that of the convex shape around it, to a pixel."""
    wide = WideGrid(first_image("tan").grid())
    index = SkyIndex.of(wide)
    found = box_around(comb(150.1, 2.2, 0.1), wide, index)
    corners = Polygon(((150.0, 2.0), (150.0, 2.3), (150.2, 2.3), (150.2, 2.0)))
    around = box_around(corners, wide, index)
    assert found is not None
    assert around is not None
    for one, other in ((found.lower, around.lower), (found.upper, around.upper)):
        assert all(abs(a - b) <= 3 for a, b in zip(one, other, strict=True)), (found, around)


def test_what_is_too_intricate_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here of a search that may cost next to nothing."""
    monkeypatch.setattr(effort, "_MOST", 1_000)
    grid = first_image("tan").grid()
    with pytest.raises(UsageError, match="too intricate for this image"):
        box_around(comb(150.1, 2.2, 0.001), grid, SkyIndex.of(grid))
