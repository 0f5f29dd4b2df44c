"""Plain images: few reads, bounded memory, and no way to read beyond the image."""

from __future__ import annotations

import os
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.images import header_bytes

from soda_service.errors import CorruptFileError
from soda_service.fits.layout import scan_hdus
from soda_service.geometry.pixelbox import PixelBox
from soda_service.pixels.plain import PlainReader, runs_of
from soda_service.storage.local import LocalSource

if TYPE_CHECKING:
    from pathlib import Path

    from soda_service.fits.layout import HduLayout
    from soda_service.storage.disks import Touch
    from soda_service.storage.runs import RunGrid

MIB = 1024 * 1024


class _CountingSource(LocalSource):
    """As if nothing were in the page cache; counts what it reads."""

    reads = 0
    bytes_read = 0

    def resident_runs(self, grid: RunGrid, *, in_thread: bool = False) -> None:
        del grid, in_thread

    def _fill(self, start: int, buffer: memoryview, touch: Touch) -> None:
        self.reads += 1
        self.bytes_read += len(buffer)
        super()._fill(start, buffer, touch)


def _sparse(path: Path, naxis: tuple[int, ...], bitpix: int = -32) -> HduLayout:
    """A file of zeros as large as its header says, which takes no room on the disk."""
    axes = [(f"NAXIS{number}", length) for number, length in enumerate(naxis, 1)]
    path.write_bytes(
        header_bytes([("SIMPLE", True), ("BITPIX", bitpix), ("NAXIS", len(naxis)), *axes])
    )
    data_offset = path.stat().st_size
    size = int(np.prod(naxis)) * abs(bitpix) // 8
    os.truncate(path, data_offset + size + -size % 2880)
    with LocalSource.open(str(path)) as source:
        return next(scan_hdus(source.read, source.version.size))


def _marked(path: Path, layout: HduLayout, pixel: tuple[int, ...], value: bytes) -> None:
    """Writes one stored value of an image."""
    number = int(np.ravel_multi_index(pixel[::-1], layout.naxis[::-1]))
    with path.open("r+b") as file:
        file.seek(layout.data_offset + number * len(value))
        file.write(value)


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        pytest.param((0, 0), (40_000, 1600), id="contiguous"),
        pytest.param((11, 3), (39_000, 1600), id="wide rows"),
        pytest.param((30_000, 5), (31_000, 9000), id="short rows"),
        pytest.param((0, 7), (40_000, 8), id="one row"),
        pytest.param((5, 0), (6, 25_000), id="one column"),
    ],
)
def test_memory_is_bounded(tmp_path: Path, lower: tuple[int, int], upper: tuple[int, int]) -> None:
    """A large box of an image of 4 GB takes no more memory than a few bands."""
    path = tmp_path / "huge.fits"
    layout = _sparse(path, (40_000, 25_000))
    box = PixelBox(lower, upper)
    with LocalSource.open(str(path)) as source:
        reader = PlainReader(layout, source)
        tracemalloc.start()
        try:
            total = sum(len(band) for band in reader.bands(box, MIB // 4))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert total == box.pixel_count * 4
    assert peak < 4 * MIB


def test_offsets_beyond_four_gigabytes(tmp_path: Path) -> None:
    """The last pixels of a large cube are found where they are."""
    path = tmp_path / "cube.fits"
    layout = _sparse(path, (3000, 2000, 1000, 3), bitpix=16)
    _marked(path, layout, (2999, 1999, 999, 2), b"\x12\x34")
    _marked(path, layout, (2990, 1990, 999, 2), b"\x56\x78")
    box = PixelBox((2990, 1990, 998, 1), (3000, 2000, 1000, 3))
    with LocalSource.open(str(path)) as source:
        reader = PlainReader(layout, source)
        expected = np.zeros(box.shape, ">i2")
        expected[-1, -1, -1, -1] = 0x1234
        expected[-1, -1, 0, 0] = 0x5678
        assert b"".join(reader.bands(box, MIB)) == expected.tobytes()


def test_a_cold_box_is_read_in_few_spans(tmp_path: Path) -> None:
    """A 200x200 cutout of a 4096-wide image: 3.2 MB between its ends, in two reads."""
    path = tmp_path / "image.fits"
    layout = _sparse(path, (4096, 1000))
    with _CountingSource.open(str(path)) as source:
        reader = PlainReader(layout, source)
        list(reader.bands(PixelBox((1000, 500), (1200, 700)), MIB // 4))
        assert source.reads == 2
        assert source.bytes_read <= 200 * 4096 * 4


@pytest.mark.parametrize(
    ("box", "reads"),
    [
        pytest.param(PixelBox((0, 100), (4096, 356)), 16, id="whole rows"),
        pytest.param(PixelBox((0, 0), (4000, 16)), 16, id="rows as long as the image but for few"),
    ],
)
def test_nothing_but_the_box_is_read_where_rows_are_long(
    tmp_path: Path, box: PixelBox, reads: int
) -> None:
    """Whole rows come in bands; long ones with wide gaps one by one."""
    path = tmp_path / "image.fits"
    layout = _sparse(path, (4096 if box.upper[0] == 4096 else 9000, 1000))
    with _CountingSource.open(str(path)) as source:
        list(PlainReader(layout, source).bands(box, MIB // 4))
        assert source.bytes_read == box.pixel_count * 4
        assert source.reads == reads


def test_planes_of_a_cube_share_bands(tmp_path: Path) -> None:
    """Fifty small planes are not fifty bands."""
    layout = _sparse(tmp_path / "cube.fits", (512, 512, 100))
    with LocalSource.open(str(tmp_path / "cube.fits")) as source:
        reader = PlainReader(layout, source)
        bands = list(reader.bands(PixelBox((7, 9, 1), (27, 39, 51)), MIB // 4))
    assert len(bands) == 1
    assert len(bands[0]) == 20 * 30 * 50 * 4


def test_a_file_too_short_for_its_image_is_corrupt(tmp_path: Path) -> None:
    """It shrank after it was indexed."""
    path = tmp_path / "image.fits"
    layout = _sparse(path, (300, 200))
    os.truncate(path, layout.data_offset + 300 * 200 * 4 - 1)
    with LocalSource.open(str(path)) as source, pytest.raises(CorruptFileError) as caught:
        PlainReader(layout, source)
    assert caught.value.path == str(path)
    assert str(path) not in str(caught.value)


@pytest.mark.parametrize("bitpix", [8, 16, -32, -64])
def test_every_box_of_an_image_of_two_axes(tmp_path: Path, bitpix: int) -> None:
    """Its runs are, byte by byte, where numpy finds its pixels; whole rows are one run."""
    layout = _sparse(tmp_path / "small.fits", (4, 3), bitpix)
    size = abs(bitpix) // 8
    place = np.arange(12 * size).reshape(3, 4, size) + layout.data_offset
    for x, y in np.ndindex(4, 3):
        for width, height in np.ndindex(4 - x, 3 - y):
            box = PixelBox((x, y), (x + width + 1, y + height + 1))
            runs = runs_of(layout, box)
            offsets = runs.starts()[:, None] + np.arange(runs.length)
            assert np.array_equal(offsets.ravel(), place[box.slices].ravel())
            assert len(runs.counts) == (0 if width == 3 or not height else 1)
            assert runs.itemsize == size
