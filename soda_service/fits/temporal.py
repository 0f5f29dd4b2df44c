"""The time axis, as MJD UTC.

Source: FITS 4.0 §9. ERFA is used directly: astropy.time may look for newer leap seconds or
Earth rotation on the network, and no request may.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from soda_service.fits.axes import AxisRange, axis_problem, edge_pixels, find_axis, linear_values
from soda_service.fits.wcscards import WcsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from soda_service.fits.wcscards import WcsCards

_SCALES: Final = {
    "UTC": "UTC", "GMT": "UTC", "TAI": "TAI", "IAT": "TAI", "GPS": "GPS", "TT": "TT",
    "TDT": "TT", "ET": "TT", "TDB": "TDB", "TCG": "TCG", "TCB": "TCB", "UT1": "UT1", "UT": "UT1",
}  # fmt: skip
"""Names of time scales (FITS 4.0 table 30) to those told apart here; LOCAL has none."""
_AXIS: Final = re.compile("(TIME|" + "|".join(_SCALES) + r")(\([^)]*\))?")
_SECONDS: Final = {
    "s": 1.0, "d": 86400.0, "D": 86400.0, "a": 31557600.0, "yr": 31557600.0, "cy": 3155760000.0,
    "min": 60.0, "h": 3600.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "ta": 31556925.1944,
    "Ba": 31556925.2595,
}  # fmt: skip
"""Units of FITS 4.0 §9.3."""
_MJD_ZERO: Final = 2400000.5
_DAY: Final = 86400.0
_GPS_BEHIND_TAI: Final = 19.0
"""Seconds."""


def read_temporal(cards: WcsCards) -> AxisRange | None:
    """The time axis; None where there is none."""
    axis = find_axis(cards, _AXIS)
    if axis is None:
        return None
    if problem := axis_problem(cards, axis):
        return AxisRange(axis, np.empty(0), problem)
    try:
        edges = _edges(cards, axis)
    except WcsError as error:
        return AxisRange(axis, np.empty(0), str(error))
    return AxisRange(axis, edges)


def _edges(cards: WcsCards, axis: int) -> NDArray[np.float64]:
    unit = cards.text("CUNIT", axis) or cards.texts.get("TIMEUNIT") or "s"
    if unit not in _SECONDS:
        raise WcsError(f"CUNIT{axis + 1} = {unit!r} is no unit of time")
    days = linear_values(cards, axis, edge_pixels(cards, axis)) * (_SECONDS[unit] / _DAY)
    offset = cards.numbers.get("TIMEOFFS", 0.0)
    if offset:
        general = cards.texts.get("TIMEUNIT") or "s"
        if general not in _SECONDS:
            raise WcsError(f"TIMEUNIT = {general!r} is no unit of time")
        days = days + offset * _SECONDS[general] / _DAY
    whole, part = _reference(cards)
    return _to_utc(whole, part + days, _scale(cards, axis))


def _scale(cards: WcsCards, axis: int) -> str:
    """The scale that CTYPE names, else TIMESYS, else UTC (FITS 4.0 §9.2.1)."""
    ctype = cards.text("CTYPE", axis).partition("(")[0]
    name = ctype if ctype != "TIME" else cards.texts.get("TIMESYS") or "UTC"
    base = name.upper().partition("(")[0]
    if base not in _SCALES:
        raise WcsError(f"TIMESYS = {name!r} has no known relation to UTC")
    return _SCALES[base]


def _reference(cards: WcsCards) -> tuple[float, float]:
    """MJD of the reference time in its own scale, in two parts (FITS 4.0 §9.2.2)."""
    numbers = cards.numbers
    if "MJDREFI" in numbers or "MJDREFF" in numbers:
        return numbers.get("MJDREFI", 0.0), numbers.get("MJDREFF", 0.0)
    if "MJDREF" in numbers:
        whole = float(np.floor(numbers["MJDREF"]))
        return whole, numbers["MJDREF"] - whole
    if "JDREFI" in numbers or "JDREFF" in numbers:
        return numbers.get("JDREFI", 0.0) - 2400000.0, numbers.get("JDREFF", 0.0) - 0.5
    if "JDREF" in numbers:
        return 0.0, numbers["JDREF"] - _MJD_ZERO
    if "DATEREF" in cards.texts:
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


def _to_utc(whole: float, part: NDArray[np.float64], scale: str) -> NDArray[np.float64]:
    """MJD UTC of times of a scale, given as MJD in two parts."""
    import warnings

    import erfa

    jd1, jd2 = np.full_like(part, _MJD_ZERO + whole), part
    if scale in ("UTC", "UT1"):
        # UT1 stays within 0.9 s of UTC; the difference is not known without tables.
        return whole + part
    with warnings.catch_warnings():
        # Leap seconds of years to come are not known: ERFA says so, and extrapolates.
        warnings.simplefilter("ignore", erfa.ErfaWarning)
        try:
            tai1, tai2 = _to_tai(jd1, jd2, scale)
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
            jd1, jd2 = erfa.tdbtt(jd1, jd2, erfa.dtdb(jd1, jd2, 0.0, 0.0, 0.0, 0.0))
        case _:
            pass
    tai: tuple[NDArray[np.float64], NDArray[np.float64]] = erfa.tttai(jd1, jd2)
    return tai
