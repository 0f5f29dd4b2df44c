"""Faults that were published of other tools that cut images, each looked for in this one.

A fault is a row of `FAULTS`: where it was told (issues are of GitHub; versions are those that
showed it), what went wrong, and a check that cuts a real file and lets astropy, wcslib or
the bytes themselves judge. `ELSEWHERE` names the tests of those that are looked for in other
rooms, and `NOT_HERE` those that this service cannot have.
"""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import pytest
from astropy.wcs import Wcsprm
from support.cutouts import File, compare, measured, places_on, separation
from support.images import (
    BEYOND_ASTROPY_FAMILIES,
    COMPRESSED_FAMILIES,
    HEIGHT,
    ROTATED_CD,
    SCALED_FAMILIES,
    SIP,
    SPECTRAL_FAMILIES,
    WIDTH,
    CardSpec,
    extension,
    linear_cards,
    primary,
    ramp,
    sky_cards,
    without,
)
from support.pieces import pieces, sky_of, within_circle, within_polygon, within_range

from soda_service.errors import UsageError
from soda_service.geometry.shapes import Circle, Polygon, Range

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from astropy.io import fits
    from numpy.typing import NDArray
    from support.cutouts import Subject, Workbench

    from soda_service.geometry.shapes import Shape

Check: TypeAlias = "Callable[[Workbench], None]"

FAULTS: Final[dict[str, Check]] = {}
MIDDLE: Final = Circle(150.1, 2.2, 0.002)


def fault(*told: str) -> Callable[[Check], Check]:
    """The check that follows looks for these."""

    def register(check: Check) -> Check:
        once = cache(check)
        for one in told:
            assert one not in FAULTS, one
            FAULTS[one] = once
        return check

    return register


def held(bench: Workbench, *names: str) -> None:
    """Cutouts all over these families are true to the parent: pixels, places, cards."""
    for name in names:
        figures = measured(
            bench.family(name), None, coordinates=name not in BEYOND_ASTROPY_FAMILIES
        )
        assert figures.pixels
        assert figures.values == 0
        assert figures.lost == set()
        assert figures.sky_mas < 0.1
        assert figures.other_axes < 2e-12
        assert figures.places or name in BEYOND_ASTROPY_FAMILIES


def made(
    bench: Workbench, cards: Sequence[CardSpec], *, name: str, stored: object = None
) -> Subject:
    """An image of one's own with these cards; its cutter is closed by the end of the process."""
    path = bench.folder / f"{name}.fits"
    path.write_bytes(primary(ramp(WIDTH, HEIGHT) if stored is None else stored, cards))  # type: ignore[arg-type]  # an array, or nothing
    return bench.of(path)


def cut(subject: Subject, shape: Shape) -> File:
    """A cutout that is true to its parent."""
    contents = subject.cut(shape)
    assert contents is not None
    figures = compare(subject, contents)
    assert figures.lost == set()
    assert figures.sky_mas < 0.1
    return File(contents)


def image_of(file: File) -> fits.Header:
    """The header of the first image."""
    return next(one.header for one in file.hdus if one.section is not None)


# ---------------------------------------------------------------- coordinates


@fault("astropy 7550: SIP kept a reference pixel of its own, tens of pixels",
       "cutana 238: SIP was not passed on",
       "opencadc/dal 8f9a5e2b: cutouts of SIP images did not work")  # fmt: skip
def _sip(bench: Workbench) -> None:
    held(bench, "tan_sip", "tan_sip_no_inverse", "sin_sip", "swapped_axes_sip")


@fault("astropy 15047: tables of distortion (CPDIS, D2IM) were not shifted",
       "astropy 13456: the index into a table was scaled by CDELT",
       "astropy 8.0 Cutout2D: CPDIS and D2IM wrong by 57 to 65 mas",
       "cfitsio 4.6 imcopy: tables of distortion unshifted, 92 mas",
       "astrocut 1.4: ValueError for tables of distortion",
       "astropy 3594: what refers to pixels must move, CRPIX off the cutout is legal")  # fmt: skip
def _lookup(bench: Workbench) -> None:
    held(bench, "lookup_distortion", "detector_distortion", "lookup_and_detector_distortion")
    file = cut(bench.family("lookup_distortion"), MIDDLE)
    assert {one.hdu.name for one in file.hdus} >= {"SCI", "WCSDVARR"}


@fault("astropy 3823: a TPV image showed its target five degrees away",
       "gnuastro 0.19: TNX wrong by 3.2e8 mas")  # fmt: skip
def _polynomials(bench: Workbench) -> None:
    held(bench, "tpv", "tan_with_pv", "tnx", "zpx", "zpn", "tpd_of_degrees")


@fault("astropy 4761: SIP without the suffix", "astropy 5145: the suffix without SIP")
def _sip_by_halves(bench: Workbench) -> None:
    held(bench, "tan_sip_no_suffix", "tan_sip_suffix_alone")
    header = image_of(cut(bench.family("tan_sip_no_suffix"), MIDDLE))
    # Readers disagree about it; each must disagree as it did before.
    assert header["CTYPE1"] == "RA---TAN"
    assert "A_2_0" in header


@fault("astropy 18404: SIP applied to an alternate system",
       "astropy 19228: CPDIS of the primary system used for the second one",
       "astropy Cutout2D, astrocut: alternate systems stale, 2.2e5 mas",
       "Montage 6.0, getfits 3.9: alternate systems stale",
       "cfitsio: CRPIXna of every letter")  # fmt: skip
def _alternates(bench: Workbench) -> None:
    held(bench, "alternates", "alternates_of_every_letter", "tab_alternate")


@fault("astropy Cutout2D: an alternate in a table (-TAB) 36 pixels off",
       "imcopy: the table of -TAB stays behind")  # fmt: skip
def _tables(bench: Workbench) -> None:
    held(bench, "tab_alternate", "tab_spectral", "tab_spectral_indexed")
    assert "WCS-WAVE" in {one.hdu.name for one in cut(bench.family("tab_alternate"), MIDDLE).hdus}


@fault("astropy 11216: plate solutions differ from version to version",
       "imcopy, getfits: CNPIX stale, 8.4e4 mas", "gnuastro: plate solution 4e4 mas")  # fmt: skip
def _plate(bench: Workbench) -> None:
    held(bench, "plate_solution", "plate_solution_and_tan")


@fault("astropy 20349, 13667: reading the header of a TNX or DSS cutout corrupts memory")
def _no_crash(bench: Workbench) -> None:
    for name in ("tnx", "plate_solution", "plate_solution_and_tan", "tpd_of_degrees"):
        subject = bench.family(name)
        contents = subject.cut(places_on(subject.grid(0))[0].shape)
        assert contents is not None
        path = bench.folder / f"read again {name}.fits"
        path.write_bytes(contents)
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _READ_AGAIN, path],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr


_READ_AGAIN: Final = """
import sys
from astropy.io import fits
from astropy.wcs import WCS
header = fits.getheader(sys.argv[1])
for _ in range(3):
    assert WCS(header).all_pix2world(3, 4, 1)
"""


@fault("astropy, Montage: polynomials of pixels (CPDIS = TPD) are refused or 1e3 mas off",
       "cfitsio: OFFSET of a TPD not moved")  # fmt: skip
def _polynomials_of_pixels(bench: Workbench) -> None:
    for name in ("tpd_of_pixels", "tpd_of_pixels_no_offset", "polynomial_of_pixels"):
        subject = bench.family(name)
        held(bench, name)
        for place in places_on(subject.grid(0)):
            contents = subject.cut(place.shape)
            assert contents is not None
            (one,) = File(contents).hdus
            assert one.section is not None
            x, y = np.meshgrid(
                *(np.arange(low, high + 1.0) for low, high in one.section[1]), indexing="ij"
            )
            there = _by_wcslib(subject.raw, x.ravel(), y.ravel())
            (low_x, _), (low_y, _) = one.section[1]
            here = _by_wcslib(contents, x.ravel() - low_x + 1, y.ravel() - low_y + 1)
            assert separation(here, there).max() * 3.6e6 < 0.1


def _by_wcslib(raw: bytes, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wcs = Wcsprm(header=raw[: raw.index(b"END" + b" " * 77)])
        wcs.set()
    world: NDArray[np.float64] = wcs.p2s(np.stack((x, y), axis=1), 1)["world"].T
    return world


@fault("cfitsio, fitsio: absent CRPIX not inserted, 1.04e5 mas",
       "getfits: an absent CRPIX breaks the pair", "Montage: absent CRPIX wrong")  # fmt: skip
def _absent_reference(bench: Workbench) -> None:
    held(bench, "missing_crpix", "alternates_of_every_letter")
    whole = bench.family("missing_crpix")
    header = image_of(cut(whole, places_on(whole.grid(0))[0].shape))
    assert "CRPIX1" in header


@fault("fitscut 1.4: CRPIX unchanged, 6e4 to 3e8 mas",
       "aladin-lite 323: half a pixel",
       "galfind 100: wrong header")  # fmt: skip
def _plainest(bench: Workbench) -> None:
    held(bench, "tan", "much_metadata")


@fault("astropy to_header: PC beside CD", "astrocut: CD and PC in one header",
       "astropy to_header: WCSAXES behind CTYPE")  # fmt: skip
def _one_matrix(bench: Workbench) -> None:
    for name in ("tan_sip", "cd_with_cdelt", "pc_leading_zeros", "crota", "cd_leading_zeros"):
        header = image_of(cut(bench.family(name), MIDDLE))
        names = {re.sub("[0-9_]", "", keyword) for keyword in header}
        assert len(names & {"PC", "CD", "CROTA"}) == 1
        keywords = list(header)
        assert "WCSAXES" not in keywords or keywords.index("WCSAXES") < keywords.index("CTYPE1")


@fault("astropy WCS.slice: IndexError where WCSAXES exceeds NAXIS",
       "astropy Cutout2D: more than two axes unsupported",
       "cfitsio: more than four axes refused",
       "gnuastro: CROTA of four axes is fatal", "opencadc/vostools 129: 4-D cutouts fail",
       "pyse 112: degenerate axes are dropped",
       "Montage: NAXIS = 2 and NAXIS3 stays")  # fmt: skip
def _many_axes(bench: Workbench) -> None:
    names = ("more_world_axes", "casa_image", "degenerate_axes", "cube_time_and_everything")
    held(bench, *names, "plain_third_axis")
    for name in names:
        subject = bench.family(name)
        header = image_of(cut(subject, places_on(subject.grid(0))[0].shape))
        assert header["NAXIS"] == subject.parent.hdus[0].header["NAXIS"]
        assert [key for key in header if re.fullmatch(r"NAXIS\d", key)] == [
            f"NAXIS{axis}" for axis in range(1, header["NAXIS"] + 1)
        ]
    turned: list[CardSpec] = [
        ("WCSAXES", 4), *without(sky_cards(), "WCSAXES"), ("CROTA2", 25.0),
        *linear_cards(3, "FREQ", "Hz", 1.0, 1.4e9, 1e6), ("CROTA3", 0.0),
        *linear_cards(4, "STOKES", "", 1.0, 1.0, 1.0), ("CROTA4", 0.0),
    ]  # fmt: skip
    cut(made(bench, turned, name="crota of four", stored=ramp(WIDTH, HEIGHT, 1, 1)), MIDDLE)


@fault("opencadc/dal 4c38be5d: pixels in the primary HDU",
       "opencadc/dal 4e5fa69a: the sky is not on axes 1 and 2")  # fmt: skip
def _odd_places(bench: Workbench) -> None:
    held(bench, "primary_and_extension", "cube_sky_apart", "cube_sky_last", "cube_spectral_first")


@fault("opencadc/dal: PC, SIP, tables and LTV untouched", "opencadc/dal: velocity axes refused")
def _dal(bench: Workbench) -> None:
    held(bench, "pc_rotated", "ltv", *SPECTRAL_FAMILIES[:6])


@fault("aladin-lite 120, 136: AIR and PAR; CDELT1 above zero",
       "image_cutout_backend: parity told by the sign of the determinant")  # fmt: skip
def _parity(bench: Workbench) -> None:
    held(bench, "projection_air", "projection_par", "negative_cdelt", "cd_mirrored")


@fault("wcslib 8: GLS and AIPS axes are modernised, which moves other readers by a degree")
def _nothing_modernised(bench: Workbench) -> None:
    held(bench, "gls", "cube_felo", "cube_velocity_of_aips", "pc_one_leading_zero", "radecsys")
    subject = bench.family("gls")
    header = image_of(cut(subject, places_on(subject.grid(0))[0].shape))
    assert header["CTYPE1"] == "RA---GLS"


# ---------------------------------------------------------------- headers


@fault("astropy, astrocut, cfitsio, opencadc/dal: CHECKSUM and DATASUM stale",
       "cfitsio, getfits: DATAMIN and DATAMAX stale or wrong",
       "astropy, cfitsio: LTV, sections, IMAGEW and ALTRPIX stale")  # fmt: skip
def _nothing_stale(bench: Workbench) -> None:
    cards: list[CardSpec] = [
        *without(sky_cards(), "CDELT1", "CDELT2"), *ROTATED_CD, *SIP,
        ("LTV1", -100.0), ("LTM1_1", 1.0), ("DATASEC", f"[1:{WIDTH},1:{HEIGHT}]"),
        ("CCDSEC", f"[101:{100 + WIDTH},1:{HEIGHT}]"), ("IMAGEW", WIDTH), ("IMAGEH", HEIGHT),
        ("DATAMIN", 0.0), ("DATAMAX", float(WIDTH * HEIGHT)),
        ("CHECKSUM", "ZZZZZZZZZZZZZZZZ"), ("DATASUM", "12345"),
    ]  # fmt: skip
    file = cut(made(bench, cards, name="stale"), MIDDLE)
    header, (one,) = image_of(file), file.hdus
    assert one.section is not None
    (low, high), (bottom, top) = one.section[1]
    assert low > 1
    assert header["LTV1"] == -100.0 - (low - 1)
    assert header["DATASEC"] == f"[1:{high - low + 1},1:{top - bottom + 1}]"
    assert header["CCDSEC"] == f"[{low + 100}:{high + 100},{bottom}:{top}]"
    assert (header["IMAGEW"], header["IMAGEH"]) == (high - low + 1, top - bottom + 1)
    assert not {"DATAMIN", "DATAMAX", "CHECKSUM", "DATASUM"} & set(header)
    radio = bench.family("casa_image")
    moved = cut(radio, places_on(radio.grid(0))[0].shape)
    assert image_of(moved)["ALTRPIX"] == 1.0


@fault("astropy to_header: 65 cards rewritten", "gnuastro: 12 to 66 cards rewritten",
       "fitscut: HISTORY lost", "WCS.to_header: 15 to 84 cards lost",
       "opencadc/dal: floats read and written anew")  # fmt: skip
def _cards_to_the_byte(bench: Workbench) -> None:
    odd: list[CardSpec] = [
        "EXPTIME =               30.000 / [s]", "GAIN    =          1.5000E+00",
        "ODD     = 3.D0 / old style", "EMPTY   =", "HISTORY  as it was", "COMMENT  so it stays",
        "CPLX    =           (1.0, 2.0) / complex", "TWICE   =                    1",
        "TWICE   =                    2", "HIERARCH ESO A B = 3 / long",
    ]  # fmt: skip
    subject = made(bench, [*sky_cards(), *odd], name="odd cards")
    (one,) = cut(subject, MIDDLE).hdus
    kept = set(one.cards)
    assert {str(card).encode().ljust(80) for card in odd} <= kept


@fault("fitsio 1.4 read_header: raises for a complex number and for BZERO = 2^63",
       "astropy: a float literal BZERO = -128.0 of bytes raises")  # fmt: skip
def _odd_numbers(bench: Workbench) -> None:
    held(bench, "unsigned_64", "unsigned_32")
    cards: list[CardSpec] = [
        *sky_cards(), "BSCALE  =                  1.0", "BZERO   =               -128.0",
        "CPLX    =           (1.0, 2.0)",
    ]  # fmt: skip
    (one,) = cut(made(bench, cards, name="bzero", stored=ramp(WIDTH, HEIGHT, dtype="u1")),
                 MIDDLE).hdus  # fmt: skip
    assert b"BZERO   =               -128.0".ljust(80) in one.cards


@fault("astrocut 1.4: HDUs renamed, the primary header left out",
       "opencadc/dal: EXTVER taken from EXTNAME, zero for compressed images",
       "getfits: primary and extension merged, with duplicates",
       "fitscut: one HDU only", "astrocut 52, 141: HDUs without data")  # fmt: skip
def _names(bench: Workbench) -> None:
    for name in ("mef", "mef_two_chips", "afw_exposure", "compressed_rice_1_i4"):
        subject = bench.family(name)
        first = next(subject.sky_images())
        file = cut(subject, places_on(subject.grid(first))[0].shape)
        theirs = [one.key for one in subject.parent.hdus]
        assert [one.key for one in file.hdus if one.key in theirs] == [one.key for one in file.hdus]
        assert file.hdus[0].section is None
        keywords = [key for key in file.hdus[0].header if key not in {"HISTORY", "COMMENT", ""}]
        assert len(keywords) == len(set(keywords))


@fault("image_cutout_backend: an image that loses its XY0 when CRPIXnA moves",
       "afw: AR_HDU points past the HDUs that are left")  # fmt: skip
def _afw(bench: Workbench) -> None:
    held(bench, "afw_exposure")
    file = cut(bench.family("afw_exposure"), MIDDLE)
    one = file.hdus[1]
    assert one.section is not None
    assert (one.header["CRPIX1A"], one.header["CRPIX2A"]) == (1.0, 1.0)
    (low, _), (bottom, _) = one.section[1]
    assert (one.header["CRVAL1A"], one.header["CRVAL2A"]) == (999.0 + low, 1999.0 + bottom)
    assert file.hdus[file.hdus[0].header["AR_HDU"] - 1].hdu.name == "ARCHIVE_INDEX"


# ---------------------------------------------------------------- stored values


@fault("astropy: integers with BLANK or BSCALE become floats",
       "astrocut 1.4: images with BZERO, BSCALE or BLANK refused",
       "Montage: int16 with BZERO or BLANK gives an empty file",
       "gnuastro: BLANK invented", "imcopy: BITPIX = 64 gives a broken file")  # fmt: skip
def _types(bench: Workbench) -> None:
    held(bench, *SCALED_FAMILIES, "bitpix_i8", "bitpix_i4")
    for name in (*SCALED_FAMILIES, "bitpix_i8"):
        header = image_of(cut(bench.family(name), MIDDLE))
        parent = bench.family(name).parent.hdus[0].header
        for keyword in ("BITPIX", "BLANK", "BSCALE", "BZERO"):
            assert header.get(keyword) == parent.get(keyword)


@fault("cfitsio, Montage: infinities become NaN, subnormals and -0 become 0",
       "fitsio: infinities and NaN payloads become 0xFFFFFFFF",
       "gnuastro: everything that is not finite becomes the quiet NaN")  # fmt: skip
def _payloads(bench: Workbench) -> None:
    held(bench, "nan_payloads_f4", "nan_payloads_f8")


@fault("opencadc/dal 90: axes of tiles in the wrong order",
       "opencadc/dal: checksum of the table copied into the image",
       "linea-it/cutout: compressed images cannot be read")  # fmt: skip
def _tiles(bench: Workbench) -> None:
    held(bench, "compressed_tiles", "compressed_cube_tiles", *COMPRESSED_FAMILIES[:4])


@fault("astropy 9637: NaN cannot be made an integer, where the target is off the image",
       "astrocut 1.4: the same where a plane of integers reaches the edge",
       "vo-cutouts 0.4: shapes over the edge fail",
       "image_cutout_backend: StencilNotContained")  # fmt: skip
def _edges(bench: Workbench) -> None:
    subject = bench.family("mef")
    grid = subject.grid(1)
    corner = _place(grid, 0, 0)
    file = cut(subject, Circle(*corner, 0.002))
    assert [one.header["BITPIX"] for one in file.hdus if one.section] == [-32, 32, -32]
    assert subject.plan(Circle(*_place(grid, -300, -300), 0.002)) is None
    assert subject.plan(Circle(*_opposite(corner), 0.002)) is None


def _place(grid: object, x: float, y: float) -> tuple[float, float]:
    sky = grid.pixel_to_sky(np.array([float(x)]), np.array([float(y)]))[:, 0]  # type: ignore[attr-defined]  # a SkyGrid
    return float(np.degrees(np.arctan2(sky[1], sky[0])) % 360), float(np.degrees(np.arcsin(sky[2])))


def _opposite(place: tuple[float, float]) -> tuple[float, float]:
    return (place[0] + 180) % 360, -place[1]


@fault("astrocut 1.4: an image of zeros counts as no data",
       "Legacy viewer, legacysurvey/imagine: empty areas are a blank picture")  # fmt: skip
def _zeros(bench: Workbench) -> None:
    subject = made(bench, sky_cards(), name="zeros", stored=np.zeros((HEIGHT, WIDTH), "f4"))
    (one,) = cut(subject, MIDDLE).hdus
    assert one.stored is not None
    assert one.stored.size > 50


# ---------------------------------------------------------------- from region to box

_STEP: Final = 0.002


def _of_sky(
    bench: Workbench, name: str, shape: Shape, inside: Callable[[object], NDArray[np.bool_]],
    cards: Sequence[CardSpec], naxis: tuple[int, int] = (330, 270), *, more: int = 1,
) -> None:  # fmt: skip
    """The box of *shape* is the smallest that holds all pixels *inside*, give or take *more*."""
    path = bench.folder / f"{name}.fits"
    if not path.exists():
        path.write_bytes(primary(np.zeros(naxis[::-1], "u1"), cards))
    subject = bench.of(path)
    contents = subject.cut(shape)
    assert contents is not None
    (piece,) = pieces(contents, path)
    piece.assert_best(inside(sky_of(piece.parent.header)), more)


def _polar(code: str = "ZEA", lat: float = 89.95) -> list[CardSpec]:
    return sky_cards(code, crval=(40.0, lat), crpix=(150.0, 120.0), cdelt=(-_STEP, _STEP))


@fault("minoc: a circle is its corners by r / cos(dec), 86 % lost at dec 89.95",
       "minoc 80: short by three pixels at dec 80",
       "drizzlepac 1384: right ascensions around the pole")  # fmt: skip
def _circle_at_the_pole(bench: Workbench) -> None:
    shape = Circle(200.0, 89.95, 0.11)
    _of_sky(bench, "polar", shape, lambda sky: within_circle(sky, 200, 89.95, 0.11), _polar())
    near = sky_cards(crval=(40.0, 80.0), crpix=(150.0, 120.0), cdelt=(-_STEP, _STEP))
    shape = Circle(40.3, 80.02, 0.15)
    _of_sky(bench, "dec80", shape, lambda sky: within_circle(sky, 40.3, 80.02, 0.15), near)


@fault("opencadc/dal clip: an overlap of one pixel at the last column is lost")
def _last_column(bench: Workbench) -> None:
    subject = bench.family("tan")
    grid = subject.grid(0)
    for x, y, section in ((WIDTH - 0.5 + 1, 20, f"{WIDTH}:{WIDTH}"), (-1.5, 20, "1:1")):
        found = subject.plan(Circle(*_place(grid, x, y), 2e-4 * 1.2))
        assert found is not None
        assert found.hdus[0].box is not None
        assert found.hdus[0].box.section.startswith(f"[{section},")


@fault("opencadc/dal: RANGE and POLYGON by their corners only")
def _bulging_edges(bench: Workbench) -> None:
    cards = sky_cards("ZEA", crval=(40.0, 80.0), crpix=(150.0, 120.0), cdelt=(-0.05, 0.05))
    corners = ((20.0, 79.0), (60.0, 79.0), (60.0, 81.5), (20.0, 81.5))
    flat = [number for corner in corners for number in corner]
    _of_sky(bench, "bulge", Polygon(corners), lambda sky: within_polygon(sky, *flat), cards)
    box = (20.0, 60.0, 79.0, 81.5)
    _of_sky(bench, "bulge", Range(*box), lambda sky: within_range(sky, *box), cards)


@fault("image_cutout_backend: a circle is an inscribed polygon of 64 corners, 0.12 % short",
       "rubin-dp0 183: a polygon that lacks the cosine of the declination")  # fmt: skip
def _round_circles(bench: Workbench) -> None:
    # Turned by half a side of that polygon, whose flat sides then face the axes of the pixels.
    angle = np.radians(180 / 64)
    step = 1e-5
    matrix = step * np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    cards: list[CardSpec] = [
        *without(sky_cards(crpix=(610.3, 580.7)), "CDELT1", "CDELT2"),
        *((f"CD{i + 1}_{j + 1}", float(matrix[i, j])) for i in (0, 1) for j in (0, 1)),
    ]  # fmt: skip
    radius = 500 * step
    _of_sky(bench, "round", Circle(150.1, 2.2, radius),
            lambda sky: within_circle(sky, 150.1, 2.2, radius), cards, (1220, 1160))  # fmt: skip


@fault("jwst 6026, 1727: right ascensions on both sides of 0", "GalSim 1031: right ascension 0",
       "DaCHS: ranges end at 0 and 360")  # fmt: skip
def _across_zero(bench: Workbench) -> None:
    cards = sky_cards(crval=(0.01, -31.0), crpix=(150.0, 120.0), cdelt=(-_STEP, _STEP))
    box = (359.95, 0.07, -31.05, -30.98)
    _of_sky(bench, "zero", Range(*box), lambda sky: within_range(sky, *box), cards)
    shape = Circle(359.99, -31.0, 0.05)
    _of_sky(bench, "zero", shape, lambda sky: within_circle(sky, 359.99, -31, 0.05), cards)


@fault("jwst 8896, romancal 1633: footprints from the centres of pixels",
       "drizzlepac 951, 1389: wrong footprints",
       "jwst 6691: footprints whose sides cross",
       "jwst 7265: footprints from pole to pole")  # fmt: skip
def _footprints(bench: Workbench) -> None:
    for name in ("tan", "ra_wrap", "cd_mirrored", "swapped_axes"):
        subject = bench.family(name)
        footprint = subject.dataset.footprint
        assert footprint is not None
        (polygon,) = footprint.polygons
        grid = subject.grid(0)
        width, height = grid.naxis
        edges = [
            (-0.5, -0.5),
            (width - 0.5, -0.5),
            (width - 0.5, height - 0.5),
            (-0.5, height - 0.5),
        ]
        corners = np.array([_place(grid, *corner) for corner in edges]).T
        vertices = np.array(polygon.vertices).T
        apart = np.array([separation(corners, np.roll(vertices, k, axis=1)) for k in range(4)])
        back = np.array(
            [separation(corners, np.roll(vertices[:, ::-1], k, axis=1)) for k in range(4)]
        )
        worst = min(apart.max(axis=1).min(), back.max(axis=1).min())
        # Centres of pixels would be 0.7 of a pixel off; what is allowed is a margin.
        assert worst < 0.4 * 2e-4


@fault("ztfquery 11: the cutout lacks the position that was asked for",
       "Firefly 2025-01: a cutout elsewhere",
       "IRSA: the target is outside of a clipped cutout")  # fmt: skip
def _holds_the_position(bench: Workbench) -> None:
    subject = bench.family("tan_sip")
    grid = subject.grid(0)
    for x, y in ((0.2, 0.3), (WIDTH - 1.3, HEIGHT - 0.7), (30.49, 20.51), (30.5, 20.5)):
        place = _place(grid, x, y)
        file = cut(subject, Circle(*place, 5e-4))
        one = file.hdus[0]
        found = file.wcs(0, "").all_world2pix([place], 0)[0]
        for at, length in zip(found, (one.header["NAXIS1"], one.header["NAXIS2"]), strict=True):
            assert -0.5 - 1e-6 <= at <= length - 0.5 + 1e-6


@fault("DQ planes: cut by a box of their own, a pixel beside the science plane")
def _planes_of_one_grid(bench: Workbench) -> None:
    wcs = [*without(sky_cards("TAN-SIP"), "CDELT1", "CDELT2"), *ROTATED_CD, *SIP]
    plain = [*without(sky_cards("TAN"), "CDELT1", "CDELT2"), *ROTATED_CD]
    version: CardSpec = ("EXTVER", 1)
    path = bench.folder / "planes.fits"
    path.write_bytes(b"".join([
        primary(None),
        extension(ramp(WIDTH, HEIGHT), [("EXTNAME", "SCI"), version, *wcs]),
        extension(ramp(WIDTH, HEIGHT), [("EXTNAME", "ERR"), version, *plain]),
        extension(ramp(WIDTH, HEIGHT, dtype="i2"), [("EXTNAME", "DQ"), version]),
    ]))  # fmt: skip
    roles = {"SCI": "science", "ERR": "error", "DQ": "quality"}
    subject = bench.of(path, bench.collections.model_copy(update={"roles": roles}))
    plan = subject.plan(Circle(*_place(subject.grid(1), 50, 40), 0.0011))
    assert plan is not None
    sections = {one.box.section for one in plan.hdus if one.box is not None}
    assert len([one for one in plan.hdus if one.box is not None]) == 3
    assert len(sections) == 1


@fault("astropy to_header: a header that two readers take for two things is settled silently")
def _contradictions(bench: Workbench) -> None:
    subject = bench.family("wcs_cd_against_pc")
    with pytest.raises(UsageError, match="CD1_1 and PC1_1"):
        subject.plan(MIDDLE)


# ---------------------------------------------------------------- the list


@pytest.mark.parametrize("told", FAULTS)
def test_the_fault_is_not_here(bench: Workbench, told: str) -> None:
    """One row for each that was told; several may share a check."""
    FAULTS[told](bench)


ELSEWHERE: Final[Mapping[str, str]] = {
    "Fornax: a URL of the user reaches the file opener":
        "protocol/test_bad_input.py::test_an_identifier_is_never_fetched",
    "Fornax, Zip Slip: paths as identifiers":
        "protocol/test_bad_input.py::test_identifiers_that_look_like_something_else",
    "minoc: bytes=-N is the beginning": "web/test_files.py::test_a_range",
    "minoc, vo-cutouts: no overlap is an error 400":
        "web/test_soda.py::test_no_overlap_is_204_with_nothing",
    "Legacy viewer, SoFiA-image-pipeline 75: too much asked is cut down silently":
        "web/test_soda.py::test_both_sizes_are_named",
    "hips2fits: an unknown name becomes some other image":
        "web/test_soda.py::test_unknown_identifiers",
    "Rubin: INFO before DESCRIPTION":
        "protocol/test_checklist_dali_vosi.py::test_vot_001_to_013_documents",
    "Rubin: standardID in another case":
        "protocol/test_checklist_soda.py::test_soda_001_002_003_the_capability_is_declared",
    "IRSA: the search lags behind the files":
        "protocol/test_bad_input.py::test_a_file_that_is_replaced_is_served_anew",
    "Firefly: two #cutout rows of one #this":
        "protocol/test_checklist_datalink.py::test_dl_016_020_one_synchronous_cutout_per_dataset",
    "astrocut 132: reading a part decompresses the whole":
        "pixels/test_tiled.py::test_memory_is_bounded_by_the_tiles_of_a_band",
    "astropy 9096, 3827: files stay open":
        "storage/test_pool.py::test_the_longest_unused_is_closed",
    "osml-tile-server 13: reading stops the event loop":
        "web/test_soda.py::test_short_work_does_not_wait_behind_long_work",
    "CARTA 28, 165: images in later HDUs and gzipped files":
        "cutout/test_conformance.py::test_cutouts_of_the_zoo_are_true",
    "DaCHS, jwst: search across right ascension 0":
        "protocol/test_everywhere_on_the_sky.py::test_sia_023_no_image_is_missed",
}  # fmt: skip
"""Faults that tests of other rooms look for."""

NOT_HERE: Final[Mapping[str, str]] = {
    "strides: CD, CDELT, PC and SIP unscaled (opencadc/dal 78bd1590, WCS.slice, cfitsio)":
        "no request has a stride",
    "Fornax: empty chunks completed, rows that vanish, DELETE refused": "no asynchronous jobs",
    "gwcs 422, astrocut 160, 175: gwcs in ASDF": "ASDF is not read",
    "astrocut 180, fink 122: pictures upside down": "no pictures are made",
    "astropy 7730, gammapy 2376, astrocut 128: the centre of an even number of pixels":
        "a circle gives every pixel that it touches, whatever their number",
    "astropy 12007: a compressed cutout that cfitsio cannot read": "cutouts are plain unless asked",
}  # fmt: skip


@pytest.mark.parametrize("told", ELSEWHERE)
def test_the_test_elsewhere_is_there(told: str) -> None:
    """By its name, so that it is not lost when tests move."""
    place, name = ELSEWHERE[told].split("::")
    source = (Path(__file__).parents[1] / place).read_text(encoding="utf-8")
    assert re.search(rf"^ *(async )?def {name}\(", source, re.MULTILINE)
