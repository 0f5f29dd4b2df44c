"""Files that lie, break off or mean harm, made by code: `SPECIMENS` by name.

Each says what must become of it. A new way to harm the service is a new row.
"""

from __future__ import annotations

import bz2
import gzip
import io
import zlib
from dataclasses import dataclass
from enum import Enum
from functools import cache, partial
from typing import TYPE_CHECKING, Final

import numpy as np
from astropy.io import fits
from support.images import (
    BROKEN_WCS_FAMILIES,
    DAMAGED_FAMILIES,
    FAMILIES,
    HEIGHT,
    ROTATED_CD,
    WIDTH,
    CardSpec,
    card_bytes,
    extension,
    file_name,
    linear_cards,
    primary,
    ramp,
    sky_cards,
    without,
)

from soda_service.fits.layout import scan_hdus

if TYPE_CHECKING:
    from collections.abc import Callable


class Fate(Enum):
    """What becomes of a file."""

    REFUSED = "refused"
    """Ingest names it with the reason, and goes on."""
    SERVED = "served"
    """It is a dataset, and a circle in its middle cuts true pixels out of it."""
    NO_SKY = "no sky"
    """It is a dataset, but no position is to be computed: an error names the HDU and the card."""
    DAMAGED = "damaged"
    """It is a dataset, but its pixels cannot be read: an error names the HDU."""
    ANY = "any"
    """Whichever of these, as long as the service lives and says nothing that it should not."""


@dataclass(frozen=True, slots=True)
class Specimen:
    """One file."""

    make: Callable[[], bytes]
    fate: Fate
    says: str = ""
    """A pattern in what is said."""
    suffix: str = ".fits"


SPECIMENS: Final[dict[str, Specimen]] = {}


def _add(
    name: str, make: Callable[[], bytes], fate: Fate, says: str = "", suffix: str = ".fits"
) -> None:
    assert name not in SPECIMENS, name
    SPECIMENS[name] = Specimen(cache(make), fate, says, suffix)


def specimen_file(name: str) -> str:
    """The name that a specimen has on disk."""
    return name + SPECIMENS[name].suffix


def changed(raw: bytes, keyword: str, text: str | None, *, last: bool = False) -> bytes:
    """*raw* with what stands behind the first (or last) *keyword* = replaced; None: no card."""
    at = (raw.rfind if last else raw.find)(f"{keyword:8}=".encode())
    assert at >= 0
    card = b" " * 80 if text is None else f"{keyword:8}= {text:>20}".encode("latin-1").ljust(80)
    return raw[:at] + card + raw[at + 80 :]


def _plain() -> bytes:
    return primary(ramp(WIDTH, HEIGHT), sky_cards())


def _with(*cards: CardSpec) -> bytes:
    return primary(ramp(WIDTH, HEIGHT), [*sky_cards(), *cards])


# ---------------------------------------------------------------- cut short


def _borders() -> dict[int, tuple[Fate, str]]:
    """Lengths at which a file of several HDUs may break off, and what becomes of it."""
    raw = FAMILIES["mef"]()
    hdus = list(scan_hdus(lambda start, length: raw[start : start + length], len(raw)))
    found: dict[int, tuple[Fate, str]] = {}
    for hdu in hdus:
        image_before = hdu.index > 1
        size = hdu.data_size
        if hdu.is_image:
            size = 4 * WIDTH * HEIGHT
        elif hdu.name == "CATALOG":
            header = hdu.header
            rows = (header.integer("NAXIS1") or 0) * (header.integer("NAXIS2") or 0)
            size = rows + (header.integer("PCOUNT") or 0)
            found[hdu.data_offset + rows - 1] = found[hdu.data_offset + rows] = (
                Fate.REFUSED, f"HDU {hdu.index} .*truncated",
            )  # fmt: skip
        start, data = hdu.header_offset, hdu.data_offset
        if hdu.index:
            # What is too short to be seen as an extension is junk behind the last HDU.
            for length in (start, start + 1, start + 7):
                found[length] = (
                    (Fate.SERVED, "") if image_before else (Fate.REFUSED, "holds no image")
                )
        for length in (start + 8, start + 79, start + 80, start + 2000, data - 2000, data - 80):
            found[length] = (Fate.REFUSED, f"header of HDU {hdu.index} |begin with SIMPLE")
        if size:
            for length in (data, data + 1, data + size // 2, data + size - 1):
                found[length] = (Fate.REFUSED, f"HDU {hdu.index} .*truncated")
            for length in (data + size, data + size + 1, hdu.end - 1):
                found[length] = (Fate.SERVED, "")
    return found


for _length, (_fate, _says) in _borders().items():
    _add(f"cut_at_{_length}", lambda length=_length: FAMILIES["mef"]()[:length], _fate, _says)  # type: ignore[misc]  # the default binds
for _length in (1, 2, 3, 9, 10, 11, 18, 40, -9, -8, -4, -1):
    _add(
        f"gzip_cut_at_{_length}",
        lambda length=_length: gzip.compress(_plain(), mtime=0)[:length],  # type: ignore[misc]  # the default binds
        Fate.REFUSED,
        "truncated|damaged|SIMPLE",
        ".fits.gz",
    )

# ---------------------------------------------------------------- numbers that lie

_HUGE: Final = ("2147483648", "9223372036854775807", "9223372036854775808", "1" + "0" * 40)
for _keyword, _values in {
    "NAXIS": ("-1", "1000", "999", "3", "T", "2.0", "'2'", "", "NaN", None, *_HUGE),
    "NAXIS1": ("-61", "61.0", "'61'", "T", "", None, *_HUGE),
    "NAXIS2": ("-1", "4700", "1E3", None, *_HUGE),
    "BITPIX": ("7", "0", "-8", "128", "-32.0", "'8'", None, *_HUGE),
}.items():
    for _number, _value in enumerate(_values):
        _add(
            f"lies_{_keyword.lower()}_{_number}",
            lambda keyword=_keyword, value=_value: changed(_plain(), keyword, value),  # type: ignore[misc]  # the default binds
            Fate.REFUSED,
            "HDU 0",
        )
_add("lies_with_a_gap", lambda: changed(_plain(), "NAXIS1", "6 1"), Fate.ANY)
_add("lies_no_pixels", lambda: changed(_plain(), "NAXIS2", "0"), Fate.REFUSED, "holds no image")
_add("lies_naxis_too_small", lambda: changed(_plain(), "NAXIS", "1"), Fate.NO_SKY, "HDU 0")
_add("lies_beyond_64_bits", FAMILIES["overflowing_naxis"], Fate.REFUSED, "HDU 0")
_add("lies_ten_axes_of_ten_million", lambda: primary(None, [
    *((f"NAXIS{axis}", 10_000_000) for axis in range(1, 11)),
]).replace(b"NAXIS   =                    0", b"NAXIS   =                   10"),
    Fate.REFUSED, "HDU 0")  # fmt: skip
_add("lies_zero_among_huge", lambda: changed(changed(
    _plain(), "NAXIS1", "9223372036854775807"), "NAXIS2", "0"),
    Fate.REFUSED, "no image")  # fmt: skip
for _keyword in ("PCOUNT", "GCOUNT"):
    for _number, _value in enumerate(("-1", "1.5", "'1'", "T", *_HUGE)):
        _add(
            f"lies_{_keyword.lower()}_{_number}",
            lambda keyword=_keyword, value=_value: changed(  # type: ignore[misc]  # the default binds
                primary(None) + extension(ramp(WIDTH, HEIGHT), sky_cards()), keyword, value
            ),
            Fate.REFUSED,
            "HDU 1",
        )
_add("lies_groups", lambda: changed(primary(
    ramp(WIDTH, HEIGHT), [("GROUPS", True), ("PCOUNT", 10**15), ("GCOUNT", 10**15)]
), "NAXIS1", "0"), Fate.REFUSED, "HDU 0")  # fmt: skip
_add("lies_extension_of_unknown_type", lambda: _plain() + extension(
    ramp(3, 4)).replace(b"'IMAGE   '", b"'NONSENSE'"), Fate.SERVED)  # fmt: skip

# ---------------------------------------------------------------- headers


def _no_end() -> bytes:
    return _plain().replace(b"END" + b" " * 77, b" " * 80, 1)


_add("header_no_end", _no_end, Fate.REFUSED, "HDU 0.*END")
_add("header_end_in_small_letters", lambda: _plain().replace(
    b"END" + b" " * 77, b"end" + b" " * 77), Fate.REFUSED, "END")  # fmt: skip
_add("header_end_with_a_value", lambda: _plain().replace(
    b"END" + b" " * 77, b"END     = 1".ljust(80)), Fate.ANY)  # fmt: skip
_add("header_end_first", lambda: _plain()[:80] + b"END".ljust(80) + _plain()[160:],
     Fate.REFUSED, "BITPIX")  # fmt: skip
_add("header_end_before_coordinates", lambda: _plain().replace(
    b"WCSAXES =", b"END".ljust(80) + b"WCSAXES ="), Fate.ANY)  # fmt: skip
_add("header_end_off_the_grid", lambda: _plain()[:700] + b"END".ljust(81) + _plain()[781:],
     Fate.ANY)  # fmt: skip
_add("header_simple_is_false", lambda: _plain().replace(
    b"SIMPLE  =                    T", b"SIMPLE  =                    F"), Fate.ANY)  # fmt: skip
_add("header_no_simple", lambda: changed(_plain(), "SIMPLE", None), Fate.REFUSED, "SIMPLE")
_add("header_ten_thousand_cards", lambda: _with(
    *((f"K{number}", number) for number in range(10_000))), Fate.SERVED)  # fmt: skip
_add("header_ten_thousand_pv", lambda: _with(
    *((f"PV1_{number % 40}", 0.0) for number in range(10_000))),
    Fate.NO_SKY, "2000 cards")  # fmt: skip
_add("header_continue_without_end", lambda: _with(
    "LONG    = 'begins&'", *(f"CONTINUE  'piece {number} &'" for number in range(5000))
), Fate.SERVED)  # fmt: skip
_add("header_continue_of_nothing", lambda: _with(
    "CONTINUE  'nobody began this'", "CONTINUE", "CONTINUE  = 3", "CHECKSUM= 'abc&'",
    "CONTINUE  'def&'"), Fate.SERVED)  # fmt: skip
_add("header_bytes_beyond_ascii", lambda: _with("OBJECT  = 'Gl%%%%%re'", "COMMENT %%%%").replace(
    b"%", b"\xfc"), Fate.SERVED)  # fmt: skip
_add("header_nul_and_controls", lambda: _with("OBJECT  = 'a%b'", "COMMENT %").replace(
    b"%", b"\x00").replace(b"COMMENT", b"\x1b\x07\x7fMENT"), Fate.SERVED)  # fmt: skip
_add("header_all_bytes", lambda: _plain()[:2000] + bytes(range(256)) + _plain()[2256:], Fate.ANY)
_add("header_duplicate_sizes", lambda: _with(("NAXIS1", 5), ("NAXIS", 0), ("BITPIX", 8)),
     Fate.SERVED)  # fmt: skip
_add("header_mandatory_as_hierarch", lambda: changed(
    _with("HIERARCH NAXIS1 = 61"), "NAXIS1", None), Fate.ANY)  # fmt: skip
_add("header_of_a_table_in_an_image", lambda: _with(
    ("ZIMAGE", True), ("TFIELDS", 99), ("TFORM1", "1PB(9)")), Fate.SERVED)  # fmt: skip
_add("header_names_that_break_out", lambda: primary(None) + extension(
    ramp(WIDTH, HEIGHT), [("EXTNAME", "../../<b>'\"&;%00"), *sky_cards()]),
    Fate.SERVED)  # fmt: skip
_add("header_names_without_end", lambda: primary(None) + extension(
    ramp(WIDTH, HEIGHT), [("EXTNAME", "N" * 3000), ("EXTVER", 10**18), *sky_cards()]),
    Fate.SERVED)  # fmt: skip


def _many_hdus() -> bytes:
    return _plain() + extension(None) * 10_100


_add("hdus_without_end", _many_hdus, Fate.REFUSED, "more HDUs")

# ---------------------------------------------------------------- coordinates

for _family in BROKEN_WCS_FAMILIES:
    _add(_family, FAMILIES[_family], Fate.NO_SKY, r"HDU 0: [A-Z]+[0-9]*")


def _instead(*cards: str, sky: list[CardSpec] | None = None) -> bytes:
    """An image with these cards in the place of those with the same keywords."""
    kept = without(sky_cards() if sky is None else sky, *(card[:8].strip() for card in cards))
    return primary(ramp(WIDTH, HEIGHT), [*kept, *cards])


for _name, _card in {
    "nan_lonpole": "LONPOLE =                  NaN",
    "endless_cdelt": "CDELT1  =               1.0E999",
    "tiny_cdelt": "CDELT1  =              1.0E-200",
    "negative_zero_cdelt": "CDELT2  =                 -0.0",
    "crval_of_nothing": "CRVAL1  = 'nothing'",
    "latitude_of_1000": "CRVAL2  =               1000.0",
    "crpix_is_true": "CRPIX1  =                    T",
    "complex_crpix": "CRPIX1  =           (1.0, 2.0)",
    "control_letters": "CTYPE1  = 'RA-\x01-TAN'",
    "axes_0": "WCSAXES =                    0",
    "axes_minus": "WCSAXES =                   -2",
    "axes_half": "WCSAXES =                  2.5",
    "equinox_1e30": "EQUINOX =                1.0E30",
    "unit_of_many_letters": "CUNIT1  = '" + "m" * 60 + "'",
    "unit_of_many_powers": "CUNIT1  = '10**(9)deg.m**(9999999).s/s/s/s/s(((((((((('",
    "format_of_printf": "CTYPE1  = '%s%s%s%n-TAN'",
}.items():
    _add(f"absurd_{_name}", lambda card=_card: _instead(card), Fate.ANY)  # type: ignore[misc]  # the default binds
_add("absurd_cd_of_infinity", lambda: primary(ramp(WIDTH, HEIGHT), [
    *without(sky_cards(), "CDELT1", "CDELT2"), *without(ROTATED_CD, "CD1_1"),
    "CD1_1   =              1.0E308", "CD1_2   =             -1.0E308"]), Fate.ANY)  # fmt: skip
_add("absurd_huge_step", lambda: _instead("CDELT2  =                 1D99"), Fate.ANY)
_add("absurd_map_of_one_column", lambda: _instead(
    "CDELT1  =           2147483647", sky=sky_cards("MOL", crval=(151.3, 33.1))),
    Fate.ANY)  # fmt: skip
_add("absurd_slope_of_a_distorted_image", lambda: changed(
    FAMILIES["lookup_and_detector_distortion"](), "CD1_2", "2147483648"), Fate.ANY)  # fmt: skip
_add("absurd_polynomial", lambda: primary(ramp(WIDTH, HEIGHT), [
    *sky_cards("TPV"), *((f"PV1_{n}", 1e99) for n in range(40)),
    *((f"PV2_{n}", -1e99) for n in range(40))]), Fate.ANY)  # fmt: skip
_add("absurd_sip", lambda: primary(ramp(WIDTH, HEIGHT), [
    *without(sky_cards("TAN-SIP"), "CDELT1", "CDELT2"), *ROTATED_CD, ("A_ORDER", 9),
    ("B_ORDER", 9), *((f"{name}_{p}_{9 - p}", 1e90) for name in "AB" for p in range(10))]),
    Fate.ANY)  # fmt: skip


def _attributes_and_functions() -> bytes:
    """What astropy writes of a TNX image, and crashes on: WAT, CD, PC, CQDIS and DQ in one."""
    raw = FAMILIES["tnx"]()
    end = raw.index(b"END" + b" " * 77)
    cards: list[CardSpec] = [
        ("CQDIS1", "TPD"), ("CQDIS2", "TPD"),
        *(card for axis in (1, 2) for card in [
            (f"DQ{axis}", "NAXES: 2"), (f"DQ{axis}", f"AXIS.1: {axis}"),
            (f"DQ{axis}", f"AXIS.2: {3 - axis}"), (f"DQ{axis}", "TPD.FWD.1: 1.0"),
            *((f"DQ{axis}", f"TPD.FWD.{n}: 1e-9") for n in range(2, 60)),
        ]),
    ]  # fmt: skip
    header = raw[:end] + b"".join(card_bytes(card) for card in cards) + b"END".ljust(80)
    return header + b" " * (-len(header) % 2880) + raw[len(raw) // 2880 * 2880 - 4 * 2880 :]


_add("overrun_of_wcslib_s_messages", _attributes_and_functions, Fate.ANY)
_add("overrun_by_an_axis", lambda: FAMILIES["tpd_of_pixels"]().replace(
    b"'AXIS.1: 1'   ", b"'AXIS.1: 9000'").replace(b"'AXIS.1: 2'", b"'AXIS.1: 3'"),
    Fate.NO_SKY, "HDU 0: DP")  # fmt: skip
_add("overrun_by_a_term", lambda: FAMILIES["polynomial_of_pixels"]().replace(
    b"'NTERMS: 2'    ", b"'NTERMS: 99999'"), Fate.ANY)  # fmt: skip
_add("overrun_by_attributes", lambda: primary(ramp(WIDTH, HEIGHT), [
    *without(sky_cards("TNX"), "CDELT1", "CDELT2"), *ROTATED_CD,
    *(f"WAT1_{n:03d}= '{'x' * 68}'" for n in range(1, 900))]), Fate.ANY)  # fmt: skip
_add("overrun_by_a_surface", lambda: primary(ramp(WIDTH, HEIGHT), [
    *without(sky_cards("TNX"), "CDELT1", "CDELT2"), *ROTATED_CD,
    "WAT1_001= 'wtype=tnx axtype=ra lngcor = \"3. 99. 99. 2. 1. 1. 1. 1. 1. 1. 1. 1. \"'",
    "WAT2_001= 'wtype=tnx axtype=dec latcor = \"1. -9. 1e9 2. 1 1 1 1 1 1 1 1 1 1 \"'"]),
    Fate.ANY)  # fmt: skip


def _tab(table: str, *, name: str = "", **parameters: float) -> bytes:
    cards: list[CardSpec] = [
        ("WCSAXES", 3), *without(sky_cards(), "WCSAXES"),
        *linear_cards(3, "WAVE-TAB", "m", 1.0, 1.0, 1.0),
        ("PS3_0", table), ("PS3_1", "WAVELENGTH"),
        *((keyword, value) for keyword, value in parameters.items()),
    ]  # fmt: skip
    if name:
        cards.append(("EXTNAME", name))
    return primary(ramp(WIDTH, HEIGHT, 2), cards)


_add("tab_of_nothing", lambda: _tab("NOWHERE"), Fate.SERVED)
_add("tab_of_itself", lambda: _tab("ITSELF", name="ITSELF"), Fate.SERVED)
_add("tab_of_no_column", lambda: _tab("WCS-TAB") + FAMILIES["tab_spectral"]()[-5760:], Fate.SERVED)
_add("tab_of_another_version", lambda: _tab(
    "WCS-TAB", PV3_1=-7, PV3_2=1e9, PV3_3=99), Fate.SERVED)  # fmt: skip
for _index in ("up and down", "nothing"):
    _add(
        f"tab_index_of_{_index.replace(' ', '_')}",
        lambda index=_index: FAMILIES["tab_alternate"]().replace(  # type: ignore[misc]  # the default binds
            np.array([1.0, 10, 25, 40, 55, 61]).astype(">f8").tobytes(),
            (np.zeros(6) if index == "nothing" else np.array([1.0, 9, 3, 40, 5, 61]))
            .astype(">f8")
            .tobytes(),
        ),
        Fate.SERVED,
    )
_add("lookup_of_itself", lambda: primary(None) + extension(ramp(WIDTH, HEIGHT), [
    ("EXTNAME", "WCSDVARR"), ("EXTVER", 1), *sky_cards(), ("CPDIS1", "LOOKUP"),
    ("DP1", "EXTVER: 1"), ("DP1", "NAXES: 2"), ("DP1", "AXIS.1: 1"), ("DP1", "AXIS.2: 2")]),
    Fate.ANY)  # fmt: skip
_add("lookup_with_broken_cards", lambda: changed(
    FAMILIES["lookup_distortion"](), "CRVAL1", "1.0.0", last=True), Fate.ANY)  # fmt: skip
_add("lookup_of_zero_steps", lambda: changed(
    FAMILIES["lookup_distortion"](), "CDELT1", "0.0", last=True),
    Fate.NO_SKY, "HDU 1: DP")  # fmt: skip


def _recorded(kind: str, *fields: str, family: str = "CPDIS", alternate: str = "") -> bytes:
    """An image whose axes are both distorted as these records say, each by both."""
    record = {"CPDIS": "DP", "CQDIS": "DQ"}[family]
    named = {one.partition(":")[0] for one in fields}
    cards: list[CardSpec] = [*without(sky_cards(), "CDELT1", "CDELT2"), *ROTATED_CD]
    for axis in (1, 2):
        common = ("NAXES: 2", f"AXIS.1: {axis}", f"AXIS.2: {3 - axis}")
        cards.append((f"{family}{axis}{alternate}", kind))
        cards += [
            (f"{record}{axis}{alternate}", one)
            for one in (*(one for one in common if one.partition(":")[0] not in named), *fields)
        ]
    return primary(ramp(WIDTH, HEIGHT), cards)


_SCALES: Final = ("OFFSET.1: 30.5", "OFFSET.2: 23.5", "SCALE.1: 0.02", "SCALE.2: 0.02")
_EXTENTS: Final = ("WAT.XMIN: 0", "WAT.XMAX: 61", "WAT.YMIN: 0", "WAT.YMAX: 47")
_DEGREES: Final = ("WAT.XMIN: -0.01", "WAT.XMAX: 0.01", "WAT.YMIN: -0.01", "WAT.YMAX: 0.01")
_TWO_TERMS: Final = (
    "NTERMS: 2", "TERM.1.COEFF: 0.3", "TERM.1.VAR.1: 2", "TERM.2.COEFF: 0.2", "TERM.2.VAR.2: 1",
)  # fmt: skip
_DISTANCE: Final = (
    "NAUX: 1", "AUX.1.COEFF.0: 0", "AUX.1.COEFF.1: 1", "AUX.1.POWER.1: 2", "AUX.1.COEFF.2: 1",
    "AUX.1.POWER.2: 2", "AUX.1.POWER.0: 0.5", "NTERMS: 1", "TERM.1.COEFF: 0.1", "TERM.1.AUX.1: 1",
)  # fmt: skip

RECORDED: Final[dict[str, Callable[[], bytes]]] = {
    "tpd": partial(_recorded, "TPD", *_SCALES, "TPD.FWD.0: 0.1", "TPD.FWD.4: 0.5", "TPD.REV.1: 1"),
    "tpd_auxiliary": partial(
        _recorded, "TPD", *_SCALES, "TPD.FWD.3: 0.1", "AUX.1.COEFF.1: 1", "AUX.2.COEFF.2: 1"
    ),
    "tpd_degrees": partial(_recorded, "TPD", "TPD.FWD.0: 1e-5", "TPD.FWD.1: 0.01", family="CQDIS"),
    "tpd_alternate": partial(_recorded, "TPD", *_SCALES, "TPD.FWD.1: 0.3", alternate="A"),
    # Those of TPV and DSS give the coordinate itself, the others what is added to it.
    "tpv": partial(_recorded, "TPV", "TPV.0: 0.1", "TPV.1: 1.0", "TPV.4: 1e-4"),
    "tpv_degrees": partial(_recorded, "TPV", "TPV.0: 1e-5", "TPV.1: 1.0", family="CQDIS"),
    "sip": partial(
        _recorded, "SIP", *_SCALES[:2], "SIP.FWD.2_0: 1e-4", "SIP.FWD.1_1: 2e-4", "SIP.REV.2_0: 0"
    ),
    "plate": partial(_recorded, "DSS", "DSS.AMD.1: 1.0", "DSS.AMD.3: 0.1", "DSS.AMD.4: 1e-5"),
    "chebyshev": partial(
        _recorded, "WAT-TNX", "WAT.POLY: 1", *_EXTENTS, "WAT.CHBY.0_0: 0.1", "WAT.CHBY.1_0: 0.02"
    ),
    "legendre": partial(
        _recorded, "WAT-ZPX", "WAT.POLY: 2", *_EXTENTS, "WAT.LEGR.0_0: 0.1", "WAT.LEGR.1_1: 0.02"
    ),
    "monomials_degrees": partial(
        _recorded, "WAT-TNX", "WAT.POLY: 3", *_DEGREES, "WAT.MONO.1_0: 0.002", family="CQDIS"
    ),
    "polynomial": partial(_recorded, "Polynomial", *_SCALES, *_TWO_TERMS),
    "polynomial_star": partial(_recorded, "Polynomial*", *_SCALES, *_TWO_TERMS),
    "polynomial_auxiliary": partial(_recorded, "Polynomial", *_SCALES, *_DISTANCE),
    "polynomial_alternate": partial(_recorded, "Polynomial", *_TWO_TERMS, alternate="A"),
    "constant": partial(_recorded, "Polynomial", "NTERMS: 1", "TERM.1.COEFF: 0.3"),
}
"""Sound images with distortions of every kind that wcslib computes from records, by name."""

for _name, _make in RECORDED.items():
    _add(f"records_{_name}", _make, Fate.SERVED)
for _name, (_kind, _fields) in {
    "template": ("Template", ("TEMPLATE.1: 1.0",)),
    "unknown_kind": ("TPU", ("TPD.FWD.1: 0.1",)),
    "of_another_kind": ("SIP", ("TPD.FWD.1: 0.1",)),
    "three_axes": ("TPD", ("NAXES: 3", "TPD.FWD.1: 0.1")),
    "half_an_axis": ("TPD", ("AXIS.1: 1.5", "TPD.FWD.1: 0.1")),
    "two_of_one_axis": ("TPD", ("NAXES: 1", "TPD.FWD.1: 0.1")),
    "correction_7": ("TPV", ("DOCORR: 7", "TPV.1: 0.1")),
    "offset_of_axis_9999999": ("SIP", ("OFFSET.9999999: 1", "SIP.FWD.2_0: 1e-4")),
    "tpd_term_60": ("TPD", ("TPD.FWD.60: 0.1",)),
    "tpv_term_40": ("TPV", ("TPV.40: 0.1",)),
    "sip_power_10": ("SIP", ("SIP.FWD.10_0: 1e-4",)),
    "plate_term_14": ("DSS", ("DSS.AMD.14: 0.1",)),
    "surface_of_kind_9": ("WAT-TNX", ("WAT.POLY: 9", *_EXTENTS, "WAT.CHBY.0_0: 1")),
    "surface_of_no_kind": ("WAT-ZPX", (*_EXTENTS, "WAT.CHBY.0_0: 1")),
    "terms_uncounted": ("Polynomial", _TWO_TERMS[1:]),
    "terms_countless": ("Polynomial", ("NTERMS: 1431655766", *_TWO_TERMS[1:])),
    "term_beyond": ("Polynomial", (*_TWO_TERMS, "TERM.3.COEFF: 1")),
    "variable_beyond": ("Polynomial", (*_TWO_TERMS, "TERM.1.VAR.3: 1")),
    "auxiliary_beyond": ("Polynomial", (*_DISTANCE, "AUX.2.COEFF.1: 1")),
    "auxiliary_of_one_axis": ("Polynomial*", ("NAXES: 1", "AXIS.2: 0", *_DISTANCE)),
    "power_half": ("Polynomial", (*_TWO_TERMS[:2], "TERM.1.VAR.1: 2.5")),
    "power_negative": ("Polynomial*", (*_TWO_TERMS, "TERM.2.VAR.1: -100000")),
    "power_huge": ("Polynomial", (*_TWO_TERMS, "TERM.2.VAR.1: 100000000")),
    "constants": ("Polynomial", ("NTERMS: 2", "TERM.1.COEFF: 0.3", "TERM.2.COEFF: 0.1")),
}.items():
    _add(
        f"records_wrong_{_name}",
        lambda kind=_kind, fields=_fields: _recorded(kind, *fields),  # type: ignore[misc]  # the default binds
        Fate.NO_SKY,
        "HDU 0: (DP|CPDIS)1",
    )

# ---------------------------------------------------------------- tiles


def _compressed_parts(name: str) -> tuple[bytearray, int, int, int]:
    """A compressed file; where its table begins, how long a row is, where its heap begins."""
    raw = bytearray(FAMILIES[name]())
    with fits.open(io.BytesIO(bytes(raw)), disable_image_compression=True) as hdus:
        start = int(hdus[1].fileinfo()["datLoc"])
        row, rows = int(hdus[1].header["NAXIS1"]), int(hdus[1].header["NAXIS2"])
    return raw, start, row, start + row * rows


def _descriptors(
    count: int | None, offset: int | None, name: str = "compressed_rice_1_i4"
) -> bytes:
    """Every tile's descriptor with another count and offset."""
    raw, start, row, heap = _compressed_parts(name)
    for at in range(start, heap, row):
        if count is not None:
            raw[at : at + 4] = count.to_bytes(4, "big", signed=True)
        if offset is not None:
            raw[at + 4 : at + 8] = offset.to_bytes(4, "big", signed=True)
    return bytes(raw)


_TILES: Final = "compressed_rice_1_i4"
for _name, _count, _offset in (
    ("huge_count", 2**31 - 1, None), ("negative_count", -1, None),
    ("beyond_the_heap", None, 2**31 - 1), ("before_the_heap", None, -8),
    ("all_huge", 2**31 - 1, 2**31 - 1), ("one_byte", 1, None),
):  # fmt: skip
    _add(f"tiles_{_name}", lambda count=_count, offset=_offset: _descriptors(count, offset),  # type: ignore[misc]  # the default binds
         Fate.DAMAGED, "HDU 1", ".fits.fz")  # fmt: skip
_add("tiles_all_the_same", lambda: _descriptors(None, 0), Fate.ANY, suffix=".fits.fz")
_add("tiles_all_empty", lambda: _descriptors(0, 0), Fate.ANY, suffix=".fits.fz")
for _family in (
    "compressed_rice_1_i4", "compressed_rice_1_u1", "compressed_gzip_1_i2", "compressed_gzip_2_i4",
    "compressed_hcompress_1_i2", "compressed_plio_1", "compressed_rice_1_f4_dither_1",
):  # fmt: skip
    for _kind, _seed in (("noise", 1), ("ones", 0xFF), ("zeros", 0)):

        def _spoilt(name: str = _family, seed: int = _seed) -> bytes:
            raw, _, _, heap = _compressed_parts(name)
            length = len(raw) - heap
            noise = np.random.default_rng(5).bytes(length)
            raw[heap:] = noise if seed == 1 else bytes([seed]) * length
            return bytes(raw)

        _add(f"tiles_{_kind}_{_family}", _spoilt, Fate.ANY, suffix=".fits.fz")
for _keyword, _value, _fate in (
    ("ZTILE1", "0", Fate.DAMAGED), ("ZTILE1", "-61", Fate.DAMAGED), ("ZTILE1", "1E3", Fate.DAMAGED),
    ("ZTILE2", "1000000000", Fate.ANY), ("ZTILE1", "4000000000000", Fate.ANY),
    ("ZNAXIS1", "2147483647", Fate.ANY), ("ZNAXIS2", "4000000000", Fate.ANY),
    ("ZNAXIS", "9", Fate.REFUSED), ("ZNAXIS", "-1", Fate.REFUSED), ("ZBITPIX", "7", Fate.REFUSED),
    ("ZBITPIX", "-64", Fate.ANY), ("ZCMPTYPE", "'NONSENSE'", Fate.DAMAGED),
    ("ZVAL1", "-5", Fate.ANY), ("ZVAL1", "2147483648", Fate.ANY), ("ZVAL2", "3", Fate.ANY),
    ("TFORM1", "'1PB(-1)'", Fate.ANY), ("TFORM1", "'1QB'", Fate.ANY), ("TFORM1", "'PJ'", Fate.ANY),
    ("TFORM1", "'9999999999PB'", Fate.ANY), ("TFORM1", "3", Fate.ANY), ("TTYPE1", "'X'", Fate.ANY),
    ("PCOUNT", "0", Fate.ANY), ("PCOUNT", "9223372036854775807", Fate.REFUSED),
    ("NAXIS2", "1", Fate.ANY), ("NAXIS1", "1", Fate.ANY), ("TFIELDS", "999", Fate.ANY),
    ("TFIELDS", "0", Fate.ANY),
):  # fmt: skip
    _file = FAMILIES[_TILES]()
    _at = _file.rfind(f"{_keyword:8}=".encode())
    if _at < 0:
        continue
    _alike = f"tiles_{_keyword.lower()}_"
    _add(
        f"{_alike}{sum(one.startswith(_alike) for one in SPECIMENS)}",
        lambda keyword=_keyword, value=_value: changed(  # type: ignore[misc]  # the default binds
            FAMILIES[_TILES](), keyword, value, last=True
        ),
        _fate,
        "HDU 1" if _fate is not Fate.ANY else "",
        ".fits.fz",
    )
for _value in ("-1", "9223372036854775807", "3", "'x'"):
    _add(f"tiles_theap_{_value.strip(chr(39))}", lambda value=_value: FAMILIES[_TILES]().replace(  # type: ignore[misc]  # the default binds
        b"ZIMAGE  =", f"THEAP   = {value:>20}".encode().ljust(80) + b"ZIMAGE  =", 1).replace(
        b" " * 80, b"", 1), Fate.ANY, suffix=".fits.fz")  # fmt: skip


def tile_bomb(inflated: int) -> bytes:
    """A gzipped tile that should hold 61 pixels and inflates to *inflated* bytes."""
    raw, start, row, heap = _compressed_parts("compressed_gzip_1_i2")
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = bytes(1 << 20)
    tile = b"".join(squeeze.compress(piece) for _ in range(inflated >> 20)) + squeeze.flush()
    for at in range(start, heap, row):
        raw[at : at + 8] = len(tile).to_bytes(4, "big") + bytes(4)
    header = bytes(raw[2880:start])
    header = changed(header, "PCOUNT", str(len(tile)))
    data = bytes(raw[start:heap]) + tile
    return bytes(raw[:2880]) + header + data + bytes(-len(data) % 2880)


_add("tiles_bomb", lambda: tile_bomb(400 << 20), Fate.DAMAGED, "HDU 1", ".fits.fz")

# ---------------------------------------------------------------- compressed files

INFLATED_LIMIT: Final = 100_000_000
"""Bytes that `SODA_CACHE_BYTES` must allow where these are ingested."""


def _bomb(compress: Callable[[bytes], bytes]) -> bytes:
    """A sound image, and behind it zeros, 400 MB inflated."""
    one = compress(bytes(10_000_000))
    return compress(_plain()) + one * 40


_add("bomb_gzip", lambda: _bomb(lambda raw: gzip.compress(raw, mtime=0)), Fate.REFUSED,
     "inflates to more than", ".fits.gz")  # fmt: skip
_add("bomb_bzip2", lambda: _bomb(bz2.compress), Fate.REFUSED,
     "inflates to more than")  # fmt: skip
_add("gzip_in_gzip", lambda: gzip.compress(gzip.compress(_plain())), Fate.REFUSED, "compressed",
     ".fits.gz")  # fmt: skip
_add("gzip_in_gzip_in_gzip", lambda: gzip.compress(gzip.compress(gzip.compress(
    bytes(50_000_000)))), Fate.REFUSED, "compressed", ".fits.gz")  # fmt: skip
_add("gzip_of_text", lambda: gzip.compress(b"<html>" * 9), Fate.REFUSED, "SIMPLE", ".fits.gz")
_add("gzip_of_nothing", lambda: gzip.compress(b""), Fate.REFUSED, "SIMPLE|empty", ".fits.gz")
_add("gzip_wrong_sum", lambda: gzip.compress(_plain())[:-8] + b"\1\2\3\4" + gzip.compress(
    _plain())[-4:], Fate.REFUSED, "damaged", ".fits.gz")  # fmt: skip
_add("gzip_then_junk", lambda: gzip.compress(_plain()) + b"junk" * 99, Fate.SERVED,
     suffix=".fits.gz")  # fmt: skip
_add("gzip_then_half", lambda: gzip.compress(_plain()) + gzip.compress(_plain())[:99],
     Fate.REFUSED, "truncated", ".fits.gz")  # fmt: skip
_add("gzip_without_its_suffix", lambda: gzip.compress(_plain()), Fate.SERVED)
_add("bzip2_cut", lambda: bz2.compress(_plain())[:-40], Fate.REFUSED, "truncated|damaged")
_add("unix_compress_of_nothing", lambda: b"\x1f\x9d\x90" + b"\xff" * 500, Fate.REFUSED, ".")

# ---------------------------------------------------------------- something else

for _family in DAMAGED_FAMILIES:
    if f"damaged_{_family}" not in SPECIMENS and _family != "tiles_outside_the_heap":
        _add(f"damaged_{_family}", FAMILIES[_family], Fate.REFUSED, ".",
             file_name(_family).removeprefix(_family))  # fmt: skip
_add("preamble_of_http", lambda: b"HTTP/1.1 200 OK\r\n\r\n" + _plain(), Fate.REFUSED, "SIMPLE")
_add("preamble_of_a_byte_order_mark", lambda: b"\xef\xbb\xbf" + _plain(), Fate.REFUSED, "SIMPLE")
_add("preamble_of_a_block", lambda: bytes(2880) + _plain(), Fate.REFUSED, "SIMPLE")
_add("picture", lambda: b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(5000), Fate.REFUSED, "SIMPLE")
_add("archive", lambda: b"PK\x03\x04" + bytes(5000), Fate.REFUSED, "SIMPLE")
_add("one_byte", lambda: b"S", Fate.REFUSED, "SIMPLE")
_add("simple_alone", lambda: b"SIMPLE  =", Fate.REFUSED, "HDU 0")
_add("tail_of_zeros", lambda: _plain() + bytes(7001), Fate.SERVED)
_add("tail_of_junk", lambda: _plain() + b"\xffjunk" * 777, Fate.SERVED)
_add("tail_of_another_file", lambda: _plain() + _plain(), Fate.SERVED)
_add("tail_of_half_an_extension", lambda: _plain() + extension(ramp(9, 9))[:900],
     Fate.REFUSED, "HDU 1")  # fmt: skip
_add("tail_of_an_extension_off_the_grid", lambda: _plain() + b"\0" + extension(ramp(9, 9)),
     Fate.SERVED)  # fmt: skip
