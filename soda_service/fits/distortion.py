"""Distortions of pixel coordinates, and the tables that an image's coordinates refer to.

A lookup table or a polynomial of this kind takes coordinates of the parent's pixels, so it
moves with the cutout: a polynomial by its offsets, which stand in the image's header, a
table by the CRVAL of its own HDU. A -TAB table takes indices that CRPIX leads to, and
stays as it is.

Sources: FITS WCS Paper III §6 (-TAB), draft Paper IV §2 (records, CPDIS), wcslib's `dis.h`
(TPD, Polynomial), astropy's reading of WCSDVARR and D2IMARR.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Protocol

from soda_service.fits.cards import Header, render_cards
from soda_service.fits.newcards import card
from soda_service.fits.recast import Literal, MovingNumber, with_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from soda_service.geometry.pixelbox import PixelBox


class Move(Protocol):
    """What stands in the place of a card."""

    def __call__(self, box: PixelBox, /) -> bytes:
        """It for the image that *box* cuts out: whole cards, or nothing."""


_RECORD = re.compile("(DP|D2IM)([1-9][0-9]?)([A-Z]?)")
_RECORDS = frozenset((b"DP", b"D2"))
_AXIS_TYPES = frozenset((b"CT",))
_RECORD_VALUE = re.compile(r"\s*([A-Z0-9_.]+)\s*:\s*([^\s:]+)\s*")
_POWER = re.compile(r"TERM\.([0-9]+)\.(?:VAR|AUX)\.[0-9]+")
_LEADING_ZEROS = re.compile(r"(?<=\.)0+(?=[0-9])")
_TAB_AXIS = re.compile("CTYPE([1-9][0-9]?)([A-Z]?)")

_DEFAULT_COEFFICIENT = 1.0
"""Of a term whose COEFF is absent, as wcslib has it."""
_TOO_LARGE = 10_000
"""For a number of axes, terms or versions."""


@dataclass(frozen=True, slots=True)
class ReferredTable:
    """Another HDU of the same file without which an image's coordinates cannot be read."""

    name: str
    """EXTNAME."""
    version: int
    """EXTVER."""
    moves: bool
    """Whether it takes coordinates of the parent's pixels, and must move with the image."""


def referred_tables(header: Header) -> tuple[ReferredTable, ...]:
    """The lookup and -TAB tables that the header names, each once, in their order."""
    found = [*_lookup_tables(header), *_tab_tables(header)]
    return tuple(dict.fromkeys(found))


def _lookup_tables(header: Header) -> Iterator[ReferredTable]:
    for keyword, (kind, records) in distortions(header).items():
        if kind == "LOOKUP":
            versions = [_small(record, 1) for record in records if record.field == "EXTVER"]
            yield ReferredTable(_table_name(keyword), versions[0] if versions else 1, moves=True)
    if header.integer("AXISCORR") is not None:  # how HST wrote D2IMARR before it had records
        yield ReferredTable("D2IMARR", 1, moves=True)


def _table_name(record_keyword: str) -> str:
    return "WCSDVARR" if record_keyword.startswith("DP") else "D2IMARR"


def _tab_tables(header: Header) -> Iterator[ReferredTable]:
    for _, one in header.beginning(_AXIS_TYPES):
        match = _TAB_AXIS.fullmatch(one.keyword)
        if match is None or (one.string or "")[4:].strip() != "-TAB":
            continue
        axis, alternate = match.groups()
        name = header.string(f"PS{axis}_0{alternate}")
        version = header.number(f"PV{axis}_1{alternate}")
        if name and (version is None or isfinite(version)):
            yield ReferredTable(name, 1 if version is None else int(version), moves=False)


def move_lookup_table(
    header: Header, offsets: Sequence[int], *, version: int | None = None
) -> bytes:
    """The complete header of a lookup table (WCSDVARR, D2IMARR) for a cutout.

    *offsets* are the first pixels of the cutout's box (0-based, FITS order); CRVALk goes
    down by them. *version* gives the table another EXTVER, for an image that cannot share
    it with others. The data stay as they are, and so does DATASUM; CHECKSUM is left out.
    """
    pieces: list[bytes] = []
    present: set[int] = set()
    axes = min(len(offsets), header.integer("NAXIS") or 0)
    for one in header:
        keyword = one.keyword
        if keyword == "CHECKSUM":
            continue
        raw = one.raw
        if keyword == "EXTVER" and version is not None:
            raw = card("EXTVER", version)
        elif keyword.startswith("CRVAL") and keyword[5:].isdigit():
            axis = int(keyword[5:])
            present.add(axis)
            if 1 <= axis <= axes:
                raw = MovingNumber(raw).plus(-offsets[axis - 1])
        pieces.append(raw)
    pieces.extend(
        card(f"CRVAL{axis}", 0.0 - offsets[axis - 1])
        for axis in range(1, axes + 1)
        if axis not in present and offsets[axis - 1]
    )
    if version is not None and "EXTVER" not in header:
        pieces.append(card("EXTVER", version))
    return render_cards(*pieces)


class _RecordShift:
    """The number in a record, `DP1 = 'OFFSET.1: 1024.5'` say, less the first pixel of an axis."""

    __slots__ = ("_axis", "_literal", "_prefix", "_raw")

    def __init__(self, raw: bytes, prefix: str, literal: Literal, axis: int) -> None:
        self._raw = raw
        self._prefix = prefix
        self._literal = literal
        self._axis = axis

    def __call__(self, box: PixelBox) -> bytes:
        shift = box.lower[self._axis]
        if not shift:
            return self._raw
        return with_text(self._raw, self._prefix + self._literal.plus(-shift))


class _AbsentRecord:
    """The same record where it was absent, with the value that holds then."""

    __slots__ = ("_default", "_field", "_keyword", "axis")

    def __init__(self, keyword: str, field_name: str, axis: int, default: float = 0.0) -> None:
        self._keyword = keyword
        self._field = field_name
        self._default = default
        self.axis = axis

    def __call__(self, box: PixelBox) -> bytes:
        if not any(box.lower):
            return b""
        return card(self._keyword, f"{self._field}: {self._default - box.lower[self.axis]}")


class _OneMoreTerm:
    """NTERMS of a polynomial to which a constant is added where the box begins elsewhere."""

    __slots__ = ("_raw", "_text")

    def __init__(self, raw: bytes, text: str) -> None:
        self._raw = raw
        self._text = text

    def __call__(self, box: PixelBox) -> bytes:
        return with_text(self._raw, self._text) if any(box.lower) else self._raw


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a distortion, `DP1 = 'AXIS.1: 2'` say (FITS WCS Paper IV §2.2)."""

    at: int
    """Number of its card."""
    raw: bytes
    field: str
    """`AXIS.1`, also where `AXIS.01` stands."""
    prefix: str
    """The text before the number, as it was written."""
    number: str


def distortions(header: Header) -> dict[str, tuple[str, list[Record]]]:
    """Distortions of pixel coordinates by record keyword (DP1, D2IM2, DP1A): kind and records.

    The kind is in capitals: LOOKUP, TPD, POLYNOMIAL.
    """
    found: dict[str, tuple[str, list[Record]]] = {}
    for at, one in header.beginning(_RECORDS):
        match = _RECORD.fullmatch(one.keyword)
        if match is None:
            continue
        family = "CPDIS" if match[1] == "DP" else "D2IMDIS"
        kind = (header.string(f"{family}{match[2]}{match[3]}") or "").strip().upper()
        records = found.setdefault(one.keyword, (kind, []))[1]
        text = one.string
        if text is not None and (value := _RECORD_VALUE.fullmatch(text)):
            prefix = text[: value.start(2)]
            name = _LEADING_ZEROS.sub("", value[1])
            records.append(Record(at, one.raw, name, prefix, value[2]))
    return found


@dataclass(slots=True)
class DistortionMoves:
    """What becomes of the records of a header."""

    replaced: dict[int, Move | bytes] = field(default_factory=dict)
    """By number of the card: its successor, or what makes it for a box."""
    inserted: list[tuple[int, Move]] = field(default_factory=list)
    """What follows the card with this number."""


def distortion_moves(
    header: Header, axes: tuple[int, ...], table_versions: Mapping[tuple[str, int], int]
) -> DistortionMoves:
    """Polynomials in pixel coordinates carry their offsets; lookup tables may be renamed.

    *table_versions* says which lookup tables, by EXTNAME and EXTVER, get another EXTVER.
    """
    moves = DistortionMoves()
    for keyword, (kind, records) in distortions(header).items():
        if kind == "LOOKUP":
            for record in records:
                key = (_table_name(keyword), _small(record, 0))
                if record.field == "EXTVER" and key in table_versions:
                    text = f"{record.prefix}{table_versions[key]}"
                    moves.replaced[record.at] = with_text(record.raw, text)
        elif kind and records:
            _move_polynomial(keyword, records, axes, moves)
    return moves


def _move_polynomial(
    keyword: str, records: list[Record], axes: tuple[int, ...], moves: DistortionMoves
) -> None:
    numbers = {record.field: record for record in records}
    same: defaultdict[str, list[Record]] = defaultdict(list)
    for record in records:
        same[record.field].append(record)
    last = records[-1].at
    count = _small(numbers.get("NAXES"), len(axes))
    for slot in range(1, min(count, len(axes)) + 1):
        # OFFSET.k belongs to the variable k, which is the axis that AXIS.k names.
        axis = _small(numbers.get(f"AXIS.{slot}"), slot) - 1
        if not 0 <= axis < len(axes):
            continue
        name = f"OFFSET.{slot}"
        _move_record(_AbsentRecord(keyword, name, axis), same.get(name, ()), last, moves)
    if _small(numbers.get("DOCORR"), 1) == 0:
        # The function gives no correction but the coordinate itself, a pixel of the parent.
        match = _RECORD.fullmatch(keyword)
        assert match is not None
        _move_result(keyword, int(match[2]) - 1, same, last, moves)


def _move_result(
    keyword: str,
    axis: int,
    fields: Mapping[str, Sequence[Record]],
    last: int,
    moves: DistortionMoves,
) -> None:
    """Less the first pixel of *axis* what the function of these records by field gives.

    *last* is the card after which others are inserted.
    """
    if "NTERMS" in fields and (count := _small(fields["NTERMS"][-1], 0)):
        terms = fields["NTERMS"][-1]
        constant = _last_constant(fields, count)
        if constant is None:
            moves.replaced[terms.at] = _OneMoreTerm(terms.raw, f"{terms.prefix}{count + 1}")
            one_more = _AbsentRecord(keyword, f"TERM.{count + 1}.COEFF", axis)
            moves.inserted.append((last, one_more))
        else:
            name = f"TERM.{constant}.COEFF"
            absent = _AbsentRecord(keyword, name, axis, _DEFAULT_COEFFICIENT)
            _move_record(absent, fields.get(name, ()), last, moves)
    for direction in ("TPD.FWD", "TPD.REV"):
        if any(name.startswith(direction) for name in fields):
            name = f"{direction}.0"
            _move_record(_AbsentRecord(keyword, name, axis), fields.get(name, ()), last, moves)


def _last_constant(fields: Mapping[str, Sequence[Record]], count: int) -> int | None:
    """The number of the last of *count* terms in which no variable has a power but zero.

    Where wcslib takes a polynomial for TPD, of several constants only the last holds; where it
    does not, it adds them up.
    """
    varying = {
        int(match[1])
        for name, records in fields.items()
        if (match := _POWER.fullmatch(name)) and _number(records[-1], 0.0) != 0
    }
    return next((k for k in range(count, 0, -1) if k not in varying), None)


def _move_record(
    absent: _AbsentRecord, found: Sequence[Record], last: int, moves: DistortionMoves
) -> None:
    """Less the first pixel of an axis one record, *found* or *absent*; it then follows *last*."""
    if not found:
        moves.inserted.append((last, absent))
    for record in found:
        try:
            literal = Literal(record.number)
        except ValueError:
            continue
        moves.replaced[record.at] = _RecordShift(record.raw, record.prefix, literal, absent.axis)


def _small(record: Record | None, default: int) -> int:
    """The whole number of a record, `2`, or `2.0` as some write it; below 10,000, not negative."""
    number = default if record is None else _number(record, default)
    return int(number) if 0 <= number < _TOO_LARGE else default


def _number(record: Record, default: float) -> float:
    """The number of a record; the default where there is none to be read."""
    try:
        number = float(record.number.upper().replace("D", "E"))
    except ValueError:
        return default
    return number if isfinite(number) else default
