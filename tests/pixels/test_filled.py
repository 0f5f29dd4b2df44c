"""Filled pixels against numpy, in bands of any size and within bounded memory."""

from __future__ import annotations

import tracemalloc
from math import nan
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from soda_service.errors import CorruptFileError
from soda_service.geometry.frames import Frame, SteppedFrame
from soda_service.geometry.pixelbox import PixelBox, SteppedBox
from soda_service.geometry.shapes import Circle
from soda_service.geometry.vectors import unit_vectors
from soda_service.pixels.filled import Filling, Mask, filled_bands, stored_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MIB = 1024 * 1024


class FlatSky:
    """Hundredths of a degree on the equator, x to the east."""

    plane = None
    distortion = None
    naxis = (20, 20)

    def pixel_to_sky(self, x: Floats, y: Floats) -> Floats:
        return unit_vectors(x / 100, y / 100)

    def sky_to_pixel(self, vectors: Floats) -> tuple[Floats, Floats]:
        raise NotImplementedError


def bands(stored: NDArray[np.generic], size: int) -> Iterator[memoryview]:
    raw = memoryview(stored.tobytes())
    for at in range(0, len(raw), size):
        yield raw[at : at + size]


limits = st.tuples(st.integers(-6, 3), st.integers(4, 12))


@settings(max_examples=150)
@given(
    st.lists(limits, min_size=1, max_size=4),
    st.sampled_from([">f4", ">i2", "u1", ">f8"]),
    st.sampled_from([8, 24, 64, 1000, 100_000]),
    st.sampled_from([None, (0, 1), (0, 2), (1, 2)]),
    st.sampled_from([None, (1, 2), (2, 3), (2, 2), (3, 3)]),
)
def test_every_frame_is_what_numpy_makes_of_it(
    frame_limits: list[tuple[int, int]],
    dtype: str,
    band: int,
    axes: tuple[int, int] | None,
    stepped: tuple[int, int] | None,
) -> None:
    """Of any number of axes, with a mask over any two of them, and planes left out of one."""
    naxis = (7, 5, 6, 4)[: len(frame_limits)]
    frame = Frame(*(tuple(side) for side in zip(*frame_limits, strict=True)))
    shown: list[slice] = [slice(None)] * len(naxis)
    if stepped is not None and stepped[0] < len(naxis):
        # Along that axis a frame stays in its image, and begins and ends with what is kept.
        axis, step = stepped
        first, last = 0, step * ((naxis[axis] - 1) // step)
        frame = frame.replaced(axis, first, last + 1)
        shown[-1 - axis] = slice(None, None, step)
    box: PixelBox | None = frame.trimmed(naxis)
    assert box is not None
    whole_frame, whole_box = frame, box
    image = np.arange(np.prod(naxis)).reshape(naxis[::-1]).astype(dtype)
    value = np.array(77, dtype)
    shape = Circle(0.02, 0.03, 0.0253)
    mask = None
    expected = np.full(frame.shape, value)
    inside = tuple(slice(low - first, high - first) for low, high, first in zip(
        box.lower, box.upper, frame.lower, strict=True))[::-1]  # fmt: skip
    expected[inside] = image[whole_box.slices]
    if axes is not None and max(axes) < len(naxis):
        mask = Mask(shape, ((0, FlatSky()),), axes)
        places = np.indices(frame.shape)[::-1]
        x, y = (places[axis] + frame.lower[axis] for axis in axes)
        expected[np.hypot(x - 2, y - 3) > 2.53] = value
    if stepped is not None and stepped[0] < len(naxis):
        frame = SteppedFrame(whole_frame.lower, whole_frame.upper, *stepped)
        box = frame.trimmed(naxis)
        assert isinstance(box, SteppedBox)
    expected = expected[tuple(shown)]
    assert frame.shape == expected.shape
    filling = Filling(frame, value.tobytes(), mask)
    made = list(filled_bands(filling, box, bands(image[box.slices], 24), band))
    assert max(map(len, made)) <= max(band, image.itemsize)
    assert b"".join(made) == expected.tobytes()


def test_bands_that_end_too_early() -> None:
    image = np.arange(12, dtype=">i4").reshape(3, 4)
    filling = Filling(Frame((-1, 0), (4, 3)), b"\0\0\0\0", None)
    with pytest.raises(CorruptFileError, match="fewer than planned"):
        list(filled_bands(filling, PixelBox((0, 0), (4, 3)), bands(image[:2], 16), 64))


def test_memory_does_not_grow_with_the_image() -> None:
    """Of a cube of 400 MB neither the pixels nor the masks are all there at once."""
    frame = PixelBox((0, 0, 0), (2000, 2000, 25))
    filling = Filling(
        frame, b"\x7f\xc0\0\0", Mask(Circle(10.0, 10.0, 9.0), ((0, FlatSky()),), (0, 1))
    )

    def zeros() -> Iterator[memoryview]:
        for _ in range(400):
            yield memoryview(bytes(MIB))

    tracemalloc.start()
    size = sum(len(one) for one in filled_bands(filling, frame, zeros(), 256 * 1024))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size == frame.pixel_count * 4
    assert peak < 60 * MIB


@pytest.mark.parametrize(
    ("value", "bitpix", "blank", "stored"),
    [
        (None, -32, None, b"\x7f\xc0\0\0"), (nan, -64, 5, b"\x7f\xf8" + bytes(6)),
        (1.5, -32, None, b"\x3f\xc0\0\0"), (None, 16, -2, b"\xff\xfe"), (None, 16, None, None),
        (255, 8, None, b"\xff"), (-1, 8, None, None), (-1, 32, None, b"\xff" * 4),
        (nan, 32, 5, None), (2.0, 64, None, bytes(7) + b"\x02"), (2.5, 64, None, None),
        (2**70, 64, None, None), (2**2000, -64, None, None), (1e39, -32, None, None),
        (None, 8, 256, None),
    ],
)  # fmt: skip
def test_values_as_they_are_stored(
    value: float | None, bitpix: int, blank: int | None, stored: bytes | None
) -> None:
    assert stored_value(value, bitpix=bitpix, blank=blank) == stored
