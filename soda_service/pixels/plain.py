"""Pixels of an image that is stored as it is: a box is a grid of runs of bytes.

A run is what lies in one piece in the file: a row of the box, or several rows or planes
where the box is as wide as the image.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from operator import mul
from typing import TYPE_CHECKING, Final

from soda_service.errors import CorruptFileError
from soda_service.storage.remote import run_bands
from soda_service.storage.runs import RunGrid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from soda_service.fits.layout import HduLayout
    from soda_service.geometry.pixelbox import PixelBox
    from soda_service.storage.source import RunSource

_MOST_RUNS: Final = 16_384
"""Runs in one band: a run of few bytes costs more than its bytes."""


class PlainReader:
    """Reads boxes of one uncompressed image; safe to use from several threads."""

    __slots__ = ("_layout", "_source")

    def __init__(self, layout: HduLayout, source: RunSource) -> None:
        """Raises CorruptFileError where the file has no room for the image."""
        self._source = source
        self._layout = layout
        _, size = _strides(layout.naxis, abs(layout.bitpix) // 8)
        if layout.data_offset + size > source.version.size:
            raise CorruptFileError(
                f"the file ends inside the data of HDU {layout.index}", path=source.path
            )

    def bands(self, box: PixelBox, band_bytes: int) -> Iterator[memoryview]:
        """The stored values of *box*, big-endian and in FITS order; may block.

        A band has at most *band_bytes*, as far as single pixels allow, and memory holds
        little more than one, or what a source far away has room for. Raises CorruptFileError,
        SourceUnavailableError.
        """
        return run_bands(self._source, runs_of(self._layout, box), band_bytes, most_runs=_MOST_RUNS)


def runs_of(layout: HduLayout, box: PixelBox) -> RunGrid:
    """Where the pixels of *box* lie in the file; ValueError where it is not of the image."""
    naxis, itemsize = layout.naxis, abs(layout.bitpix) // 8
    if len(naxis) == 2 == len(box.lower):
        return _rows_of(layout.data_offset, itemsize, naxis, box)
    strides, _ = _strides(naxis, itemsize)
    start = layout.data_offset
    length = itemsize
    counts: list[int] = []
    steps: list[int] = []
    whole = True
    # Every axis before this one is whole: what follows is one piece with it.
    for low, high, axis_length, step in zip(box.lower, box.upper, naxis, strides, strict=True):
        if high > axis_length:
            raise ValueError(f"{box.section} reaches out of an image of axes {naxis}")
        start += low * step
        count = high - low
        if whole:
            length *= count
            whole = count == axis_length
        elif count > 1:
            counts.append(count)
            steps.append(step)
    counts.reverse()
    steps.reverse()
    return RunGrid(start, length, tuple(counts), tuple(steps), itemsize)


def _rows_of(offset: int, itemsize: int, naxis: tuple[int, ...], box: PixelBox) -> RunGrid:
    """`runs_of` for an image of two axes, which nearly every one is, at half the price."""
    (x, y), (end_x, end_y) = box.lower, box.upper
    width, height = naxis
    if end_x > width or end_y > height:
        raise ValueError(f"{box.section} reaches out of an image of axes {naxis}")
    step, count = width * itemsize, end_y - y
    start, length = offset + y * step + x * itemsize, (end_x - x) * itemsize
    if length == step:
        return RunGrid(start, length * count, (), (), itemsize)
    if count == 1:
        return RunGrid(start, length, (), (), itemsize)
    return RunGrid(start, length, (count,), (step,), itemsize)


@lru_cache(maxsize=1024)
def _strides(naxis: tuple[int, ...], itemsize: int) -> tuple[tuple[int, ...], int]:
    """Bytes from one pixel to the next along each axis, and those of all pixels."""
    steps = tuple(accumulate(naxis, mul, initial=itemsize))
    return steps[:-1], steps[-1]
