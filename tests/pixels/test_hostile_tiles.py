"""Tables of tiles that lie, and tiles that are damaged: an error that names the tile, or pixels.

Never a crash, never memory without bound, never a byte from outside the heap.
"""

from __future__ import annotations

import gzip
import subprocess
import sys
import tracemalloc
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
from astropy.io.fits.hdu.compressed._codecs import HCompress1
from hypothesis import given, settings, strategies as st
from support.images import card_bytes, noise
from support.tilefiles import Row, big_endian, gzip_1, plio, rice, simple_file, tile_file, tiles_of

from soda_service.errors import CorruptFileError
from soda_service.fits.cards import Header
from soda_service.fits.layout import HduLayout, scan_hdus
from soda_service.geometry.pixelbox import PixelBox
from soda_service.pixels import tiled
from soda_service.pixels.reader import open_reader
from soda_service.pixels.tilecodecs import GUARD, Extent, _hcompress_longest, decoder
from soda_service.pixels.tilevalues import TileValues
from soda_service.storage.local import LocalSource

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from support.images import CardSpec

NAXIS: Final = (31, 17)
TILE: Final = (8, 5)
STORED: Final[NDArray[Any]] = noise(*NAXIS, dtype="i4")
RICE: Final[list[CardSpec]] = [
    *(("ZNAME1", "BLOCKSIZE"), ("ZVAL1", 32)),
    *(("ZNAME2", "BYTEPIX"), ("ZVAL2", 4)),
]
MIB: Final = 1024 * 1024


def _file(**options: Any) -> bytes:
    return simple_file(STORED, TILE, "RICE_1", rice(), RICE, **options)


def _layout(path: Path) -> HduLayout:
    with LocalSource.open(str(path)) as source:
        return list(scan_hdus(source.read, source.version.size))[-1]


def _read(path: Path, layout: HduLayout | None = None, box: PixelBox | None = None) -> bytes:
    layout = layout or _layout(path)
    with LocalSource.open(str(path)) as source:
        reader = open_reader(layout, source)
        return b"".join(reader.bands(box or PixelBox.whole(layout.naxis), 4096))


def _changed(layout: HduLayout, *changes: CardSpec) -> HduLayout:
    """The layout with other cards, and new ones behind."""
    given = {change[0]: card_bytes(change) for change in changes if not isinstance(change, str)}
    cards = [given.pop(card.keyword, card.raw) for card in layout.header]
    return replace(layout, header=Header(b"".join([*cards, *given.values()])))


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    path = tmp_path / "image.fits"
    path.write_bytes(_file())
    return path


@pytest.mark.parametrize(
    ("descriptor", "count", "offset"),
    [
        pytest.param("P", None, 2**31 - 1, id="behind the heap"),
        pytest.param("P", None, -1, id="before the heap"),
        pytest.param("P", 2**31 - 1, None, id="longer than the heap"),
        pytest.param("P", -5, None, id="a negative length"),
        pytest.param("Q", 1, 10**6, id="one byte behind the file"),
        pytest.param("Q", 2**62, 2**62, id="beyond all numbers"),
        pytest.param("Q", -(2**63), -(2**63), id="before all numbers"),
    ],
)
def test_tiles_outside_the_heap_are_refused(
    tmp_path: Path, descriptor: str, count: int | None, offset: int | None
) -> None:
    """Named by HDU and tile; the others are still read."""
    number = ">i4" if descriptor == "P" else ">i8"
    path = tmp_path / "image.fits"
    path.write_bytes(_file(descriptor=descriptor))
    layout = _layout(path)
    size = 2 * np.dtype(number).itemsize
    with path.open("r+b") as file:
        file.seek(layout.data_offset + 5 * size)
        sound = np.frombuffer(file.read(size), number)
        file.seek(-size, 1)
        given = [sound[0] if count is None else count, sound[1] if offset is None else offset]
        file.write(np.array(given, number).tobytes())
    with pytest.raises(CorruptFileError, match=r"HDU 1: tile 6 does not lie inside the heap"):
        _read(path)
    box = PixelBox((0, 0), (NAXIS[0], TILE[1]))
    assert _read(path, box=box) == big_endian(STORED[box.slices])


def test_the_last_byte_of_the_heap_is_the_last(path: Path) -> None:
    """A tile that reaches one byte into the padding is outside."""
    layout = _layout(path)
    heap = layout.header.integer("PCOUNT") or 0
    assert _read(path, _changed(layout, ("PCOUNT", heap))) == big_endian(STORED)
    shorter = _changed(layout, ("PCOUNT", heap - 1))
    with pytest.raises(CorruptFileError, match="tile 16 does not lie inside the heap"):
        _read(path, shorter)


def test_a_tile_that_is_missing_is_refused(tmp_path: Path) -> None:
    """Nothing stands in any of its columns."""
    rows = [Row(rice()(one), b"") for one in tiles_of(STORED, TILE)]
    rows[9] = Row(b"", b"")
    path = tmp_path / "image.fits"
    path.write_bytes(tile_file(rows, NAXIS, 32, TILE, "RICE_1", RICE))
    with pytest.raises(CorruptFileError, match="HDU 1: tile 10 is missing"):
        _read(path)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([("ZTILE1", 31)], id="a tile as wide as the image"),
        pytest.param([("ZTILE2", 4)], id="more tiles than rows"),
        pytest.param([("ZTILE1", 1), ("ZTILE2", 1)], id="a tile for each pixel"),
        pytest.param([("NAXIS2", 15)], id="a row too few"),
        pytest.param([("THEAP", 1)], id="a heap inside the table"),
        pytest.param([("THEAP", 10**9)], id="a heap behind the file"),
        pytest.param([("THEAP", "here")], id="a heap in words"),
        pytest.param([("PCOUNT", 10**9)], id="a heap longer than the file"),
        pytest.param([("PCOUNT", -1)], id="a negative heap"),
        pytest.param([("NAXIS1", -8)], id="negative rows"),
        pytest.param([("NAXIS1", 4)], id="columns wider than rows"),
        pytest.param([("TFIELDS", 10**6)], id="a million columns"),
        pytest.param([("TFIELDS", 2)], id="a column without a form"),
        pytest.param([("TFORM1", "1J")], id="numbers, not arrays"),
        pytest.param([("TFORM1", "99999999999999999999PB")], id="endless columns"),
        pytest.param([("TFORM1", "1PQ")], id="arrays of descriptors"),
        pytest.param([("TTYPE1", "ELSEWHERE")], id="no data"),
        pytest.param([("TSCAL1", 2.0)], id="scaled descriptors"),
        pytest.param([("ZVAL1", 0)], id="blocks of no pixels"),
        pytest.param([("ZVAL1", -32)], id="blocks of negative length"),
        pytest.param([("ZVAL1", 10**12)], id="endless blocks"),
        pytest.param([("ZVAL1", 32.5)], id="blocks of half a pixel"),
        pytest.param([("ZVAL2", 8)], id="pixels of eight bytes"),
        pytest.param([("ZVAL2", True)], id="pixels of true bytes"),
        pytest.param([("ZCMPTYPE", "BZIP2_1")], id="an unknown method"),
    ],
)
def test_headers_that_lie_are_refused(path: Path, changes: Sequence[CardSpec]) -> None:
    """Whatever else they say."""
    with pytest.raises(CorruptFileError, match="HDU 1"):
        _read(path, _changed(_layout(path), *changes))


@pytest.mark.parametrize("seed", [-20000, 2**31, 10**20])
def test_a_seed_that_would_crash_other_readers_is_refused(tmp_path: Path, seed: int) -> None:
    """A negative ZDITHER0 makes them look before the first random number."""
    rows = [Row(rice()(one), scale=1.0, zero=0.0) for one in tiles_of(STORED, TILE)]
    cards: list[CardSpec] = [*RICE, ("ZQUANTIZ", "SUBTRACTIVE_DITHER_1"), ("ZDITHER0", seed)]
    path = tmp_path / "image.fits"
    path.write_bytes(tile_file(rows, NAXIS, -32, TILE, "RICE_1", cards))
    with pytest.raises(CorruptFileError, match="ZDITHER0"):
        _read(path)


def test_scaled_integers_are_refused(tmp_path: Path) -> None:
    """Both libraries change them, though only floats are quantised; 1 and 0 change none."""
    path = tmp_path / "image.fits"
    for scale, zero in ((2.0, 0.0), (1.0, 3.0)):
        rows = [Row(rice()(one), scale=scale, zero=zero) for one in tiles_of(STORED, TILE)]
        path.write_bytes(tile_file(rows, NAXIS, 32, TILE, "RICE_1", RICE))
        with pytest.raises(CorruptFileError, match=r"HDU 1: tile 1 holds .* ZSCALE"):
            _read(path)
    rows = [Row(rice()(one), scale=1.0, zero=0.0) for one in tiles_of(STORED, TILE)]
    path.write_bytes(tile_file(rows, NAXIS, 32, TILE, "RICE_1", RICE))
    assert _read(path) == STORED.astype(">i4").tobytes()


def test_floats_that_are_quantised_and_are_not_are_refused(tmp_path: Path) -> None:
    """RICE holds integers: without ZSCALE they would be none of the image's values."""
    rows = [Row(rice()(one), scale=0.5, zero=0.0) for one in tiles_of(STORED, TILE)]
    cards: list[CardSpec] = [*RICE, ("ZQUANTIZ", "NONE")]
    path = tmp_path / "image.fits"
    path.write_bytes(tile_file(rows, NAXIS, -32, TILE, "RICE_1", cards))
    with pytest.raises(CorruptFileError, match="ZQUANTIZ = 'NONE'"):
        _read(path)


def test_undefined_pixels_in_a_mask_are_refused(tmp_path: Path) -> None:
    """Not given a value without a word."""
    rows = [Row(gzip_1(one), gzip_1(one)) for one in tiles_of(STORED, TILE)]
    path = tmp_path / "image.fits"
    path.write_bytes(tile_file(rows, NAXIS, 32, TILE, "GZIP_1"))
    masked = _changed(_layout(path), ("TTYPE2", "NULL_PIXEL_MASK"))
    with pytest.raises(CorruptFileError, match="NULL_PIXEL_MASK"):
        _read(path, masked)


def test_integers_too_large_for_the_image_are_refused(tmp_path: Path) -> None:
    """They would wrap round."""
    rows = [Row(rice()(one + 70_000)) for one in tiles_of(STORED, TILE)]
    path = tmp_path / "image.fits"
    path.write_bytes(tile_file(rows, NAXIS, 16, TILE, "RICE_1", RICE))
    with pytest.raises(CorruptFileError, match=r"HDU 1: tile 1 cannot be read: .* too large"):
        _read(path)


def test_lossy_integers_are_clipped(tmp_path: Path) -> None:
    """As cfitsio does it: a lossy HCOMPRESS misses the largest value by a little."""
    tile = np.full((8, 8), 32_767, "i4")
    tile[3, 3] = 32_900
    packed = HCompress1(scale=0, smooth=False, bytepix=8, nx=8, ny=8).encode(tile.astype("i8"))
    path = tmp_path / "image.fits"
    path.write_bytes(tile_file([Row(packed)], (8, 8), 16, (8, 8), "HCOMPRESS_1"))
    assert _read(path) == np.full((8, 8), 32_767, ">i2").tobytes()


@pytest.mark.parametrize(
    ("method", "packed"),
    [
        pytest.param("GZIP_1", gzip.compress(bytes(100 * MIB)), id="a gzip bomb"),
        pytest.param("GZIP_1", gzip.compress(b"") * 5000, id="members without end"),
        pytest.param("GZIP_2", gzip.compress(bytes(100 * MIB)), id="a shuffled bomb"),
        pytest.param("NOCOMPRESS", bytes(20 * MIB), id="too many bytes"),
        pytest.param("RICE_1", bytes(20 * MIB), id="zeros without end"),
    ],
)
def test_bombs_are_refused(tmp_path: Path, method: str, packed: bytes) -> None:
    """A tile of a hundred pixels takes the memory of one."""
    path = tmp_path / "image.fits"
    path.write_bytes(tile_file([Row(packed)], (10, 10), 32, (10, 10), method, RICE))
    layout = _layout(path)
    with LocalSource.open(str(path)) as source:
        reader = open_reader(layout, source)
        tracemalloc.start()
        try:
            with pytest.raises(CorruptFileError, match="HDU 1: tile 1 "):
                list(reader.bands(PixelBox.whole((10, 10)), 4096))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 4 * MIB


def test_a_tile_that_many_parts_want_is_decoded_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is room for it; what comes out is the same where there is none."""
    decoded: list[int] = []
    original = TileValues.decoded

    def counted(self: TileValues, tile: Any, *more: Any) -> Any:
        decoded.append(tile.row)
        return original(self, tile, *more)

    monkeypatch.setattr(TileValues, "decoded", counted)
    box = PixelBox((3, 2), (29, 17))
    for slab, most in ((10**6, 16), (3000, 16), (400, 60)):
        monkeypatch.setattr(tiled, "_SLAB", slab)
        decoded.clear()
        assert _read(path, box=box) == big_endian(STORED[box.slices])
        assert len(decoded) <= most
        assert set(decoded) == set(range(16))


SETTINGS: Final[dict[str, list[CardSpec]]] = {
    "RICE 1": [("ZCMPTYPE", "RICE_1"), ("ZVAL1", 32), ("ZVAL2", 1)],
    "RICE 2": [("ZCMPTYPE", "RICE_1"), ("ZVAL1", 16), ("ZVAL2", 2)],
    "RICE 4": [("ZCMPTYPE", "RICE_1"), ("ZVAL1", 32), ("ZVAL2", 4)],
    "RICE long": [("ZCMPTYPE", "RICE_1"), ("ZVAL1", 10**6), ("ZVAL2", 4)],
    "GZIP_1": [("ZCMPTYPE", "GZIP_1")],
    "GZIP_2": [("ZCMPTYPE", "GZIP_2")],
    "PLIO_1": [("ZCMPTYPE", "PLIO_1")],
    "HCOMPRESS_1": [("ZCMPTYPE", "HCOMPRESS_1"), ("ZVAL2", 1)],
    "NOCOMPRESS": [("ZCMPTYPE", "NOCOMPRESS")],
}
HEADERS: Final = {
    name: Header(b"".join(card_bytes(card) for card in cards)) for name, cards in SETTINGS.items()
}


@settings(max_examples=400)
@given(
    method=st.sampled_from(sorted(HEADERS)),
    axes=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    data=st.binary(max_size=300),
    length=st.integers(0, 300),
)
def test_any_bytes_end_in_values_or_in_an_error(
    method: str, axes: tuple[int, int], data: bytes, length: int
) -> None:
    """Of the errors that the reader knows, whatever a tile holds."""
    size = axes[0] * axes[1]
    if method == "HCOMPRESS_1":
        # Past its first checks, or nothing would ever be decoded.
        front = b"\xdd\x99" + np.array([axes[1], axes[0], 1], ">i4").tobytes()
        data = front + data
    data = data[:length]
    buffer = np.frombuffer(data + b"\xff" * GUARD, np.uint8)
    try:
        values = decoder(HEADERS[method], is_float=False)(
            buffer[: len(data)], Extent(axes, size, size)
        )
    except (ValueError, RuntimeError, zlib.error):
        return
    assert len(values) >= size


def test_no_byte_behind_the_guard_is_touched() -> None:
    """In a process of its own: behind the guard lies a page that kills who reads it."""
    script = """
import ctypes, mmap, sys
import numpy as np
from soda_service.fits.cards import Header
from soda_service.pixels.tilecodecs import GUARD, Extent, decoder
page = mmap.PAGESIZE
room = mmap.mmap(-1, 3 * page)
address = ctypes.addressof(ctypes.c_char.from_buffer(room))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.mprotect(ctypes.c_void_p(address + 2 * page), page, 0) == 0
content = np.frombuffer(room, np.uint8)[: 2 * page]
content[-GUARD:] = 255
generator = np.random.default_rng(5)
decoders = [
    decoder(Header(b"".join(card.ljust(80) for card in cards)), is_float=False)
    for block in (16, 32) for width in (1, 2, 4)
    for cards in [(b"ZCMPTYPE= 'RICE_1'", b"ZVAL1   = %d" % block, b"ZVAL2   = %d" % width)]
]
outcomes = {True: 0, False: 0}
for attempt in range(6000):
    size = int(generator.integers(1, 200))
    data = content[2 * page - GUARD - size : 2 * page - GUARD]
    # Zeros, which the decoder reads over, sparse bits, noise, and direct codes.
    data[:] = generator.integers(0, 256, size) * (generator.random(size) < generator.random())
    if attempt % 3 == 0:
        data[-int(generator.integers(1, size + 1)) :] = 0
    if attempt % 5 == 0:
        data[:] = 255
    pixels = int(generator.integers(1, 3000))
    try:
        decoders[attempt % len(decoders)](data, Extent((pixels,), pixels, pixels))
        outcomes[True] += 1
    except RuntimeError:
        outcomes[False] += 1
print(outcomes[True], outcomes[False])
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    decoded, refused = map(int, run.stdout.split())
    assert decoded > 20
    assert refused > 2000


@settings(max_examples=150)
@given(
    slow=st.integers(4, 40),
    fast=st.integers(4, 40),
    bits=st.integers(1, 31),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_stream_of_hcompress_is_longer_than_the_longest(
    slow: int, fast: int, bits: int, seed: int
) -> None:
    """So many bytes are laid behind a damaged one that its decoder cannot leave them."""
    generator = np.random.default_rng(seed)
    tile = generator.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (slow, fast)).astype("i8")
    codec = HCompress1(scale=0, smooth=False, bytepix=8, nx=slow, ny=fast)
    encoded = codec.encode(tile)
    assert len(encoded) <= _hcompress_longest(slow, fast, list(encoded[22:25]))


def test_lists_of_pixels_in_the_newer_form() -> None:
    """With seven words of header, of which one says how many they are."""
    stored = np.array([0, 0, 5, 5, 70_000, 0, 3, 3, 3, 0], "i4")
    older = plio(stored)
    words = np.frombuffer(older, ">i2")[3:]
    header = np.array([0, 7, -100, len(words) + 7, 0, 0, 0], ">i2")
    buffer = np.frombuffer(header.tobytes() + words.tobytes() + b"\xff" * GUARD, np.uint8)
    decode = decoder(HEADERS["PLIO_1"], is_float=False)
    values = decode(buffer[:-GUARD], Extent((10,), 10, 10))
    assert values.tolist() == stored.tolist()


def test_lists_of_pixels_without_end_stay_in_the_tile() -> None:
    """Thirty thousand runs of four thousand pixels, of which a tile has a hundred."""
    words = np.full(30_000, 0x4FFF, ">i2")
    buffer = np.frombuffer(words.tobytes() + b"\xff" * GUARD, np.uint8)
    decode = decoder(HEADERS["PLIO_1"], is_float=False)
    tracemalloc.start()
    try:
        values = decode(buffer[:-GUARD], Extent((10, 10), 100, 100))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert values[:100].tolist() == [1] * 100
    assert peak < 4 * MIB
