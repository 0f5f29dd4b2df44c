"""Decoding from the middle of a row: to the bit what decoding from its beginning gives."""

from __future__ import annotations

import gzip
from itertools import pairwise
from typing import TYPE_CHECKING

import fitsio
import imagecodecs
import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings, strategies as st
from support.tilefiles import Row, rice as packed_by_rice, simple_file, tile_file

from soda_service.fits.layout import HduKind, scan_hdus
from soda_service.geometry.pixelbox import PixelBox
from soda_service.pixels import seekindex
from soda_service.pixels.reader import open_reader
from soda_service.pixels.seekindex import SeekIndex, gathered
from soda_service.pixels.tilecodecs import Rice
from soda_service.pixels.tiledimage import TiledImage
from soda_service.pixels.tiledimages import TiledImages
from soda_service.storage.local import LocalSource

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    Values = NDArray[Any]

DTYPES = {1: "u1", 2: "i2", 4: "i4"}


class Rows:
    """Some rows in RICE one after another, and an index of them."""

    def __init__(self, tiles: Sequence[bytes], dtype: str, block: int, length: int) -> None:
        self.sizes = np.array([len(tile) for tile in tiles])
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.data = np.frombuffer(b"".join(tiles) + b"\xff" * 1024, np.uint8)
        self.rows = np.arange(len(tiles))
        self.index = SeekIndex(Rice(block, np.dtype(dtype)), rows=len(tiles), length=length)
        self.index.learn(self.rows, self.data, self.starts, self.sizes)

    def sought(self, rows: NDArray[np.int64], start: int, stop: int) -> Values:
        stretch = self.index.stretch(rows, start, stop)
        return stretch.values(
            gathered(self.data, self.starts[rows] + stretch.starts, stretch.width)
        )


def _values(kind: str, dtype: str, shape: tuple[int, int], seed: int) -> Values:
    generator = np.random.default_rng(seed)
    limits = np.iinfo(dtype)
    if kind == "flat":
        values = np.full(shape, 7.0)
        values[:, ::300] = generator.integers(0, 90, values[:, ::300].shape)
    elif kind == "noise":
        values = generator.normal(50, 5, shape)
    elif kind == "spikes":
        values = generator.normal(50, 5, shape)
        values[generator.random(shape) < 0.02] = limits.max
    else:
        values = generator.integers(limits.min, limits.max, shape, endpoint=True).astype(float)
    clipped: Values = np.clip(values, limits.min, limits.max).astype(dtype)
    return clipped


@settings(max_examples=150)
@given(
    bytepix=st.sampled_from([1, 2, 4]),
    block=st.sampled_from([1, 7, 16, 32, 64, 100, 128]),
    length=st.integers(512, 1400) | st.sampled_from([512, 1024, 2048]),
    kind=st.sampled_from(["flat", "noise", "spikes", "random"]),
    limits=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_pixels_of_any_rows(
    bytepix: int, block: int, length: int, kind: str, limits: tuple[float, float], seed: int
) -> None:
    """What was compressed comes out, wherever decoding begins and ends."""
    values = _values(kind, DTYPES[bytepix], (9, length), seed)
    made = Rows([packed_by_rice(block)(one) for one in values], DTYPES[bytepix], block, length)
    assert made.index.knows(made.rows).all()
    start, stop = sorted(round(limit * length) for limit in limits)
    stop, start = max(stop, 1), min(start, length - 1)
    rows = np.flatnonzero(np.random.default_rng(seed).random(9) < 0.6)
    if len(rows) and start < stop:
        assert np.array_equal(made.sought(rows, start, stop), values[rows, start:stop])


def _coded(values: Sequence[int], *, block: int, split: int, extra: Sequence[int]) -> bytes:
    """A tile of 16-bit values in RICE, coded as no good writer would.

    All blocks have the same number of split bits; *extra* is added to the codes of differences.
    """
    bits = f"{values[0] & 0xFFFF:016b}"
    coded = [0, *(after - before for before, after in pairwise(values))]
    for number, (difference, more) in enumerate(zip(coded, extra, strict=True)):
        if number % block == 0:
            bits += f"{split + 1:04b}"
        code = (2 * difference if difference >= 0 else -2 * difference - 1) + more
        bits += (
            "0" * (code >> split) + "1" + (f"{code & (1 << split) - 1:0{split}b}" if split else "")
        )
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


@pytest.mark.parametrize("split", [3, 8, 13])
def test_codes_too_large_by_a_period(split: int) -> None:
    """A difference of 16 bits, counted in 17: decoded rightly, but of unexpected length.

    Old writers made such files. The rows beside them are not the worse for it.
    """
    values = _values("noise", "i2", (4, 1024), 5)
    nothing = [0] * 1024
    tiles = [_coded(one.tolist(), block=32, split=3, extra=nothing) for one in values]
    for place in range(11, 1024, 20):
        strange = list(nothing)
        strange[place] = 2 << 16  # a difference larger by 65536
        tiles[1] = _coded(values[1].tolist(), block=32, split=split, extra=strange)
        decoded = imagecodecs.rcomp_decode(tiles[1], shape=(1024,), dtype=np.int16, nblock=32)
        assert np.array_equal(decoded, values[1])
        made = Rows(tiles, "i2", 32, 1024)
        assert made.index.knows(made.rows).tolist() == [True, False, True, True]
        others = np.array([0, 2, 3])
        for start, stop in ((0, 1), (130, 700), (600, 1024)):
            assert np.array_equal(made.sought(others, start, stop), values[others, start:stop])


def test_rows_that_cannot_be_decoded_are_left_out() -> None:
    """Cut off, empty, or not RICE at all."""
    values = _values("noise", "i4", (8, 1000), 1)
    tiles = [packed_by_rice(32)(one) for one in values]
    tiles[1] = tiles[1][:300]
    tiles[4] = b""
    tiles[6] = b"\x00" * 5
    made = Rows(tiles, "i4", 32, 1000)
    known = made.index.knows(made.rows)
    assert known.tolist() == [True, False, True, True, False, True, False, True]
    assert np.array_equal(made.sought(made.rows[known], 333, 777), values[known, 333:777])


def test_a_row_of_endless_codes_takes_no_room_in_all_rows() -> None:
    """A legal way to code a large difference: a zero for each of what it is."""
    values = _values("noise", "i2", (5, 1024), 9)
    values[2, 500:] += 30_000
    nothing = [0] * 1024
    tiles = [_coded(one.tolist(), block=32, split=3, extra=nothing) for one in values]
    tiles[2] = _coded(values[2].tolist(), block=32, split=0, extra=nothing)
    made = Rows(tiles, "i2", 32, 1024)
    assert made.index.knows(made.rows).tolist() == [True, True, False, True, True]
    others = np.array([0, 1, 3, 4])
    assert made.index.stretch(others, 480, 520).width < 8 * 256
    assert np.array_equal(made.sought(others, 480, 520), values[others, 480:520])


# ---------------------------------------------------------------- in files


def _boxes(naxis: tuple[int, ...], seed: int) -> list[PixelBox]:
    generator = np.random.default_rng(seed)
    whole = PixelBox.whole(naxis)
    edges = ((0, 1), (naxis[0] - 1, naxis[0]), (naxis[0] // 2, naxis[0]))
    boxes = [whole, *(whole.replaced(0, *edge) for edge in edges)]
    for _ in range(12):
        pairs = [sorted(generator.choice(length + 1, 2, replace=False)) for length in naxis]
        boxes.append(PixelBox(tuple(int(a) for a, _ in pairs), tuple(int(b) for _, b in pairs)))
    return boxes


def _check(path: Path, expected: Values, *, rows: int | None = None) -> None:
    """Boxes without and with the index, against *expected*; the index knows so many *rows*."""
    with LocalSource.open(str(path)) as source:
        layouts = list(scan_hdus(source.read, source.version.size))
        layout = next(one for one in layouts if one.kind is HduKind.COMPRESSED)
        images = TiledImages(10**8)
        image = images.get(layout, source)
        for indexed in (False, True):
            if indexed:
                image.decoded_in_vain = 10**9
                images.get(layout, source)
                images.wait()
                assert image.index is not None
                every = np.arange(image.table.row_count)
                known = np.count_nonzero(image.index.knows(every))
                assert known == (len(every) if rows is None else rows)
            reader = open_reader(layout, source, images)
            for box in _boxes(layout.naxis, 3):
                pixels = b"".join(reader.bands(box, 4096))
                stored = np.ascontiguousarray(expected[box.slices])
                assert pixels == stored.astype(stored.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("method", [-1, 1, 2])
@pytest.mark.parametrize("width", [1024, 1000, 700])
def test_quantised_floats(tmp_path: Path, method: int, width: int) -> None:
    """Every dither, undefined pixels and exact zeros, rows that were not quantised."""
    generator = np.random.default_rng(width)
    stored = generator.normal(100, 5, (40, width)).astype("f4")
    stored[generator.random(stored.shape) < 0.01] = np.nan
    stored[generator.random(stored.shape) < 0.01] = 0.0
    stored[5] = 3.25  # without noise there is nothing to quantise by: gzip
    stored[17] = 0.0
    path = tmp_path / "image.fits"
    hdu = fits.CompImageHDU(
        stored, compression_type="RICE_1", tile_shape=(1, width),
        quantize_level=16, quantize_method=method, dither_seed=9973,
    )  # fmt: skip
    hdu.writeto(path)
    with fitsio.FITS(str(path)) as file:
        by_cfitsio = file[1].read()
    with fits.open(path) as hdus:
        by_astropy = np.array(hdus[1].data)
    assert np.array_equal(by_cfitsio, by_astropy, equal_nan=True)
    _check(path, by_astropy.astype("f4"), rows=38)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4"])
@pytest.mark.parametrize("shape", [(30, 640), (3, 11, 600)])
def test_integers_and_cubes(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    stored = _values("spikes", dtype, (shape[0] * shape[-2], shape[-1]), 4)[: np.prod(shape[:-1])]
    stored = np.resize(stored, shape)
    path = tmp_path / "image.fits"
    tile = (1,) * (len(shape) - 1) + shape[-1:]
    fits.CompImageHDU(stored, compression_type="RICE_1", tile_shape=tile).writeto(path)
    _check(path, stored)


def test_undefined_integers_of_each_row(tmp_path: Path) -> None:
    """Marked by each row in its own way, and by the image in another."""
    stored = _values("noise", "i2", (6, 600), 8)
    rows = []
    for number, one in enumerate(stored):
        marked = one.copy()
        marked[::50] = 1000 + number
        rows.append(Row(packed_by_rice()(marked), blank=1000 + number))
    path = tmp_path / "image.fits"
    cards = [("ZVAL1", 32), ("ZVAL2", 2), ("BLANK", -999)]
    path.write_bytes(tile_file(rows, (600, 6), 16, (600, 1), "RICE_1", cards))
    stored[:, ::50] = -999
    _check(path, stored)


def test_rows_in_other_columns(tmp_path: Path) -> None:
    """Plain and in gzip, among those in RICE."""
    stored = _values("noise", "i4", (9, 512), 8)
    rows = []
    for number, one in enumerate(stored):
        plain = one.astype(">i4").tobytes()
        row = Row(packed_by_rice()(one), gzipped=b"", plain=b"")
        if number == 3:
            row = Row(gzipped=gzip.compress(plain), plain=b"")
        if number in (0, 8):
            row = Row(gzipped=b"", plain=plain)
        rows.append(row)
    path = tmp_path / "image.fits"
    path.write_bytes(tile_file(rows, (512, 9), 32, (512, 1), "RICE_1", [("ZVAL1", 32)], plain="J"))
    _check(path, stored, rows=6)


def test_long_rows_are_read_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of rows of many bytes only what is wanted is read, at the end of the file too."""
    stored = _values("random", "i4", (5, 6000), 8)
    path = tmp_path / "image.fits"
    path.write_bytes(simple_file(stored, (6000, 1), "RICE_1", packed_by_rice(), [("ZVAL1", 32)]))
    _check(path, stored)
    read: list[int] = []
    original = LocalSource.read_into

    def counted(self: LocalSource, start: int, buffer: memoryview) -> None:
        read.append(len(buffer))
        original(self, start, buffer)

    with LocalSource.open(str(path)) as source:
        layout = list(scan_hdus(source.read, source.version.size))[-1]
        images = TiledImages(10**8)
        images.get(layout, source).decoded_in_vain = 10**9
        reader = open_reader(layout, source, images)
        images.wait()
        monkeypatch.setattr(LocalSource, "read_into", counted)
        list(reader.bands(PixelBox((3000, 0), (3050, 5)), 4096))
    assert sum(read) < 8000


def test_small_steps_and_blocks_of_one_pixel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seekindex, "STEP", 3)
    for block in (1, 2, 5):
        stored = _values("noise", "i4", (5, 61), block)
        path = tmp_path / f"{block}.fits"
        cards = [("ZVAL1", block), ("ZVAL2", 4)]
        path.write_bytes(simple_file(stored, (61, 1), "RICE_1", packed_by_rice(block), cards))
        _check(path, stored)


@pytest.mark.parametrize(("tile", "block"), [((600, 2), 32), ((300, 1), 32), ((600, 1), 600)])
def test_no_index_where_there_is_little_to_save(
    tmp_path: Path, tile: tuple[int, int], block: int
) -> None:
    stored = _values("noise", "i4", (4, 600), 1)
    path = tmp_path / "image.fits"
    cards = [("ZVAL1", block), ("ZVAL2", 4)]
    path.write_bytes(simple_file(stored, tile, "RICE_1", packed_by_rice(block), cards))
    with LocalSource.open(str(path)) as source:
        layout = list(scan_hdus(source.read, source.version.size))[-1]
        assert TiledImage(layout, source.path).seekable is None
