"""The time axis, as MJD UTC.

Sources: FITS 4.0 §9; Rots et al. (2015), "Paper IV". ERFA is used directly: astropy.time may
look for newer leap seconds or Earth rotation on the network, and no request may.

Of the keywords of §9, TIMEDEL and TIMEPIXR say nothing of where pixels lie (§8 does), TIMSYER and
TIMRDER are errors, and TREFDIR and PLEPHEM tell how somebody came to the times: none is needed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from soda_service.fits.axes import (
    AxisRange,
    axis_problem,
    edge_pixels,
    find_axis,
    linear_values,
    table_problem,
    wcslib_values,
)
from soda_service.fits.wcscards import WcsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from soda_service.fits.wcscards import WcsCards

_SCALES: Final = {
    "UTC": "UTC", "GMT": "UTC", "TAI": "TAI", "IAT": "TAI", "GPS": "GPS", "TT": "TT",
    "TDT": "TT", "ET": "TT", "TDB": "TDB", "TCG": "TCG", "TCB": "TCB", "UT1": "UT1", "UT": "UT1",
}  # fmt: skip
"""Names of time scales (FITS 4.0 table 30) to those told apart here; LOCAL has none."""
_NAMES: Final = {
    len(name): "|".join(one for one in ("TIME", *_SCALES) if len(one) == len(name))
    for name in ("TT", "TAI", "TIME")
}
"""The names of time axes by length."""
_AXIS: Final = re.compile(
    rf"(TIME|{'|'.join(_SCALES)}|LOCAL)(\([^)]*\))?"
    # The 4-3 form: hyphens fill up a name of fewer than four letters.
    rf"|({_NAMES[4]}|(?:{_NAMES[3]})-|(?:{_NAMES[2]})--)-(LOG|TAB)"
)
_SECOND: Final = {
    "": 1.0, "da": 1e1, "h": 1e2, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
    "E": 1e18, "d": 1e-1, "c": 1e-2, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15,
    "a": 1e-18,
}  # fmt: skip
_YEAR: Final = 31557600.0
_SECONDS: Final = {
    **{f"{prefix}s": factor for prefix, factor in _SECOND.items()},
    **{f"{prefix}{year}": _SECOND[prefix] * _YEAR for prefix in ("", "k", "M", "G")
       for year in ("a", "yr")},
    "min": 60.0, "h": 3600.0, "d": 86400.0, "cy": 100 * _YEAR,
    "ta": 365.24219040211236 * 86400, "Ba": 365.2421987817 * 86400,
}  # fmt: skip
"""Seconds in the units of FITS 4.0 §9.3, prefixes of §4.3.1 included.

The lengths of the tropical year (ta) and the Besselian (Ba) are those of J2000 and of J1900.
"""
_SPELT: Final = {
    "sec": "s", "second": "s", "minute": "min", "hr": "h", "hour": "h", "day": "d", "year": "yr",
    "century": "cy", "centuries": "cy",
}  # fmt: skip
"""Units as people write them, in any case and with an s behind or not, as wcslib takes them."""
_AT_THE_OBSERVER: Final = frozenset(
    ("", "TOPOCENT", "TOPOCENTER", "GEOCENTE", "GEOCENTER", "RELOCATA", "RELOCATABLE")
)
"""TREFPOS (FITS 4.0 table 31) where times are those of an observer, within a tenth of a second."""
_UTC_AS_IT_IS: Final = 41317.0
"""MJD of 1972, since when UTC differs from TAI by whole seconds."""
_MJD_ZERO: Final = 2400000.5
_DAY: Final = 86400.0
_GPS_BEHIND_TAI: Final = 19.0
"""Seconds."""


def is_temporal(ctype: str) -> bool:
    """Whether an axis of this CTYPE is one of time."""
    return _AXIS.fullmatch(ctype) is not None


def read_temporal(cards: WcsCards, tables: bytes = b"") -> AxisRange | None:
    """The time axis; None where there is none.

    *tables* are the HDUs that a -TAB axis refers to, as they stand in the file.
    """
    axis = find_axis(cards, _AXIS)
    if axis is None:
        return None
    if problem := axis_problem(cards, axis):
        return AxisRange(axis, np.empty(0), problem)
    try:
        edges = _edges(cards, axis, tables)
    except WcsError as error:
        return AxisRange(axis, np.empty(0), str(error))
    told = np.isfinite(edges)
    if not (told.any() if _algorithm(cards.text("CTYPE", axis)) == "TAB" else told.all()):
        return AxisRange(axis, np.empty(0), f"CTYPE{axis + 1}: some pixels have no time")
    if problem := table_problem(cards, axis, edges):
        return AxisRange(axis, np.empty(0), problem)
    return AxisRange(axis, edges, frame_note=_note(cards))


def _edges(cards: WcsCards, axis: int, tables: bytes) -> NDArray[np.float64]:
    cards.assert_legible("TIMEUNIT", "TIMEOFFS")
    general = cards.texts.get("TIMEUNIT") or "s"
    own = cards.text("CUNIT", axis)
    seconds = _seconds(own, f"CUNIT{axis + 1}") if own else _seconds(general, "TIMEUNIT")
    days = _values(cards, axis, tables) * (seconds / _DAY)
    offset = cards.numbers.get("TIMEOFFS", 0.0)
    if offset:
        days = days + offset * _seconds(general, "TIMEUNIT") / _DAY
    whole, part = _reference(cards)
    scale = _scale(cards, axis)
    told = np.isfinite(days)
    if told.all() or not told.any():
        return _to_utc(whole, part, days, scale)
    edges = np.full_like(days, np.nan)
    edges[told] = _to_utc(whole, part, days[told], scale)
    return edges


def _values(cards: WcsCards, axis: int, tables: bytes) -> NDArray[np.float64]:
    """World coordinates at the edges, in the axis' own unit."""
    algorithm = _algorithm(cards.text("CTYPE", axis))
    pixels = edge_pixels(cards, axis)
    if algorithm == "TAB":
        _, values = wcslib_values(cards, axis, pixels, tables)
        return values
    values = linear_values(cards, axis, pixels)
    if algorithm != "LOG":
        return values
    reference = cards.number("CRVAL", axis, 0.0)
    if reference == 0:
        raise WcsError(f"CRVAL{axis + 1} = 0: a logarithmic axis cannot count from there")
    # Paper III §3.2: the coordinate grows exponentially, with the given slope at CRVAL.
    with np.errstate(over="ignore"):
        return np.asarray(reference * np.exp((values - reference) / reference), dtype=np.float64)


def _algorithm(ctype: str) -> str:
    """`LOG`, `TAB`, or nothing for a linear axis."""
    found = _AXIS.fullmatch(ctype)
    return (found and found[4]) or ""


def _seconds(unit: str, keyword: str) -> float:
    """Seconds in *unit*; WcsError, which names *keyword*, where it is no unit of time."""
    if unit in _SECONDS:
        return _SECONDS[unit]
    lower = unit.lower()
    known = _SPELT.get(lower) or _SPELT.get(lower.removesuffix("s")) or lower
    if known in ("s", "min", "h", "d", "yr", "cy"):
        return _SECONDS[known]
    raise WcsError(f"{keyword} = {unit!r} is no unit of time")


def _note(cards: WcsCards) -> str:
    """What is uncertain: times far from the observer are not brought back to it."""
    if problem := cards.illegible.get("TREFPOS"):
        return f"{problem}: times are taken as the observer's"
    place = cards.texts.get("TREFPOS", "")
    if place.upper() in _AT_THE_OBSERVER:
        return ""
    return f"TREFPOS = {place}: times are taken as the observer's"


def _scale(cards: WcsCards, axis: int) -> str:
    """The scale that CTYPE names, else TIMESYS, else UTC (FITS 4.0 §9.2.1)."""
    ctype = re.split("[(-]", cards.text("CTYPE", axis))[0]
    if ctype == "TIME":
        cards.assert_legible("TIMESYS")
    name = ctype if ctype != "TIME" else cards.texts.get("TIMESYS") or "UTC"
    keyword = f"CTYPE{axis + 1}" if ctype != "TIME" else "TIMESYS"
    base = name.upper().partition("(")[0]
    if base not in _SCALES:
        raise WcsError(f"{keyword} = {name!r} has no known relation to UTC")
    return _SCALES[base]


def _reference(cards: WcsCards) -> tuple[float, float]:
    """MJD of the reference time in the axis' scale, in two parts (FITS 4.0 §9.2.2).

    Of several, MJD goes before JD and JD before the date, and two parts before a single number.
    """
    numbers = cards.numbers
    if cards.assert_legible("MJDREFI", "MJDREFF"):
        return numbers.get("MJDREFI", 0.0), numbers.get("MJDREFF", 0.0)
    if cards.assert_legible("MJDREF"):
        whole = float(np.floor(numbers["MJDREF"]))
        return whole, numbers["MJDREF"] - whole
    if cards.assert_legible("JDREFI", "JDREFF"):
        return numbers.get("JDREFI", 0.0) - 2400000.0, numbers.get("JDREFF", 0.0) - 0.5
    if cards.assert_legible("JDREF"):
        return 0.0, numbers["JDREF"] - _MJD_ZERO
    if cards.assert_legible("DATEREF"):
        return _from_iso(cards.texts["DATEREF"])
    return 0.0, 0.0


def _from_iso(text: str) -> tuple[float, float]:
    import erfa

    found = re.fullmatch(
        r"([+-]?[0-9]{4,5})-([0-9]{2})-([0-9]{2})(?:T([0-9]{2}):([0-9]{2}):([0-9]{2}(?:\.[0-9]*)?))?",
        text.strip(),
    )
    if found is None:
        raise WcsError(f"DATEREF = {text!r} is no date")
    year, month, day = (int(part) for part in found.groups()[:3])
    hour, minute, second = (float(part or 0) for part in found.groups()[3:])
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
        raise WcsError(f"DATEREF = {text!r} is no date")
    try:
        _, whole = erfa.cal2jd(year, month, day)
    except erfa.ErfaError:
        raise WcsError(f"DATEREF = {text!r} is no date") from None
    return float(whole), (hour * 3600 + minute * 60 + second) / _DAY


def _to_utc(
    whole: float, part: float, days: NDArray[np.float64], scale: str
) -> NDArray[np.float64]:
    """MJD UTC of times that are so many *days* of 86400 s after a reference MJD in two parts."""
    import warnings

    import erfa

    if scale == "UT1" or (scale == "UTC" and whole + part < _UTC_AS_IT_IS):
        # UT1 stays within 0.9 s of UTC; the difference is not known without tables. Days of UTC
        # since 1858, say, are meant as MJD: nobody counts leap seconds from there.
        return np.asarray(whole + (part + days), dtype=np.float64)
    with warnings.catch_warnings():
        # Leap seconds of years to come are not known: ERFA says so, and extrapolates.
        warnings.simplefilter("ignore", erfa.ErfaWarning)
        try:
            if scale == "UTC":
                # Time goes by in seconds, of which some days have one more.
                first, second = erfa.utctai(_MJD_ZERO + whole, part)
                tai1, tai2 = np.full_like(days, first), second + days
            else:
                tai1, tai2 = _to_tai(np.full_like(days, _MJD_ZERO + whole), part + days, scale)
            utc1, utc2 = erfa.taiutc(tai1, tai2)
        except erfa.ErfaError as error:
            raise WcsError(f"TIMESYS = {scale}: {error}") from None
    return np.asarray((utc1 - _MJD_ZERO) + utc2, dtype=np.float64)


def _to_tai(
    jd1: NDArray[np.float64], jd2: NDArray[np.float64], scale: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    import erfa

    match scale:
        case "TAI":
            return jd1, jd2
        case "GPS":
            return jd1, jd2 + _GPS_BEHIND_TAI / _DAY
        case "TCG":
            jd1, jd2 = erfa.tcgtt(jd1, jd2)
        case "TCB" | "TDB":
            if scale == "TCB":
                jd1, jd2 = erfa.tcbtdb(jd1, jd2)
            jd1, jd2 = erfa.tdbtt(jd1, jd2, _tdb_less_tt(jd1, jd2))
        case _:
            pass
    tai: tuple[NDArray[np.float64], NDArray[np.float64]] = erfa.tttai(jd1, jd2)
    return tai


def _tdb_less_tt(jd1: NDArray[np.float64], jd2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds of TDB beyond TT, for the centre of the Earth.

    The series has 800 terms for each time. Along a long axis it is taken a tenth of a day apart,
    and on straight lines between, which leave it by less than a nanosecond; over more than
    27 years at so many places that a line leaves it by less than a millionth of a pixel.
    """
    import erfa

    days = (jd1 - jd1[0]) + jd2
    first, last = float(days.min()), float(days.max())
    apart = last - first
    count = int(min(apart / 0.1, 100_000.0)) + 2 if np.isfinite(apart) else len(days)
    if count >= len(days):
        return np.asarray(erfa.dtdb(jd1, jd2, 0.0, 0.0, 0.0, 0.0), dtype=np.float64)
    places = np.linspace(first, last, count)
    found = erfa.dtdb(np.full_like(places, jd1[0]), places, 0.0, 0.0, 0.0, 0.0)
    return np.asarray(np.interp(days, places, found), dtype=np.float64)
