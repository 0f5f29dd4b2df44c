"""Dates in headers as MJD, UTC.

Source: FITS 4.0 §4.4.2.1 (old and new form of DATE-OBS), §9.1 (ISO 8601), §9.2.1 (TIMESYS).
"""

from __future__ import annotations

import re
from datetime import date
from functools import cache
from math import isfinite
from typing import Final

_ISO: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d(?:\.\d*)?))?)?Z?", re.ASCII
)
_OLD: Final = re.compile(r"(\d\d)/(\d\d)/(\d\d)", re.ASCII)
_CLOCK: Final = re.compile(r"(\d\d?):(\d\d)(?::(\d\d(?:\.\d*)?))?", re.ASCII)

_MJD_ORDINAL: Final = date(1858, 11, 17).toordinal()
_JD_OF_MJD: Final = 2_400_000.5
_SMALLEST_JD: Final = 2_000_000.0
_DAY: Final = 86_400.0

_FROM_TAI: Final = {
    "TAI": 0.0, "IAT": 0.0, "GPS": 19.0,
    # TDB, TCG and TCB differ from TT by less than a minute now; ObsCore's times are of exposures.
    "TT": -32.184, "TDT": -32.184, "ET": -32.184, "TDB": -32.184,
}  # fmt: skip
"""TAI minus each scale, seconds."""


def parse_date(text: str) -> float | None:
    """The MJD of an ISO 8601 date, with or without a time, or of DD/MM/YY; None for other text."""
    text = text.strip()
    if found := _ISO.fullmatch(text):
        year, month, day, hour, minute, second = found.groups()
        clock = _day_fraction(hour or "0", minute or "0", second or "0")
    elif found := _OLD.fullmatch(text):
        day, month, short_year = found.groups()
        year, clock = f"19{short_year}", 0.0
    else:
        return None
    try:
        ordinal = date(int(year), int(month), int(day)).toordinal()
    except ValueError:
        return None
    return None if clock is None else ordinal - _MJD_ORDINAL + clock


def has_no_time(text: str) -> bool:
    """Whether *text* is a date alone."""
    return len(text.strip()) <= len("2000-01-01")


def parse_clock(text: str) -> float | None:
    """The fraction of a day of `hh:mm:ss`; None for other text."""
    found = _CLOCK.fullmatch(text.strip())
    return _day_fraction(*(part or "0" for part in found.groups())) if found else None


def parse_days(number: float) -> float | None:
    """An MJD from an MJD or a JD; None for what can be neither."""
    if not isfinite(number):
        return None
    mjd = number - _JD_OF_MJD if number > _SMALLEST_JD else number
    return mjd if -_SMALLEST_JD < mjd < _SMALLEST_JD else None


def to_utc(mjd: float, scale: str) -> float:
    """*mjd* of the time scale that TIMESYS names, in UTC; of an unknown one, as it is."""
    offset = _FROM_TAI.get(scale.strip().upper())
    if offset is None:
        return mjd
    tai = mjd + offset / _DAY
    return tai - _tai_minus_utc(tai) / _DAY


def _day_fraction(hour: str, minute: str, second: str) -> float | None:
    hours, minutes, seconds = int(hour), int(minute), float(second)
    if hours > 24 or minutes > 59 or seconds >= 61:
        return None
    return (hours * 3600 + minutes * 60 + seconds) / _DAY


def _tai_minus_utc(tai: float) -> float:
    """Seconds by which TAI is ahead; the whole seconds of 1972 and later."""
    ahead = 0.0
    for start, seconds in _leap_seconds():
        if tai < start:
            break
        ahead = seconds
    return ahead


@cache
def _leap_seconds() -> tuple[tuple[float, float], ...]:
    """The MJD (TAI) from which each difference holds, from the installed table."""
    import erfa  # late: only headers in another scale than UTC need it

    return tuple(
        (
            date(int(year), int(month), 1).toordinal() - _MJD_ORDINAL + float(seconds) / _DAY,
            float(seconds),
        )
        for year, month, seconds in erfa.leap_seconds.get().tolist()
        if year >= 1972
    )
