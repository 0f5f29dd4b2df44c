"""Frames: where they lie, and what an image has of them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from soda_service.geometry.frames import (
    Frame,
    PixelSection,
    Stamp,
    frame_of_section,
    frame_of_stamp,
)
from soda_service.geometry.pixelbox import PixelBox

coordinates = st.floats(-1e6, 1e6)
sizes = st.integers(1, 500)


@given(coordinates, coordinates, sizes, sizes)
def test_the_middle_of_a_stamp_is_as_near_as_can_be(
    x: float, y: float, width: int, height: int
) -> None:
    """Never further than half a pixel, and always so many pixels."""
    frame = frame_of_stamp(Stamp(0, 0, (width, height)), (x, y))
    assert frame.naxis == (width, height)
    for at, low, high in zip((x, y), frame.lower, frame.upper, strict=True):
        middle = (low + high - 1) / 2
        assert abs(middle - at) <= 0.5 + 1e-9
        assert abs(middle - at) <= min(abs(middle - 1 - at), abs(middle + 1 - at)) + 1e-9


@given(st.integers(-100, 100), st.floats(-0.499, 0.499), st.sampled_from([1, 3, 7, 51]))
def test_an_odd_stamp_has_the_position_in_its_middle_pixel(
    pixel: int, offset: float, size: int
) -> None:
    frame = frame_of_stamp(Stamp(0, 0, (size, size)), (pixel + offset, 0.0))
    assert (frame.lower[0] + frame.upper[0] - 1) // 2 == pixel
    assert frame_of_stamp(Stamp(0, 0, (2, 2)), (math.nextafter(4.5, 9), 0.0)).lower[0] == 4


def test_sections_become_frames() -> None:
    """Trailing axes are whole; one too many is refused."""
    section = PixelSection(((-2, 5), None))
    assert frame_of_section(section, (9, 8, 7)) == Frame((-2, 0, 0), (5, 8, 7))
    with pytest.raises(ValueError, match="2 axes for an image of 1"):
        frame_of_section(section, (9,))


def test_what_an_image_has_of_a_frame() -> None:
    assert Frame((-2, 3), (5, 99)).trimmed((4, 8)) == PixelBox((0, 3), (4, 8))
    assert Frame((4, 0), (5, 1)).trimmed((4, 8)) is None
    assert Frame((-5, 0), (0, 1)).trimmed((4, 8)) is None
    assert Frame((-2, 3), (5, 99)).section == "[-1:5,4:99]"
    assert isinstance(Frame((-2, 3), (5, 99)).replaced(0, -1, 3), Frame)
    with pytest.raises(ValueError, match="empty"):
        Frame((1,), (1,))
