"""Tables of VOTable 1.4: fields, cells and rows, as pure ASCII text.

Characters beyond ASCII become character references, so that a document says the same
whatever encoding a client assumes (VOTable 1.4 §8 defaults to US-ASCII). Characters that
XML 1.0 cannot carry at all are dropped.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from soda_service.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Value = str | int | float | bool | None
"""What a cell may hold; None is null."""

CHUNK_BYTES: Final = 64 * 1024
"""Rows are gathered into chunks of about this size: each chunk costs its reader a thread hop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A column, as a FIELD element describes it (VOTable 1.4 §4.1)."""

    name: str
    datatype: str
    arraysize: str | None = None
    unit: str | None = None
    ucd: str | None = None
    utype: str | None = None
    xtype: str | None = None
    description: str | None = None
    id: str | None = None
    """The XML ID, by which PARAMs of service descriptors refer to the column."""

    def writer(self) -> Callable[[Value], str]:
        """What turns a value of this column into the content of a TD.

        Raises ConfigurationError for a datatype that is not written here.
        """
        if self.datatype in ("char", "unicodeChar") and self.arraysize is not None:
            return _text_cell
        if self.arraysize is None and self.datatype in _SCALAR_CELLS:
            return _SCALAR_CELLS[self.datatype]
        raise ConfigurationError(
            f"column {self.name!r}: cannot write datatype {self.datatype!r} "
            f"with arraysize {self.arraysize!r}"
        )


def row_chunks(fields: Sequence[Field], rows: Iterable[Sequence[Value]]) -> Iterator[bytes]:
    """The content of TABLEDATA, in chunks of about CHUNK_BYTES.

    Each row has one value for each field, in their order. A value of the wrong type is a
    bug of the caller and raises TypeError or ValueError; what stood before it in the same
    chunk is then lost, never half a row written.
    """
    writers = tuple(field.writer() for field in fields)
    pending: list[str] = []
    length = 0
    for row in rows:
        cells = [write(value) for write, value in zip(writers, row, strict=True)]
        text = f"<TR><TD>{'</TD><TD>'.join(cells)}</TD></TR>\n"
        pending.append(text)
        length += len(text)
        if length >= CHUNK_BYTES:
            yield "".join(pending).encode("ascii")
            pending.clear()
            length = 0
    if pending:
        yield "".join(pending).encode("ascii")


def clean(text: str) -> str:
    """*text* without the characters that XML 1.0 §2.2 forbids or discourages."""
    return _UNWRITABLE.sub("", text)


def escape(text: str) -> str:
    """*text* as ASCII that may stand in element content and in attribute values alike."""
    if _PLAIN(text):
        return text
    return _SPECIAL.sub(_reference, clean(text))


def format_number(value: float) -> str:
    """The shortest text that gives *value* back; infinities and NaN as VOTable 1.4 §6 spells them.

    Python's own `inf` and `nan` are not legal there.
    """
    if math.isfinite(value):
        return repr(float(value))
    if math.isnan(value):
        return "NaN"
    return "+Inf" if value > 0 else "-Inf"


def _text_cell(value: Value) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"text expected, got {value!r}")
    return escape(value)


def _integer_cell(value: Value) -> str:
    return "" if value is None else str(int(value))


def _number_cell(value: Value) -> str:
    return "" if value is None else format_number(float(value))


def _boolean_cell(value: Value) -> str:
    if value is None:
        return ""
    return "true" if value else "false"


def _reference(match: re.Match[str]) -> str:
    character = match.group()
    return _NAMED.get(character) or f"&#{ord(character)};"


_SCALAR_CELLS: Final[dict[str, Callable[[Value], str]]] = {
    "int": _integer_cell,
    "long": _integer_cell,
    "short": _integer_cell,
    "double": _number_cell,
    "float": _number_cell,
    "boolean": _boolean_cell,
}

_PLAIN: Final = re.compile(r"[ !#-%(-;=?-~]*\Z").match
"""Matches text that needs no escaping, which is nearly all of it."""

_UNWRITABLE: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
_SPECIAL: Final = re.compile(r"[^ !#-%(-;=?-~]")
_NAMED: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
