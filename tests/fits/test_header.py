"""The cutout's header against its parent's: card by card, pixel by pixel, rule by rule."""

from __future__ import annotations

import io
import re
import subprocess
import warnings
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from hypothesis import given, settings, strategies as st
from support.images import (
    BROKEN_WCS_FAMILIES,
    COMPRESSED_FAMILIES,
    CUBE_FAMILIES,
    FAMILIES,
    GZIPPED_FAMILIES,
    IMAGE_FAMILIES,
    SKY_FAMILIES,
    SPECTRAL_FAMILIES,
)
from support.programs import require_program
from support.realdata import REAL_FILES, real_hdus

from soda_service.fits.cards import Card, Header
from soda_service.fits.distortion import move_lookup_table, referred_tables
from soda_service.fits.header import (
    HeaderCutter,
    constant_axes,
    cut_header,
    empty_primary,
    image_header,
    kept_primary,
)
from soda_service.fits.layout import HduKind, HduLayout, scan_hdus
from soda_service.fits.newcards import card, commentary
from soda_service.geometry.pixelbox import PixelBox

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_PLAIN_FAMILIES = [name for name in IMAGE_FAMILIES if name not in GZIPPED_FAMILIES]

# What a plain cutout may change or leave out; everything else is the parent's to the byte.
_MAY_CHANGE = re.compile(
    r"NAXIS\d*|CRPIX\d+[A-Z]?|CRVAL[12]A|LTV\d|CNPIX\d|ALTRPIX|LBOUND\d|SUBS(TRT|IZE)\d|IMAGE[WH]"
    r"|\w*SEC\w?\w?|DP\d|CHECKSUM|DATASUM|DATAM(IN|AX)|S_REGION|CONTINUE"
    r"|COR\dRA1|COR\dDEC1|CENRA1|CENDEC1|CORN\d(RA|DEC)|CENT(RA|DEC)"
)
# What in a compressed HDU speaks of the table.
_OF_THE_TABLE = re.compile(
    r"Z(IMAGE|TENSION|SIMPLE|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|CMPTYPE|TILE\d|NAME\d|VAL\d"
    r"|QUANTIZ|DITHER0|BLANK|HECKSUM|DATASUM|SCALE|ZERO|BLOCKED)"
    r"|T(TYPE|FORM|DISP|UNIT|NULL|SCAL|ZERO|DIM)\d|TFIELDS|THEAP"
    r"|SIMPLE|XTENSION|BITPIX|PCOUNT|GCOUNT|EXTEND|EXTNAME|BLANK"
)


def hdus_of(raw: bytes) -> tuple[HduLayout, ...]:
    """The HDUs of a file of these bytes."""
    return tuple(scan_hdus(lambda start, length: raw[start : start + length], len(raw)))


def image_hdus(name: str) -> Iterator[tuple[bytes, HduLayout]]:
    """The images of a family of the zoo, tables of coordinates left out."""
    raw = FAMILIES[name]()
    for hdu in hdus_of(raw):
        if hdu.is_image and hdu.name not in {"WCSDVARR", "D2IMARR"}:
            yield raw, hdu


def some_box(naxis: Sequence[int]) -> PixelBox:
    """A box that touches no edge of an axis that is long enough, and is longer than wide."""
    lower = tuple(length // 4 for length in naxis)
    upper = tuple(
        max(low + 1, length - length // 7) for low, length in zip(lower, naxis, strict=True)
    )
    return PixelBox(lower, upper)


def header_of(*lines: str | bytes, naxis: Sequence[int] = (60, 50)) -> Header:
    """A primary image header with these cards after the mandatory ones."""
    first = [card("SIMPLE", value=True), card("BITPIX", 16), card("NAXIS", len(naxis))]
    first += [card(f"NAXIS{axis}", length) for axis, length in enumerate(naxis, 1)]
    texts = [line.encode("latin-1") if isinstance(line, str) else line for line in lines]
    return Header(b"".join([*first, *(text.ljust(-(-len(text) // 80) * 80) for text in texts)]))


BOX = PixelBox((10, 20), (40, 45))


def cut(header: Header, box: PixelBox = BOX, kind: HduKind = HduKind.IMAGE) -> Header:
    """The header of a cutout, as primary."""
    return Header.parse(cut_header(header, box, kind=kind, first=True))


def lines_after(header: Header, count: int = 5) -> list[str]:
    """The cards after the mandatory ones, as text."""
    return [one.text for one in header][count:]


# ---------------------------------------------------------------- card by card


def assert_only_rules_changed(hdu: HduLayout) -> None:
    """What no rule names is the parent's, in its order."""
    box = some_box(hdu.naxis)
    note = (commentary("HISTORY", "a cutout"),)
    rendered = cut_header(hdu.header, box, kind=hdu.kind, first=hdu.index == 0, provenance=note)
    assert len(rendered) % 2880 == 0
    result = Header.parse(rendered)
    assert result.render() == rendered
    assert result.raw.endswith(note[0])

    def kept(header: Header) -> list[bytes]:
        skipped = [_MAY_CHANGE]
        if hdu.kind is HduKind.COMPRESSED:
            skipped.append(_OF_THE_TABLE)
        if str(hdu.header.get("CTYPE1")).endswith("-TPU"):
            skipped.append(re.compile(r"PV[12]_[0-9]+"))
        return [
            one.raw
            for one in header
            if one.raw[8:10] != b"= " or not any(p.fullmatch(one.keyword) for p in skipped)
            if not one.raw.startswith(b"CONTINUE")
        ]

    assert kept(result) == [*kept(hdu.header), *note]
    assert_mandatory_cards_stand_first(result, box, first=hdu.index == 0)


def assert_mandatory_cards_stand_first(header: Header, box: PixelBox, *, first: bool) -> None:
    """FITS 4.0 §4.4.1: these, in this order, once."""
    axes = [f"NAXIS{axis}" for axis in range(1, len(box.naxis) + 1)]
    expected = ["SIMPLE" if first else "XTENSION", "BITPIX", "NAXIS", *axes]
    expected += [] if first else ["PCOUNT", "GCOUNT"]
    keywords = [one.keyword for one in header]
    assert keywords[: len(expected)] == expected
    for keyword in expected:
        assert keywords.count(keyword) == 1
    assert tuple(header[axis] for axis in axes) == box.naxis
    if not first:
        assert header["XTENSION"] == "IMAGE"
        assert (header["PCOUNT"], header["GCOUNT"]) == (0, 1)


@pytest.mark.parametrize("name", _PLAIN_FAMILIES)
def test_every_other_card_of_the_zoo_is_untouched(name: str) -> None:
    """Byte for byte, in the parent's order."""
    for _, hdu in image_hdus(name):
        assert_only_rules_changed(hdu)


@pytest.mark.parametrize("name", REAL_FILES)
def test_every_other_card_of_real_files_is_untouched(name: str) -> None:
    """Byte for byte, in the parent's order."""
    for hdu in real_hdus(name)[1]:
        if hdu.is_image:
            assert_only_rules_changed(hdu)


# ---------------------------------------------------------------- pixel by pixel


def cut_file(raw: bytes, target: HduLayout, box: PixelBox) -> bytes:
    """A file in which one image is cut and its lookup tables are moved; other HDUs as they are."""
    moving = {
        (table.name, table.version)
        for table in referred_tables(image_header(target.header))
        if table.moves
    }
    pieces = []
    for hdu in hdus_of(raw):
        data = raw[hdu.data_offset : hdu.end]
        if hdu.index == target.index:
            size = abs(hdu.bitpix) // 8 * box.pixel_count
            pieces.append(cut_header(hdu.header, box, kind=hdu.kind, first=hdu.index == 0))
            data = b"\0" * (size + -size % 2880)
        elif (hdu.name, hdu.version) in moving:
            pieces.append(move_lookup_table(hdu.header, box.lower))
        else:
            pieces.append(hdu.header.render())
        pieces.append(data)
    return b"".join(pieces)


def systems(header: Header) -> list[str]:
    """The coordinate systems that a header describes: blank and the letters."""
    found = {""} if "AMDX1" in header else set()
    for one in header:
        if match := re.fullmatch(r"(?:CTYPE|CRVAL|CDELT|CRPIX)\d([A-Z]?)", one.keyword):
            found.add(match[1])
    return sorted(found)


def world_of(raw: bytes, index: int, key: str, pixels: np.ndarray) -> np.ndarray | str:
    """Coordinates of pixels, axis by axis; where astropy refuses, the kind of its refusal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what astropy thinks of the parent is the parent's
        hdus = fits.open(io.BytesIO(raw))
        try:
            wcs = WCS(hdus[index].header, hdus, key=key or " ")
        except Exception as error:  # noqa: BLE001 - any refusal counts, if it is the same twice
            return type(error).__name__
        rows = np.ones((wcs.naxis, pixels.shape[1]))
        rows[: pixels.shape[0]] = pixels[: wcs.naxis]
        # astropy applies distortions of the primary system to the alternates, too.
        pixel_to_world = wcs.wcs_pix2world if key else wcs.all_pix2world
        try:
            return np.array(pixel_to_world(*rows, 1))
        except Exception as error:  # noqa: BLE001 - likewise
            return type(error).__name__


def assert_same_sky(raw: bytes, hdu: HduLayout) -> int:
    """Every pixel of the cutout lies where it lay in the parent; how many systems said so."""
    box = some_box(hdu.naxis)
    mine = cut_file(raw, hdu, box)
    axes = [np.unique(np.linspace(1, length, min(length, 40)).round()) for length in box.naxis]
    grid = np.array([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")])
    shift = np.array(box.lower)[:, np.newaxis]
    compared = 0
    for key in systems(image_header(hdu.header)):
        before = world_of(raw, hdu.index, key, grid + shift)
        after = world_of(mine, hdu.index, key, grid)
        if isinstance(before, str) or isinstance(after, str):
            assert before == after
            continue
        assert before.shape == after.shape
        # Axes beyond WCSAXES have no coordinates; astropy counts their pixels instead.
        described = hdu.header.integer(f"WCSAXES{key}")
        before, after = before[:described], after[:described]
        around = np.abs(before - after)
        # 0 and 360 degrees are one place.
        around = np.where(around > 359, 360 - around, around)
        scale = np.maximum(np.abs(before), 1)
        finite = np.isfinite(before)
        assert np.array_equal(finite, np.isfinite(after))
        assert np.all((around / scale)[finite] < 2e-12)  # 0.1 mas is 2.8e-8 degrees
        compared += 1
    return compared


# astropy reads past its buffers, and may end the whole run, where coordinates are broken.
_READABLE = {*_PLAIN_FAMILIES} - {*COMPRESSED_FAMILIES} - {*BROKEN_WCS_FAMILIES}


@pytest.mark.parametrize("name", sorted(_READABLE))
def test_pixels_of_the_zoo_stay_in_their_places(name: str) -> None:
    """By astropy, for every system of coordinates of the header."""
    compared = sum(assert_same_sky(raw, hdu) for raw, hdu in image_hdus(name))
    if name in {*SKY_FAMILIES, *CUBE_FAMILIES, *SPECTRAL_FAMILIES}:
        assert compared


@pytest.mark.parametrize("name", REAL_FILES)
def test_pixels_of_real_files_stay_in_their_places(name: str) -> None:
    """By astropy, for every system of coordinates of the header."""
    if name == "5x5.fits":
        pytest.skip("5x5.fits has no coordinates, and astropy does not open it")
    raw, hdus = real_hdus(name)
    tables = {table.name for hdu in hdus for table in referred_tables(hdu.header)}
    for hdu in hdus:
        if hdu.is_image and hdu.name not in tables:
            assert_same_sky(raw, hdu)


# ---------------------------------------------------------------- rule by rule


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # Layout: column 30, free format, a comment that must give way, quotes, an empty field.
        ("CRPIX1  =                256.5 /   Axis 1", "CRPIX1  =                246.5 /   Axis 1"),
        ("CRPIX1  = 5 / c", "CRPIX1  = -5 / c"),
        ("CRPIX1  = 5", "CRPIX1  = -5"),
        (
            "CRPIX1  =                519.3          / x",
            "CRPIX1  =                509.3          / x",
        ),
        # A comment without a blank before it, in a card with room for one and in a full one.
        ("CRPIX1  = 100.5/ref pix", "CRPIX1  = 90.5  /ref pix"),
        ("CRPIX1  = 5/c", "CRPIX1  = -5 /c"),
        (f"CRPIX1  = 12/{'c' * 67}", f"CRPIX1  = 2 /{'c' * 67}"),
        (f"CRPIX1  = 5/{'c' * 68}", f"CRPIX1  = -5 /{'c' * 66}"),
        ("CRPIX1  = 150.51234567890123/c", "CRPIX1  = 140.51234567890123 /c"),
        ("DATASEC = '[1:60,1:50]'/good", "DATASEC = '[1:30,1:25]' /good"),
        ("IMAGEW  = 60/w", "IMAGEW  =                   30 /w"),
        ("CRPIX1  = '12.5    ' / quoted", "CRPIX1  = '2.5     ' / quoted"),
        ("CRPIX1  =                      / none", "CRPIX1  =                -10.0 / none"),
        # Style: decimals, exponents, letters, points; exact in decimal.
        ("CRPIX1  =  150.512345678901234567", "CRPIX1  =  140.512345678901234567"),
        ("CRPIX1  = 1.290000000000000E+02", "CRPIX1  = 1.190000000000000E+02"),
        ("CRPIX1  =  1.29D2", "CRPIX1  =  1.19D2"),
        ("CRPIX1  =                 256.", "CRPIX1  =                 246."),
        ("CRPIX1  =                 -0.0", "CRPIX1  =                -10.0"),
        ("CRPIX1  =                   .5", "CRPIX1  =                 -9.5"),
        ("CRPIX1  =               1E+300", "CRPIX1  =               1E+300"),
        # What is no number stays.
        ("CRPIX1  =                 -Inf", "CRPIX1  =                 -Inf"),
        ("CRPIX1  = 'unknown '", "CRPIX1  = 'unknown '"),
        # Alternates, and axes that the image has not.
        ("CRPIX2Z =                  5.0", "CRPIX2Z =                -15.0"),
        ("CRPIX3  =                  5.0", "CRPIX3  =                  5.0"),
        # Conventions.
        ("LTV1    =                 -100", "LTV1    =                 -110"),
        ("CNPIX2  =                19965", "CNPIX2  =                19985"),
        ("LBOUND1 =                    1", "LBOUND1 =                   11"),
        ("SUBSTRT2=                  891", "SUBSTRT2=                  911"),
        ("SUBSIZE1=                   60", "SUBSIZE1=                   30"),
        ("IMAGEW  =                   60 / w", "IMAGEW  =                   30 / w"),
        ("IMAGEH  =                   50", "IMAGEH  =                   25"),
        # What speaks of the CCD or of the target, not of these pixels.
        ("ATV1    =                  5.0", "ATV1    =                  5.0"),
        ("DTV1    =                  5.0", "DTV1    =                  5.0"),
        ("CCDSIZE = '[1:60,1:50]'", "CCDSIZE = '[1:60,1:50]'"),
        ("RA_TARG =                 12.5", "RA_TARG =                 12.5"),
        ("HISTORY CRPIX1  = 256.5", "HISTORY CRPIX1  = 256.5"),
        ("HIERARCH CRPIX1 = 256.5", "HIERARCH CRPIX1 = 256.5"),
        # Sections of the image: moved, clipped, kept in their direction.
        ("DATASEC = '[1:60,1:50]'        / good", "DATASEC = '[1:30,1:25]'        / good"),
        ("TRIMSEC = '[15:20,30:60]'", "TRIMSEC = '[5:10,10:25]'"),
        ("DATASECB= '[40:11,21:30]'", "DATASECB= '[30:1,1:10]'"),
        ("DATASEC = 'none    '", "DATASEC = 'none    '"),
        ("DATASEC = '[1:60,1:000000050]' / d", "DATASEC = '[1:30,1:25]'        / d"),
        ("PRESEC1 = '[15:20,*]'", "PRESEC1 = '[5:10,1:25]'"),
        ("TRIMSEC = '[-*, *]'", "TRIMSEC = '[30:1,1:25]'"),
        ("BIASSEC = '[*,30]'", "BIASSEC = '[1:30,10:10]'"),
    ],
)
def test_one_card(before: str, after: str) -> None:
    """The card as it comes and as it goes, for the box [11:40,21:45]."""
    assert lines_after(cut(header_of(before))) == [after]


@pytest.mark.parametrize(
    "line",
    [
        "CHECKSUM= 'HcHjHc9ZHcEhHc9Z'",
        "DATASUM = '2503531142'",
        "DATAMIN =                  1.0",
        "DATAMAX =                  9.0",
        "CORN1RA =           168.461431",
        "COR4DEC1=              25.3219",
        "CENRA1  =              25.3219",
        "RAC1    =              25.3219",
        "BIASSEC = '[50:60,1:50]'",  # nothing of it is in the cutout
        "DATASEC = '[0:0,0:0]'",
        "TRIMSEC = '[1:60:2,*]'",  # cannot be moved, and is not true of the cutout
        "BIASSEC = '[*,1]'",
        "TRIMSEC = '[1:60,*,*]'",  # of an axis that the image has not
        "CCDSEC  = '[*,*]'",  # nobody knows how large the CCD is
        "CCDSEC  = '[1:99,1:50]'",  # does not fit the image it says it shows
    ],
)
def test_what_is_no_longer_true_is_left_out(line: str) -> None:
    """And nothing else with it."""
    assert lines_after(cut(header_of(line, "KEPT    = 1"))) == ["KEPT    = 1"]


def test_a_string_goes_with_its_continuation() -> None:
    """No CONTINUE card is orphaned."""
    header = header_of(
        "S_REGION= 'POLYGON ICRS 1 2 &'", "CONTINUE  '3 4 5 &'", "CONTINUE  '6'", "KEPT    = 1"
    )
    assert lines_after(cut(header)) == ["KEPT    = 1"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[1:60,1:50]", "[11:40,21:45]"),
        ("[4001:4060,51:100]", "[4011:4040,71:95]"),
        ("[4060:4001,100:51]", "[4050:4021,80:56]"),  # read out backwards
        ("[1:120,1:150]", "[21:80,61:135]"),  # binned 2 x 3
    ],
)
@pytest.mark.parametrize("keyword", ["CCDSEC", "DETSEC", "AMPSEC"])
def test_sections_of_the_detector_follow_the_image(keyword: str, before: str, after: str) -> None:
    """The whole image shows them where there is no DATASEC."""
    moved = cut(header_of(f"{keyword}  = '{before}'"))
    assert moved[keyword] == after


def test_sections_of_the_detector_follow_their_own_data_section() -> None:
    """Amplifiers A and B, each through its own pair."""
    moved = cut(
        header_of(
            "DATASECA= '[5:30,1:50]'",
            "DATASECB= '[31:56,1:50]'",
            "CCDSECA = '[1:26,1:50]'",
            "DETSECB = '[126:101,1:50]'",
            "DSEC21  = '[5:30,*]'",
            "ASEC21  = '[1:26,1:50]'",
            "CSEC21  = '[126:101,51:100]'",
            "AMPSECC = '[1:60,1:50]'",
        )
    )
    assert moved["DATASECA"] == "[1:20,1:25]"
    assert moved["DATASECB"] == "[21:30,1:25]"
    assert moved["CCDSECA"] == "[7:26,21:45]"
    assert moved["DETSECB"] == "[126:117,21:45]"
    assert [moved[key] for key in ("DSEC21", "ASEC21", "CSEC21")] == [
        *("[1:20,1:25]", "[7:26,21:45]", "[120:101,71:95]")
    ]
    assert "AMPSECC" not in moved  # nothing says what of the image it describes


def test_a_section_stays_where_only_another_axis_is_cut() -> None:
    """Even one that never fitted the image."""
    header = header_of("CCDSEC  = '[1:999,1:999]'", "DATASEC = '[1:60,1:50]'", naxis=(60, 50, 9))
    moved = cut(header, PixelBox((0, 0, 3), (60, 50, 5)))
    assert moved["CCDSEC"] == "[1:999,1:999]"
    assert moved["DATASEC"] == "[1:60,1:50]"


def test_an_absent_reference_pixel_is_zero_and_moves() -> None:
    """FITS 4.0 §8.2: the default of CRPIX is 0.0."""
    moved = cut(
        header_of("CTYPE1  = 'RA---TAN'", "CTYPE2  = 'DEC--TAN'", "CRVAL1B =  5.0", "OTHER   = 1")
    )
    assert [line.split("=")[0].strip() for line in lines_after(moved)] == [
        *("CTYPE1", "CTYPE2", "CRPIX1", "CRPIX2", "CRVAL1B", "CRPIX1B", "CRPIX2B", "OTHER"),
    ]
    assert (moved["CRPIX1"], moved["CRPIX2"]) == (-10.0, -20.0)
    assert (moved["CRPIX1B"], moved["CRPIX2B"]) == (-10.0, -20.0)


def test_no_reference_pixel_is_inserted_where_nothing_moves_or_nothing_is_described() -> None:
    """A card more only where the sky would be wrong without it."""
    described = header_of("CTYPE1  = 'RA---TAN'")
    assert cut(described, PixelBox((0, 0), (30, 25))).get("CRPIX1") is None
    assert lines_after(cut(header_of("OTHER   = 1"))) == ["OTHER   = 1"]


def test_no_reference_pixel_is_inserted_beyond_wcsaxes() -> None:
    """It would contradict WCSAXES."""
    header = header_of("WCSAXES = 2", "CDELT1  = 1.0", "CDELT2  = 1.0", naxis=(60, 50, 9))
    moved = cut(header, PixelBox((10, 20, 3), (40, 45, 9)))
    assert "CRPIX2" in moved
    assert "CRPIX3" not in moved


@pytest.mark.parametrize(
    "lines",
    [
        ("WCSAXES = 2", "CTYPE3  = 'FREQ    '", "CRVAL3  = 1E9", "CDELT3  = 1E6"),
        ("WCSAXES = 2", "CDELT3  = 2.0"),
        ("WCSAXES = 1", "PC1_3   = 0.5"),
        ("WCSAXES = 2", "CD1_1   = 1.0", "CD2_2   = 1.0", "CD03_03 = 4.0"),
        ("WCSAXES = 2", "CNAME3  = 'channel '", "CDELT1  = 1.0"),
        ("CROTA2  = 30.0",),
        ("PC01_02 = 0.5",),
        ("WCSAXESC= 2", "CTYPE1C = 'X       '", "PC03_01C= 0.25"),
        ("WCSAXESC= 2", "CTYPE3C = 'X       '", "CRPIX2C = 4.0"),
    ],
)
def test_all_axes_move_that_a_description_names(lines: Sequence[str]) -> None:
    """More than WCSAXES where cards name more; without reference pixels, they are at 0."""
    header = header_of(*lines, naxis=(60, 50, 9))
    moved = cut(header, PixelBox((10, 20, 3), (40, 45, 9)))
    key = "C" if any("C" in line[6:8] for line in lines) else " "
    with warnings.catch_warnings():
        # astropy tells which forms it takes though they should not be written.
        warnings.simplefilter("ignore", FITSFixedWarning)
        was, now = (
            WCS(fits.Header.fromstring(one.render().decode("ascii")), key=key)
            for one in (header, moved)
        )
    pixels = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [29.0, 24.0, 5.0]])
    expected = was.all_pix2world(pixels + np.array([10, 20, 3]), 0)
    np.testing.assert_allclose(now.all_pix2world(pixels, 0), expected, rtol=1e-14)


def test_ltv_is_inserted_where_only_ltm_stands() -> None:
    """Its default is zero, and moves."""
    moved = cut(header_of("LTM1_1  = 1.0", "LTM2_2  = 1.0", "LTM1_2  = 0.0", "LTV2    = 7"))
    assert (moved["LTV1"], moved["LTV2"], moved["LTM1_1"]) == (-10.0, -13, 1.0)
    assert "LTV1" not in cut(header_of("OTHER   = 1"))


_LSST = (
    *("CTYPE1A = 'LINEAR  '", "CTYPE2A = 'LINEAR  '", "CRPIX1A = 1", "CRPIX2A = 1.0"),
    *("CRVAL1A = 100", "CRVAL2A = 200"),
)


def test_lsst_reads_the_place_of_an_image_from_crval_a() -> None:
    """LSST's afw takes XY0 from CRVALnA only where CRPIXnA is 1."""
    moved = cut(header_of(*_LSST, "LTV1    = -100", "LTV2    = -200"))
    assert (moved["CRPIX1A"], moved["CRPIX2A"]) == (1, 1.0)
    assert (moved["CRVAL1A"], moved["CRVAL2A"]) == (110, 220)
    assert (moved["LTV1"], moved["LTV2"]) == (-110, -220)


@pytest.mark.parametrize(
    "lines",
    [
        (*_LSST, "CD1_1A  = 2.0", "CD2_2A  = 2.0"),
        (*_LSST, "PC01_01A= 2.0"),
        (*_LSST[2:], "CTYPE1A = 'RA---TAN'", "CTYPE2A = 'DEC--TAN'"),
        tuple(line.replace("CRPIX1A = 1", "CRPIX1A = 2") for line in _LSST),
    ],
)
def test_other_alternates_a_move_like_any(lines: Sequence[str]) -> None:
    """Scaled, celestial or not at pixel 1."""
    header = header_of(*lines)
    moved = cut(header)
    assert moved["CRVAL1A"] == 100
    assert moved.number("CRPIX1A") == (header.number("CRPIX1A") or 0) - 10


def test_altrpix_goes_with_the_spectral_axis() -> None:
    """And stays where there is none."""
    header = header_of("CTYPE3  = 'FREQ    '", "ALTRPIX = 5.0", "CRPIX3  = 2.0", naxis=(60, 50, 9))
    moved = cut(header, PixelBox((10, 20, 3), (40, 45, 9)))
    assert (moved["ALTRPIX"], moved["CRPIX3"]) == (2.0, -1.0)
    assert cut(header_of("ALTRPIX = 5.0"))["ALTRPIX"] == 5.0


def test_constant_pixels_of_hst_have_their_size_changed() -> None:
    """NAXIS is 0, and PIXVALUE is every pixel."""
    header = header_of("NPIX1   = 60", "NPIX2   = 50", "PIXVALUE= 0.0", "CRPIX1  = 5.0", naxis=())
    moved = cut(header, kind=HduKind.EMPTY)
    assert constant_axes(header) == (60, 50)
    assert constant_axes(moved) == (30, 25)
    assert (moved["NPIX1"], moved["NPIX2"], moved["CRPIX1"]) == (30, 25, -5.0)
    assert moved["NAXIS"] == 0


def test_positions_of_constant_pixels_are_those_of_the_parent() -> None:
    """As astropy reads them; the extension stays one, without data."""
    cards = [card("XTENSION", "IMAGE"), card("BITPIX", -32), card("NAXIS", 0), card("PCOUNT", 0)]
    cards += [card("GCOUNT", 1), card("NPIX1", 60), card("NPIX2", 50), card("PIXVALUE", 0.5)]
    cards += [card("CTYPE1", "RA---TAN"), card("CTYPE2", "DEC--TAN"), card("CRPIX1", 7.5)]
    cards += [card("CD1_1", -1e-5), card("CD2_2", 1e-5), card("CRVAL1", 10.0), card("CRVAL2", 20.0)]
    header = Header(b"".join(cards))
    moved = HeaderCutter(header, HduKind.EMPTY).cut(BOX)
    (primary, hdu) = fits.open(io.BytesIO(fits.PrimaryHDU().header.tostring().encode() + moved))
    assert (primary.data, hdu.data) == (None, None)
    assert [hdu.header[key] for key in ("NPIX1", "NPIX2", "PIXVALUE")] == [30, 25, 0.5]
    was, now = fits.Header.fromstring(header.render().decode("ascii")), hdu.header.copy()
    for one in (was, now):
        del one["NAXIS"]  # astropy warns that coordinates of no image have axes
    x, y = np.array([0.0, 29.0, 3.25]), np.array([0.0, 24.0, 7.5])
    expected = WCS(was).all_pix2world(x + 10, y + 20, 0)
    np.testing.assert_allclose(WCS(now).all_pix2world(x, y, 0), expected, rtol=1e-14)


@pytest.mark.parametrize(
    "lines",
    [(), ("NPIX1   = 60",), ("NPIX1   = 60", "NPIX2   = 0"), ("NPIX1   = 'x'", "NPIX2   = 1")],
)
def test_other_headers_have_no_constant_pixels(lines: Sequence[str]) -> None:
    """Nor an image that says its size a second time."""
    assert constant_axes(header_of(*lines, naxis=())) == ()
    assert constant_axes(header_of("NPIX1   = 60", "NPIX2   = 50")) == ()


def test_duplicates_all_move_and_mandatory_ones_go() -> None:
    """Readers differ in which one they take."""
    moved = cut(header_of("CRPIX1  = 5.0", "CRPIX1  = 6.0", "NAXIS1  = 60", "BITPIX  = 16"))
    assert moved.values("CRPIX1") == (-5.0, -4.0)
    assert moved.values("NAXIS1") == (30,)
    assert moved.values("BITPIX") == (16,)


def test_mandatory_cards_out_of_order_come_first() -> None:
    """FITS 4.0 §4.4.1, whatever the parent did."""
    raw = header_of("OTHER   = 1").raw
    shuffled = Header(raw[:80] + raw[400:480] + raw[80:400])
    assert cut(shuffled) == cut(Header(raw))


@pytest.mark.parametrize(
    "box", [PixelBox((0, 0), (61, 50)), PixelBox((0,), (5,)), PixelBox((0, 0, 0), (1, 1, 1))]
)
def test_a_box_outside_the_image_is_refused(box: PixelBox) -> None:
    """A box of other axes, too."""
    with pytest.raises(ValueError, match=r"argument|inside"):
        cut(header_of(), box)


def test_an_hdu_without_image_is_refused() -> None:
    """Before any box is asked for."""
    with pytest.raises(ValueError, match="no image"):
        HeaderCutter(header_of(naxis=()), HduKind.IMAGE, first=True)


# ---------------------------------------------------------------- primary or extension


def test_a_primary_image_becomes_an_extension() -> None:
    """With PCOUNT and GCOUNT, without EXTEND."""
    header = header_of("EXTEND  = T", "OBJECT  = 'M31'")
    moved = Header.parse(cut_header(header, BOX, kind=HduKind.IMAGE, first=False))
    assert_mandatory_cards_stand_first(moved, BOX, first=False)
    assert lines_after(moved, 7) == ["OBJECT  = 'M31'"]


def test_an_extension_becomes_primary() -> None:
    """Without PCOUNT, GCOUNT and INHERIT."""
    primary = Header.parse(
        cut_header(
            header_of("OBJECT  = 'M31'"), PixelBox.whole((60, 50)), kind=HduKind.IMAGE, first=False
        )
    )
    header = Header(primary.raw + b"INHERIT =                    T".ljust(80))
    moved = cut(header)
    assert_mandatory_cards_stand_first(moved, BOX, first=True)
    assert lines_after(moved) == ["OBJECT  = 'M31'"]


def test_extensions_are_counted() -> None:
    """EXTEND and NEXTEND tell the truth of the answer."""
    header = header_of("NEXTEND =                    9", "OTHER   = 1")
    cutter = HeaderCutter(header, HduKind.IMAGE, extensions=2)
    moved = Header.parse(cutter.cut(BOX))
    assert (moved["EXTEND"], moved["NEXTEND"]) == (True, 2)
    assert [one.keyword for one in moved][5] == "EXTEND"
    alone = Header.parse(HeaderCutter(header, HduKind.IMAGE, extensions=0).cut(BOX))
    assert "EXTEND" not in alone
    denied = HeaderCutter(header_of("EXTEND  =                    F"), HduKind.IMAGE, extensions=1)
    assert Header.parse(denied.cut(BOX))["EXTEND"] is True


def test_a_primary_image_that_is_left_out_takes_its_description_along() -> None:
    """What describes the observation stays."""
    header = header_of(
        *("EXTEND  = T", "OBJECT  = 'M31'", "BSCALE  = 2.0", "BZERO   = 1.0", "BLANK   = -1"),
        *("BUNIT   = 'Jy'", "DATAMIN = 1.0", "CTYPE1  = 'RA---TAN'", "CRPIX1A = 2.0"),
        *("CD1_1   = 1.0", "PC001001= 1.0", "A_ORDER = 2", "A_0_2   = 1.0", "LTV1    = 1"),
        *(
            "LTM1_1  = 1.0",
            "WCSAXES = 2",
            "PV2_1   = 1.0",
            "DP1     = 'NAXES: 2'",
            "RADESYS = 'ICRS'",
        ),
        *("CHECKSUM= 'x'", "DATASUM = '0'", "NEXTEND =                    3", "HISTORY x"),
    )
    empty = empty_primary(header, extensions=2, provenance=(commentary("HISTORY", "left out"),))
    assert [one.text for one in Header.parse(empty)] == [
        "SIMPLE  =                    T",
        "BITPIX  =                   16",
        "NAXIS   =                    0",
        "EXTEND  = T",
        "OBJECT  = 'M31'",
        "RADESYS = 'ICRS'",
        "NEXTEND =                    2",
        "HISTORY x",
        "HISTORY left out",
    ]
    assert hdus_of(empty)[0].kind is HduKind.EMPTY


@pytest.mark.parametrize(
    "line",
    [
        *("PLTRAH  = 1", "PLTDECSN= '+'", "PLTDECM = 3", "XPIXELSZ= 15.0", "AMDX1   = 67.2"),
        *("PC01_01 = 1.0", "PC001001= 1.0", "PV02_01 = 1.0", "WCSNAMEA= 'x'", "RADESYSA= 'FK5'"),
        *("SUBSTRT1= 1", "SUBSIZE1= 3", "NPIX1   = 40", "PIXVALUE= 0.0", "ASEC11  = '[1:2,1:2]'"),
        *("CORN1RA = 3.0", "RA_CENT = 3.0", "S_REGION= 'CIRCLE'", "CUTCOVER= 0.5"),
        *("CUTWCSER= 0.1", "CUTAXSER= 0.1", "CUTWCSNP= 81", "CROTA2  = 1.0", "CNAME1  = 'x'"),
    ],
)
def test_nothing_of_an_image_that_is_left_out_stays(line: str) -> None:
    """Its coordinates in all forms, its corners, its place on the detector and the plate."""
    empty = Header.parse(empty_primary(header_of(line, "PLTSCALE= 67.2", "EQUINOX = 2000.0")))
    assert lines_after(empty, 3) == ["PLTSCALE= 67.2", "EQUINOX = 2000.0"]


def test_a_kept_primary_header_says_nothing_of_the_outline_of_a_mosaic() -> None:
    """Its images are cut; what describes the telescope, and an image of its own, stays."""
    lines = (
        *("CENTRA  = 10.0", "CORN1RA = 11.0", "S_REGION= 'POLYGON ICRS 1 2 &'", "CONTINUE  '3 4'"),
        *("DATAMAX = 5.0", "CUTCOVER= 0.5", "SUBSTRT1= 1", "RA      = 10.0"),
    )
    kept = Header.parse(kept_primary(header_of(*lines, "DATASUM = '0'", naxis=()), extensions=0))
    assert lines_after(kept, 3) == ["SUBSTRT1= 1", "RA      = 10.0", "DATASUM = '0'"]
    with_pixels, without = header_of(*lines), header_of(*lines, naxis=())
    assert Header.parse(kept_primary(with_pixels, extensions=0)) == with_pixels
    assert Header.parse(kept_primary(without, extensions=0, images_are_whole=True)) == without
    some = kept_primary(without, extensions=0, images_are_whole=True, hdu_numbers={0: 0, 2: 1})
    assert "CORN1RA" not in Header.parse(some)


def test_a_primary_header_of_decam_loses_its_corners() -> None:
    """A real mosaic."""
    _, hdus = real_hdus("c4d_170316_062107_ooi_z_ls9.N2.fits")
    header = hdus[0].header
    assert "CORN1RA" in header
    assert "CENTDEC" in header
    kept = Header.parse(kept_primary(header, extensions=len(hdus) - 1))
    gone = [one.keyword for one in header if one.raw not in {card.raw for card in kept}]
    corners = {f"CORN{number}{axis}" for number in range(1, 5) for axis in ("RA", "DEC")}
    # What the trimmed file says of the number of its HDUs was untrue before.
    assert set(gone) - {"CHECKSUM", "NEXTEND"} == corners | {"CENTRA", "CENTDEC"}


def test_a_primary_header_is_kept_with_its_counts_made_true() -> None:
    """CHECKSUM stays only where nothing changed."""
    header = header_of("NEXTEND =                    3", "CHECKSUM= 'x'", naxis=())
    same = kept_primary(header, extensions=3)
    changed = Header.parse(kept_primary(header, extensions=2))
    assert Header.parse(same)["NEXTEND"] == 3
    assert (changed["NEXTEND"], changed["EXTEND"]) == (2, True)
    assert "CHECKSUM" not in changed
    extended = header_of("EXTEND  =                    T", "CHECKSUM= 'x'", naxis=())
    assert kept_primary(extended, extensions=5) == extended.render()


def test_addresses_of_other_hdus_follow_them() -> None:
    """AR_HDU of LSST's afw counts HDUs from 1."""
    header = header_of(
        "AR_HDU  =                    5 / HDU",
        "PSF_ID  =                    1 / archive ID for the Psf",
        "OBS_ID  =                    7 / which visit",
        naxis=(),
    )
    moved = Header.parse(kept_primary(header, extensions=3, hdu_numbers={0: 0, 1: 1, 4: 2}))
    assert (moved["AR_HDU"], moved["PSF_ID"], moved["OBS_ID"]) == (3, 1, 7)
    gone = Header.parse(kept_primary(header, extensions=1, hdu_numbers={0: 0, 1: 1}))
    assert "AR_HDU" not in gone
    assert "PSF_ID" not in gone
    assert gone["OBS_ID"] == 7


def test_byte_addresses_are_left_out() -> None:
    """Those of lsst.images; DATAMODL alone is another project's."""
    header = header_of("INDXADDR= 66240", "DATAMODL= 'x'", "OBJECT  = 'M31'", naxis=())
    kept = Header.parse(kept_primary(header, extensions=1))
    assert [one.keyword for one in kept][3:] == ["EXTEND", "OBJECT"]
    jwst = header_of("DATAMODL= 'ImageModel'", naxis=())
    assert "DATAMODL" in Header.parse(kept_primary(jwst, extensions=0))


# ---------------------------------------------------------------- compression


@pytest.mark.parametrize("name", COMPRESSED_FAMILIES)
def test_a_compressed_header_becomes_the_image_s(name: str) -> None:
    """The cards that are left, in their order; the values as astropy gives them."""
    raw = FAMILIES[name]()
    hdu = hdus_of(raw)[1]
    header = image_header(hdu.header)
    assert_mandatory_cards_stand_first(header, PixelBox.whole(hdu.naxis), first=False)
    with fits.open(io.BytesIO(raw)) as theirs:
        image = theirs[1].header
    with fits.open(io.BytesIO(raw), disable_image_compression=True) as theirs:
        left = [key for key in theirs[1].header if key and not _OF_THE_TABLE.fullmatch(key)]
    left = [keyword for keyword in left if not re.fullmatch("NAXIS.*|CHECKSUM|DATASUM", keyword)]
    seven_or_more = [one.keyword for one in header][5 + len(hdu.naxis) :]
    assert [k for k in seven_or_more if k not in {"EXTNAME", "BLANK", ""}] == left
    for keyword in ("BSCALE", "BZERO", "EXTNAME", "BUNIT"):
        assert header.get(keyword) == image.get(keyword)
    assert header["BITPIX"] == hdu.header["ZBITPIX"]


def _compressed(*lines: str, bitpix: int = 16) -> Header:
    return header_of(
        *("XTENSION= 'BINTABLE'", "PCOUNT  = 99", "GCOUNT  = 1", "TFIELDS = 1", "ZIMAGE  = T"),
        f"ZBITPIX = {bitpix:20} / bits",
        *("ZNAXIS  = 2", "ZNAXIS1 = 60", "ZNAXIS2 = 50", "ZCMPTYPE= 'RICE_1'", "TFORM1  = '1PB'"),
        *lines,
    )


def test_zblank_is_blank_of_integers_only() -> None:
    """FITS 4.0 §10.1.2."""
    assert image_header(_compressed("ZBLANK  = -5"))["BLANK"] == -5
    assert image_header(_compressed("BLANK   = -7", "ZBLANK  = -5")).values("BLANK") == (-7,)
    floats = image_header(_compressed("BLANK   = -7", "ZBLANK  = -5", bitpix=-32))
    assert "BLANK" not in floats


def test_names_and_comments_of_a_compressed_image() -> None:
    """Names that only look like those of a table or of compression stay."""
    header = image_header(
        _compressed(
            *(
                "EXTNAME = 'COMPRESSED_IMAGE'",
                "EXTNAME = 'SCI'",
                "TTYPE1  = 'X'",
                "TTYPE2  = 'mine'",
            ),
            *("ZPT_0001= 24.5", "ZD      = 56.4", "TARGET  = 'M31'", "HISTORY x", "INHERIT = T"),
        )
    )
    assert header.values("EXTNAME") == ("SCI",)
    assert header.render()[80:160].startswith(b"BITPIX  =                   16 / bits")
    assert lines_after(header, 8) == [
        *("TTYPE2  = 'mine'", "ZPT_0001= 24.5", "ZD      = 56.4", "TARGET  = 'M31'", "HISTORY x"),
        "INHERIT = T",
    ]


def test_a_plain_header_is_its_own_image_header() -> None:
    """Callers need not ask first."""
    header = header_of("ZSCALE  = 5.0")
    assert image_header(header) is header


# ---------------------------------------------------------------- whole files


def _open_strictly(raw: bytes) -> None:
    with fits.open(io.BytesIO(raw)) as hdus:
        hdus.verify("exception")
        for hdu in hdus:
            assert hdu.data is None or hdu.data.size


@pytest.mark.parametrize("name", ["tan_sip", "mef", "cube_radio", "compressed_rice_1_i2", "blank"])
def test_astropy_finds_nothing_wrong(name: str) -> None:
    """Strict verification of whole files."""
    for raw, hdu in image_hdus(name):
        _open_strictly(cut_file(raw, hdu, some_box(hdu.naxis)))


def complaints(program: str, path: Path) -> set[str]:
    """What fitsverify says of a file, without the numbers of cards and HDUs."""
    run = subprocess.run([program, "-l", path], capture_output=True, text=True, check=False)
    lines = (run.stdout + run.stderr).splitlines()  # warnings in the one, errors in the other
    found = [line for line in lines if line.startswith("*** ")]
    return {re.sub(r"Keyword #\d+", "Keyword", line) for line in found}


def assert_no_new_complaint(raw: bytes, hdus: Sequence[HduLayout], folder: Path) -> None:
    """Cut every image of a file, and compare what fitsverify says."""
    program = require_program("fitsverify")
    parent, child = folder / "parent.fits", folder / "child.fits"
    parent.write_bytes(raw)
    for hdu in hdus:
        if hdu.is_image:
            child.write_bytes(cut_file(raw, hdu, some_box(hdu.naxis)))
            assert complaints(program, child) <= complaints(program, parent)


_VERIFIED = [
    *("tan", "tan_sip", "crota", "pc_leading_zeros", "missing_crpix", "alternates", "ltv"),
    *("much_metadata", "lookup_distortion", "cube_radio", "mef", "blank", "unsigned_16"),
    *(
        "degenerate_axes",
        "more_world_axes",
        "compressed_rice_1_i2",
        "compressed_rice_1_f4_dither_1",
    ),
]


@pytest.mark.parametrize("name", _VERIFIED)
def test_fitsverify_finds_nothing_that_the_parent_lacks(name: str, tmp_path: Path) -> None:
    """Families that other tools break."""
    raw = FAMILIES[name]()
    assert_no_new_complaint(raw, hdus_of(raw), tmp_path)


@pytest.mark.parametrize("name", REAL_FILES)
def test_fitsverify_finds_nothing_that_a_real_parent_lacks(name: str, tmp_path: Path) -> None:
    """Every image of every file."""
    raw, hdus = real_hdus(name)
    assert_no_new_complaint(raw, hdus, tmp_path)


# ---------------------------------------------------------------- properties


_EVERYTHING = header_of(
    *("CTYPE1  = 'RA---TAN'", "CTYPE2  = 'DEC--TAN'", "CRPIX1  =                 30.5 / x"),
    *("CRVAL1A =  5.0", "CTYPE1B = 'LINEAR'", "LTM1_1  = 1.0", "LTM2_2  = 1.0", "LTV1    = 3"),
    *("DATASEC = '[5:55,3:48]' / d", "BIASSEC = '[56:60,1:50]'", "CCDSEC  = '[101:151,46:1]'"),
    *("DETSEC  = '[1:102,1:92]'", "CNPIX1  = 100", "IMAGEW  = 60", "DATAMIN = 1.0"),
    *("CPDIS1  = 'TPD'", "DP1     = 'NAXES: 2'", "DP1     = 'AXIS.1: 2'", "DP1     = 'AXIS.2: 1'"),
    *("DP1     = 'OFFSET.1: 25.5'", "DP1     = 'TPD.FWD.1: 1.0'", "EXTEND  = T"),
    *("OBSERVER= 'Jos\xe9'", "HISTORY " + "x" * 72, "        blank", "UNDEF   =", "CRPIX2  = 12/y"),
)


@st.composite
def boxes(draw: st.DrawFn, naxis: tuple[int, ...]) -> PixelBox:
    """Boxes within an image."""
    lower = tuple(draw(st.integers(0, length - 1)) for length in naxis)
    upper = tuple(
        draw(st.integers(low + 1, length)) for low, length in zip(lower, naxis, strict=True)
    )
    return PixelBox(lower, upper)


def within(outer: PixelBox, inner: PixelBox) -> PixelBox:
    """A box of a cutout as a box of its parent."""
    lower = tuple(a + b for a, b in zip(outer.lower, inner.lower, strict=True))
    upper = tuple(a + b for a, b in zip(outer.lower, inner.upper, strict=True))
    return PixelBox(lower, upper)


@given(st.data())
@settings(max_examples=200)
def test_a_cutout_of_a_cutout_is_a_cutout(data: st.DataObject) -> None:
    """To the byte, whatever the boxes."""
    first = data.draw(boxes((60, 50)))
    second = data.draw(boxes(first.naxis))
    twice = cut(cut(_EVERYTHING, first), second)
    once = cut(_EVERYTHING, within(first, second))
    assert [one.text for one in twice] == [one.text for one in once]


_REUSED = HeaderCutter(_EVERYTHING, HduKind.IMAGE, first=True)


@given(boxes((60, 50)))
def test_a_cutter_remembers_nothing(box: PixelBox) -> None:
    """The first cut and the thousandth are one."""
    note = (commentary("HISTORY", f"section {box.section}"),)
    fresh = cut_header(_EVERYTHING, box, kind=HduKind.IMAGE, first=True, provenance=note)
    assert _REUSED.cut(box, note) == fresh
    assert _REUSED.cut(box, note) == fresh


@given(
    number=st.from_regex(r"\A[+-]?[0-9]{1,12}(\.[0-9]{0,18})?([ED][+-]?[0-9]{1,2})?\Z"),
    lower=st.integers(1, 10**6),
    padding=st.integers(0, 12),
    slash=st.sampled_from((" / ", "/", "/ ", " /")),
    comment=st.text(alphabet="abc /'", max_size=60),
)
@settings(max_examples=300)
def test_any_number_moves_exactly(
    number: str, lower: int, padding: int, slash: str, comment: str
) -> None:
    """In decimal, and no card is lost or gained."""
    line = f"CRPIX1  = {' ' * padding}{number}{slash}{comment}"[:80]
    if Card(line.encode().ljust(80)).value is None or "/" not in line:
        return
    header = header_of(line, naxis=(10**6 + 1, 50))
    moved = cut(header, PixelBox((lower, 0), (10**6 + 1, 50)))
    with localcontext(prec=200):
        expected = Decimal(number.replace("D", "E")) - lower
        result = Decimal((moved.literal("CRPIX1") or "").replace("D", "E"))
        # Beyond forty orders of magnitude two numbers are one double.
        assert result == expected or float(result) == pytest.approx(float(expected), rel=1e-15)
    assert len(moved) == len(header)


_CARD_TEXTS = st.text(alphabet=st.sampled_from("0123456789.-+ED'/[]:, TF()&\0\xe9"), max_size=70)
_MOVING = st.sampled_from(
    [
        *("CRPIX1", "CRPIX2A", "LTV1", "LTM1_1", "DATASEC", "CCDSEC", "DP1", "CPDIS1", "CNPIX1"),
        *("EXTEND", "IMAGEW", "ALTRPIX", "CTYPE1", "WCSAXES", "NEXTEND", "NAXIS1", "CRVAL1A"),
        "S_REGION",
    ]
)


@given(st.lists(st.tuples(_MOVING, _CARD_TEXTS), max_size=12), boxes((60, 50)))
@settings(max_examples=300)
def test_hostile_cards_never_break_a_cut(cards: list[tuple[str, str]], box: PixelBox) -> None:
    """What comes out is a header that describes the box."""
    header = header_of(*(f"{keyword:8}= {text}" for keyword, text in cards))
    cutter = HeaderCutter(header, HduKind.IMAGE, first=True, extensions=2)
    rendered = cutter.cut(box)
    assert len(rendered) % 2880 == 0
    (hdu,) = hdus_of(rendered + b"\0" * (-(-box.pixel_count * 2 // 2880) * 2880))
    assert hdu.naxis == box.naxis
