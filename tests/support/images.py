"""The zoo: named families of FITS files, as data.

`FAMILIES` maps a name to a function that makes the bytes of a complete file. Images are
small, never square and never symmetric; every pixel of an image has a value of its own
unless the family is about something else. Cards and pixels never change from run to run.
A new trap is a new row here, and every test over a list of families meets it.
"""

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from astropy.io import fits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

Value: TypeAlias = str | int | float | bool
CardSpec: TypeAlias = tuple[str, Value] | str
"""A keyword with its value, or eighty columns to be written as they stand."""

WIDTH: Final = 61
HEIGHT: Final = 47
"""Axis lengths of most images."""


@dataclass(frozen=True, slots=True)
class _Member:
    make: Callable[[], bytes]
    lists: frozenset[str]
    suffix: str


_MEMBERS: Final[dict[str, _Member]] = {}


def _add(
    name: str, make: Callable[[], bytes], *lists: str, suffix: str = ".fits"
) -> Callable[[], bytes]:
    assert name not in _MEMBERS, name
    _MEMBERS[name] = _Member(make, frozenset(lists), suffix)
    return make


def _family(
    *lists: str, suffix: str = ".fits"
) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    def register(make: Callable[[], bytes]) -> Callable[[], bytes]:
        name = make.__name__.removeprefix("_make_")
        return _add(name, make, *lists, suffix=suffix)

    return register


def write_family(name: str, folder: Path) -> Path:
    """The file of a family, written into *folder* under a name with the right suffix."""
    path = folder / file_name(name)
    path.write_bytes(FAMILIES[name]())
    return path


def file_name(name: str) -> str:
    """The name that a file of this family has on disk."""
    return name + _MEMBERS[name].suffix


# ---------------------------------------------------------------- bytes


def card_bytes(spec: CardSpec) -> bytes:
    """One card (several where a long string continues)."""
    if isinstance(spec, str):
        return spec.encode("ascii").ljust(80)
    keyword, value = spec
    return str(fits.Card(keyword, value)).encode("ascii")


def header_bytes(cards: Sequence[CardSpec]) -> bytes:
    """A complete header: the cards, END, padding."""
    text = b"".join(card_bytes(card) for card in cards) + b"END".ljust(80)
    return text + b" " * (-len(text) % 2880)


def data_bytes(stored: NDArray[np.generic]) -> bytes:
    """A complete data unit of these stored values: big-endian, padded."""
    data = stored.astype(stored.dtype.newbyteorder(">")).tobytes()
    return data + b"\0" * (-len(data) % 2880)


def primary(stored: NDArray[np.generic] | None, cards: Sequence[CardSpec] = ()) -> bytes:
    """A primary HDU of these stored values; *cards* follow the mandatory ones."""
    return _hdu([("SIMPLE", True)], [("EXTEND", True)], stored, cards)


def extension(stored: NDArray[np.generic] | None, cards: Sequence[CardSpec] = ()) -> bytes:
    """An IMAGE extension of these stored values."""
    last: list[CardSpec] = [("PCOUNT", 0), ("GCOUNT", 1)]
    return _hdu([("XTENSION", "IMAGE   ")], last, stored, cards)


def _hdu(
    first: list[CardSpec],
    last: list[CardSpec],
    stored: NDArray[np.generic] | None,
    cards: Sequence[CardSpec],
) -> bytes:
    naxis = () if stored is None else stored.shape[::-1]
    middle: list[CardSpec] = [("BITPIX", 8 if stored is None else bitpix_of(stored.dtype))]
    middle.append(("NAXIS", len(naxis)))
    middle += [(f"NAXIS{axis}", length) for axis, length in enumerate(naxis, 1)]
    header = header_bytes([*first, *middle, *last, *cards])
    return header if stored is None else header + data_bytes(stored)


def bitpix_of(dtype: np.dtype[np.generic]) -> int:
    """BITPIX of a type of stored values."""
    bits = dtype.itemsize * 8
    return -bits if dtype.kind == "f" else bits


def _astropy_extension(hdu: object) -> bytes:
    """An extension as astropy writes it."""
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    return buffer.getvalue()[2880:]


def _table(name: str, columns: Sequence[object], cards: Sequence[tuple[str, Value]] = ()) -> bytes:
    hdu = fits.BinTableHDU.from_columns(columns, name=name)
    hdu.header.update(dict(cards))
    return _astropy_extension(hdu)


# ---------------------------------------------------------------- pixels


def ramp(*naxis: int, dtype: str = "f4", start: float = 0) -> NDArray[np.generic]:
    """Stored values of an image with these axis lengths, each pixel different from the others."""
    count = int(np.prod(naxis))
    return (np.arange(count) + start).reshape(naxis[::-1]).astype(dtype)


def noise(*naxis: int, dtype: str = "f4", seed: int = 1, sigma: float = 20) -> NDArray[np.generic]:
    """A sloping background with noise: what compression is made for."""
    generator = np.random.default_rng(seed)
    count = int(np.prod(naxis))
    values = 1000 + 0.01 * np.arange(count) + generator.normal(0, sigma, count)
    return values.reshape(naxis[::-1]).astype(dtype)


# ---------------------------------------------------------------- coordinates


def sky_cards(
    code: str = "TAN",
    *,
    crval: tuple[float, float] = (150.1, 2.2),
    crpix: tuple[float, float] = (27.5, 30.25),
    cdelt: tuple[float, float] = (-2e-4, 2e-4),
    ctypes: tuple[str, str] = ("RA", "DEC"),
    radesys: str | None = "ICRS",
) -> list[CardSpec]:
    """A plain celestial description; *code* with its suffix, `TAN-SIP` say."""
    lon, lat = ctypes
    cards: list[CardSpec] = [
        ("WCSAXES", 2),
        ("CTYPE1", f"{lon:-<4}-{code}"),
        ("CTYPE2", f"{lat:-<4}-{code}"),
        ("CUNIT1", "deg"),
        ("CUNIT2", "deg"),
        ("CRPIX1", crpix[0]),
        ("CRPIX2", crpix[1]),
        ("CRVAL1", crval[0]),
        ("CRVAL2", crval[1]),
        ("CDELT1", cdelt[0]),
        ("CDELT2", cdelt[1]),
    ]
    return cards if radesys is None else [*cards, ("RADESYS", radesys)]


def linear_cards(
    axis: int, ctype: str, unit: str, crpix: float, crval: float, cdelt: float
) -> list[CardSpec]:
    """One more axis, 1-based."""
    return [
        (f"CTYPE{axis}", ctype),
        (f"CUNIT{axis}", unit),
        (f"CRPIX{axis}", crpix),
        (f"CRVAL{axis}", crval),
        (f"CDELT{axis}", cdelt),
    ]


def without(cards: Sequence[CardSpec], *keywords: str) -> list[CardSpec]:
    """The cards but for those of these keywords."""
    return [card for card in cards if isinstance(card, str) or card[0] not in keywords]


def _matrix(name: str, values: Sequence[float]) -> list[CardSpec]:
    return [(f"{name}{i}_{j}", values[2 * (i - 1) + (j - 1)]) for i in (1, 2) for j in (1, 2)]


ROTATED_CD: Final = _matrix("CD", (-1.7e-4, 1.05e-4, 1.02e-4, 1.71e-4))
SIP: Final[list[CardSpec]] = [
    ("A_ORDER", 3),
    ("A_0_2", 2.1e-4),
    ("A_1_1", -1.4e-4),
    ("A_2_0", 3.3e-4),
    ("A_0_3", 1.0e-6),
    ("A_3_0", -2.0e-6),
    ("A_2_1", 1.2e-6),
    ("B_ORDER", 2),
    ("B_0_2", -2.6e-4),
    ("B_1_1", 1.9e-4),
    ("B_2_0", 0.7e-4),
]
SIP_INVERSE: Final[list[CardSpec]] = [
    ("AP_ORDER", 2),
    ("AP_0_2", -2.1e-4),
    ("AP_1_1", 1.4e-4),
    ("AP_2_0", -3.3e-4),
    ("BP_ORDER", 2),
    ("BP_0_2", 2.6e-4),
    ("BP_1_1", -1.9e-4),
    ("BP_2_0", -0.7e-4),
]


def _sky(name: str, cards: Sequence[CardSpec], *lists: str) -> None:
    """A family of one plain image with these celestial cards."""
    _add(name, lambda: primary(ramp(WIDTH, HEIGHT), cards), "image", "sky", *lists)


_CD_TAN: Final = [*without(sky_cards(), "CDELT1", "CDELT2"), *ROTATED_CD]
_CD_SIP: Final = [*without(sky_cards("TAN-SIP"), "CDELT1", "CDELT2"), *ROTATED_CD]

_sky("tan", sky_cards())
_sky("tan_sip", [*_CD_SIP, *SIP, *SIP_INVERSE])
_sky("tan_sip_no_inverse", [*_CD_SIP, *SIP])
_sky("tan_sip_no_suffix", [*_CD_TAN, *SIP])
_sky("tan_sip_suffix_alone", _CD_SIP)
_sky(
    "tan_sip_galactic",
    [
        *without(sky_cards("TAN-SIP", ctypes=("GLON", "GLAT"), radesys=None), "CDELT1", "CDELT2"),
        *ROTATED_CD,
        *SIP,
    ],
)
_sky(
    "sin_sip",
    [
        *without(sky_cards("SIN-SIP"), "CDELT1", "CDELT2"),
        *ROTATED_CD,
        *SIP,
    ],
)
_sky("tpv", [
    *without(sky_cards("TPV"), "CDELT1", "CDELT2"), *ROTATED_CD,
    ("PV1_0", 1.1e-5), ("PV1_1", 1.0002), ("PV1_2", -3e-4), ("PV1_4", 0.011), ("PV1_7", -0.3),
    ("PV2_0", -2e-5), ("PV2_1", 0.9997), ("PV2_2", 2e-4), ("PV2_5", 0.02), ("PV2_10", 0.1),
])  # fmt: skip
_sky("tan_with_pv", [
    *without(sky_cards("TAN"), "CDELT1", "CDELT2"), *ROTATED_CD,
    ("PV1_1", 1.0), ("PV1_4", 0.011), ("PV2_1", 1.0), ("PV2_5", 0.02),
])  # fmt: skip


def _wat(axis: int, text: str) -> list[CardSpec]:
    """IRAF's attributes of an axis, split at column 68 of the text."""
    pieces = [text[start : start + 68] for start in range(0, len(text), 68)]
    return [f"WAT{axis}_{number:03d}= '{piece:68}'" for number, piece in enumerate(pieces, 1)]


_TNX_SURFACES: Final = (
    "-0.0074 0.0080 -0.0069 0.0076 1.1e-6 2.3e-6 -3.1e-6 1.9e-6 -2.7e-6 4.4e-6",
    "-0.0074 0.0080 -0.0069 0.0076 -2.1e-6 1.3e-6 2.1e-6 -1.1e-6 1.7e-6 2.4e-6",
)
_sky("tnx", [
    *without(sky_cards("TNX"), "CDELT1", "CDELT2"), *ROTATED_CD, ("WAT0_001", "system=image"),
    *_wat(1, f'wtype=tnx axtype=ra lngcor = "3. 3. 3. 2. {_TNX_SURFACES[0]} "'),
    *_wat(2, f'wtype=tnx axtype=dec latcor = "3. 3. 3. 2. {_TNX_SURFACES[1]} "'),
])  # fmt: skip
_ZPX: Final[list[CardSpec]] = [
    *without(sky_cards("ZPX"), "CDELT1", "CDELT2"), *ROTATED_CD, ("WAT0_001", "system=image"),
    *_wat(1, 'wtype=zpx axtype=ra projp0=0. projp1=1. projp2=0. projp3=37400. '
             f'lngcor = "3. 3. 3. 2. {_TNX_SURFACES[0]} "'),
    *_wat(2, 'wtype=zpx axtype=dec projp0=0. projp1=1. projp2=0. projp3=37400. '
             f'latcor = "3. 3. 3. 2. {_TNX_SURFACES[1]} "'),
]  # fmt: skip
_sky("tpu", [
    *without(sky_cards("TPU"), "CDELT1", "CDELT2"), *ROTATED_CD,
    ("PV1_0", 0.7), ("PV1_1", 1.002), ("PV1_2", 3e-3), ("PV1_4", 2e-4), ("PV1_8", -3e-6),
    ("PV2_1", 0.998), ("PV2_2", -2e-3), ("PV2_5", -1.5e-4), ("PV2_10", 4e-6), ("PV2_12", 1e-8),
])  # fmt: skip
_sky("tpu_swapped", [
    *sky_cards("TPU", ctypes=("DEC", "RA"), crval=(2.2, 150.1)),
    ("PV1_2", 1.001), ("PV1_6", 1e-4), ("PV2_2", 0.999), ("PV2_7", 2e-6),
])  # fmt: skip
_add("zpx", lambda: primary(ramp(WIDTH, HEIGHT), _ZPX), "image", "beyond_astropy")
_sky("zpn", [
    *sky_cards("ZPN", cdelt=(-1.1e-3, 1.1e-3)),
    ("PV2_1", 1.0), ("PV2_3", 42.0), ("PV2_5", -800.0),
])  # fmt: skip
_sky("cd_rotated", _CD_TAN)
_sky(
    "cd_mirrored",
    [
        *without(sky_cards(), "CDELT1", "CDELT2"),
        *_matrix("CD", (1.7e-4, 1.05e-4, -1.02e-4, 1.71e-4)),
    ],
)
_sky("cd_with_cdelt", [*sky_cards(cdelt=(1.0, 1.0)), *ROTATED_CD])
_sky(
    "cd_partial",
    [
        *without(sky_cards(), "CDELT1", "CDELT2"),
        ("CD1_2", -2e-4),
        ("CD2_1", 1.9e-4),
    ],
)
_sky("crota", [*sky_cards(cdelt=(-2e-4, 1.6e-4)), ("CROTA2", 33.3)])
_sky("pc_rotated", [*sky_cards(), *_matrix("PC", (0.8, -0.61, 0.59, 0.81))])
_sky("pc_partial", [*sky_cards(), ("PC1_2", 0.3)])
_sky("pc_leading_zeros", [
    *sky_cards(),
    ("PC001001", 0.8), ("PC001002", -0.61), ("PC002001", 0.59), ("PC002002", 0.81),
])  # fmt: skip
_sky("cd_leading_zeros", [
    *without(sky_cards(), "CDELT1", "CDELT2"),
    ("CD001001", -1.7e-4), ("CD001002", 1.05e-4), ("CD002001", 1.02e-4), ("CD002002", 1.71e-4),
])  # fmt: skip
_sky("pc_one_leading_zero", [
    *sky_cards(), ("PC01_01", 0.8), ("PC01_02", -0.61), ("PC02_01", 0.59), ("PC02_02", 0.81),
])  # fmt: skip
_sky("crota_of_longitude", [*sky_cards(), ("CROTA1", 33.3)])
_sky("crota_of_both", [*sky_cards(), ("CROTA1", 33.3), ("CROTA2", 33.3)])
_sky("cd_with_crota", [*_CD_TAN, ("CROTA2", 33.3)])
_sky("cd_with_cdelt_and_crota", [*sky_cards(), *ROTATED_CD, ("CROTA2", 33.3)])
_sky("no_projection", [
    ("WCSAXES", 2), ("CTYPE1", "RA"), ("CTYPE2", "DEC"),
    *without(sky_cards(), "WCSAXES", "CTYPE1", "CTYPE2"),
])  # fmt: skip
_sky("swapped_axes", sky_cards(crval=(2.2, 150.1), cdelt=(2e-4, -2.2e-4), ctypes=("DEC", "RA")))
_sky(
    "swapped_axes_sip",
    [
        *without(
            sky_cards("TAN-SIP", crval=(2.2, 150.1), ctypes=("DEC", "RA")), "CDELT1", "CDELT2"
        ),
        *ROTATED_CD,
        *SIP,
    ],
)
_sky("negative_cdelt", sky_cards(cdelt=(2.3e-4, -1.9e-4)))
_sky("galactic", sky_cards(ctypes=("GLON", "GLAT"), crval=(237.1, 42.3), radesys=None))
_sky("galactic_tangent_elsewhere", [
    *sky_cards("CAR", ctypes=("GLON", "GLAT"), crval=(30.0, 0.0), crpix=(27.5, -1800.0),
               cdelt=(-0.02, 0.02), radesys=None),
])  # fmt: skip
_sky(
    "ecliptic",
    [
        *sky_cards(ctypes=("ELON", "ELAT"), crval=(151.0, -9.0), radesys="ICRS"),
    ],
)
_sky(
    "ecliptic_fk5",
    [
        *sky_cards(ctypes=("ELON", "ELAT"), crval=(151.0, -9.0), radesys="FK5"),
        ("EQUINOX", 2000.0),
    ],
)
_sky("supergalactic", sky_cards(ctypes=("SLON", "SLAT"), crval=(100.0, 11.0), radesys=None))
_sky("fk5", [*sky_cards(radesys="FK5"), ("EQUINOX", 2000.0)])
_sky("fk5_of_1975", [*sky_cards(radesys="FK5"), ("EQUINOX", 1975.0)])
_sky("fk5_by_equinox", [*sky_cards(radesys=None), ("EQUINOX", 2000.0)])
_sky("fk4", [*sky_cards(radesys="FK4"), ("EQUINOX", 1950.0), ("DATE-OBS", "1983-05-17T12:00:00")])
_sky("fk4_by_epoch", [*sky_cards(radesys=None), ("EPOCH", 1950.0)])
_sky("fk4_by_equinox", [*sky_cards(radesys=None), ("EQUINOX", 1950.0)])
_sky("fk4_of_1975", [*sky_cards(radesys="FK4"), ("EQUINOX", 1975.0)])
_sky("fk4_no_equinox", sky_cards(radesys="FK4"))
_sky("fk5_no_equinox", sky_cards(radesys="FK5"))
_sky("fk5_from_1984_on", [*sky_cards(radesys=None), ("EQUINOX", 1984.0)])
_sky("icrs_with_equinox", [*sky_cards(radesys="ICRS"), ("EQUINOX", 1950.0)])
_sky("equinox_in_letters", [*sky_cards(radesys=None), ("EQUINOX", "J2000")])
_sky("epoch_beside_equinox", [*sky_cards(radesys=None), ("EPOCH", 1950.0), ("EQUINOX", 2000.0)])
_sky("ecliptic_no_radesys",
     sky_cards(ctypes=("ELON", "ELAT"), crval=(151.0, -9.0), radesys=None))  # fmt: skip
_sky("fk4_no_e", [*sky_cards(radesys="FK4-NO-E"), ("EQUINOX", 1950.0)])
_sky("radecsys", [*sky_cards(radesys=None), ("RADECSYS", "FK5"), ("EQUINOX", 2000.0)])
_sky("no_radesys", sky_cards(radesys=None))
_sky(
    "arcsec_units",
    [
        *without(sky_cards(crval=(540360.0, 7920.0), cdelt=(-0.72, 0.73)), "CUNIT1", "CUNIT2"),
        ("CUNIT1", "arcsec"),
        ("CUNIT2", "arcsec"),
    ],
)
_sky("default_units", without(sky_cards(), "CUNIT1", "CUNIT2"))
_sky("missing_crpix", without(sky_cards(), "CRPIX1", "CRPIX2", "WCSAXES"))
_sky("lonpole", [*sky_cards("ZEA", cdelt=(-0.3, 0.3)), ("LONPOLE", 143.0)])
_sky(
    "latpole",
    [
        *sky_cards("CEA", crval=(50.0, 10.0), cdelt=(-0.3, 0.3)),
        ("LONPOLE", 75.0),
        ("LATPOLE", -90.0),
    ],
)
_sky("oblique_native", [*sky_cards(), ("PV1_1", 10.0), ("PV1_2", 60.0), ("PV1_3", 170.0)])
_sky("ra_wrap", sky_cards(crval=(0.001, -31.0), cdelt=(-2e-4, 2e-4)))
_sky("ra_wrap_below", sky_cards(crval=(359.9985, 31.0)))
_sky("pole_tan", sky_cards(crval=(77.0, 89.9995)))
_sky("pole_south_zea", sky_cards("ZEA", crval=(211.0, -89.0), cdelt=(-0.31, 0.29)))
_sky("pole_zea", sky_cards("ZEA", crval=(13.0, 88.2), cdelt=(-0.31, 0.33)))
_sky("pole_arc_hemisphere", sky_cards("ARC", crval=(0.0, 90.0), cdelt=(-3.9, 3.9)))
_sky("whole_zea", sky_cards("ZEA", crval=(13.0, 41.0), crpix=(31.0, 23.5), cdelt=(-4.0, 5.2)))
_sky("tan_huge", sky_cards(crval=(200.0, -40.0), cdelt=(-4.2, 4.4)))
_sky("sin_limb", sky_cards("SIN", crval=(20.0, 40.0), crpix=(31.0, 20.5), cdelt=(-2.3, 2.4)))
_sky(
    "ncp",
    [
        *sky_cards("SIN", crval=(150.0, 80.0), cdelt=(-0.01, 0.01)),
        ("PV2_1", 0.0),
        ("PV2_2", 0.1763),
    ],
)
_sky("car_all_sky", sky_cards(
    "CAR", crval=(180.0, 0.0), crpix=(31.0, 24.0), cdelt=(-360 / WIDTH, 180 / HEIGHT)
))  # fmt: skip
_sky("car_over_all_sky", sky_cards(
    "CAR", crval=(180.0, 0.0), crpix=(31.0, 24.0), cdelt=(-400 / WIDTH, 180 / HEIGHT)
))  # fmt: skip
_sky("car_strip", sky_cards("CAR", crval=(10.0, 0.0), crpix=(31.0, -40.0), cdelt=(-0.5, 0.5)))
_sky("ait_all_sky", sky_cards(
    "AIT", ctypes=("GLON", "GLAT"), crval=(0.0, 0.0), crpix=(31.2, 23.6), cdelt=(-5.6, 3.6),
    radesys=None,
))  # fmt: skip
_sky("mol_all_sky", sky_cards(
    "MOL", crval=(83.0, 0.0), crpix=(31.2, 23.6), cdelt=(-5.7, 3.7)
))  # fmt: skip
_sky("hpx_all_sky", [
    *sky_cards("HPX", crval=(0.0, 0.0), crpix=(31.0, 24.0), cdelt=(-6.0, 4.1)),
    ("PV2_1", 4), ("PV2_2", 3),
])  # fmt: skip
_sky("tsc_all_sky", sky_cards("TSC", crval=(40.0, 0.0), crpix=(31.0, 24.0), cdelt=(-6.0, 6.0)))
_sky("csc_all_sky", sky_cards("CSC", crval=(40.0, 0.0), crpix=(31.0, 24.0), cdelt=(-6.0, 6.0)))
_sky("qsc_all_sky", sky_cards("QSC", crval=(40.0, 0.0), crpix=(31.0, 24.0), cdelt=(-6.0, 6.0)))
_sky("xph_all_sky", sky_cards("XPH", crval=(0.0, 90.0), crpix=(31.2, 23.6), cdelt=(-5.0, 6.3)))
_sky("hpx_six_facets", [
    *sky_cards("HPX", crval=(70.0, 0.0), crpix=(31.0, 24.0), cdelt=(-6.0, 4.1)),
    ("PV2_1", 6), ("PV2_2", 3),
])  # fmt: skip
_sky("gls", sky_cards("GLS", crval=(150.0, 2.0), cdelt=(-0.01, 0.01)))
_sky("sfl_all_sky", sky_cards("SFL", crval=(0, 0), crpix=(31.0, 24.0), cdelt=(-6.0, 4.0)))

_PROJECTIONS: Final[Mapping[str, Sequence[tuple[int, float]]]] = {
    "AZP": ((1, 2.0), (2, 30.0)),
    "SZP": ((1, 2.0), (2, 180.0), (3, 60.0)),
    "TAN": (),
    "STG": (),
    "SIN": ((1, 0.02), (2, -0.03)),
    "ARC": (),
    "ZPN": ((1, 0.975), (2, -0.807), (3, 0.337)),
    "ZEA": (),
    "AIR": ((1, 45.0),),
    "CYP": ((1, 1.0), (2, 0.7)),
    "CEA": ((1, 0.8),),
    "CAR": (),
    "MER": (),
    "SFL": (),
    "PAR": (),
    "MOL": (),
    "AIT": (),
    "COP": ((1, 45.0), (2, 25.0)),
    "COE": ((1, 45.0), (2, 25.0)),
    "COD": ((1, 45.0), (2, 25.0)),
    "COO": ((1, 45.0), (2, 25.0)),  # codespell:ignore
    "BON": ((1, 45.0),),
    "PCO": (),
    "TSC": (),
    "CSC": (),
    "QSC": (),
    "HPX": ((1, 4), (2, 3)),
    "XPH": (),
}
"""Every projection code of wcslib with parameters PV2_m that make it no special case."""

for _code, _parameters in _PROJECTIONS.items():
    _sky(f"projection_{_code.lower()}", [
        *sky_cards(_code, crval=(151.3, 33.1), cdelt=(-0.011, 0.012)),
        *(("PV2_" + str(number), value) for number, value in _parameters),
    ])  # fmt: skip

_PLATE: Final[list[CardSpec]] = [
    ("PLTRAH", 5), ("PLTRAM", 42), ("PLTRAS", 23.86), ("PLTDECSN", "-"), ("PLTDECD", 4),
    ("PLTDECM", 56), ("PLTDECS", 47.9), ("EQUINOX", 2000.0),
    ("CNPIX1", 12237), ("CNPIX2", 19965), ("XPIXELSZ", 15.0), ("YPIXELSZ", 15.0),
    ("PPO1", -3069417.0), ("PPO2", 0.0), ("PPO3", 177500.0),
    ("PPO4", 0.0), ("PPO5", 3069417.0), ("PPO6", 177500.0),
    ("AMDX1", 67.15), ("AMDX2", -0.043), ("AMDX3", -28.7), ("AMDX4", -1.7e-5),
    ("AMDX5", 4.2e-6), ("AMDX6", 9.8e-6), ("AMDX8", 2.2e-6), ("AMDX10", 2.5e-6),
    ("AMDY1", 67.16), ("AMDY2", 0.047), ("AMDY3", 210.1), ("AMDY4", 1.9e-5),
    ("AMDY5", -3.9e-6), ("AMDY6", -3.4e-6), ("AMDY8", 2.3e-6), ("AMDY10", 2.1e-6),
]  # fmt: skip


def _polynomial(record: str, axes: tuple[int, int], *more: str) -> list[CardSpec]:
    """Records of a distortion that wcslib itself computes: DPj of pixels, DQi of degrees."""
    fields = ("NAXES: 2", f"AXIS.1: {axes[0]}", f"AXIS.2: {axes[1]}", "DOCORR: 1", *more)
    return [(record, field) for field in fields]


_PIXEL_SCALES: Final = ("OFFSET.1: 20.5", "OFFSET.2: 30.5", "SCALE.1: 0.02", "SCALE.2: 0.02")
_PIXEL_TPD: Final = (
    *_PIXEL_SCALES, "TPD.FWD.0: 0.1", "TPD.FWD.1: 0.3", "TPD.FWD.2: -0.2", "TPD.FWD.4: 0.5",
)  # fmt: skip
_TPD_OF_DEGREES: Final = (
    "OFFSET.1: 0.001", "TPD.FWD.0: 1e-5", "TPD.FWD.1: 0.01", "TPD.FWD.2: -0.02", "TPD.FWD.4: 0.5",
)  # fmt: skip
_TERMS: Final = (
    "NTERMS: 2", "TERM.1.COEFF: 0.3", "TERM.1.VAR.1: 2", "TERM.2.COEFF: 0.2", "TERM.2.VAR.2: 1",
)  # fmt: skip


def _of_pixels(kind: str, *fields: str) -> bytes:
    cards = [*_CD_TAN]
    for axis, axes in ((1, (1, 2)), (2, (2, 1))):
        cards += [(f"CPDIS{axis}", kind), *_polynomial(f"DP{axis}", axes, *fields)]
    return primary(ramp(WIDTH, HEIGHT), cards)


_add("tpd_of_pixels", partial(_of_pixels, "TPD", *_PIXEL_TPD), "image", "beyond_astropy")
_add("tpd_of_pixels_no_offset", partial(
    _of_pixels, "TPD", *_PIXEL_TPD[2:]), "image", "beyond_astropy")  # fmt: skip
_add("polynomial_of_pixels", partial(
    _of_pixels, "Polynomial", *_PIXEL_SCALES, *_TERMS), "image", "beyond_astropy")  # fmt: skip
_sky("tpd_of_degrees", [
    *_CD_TAN,
    ("CQDIS1", "TPD"), *_polynomial("DQ1", (1, 2), *_TPD_OF_DEGREES),
    ("CQDIS2", "TPD"), *_polynomial("DQ2", (2, 1), *_TPD_OF_DEGREES),
])  # fmt: skip
_sky("plate_solution", _PLATE)
_sky("plate_solution_and_tan", [*_CD_TAN, *_PLATE])
_sky("alternates", [
    *_CD_TAN,
    ("WCSAXESA", 2), ("CTYPE1A", "LINEAR"), ("CTYPE2A", "LINEAR"),
    ("CRPIX1A", 1.0), ("CRPIX2A", 1.0), ("CRVAL1A", 1000.0), ("CRVAL2A", 2000.0),
    ("CDELT1A", 1.0), ("CDELT2A", 1.0),
    ("WCSAXESG", 2), ("CTYPE1G", "GLON-CAR"), ("CTYPE2G", "GLAT-CAR"),
    ("CRPIX1G", 12.25), ("CRPIX2G", 7.5), ("CRVAL1G", 237.0), ("CRVAL2G", 42.0),
    ("CDELT1G", -2e-4), ("CDELT2G", 2e-4),
    ("CTYPE1P", "PHYSICAL"), ("CTYPE2P", "PHYSICAL"), ("CRVAL1P", 4.0), ("CDELT1P", 2.0),
])  # fmt: skip
_sky("alternates_of_every_letter", [
    *_CD_TAN,
    *(
        card
        for number, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 1)
        for card in [
            (f"CTYPE1{letter}", "RA---ZEA" if number % 2 else "GLON-CAR"),
            (f"CTYPE2{letter}", "DEC--ZEA" if number % 2 else "GLAT-CAR"),
            *([(f"CRPIX1{letter}", number + 0.25), (f"CRPIX2{letter}", -2.0 * number)]
              if number % 3 else []),
            (f"CRVAL1{letter}", 10.0 * number), (f"CRVAL2{letter}", 3.0 * number),
            (f"CDELT1{letter}", -1e-3 * number), (f"CDELT2{letter}", 1e-3),
        ]
    ),
])  # fmt: skip
_sky("ltv", [
    *_CD_TAN,
    ("LTV1", -100.0), ("LTV2", 12.5), ("LTM1_1", 1.0), ("LTM2_2", 1.0),
    ("DATASEC", "[3:59,2:46]"), ("CCDSEC", "[103:159,12:56]"), ("TRIMSEC", "[5:50,6:40]"),
    ("DETSEC", "[2103:2159,12:56]"), ("CCDSUM", "1 1"), ("BIASSEC", "[60:61,1:47]"),
])  # fmt: skip
_sky(
    "much_metadata",
    [
        *sky_cards(),
        *((f"KEY{number:05d}"[:8], number * 1.5) for number in range(250)),
        ("OBJECT", "O'Hara's field"),
        ("LONGTEXT", "a long text " * 12),
        "HIERARCH ESO DET CHIP NAME = 'Bruno   '  / a name of more than eight letters",
        "COMMENT  a comment of no importance",
        "HISTORY  made by nobody",
        "DATAMIN =                  0.0 / of the parent",
        ("CHECKSUM", "ZZZZZZZZZZZZZZZZ"),
        ("DATASUM", "12345"),
    ],
)


# ---------------------------------------------------------------- tables beside the image


def _lookup_table(name: str, version: int, crval2: float) -> bytes:
    """A table of distortions in pixels, coarser than the image, over the whole of it."""
    values = np.random.default_rng(version).normal(0, 0.6, (7, 9)).astype("f4")
    return extension(values, [
        ("EXTNAME", name), ("EXTVER", version),
        ("CRPIX1", 1.0), ("CRPIX2", 1.0), ("CRVAL1", 1.0), ("CRVAL2", crval2),
        ("CDELT1", 7.5), ("CDELT2", 7.25),
    ])  # fmt: skip


def _record(keyword: str, version: int) -> list[CardSpec]:
    """The record-valued cards that name a table and the axes of it."""
    texts = (f"EXTVER: {version}", "NAXES: 2", "AXIS.1: 1", "AXIS.2: 2")
    return [(keyword, text) for text in texts]


@_family("image", "sky", "tables", "mef")
def _make_lookup_distortion() -> bytes:
    """Distortion by tables of the pixel grid (CPDISj), as HST's NPOLFILE gives it."""
    cards: list[CardSpec] = [
        ("EXTNAME", "SCI"), ("EXTVER", 1), *_CD_SIP, *SIP,
        ("CPERR1", 1.5), ("CPDIS1", "LOOKUP"), *_record("DP1", 1),
        ("CPERR2", 1.4), ("CPDIS2", "LOOKUP"), *_record("DP2", 2),
    ]  # fmt: skip
    tables = [_lookup_table("WCSDVARR", version, 1.5) for version in (1, 2)]
    return primary(None) + extension(ramp(WIDTH, HEIGHT), cards) + b"".join(tables)


@_family("image", "sky", "tables", "mef")
def _make_detector_distortion() -> bytes:
    """Distortion of the detector by a table (D2IMDISj), as HST's D2IMFILE gives it."""
    cards: list[CardSpec] = [
        ("EXTNAME", "SCI"), ("EXTVER", 1), *_CD_TAN,
        ("D2IMERR1", 1.4), ("D2IMDIS1", "Lookup"), *_record("D2IM1", 3),
        ("D2IMERR2", 1.4), ("D2IMDIS2", "Lookup"), *_record("D2IM2", 4),
    ]  # fmt: skip
    tables = [_lookup_table("D2IMARR", version, 1.0) for version in (3, 4)]
    return primary(None) + extension(ramp(WIDTH, HEIGHT), cards) + b"".join(tables)


@_family("image", "sky", "tables", "mef")
def _make_lookup_and_detector_distortion() -> bytes:
    """Both of them and SIP, as HST's ACS has it; tables are the last but one and before."""
    cards: list[CardSpec] = [
        ("EXTNAME", "SCI"), ("EXTVER", 1), *_CD_SIP, *SIP, ("LTV1", -12.0), ("LTM1_1", 1.0),
        ("CPERR1", 1.5), ("CPDIS1", "LOOKUP"), *_record("DP1", 1),
        ("CPERR2", 1.4), ("CPDIS2", "LOOKUP"), *_record("DP2", 2),
        ("D2IMERR1", 1.4), ("D2IMDIS1", "Lookup"), *_record("D2IM1", 1),
    ]  # fmt: skip
    tables = [_lookup_table("D2IMARR", 1, 1.0)]
    tables += [_lookup_table("WCSDVARR", version, 1.5) for version in (1, 2)]
    return primary(None) + extension(ramp(WIDTH, HEIGHT), cards) + b"".join(tables)


@_family("image", "sky", "tables", "mef")
def _make_tab_alternate() -> bytes:
    """An alternate W of two coordinates in one table (-TAB), as SPHEREx gives wavelengths."""
    cards: list[CardSpec] = [
        ("EXTNAME", "IMAGE"), *_CD_SIP, *SIP,
        ("WCSAXESW", 2), ("CTYPE1W", "WAVE-TAB"), ("CTYPE2W", "BAND-TAB"),
        ("CUNIT1W", "um"), ("CUNIT2W", "um"), ("CRPIX1W", 1.0), ("CRPIX2W", 1.0),
        ("CRVAL1W", 1.0), ("CRVAL2W", 1.0), ("CDELT1W", 1.0), ("CDELT2W", 1.0),
        ("PS1_0W", "WCS-WAVE"), ("PV1_1W", 1), ("PV1_2W", 1), ("PS1_1W", "VALUES"), ("PV1_3W", 1),
        ("PS2_0W", "WCS-WAVE"), ("PV2_1W", 1), ("PV2_2W", 1), ("PS2_1W", "VALUES"), ("PV2_3W", 2),
        ("PS1_2W", "X"), ("PS2_2W", "Y"),
    ]  # fmt: skip
    values = np.random.default_rng(3).normal(1.2, 0.1, (1, 5, 6, 2))
    table = _table("WCS-WAVE", [
        fits.Column("VALUES", "60D", dim="(2,6,5)", unit="um", array=values),
        fits.Column("X", "6D", array=np.array([[1.0, 10, 25, 40, 55, 61]])),
        fits.Column("Y", "5D", array=np.array([[1.0, 12, 20, 33, 47]])),
    ])  # fmt: skip
    return primary(None) + extension(ramp(WIDTH, HEIGHT), cards) + table


@_family("image", "sky", "mef")
def _make_afw_exposure() -> bytes:
    """An exposure of Rubin's afw: XY0 in alternate A and LTV, an archive of tables behind."""
    wcs: list[CardSpec] = [
        *_CD_SIP, *SIP, ("LTV1", -1000.0), ("LTV2", -2000.0),
        ("CTYPE1A", "LINEAR"), ("CTYPE2A", "LINEAR"), ("CRPIX1A", 1.0), ("CRPIX2A", 1.0),
        ("CRVAL1A", 1000.0), ("CRVAL2A", 2000.0), ("CUNIT1A", "PIXEL"), ("CUNIT2A", "PIXEL"),
    ]  # fmt: skip
    index = _table("ARCHIVE_INDEX", [fits.Column("id", "J", array=np.arange(3))])
    detectors = _table("Detector", [fits.Column("name", "8A", array=["R22_S11"])])
    mask = ramp(WIDTH, HEIGHT, dtype="i4")
    return b"".join([
        primary(None, [("AR_HDU", 5), ("WCS_ID", 2), ("INSTRUME", "Imaginary camera")]),
        extension(ramp(WIDTH, HEIGHT), [("EXTNAME", "IMAGE"), *wcs]),
        extension(mask, [("EXTNAME", "MASK"), ("MP_SAT", 1), *wcs]),
        extension(ramp(WIDTH, HEIGHT, start=5), [("EXTNAME", "VARIANCE"), *wcs]),
        index, detectors,
    ])  # fmt: skip


@_family("image", "sky", "tables", "mef", "cube", "spectral")
def _make_tab_spectral() -> bytes:
    """A cube whose wavelengths stand in a table (WAVE-TAB)."""
    cards = [
        *without(sky_cards(), "WCSAXES"), ("WCSAXES", 3),
        ("CTYPE3", "WAVE-TAB"), ("CUNIT3", "m"), ("CRPIX3", 1.0), ("CRVAL3", 1.0), ("CDELT3", 1.0),
        ("PS3_0", "WCS-TAB"), ("PV3_1", 1), ("PV3_2", 1), ("PS3_1", "WAVELENGTH"), ("PV3_3", 1),
    ]  # fmt: skip
    wavelengths = 5e-7 + 1e-9 * np.arange(9.0) ** 1.5
    column = fits.Column(
        "WAVELENGTH", "9D", dim="(1,9)", unit="m", array=wavelengths.reshape(1, 9, 1)
    )
    table = _table("WCS-TAB", [column])
    cards = [("WCSAXES", 3), *without(cards, "WCSAXES")]
    return primary(ramp(17, 13, 9), cards) + table


@_family("image", "sky", "tables", "mef", "cube", "spectral")
def _make_tab_spectral_indexed() -> bytes:
    """Wavelengths in a table with an index vector of its own, in air (AWAV-TAB)."""
    cards: list[CardSpec] = [
        ("WCSAXES", 3), *without(sky_cards(), "WCSAXES"),
        ("CTYPE3", "AWAV-TAB"), ("CUNIT3", "nm"), ("CRPIX3", 2.0), ("CRVAL3", 20.0),
        ("CDELT3", 10.0), ("PS3_0", "WCS-TAB"), ("PV3_1", 1), ("PV3_2", 1),
        ("PS3_1", "AIR"), ("PS3_2", "AT"), ("PV3_3", 1),
    ]  # fmt: skip
    air = 500 + 3 * np.arange(6.0) ** 1.2
    table = _table("WCS-TAB", [
        fits.Column("AIR", "6D", dim="(1,6)", unit="nm", array=air.reshape(1, 6, 1)),
        fits.Column("AT", "6D", array=np.array([[0.0, 15.0, 40.0, 55.0, 90.0, 120.0]])),
    ])  # fmt: skip
    return primary(ramp(17, 13, 9), cards) + table


TIMES: Final = 3600.0 * np.arange(9.0) ** 1.5
"""Seconds: the middles of the planes of the cubes whose times stand in a table."""


@_family("image", "sky", "tables", "mef", "cube", "temporal")
def _make_tab_time() -> bytes:
    """A cube whose times stand in a table (TIME-TAB), in a scale that TIMESYS names."""
    cards: list[CardSpec] = [
        ("WCSAXES", 3), *without(sky_cards(), "WCSAXES"),
        ("CTYPE3", "TIME-TAB"), ("CUNIT3", "s"), ("CRPIX3", 1.0), ("CRVAL3", 1.0), ("CDELT3", 1.0),
        ("PS3_0", "WCS-TAB"), ("PV3_1", 1), ("PV3_2", 1), ("PS3_1", "ELAPSED"), ("PV3_3", 1),
        ("MJDREFI", 58000), ("MJDREFF", 0.25), ("TIMESYS", "TAI"), ("TREFPOS", "TOPOCENTER"),
    ]  # fmt: skip
    column = fits.Column("ELAPSED", "9D", dim="(1,9)", unit="s", array=TIMES.reshape(1, 9, 1))
    return primary(ramp(17, 13, 9), cards) + _table("WCS-TAB", [column])


@_family("image", "sky", "tables", "mef", "cube", "temporal")
def _make_tab_time_indexed() -> bytes:
    """Days of UTC in a table with an index vector of its own (UTC--TAB), on the first axis."""
    cards: list[CardSpec] = [
        ("WCSAXES", 3),
        ("CTYPE1", "UTC--TAB"), ("CUNIT1", "d"), ("CRPIX1", 2.0), ("CRVAL1", 20.0),
        ("CDELT1", 10.0), ("PS1_0", "WCS-TAB"), ("PV1_1", 1), ("PV1_2", 1),
        ("PS1_1", "DAYS"), ("PS1_2", "AT"), ("PV1_3", 1), ("DATEREF", "2020-05-31T12:00:00"),
        *linear_cards(2, "RA---TAN", "deg", 7.5, 150.1, -2e-3),
        *linear_cards(3, "DEC--TAN", "deg", 8.25, 2.2, 2.1e-3),
    ]  # fmt: skip
    days = 0.5 * np.arange(6.0) ** 1.2
    table = _table("WCS-TAB", [
        fits.Column("DAYS", "6D", dim="(1,6)", unit="d", array=days.reshape(1, 6, 1)),
        fits.Column("AT", "6D", array=np.array([[0.0, 15.0, 40.0, 55.0, 90.0, 120.0]])),
    ])  # fmt: skip
    return primary(ramp(9, 17, 13), cards) + table


# ---------------------------------------------------------------- more axes


_CUBE_SKY: Final = without(sky_cards("SIN", cdelt=(-2e-3, 2.1e-3), crpix=(8.25, 7.5)), "WCSAXES")


def _cube(name: str, naxis: Sequence[int], cards: Sequence[CardSpec], *lists: str) -> None:
    sky = () if "coupled" in lists else ("sky",)
    _add(
        name,
        lambda: primary(ramp(*naxis), [("WCSAXES", len(naxis)), *cards]),
        *("image", "cube", *sky, *lists),
    )


_FREQUENCY: Final = linear_cards(3, "FREQ", "Hz", 4.0, 1.4204e9, 2.5e5)
_cube("cube_frequency", (17, 13, 11), [
    *_CUBE_SKY, *_FREQUENCY, ("RESTFRQ", 1.420405751786e9), ("SPECSYS", "BARYCENT"),
], "spectral")  # fmt: skip
_cube("cube_frequency_lsrk", (17, 13, 11), [
    *_CUBE_SKY, *_FREQUENCY, ("RESTFRQ", 1.420405751786e9), ("SPECSYS", "LSRK"),
], "spectral")  # fmt: skip
_cube("cube_frequency_descending", (17, 13, 11), [
    *_CUBE_SKY, *linear_cards(3, "FREQ", "GHz", 4.0, 1.4204, -2.5e-4),
], "spectral")  # fmt: skip
_cube("cube_velocity", (17, 13, 11), [
    *_CUBE_SKY, *linear_cards(3, "VRAD", "km/s", 6.0, 100.0, 5.5), ("RESTFRQ", 1.15271202e11),
    ("SPECSYS", "BARYCENT"),
], "spectral")  # fmt: skip
_cube("cube_velocity_optical", (17, 13, 11), [
    *_CUBE_SKY, *linear_cards(3, "VOPT", "m/s", 6.0, 1e6, 5500.0), ("RESTWAV", 6.5628e-7),
], "spectral")  # fmt: skip
_cube("cube_velocity_no_rest", (17, 13, 11), [
    *_CUBE_SKY, *linear_cards(3, "VRAD", "km/s", 6.0, 100.0, 5.5),
])  # fmt: skip
_cube("cube_wavelength", (17, 13, 11), [
    *_CUBE_SKY, *linear_cards(3, "WAVE", "Angstrom", 1.0, 4750.0, 1.25),
], "spectral")  # fmt: skip
_cube("cube_wavelength_air", (17, 13, 11), [
    *_CUBE_SKY, *linear_cards(3, "AWAV", "nm", 3.0, 656.28, 0.5),
], "spectral")  # fmt: skip
_cube("cube_wavelength_log", (17, 13, 11), [
    *_CUBE_SKY, *linear_cards(3, "WAVE-LOG", "m", 2.0, 5e-7, 5e-9),
], "spectral")  # fmt: skip
_cube("cube_frequency_to_wavelength", (17, 13, 11), [
    *_CUBE_SKY, *linear_cards(3, "WAVE-F2W", "m", 6.0, 0.211, 1e-4), ("RESTFRQ", 1.420405751786e9),
], "spectral")  # fmt: skip
_cube("cube_energy", (17, 13, 11), [
    *_CUBE_SKY, *linear_cards(3, "ENER", "keV", 1.0, 0.5, 0.75),
], "spectral")  # fmt: skip
_cube("cube_felo", (17, 13, 11), [
    *_CUBE_SKY, *linear_cards(3, "FELO-HEL", "m/s", 6.0, 5e5, 5200.0),
    ("RESTFREQ", 1.420405751786e9), ("VELREF", 2),
], "spectral")  # fmt: skip
_HYDROGEN: Final = ("RESTFRQ", 1.420405751786e9)
_H_ALPHA: Final = ("RESTWAV", 6.564614e-7)
for _name, _ctype, _unit, _crval, _cdelt, _line in (
    ("velocity_relativistic", "VELO", "km/s", 100.0, 5.5, _HYDROGEN),
    ("velocity_of_light", "BETA", "", 0.01, 1e-4, _HYDROGEN),
    ("redshift", "ZOPT", "", 0.01, 1e-4, _H_ALPHA),
    ("wavenumber", "WAVN", "cm**-1", 15000.0, 1.5, None),
    ("frequency_log", "FREQ-LOG", "Hz", 1.4e9, 1e6, None),
    ("energy_log", "ENER-LOG", "keV", 1.5, 0.02, None),
    ("redshift_of_frequency", "ZOPT-F2W", "", 0.01, 1e-4, _HYDROGEN),
    ("velocity_optical_of_frequency", "VOPT-F2W", "m/s", 1e6, 5500.0, _HYDROGEN),
    ("velocity_radio_of_wavelength", "VRAD-W2F", "m/s", 1e6, 5500.0, _HYDROGEN),
    ("velocity_of_frequency", "VELO-F2V", "m/s", 1e6, 5500.0, _HYDROGEN),
    ("velocity_of_wavelength", "VELO-W2V", "m/s", 1e6, 5500.0, _H_ALPHA),
    ("velocity_of_air", "VELO-A2V", "m/s", 1e6, 5500.0, _H_ALPHA),
    ("beta_of_wavelength", "BETA-W2V", "", 0.01, 1e-4, _H_ALPHA),
    ("frequency_of_wavelength", "FREQ-W2F", "Hz", 1.42e9, 1e6, _HYDROGEN),
    ("frequency_of_air", "FREQ-A2F", "Hz", 4.6e14, 1e11, None),
    ("frequency_of_velocity", "FREQ-V2F", "Hz", 1.42e9, 1e6, _HYDROGEN),
    ("wavelength_of_velocity", "WAVE-V2W", "m", 0.211, 1e-4, _HYDROGEN),
    ("wavelength_of_air", "WAVE-A2W", "m", 6.5e-7, 1e-10, None),
    ("air_of_wavelength", "AWAV-W2A", "m", 6.5e-7, 1e-10, None),
    ("air_of_frequency", "AWAV-F2A", "m", 6.5e-7, 1e-10, None),
    ("air_of_velocity", "AWAV-V2A", "m", 6.5e-7, 1e-10, _H_ALPHA),
    ("wavenumber_of_wavelength", "WAVN-W2F", "m**-1", 1.5e6, 100.0, _HYDROGEN),
    ("energy_of_wavelength", "ENER-W2F", "J", 3e-19, 1e-22, _H_ALPHA),
    ("velocity_of_aips", "VELO-LSR", "m/s", 1e5, 5500.0, _HYDROGEN),
    ("frequency_of_aips", "FREQ-LSR", "Hz", 1.42e9, 5500.0, _HYDROGEN),
):
    _cube(f"cube_{_name}", (17, 13, 11), [
        *_CUBE_SKY, *linear_cards(3, _ctype, _unit, 6.0, _crval, _cdelt),
        *([] if _line is None else [_line]),
    ], "spectral")  # fmt: skip
_GRISM: Final[list[CardSpec]] = [
    ("PV3_0", 3.16e5), ("PV3_1", 1.0), ("PV3_2", 20.0), ("PV3_3", 1.5), ("PV3_4", -1e5),
    ("PV3_5", 0.0), ("PV3_6", 0.0),
]  # fmt: skip
_cube("cube_grism", (17, 13, 11), [
    *_CUBE_SKY, *linear_cards(3, "WAVE-GRI", "m", 6.0, 6.5e-7, 1e-10), *_GRISM,
], "spectral")  # fmt: skip
_cube("cube_grism_in_air", (17, 13, 11), [
    *_CUBE_SKY, *linear_cards(3, "AWAV-GRA", "m", 6.0, 6.5e-7, 1e-10), *_GRISM,
], "spectral")  # fmt: skip
for _system in ("TOPOCENT", "GEOCENTR", "HELIOCEN", "LSRD", "GALACTOC", "LOCALGRP", "CMBDIPOL"):
    _cube(f"cube_specsys_{_system.lower()}", (17, 13, 11), [
        *_CUBE_SKY, *_FREQUENCY, ("SPECSYS", _system), ("SSYSOBS", "TOPOCENT"),
        ("VELOSYS", -25000.0),
    ], "spectral")  # fmt: skip
_cube("cube_sky_apart", (17, 11, 13), [
    *linear_cards(1, "DEC--SIN", "deg", 7.5, 2.2, 2.1e-3),
    *linear_cards(2, "FREQ", "Hz", 4.0, 1.4204e9, 2.5e5),
    *linear_cards(3, "RA---SIN", "deg", 8.25, 150.1, -2e-3),
    ("RADESYS", "FK5"), ("EQUINOX", 2000.0),
], "spectral")  # fmt: skip
_cube("cube_sky_last", (3, 5, 17, 13), [
    *linear_cards(1, "STOKES", "", 2.0, 2.0, 1.0),
    *linear_cards(2, "WAVE", "um", 4.0, 1.4, 0.025),
    *linear_cards(3, "GLON-CAR", "deg", 8.25, 150.1, -2e-3),
    *linear_cards(4, "GLAT-CAR", "deg", 7.5, 2.2, 2.1e-3),
], "spectral", "polarization")  # fmt: skip
_cube("cube_spectral_first", (11, 17, 13), [
    *linear_cards(1, "FREQ", "Hz", 4.0, 1.4204e9, 2.5e5),
    *linear_cards(2, "RA---SIN", "deg", 8.25, 150.1, -2e-3),
    *linear_cards(3, "DEC--SIN", "deg", 7.5, 2.2, 2.1e-3),
    ("RADESYS", "FK5"), ("EQUINOX", 2000.0),
], "spectral")  # fmt: skip
_cube("cube_stokes", (17, 13, 4), [
    *_CUBE_SKY, *linear_cards(3, "STOKES", "", 1.0, 1.0, 1.0),
], "polarization")  # fmt: skip
_cube("cube_stokes_linear", (17, 13, 4), [
    *_CUBE_SKY, *linear_cards(3, "STOKES", "", 1.0, -5.0, -1.0),
], "polarization")  # fmt: skip
_cube("cube_stokes_and_frequency", (17, 13, 3, 6), [
    *_CUBE_SKY, *linear_cards(3, "STOKES", "", 2.0, 2.0, -1.0),
    *linear_cards(4, "FREQ", "Hz", 1.0, 2.3e11, 1e6), ("SPECSYS", "LSRK"),
], "spectral", "polarization")  # fmt: skip
_cube("cube_radio", (17, 13, 1, 5), [
    *_CUBE_SKY, *linear_cards(3, "STOKES", "", 1.0, 1.0, 1.0),
    *linear_cards(4, "FREQ", "Hz", 1.0, 2.3e11, 1e6), ("SPECSYS", "TOPOCENT"),
    *_matrix("PC", (0.9, 0.1, -0.1, 0.9)),
    ("PC3_3", 1.0), ("PC4_4", 1.0), ("PC3_4", 0.0), ("PC4_1", 0.0),
], "spectral", "polarization")  # fmt: skip
_cube("cube_time", (17, 13, 7), [
    *_CUBE_SKY, *linear_cards(3, "TIME", "s", 1.0, 0.0, 30.0),
    ("MJDREF", 58000.0), ("TIMESYS", "TDB"), ("TIMEUNIT", "s"),
], "temporal")  # fmt: skip
_cube("cube_time_utc", (17, 13, 7), [
    *_CUBE_SKY, *linear_cards(3, "UTC", "d", 2.0, 0.5, 0.25), ("MJDREFI", 58000), ("MJDREFF", 0.25),
], "temporal")  # fmt: skip
for _name, _ctype, _time in (
    ("tai", "TAI", [("MJDREF", 58000.0)]),
    ("gps", "GPS", [("DATEREF", "2017-09-04T00:00:00")]),
    ("terrestrial", "TT(TAI)", [("MJDREFI", 58000), ("MJDREFF", 0.5)]),
    ("barycentric", "TIME", [("JDREF", 2458000.5), ("TIMESYS", "TCB")]),
    ("ut1", "TIME", [("JDREFI", 2458000), ("JDREFF", 0.5), ("TIMESYS", "UT1"), ("TIMEOFFS", 3.0)]),
    ("no_scale", "TIME", [("DATEREF", "2017-09-04")]),
):
    _cube(f"cube_time_{_name}", (17, 13, 7), [
        *_CUBE_SKY, *linear_cards(3, _ctype, "s", 1.0, 5.0, 30.0), *_time,
    ], "temporal")  # fmt: skip
_cube("cube_time_log", (17, 13, 7), [
    *_CUBE_SKY, *linear_cards(3, "TIME-LOG", "d", 2.0, 0.5, 0.25),
    ("MJDREF", 58000.0), ("TIMESYS", "TT"),
], "temporal")  # fmt: skip
_cube("cube_time_log_of_a_scale", (17, 13, 7), [
    *_CUBE_SKY, *linear_cards(3, "TAI--LOG", "ks", 1.0, 2.0, 0.5), ("MJDREF", 58000.0),
], "temporal")  # fmt: skip
_cube("cube_time_and_everything", (5, 4, 13, 17, 3), [
    *linear_cards(1, "UTC", "d", 2.0, 0.5, 0.25), ("MJDREF", 58000.0),
    *linear_cards(2, "STOKES", "", 1.0, -1.0, -1.0),
    *linear_cards(3, "DEC--SIN", "deg", 7.5, 2.2, 2.1e-3),
    *linear_cards(4, "RA---SIN", "deg", 8.25, 150.1, -2e-3),
    *linear_cards(5, "FREQ", "Hz", 1.0, 2.3e11, 1e6),
], "temporal", "polarization", "spectral")  # fmt: skip
_cube("cube_rotated_into_frequency", (17, 13, 5), [
    *_CUBE_SKY, *_FREQUENCY, ("PC1_3", 0.2), ("PC3_1", 0.0),
], "coupled")  # fmt: skip
_cube("cube_frequency_slanted", (17, 13, 5), [
    *_CUBE_SKY, *_FREQUENCY, ("PC3_1", 0.2),
], "coupled")  # fmt: skip
_cube("degenerate_axes", (WIDTH, HEIGHT, 1, 1), [
    *without(_CD_TAN, "WCSAXES"), ("CD3_3", 1e6), ("CD4_4", 1.0),
    *without(linear_cards(3, "FREQ", "Hz", 1.0, 1.4e9, 1e6), "CDELT3"),
    *without(linear_cards(4, "STOKES", "", 1.0, 1.0, 1.0), "CDELT4"),
], "spectral", "polarization")  # fmt: skip
_cube("casa_image", (WIDTH, HEIGHT, 1, 1), [
    *_matrix("PC0", (1.0, 0.0, 0.0, 1.0)),
    *without(_CUBE_SKY, "RADESYS"), ("LONPOLE", 180.0), ("LATPOLE", 2.2),
    *linear_cards(3, "FREQ", "Hz", 1.0, 1.4e9, 1e6),
    *linear_cards(4, "STOKES", "", 1.0, 1.0, 1.0),
    ("RADESYS", "FK5"), ("EQUINOX", 2000.0), ("SPECSYS", "LSRK"), ("VELREF", 257),
    ("ALTRPIX", 1.0), ("RESTFRQ", 1.4e9), ("BMAJ", 1e-3),
], "spectral", "polarization")  # fmt: skip


@_family("image", "sky", "cube", "spectral")
def _make_more_world_axes() -> bytes:
    """An image of two axes whose description has four (WCSAXES above NAXIS)."""
    cards = [
        ("WCSAXES", 4), *without(sky_cards(), "WCSAXES"),
        *linear_cards(3, "FREQ", "Hz", 1.0, 1.4e9, 1e6),
        *linear_cards(4, "STOKES", "", 1.0, 1.0, 1.0),
    ]  # fmt: skip
    return primary(ramp(WIDTH, HEIGHT), cards)


@_family("image", "sky", "cube")
def _make_plain_third_axis() -> bytes:
    """A cube whose third axis has no meaning that the header tells."""
    return primary(ramp(17, 13, 5), sky_cards())


# ---------------------------------------------------------------- extensions


@_family("image", "sky", "mef")
def _make_mef() -> bytes:
    """A visit: empty primary with metadata, IMAGE, MASK, VARIANCE on one grid, and a table."""
    wcs = [*_CD_SIP, *SIP, *SIP_INVERSE]
    mask = np.zeros((HEIGHT, WIDTH), "i4")
    mask[5:9, 7:30] = 1 << 5
    mask[40, 60] = 1 << 30
    catalog = _table(
        "CATALOG",
        [
            fits.Column("NUMBER", "J", array=np.arange(7)),
            fits.Column("NAME", "6A", array=[f"star {n}" for n in range(7)]),
            fits.Column("LIST", "PE()", array=np.array([np.arange(n) for n in range(7)], object)),
        ],
        [("EXTVER", 3)],
    )
    return b"".join([
        primary(None, [("TELESCOP", "None"), ("MJD-OBS", 60000.5), ("FILTER", "r"),
                       ("HISTORY", "invented"), ("INSTRUME", "Imaginary camera")]),
        extension(ramp(WIDTH, HEIGHT, start=0.5), [("EXTNAME", "IMAGE"), ("EXTVER", 1), *wcs]),
        extension(mask, [("EXTNAME", "MASK"), ("EXTVER", 1), ("INHERIT", True),
                         ("MP_SAT", 5), *wcs]),
        extension(ramp(WIDTH, HEIGHT, start=7000), [("EXTNAME", "VARIANCE"), ("EXTVER", 1), *wcs]),
        catalog,
    ])  # fmt: skip


@_family("image", "sky", "mef")
def _make_mef_two_chips() -> bytes:
    """Two chips side by side, each with an error plane and a quality plane without WCS."""
    parts = [primary(None, [("INSTRUME", "Two chips")])]
    for version, lon in ((1, 150.1), (2, 150.13)):
        wcs = [*without(sky_cards(crval=(lon, 2.2)), "CDELT1", "CDELT2"), *ROTATED_CD]
        version_card: CardSpec = ("EXTVER", version)
        parts += [
            extension(ramp(WIDTH, HEIGHT, start=version), [("EXTNAME", "SCI"), version_card, *wcs]),
            extension(ramp(WIDTH, HEIGHT, start=9), [("EXTNAME", "ERR"), version_card, *wcs]),
            extension(ramp(WIDTH, HEIGHT, dtype="i2"), [("EXTNAME", "DQ"), version_card]),
        ]
    return b"".join(parts)


@_family("image", "sky", "mef")
def _make_primary_and_extension() -> bytes:
    """Pixels in the primary HDU and in an extension, of different sizes and places."""
    return primary(ramp(WIDTH, HEIGHT), sky_cards()) + extension(
        ramp(23, 31, dtype="i4"), [("EXTNAME", "SMALL"), *sky_cards(crval=(150.1, 2.205))]
    )


# ---------------------------------------------------------------- stored values


def _plain(dtype: str) -> bytes:
    return primary(ramp(WIDTH, HEIGHT, dtype=dtype), _CD_TAN)


for _dtype in ("u1", "i2", "i4", "i8", "f4", "f8"):
    _add(f"bitpix_{_dtype}", partial(_plain, _dtype), "image", "sky")


def _unsigned(name: str, dtype: str, bzero: str) -> None:
    """Integers of the other signedness, by BZERO (FITS 4.0 §5.2.5)."""
    info = np.iinfo(dtype)

    def make() -> bytes:
        generator = np.random.default_rng(7)
        stored = generator.integers(info.min, info.max, (HEIGHT, WIDTH), dtype=dtype, endpoint=True)
        stored[0, :2] = info.min, info.max
        zero = f"BZERO   = {bzero:>20}"
        return primary(stored, [*_CD_TAN, "BSCALE  =                    1", zero])

    _add(name, make, "image", "sky", "scaled")


_unsigned("signed_8", "u1", "-128")
_unsigned("unsigned_16", "i2", "32768")
_unsigned("unsigned_32", "i4", "2147483648")
_unsigned("unsigned_64", "i8", "9223372036854775808")


@_family("image", "sky", "scaled")
def _make_blank() -> bytes:
    """Integers with BLANK, unscaled."""
    stored = ramp(WIDTH, HEIGHT, dtype="i2", start=-900)
    stored[3, 5:40] = -32768
    return primary(stored, [*_CD_TAN, ("BLANK", -32768)])


@_family("image", "sky", "scaled")
def _make_scaled() -> bytes:
    """Integers with BSCALE, BZERO and BLANK."""
    stored = ramp(WIDTH, HEIGHT, dtype="i2", start=-900)
    stored[3, 5:40] = -32768
    return primary(stored, [*_CD_TAN, ("BSCALE", 0.0125), ("BZERO", -3.5), ("BLANK", -32768)])


@_family("image", "sky", "scaled")
def _make_scaled_floats() -> bytes:
    """Floats with BSCALE and BZERO."""
    return primary(ramp(WIDTH, HEIGHT, dtype="f4"), [*_CD_TAN, ("BSCALE", 2.5), ("BZERO", 1.25)])


def _with_payloads(bits: str, values: Sequence[int]) -> NDArray[np.generic]:
    stored = ramp(WIDTH, HEIGHT, dtype=bits.replace("u", "f"))
    stored.view(bits).flat[11 : 11 + 13 * len(values) : 13] = values
    return stored


@_family("image", "sky")
def _make_nan_payloads_f4() -> bytes:
    """float32 with NaNs of several payloads and signs, infinities, subnormals and -0."""
    values = [0x7FC00000, 0xFFC12345, 0x7F800001, 0xFFFFFFFF, 0x7F800000, 0xFF800000, 1, 0x80000000]
    return primary(_with_payloads("u4", values), _CD_TAN)


@_family("image", "sky")
def _make_nan_payloads_f8() -> bytes:
    """The same of float64."""
    values = [0x7FF8 << 48, 0xFFF8000000012345, 0x7FF0000000000001, 0x7FF << 52, 1, 1 << 63]
    return primary(_with_payloads("u8", values), _CD_TAN)


@_family("image", "sky")
def _make_one_pixel() -> bytes:
    """An image of 1x1."""
    return primary(ramp(1, 1, start=42), sky_cards(crpix=(1.0, 1.0)))


@_family("image", "sky")
def _make_one_row() -> bytes:
    """An image of one row."""
    return primary(ramp(WIDTH, 1), _CD_TAN)


@_family("image")
def _make_no_wcs() -> bytes:
    """An image without any description of coordinates."""
    return primary(ramp(WIDTH, HEIGHT))


@_family("image")
def _make_linear_wcs() -> bytes:
    """An image whose axes are plain numbers."""
    cards = [*linear_cards(1, "X", "mm", 3.0, 0.5, 0.01), *linear_cards(2, "Y", "mm", 1.0, 7, 0.01)]
    return primary(ramp(WIDTH, HEIGHT), cards)


@_family("image")
def _make_spectrum() -> bytes:
    """One axis: wavelengths, and nothing about the sky."""
    return primary(ramp(WIDTH), linear_cards(1, "WAVE", "Angstrom", 1.0, 4000.0, 2.0))


@_family("tail")
def _make_trailing_zeros() -> bytes:
    """A sound file, and zeros after its end."""
    return primary(ramp(WIDTH, HEIGHT), sky_cards()) + b"\0" * 5000


@_family("tail")
def _make_trailing_junk() -> bytes:
    """A sound file with special records after its end (FITS 4.0 §3.5)."""
    return primary(ramp(WIDTH, HEIGHT), sky_cards()) + b"nonsense" * 720


# ---------------------------------------------------------------- compression


def _compressed(name: str, stored: Callable[[], NDArray[np.generic]], **options: object) -> None:
    """A file of an empty primary and one tile-compressed image."""

    def make() -> bytes:
        header = fits.Header()
        for card in [*_CD_TAN, ("OBJECT", "compressed")]:
            assert not isinstance(card, str)
            header[card[0]] = card[1]
        hdu = fits.CompImageHDU(stored(), header, name="COMPRESSED", **options)
        return primary(None) + _astropy_extension(hdu)

    _add(name, make, "image", "sky", "compressed", "mef", suffix=".fits.fz")


def _noise_of_type(dtype: str) -> NDArray[np.generic]:
    """Noise that fits into a byte."""
    return (noise(WIDTH, HEIGHT, dtype="f8", sigma=9) % 250).astype(dtype)


for _dtype in ("u1", "i2", "i4"):
    for _method in ("RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1"):
        _options: dict[str, object] = {"compression_type": _method}
        if _method == "HCOMPRESS_1":
            _options["tile_shape"] = (16, 21)
        _compressed(
            f"compressed_{_method.lower()}_{_dtype}", partial(_noise_of_type, _dtype), **_options
        )
_compressed(
    "compressed_plio_1",
    lambda: (ramp(WIDTH, HEIGHT, dtype="i4") % 37 == 0).astype("i2") * 5,
    compression_type="PLIO_1",
)
_compressed(
    "compressed_tiles",
    lambda: noise(WIDTH, HEIGHT, dtype="i4", sigma=9),
    compression_type="RICE_1",
    tile_shape=(11, 17),
)
_compressed(
    "compressed_cube_tiles",
    lambda: noise(17, 13, 7, dtype="i4", sigma=9),
    compression_type="RICE_1",
    tile_shape=(3, 5, 6),
)
for _method in ("RICE_1", "GZIP_2", "HCOMPRESS_1"):
    for _dither, _number in (("none", -1), ("dither_1", 1), ("dither_2", 2)):
        _options = {
            "compression_type": _method,
            "quantize_level": 8.0,
            "quantize_method": _number,
            "dither_seed": 42,
        }
        if _method == "HCOMPRESS_1":
            _options["tile_shape"] = (16, 21)
        _compressed(
            f"compressed_{_method.lower()}_f4_{_dither}",
            lambda: noise(WIDTH, HEIGHT),
            **_options,
        )


def _noise_with_gaps() -> NDArray[np.generic]:
    stored = noise(WIDTH, HEIGHT)
    stored[4, 10:20] = np.nan
    stored[9, :] = 0
    stored[20] = np.nan
    return stored


_compressed(
    "compressed_rice_1_f4_gaps",
    _noise_with_gaps,
    compression_type="RICE_1",
    quantize_level=8.0,
    quantize_method=2,
    dither_seed=7,
)
_compressed(
    "compressed_gzip_2_f4_lossless",
    _noise_with_gaps,
    compression_type="GZIP_2",
    quantize_level=0.0,
)
_compressed(
    "compressed_gzip_1_f8_lossless",
    lambda: noise(WIDTH, HEIGHT, dtype="f8"),
    compression_type="GZIP_1",
    quantize_level=0.0,
)
_compressed(
    "compressed_unsigned_16",
    lambda: noise(WIDTH, HEIGHT, dtype="u2"),
    compression_type="RICE_1",
)


@_family("image", "sky", "gzipped", suffix=".fits.gz")
def _make_gzipped() -> bytes:
    """A whole file gzipped."""
    return gzip.compress(FAMILIES["tan"](), mtime=0)


@_family("image", "sky", "gzipped", "mef", suffix=".fits.gz")
def _make_gzipped_mef() -> bytes:
    """A file of several HDUs gzipped."""
    return gzip.compress(FAMILIES["mef"](), mtime=0)


# ---------------------------------------------------------------- damaged files


@_family("damaged")
def _make_truncated_data() -> bytes:
    """Half of the data is missing."""
    whole = primary(ramp(WIDTH, HEIGHT), sky_cards())
    return whole[: 2880 + WIDTH * HEIGHT * 2]


@_family("damaged")
def _make_truncated_header() -> bytes:
    """The file ends within the header."""
    return primary(ramp(WIDTH, HEIGHT), sky_cards())[:1000]


@_family("damaged")
def _make_truncated_extension() -> bytes:
    """The second HDU is sound, the third is cut short."""
    return FAMILIES["mef"]()[: 2880 * 11 + 700]


@_family("damaged")
def _make_lying_naxis() -> bytes:
    """NAXIS2 says a hundred times what is there."""
    whole = primary(ramp(WIDTH, HEIGHT), sky_cards())
    return whole.replace(
        f"NAXIS2  = {HEIGHT:>20}".encode(), f"NAXIS2  = {HEIGHT * 100:>20}".encode(), 1
    )


@_family("damaged")
def _make_overflowing_naxis() -> bytes:
    """Axis lengths whose product overflows 64 bits."""
    whole = primary(ramp(WIDTH, HEIGHT), sky_cards())
    huge = f"{4_000_000_000_000:>20}"
    whole = whole.replace(f"NAXIS1  = {WIDTH:>20}".encode(), f"NAXIS1  = {huge}".encode(), 1)
    return whole.replace(f"NAXIS2  = {HEIGHT:>20}".encode(), f"NAXIS2  = {huge}".encode(), 1)


@_family("damaged")
def _make_negative_naxis() -> bytes:
    """An axis of negative length."""
    whole = primary(ramp(WIDTH, HEIGHT), sky_cards())
    return whole.replace(f"NAXIS1  = {WIDTH:>20}".encode(), b"NAXIS1  =" + b"-61".rjust(21), 1)


@_family("damaged")
def _make_bad_bitpix() -> bytes:
    """BITPIX of a kind that does not exist."""
    whole = primary(ramp(WIDTH, HEIGHT), sky_cards())
    return whole.replace(b"BITPIX  =" + b"-32".rjust(21), b"BITPIX  =" + b"24".rjust(21), 1)


@_family("damaged")
def _make_no_end() -> bytes:
    """A header without END."""
    return b"".join(
        card_bytes(card) for card in [("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 0)]
    ).ljust(28800)


@_family("damaged")
def _make_text() -> bytes:
    """Text that calls itself FITS."""
    return b"<html><body>404 Not Found</body></html>\n" * 100


@_family("damaged")
def _make_lfs_pointer() -> bytes:
    """A Git LFS pointer in place of the file."""
    return (
        b"version https://git-lfs.github.com/spec/v1\n"
        b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
        b"size 12345\n"
    )


@_family("damaged")
def _make_empty() -> bytes:
    """A file of no bytes."""
    return b""


@_family("damaged", suffix=".fits.gz")
def _make_truncated_gzip() -> bytes:
    """A gzip stream that breaks off."""
    return FAMILIES["gzipped"]()[:2000]


@_family("damaged", suffix=".fits.fz")
def _make_tiles_outside_the_heap() -> bytes:
    """A compressed image whose tile table points behind the end of the heap."""
    whole = bytearray(FAMILIES["compressed_rice_1_i4"]())
    header = fits.getheader(io.BytesIO(bytes(whole)), 1)
    del header
    with fits.open(io.BytesIO(bytes(whole)), disable_image_compression=True) as hdus:
        offset = int(hdus[1].fileinfo()["datLoc"])
    whole[offset + 8 : offset + 16] = (1_000_000_000).to_bytes(4, "big") * 2
    return bytes(whole)


# ---------------------------------------------------------------- broken coordinates


def _broken(name: str, cards: Sequence[CardSpec]) -> None:
    _add(name, lambda: primary(ramp(WIDTH, HEIGHT), cards), "image", "broken_wcs")


_broken(
    "wcs_singular",
    [
        *without(sky_cards(), "CDELT1", "CDELT2"),
        *_matrix("CD", (1e-4, 2e-4, 2e-4, 4e-4)),
    ],
)
_broken("wcs_zero_cdelt", sky_cards(cdelt=(0.0, 2e-4)))
_broken("wcs_huge_crpix", sky_cards(crpix=(1e300, 3.0)))
_broken("wcs_text_crval", [*without(sky_cards(), "CRVAL1"), ("CRVAL1", "unknown")])
_broken("wcs_infinite_crpix", [*without(sky_cards(), "CRPIX1"), "CRPIX1  =                 -INF"])
_broken("wcs_nan_crval", [*without(sky_cards(), "CRVAL2"), "CRVAL2  =                  NaN"])
_broken("wcs_absurd_sip", [*_CD_SIP, ("A_ORDER", 1_000_000), ("B_ORDER", 2)])
_broken("wcs_half_sip", [*_CD_SIP, ("A_ORDER", 2), ("A_2_0", 1e-4)])
_broken(
    "wcs_longitude_alone",
    [
        *without(sky_cards(), "CTYPE2"),
        ("CTYPE2", "LINEAR"),
    ],
)
_broken("wcs_two_projections", [*without(sky_cards(), "CTYPE2"), ("CTYPE2", "DEC--SIN")])
_broken("wcs_unknown_projection", sky_cards("XYZ"))
_broken("wcs_unknown_unit", [*without(sky_cards(), "CUNIT1"), ("CUNIT1", "furlong")])
_broken("wcs_absurd_axes", [*without(sky_cards(), "WCSAXES"), ("WCSAXES", 90_000_000)])
_broken("wcs_unknown_frame", sky_cards(radesys="GAPPT"))
_broken("wcs_helioprojective", sky_cards(ctypes=("HPLN", "HPLT"), radesys=None))

_broken("wcs_nan_crpix", [*without(sky_cards(), "CRPIX2"), "CRPIX2  =                  NaN"])
_broken("wcs_minus_infinite_crpix", [*without(sky_cards(), "CRPIX1"), ("CRPIX1", "-Inf")])
_broken("wcs_endless_crpix", [*without(sky_cards(), "CRPIX1"), "CRPIX1  =              -1.0E999"])
_broken("wcs_crval_beyond_all", sky_cards(crval=(1e300, 2.2)))
_broken("wcs_sip_order_99", [*_CD_SIP, ("A_ORDER", 99), ("B_ORDER", 2)])
_broken("wcs_pv_flood", [*sky_cards("TPV"), *(("PV1_" + str(n), 1e99) for n in range(60))])
_broken("wcs_parameter_100", [*sky_cards("TPV"), ("PV1_100", 1.0)])
_broken("wcs_sky_in_a_table", [*sky_cards("TAB"), ("PS1_0", "NOWHERE"), ("PS2_0", "NOWHERE")])
_broken("wcs_cd_against_pc", [*_CD_TAN, ("PC1_1", 0.5), ("PC2_2", 0.5)])
_broken("wcs_distance_from_parent_pixel", [
    *sky_cards("TPU"), ("PV1_1", 1.0), ("PV2_1", 1.0), ("PV2_3", 1e-5),
])  # fmt: skip
_broken("wcs_short_codes", [
    ("WCSAXES", 2), ("CTYPE1", "RA--TAN"), ("CTYPE2", "DEC-TAN"),
    *without(sky_cards(), "WCSAXES", "CTYPE1", "CTYPE2"),
])  # fmt: skip
_broken("wcs_ecliptic_of_1975", [
    *sky_cards(ctypes=("ELON", "ELAT"), radesys="FK5"), ("EQUINOX", 1975.0),
])  # fmt: skip
_broken("wcs_three_longitudes", [*sky_cards(), ("CTYPE3", "GLON-TAN")])
_broken("wcs_lookup_is_not_there", [*_CD_TAN, ("CPDIS1", "LOOKUP"), *_record("DP1", 7)])


# ---------------------------------------------------------------- faces of a cube


def _cube_faces(code: str) -> bytes:
    """Six faces of a cube (Paper II section 5.6), 85 by 78 of their 90 degrees, on a third axis."""
    cards = [
        ("WCSAXES", 3),
        *without(sky_cards(code, crval=(40.0, 0.0), crpix=(9.0, 7.0), cdelt=(-5.0, 6.0)),
                 "WCSAXES"),
        ("CTYPE3", "CUBEFACE"), ("CRPIX3", 1.0), ("CRVAL3", 0.0), ("CDELT3", 1.0),
    ]  # fmt: skip
    return primary(ramp(17, 13, 6), cards)


for _code in ("TSC", "CSC", "QSC"):
    _add(f"cube_faces_{_code.lower()}", partial(_cube_faces, _code), "image", "faces")


# ---------------------------------------------------------------- lists

FAMILIES: Final[Mapping[str, Callable[[], bytes]]] = {
    name: cache(member.make) for name, member in _MEMBERS.items()
}


def _names(listed: str) -> tuple[str, ...]:
    return tuple(name for name, member in _MEMBERS.items() if listed in member.lists)


IMAGE_FAMILIES: Final = _names("image")
"""Sound files with at least one image of pixels; astropy reads every pixel of them."""
SKY_FAMILIES: Final = _names("sky")
"""Of these, the first image HDU has coordinates on the sky that this service understands."""
FACES_FAMILIES: Final = _names("faces")
"""A third axis counts the faces of a cube around the sky."""
CUBE_FAMILIES: Final = _names("cube")
"""More axes than the two of the sky, in the pixels or in the description only."""
SPECTRAL_FAMILIES: Final = _names("spectral")
"""One axis is spectral, and wavelengths in metres can be told for it."""
TEMPORAL_FAMILIES: Final = _names("temporal")
"""One axis is time."""
POLARIZATION_FAMILIES: Final = _names("polarization")
"""One axis is STOKES."""
COUPLED_FAMILIES: Final = _names("coupled")
"""Cubes whose sky and spectral axes are mixed by the matrix: one cannot be told alone."""
MEF_FAMILIES: Final = _names("mef")
"""The pixels are in extensions, or there is more than one HDU."""
TABLE_WCS_FAMILIES: Final = _names("tables")
"""The coordinates need tables that stand in other HDUs of the file."""
SCALED_FAMILIES: Final = _names("scaled")
"""Stored values are not the physical ones: BSCALE, BZERO or BLANK matter."""
COMPRESSED_FAMILIES: Final = _names("compressed")
"""The image is tile-compressed, in HDU 1."""
GZIPPED_FAMILIES: Final = _names("gzipped")
"""The whole file is gzipped."""
BEYOND_ASTROPY_FAMILIES: Final = _names("beyond_astropy")
"""Coordinates on the sky that this service understands and astropy refuses."""
BROKEN_WCS_FAMILIES: Final = _names("broken_wcs")
"""Sound pixels under coordinates that no position can be computed from."""
TAIL_FAMILIES: Final = _names("tail")
"""One sound image of the sky, and behind it bytes that are no HDU; astropy complains."""
DAMAGED_FAMILIES: Final = _names("damaged")
"""Not sound: nothing, or only the part before the damage, can be read."""
