"""Compressed images: memory by tiles, threads that do not disturb each other, damage refused."""

from __future__ import annotations

import io
import threading
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from support.images import COMPRESSED_FAMILIES, FAMILIES, noise

from soda_service.errors import CorruptFileError
from soda_service.fits.cards import Header
from soda_service.fits.layout import HduKind, HduLayout, scan_hdus
from soda_service.geometry.pixelbox import PixelBox
from soda_service.pixels import tiled
from soda_service.pixels.reader import open_reader
from soda_service.storage.local import LocalSource

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

KIB = 1024
METHODS = ("RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1")


def _write(path: Path, stored: NDArray[np.generic], **options: object) -> HduLayout:
    """A file with one compressed image."""
    hdus = [fits.PrimaryHDU(), fits.CompImageHDU(stored, **options)]
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return _compressed_layout(path)


def _compressed_layout(path: Path) -> HduLayout:
    with LocalSource.open(str(path)) as source:
        layouts = list(scan_hdus(source.read, source.version.size))
    return next(layout for layout in layouts if layout.kind is HduKind.COMPRESSED)


def _read(layout: HduLayout, path: Path, box: PixelBox | None = None) -> bytes:
    with LocalSource.open(str(path)) as source:
        reader = open_reader(layout, source)
        return b"".join(reader.bands(box or PixelBox.whole(layout.naxis), 64 * KIB))


@pytest.mark.parametrize(
    "tile_shape",
    [(1, 1, 31), (1, 17, 31), (3, 5, 9), (7, 1, 31), (7, 17, 2), (2, 17, 31), (7, 17, 31)],
)
@pytest.mark.parametrize("most", [1, 300, 6000])
def test_tiles_of_every_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tile_shape: tuple[int, ...], most: int
) -> None:
    """The parts into which a box is taken follow each other as its pixels do."""
    stored = noise(31, 17, 7, dtype="i4", sigma=9)
    layout = _write(tmp_path / "c.fits", stored, compression_type="GZIP_1", tile_shape=tile_shape)
    monkeypatch.setattr(tiled, "_SLAB", most)
    for box in (PixelBox.whole((31, 17, 7)), PixelBox((5, 9, 1), (24, 16, 6))):
        with LocalSource.open(str(tmp_path / "c.fits")) as source:
            pixels = b"".join(open_reader(layout, source).bands(box, 8))
        assert pixels == stored[box.slices].astype(">i4").tobytes()


def test_memory_is_bounded_by_the_tiles_of_a_band(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image of 12 MB is decompressed within less than one."""
    stored = noise(2500, 2400, dtype="i2")
    layout = _write(tmp_path / "c.fits", stored, compression_type="RICE_1", tile_shape=(4, 2500))
    monkeypatch.setattr(tiled, "_SLAB", 128 * KIB)
    box = PixelBox.whole(layout.naxis)
    with LocalSource.open(str(tmp_path / "c.fits")) as source:
        reader = open_reader(layout, source)
        next(reader.bands(PixelBox((0, 0), (1, 1)), 8))  # astropy is imported
        tracemalloc.start()
        try:
            total = sum(len(band) for band in reader.bands(box, 64 * KIB))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert total == stored.nbytes
    assert peak < 1024 * KIB


@pytest.mark.usefixtures("patient_disks")
@pytest.mark.parametrize("method", METHODS)
def test_threads_do_not_disturb_each_other(tmp_path: Path, method: str) -> None:
    """Decoders of one library keep their place in variables of the whole process."""
    stored = (noise(300, 200, dtype="i4", sigma=30) % 4000).astype("i4")
    path = tmp_path / "c.fits"
    layout = _write(path, stored, compression_type=method, tile_shape=(50, 50))
    results: list[bool] = []

    def read() -> None:
        expected = stored.astype(">i4").tobytes()
        results.extend(_read(layout, path) == expected for _ in range(3))

    threads = [threading.Thread(target=read) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 15


@pytest.mark.parametrize("family", COMPRESSED_FAMILIES)
def test_damage_is_refused(tmp_path: Path, family: str) -> None:
    """Wherever bytes of the table or the heap are wrong: pixels or an error, never a crash."""
    sound = FAMILIES[family]()
    path = tmp_path / "damaged.fits"
    path.write_bytes(sound)
    layout = _compressed_layout(path)
    generator = np.random.default_rng(len(family))
    table = int(fits.getheader(io.BytesIO(sound), 1, disable_image_compression=True)["NAXIS1"])
    refused: list[CorruptFileError] = []
    for attempt in range(12):
        damaged = bytearray(sound)
        end = layout.data_offset + table * 4 if attempt % 2 else layout.end
        for at in generator.integers(layout.data_offset, end, 20):
            damaged[at] = generator.integers(0, 256)
        path.write_bytes(damaged)
        try:
            _read(layout, path)
        except CorruptFileError as error:
            refused.append(error)
    assert refused
    assert all(error.path == str(path) for error in refused)
    assert not any(str(path) in str(error) for error in refused)


@pytest.mark.parametrize(
    ("method", "damage"),
    [
        pytest.param("HCOMPRESS_1", (2, b"\0\0\x40\0"), id="more pixels than there is room for"),
        pytest.param("HCOMPRESS_1", (2, b"\xff\xff\xff\xff"), id="negative axis"),
        pytest.param("HCOMPRESS_1", (22, b"\xff\xff\xff"), id="bit planes"),
        pytest.param("HCOMPRESS_1", (0, b"XX"), id="magic"),
        pytest.param("PLIO_1", (4, b"\xff\x9c\x7f\xff\x7f\xff"), id="a list of a billion words"),
        pytest.param("PLIO_1", (2, b"\x80\0\xff\x9c"), id="a list that begins before itself"),
    ],
)
def test_tiles_that_would_crash_a_decoder_are_refused(
    tmp_path: Path, method: str, damage: tuple[int, bytes]
) -> None:
    """The decoders do not look at the room that they are given."""
    stored = (noise(60, 40, dtype="i4") % 3000).astype("i4")
    path = tmp_path / "c.fits"
    layout = _write(path, stored, compression_type=method, tile_shape=(20, 20))
    assert _read(layout, path) == stored.astype(">i4").tobytes()
    header = fits.getheader(path, 1, disable_image_compression=True)
    heap = layout.data_offset + header["NAXIS1"] * header["NAXIS2"]
    at, wrong = damage
    with path.open("r+b") as file:
        file.seek(heap + at)
        file.write(wrong)
    with pytest.raises(CorruptFileError):
        _read(layout, path)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("ZCMPTYPE", "'MAGIC_1 '"), ("ZTILE1", "0"), ("ZTILE2", "-5"), ("ZTILE1", "'a'"),
     ("ZCMPTYPE", "7"), ("ZQUANTIZ", "'SUBTRACTIVE_DITHER_9'"), ("TTYPE1", "'NOTHING '"),
     ("TFORM1", "'9X      '"), ("ZVAL1", "0"), ("ZVAL2", "3"), ("TFIELDS", "0")],
)  # fmt: skip
def test_a_header_that_describes_no_compression_is_refused(
    tmp_path: Path, keyword: str, value: str
) -> None:
    """Never decompressed by another method than the header's own."""
    path = tmp_path / "c.fits"
    path.write_bytes(FAMILIES["compressed_rice_1_f4_dither_1"]())
    layout = _compressed_layout(path)
    cards = [
        f"{keyword:8}= {value:>20}".ljust(80).encode("ascii")
        if card.keyword == keyword
        else card.raw
        for card in layout.header
    ]
    assert cards != [card.raw for card in layout.header]
    with pytest.raises(CorruptFileError):
        _read(replace(layout, header=Header(b"".join(cards))), path)


def test_tiles_larger_than_memory_are_refused(tmp_path: Path) -> None:
    """A header may claim a tile of any size."""
    path = tmp_path / "c.fits"
    path.write_bytes(FAMILIES["compressed_tiles"]())
    layout = _compressed_layout(path)
    huge = {"ZNAXIS1": 10**6, "ZNAXIS2": 10**6, "ZTILE1": 10**6, "ZTILE2": 10**6}
    cards = [
        f"{card.keyword:8}= {huge[card.keyword]:>20}".ljust(80).encode("ascii")
        if card.keyword in huge
        else card.raw
        for card in layout.header
    ]
    layout = replace(layout, header=Header(b"".join(cards)), naxis=(10**6, 10**6))
    with pytest.raises(CorruptFileError, match="too large"):
        _read(layout, path, PixelBox((0, 0), (1, 1)))
