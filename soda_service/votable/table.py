"""Tables: their columns, their rows in blocks, and how one value is written as text.

Rows travel in blocks, column by column: most columns of a block hold few different values,
or values that can be written all at once, and both is many times quicker than cell by cell.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, Final

from soda_service.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Column = Sequence["Value"]
    """Values of one field."""

    Block = Sequence[Column]
    """Some rows, at least one, as columns in the order of the fields; all are equally long."""

Value = str | int | float | bool | None
"""What a cell may hold; None is null."""

CHUNK_BYTES: Final = 64 * 1024
"""Chunks are gathered up to this size at least; what is larger goes on without being copied."""

_BLOCK_ROWS: Final = 200
"""Rows of a block made of single rows."""


class Kind(Enum):
    """What sort of values a field holds."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"


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

    @property
    def kind(self) -> Kind:
        """What its values are; raises ConfigurationError for a datatype not written here."""
        if self.datatype in ("char", "unicodeChar") and self.arraysize is not None:
            return Kind.TEXT
        if self.arraysize is None and self.datatype in _SCALARS:
            return _SCALARS[self.datatype]
        raise ConfigurationError(
            f"column {self.name!r}: cannot write datatype {self.datatype!r} "
            f"with arraysize {self.arraysize!r}"
        )


def blocks_of(rows: Iterable[Sequence[Value]]) -> Iterator[Block]:
    """*rows*, each of which has one value for each field, in blocks.

    What *rows* raise comes after the rows before it. Rows of different lengths are
    a bug of the caller and raise ValueError.
    """
    source = iter(rows)
    failure: Exception | None = None
    while failure is None:
        gathered: list[Sequence[Value]] = []
        try:
            gathered.extend(islice(source, _BLOCK_ROWS))
        except Exception as error:  # noqa: BLE001 - raised again below
            failure = error
        if gathered:
            yield tuple(zip(*gathered, strict=True))
        elif failure is None:
            return
    raise failure


class LimitedBlocks:
    """At most a *limit* of the rows of *blocks*; it remembers whether there were more."""

    def __init__(self, blocks: Iterable[Block], limit: int | None) -> None:
        self._blocks = blocks
        self._limit = limit
        self.overflows = False

    def __iter__(self) -> Iterator[Block]:
        left = self._limit
        for block in self._blocks:
            count = len(block[0])
            if left is not None and count > left:
                self.overflows = True
                if left:
                    yield [column[:left] for column in block]
                return
            yield block
            left = None if left is None else left - count


def gather(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """*pieces* joined to chunks of CHUNK_BYTES or more; only the last may be shorter."""
    pending: list[bytes] = []
    length = 0
    for piece in pieces:
        pending.append(piece)
        length += len(piece)
        if length >= CHUNK_BYTES:
            yield b"".join(pending)
            pending.clear()
            length = 0
    if pending:
        yield b"".join(pending)


def clean(text: str) -> str:
    """*text* without the characters that XML 1.0 §2.2 forbids or discourages."""
    return _UNWRITABLE.sub("", text)


def format_number(value: float) -> str:
    """The shortest text that gives *value* back; infinities and NaN as VOTable 1.4 §6 spells them.

    Python's own `inf` and `nan` are not legal there.
    """
    if math.isfinite(value):
        return repr(float(value))
    if math.isnan(value):
        return "NaN"
    return "+Inf" if value > 0 else "-Inf"


def text_of(value: Value) -> str:
    """A value of a text column. Raises TypeError for what is no text."""
    if not isinstance(value, str):
        raise TypeError(f"text expected, got {value!r}")
    return value


def scalar_writer(kind: Kind) -> Callable[[Value], str]:
    """What writes a value of a *kind* that is not TEXT; null is empty.

    A value of another kind is a bug of the caller and raises TypeError or ValueError.
    """
    return _WRITERS[kind]


def _integer(value: Value) -> str:
    return "" if value is None else str(int(value))


def _number(value: Value) -> str:
    return "" if value is None else format_number(float(value))


def _boolean(value: Value) -> str:
    if value is None:
        return ""
    return "true" if value else "false"


_WRITERS: Final[dict[Kind, Callable[[Value], str]]] = {
    Kind.INTEGER: _integer,
    Kind.NUMBER: _number,
    Kind.BOOLEAN: _boolean,
}

_SCALARS: Final = {
    "int": Kind.INTEGER,
    "long": Kind.INTEGER,
    "short": Kind.INTEGER,
    "double": Kind.NUMBER,
    "float": Kind.NUMBER,
    "boolean": Kind.BOOLEAN,
}

_UNWRITABLE: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
