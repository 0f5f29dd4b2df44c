"""Compressed files hold what the plain ones hold: told by astropy, cfitsio, funpack and gzip."""

from __future__ import annotations

import gzip
import io
import re
import struct
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays
from support.images import (
    COMPRESSED_FAMILIES,
    FAMILIES,
    IMAGE_FAMILIES,
    SCALED_FAMILIES,
    extension,
    noise,
    primary,
    ramp,
    sky_cards,
)
from support.packed import (
    complaints_about,
    image_by_cfitsio,
    images_by_astropy,
    inflated,
    layouts_of,
    parts_of,
    unpacked,
)

from soda_service.errors import CorruptFileError
from soda_service.fits.cards import Header
from soda_service.fits.layout import HduKind
from soda_service.render import packed
from soda_service.render.fits import FitsPart, checksummed, fits_chunks, with_checksum_cards
from soda_service.render.packed import gzipped, tile_compressed
from soda_service.render.spool import SpoolRoom

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

MIB = 1024 * 1024
PLAIN_FAMILIES = tuple(name for name in IMAGE_FAMILIES if name not in COMPRESSED_FAMILIES)
DESCRIBED_AT_LENGTH = ("much_metadata", "alternates", "nan_payloads_f4", "unsigned_16", "scaled")


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """One family for each structure of HDUs, types and axes, and those whose cards are special."""
    structures: dict[object, str] = {}
    for name in names:
        hdus = layouts_of(inflated(name))
        structures.setdefault(tuple((hdu.kind, hdu.naxis, hdu.bitpix) for hdu in hdus), name)
    return tuple(dict.fromkeys((*structures.values(), *DESCRIBED_AT_LENGTH)))


UNSCALED_FAMILIES = tuple(name for name in PLAIN_FAMILIES if name not in SCALED_FAMILIES)
DISTINCT_FAMILIES = _distinct(PLAIN_FAMILIES)
STRUCTURE = re.compile(
    "SIMPLE|XTENSION|BITPIX|NAXIS[0-9]*|PCOUNT|GCOUNT|EXTEND|CHECKSUM|DATASUM|ZHECKSUM|ZDATASUM"
)
DISTORTIONS = ("WCSDVARR", "D2IMARR")
DTYPES = ("u1", "i2", "i4", "i8", "f4", "f8")


@pytest.fixture(name="room")
def _room(tmp_path: Path) -> Iterator[SpoolRoom]:
    room = SpoolRoom(tmp_path / "spool", 64 * MIB)
    yield room
    assert room.taken == 0


def fz(raw: bytes, room: SpoolRoom, *, piece: int = 1000) -> bytes:
    """A file of these bytes, compressed by tiles."""
    with tile_compressed(parts_of(raw, piece=piece), room) as made:
        whole = b"".join(made.chunks())
        assert len(whole) == made.size
    assert len(whole) % 2880 == 0
    return whole


def is_packed(raw: bytes) -> bool:
    """Whether every image is compressed that should be."""
    return all(
        (hdu.header.get("ZIMAGE") is True) != (hdu.bitpix == 64 or hdu.name in DISTORTIONS)
        for hdu in layouts_of(raw)
        if hdu.is_image
    )


@pytest.mark.parametrize("name", IMAGE_FAMILIES)
def test_astropy_reads_the_same_pixels(name: str, room: SpoolRoom) -> None:
    """To the bit, whatever the type, in the same order and under the same names."""
    raw = inflated(name)
    whole = fz(raw, room)
    assert is_packed(whole)
    before, after = images_by_astropy(raw), images_by_astropy(whole)
    assert list(before) == list(after)
    for key, stored in before.items():
        assert stored.dtype == after[key].dtype
        assert stored.shape == after[key].shape
        assert stored.tobytes() == after[key].tobytes()


@pytest.mark.parametrize(
    "name", [name for name in DISTINCT_FAMILIES if name in ("blank", *UNSCALED_FAMILIES)]
)
def test_cfitsio_reads_the_same_pixels(name: str, room: SpoolRoom, tmp_path: Path) -> None:
    """As the other reader that everybody has."""
    raw = inflated(name)
    path = tmp_path / "packed.fits.fz"
    path.write_bytes(fz(raw, room))
    images = list(images_by_astropy(raw).values())
    numbers = [hdu.index for hdu in layouts_of(path.read_bytes()) if hdu.is_image]
    assert len(numbers) == len(images)
    for number, stored in zip(numbers, images, strict=True):
        assert image_by_cfitsio(path, number).tobytes() == stored.tobytes()


@pytest.mark.parametrize("name", DISTINCT_FAMILIES)
def test_funpack_restores_the_plain_file(name: str, room: SpoolRoom, tmp_path: Path) -> None:
    """Every HDU where it was, every card of it, every byte of its data."""
    raw = inflated(name)
    path = tmp_path / "packed.fits.fz"
    path.write_bytes(fz(raw, room))
    again = unpacked(path)
    for before, after in zip(layouts_of(raw), layouts_of(again), strict=True):
        assert after.naxis == before.naxis
        size = before.end - before.data_offset
        assert again[after.data_offset :][:size] == raw[before.data_offset : before.end]
        assert cards_of(before.header) <= cards_of(after.header)


def cards_of(header: Header) -> set[bytes]:
    """All but those of the structure."""
    return {one.raw for one in header if not STRUCTURE.fullmatch(one.keyword)}


@pytest.mark.parametrize("name", PLAIN_FAMILIES)
def test_every_card_is_there_in_its_order(name: str, room: SpoolRoom) -> None:
    """The image's cards follow those of the table, byte for byte."""
    raw = inflated(name)
    images = [hdu for hdu in layouts_of(raw) if hdu.is_image]
    tables = [hdu for hdu in layouts_of(fz(raw, room)) if hdu.is_image]
    for image, table in zip(images, tables, strict=True):
        kept = [one.raw for one in image.header if not STRUCTURE.fullmatch(one.keyword)]
        cards = [one.raw for one in table.header]
        assert cards[len(cards) - len(kept) :] == kept or set(kept) <= set(cards)
        rest = iter(cards)
        assert all(one in rest for one in kept)
        assert (table.naxis, table.bitpix, table.name) == (image.naxis, image.bitpix, image.name)
        for keyword in ("BITPIX", "NAXIS", *(f"NAXIS{axis + 1}" for axis in range(6))):
            if "ZIMAGE" in table.header and keyword in image.header:
                assert table.header[f"Z{keyword}"] == image.header[keyword]


@pytest.mark.parametrize("name", ["mef", "mef_two_chips", "tan", "cube_stokes", "unsigned_16",
                                  "blank", "lookup_distortion", "scaled_floats"])  # fmt: skip
def test_fitsverify_is_content(name: str, room: SpoolRoom, tmp_path: Path) -> None:
    """It complains of nothing that it does not say of the plain file."""
    raw = inflated(name)
    path, plain = tmp_path / "packed.fits.fz", tmp_path / "plain.fits"
    path.write_bytes(fz(raw, room))
    plain.write_bytes(raw)
    assert complaints_about(path) <= complaints_about(plain)


def test_what_is_no_image_is_copied(room: SpoolRoom) -> None:
    """Tables, HDUs without data, and images that are compressed already: the same bytes."""
    raw = inflated("mef")
    whole = fz(raw, room)
    before, after = layouts_of(raw), layouts_of(whole)
    assert [hdu.kind for hdu in after].count(HduKind.COMPRESSED) == 3
    for number in (0, 4):
        its, mine = before[number], after[number]
        assert (
            whole[mine.header_offset : mine.end]
            == raw[its.header_offset : its.end]
        )  # fmt: skip
    compressed = inflated("compressed_tiles")
    assert fz(compressed, room) == compressed


def test_an_image_in_the_primary_follows_an_empty_one(room: SpoolRoom) -> None:
    """And says that it was the primary (FITS 4.0 §10.1.1)."""
    first, second, third = layouts_of(fz(inflated("primary_and_extension"), room))
    assert (first.kind, first.naxis) == (HduKind.EMPTY, ())
    assert second.header["ZSIMPLE"] is True
    assert second.header["ZEXTEND"] is True
    assert third.header["ZTENSION"] == "IMAGE"
    assert "ZSIMPLE" not in third.header


@pytest.mark.parametrize(
    "card",
    ["ZSCALE  =                  2.0", "TFORM1  = '1J      '", "BLANK   =                    0",
     "ZNAXIS2 =                    7", "NAXIS3  =                    7"],
)  # fmt: skip
def test_a_header_that_a_table_cannot_have_stays_with_its_image(card: str, room: SpoolRoom) -> None:
    """In the header of a table the card would say something else; the values are floats."""
    raw = primary(ramp(61, 47), [card])
    assert fz(raw, room) == raw


@pytest.mark.parametrize("name", ["lookup_distortion", "detector_distortion"])
def test_tables_of_distortions_stay_as_they_are(name: str, room: SpoolRoom) -> None:
    """They are images, but it is for coordinates that they are read; astropy finds them."""
    whole = fz(inflated(name), room)
    assert [hdu.header.get("ZIMAGE") for hdu in layouts_of(whole)] == [None, True, None, None]
    pixels = np.array([[3.0, 40.0, 17.5], [5.0, 33.0, 21.0]])
    places = []
    for raw in (inflated(name), whole):
        with fits.open(io.BytesIO(raw)) as hdus:
            places.append(WCS(hdus[1].header, hdus).all_pix2world(*pixels, 0))
    assert np.array_equal(places[0], places[1])


def test_groups_that_a_primary_image_counts(room: SpoolRoom, tmp_path: Path) -> None:
    """PCOUNT and GCOUNT have no business there, but are there in files of the ZTF."""
    raw = primary(ramp(61, 47), [("PCOUNT", 0), ("GCOUNT", 1)])
    whole = fz(raw, room)
    header = layouts_of(whole)[1].header
    assert (header["ZPCOUNT"], header["ZGCOUNT"]) == (0, 1)
    assert len(header.values("PCOUNT")) == len(header.values("GCOUNT")) == 1
    (read,) = images_by_astropy(whole).values()
    assert read.tobytes() == ramp(61, 47).astype(">f4").tobytes()
    path = tmp_path / "packed.fits.fz"
    path.write_bytes(whole)
    assert complaints_about(path) == set()


def test_integers_of_64_bits_stay_as_they_are(room: SpoolRoom) -> None:
    """Out of tiles cfitsio cannot read them."""
    raw = inflated("bitpix_i8")
    assert fz(raw, room) == raw


def test_more_axes_than_cfitsio_reads(room: SpoolRoom) -> None:
    """Six can be compressed, seven cannot."""
    six, seven = primary(ramp(3, 2, 2, 1, 2, 3)), primary(ramp(3, 2, 2, 1, 2, 3, 2))
    assert is_packed(fz(six, room))
    assert fz(seven, room) == seven


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype != "i8"])
@pytest.mark.parametrize(
    "naxis",
    [(1,), (70_000,), (300_001,), (1, 300), (20_000, 3), (150_000, 2), (130, 251), (7, 9, 501),
     (40, 30, 20, 3), (1, 1, 5, 4000)],
)  # fmt: skip
def test_tiles_of_every_shape(
    dtype: str, naxis: tuple[int, ...], room: SpoolRoom, tmp_path: Path
) -> None:
    """Short rows, long rows, rows that are cut, planes that are gathered: all readers agree."""
    stored = (noise(*naxis, dtype="f8", sigma=9) % 250).astype(dtype)
    whole = fz(primary(stored), room, piece=77_777)
    (read,) = images_by_astropy(whole).values()
    expected = stored.astype(stored.dtype.newbyteorder(">")).tobytes()
    assert read.tobytes() == expected
    path = tmp_path / "packed.fits.fz"
    path.write_bytes(whole)
    assert image_by_cfitsio(path, 1).tobytes() == expected
    header = layouts_of(whole)[1].header
    tile = [int(str(header[f"ZTILE{axis + 1}"])) for axis in range(len(naxis))]
    assert np.prod(tile) <= 128 * 1024
    assert all(one <= length for one, length in zip(tile, naxis, strict=True))


@settings(max_examples=60)
@given(data=st.data())
def test_any_values_survive(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Extremes, noise that cannot be compressed, NaNs of any payload."""
    dtype = data.draw(st.sampled_from([">u1", ">i2", ">i4", ">f4", ">f8"]))
    bits = dtype.replace("f", "u").replace("i", "u")
    shape = data.draw(arrays.array_shapes(min_dims=1, max_dims=3, max_side=40))
    limit = 2 ** (8 * np.dtype(bits).itemsize) - 1
    elements = st.integers(0, limit) | st.sampled_from([0, 1, limit, limit // 2, limit // 2 + 1])
    stored = data.draw(arrays.arrays(bits, shape, elements=elements)).view(dtype)
    room = SpoolRoom(tmp_path_factory.getbasetemp() / "spool", 64 * MIB)
    (read,) = images_by_astropy(fz(primary(stored), room)).values()
    assert read.dtype == stored.dtype
    assert read.tobytes() == stored.tobytes()


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4"])
def test_white_noise_fits_into_its_tile(dtype: str, room: SpoolRoom) -> None:
    """The worst that RICE can meet: it grows, but not out of its buffer."""
    info = np.iinfo(dtype)
    generator = np.random.default_rng(3)
    stored = generator.integers(info.min, info.max, (611, 503), dtype, endpoint=True)
    (read,) = images_by_astropy(fz(primary(stored), room)).values()
    assert np.array_equal(read, stored)


def test_descriptors_of_64_bits(
    monkeypatch: pytest.MonkeyPatch, room: SpoolRoom, tmp_path: Path
) -> None:
    """What a heap above 2 GiB needs."""
    monkeypatch.setattr(packed, "_NARROW_HEAP", 0)
    raw = inflated("mef")
    whole = fz(raw, room)
    assert str(layouts_of(whole)[1].header["TFORM1"]).startswith("1QB(")
    before, after = images_by_astropy(raw), images_by_astropy(whole)
    assert all(before[key].tobytes() == after[key].tobytes() for key in before)
    path = tmp_path / "packed.fits.fz"
    path.write_bytes(whole)
    assert image_by_cfitsio(path, 2).tobytes() == before["MASK,1"].tobytes()


def test_check_sums_of_both(room: SpoolRoom, tmp_path: Path) -> None:
    """Of the image, so that they are there when it is restored, and of the table."""
    stored = ramp(61, 47, dtype="i2")
    raw = extension(stored, [("EXTNAME", "SUMMED"), *sky_cards()])
    plain = layouts_of(primary(None) + raw)[1]
    data = stored.astype(">i2").tobytes()
    header = checksummed(with_checksum_cards(plain.header.render()), [data])
    parts = [*parts_of(primary(None)), FitsPart(header=header, data=[data], data_size=len(data))]
    with tile_compressed(parts, room) as made:
        whole = b"".join(made.chunks())
    table = layouts_of(whole)[1].header
    assert table["ZHECKSUM"] == Header.parse(header)["CHECKSUM"]
    assert table["ZDATASUM"] == Header.parse(header)["DATASUM"]
    path = tmp_path / "packed.fits.fz"
    path.write_bytes(whole)
    with fits.open(path, checksum=True, disable_image_compression=True) as hdus:
        assert hdus[1].verify_checksum() == 1
        assert hdus[1].verify_datasum() == 1
    again = tmp_path / "again.fits"
    again.write_bytes(unpacked(path))
    with fits.open(again, checksum=True) as hdus:
        assert hdus[1].verify_datasum() == 1


@pytest.mark.parametrize("make", [gzipped, tile_compressed])
def test_the_same_parts_make_the_same_bytes(make: object, room: SpoolRoom) -> None:
    """No time, no name, no matter in what pieces the pixels come."""
    assert make in (gzipped, tile_compressed)
    raw = inflated("mef")
    contents = set()
    for piece in (997, 100_000):
        maker = gzipped if make is gzipped else tile_compressed
        with maker(parts_of(raw, piece=piece), room) as made:
            contents.add(b"".join(made.chunks()))
    assert len(contents) == (1 if make is tile_compressed else len(contents))
    for whole in contents:
        assert struct.unpack("<I", gzipped_time(whole))[0] == 0


def gzipped_time(whole: bytes) -> bytes:
    """The time in the first header of gzip in *whole*."""
    at = whole.index(b"\x1f\x8b\x08")
    return whole[at + 4 : at + 8]


@pytest.mark.parametrize("name", ["mef", "tan", "compressed_rice_1_i4", "nan_payloads_f4"])
def test_gzip_gives_the_plain_file(name: str, room: SpoolRoom) -> None:
    """All of it, in one stream that any gunzip reads."""
    raw = inflated(name)
    plain = b"".join(fits_chunks(parts_of(raw), 1000))
    with gzipped(parts_of(raw), room) as made:
        whole = b"".join(made.chunks())
        assert made.size == len(whole)
    assert gzip.decompress(whole) == plain


@pytest.mark.parametrize("maker", [gzipped, tile_compressed])
@pytest.mark.parametrize("difference", [-1, 1, 5000])
def test_a_broken_promise_is_an_error(maker: object, difference: int, room: SpoolRoom) -> None:
    """More or fewer pixels than planned: nothing goes out, and the disk is given back."""
    (part,) = parts_of(primary(ramp(61, 47)))
    data = b"".join(bytes(piece) for piece in part.data)
    broken = FitsPart(header=part.header, data=[data], data_size=len(data) + difference)
    with pytest.raises(CorruptFileError, match=r"than planned"):
        (gzipped if maker is gzipped else tile_compressed)([broken], room)


def test_an_image_without_its_last_pixels_is_an_error(room: SpoolRoom) -> None:
    """Fewer bytes than the axes say, and the part knows no better."""
    (part,) = parts_of(primary(ramp(61, 47)))
    data = b"".join(bytes(piece) for piece in part.data)[: 61 * 46 * 4]
    with pytest.raises(CorruptFileError, match="missing"):
        tile_compressed([FitsPart(header=part.header, data=[data], data_size=len(data))], room)


@pytest.mark.parametrize("maker", [gzipped, tile_compressed])
def test_memory_is_bounded(maker: object, room: SpoolRoom) -> None:
    """An image of 24 MB goes through within a few."""
    rows, width = 3000, 2000
    (empty,) = parts_of(primary(ramp(width, 1, dtype="f4")))
    header = empty.header.replace(
        b"NAXIS2  =                    1", b"NAXIS2  =                 3000"
    )
    band = noise(width, 30).astype(">f4").tobytes()

    def bands() -> Iterator[bytes]:
        yield from (band for _ in range(rows // 30))

    part = FitsPart(header=header, data=bands(), data_size=rows * width * 4)
    parts: Sequence[FitsPart] = [part]
    tracemalloc.start()
    try:
        with (gzipped if maker is gzipped else tile_compressed)(parts, room) as made:
            size = sum(map(len, made.chunks()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 5 * MIB
    assert peak < 3 * MIB


def test_compression_pays(room: SpoolRoom) -> None:
    """Integers with noise take less than two thirds, floats less than they did."""
    stored: NDArray[np.generic] = noise(400, 300, dtype="i2", sigma=20)
    assert len(fz(primary(stored), room)) < 0.66 * stored.nbytes
    floats = noise(400, 300, dtype="f4")
    assert len(fz(primary(floats), room)) < 0.95 * floats.nbytes


def test_families_are_as_many_as_they_were() -> None:
    """So that no family of images is left out by its name."""
    assert {*PLAIN_FAMILIES, *COMPRESSED_FAMILIES} == set(IMAGE_FAMILIES) <= set(FAMILIES)
