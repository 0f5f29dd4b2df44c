"""Tiles that are passed through: the bytes of the parent, and its values to the bit."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
from astropy.io import fits
from support.images import COMPRESSED_FAMILIES, FAMILIES, noise
from support.packed import (
    complaints_about,
    image_by_cfitsio,
    images_by_astropy,
    layouts_of,
    parts_of,
    unpacked,
)
from support.tilefiles import (
    Row,
    big_endian,
    gzip_1,
    plio,
    rice,
    simple_file,
    tile_file,
    tiles_of,
)

from soda_service.errors import CorruptFileError
from soda_service.fits.cards import Header
from soda_service.fits.header import cut_header
from soda_service.fits.layout import HduLayout, scan_hdus
from soda_service.fits.newcards import card
from soda_service.geometry.pixelbox import PixelBox
from soda_service.pixels import tilepass
from soda_service.pixels.reader import open_reader
from soda_service.pixels.tilepass import passed_tiles
from soda_service.render.fits import FitsPart, checksummed, with_checksum_cards
from soda_service.render.packed import TiledPart, tile_compressed
from soda_service.render.spool import SpoolRoom
from soda_service.storage.local import LocalSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from soda_service.pixels.tilepass import PassedTiles

KIB: Final = 1024
EMPTY: Final = bytes(FAMILIES["mef"]()[:2880])
"""A primary HDU without data."""


class Parent:
    """A file with one compressed image."""

    def __init__(self, path: Path, raw: bytes) -> None:
        path.write_bytes(raw)
        self.raw = raw
        self.source = LocalSource.open(str(path))
        layouts = scan_hdus(self.source.read, self.source.version.size)
        self.layout: HduLayout = next(layout for layout in layouts if layout.is_image)
        self._folder = path.parent

    @property
    def tile(self) -> tuple[int, ...]:
        """Axis lengths of a tile."""
        header = self.layout.header
        axes = range(1, len(self.layout.naxis) + 1)
        return tuple(int(str(header[f"ZTILE{axis}"])) for axis in axes)

    def values(self, box: PixelBox) -> NDArray[np.generic]:
        """What astropy reads of the whole file, cut."""
        (stored,) = images_by_astropy(self.raw).values()
        return stored[box.slices]

    def passed(self, box: PixelBox) -> PassedTiles | None:
        """The tiles of *box*."""
        return passed_tiles(self.layout, box, self.source)

    def plain(self, box: PixelBox) -> FitsPart:
        """The uncompressed cutout."""
        header = cut_header(self.layout.header, box, kind=self.layout.kind, first=False)
        data = b"".join(open_reader(self.layout, self.source).bands(box, 64 * KIB))
        return FitsPart(header=header, data=[data], data_size=len(data))

    def packed(self, box: PixelBox, *, summed: bool = False) -> Path:
        """A file of the passed tiles of *box*."""
        tiles = self.passed(box)
        assert tiles is not None
        plain = self.plain(box)
        if summed:
            header = checksummed(with_checksum_cards(plain.header), plain.data)
            plain = FitsPart(header=header, data=plain.data, data_size=plain.data_size)
        room = SpoolRoom(self._folder, 10**8)
        path = self._folder / "packed.fits.fz"
        with tile_compressed([*parts_of(EMPTY), TiledPart(plain=plain, tiles=tiles)], room) as made:
            path.write_bytes(b"".join(made.chunks()))
        return path

    def assert_passed(self, box: PixelBox) -> None:
        """Astropy and cfitsio read from the passed tiles what the plain cutout holds."""
        path = self.packed(box)
        expected = self.values(box).tobytes()
        plain = self.plain(box)
        assert b"".join(bytes(piece) for piece in plain.data) == expected
        (read,) = images_by_astropy(path.read_bytes()).values()
        assert read.tobytes() == expected
        assert image_by_cfitsio(path, 1).tobytes() == expected


@pytest.fixture(name="parent_of")
def _parent_of(tmp_path: Path) -> Iterator[Any]:
    opened: list[Parent] = []

    def open_parent(raw: bytes) -> Parent:
        opened.append(Parent(tmp_path / f"parent{len(opened)}.fits", raw))
        return opened[-1]

    yield open_parent
    for one in opened:
        one.source.close()


def compressed(stored: NDArray[np.generic], **options: object) -> bytes:
    """A file with one compressed image, by astropy."""
    buffer = io.BytesIO()
    hdus = [fits.PrimaryHDU(), fits.CompImageHDU(stored, name="TILES", **options)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits.HDUList(hdus).writeto(buffer)
    return buffer.getvalue()


def boxes_of(parent: Parent) -> list[PixelBox]:
    """Boxes of whole tiles: all, the last ones, some of the middle of the last axis."""
    naxis, tile = parent.layout.naxis, parent.tile
    boxes = [PixelBox.whole(naxis)]
    axis = max(axis for axis in range(len(naxis)) if tile[axis] < naxis[axis])
    count = -(-naxis[axis] // tile[axis])
    for first, end in ((count // 3, count), (count // 2, count // 2 + 1), (0, count - 1 or 1)):
        high = min(naxis[axis], end * tile[axis])
        boxes.append(boxes[0].replaced(axis, first * tile[axis], high))
    return boxes


@pytest.mark.parametrize(
    "name", [name for name in COMPRESSED_FAMILIES if name != "compressed_unsigned_16"]
)
def test_tiles_of_the_zoo_are_passed(name: str, parent_of: Any) -> None:
    """All methods, dithered or not, with tiles in gzip because they could not be quantised."""
    parent = parent_of(FAMILIES[name]())
    for box in boxes_of(parent):
        if parent.passed(box) is None:
            # Tiles of the slowest axis but one do not follow each other.
            assert "dither" in name
            continue
        parent.assert_passed(box)


@pytest.mark.parametrize("name", ["compressed_tiles", "compressed_rice_1_f4_dither_2"])
def test_the_bytes_are_those_of_the_parent(name: str, parent_of: Any) -> None:
    """Tile for tile, and fewer are read than there are."""
    parent = parent_of(FAMILIES[name]())
    box = boxes_of(parent)[1]
    path = parent.packed(box)
    with (
        fits.open(io.BytesIO(parent.raw), disable_image_compression=True) as before,
        fits.open(path, disable_image_compression=True) as after,
    ):
        its = [bytes(one) for one in before[1].data["COMPRESSED_DATA"]]
        mine = [bytes(one) for one in after[1].data["COMPRESSED_DATA"]]
    at = next(at for at in range(len(its)) if its[at : at + len(mine)] == mine)
    assert at > 0
    assert 0 < len(mine) < len(its)


@pytest.mark.parametrize("method", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1"])
def test_a_column_of_tiles_of_integers(method: str, parent_of: Any) -> None:
    """Their numbers do not follow each other, which matters to dithers only."""
    stored = (noise(70, 53, dtype="f8", sigma=9) % 250).astype("i4")
    parent = parent_of(compressed(stored, compression_type=method, tile_shape=(9, 20)))
    for lower, upper in (((20, 9), (40, 45)), ((60, 0), (70, 53)), ((40, 45), (70, 53))):
        parent.assert_passed(PixelBox(lower, upper))


def test_tiles_of_a_cube(parent_of: Any) -> None:
    """Three axes, cut in all of them."""
    stored = noise(31, 17, 7, dtype="i4", sigma=9)
    parent = parent_of(compressed(stored, compression_type="RICE_1", tile_shape=(3, 5, 9)))
    for lower, upper in (((9, 5, 3), (27, 17, 6)), ((27, 0, 6), (31, 5, 7))):
        parent.assert_passed(PixelBox(lower, upper))
    assert parent.passed(PixelBox((9, 5, 3), (27, 17, 7))) is not None
    for lower, upper in (
        ((9, 5, 2), (27, 17, 6)),
        ((9, 5, 3), (26, 17, 6)),
        ((9, 5, 3), (27, 16, 6)),
    ):
        assert parent.passed(PixelBox(lower, upper)) is None


@pytest.mark.parametrize("seed", [1, 42, 9_990, 10_000])
@pytest.mark.parametrize("dither", [1, 2])
def test_a_dither_goes_on_where_tiles_follow_each_other(
    dither: int, seed: int, parent_of: Any
) -> None:
    """The random numbers of a tile are given by its number: ZDITHER0 makes up for the new one."""
    stored = noise(64, 90)
    options = {"quantize_level": 8.0, "quantize_method": dither, "dither_seed": seed}
    parent = parent_of(compressed(stored, compression_type="RICE_1", **options))
    box = PixelBox((0, 17), (64, 61))
    parent.assert_passed(box)
    header = layouts_of(parent.packed(box).read_bytes())[1].header
    assert header["ZDITHER0"] == (seed + 17 - 1) % 10_000 + 1
    # Were it that of the parent, the values would be others: the test would see it.
    whole = parent.packed(box).read_bytes()
    wrong = whole.replace(
        card("ZDITHER0", int(str(header["ZDITHER0"])))[:30], card("ZDITHER0", seed)[:30]
    )
    (read,) = images_by_astropy(wrong).values()
    assert read.tobytes() != parent.values(box).tobytes()


def test_the_random_numbers_repeat(parent_of: Any) -> None:
    """After ten thousand tiles."""
    stored = noise(8, 10_040)
    options = {"quantize_level": 8.0, "quantize_method": 1, "dither_seed": 7}
    parent = parent_of(compressed(stored, compression_type="RICE_1", **options))
    parent.assert_passed(PixelBox((0, 9_980), (8, 10_040)))
    parent.assert_passed(PixelBox((0, 10_001), (8, 10_030)))


def test_a_dither_cannot_go_on_where_tiles_are_apart(parent_of: Any) -> None:
    """A column of tiles is compressed anew; a row of them is not, nor is a column undithered."""
    stored = noise(60, 40)
    options = {"compression_type": "RICE_1", "quantize_level": 8.0, "tile_shape": (10, 20)}
    dithered = parent_of(compressed(stored, quantize_method=1, dither_seed=5, **options))
    column, row = PixelBox((20, 0), (40, 40)), PixelBox((20, 10), (60, 20))
    assert dithered.passed(column) is None
    dithered.assert_passed(row)
    plain = parent_of(compressed(stored, quantize_method=-1, **options))
    plain.assert_passed(column)
    # What is compressed anew is so without loss.
    room = SpoolRoom(plain._folder, 10**8)
    with tile_compressed([*parts_of(EMPTY), dithered.plain(column)], room) as made:
        (read,) = images_by_astropy(b"".join(made.chunks())).values()
    assert read.tobytes() == dithered.values(column).tobytes()


def test_what_readers_do_not_read_alike_is_not_passed(parent_of: Any) -> None:
    """It is compressed anew, in a way that they all know."""
    stored = (noise(30, 20, dtype="f8", sigma=9) % 250).astype("i4")

    def passed(raw: bytes) -> bool:
        parent = parent_of(raw)
        return parent.passed(boxes_of(parent)[0]) is not None

    def rows(method: str, encode: Any, cards: Any = (), element: str = "B") -> bytes:
        return simple_file(stored, (30, 1), method, encode, cards, element=element)

    settings = [("ZNAME1", "BLOCKSIZE"), ("ZVAL1", 32), ("ZNAME2", "BYTEPIX"), ("ZVAL2", 4)]
    assert passed(rows("RICE_1", rice(), settings))
    assert not passed(rows("RICE_1", rice()))
    assert passed(rows("PLIO_1", plio, element="I"))
    assert not passed(rows("PLIO_1", plio, element="B"))
    assert not passed(rows("NOCOMPRESS", big_endian))
    assert not passed(simple_file(stored.astype("i8"), (30, 1), "GZIP_1", gzip_1))
    scaled = [Row(gzip_1(one), scale=0.5, zero=1.0) for one in tiles_of(stored, (30, 1))]
    bare = [Row(gzip_1(one)) for one in tiles_of(stored, (30, 1))]
    assert passed(tile_file(scaled, (30, 20), -32, (30, 1), "GZIP_1"))
    of_all = [("ZSCALE", 0.5), ("ZZERO", 1.0)]
    assert not passed(tile_file(bare, (30, 20), -32, (30, 1), "GZIP_1", of_all))
    raw = FAMILIES["compressed_rice_1_f4_gaps"]()
    assert raw.count(b"ZBLANK  =") == 1
    assert passed(raw)
    assert not passed(raw.replace(b"ZBLANK  =", b"BLANK   ="))


@pytest.mark.parametrize("name", ["compressed_tiles", "compressed_rice_1_f4_gaps"])
def test_funpack_and_fitsverify(name: str, parent_of: Any, tmp_path: Path) -> None:
    """The plain cutout comes out, and nothing is complained of."""
    parent = parent_of(FAMILIES[name]())
    box = boxes_of(parent)[1]
    path = parent.packed(box, summed=True)
    assert complaints_about(path) == set()
    again = tmp_path / "again.fits"
    again.write_bytes(unpacked(path))
    expected = parent.values(box)
    with fits.open(again, checksum=True) as hdus:
        # An undefined pixel is a NaN of other bits here: a sum of floats would not be true.
        assert np.array_equal(hdus[1].data, expected, equal_nan=expected.dtype.kind == "f")
        assert hdus[1].verify_datasum() == 1
        table = layouts_of(path.read_bytes())[1].header
        sums = {"f": None, "i": hdus[1].header["DATASUM"]}
        assert table.get("ZDATASUM") == sums[expected.dtype.kind]
        cards = {one.raw for one in Header(hdus[1].header.tostring("", False, False).encode())}
    structure = (b"XTENSION", b"NAXIS", b"PCOUNT", b"GCOUNT", b"BITPIX", b"CHECKSUM", b"DATASUM")
    plain = Header.parse(parent.plain(box).header)
    assert {one.raw for one in plain if not one.raw.startswith(structure)} <= cards


def test_what_is_not_compressed_has_no_tiles(parent_of: Any) -> None:
    """A plain image."""
    parent = parent_of(FAMILIES["tan"]())
    assert parent.passed(PixelBox.whole(parent.layout.naxis)) is None


def test_more_tiles_than_memory_should_hold(
    parent_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are decompressed band by band."""
    parent = parent_of(FAMILIES["compressed_rice_1_i2"]())
    box = PixelBox.whole(parent.layout.naxis)
    assert parent.passed(box) is not None
    monkeypatch.setattr(tilepass, "_MOST_TILES", 46)
    assert parent.passed(box) is None


@pytest.mark.parametrize(
    "change",
    [
        (b"'1PB(", b"'2PB("),
        (b"TFORM1  = '1", b"TFORM1  = 'Q"),
        (b"'COMPRESSED_DATA'", b"'NULL_PIXEL_MASK'"),
        (b"ZTILE1  =                   17", b"ZTILE1  =                   -1"),
    ],
)
def test_a_table_that_is_not_understood_is_not_passed_on(
    change: tuple[bytes, bytes], parent_of: Any
) -> None:
    """Whoever decompresses it says what is wrong."""
    raw = FAMILIES["compressed_tiles"]()
    assert raw.count(change[0]) == 1
    parent = parent_of(raw.replace(*change))
    assert parent.passed(PixelBox.whole(parent.layout.naxis)) is None


def test_a_header_that_claims_more_tiles_than_there_can_be(parent_of: Any) -> None:
    """Nothing is reserved for what a header claims."""
    raw = FAMILIES["compressed_tiles"]()
    axes = ("ZNAXIS1 =", "ZNAXIS2 =", "ZTILE1  =", "ZTILE2  =")
    claims = (3 * 10**9, 3 * 10**9, 1, 1)
    for start, claim in zip(axes, claims, strict=True):
        at = raw.index(start.encode())
        raw = raw[: at + 10] + f"{claim:>20}".encode() + raw[at + 30 :]
    parent = parent_of(raw)
    assert parent.layout.naxis == (3 * 10**9, 3 * 10**9)
    assert parent.passed(PixelBox.whole(parent.layout.naxis)) is None


@pytest.mark.parametrize("name", ["compressed_tiles", "compressed_rice_1_f4_gaps"])
def test_damage_is_refused_or_passed_on(name: str, parent_of: Any) -> None:
    """Wherever bytes of the header or the table are wrong: tiles, none, or an error."""
    sound = FAMILIES[name]()
    generator = np.random.default_rng(5)
    table = layouts_of(sound)[1]
    count = int(str(table.header["NAXIS1"])) * int(str(table.header["NAXIS2"]))
    for _ in range(150):
        damaged = bytearray(sound)
        for at in generator.integers(table.header_offset, table.data_offset + count, 4):
            damaged[at] = generator.integers(256)
        try:
            parent = parent_of(bytes(damaged))
            tiles = parent.passed(PixelBox.whole(parent.layout.naxis))
            rows = list(tiles.rows()) if tiles is not None else []
        except (CorruptFileError, StopIteration):
            continue
        assert tiles is None or len(rows) == np.prod(
            [-(-a // b) for a, b in zip(parent.layout.naxis, tiles.layout.tile, strict=True)]
        )


def test_tiles_outside_of_the_file_are_refused(parent_of: Any) -> None:
    """Nothing is read that is not of this HDU."""
    parent = parent_of(FAMILIES["tiles_outside_the_heap"]())
    with pytest.raises(CorruptFileError, match="HDU 1: tiles of COMPRESSED_DATA"):
        parent.passed(PixelBox.whole(parent.layout.naxis))


def test_a_heap_inside_the_table_is_refused(parent_of: Any) -> None:
    """THEAP that points to the rows themselves."""
    raw = FAMILIES["compressed_tiles"]()
    whole = raw.replace(card("OBJECT", "compressed"), card("THEAP", 8))
    assert whole != raw
    parent = parent_of(whole)
    with pytest.raises(CorruptFileError, match="heap does not lie behind its table"):
        parent.passed(PixelBox.whole(parent.layout.naxis))
