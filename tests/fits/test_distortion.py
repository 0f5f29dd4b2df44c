"""Distortions of pixel coordinates, judged by wcslib and astropy."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS, Wcsprm
from hypothesis import given, settings, strategies as st
from support.images import FAMILIES
from support.realdata import real_hdus

from soda_service.fits.cards import Header
from soda_service.fits.distortion import ReferredTable, move_lookup_table, referred_tables
from soda_service.fits.header import HeaderCutter, cut_header
from soda_service.fits.layout import HduKind, HduLayout, scan_hdus
from soda_service.fits.newcards import card
from soda_service.fits.wcs import ImageWcs, WcsError
from soda_service.geometry.pixelbox import PixelBox
from soda_service.geometry.vectors import unit_vectors

NAXIS = (100, 80)
PIXELS = np.array([[1.0, 1.0], [5.0, 9.0], [40.5, 33.25]])

_SKY = [
    *(card("CTYPE1", "RA---TAN"), card("CTYPE2", "DEC--TAN")),
    *(card("CRVAL1", 10.0), card("CRVAL2", 20.0), card("CRPIX1", 50.5), card("CRPIX2", 40.5)),
    *(card("CDELT1", -0.01), card("CDELT2", 0.01)),
]
# wcslib reads no padded string here.
_TPD = b"CPDIS1  = 'TPD'".ljust(80)
_POLYNOMIAL = b"CPDIS2  = 'Polynomial'".ljust(80)


def records(keyword: str, *texts: str) -> list[bytes]:
    """Record cards with these texts."""
    return [card(keyword, text) for text in texts]


def header_of(*cards: bytes) -> Header:
    """A primary image header with coordinates and these cards."""
    first = [card("SIMPLE", value=True), card("BITPIX", 16), card("NAXIS", 2)]
    first += [card("NAXIS1", NAXIS[0]), card("NAXIS2", NAXIS[1])]
    return Header(b"".join([*first, *_SKY, *cards]))


def intermediate(header: Header, pixels: np.ndarray) -> np.ndarray:
    """What wcslib makes of 1-based pixels before the projection."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wcslib tells that it read the END card
        wcs = Wcsprm(header=header.render(), relax=True)
        return np.array(wcs.p2s(pixels, 1)["imgcrd"])


_TPD_RECORDS = (
    *("NAXES: 2", "AXIS.1: 2", "AXIS.2: 1", "SCALE.1: 0.01", "SCALE.2: 0.02"),
    *("TPD.FWD.1: 1.0", "TPD.FWD.4: 0.3", "TPD.FWD.5: 0.2"),
)
_POLYNOMIAL_RECORDS = (
    *("NAXES: 2", "AXIS.1: 1", "AXIS.2: 2", "NTERMS: 1"),
    *("TERM.1.COEFF: 0.001", "TERM.1.VAR.1: 1", "TERM.1.VAR.2: 2"),
)

_SECOND = (_POLYNOMIAL, *records("DP2", *_POLYNOMIAL_RECORDS))
"""Without a distortion of the second axis wcslib reads none of the first."""


@pytest.mark.parametrize(
    ("of_axis_1", "of_axis_2"),
    [
        (["OFFSET.1: 40.5", "OFFSET.2: 5.05E1"], ["OFFSET.1: 3", "OFFSET.2: 40.5"]),
        (["OFFSET.1: 40.5"], ["OFFSET.2: 40.5"]),
        ([], []),
        (["DOCORR: 0"], []),
        (["DOCORR: 0", "TPD.FWD.0: 2.5"], []),
        ([], ["DOCORR: 0", "OFFSET.2: 40.5"]),
        ([], ["DOCORR: 0", "NTERMS: 2", "TERM.2.COEFF: 0.5"]),
    ],
)
def test_polynomials_of_pixels_move(of_axis_1: list[str], of_axis_2: list[str]) -> None:
    """By wcslib: offsets present and absent, swapped axes, coordinates instead of corrections."""
    parent = header_of(
        *(_TPD, *records("DP1", *_TPD_RECORDS, *of_axis_1)),
        *(_POLYNOMIAL, *records("DP2", *_POLYNOMIAL_RECORDS, *of_axis_2)),
    )
    plain = intermediate(header_of(), PIXELS)
    assert np.abs(intermediate(parent, PIXELS) - plain).max() > 1e-4
    once = Header.parse(
        cut_header(parent, PixelBox((30, 7), (90, 60)), kind=HduKind.IMAGE, first=True)
    )
    twice = Header.parse(
        cut_header(once, PixelBox((3, 2), (60, 50)), kind=HduKind.IMAGE, first=True)
    )
    np.testing.assert_allclose(
        intermediate(once, PIXELS),
        intermediate(parent, PIXELS + np.array([30, 7])),
        rtol=0,
        atol=1e-13,
    )
    np.testing.assert_allclose(
        intermediate(twice, PIXELS),
        intermediate(parent, PIXELS + np.array([33, 9])),
        rtol=0,
        atol=1e-13,
    )


@st.composite
def polynomials(draw: st.DrawFn) -> list[bytes]:
    """A `Polynomial` of axis 1 that gives the coordinate itself, with any number of constants."""
    zero = st.sampled_from(["0", "0.0", "-0", "0E0", None])
    axes = draw(st.permutations((1, 2)))
    texts = ["DOCORR: 0", "NAXES: 2", f"AXIS.1: {axes[0]}", f"AXIS.2: {axes[1]}"]
    # No pixel lies at an offset: there wcslib gives 0 whatever the polynomial says.
    for slot in (1, 2):
        texts.append(f"SCALE.{slot}: {draw(st.sampled_from([1, 0.02]))}")
        if draw(st.booleans()):
            texts.append(f"OFFSET.{slot}: {draw(st.integers(-50, 150))}.37")
    aux = draw(st.sampled_from([None, None, "0", "0.25"]))
    if aux is not None:
        texts += ["NAUX: 1", f"AUX.1.COEFF.0: {aux}", "AUX.1.COEFF.1: 1", "AUX.1.COEFF.2: 1"]
        texts += ["AUX.1.POWER.0: 0.5", "AUX.1.POWER.1: 2", "AUX.1.POWER.2: 2"]
    variables = ["VAR.1", "VAR.2"] if aux is None else ["VAR.1", "VAR.2", "AUX.1"]
    terms: list[str] = []
    count = draw(st.integers(2, 6))
    varying = draw(st.integers(1, count))  # wcslib cannot do without one
    for number in range(1, count + 1):
        term = draw(st.sampled_from(["TERM.{}.", "TERM.0{}."])).format(number)
        powers = dict.fromkeys(variables, 0)
        if number == varying or draw(st.booleans()):
            powers[draw(st.sampled_from(variables))] = draw(st.integers(1, 3))
        coefficient = draw(st.none() | st.integers(-4000, 4000))
        terms += [f"{term}COEFF: {coefficient / 64}"] if coefficient is not None else []
        for variable, power in powers.items():
            written = draw(zero) if power == 0 else str(power)
            terms += [f"{term}{variable}: {written}"] if written is not None else []
    texts += [draw(st.sampled_from(["NTERMS: {}", "NTERMS: {}.0"])).format(count)]
    texts += draw(st.permutations(terms))
    kind = draw(st.sampled_from(["Polynomial", "Polynomial*"]))
    return [f"CPDIS1  = '{kind}'".encode().ljust(80), *records("DP1", *texts)]


@given(cards=polynomials(), x=st.integers(0, 70), y=st.integers(0, 60))
@settings(max_examples=200)
def test_the_constant_that_wcslib_takes_is_the_one_that_moves(
    cards: list[bytes], x: int, y: int
) -> None:
    """By wcslib: written without variables or with powers of zero, one, several or none."""
    parent = header_of(*cards, *_SECOND)
    box = PixelBox((x, y), NAXIS)
    once = Header.parse(cut_header(parent, box, kind=HduKind.IMAGE, first=True))
    expected = intermediate(parent, PIXELS + np.array([x, y]))
    tolerance = 1e-14 * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(intermediate(once, PIXELS), expected, rtol=0, atol=tolerance * 1e3)


@pytest.mark.parametrize(
    "terms",
    [
        ["NTERMS: 2", "TERM.2.COEFF: 5.5", "TERM.2.VAR.1: 0", "TERM.2.VAR.2: 0"],
        ["NTERMS: 3", "TERM.2.COEFF: 7", "TERM.3.COEFF: 5", "TERM.3.VAR.1: 0"],
        ["NTERMS: 3", "TERM.2.COEFF: 7", "TERM.2.VAR.1: 0", "TERM.3.COEFF: 5"],
        ["NTERMS: 3", "TERM.2.VAR.2: 1"],
        ["NTERMS: 2", "TERM.2.VAR.1: 0"],
    ],
)
def test_no_constant_is_added_beside_one(terms: list[str]) -> None:
    """Of two wcslib takes the last, and a term of which nothing is said is 1 to it."""
    first = ["DOCORR: 0", "NAXES: 2", "OFFSET.1: 40.3", "OFFSET.2: 1.7", "TERM.1.COEFF: 2.5"]
    parent = header_of(
        b"CPDIS1  = 'Polynomial'".ljust(80),
        *records("DP1", *first, "TERM.1.VAR.1: 1", *terms),
        *_SECOND,
    )
    box = PixelBox((30, 7), NAXIS)
    cut = Header.parse(cut_header(parent, box, kind=HduKind.IMAGE, first=True))
    assert f"'{terms[0]}'" in str(cut.raw)
    np.testing.assert_allclose(
        intermediate(cut, PIXELS),
        intermediate(parent, PIXELS + np.array([30, 7])),
        rtol=0,
        atol=1e-13,
    )


def test_polynomials_stay_where_the_box_begins_with_the_image() -> None:
    """No card more, no card changed."""
    parent = header_of(_TPD, *records("DP1", *_TPD_RECORDS, "DOCORR: 0", "OFFSET.1: 40.5"))
    same = cut_header(parent, PixelBox((0, 0), NAXIS), kind=HduKind.IMAGE, first=True)
    assert Header.parse(same) == parent


def functions(kind: str, *texts: str) -> list[bytes]:
    """The same distortion (CPDIS) of both axes."""
    axes = (("CPDIS1", "DP1"), ("CPDIS2", "DP2"))
    return [
        one
        for keyword, record in axes
        for one in (f"{keyword}  = '{kind}'".encode().ljust(80), *records(record, *texts))
    ]


def vectors_of(header: Header, pixels: np.ndarray) -> np.ndarray:
    """Unit vectors of 1-based pixels by the service."""
    grid = ImageWcs.of(header, NAXIS).celestial
    assert grid is not None
    return np.asarray(grid.pixel_to_sky(*(pixels.T - 1)))


def astropy_vectors(header: Header, pixels: np.ndarray) -> np.ndarray:
    """The same by astropy, from the header as it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wcslib tells that it read the END card
        world = Wcsprm(header=header.render(), relax=True).p2s(pixels, 1)["world"]
    return np.asarray(unit_vectors(*world.T))


_TERM = ("TERM.1.COEFF: 2.5", "TERM.1.VAR.1: 1")


@pytest.mark.parametrize(
    ("kind", "texts", "blamed"),
    [
        ("Polynomial", ["NAXES: 2", "NTERMS: 1431655766", *_TERM], "NTERMS: 1431655766"),
        ("Polynomial", ["NAXES: 2", "NTERMS: 301", *_TERM], "NTERMS: 301"),
        ("Polynomial", ["NAXES: 2", "NTERMS: -1", *_TERM], "NTERMS: -1"),
        ("Polynomial", ["NAXES: 2", "NTERMS: 1.5", *_TERM], "NTERMS: 1.5"),
        ("Polynomial", ["NAXES: 2", *_TERM], "NTERMS is wanted"),
        ("Polynomial", ["NTERMS: 1", *_TERM], "NAXES is wanted"),
        ("Polynomial", ["NAXES: 2", "NTERMS: 3", "TERM.1.COEFF: 2.5"], "NTERMS: 3"),
        ("Polynomial", ["NAXES: 2", "NTERMS: 1", "TERM.1.VAR.1: 100000000"], "TERM.1.VAR.1: 1"),
        ("Polynomial", ["NAXES: 2", "NTERMS: 1", "TERM.1.VAR.1: 21"], "TERM.1.VAR.1: 21"),
        ("Polynomial", ["NAXES: 2", "NTERMS: 1", "TERM.1.VAR.1: -1"], "TERM.1.VAR.1: -1"),
        ("Polynomial*", ["NAXES: 2", "NTERMS: 1", "TERM.1.VAR.2: 0.5"], "TERM.1.VAR.2: 0.5"),
        ("Polynomial", ["NAXES: 1", "NTERMS: 1", *_TERM, "TERM.1.VAR.2: 1"], "TERM.1.VAR.2: 1"),
        ("Polynomial", ["NAXES: 2", "NTERMS: 1", *_TERM, "TERM.2.COEFF: 1"], "TERM.2.COEFF: 1"),
        ("Polynomial", ["NAXES: 2", "NTERMS: 1", *_TERM, "TERM.1.AUX.1: 1"], "TERM.1.AUX.1: 1"),
        ("Polynomial", ["NAXES: 2", "NTERMS: 1", *_TERM, "TERM.X.COEFF: 1"], "TERM.X.COEFF: 1"),
        ("Polynomial", ["NAXES: 2", "NTERMS: 1", *_TERM, "NAUX: 500000000"], "NAUX: 500000000"),
        (
            "Polynomial",
            ["NAXES: 2", "NTERMS: 1", *_TERM, "NAUX: 1", "AUX.1.POWER.3: 1"],
            "AUX.1.POWER.3: 1",
        ),
        ("Polynomial", ["NAXES: 1", "NTERMS: 1", *_TERM, "NAUX: 1"], "NAUX: 1"),
        ("TPD", ["NAXES: 2", "TPD.FWD.1: 1", "OFFSET.9999999: 1"], "OFFSET.9999999: 1"),
        ("TPD", ["NAXES: 2", "TPD.FWD.1: 1", "SCALE.-99999: 1"], "SCALE.-99999: 1"),
        ("TPD", ["NAXES: 2", "TPD.FWD.1: 1", "OFFSET.0: 1"], "OFFSET.0: 1"),
        ("TPD", ["NAXES: 2", "TPD.FWD.60: 1"], "TPD.FWD.60: 1"),
        ("TPD", ["NAXES: 2", "TPD.FWD.X: 1"], "TPD.FWD.X: 1"),
        ("TPD", ["NAXES: 2", "AUX.3.COEFF.0: 1"], "AUX.3.COEFF.0: 1"),
        ("TPD", ["NAXES: 2", "DOCORR: 1E300"], "DOCORR: 1e.300"),
        ("TPD", ["NAXES: 3", "TPD.FWD.1: 1"], "NAXES: 3"),
        ("TPD", ["NAXES: 2", "AXIS.1: 9000"], "AXIS.1: 9000"),
        ("TPD", ["NAXES: 1", "AXIS.2: 1"], "AXIS.2: 1"),
        ("TPV", ["NAXES: 2", "TPV.40: 1"], "TPV.40: 1"),
        ("SIP", ["NAXES: 2", "SIP.FWD.10_0: 1"], "SIP.FWD.10_0: 1"),
        ("DSS", ["NAXES: 2", "DSS.AMD.14: 1"], "DSS.AMD.14: 1"),
        ("WAT-TNX", ["NAXES: 2", "WAT.POLY: 1", "WAT.CHBY.X_1: 1"], "WAT.CHBY.X_1: 1"),
        ("WAT-TNX", ["NAXES: 2", "WAT.POLY: 7"], "WAT.POLY: 7"),
        ("WAT-" + "X" * 60, ["NAXES: 2", "WAT.POLY: 1"], "CPDIS1 = 'WAT-XX"),
    ],
)
def test_records_that_wcslib_cannot_be_trusted_with(
    kind: str, texts: list[str], blamed: str
) -> None:
    """Counts and indices of its memory, and powers that it takes from elsewhere in it."""
    with pytest.raises(WcsError, match=blamed):
        vectors_of(header_of(*functions(kind, *texts)), PIXELS)


@pytest.mark.parametrize(
    "texts",
    [
        ["NAXES: 2"],
        ["NAXES: 1"],
        ["NAXES: 2", "AXIS.1: 2", "AXIS.2: 1", "TERM.1.VAR.1: 0", "TERM.01.VAR.02: 0.0"],
        ["NAXES: 2", "OFFSET.1: 40", "OFFSET.2: 9", "SCALE.1: 0.01", "SCALE.2: 1E300"],
        ["NAXES: 2", "NAUX: 1", "AUX.1.COEFF.1: 1", "AUX.1.POWER.1: 2", "TERM.1.AUX.1: 0"],
    ],
)
@pytest.mark.parametrize("constant", [2.5, None, -7.125, 0.0])
def test_a_polynomial_that_is_a_constant(texts: list[str], constant: float | None) -> None:
    """It is CRPIX less the constant, which is 1 where it is absent; wcslib crashes on it.

    Likewise in the cutout, whose header keeps the records.
    """
    coefficient = [] if constant is None else [f"TERM.1.COEFF: {constant}"]
    parent = header_of(*functions("Polynomial", "NTERMS: 1", *coefficient, *texts))
    shift = 1.0 if constant is None else constant
    moved = (card("CRPIX1", 50.5 - shift), card("CRPIX2", 40.5 - shift))
    expected = astropy_vectors(header_of(*moved), PIXELS + np.array([30, 7]))
    np.testing.assert_allclose(
        vectors_of(parent, PIXELS + np.array([30, 7])), expected, rtol=0, atol=1e-14
    )
    box = PixelBox((30, 7), NAXIS)
    cut = Header.parse(cut_header(parent, box, kind=HduKind.IMAGE, first=True))
    assert all(f"'{text}" in str(cut.raw) for text in ("NTERMS: 1", *coefficient))
    np.testing.assert_allclose(vectors_of(cut, PIXELS), expected, rtol=0, atol=1e-14)


def test_a_constant_that_is_the_coordinate() -> None:
    """DOCORR: 0; by wcslib, from the same polynomial called `Polynomial*`."""
    texts = ["NAXES: 2", "NTERMS: 1", "TERM.1.COEFF: 33.5", "DOCORR: 0", "OFFSET.1: 0.3"]
    first = [*records("DP1", *texts), *_SECOND]
    parent = header_of(b"CPDIS1  = 'Polynomial'".ljust(80), *first)
    starred = header_of(b"CPDIS1  = 'Polynomial*'".ljust(80), *first)
    expected = astropy_vectors(starred, PIXELS + np.array([30, 7]))
    cut = Header.parse(cut_header(parent, PixelBox((30, 7), NAXIS), kind=HduKind.IMAGE, first=True))
    np.testing.assert_allclose(
        vectors_of(parent, PIXELS + np.array([30, 7])), expected, rtol=0, atol=1e-14
    )
    np.testing.assert_allclose(vectors_of(cut, PIXELS), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("TPD", _TPD_RECORDS),
        ("TPD", (*_TPD_RECORDS, "OFFSET.1: 5", "AUX.1.COEFF.1: 0.5", "AUX.2.COEFF.0: 2")),
        ("TPD", ("NAXES: 1", "AXIS.1: 2", "SCALE.2: 3", "TPD.FWD.4: 1E-4", "TPD.REV.4: -1E-4")),
        ("TPD", (*_TPD_RECORDS, "TPD.FWD.59: 1E-9", "TPD.REV.03: 0.1", "DOCORR: 1")),
        ("TPV", ("NAXES: 2", "TPV.0: 3", "TPV.1: 1.1", "TPV.39: 1E-15")),
        ("SIP", ("NAXES: 2", "OFFSET.1: 50", "SIP.FWD.2_0: 1E-5", "SIP.REV.1_3: 1E-9")),
        ("DSS", ("NAXES: 2", "DSS.AMD.1: 67", "DSS.AMD.2: 0.1", "DSS.AMD.13: 1E-9")),
        (
            "WAT-TNX",
            (
                *("NAXES: 2", "WAT.POLY: 1", "WAT.XMIN: 0", "WAT.XMAX: 100"),
                *("WAT.YMIN: 0", "WAT.YMAX: 80", "WAT.CHBY.1_2: 0.25"),
            ),
        ),
        ("WAT-ZPX", ("NAXES: 2", "WAT.POLY: 3", "WAT.MONO.2_0: 1E-4")),
        ("Polynomial", _POLYNOMIAL_RECORDS),
        ("Polynomial", ("NAXES: 2", "NTERMS: 1.0", "TERM.1.COEFF: 1E-30", "TERM.1.VAR.2: 20")),
    ],
)
def test_functions_that_wcslib_computes(kind: str, texts: tuple[str, ...]) -> None:
    """By astropy, from the header as it stands: every kind of function goes through."""
    header = header_of(*functions(kind, *texts))
    expected = astropy_vectors(header, PIXELS)
    assert np.abs(expected - astropy_vectors(header_of(), PIXELS)).max() > 1e-9
    np.testing.assert_allclose(vectors_of(header, PIXELS), expected, rtol=0, atol=1e-13)


@given(cards=polynomials())
@settings(max_examples=100)
def test_honest_polynomials_are_told_to_wcslib_as_they_are(cards: list[bytes]) -> None:
    """By astropy, from the header as it stands."""
    header = header_of(*cards, *_SECOND)
    expected = astropy_vectors(header, PIXELS)
    np.testing.assert_allclose(vectors_of(header, PIXELS), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("keyword", ["AMDX14", "AMDY20", "AMDX99"])
def test_plate_solutions_have_thirteen_coefficients(keyword: str) -> None:
    """Of more wcslib crashes, unless they are zero, as surveys write them."""
    (image,) = _hdus(FAMILIES["plate_solution"]())
    zero = ImageWcs.of(Header(image.header.raw + card(keyword, 0.0)), image.naxis).celestial
    plain = ImageWcs.of(image.header, image.naxis).celestial
    assert zero is not None
    assert plain is not None
    x, y = PIXELS.T
    np.testing.assert_array_equal(zero.pixel_to_sky(x, y), plain.pixel_to_sky(x, y))
    with pytest.raises(WcsError, match=f"{keyword} = 1e-09"):
        ImageWcs.of(Header(image.header.raw + card(keyword, 1e-9)), image.naxis)


def _hdus(raw: bytes) -> tuple[HduLayout, ...]:
    return tuple(scan_hdus(lambda start, length: raw[start : start + length], len(raw)))


def test_tables_that_coordinates_need_are_named() -> None:
    """Lookup tables move, -TAB tables do not."""
    lookup = _hdus(FAMILIES["lookup_distortion"]())
    names = {(table.name, table.moves) for hdu in lookup for table in referred_tables(hdu.header)}
    assert names == {("WCSDVARR", True)}
    tab = _hdus(FAMILIES["tab_spectral"]())
    (table,) = [table for hdu in tab for table in referred_tables(hdu.header)]
    assert (table.version, table.moves) == (1, False)
    assert table.name in {hdu.name for hdu in tab}
    assert referred_tables(header_of()) == ()


@pytest.mark.parametrize("version", ["1E400", "-1E400"])
def test_a_table_whose_version_is_no_number_is_none(version: str) -> None:
    """Of the primary description and of an alternate."""
    for letter in ("", "A"):
        header = header_of(
            *(card(f"CTYPE3{letter}", "WAVE-TAB"), card(f"PS3_0{letter}", "T")),
            f"PV3_1{letter:3}= {version}".encode().ljust(80),
        )
        assert referred_tables(header) == ()


def test_tables_of_hst_and_spherex_are_named() -> None:
    """The real ones: detector and distortion tables; a wavelength table of an alternate."""
    _, hdus = real_hdus("dist_lookup.fits.gz")
    assert referred_tables(hdus[1].header) == (
        ReferredTable("D2IMARR", 1, moves=True),
        ReferredTable("WCSDVARR", 1, moves=True),
        ReferredTable("WCSDVARR", 2, moves=True),
    )
    _, hdus = real_hdus("spherex_qr2_d3_reconstructed.fits")
    assert referred_tables(hdus[1].header) == (ReferredTable("WCS-WAVE", 1, moves=False),)


def test_an_old_detector_table_is_named() -> None:
    """AXISCORR, from before there were records."""
    header = header_of(card("AXISCORR", 1))
    assert referred_tables(header) == (ReferredTable("D2IMARR", 1, moves=True),)


_TABLE = Header(
    card("XTENSION", "IMAGE")
    + b"".join(card(*each) for each in (("BITPIX", -32), ("NAXIS", 2), ("NAXIS1", 65)))
    + b"".join(card(*each) for each in (("NAXIS2", 33), ("PCOUNT", 0), ("GCOUNT", 1)))
    + b"".join(card(*each) for each in (("EXTNAME", "WCSDVARR"), ("EXTVER", 1)))
    + b"CRVAL1  =               32.125 / where".ljust(80)
    + card("CDELT1", 64.0)
    + card("CHECKSUM", "x")
    + card("DATASUM", "5")
)


def test_a_lookup_table_moves_by_its_crval() -> None:
    """An absent CRVAL is zero; data and DATASUM stay, the sum of the header does not."""
    moved = Header.parse(move_lookup_table(_TABLE, (10, 20)))
    assert moved.literal("CRVAL1") == "22.125"
    assert moved["CRVAL2"] == -20.0
    assert moved["DATASUM"] == "5"
    assert "CHECKSUM" not in moved
    assert (moved["EXTVER"], moved["CDELT1"]) == (1, 64.0)
    assert Header.parse(move_lookup_table(_TABLE, (10, 20), version=7))["EXTVER"] == 7


def test_an_image_can_be_pointed_to_another_version_of_its_table() -> None:
    """For images that shared a table and are cut differently."""
    raw = FAMILIES["lookup_distortion"]()
    image = next(hdu for hdu in _hdus(raw) if referred_tables(hdu.header))
    before = referred_tables(image.header)
    versions = {(table.name, table.version): table.version + 10 for table in before}
    cutter = HeaderCutter(image.header, image.kind, table_versions=versions)
    after = referred_tables(Header.parse(cutter.cut(PixelBox.whole(image.naxis))))
    assert [table.version for table in after] == [table.version + 10 for table in before]
    assert [table.name for table in after] == [table.name for table in before]


@given(x=st.integers(0, 60), y=st.integers(0, 60))
@settings(max_examples=20)
def test_hst_s_three_tables_move_together(x: int, y: int) -> None:
    """By astropy, on the real file: SIP, CPDIS and D2IM, 0.4 pixel wrong where they stay."""
    raw, hdus = real_hdus("dist_lookup.fits.gz")
    box = PixelBox((x, y), (x + 39, y + 30))
    pieces = []
    for hdu in hdus:
        data = raw[hdu.data_offset : hdu.end]
        header = hdu.header.render()
        if hdu.name == "SCI":
            header = cut_header(hdu.header, box, kind=hdu.kind, first=False)
            data = b"\0" * 5760
        elif hdu.name in {"WCSDVARR", "D2IMARR"}:
            header = move_lookup_table(hdu.header, box.lower)
        pieces += [header, data]
    columns, rows = (axis.ravel() for axis in np.mgrid[1:40, 1:31])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what astropy thinks of the parent's old keywords
        parent, child = fits.open(io.BytesIO(raw)), fits.open(io.BytesIO(b"".join(pieces)))
        before = WCS(parent[1].header, parent).all_pix2world(columns + x, rows + y, 1)
        after = WCS(child[1].header, child).all_pix2world(columns, rows, 1)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-11)
