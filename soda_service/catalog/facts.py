"""ObsCore facts out of headers.

What a column says comes from the first of these that has it: the collection's constants, the
axes of the image, the collection's keywords, its table of filters, a default. Header text is
hostile: control characters are left out and what remains is cut to a length.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from math import ceil, isfinite
from typing import TYPE_CHECKING, Final

from soda_service.catalog.coverage import cover
from soda_service.catalog.dataset import ObsCore
from soda_service.catalog.dates import (
    has_no_time,
    parse_clock,
    parse_date,
    parse_days,
    to_utc,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from soda_service.catalog.coverage import ScienceImage
    from soda_service.catalog.dataset import Footprint
    from soda_service.config import CollectionConfig, FieldFilter
    from soda_service.fits.cards import Header

TEXT_LIMIT: Final = 200
"""Characters of header text that are kept."""

_DEFAULT_CALIB_LEVEL: Final = 2
_DEFAULT_UCD: Final = "phot.flux.density"
_DAY: Final = 86_400.0
_KILOBYTE: Final = 1000

_TIMES: Final = frozenset({"t_min", "t_max"})
_INTEGERS: Final = frozenset({"calib_level", "t_xel", "em_xel", "pol_xel"})
_NUMBERS: Final = frozenset({
    "s_ra", "s_dec", "s_fov", "s_resolution", "s_pixel_scale", "t_exptime", "t_resolution",
    "em_min", "em_max", "em_res_power",
})  # fmt: skip
_SIGNED: Final = frozenset({"s_dec", "t_min", "t_max"})

_CLOCKS: Final = ("TIME-OBS", "UTC-OBS", "UT", "TIME", "TAIHMS")
"""Keywords that hold the time of day where DATE-OBS holds the date alone."""

_LARGEST_INTEGER: Final = 2**31 - 1

Fact = str | int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What names a dataset."""

    collection: str
    publisher_did: str
    obs_id: str
    """Used where neither constants nor keywords give one."""
    file_size: int
    """Bytes."""


def facts_of(
    identity: Identity,
    config: CollectionConfig,
    headers: Sequence[Header],
    images: Sequence[ScienceImage],
) -> tuple[ObsCore, Footprint | None]:
    """The ObsCore row of a file and where its pixels lie.

    *headers* are looked up in their order, the primary one first; *images* are the science
    images, whose coordinates count.
    """
    coverage = cover(images)
    constants: dict[str, Fact | None] = {
        name: _coerced(name, value, headers) for name, value in config.constants.items()
    }
    keywords: dict[str, Fact | None] = {
        name: value
        for name, words in config.keywords.items()
        if (value := _first_present(name, words, headers)) is not None
    }
    columns: dict[str, Fact | None] = {
        "dataproduct_type": "cube" if coverage.is_cube else "image",
        "calib_level": _DEFAULT_CALIB_LEVEL,
        "obs_id": identity.obs_id,
        "o_ucd": _DEFAULT_UCD,
    }
    keywords |= _filter_name(config, headers)
    columns |= _filter_facts(constants.get("lsst_band") or keywords.get("lsst_band"), config)
    if (beam := _beam(headers)) is not None:
        columns["s_resolution"] = beam
    columns |= keywords
    if (band := _filter_of(keywords.get("lsst_band"), config)) is not None and band.band:
        columns["lsst_band"] = band.band
    columns |= {name: value for name, value in coverage.columns.items() if value is not None}
    columns |= {name: value for name, value in constants.items() if value is not None}
    _complete_times(columns)
    _drop_contradictions(columns)
    names = (name for name in ObsCore.__dataclass_fields__ if name not in _OF_IDENTITY)
    obscore = ObsCore(
        obs_collection=identity.collection,
        obs_publisher_did=identity.publisher_did,
        access_estsize=ceil(identity.file_size / _KILOBYTE),
        **{name: columns.get(name) for name in names},  # type: ignore[arg-type] # coerced by name
    )
    return obscore, coverage.footprint


_OF_IDENTITY: Final = frozenset({"obs_collection", "obs_publisher_did", "access_estsize"})


def clean_text(value: str) -> str:
    """Header text without control characters, blanks made single, cut to 200 characters."""
    visible = "".join(
        " " if unicodedata.category(letter) in {"Cc", "Zl", "Zp"} else letter
        for letter in value[: 10 * TEXT_LIMIT]
        if unicodedata.category(letter) not in {"Cf", "Cs", "Co", "Cn"}
    )
    return " ".join(visible.split())[:TEXT_LIMIT].strip()


def header_value(keyword: str, headers: Iterable[Header]) -> object:
    """The legible value of *keyword* in the first header that has one; None where none has."""
    for header in headers:
        value = header.get(keyword)
        if value is not None and (not isinstance(value, str) or clean_text(value)):
            return value
    return None


def _first_present(name: str, keywords: Iterable[str], headers: Sequence[Header]) -> Fact | None:
    for keyword in keywords:
        value = header_value(keyword, headers)
        if value is None:
            continue
        if name in _TIMES and isinstance(value, str) and has_no_time(value):
            value = _with_clock(value, keyword, headers)
        if (fact := _coerced(name, value, headers)) is not None:
            return fact
    return None


def _coerced(name: str, value: object, headers: Sequence[Header]) -> Fact | None:
    """*value* as the column *name* has it; None where it makes no sense there."""
    if name in _TIMES:
        return _time(value, headers)
    if name == "lsst_band":
        return _text(value) if isinstance(value, str) else None  # a number counts filter wheels
    if name not in _NUMBERS | _INTEGERS:
        return _text(value)
    number = _number(value)
    if number is None or (number < 0 and name not in _SIGNED):
        return None
    if name not in _INTEGERS:
        return number
    whole = int(number)
    limit = 4 if name == "calib_level" else _LARGEST_INTEGER
    return whole if whole == number and whole <= limit else None


def _text(value: object) -> str | None:
    if isinstance(value, bool | complex) or value is None:
        return None
    return clean_text(str(value)) or None


def _number(value: object) -> float | None:
    if isinstance(value, str):
        # What Python takes for a number beyond this (`1_0`, `infinity`) is text in a header.
        if not re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([EeDd][+-]?\d+)?\s*", value, re.ASCII):
            return None
        value = float(value.upper().replace("D", "E"))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) else None


def _time(value: object, headers: Sequence[Header]) -> float | None:
    """MJD, UTC."""
    if isinstance(value, str) and (parsed := parse_date(value)) is not None:
        mjd: float | None = parsed
    else:
        number = _number(value)
        mjd = parse_days(number) if number is not None else None
    scale = header_value("TIMESYS", headers)
    return to_utc(mjd, scale) if mjd is not None and isinstance(scale, str) else mjd


def _with_clock(text: str, keyword: str, headers: Sequence[Header]) -> object:
    """The MJD of a date and of the time of day that an old header gives apart from it."""
    day = parse_date(text)
    if day is None or keyword.upper() not in {"DATE-OBS", "DATE_OBS"}:
        return text
    for name in _CLOCKS:
        clock = header_value(name, headers)
        if isinstance(clock, str) and (fraction := parse_clock(clock)) is not None:
            return day + fraction
    return text


def _filter_of(name: Fact | None, config: CollectionConfig) -> FieldFilter | None:
    """The filter that a header calls *name*: as spelt, in any case, or by its first word."""
    if not isinstance(name, str):
        return None
    folded = {spelling.lower(): one for spelling, one in config.filters.items()}
    word = name.split(maxsplit=1)[0] if name.split() else ""
    return (
        config.filters.get(name)
        or folded.get(name.lower())
        or config.filters.get(word)
        or folded.get(word.lower())
    )


def _filter_name(config: CollectionConfig, headers: Sequence[Header]) -> dict[str, Fact | None]:
    """Of the keywords that may name a filter (one for each wheel, say) the first known one."""
    for keyword in config.keywords.get("lsst_band", ()):
        name = _coerced("lsst_band", header_value(keyword, headers), headers)
        if _filter_of(name, config) is not None:
            return {"lsst_band": name}
    return {}


def _filter_facts(name: Fact | None, config: CollectionConfig) -> dict[str, Fact]:
    found = _filter_of(name, config)
    if found is None:
        return {}
    width = found.em_max - found.em_min
    return {
        "em_min": found.em_min,
        "em_max": found.em_max,
        "em_res_power": found.em_res_power or (found.em_min + found.em_max) / 2 / width,
    }


def _beam(headers: Sequence[Header]) -> float | None:
    """Major axis of a radio image's beam in arcseconds; BMAJ is in degrees by long custom."""
    beam = _number(header_value("BMAJ", headers))
    return beam * 3600 if beam is not None and 0 < beam < 180 else None


def _complete_times(columns: dict[str, Fact | None]) -> None:
    start, end, exposure = (columns.get(name) for name in ("t_min", "t_max", "t_exptime"))
    if isinstance(start, float):
        if not isinstance(end, float) or end < start:
            seconds = exposure if isinstance(exposure, float) else 0.0
            columns["t_max"] = start + seconds / _DAY
    elif isinstance(end, float):
        seconds = exposure if isinstance(exposure, float) else 0.0
        columns["t_min"] = end - seconds / _DAY


def _drop_contradictions(columns: dict[str, Fact | None]) -> None:
    """No fact is better than a wrong one."""
    low, high = columns.get("em_min"), columns.get("em_max")
    if isinstance(low, float) and isinstance(high, float) and low > high:
        columns["em_min"], columns["em_max"] = high, low
    lon, lat = columns.get("s_ra"), columns.get("s_dec")
    if isinstance(lon, float) and not 0 <= lon <= 360:
        columns["s_ra"] = columns["s_dec"] = None
    if isinstance(lat, float) and not -90 <= lat <= 90:
        columns["s_ra"] = columns["s_dec"] = None
    if columns.get("dataproduct_type") is not None:
        columns["dataproduct_type"] = str(columns["dataproduct_type"]).lower()
