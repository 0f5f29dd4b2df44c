"""The records of distortions that wcslib computes itself, as far as it can be trusted with them.

wcslib takes counts and numbers of axes, terms and powers from records (`DP1 = 'TERM.2.VAR.1: 3'`)
for sizes and indices of its memory, and looks at few of them. What is not known to be right does
not get there. Source: wcslib's `dis.h`; draft FITS WCS Paper IV §2.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from soda_service.fits.wcscards import WcsError

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST_AXES: Final = 2
_MOST_TERMS: Final = 300
"""A whole polynomial of two variables has as many below degree 23."""
_MOST_AUXILIARIES: Final = 10
_HIGHEST_POWER: Final = 20

_LEADING_ZEROS: Final = re.compile(r"(?<=[._])0+(?=[0-9])")
_COMMON: Final = r"NAXES|DOCORR|(?:AXIS|OFFSET|SCALE)\.[12]"
_POLYNOMIAL: Final = (
    r"NTERMS|NAUX|TERM\.[1-9][0-9]{0,3}\.(?:COEFF|VAR\.[1-9]|AUX\.[1-9][0-9]?)"
    r"|AUX\.[1-9][0-9]?\.(?:COEFF|POWER)\.[0-9]"
)
_WAT: Final = r"WAT\.(?:(?:CHBY|LEGR|MONO)\.[0-9]_[0-9]|POLY|[XY]MIN|[XY]MAX)"
_FIELDS: Final = {
    kind: re.compile(f"{_COMMON}|{own}")
    for kind, own in (
        ("TPD", r"TPD\.(?:FWD|REV)\.[1-5]?[0-9]|AUX\.[12]\.COEFF\.[0-2]"),
        ("TPV", r"TPV\.[1-3]?[0-9]"),
        ("SIP", r"SIP\.(?:FWD|REV)\.[0-9]_[0-9]"),
        ("DSS", r"DSS\.AMD\.(?:[1-9]|1[0-3])"),
        ("WAT-TNX", _WAT),
        ("WAT-ZPX", _WAT),
        ("Polynomial", _POLYNOMIAL),
        ("Polynomial*", _POLYNOMIAL),
    )
}
"""What may stand in the records of each distortion, by its name as wcslib writes it."""

_TERM: Final = re.compile(r"TERM\.([0-9]+)\.(?:COEFF|(VAR|AUX)\.([0-9]+))")
_AUXILIARY: Final = re.compile(r"AUX\.([0-9]+)\.(?:COEFF|POWER)\.([0-9])")


def checked_records(
    distortion: str, keyword: str, kind: str, fields: Mapping[str, float]
) -> dict[str, float]:
    """The records of a distortion for wcslib, by field; WcsError names the card that cannot be.

    *distortion* and *keyword* are those of its cards, `CPDIS1` and `DP1`, *kind* is its name.
    A `Polynomial` that is one constant, for which wcslib has no memory, gets one more term that
    is zero.
    """
    if kind not in _FIELDS:
        raise WcsError(f"{distortion} = {kind!r:.60}: not a distortion that is understood")
    records: dict[str, float] = {}
    for field, value in fields.items():
        name = _LEADING_ZEROS.sub("", field)
        if not _FIELDS[kind].fullmatch(name):
            raise WcsError(f"{_record(keyword, field, value)}: not a record of {kind}")
        records[name] = value
    count = _whole(keyword, records, "NAXES", 1, _MOST_AXES)
    for name in ("AXIS.1", "AXIS.2")[:count]:
        _whole(keyword, records, name, 1, _MOST_AXES, default=1)
    if count == 1 and "AXIS.2" in records:
        raise WcsError(f"{keyword} = 'AXIS.2: {records['AXIS.2']:g}': there is one axis (NAXES)")
    _whole(keyword, records, "DOCORR", 0, 1, default=1)
    if kind.startswith("WAT"):
        _whole(keyword, records, "WAT.POLY", 1, 3)
    if kind.startswith("Polynomial"):
        _check_polynomial(keyword, records, count)
    if kind == "Polynomial" and _is_constant(records):
        return _with_zero_term(keyword, records)
    return records


def _check_polynomial(keyword: str, records: Mapping[str, float], axes: int) -> None:
    """Each index is within the counts, each power one that wcslib computes."""
    auxiliaries = _whole(keyword, records, "NAUX", 0, _MOST_AUXILIARIES, default=0)
    terms = _whole(keyword, records, "NTERMS", 1, _MOST_TERMS)
    if auxiliaries and axes == 1:
        # Of two variables it looks for their distance, and here beyond the first's numbers.
        raise WcsError(f"{_record(keyword, 'NAUX', auxiliaries)}: of a single axis (NAXES)")
    for field, value in records.items():
        if found := _AUXILIARY.fullmatch(field):
            is_within = int(found[1]) <= auxiliaries and int(found[2]) <= axes
        elif found := _TERM.fullmatch(field):
            most = {"VAR": axes, "AUX": auxiliaries}.get(found[2], 0)
            is_within = int(found[1]) <= terms and (not found[2] or int(found[3]) <= most)
            if found[2] and not (0 <= value <= _HIGHEST_POWER and value == int(value)):
                # Of others wcslib 8.6 reads numbers from elsewhere in its memory.
                powers = f"powers are whole numbers from 0 to {_HIGHEST_POWER}"
                raise WcsError(f"{_record(keyword, field, value)}: {powers}")
        else:
            continue
        if not is_within:
            counts = f"NAXES {axes}, NAUX {auxiliaries} and NTERMS {terms} do not allow it"
            raise WcsError(f"{_record(keyword, field, value)}: {counts}")


def _is_constant(records: Mapping[str, float]) -> bool:
    """Whether no term has a power but zero."""
    return not any(
        value and (found := _TERM.fullmatch(field)) and found[2] for field, value in records.items()
    )


def _with_zero_term(keyword: str, records: Mapping[str, float]) -> dict[str, float]:
    """The records of the same constant beside a term of the first variable with coefficient 0."""
    terms = records["NTERMS"]
    if terms != 1:
        # Beside other terms wcslib takes the last constant, without them none: it crashes.
        raise WcsError(f"{_record(keyword, 'NTERMS', terms)}: several terms, none with a variable")
    kept = {
        field: value
        for field, value in records.items()
        if field in {"NAXES", "DOCORR"} or field.startswith("AXIS.")
    }
    constant = records.get("TERM.1.COEFF", 1.0)
    zero = {"TERM.2.COEFF": 0.0, "TERM.2.VAR.1": 1.0}
    return kept | {"NTERMS": 2.0, "TERM.1.COEFF": constant} | zero


def _whole(
    keyword: str,
    records: Mapping[str, float],
    field: str,
    least: int,
    most: int,
    *,
    default: int | None = None,
) -> int:
    """A count among the records, *least* to *most*; WcsError where it is not, or is wanting."""
    value = records.get(field, default)
    if value is None:
        raise WcsError(f"{keyword}: a record {field} is wanted")
    if not (least <= value <= most and value == int(value)):
        wanted = f"a whole number from {least} to {most} is wanted"
        raise WcsError(f"{_record(keyword, field, value)}: {wanted}")
    return int(value)


def _record(keyword: str, field: str, value: float) -> str:
    return f"{keyword} = '{field}: {value:.10g}'"
