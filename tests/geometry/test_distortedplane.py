"""The quick ways for distorted planes against the search that any image allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings, strategies as st
from support.planes import DISTORTED, NAXIS, SCALE, sky_of

from soda_service.geometry import distortedplane
from soda_service.geometry.pixelbox import NOT_QUICK, box_around, box_around_quickly
from soda_service.geometry.shapes import Circle
from soda_service.geometry.skyindex import SkyIndex

if TYPE_CHECKING:
    import pytest

PLACES = st.tuples(st.floats(-60, NAXIS[0] + 60), st.floats(-60, NAXIS[1] + 60))
INDICES = [SkyIndex.of(grid) for grid in DISTORTED]


@settings(max_examples=200)
@given(number=st.integers(0, 5), place=PLACES, pixels=st.floats(0.01, 60))
def test_distorted_circles(number: int, place: tuple[float, float], pixels: float) -> None:
    """What two derivatives and their doubt answer is what the search answers."""
    grid, index = DISTORTED[number], INDICES[number]
    shape = Circle(*sky_of(grid, place), radius=pixels * SCALE)
    quick = box_around_quickly(shape, grid, None)
    if quick is not NOT_QUICK:
        assert quick == box_around(shape, grid, index)


def test_an_ordinary_distorted_circle_needs_no_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weak distortions of most instruments."""
    monkeypatch.setattr(distortedplane, "_find_by_distorted_samples", lambda *_: NOT_QUICK)
    for number in (0, 2, 4):
        grid = DISTORTED[number]
        shape = Circle(*sky_of(grid, (150.2, 100.3)), radius=20 * SCALE)
        assert box_around_quickly(shape, grid, None) == box_around(shape, grid, INDICES[number])
