"""Where HDUs lie, judged by astropy; and what is no FITS file."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, strategies as st
from support.images import (
    COMPRESSED_FAMILIES,
    FAMILIES,
    GZIPPED_FAMILIES,
    IMAGE_FAMILIES,
    extension,
    header_bytes,
    primary,
)
from support.realdata import REAL_FILES, real_bytes

from soda_service.errors import CorruptFileError
from soda_service.fits.layout import BLOCK_SIZE, HduKind, HduLayout, scan_hdus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.images import CardSpec

_IMAGE = np.arange(6 * 7, dtype="i2").reshape(7, 6)


def scanned(raw: bytes) -> list[HduLayout]:
    """Every HDU of a file of these bytes."""
    return list(scan_hdus(lambda start, length: raw[start : start + length], len(raw)))


def assert_as_astropy_sees_it(raw: bytes) -> None:
    """Offsets, names and axes are those that astropy finds."""
    found = scanned(raw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astropy tells of oddities that are not ours
        with fits.open(io.BytesIO(raw), disable_image_compression=True) as theirs:
            theirs.readall()
            assert len(theirs) == len(found)
            for hdu, mine in zip(theirs, found, strict=True):
                info = hdu.fileinfo()
                assert mine.header_offset == info["hdrLoc"]
                assert mine.data_offset == info["datLoc"]
                assert mine.data_size == info["datSpan"]
        with fits.open(io.BytesIO(raw)) as theirs:
            for hdu, mine in zip(theirs, found, strict=True):
                if mine.is_image:
                    assert mine.naxis == hdu.shape[::-1]
                    assert mine.bitpix == hdu.header["BITPIX"] or mine.kind is HduKind.COMPRESSED
                assert mine.is_image == (hdu.is_image and bool(hdu.shape))


@pytest.mark.parametrize("name", [n for n in IMAGE_FAMILIES if n not in GZIPPED_FAMILIES])
def test_the_zoo_lies_where_astropy_finds_it(name: str) -> None:
    """Offsets, sizes and axes of every family."""
    assert_as_astropy_sees_it(FAMILIES[name]())


@pytest.mark.parametrize("name", REAL_FILES)
def test_real_files_lie_where_astropy_finds_them(name: str) -> None:
    """Offsets, sizes and axes of every file."""
    raw = real_bytes(name)
    if name == "5x5.fits":  # NUL bytes beside the axis lengths: astropy gives up
        assert scanned(raw)[0].naxis == (5, 5)
        return
    assert_as_astropy_sees_it(raw)


@pytest.mark.parametrize("name", COMPRESSED_FAMILIES)
def test_a_compressed_image_is_told_as_the_image(name: str) -> None:
    """Its axes, type and name, not those of the table."""
    hdu = scanned(FAMILIES[name]())[1]
    assert hdu.kind is HduKind.COMPRESSED
    assert hdu.bitpix == hdu.header["ZBITPIX"]
    assert hdu.name != "COMPRESSED_IMAGE"


@pytest.mark.parametrize(
    ("cards", "kind"),
    [
        (["XTENSION= 'IMAGE   '", ("BITPIX", 8), ("NAXIS", 0)], HduKind.EMPTY),
        (
            ["XTENSION= 'IMAGE   '", ("BITPIX", 8), ("NAXIS", 2), ("NAXIS1", 0), ("NAXIS2", 5)],
            HduKind.EMPTY,
        ),
        (["XTENSION= 'FOREIGN '", ("BITPIX", 8), ("NAXIS", 0)], HduKind.OTHER),
        (["XTENSION= 'TABLE   '", ("BITPIX", 8), ("NAXIS", 0)], HduKind.TABLE),
    ],
)
def test_kinds_of_extensions(cards: Sequence[CardSpec], kind: HduKind) -> None:
    """What has no pixels is told apart."""
    more: list[CardSpec] = [("PCOUNT", 0), ("GCOUNT", 1), ("EXTNAME", "IT"), ("EXTVER", 3)]
    hdu = scanned(primary(_IMAGE) + header_bytes([*cards, *more]))[1]
    assert (hdu.kind, hdu.name, hdu.version) == (kind, "IT", 3)
    assert hdu.naxis == ()


def test_random_groups_are_passed_over() -> None:
    """FITS 4.0 §6: the first axis is zero, and yet there are data."""
    cards: list[CardSpec] = [
        *[("SIMPLE", True), ("BITPIX", -32), ("NAXIS", 3), ("NAXIS1", 0), ("NAXIS2", 4)],
        *[("NAXIS3", 5), ("GROUPS", True), ("PCOUNT", 6), ("GCOUNT", 7)],
    ]
    size = 4 * 7 * (6 + 4 * 5)
    raw = header_bytes(cards) + b"\1" * size + b"\0" * (-size % BLOCK_SIZE) + extension(_IMAGE)
    groups, image = scanned(raw)
    assert groups.kind is HduKind.OTHER
    assert groups.data_size == size + -size % BLOCK_SIZE
    assert image.naxis == (6, 7)


def test_a_heap_counts_as_data() -> None:
    """PCOUNT bytes lie behind the rows of a table."""
    cards: list[CardSpec] = ["XTENSION= 'BINTABLE'", ("BITPIX", 8), ("NAXIS", 2)]
    cards += [("NAXIS1", 8), ("NAXIS2", 2), ("PCOUNT", 3000), ("GCOUNT", 1)]
    cards += [("TFIELDS", 1), ("TFORM1", "1PB(1500)")]
    raw = primary(None) + header_bytes(cards) + b"\0" * 5760 + extension(_IMAGE)
    _, table, image = scanned(raw)
    assert (table.kind, table.data_size) == (HduKind.TABLE, 5760)
    assert image.header_offset == table.end


def test_missing_padding_is_no_damage() -> None:
    """Every value is there; many writers forget the rest."""
    raw = primary(_IMAGE)[: BLOCK_SIZE + _IMAGE.nbytes]
    (hdu,) = scanned(raw)
    assert hdu.end == len(raw)


@pytest.mark.parametrize("tail", [b"\0" * 5000, b"junk" * 1000, b" " * 3000, b"XTENSIO"])
def test_what_follows_the_last_hdu_is_left_alone(tail: bytes) -> None:
    """Special records, zeros and junk (FITS 4.0 §3.5)."""
    assert len(scanned(primary(_IMAGE) + extension(_IMAGE) + tail)) == 2


def test_a_long_header_is_read_whole() -> None:
    """Longer than one reading."""
    cards: list[CardSpec] = [(f"KEY{number}", number) for number in range(5000)]
    hdu, after = scanned(primary(_IMAGE, cards) + extension(_IMAGE))
    assert hdu.header["KEY4999"] == 4999
    assert after.naxis == (6, 7)


def test_headers_alone_are_read() -> None:
    """Counted bytes and readings of a file of 12 MB."""
    big = np.zeros((1000, 1000), dtype="f4")
    raw = primary(big) + extension(big) + extension(big)
    reads: list[int] = []

    def read_at(start: int, length: int) -> bytes:
        reads.append(length)
        return raw[start : start + length]

    assert len(list(scan_hdus(read_at, len(raw)))) == 3
    assert sum(reads) < 150_000
    assert len(reads) <= 4


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("truncated_data", r"HDU 0 at byte 0 is truncated: \d+ of its \d+ bytes"),
        ("truncated_header", "HDU 0 at byte 0 has no END: the file ends at byte"),
        ("truncated_extension", r"HDU 2 at byte \d+ is truncated"),
        ("lying_naxis", "HDU . at byte .* is truncated"),
        ("overflowing_naxis", "HDU 0"),
        ("negative_naxis", "NAXIS1 = -.* is not legal"),
        ("bad_bitpix", "BITPIX = .* is not legal"),
        ("no_end", "no END"),
        ("text", "does not begin with SIMPLE"),
        ("lfs_pointer", "Git LFS pointer.*does not begin with SIMPLE"),
        ("empty", "is empty"),
        ("truncated_gzip", "it is compressed"),
    ],
)
def test_damage_is_told(family: str, message: str) -> None:
    """With the HDU, the byte and what is missing."""
    with pytest.raises(CorruptFileError, match=message):
        scanned(FAMILIES[family]())


def test_what_comes_before_the_damage_is_given() -> None:
    """The caller decides whether the sound part will do."""
    raw = FAMILIES["truncated_extension"]()
    hdus = scan_hdus(lambda start, length: raw[start : start + length], len(raw))
    assert next(hdus).index == 0
    with pytest.raises(CorruptFileError):
        list(hdus)


def test_a_header_without_end_is_not_read_for_ever() -> None:
    """32 MB of comments are refused."""
    endless = b"SIMPLE  =                    T".ljust(80) + b"COMMENT no end".ljust(80) * 400_000
    with pytest.raises(CorruptFileError, match="no END"):
        scanned(endless)


@pytest.mark.parametrize(
    "cards",
    [
        [("BITPIX", 8), ("NAXIS", 999), *((f"NAXIS{n}", 2**62) for n in range(1, 1000))],
        [("BITPIX", 64), ("NAXIS", 2), ("NAXIS1", 2**40), ("NAXIS2", 2**40)],
        [("BITPIX", 64), ("NAXIS", 1), ("NAXIS1", 2**62)],
        [("BITPIX", 8), ("NAXIS", 1000)],
        [("BITPIX", 8), ("NAXIS", 2), ("NAXIS1", 5)],
        [("BITPIX", 8), ("NAXIS", 1), ("NAXIS1", 2.5)],
        [("BITPIX", 8), ("NAXIS", 1), f"NAXIS1  = {'9' * 60}"],
        [("NAXIS", 0)],
    ],
)
def test_absurd_axes_are_refused(cards: Sequence[CardSpec]) -> None:
    """No product overflows, no message is a megabyte."""
    with pytest.raises(CorruptFileError, match="HDU 0"):
        scanned(header_bytes([("SIMPLE", True), *cards]))


_BASE = primary(_IMAGE, [("EXTEND", True)]) + extension(_IMAGE, [("EXTNAME", "SCI")])


@given(
    st.lists(
        st.tuples(st.integers(0, len(_BASE) - 1), st.binary(min_size=1, max_size=12)), max_size=6
    ),
    st.integers(0, len(_BASE)),
)
def test_hostile_bytes_are_scanned_or_refused(patches: list[tuple[int, bytes]], cut: int) -> None:
    """A good file with bytes changed and the end cut off."""
    raw = bytearray(_BASE)
    for at, patch in patches:
        raw[at : at + len(patch)] = patch
    content = bytes(raw[: len(raw) - cut] if cut % 3 == 0 else raw)
    try:
        found = scanned(content)
    except CorruptFileError:
        return
    assert found
    assert all(hdu.end <= len(content) for hdu in found)


_VALUES = st.sampled_from(
    ["T", "F", "0", "1", "-1", "99", "8", "16", "2.5", "'x'", "", "1E5", "(1,2)"]
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "BITPIX",
                    "NAXIS",
                    "NAXIS1",
                    "NAXIS2",
                    "PCOUNT",
                    "GCOUNT",
                    "ZIMAGE",
                    "ZBITPIX",
                    "ZNAXIS",
                    "ZNAXIS1",
                    "GROUPS",
                    "EXTVER",
                    "EXTNAME",
                    "TFIELDS",
                ]
            ),
            _VALUES,
        ),
        max_size=12,
    ),
    st.sampled_from(
        ["SIMPLE  =                    T", "XTENSION= 'BINTABLE'", "XTENSION= 'IMAGE'"]
    ),
)
def test_hostile_cards_are_scanned_or_refused(cards: list[tuple[str, str]], first: str) -> None:
    """Mandatory keywords with any value in any order."""
    lines: list[CardSpec] = [first, *(f"{keyword:8}= {value:>20}" for keyword, value in cards)]
    raw = header_bytes(lines) + b"\0" * 5760
    if first.startswith("XTENSION"):
        raw = primary(None) + raw
    try:
        found = scanned(raw)
    except CorruptFileError:
        return
    for hdu in found:
        assert hdu.is_image == bool(hdu.naxis)
        assert all(length > 0 for length in hdu.naxis)
