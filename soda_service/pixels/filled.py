"""Pixels that are not the parent's: around its edge, and outside of a shape.

They get a stored value of their own while the bands of an image pass by; memory holds one band
and, of a cube, the mask of one plane if that is small.
"""

from __future__ import annotations

import struct
from math import nan, prod
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from soda_service.errors import CorruptFileError
from soda_service.geometry.frames import Frame
from soda_service.geometry.pixelbox import SteppedBox
from soda_service.geometry.sphere import contains

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from soda_service.geometry.pixelbox import PixelBox, SkyGrid
    from soda_service.geometry.shapes import Shape

_KEPT_MASK: Final = 16 * 1024 * 1024
"""Bytes of the mask of one plane that is kept for the next."""


class Mask(NamedTuple):
    """The pixels whose centres lie in a shape."""

    shape: Shape
    planes: tuple[tuple[int, SkyGrid], ...]
    """Grids, each with its plane along the third of the axes; only one if there are but two."""
    axes: tuple[int, ...]
    """The two axes of the image that are those of the grids, 0-based, ascending; for the faces
    of a cube the axis of the faces besides."""


class Filling(NamedTuple):
    """What an answer shows of one image beside the pixels that the image has."""

    frame: PixelBox
    """All the pixels that are shown; it may reach out of the image."""
    value: bytes
    """The stored value of every pixel that is not the image's, or is masked."""
    mask: Mask | None


_SIGN_OFFSETS: Final = {8: -(2**7), 16: 2**15, 32: 2**31, 64: 2**63}
"""BZERO by BITPIX where integers are stored with the other sign (FITS 4.0 table 11)."""


def sign_offset(bitpix: int, bscale: float | None, bzero: float | None) -> int | None:
    """What is taken from an integer before it is stored; None where values are scaled besides.

    Such an offset gives unsigned integers, and signed bytes, without loss; whoever asks for a
    value of these means the integer, not how it is stored.
    """
    if bscale not in {None, 1}:
        return None
    if not bzero:
        return 0
    return _SIGN_OFFSETS[bitpix] if _SIGN_OFFSETS.get(bitpix) == bzero else None


def stored_value(
    value: float | None, *, bitpix: int, blank: int | None, offset: int = 0
) -> bytes | None:
    """A value as it is stored, big-endian; None where the type cannot hold it.

    None asks for the value that means none: NaN, or *blank* of an integer image. From any other
    integer *offset* is taken.
    """
    if bitpix < 0:
        try:
            return struct.pack(">f" if bitpix == -32 else ">d", nan if value is None else value)
        except (OverflowError, struct.error):
            return None
    if value is None and blank is not None:
        value, offset = blank, 0
    if value is None or (isinstance(value, float) and not value.is_integer()):
        return None
    size = bitpix // 8
    try:
        return (int(value) - offset).to_bytes(size, "big", signed=bitpix != 8)
    except OverflowError:
        return None


def filled_bands(
    filling: Filling, box: PixelBox, bands: Iterable[memoryview], band_bytes: int
) -> Iterator[memoryview]:
    """The stored values of the frame, big-endian and in FITS order.

    *bands* are those of *box*, the part of the frame that the image has; where the frame leaves
    out planes, so does the box, the same. Raises CorruptFileError where they end too early.
    """
    pixels = _Pixels(bands)
    dtype = np.dtype(f"u{len(filling.value)}")
    value = np.frombuffer(filling.value, dtype)[0]
    masks = _Masks(filling.mask, filling.frame) if filling.mask is not None else None
    for part in _steps(filling.frame, band_bytes // dtype.itemsize):
        shown = np.full(part.shape, value, dtype)
        held = _common(part, box)
        if held is not None:
            offset = [low - first for low, first in zip(held.lower, part.lower, strict=True)]
            ends = [low + length for low, length in zip(offset, held.naxis, strict=True)]
            there = shown[Frame(tuple(offset), tuple(ends)).slices]
            stored = pixels.take(held.pixel_count * dtype.itemsize)
            there[...] = np.frombuffer(stored, dtype).reshape(held.shape)
        if masks is not None:
            shown[~np.broadcast_to(masks.of(part), shown.shape)] = value
        yield shown.reshape(-1).data.cast("B")


class _Pixels:
    """Bands as one stream of bytes."""

    def __init__(self, bands: Iterable[memoryview]) -> None:
        self._bands = iter(bands)
        self._rest = memoryview(b"")

    def take(self, size: int) -> bytes | memoryview:
        """The next *size* bytes."""
        if len(self._rest) >= size:
            taken, self._rest = self._rest[:size], self._rest[size:]
            return taken
        pieces = [self._rest]
        missing = size - len(self._rest)
        while missing > 0:
            band = next(self._bands, None)
            if band is None:
                raise CorruptFileError(f"{missing} bytes of data fewer than planned")
            band = memoryview(band).cast("B")
            pieces.append(band[:missing])
            self._rest = band[missing:]
            missing -= len(pieces[-1])
        return b"".join(pieces)


class _Masks:
    """The mask of parts of a frame."""

    def __init__(self, mask: Mask, frame: PixelBox) -> None:
        self._mask = mask
        plane = prod(frame.naxis[axis] for axis in mask.axes)
        self._keeps = plane < frame.pixel_count and plane <= _KEPT_MASK
        self._kept: dict[tuple[tuple[int, int], ...], NDArray[np.bool_]] = {}

    def of(self, part: PixelBox) -> NDArray[np.bool_]:
        """Which pixels of *part* are wanted, in a form that is broadcast to its shape."""
        axes = self._mask.axes
        limits = tuple((part.lower[axis], part.upper[axis]) for axis in axes)
        found = self._kept.get(limits)
        if found is None:
            found = self._found(*limits)
            if self._keeps:
                self._kept[limits] = found
        shape = [1] * len(part.lower)
        for axis in axes:
            shape[axis] = part.naxis[axis]
        return found.reshape(shape[::-1])

    def _found(
        self, columns: tuple[int, int], rows: tuple[int, int], faces: tuple[int, int] | None = None
    ) -> NDArray[np.bool_]:
        """Between these limits, in numpy order of the axes as they stand in the image."""
        planes = dict(self._mask.planes)
        if faces is None:
            (only,) = planes.values()
            return self._on(only, columns, rows)
        found = np.zeros([high - low for low, high in (faces, rows, columns)], dtype=bool)
        for plane, grid in planes.items():
            if faces[0] <= plane < faces[1]:
                found[plane - faces[0]] = self._on(grid, columns, rows)
        order = np.argsort(self._mask.axes)
        return found.transpose().transpose(order).transpose()

    def _on(
        self, grid: SkyGrid, columns: tuple[int, int], rows: tuple[int, int]
    ) -> NDArray[np.bool_]:
        x, y = np.meshgrid(np.arange(*columns, dtype=float), np.arange(*rows, dtype=float))
        with np.errstate(invalid="ignore"):  # pixels that are not on the sky
            sky = grid.pixel_to_sky(x.ravel(), y.ravel())
            return contains(self._mask.shape, sky).reshape(x.shape)


def _steps(frame: PixelBox, most: int) -> Iterator[PixelBox]:
    """The same as `_parts`, of a frame that may leave out planes."""
    if not isinstance(frame, SteppedBox):
        yield from _parts(frame, most)
        return
    for plane in frame.parts():
        yield from _parts(plane, most)


def _parts(frame: PixelBox, most: int, axis: int | None = None) -> Iterator[PixelBox]:
    """*frame* in parts of *most* pixels that follow each other in FITS order.

    Axes slower than *axis* have one pixel.
    """
    axis = len(frame.lower) - 1 if axis is None else axis
    low, high = frame.lower[axis], frame.upper[axis]
    single = prod(frame.naxis[:axis])
    if single > most and axis > 0:
        for at in range(low, high):
            yield from _parts(frame.replaced(axis, at, at + 1), most, axis - 1)
        return
    step = max(1, most // single)
    for start in range(low, high, step):
        yield frame.replaced(axis, start, min(high, start + step))


def _common(part: PixelBox, box: PixelBox) -> PixelBox | None:
    """The pixels of both."""
    lower = tuple(map(max, part.lower, box.lower))
    upper = tuple(map(min, part.upper, box.upper))
    empty = any(low >= high for low, high in zip(lower, upper, strict=True))
    return None if empty else Frame(lower, upper)
