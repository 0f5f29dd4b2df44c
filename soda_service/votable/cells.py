"""Cells: whole columns of a block written at once, as text or as bytes.

Nothing here knows a format: an encoder is told how one value is written, and how a column
of ordinary values is, where there is a quick way.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, islice, repeat
from math import isfinite
from typing import TYPE_CHECKING, AnyStr, Final, Generic, cast

from pydantic import TypeAdapter

from soda_service.votable.table import Kind, scalar_writer, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from soda_service.votable.table import Column, Field, Value

_LOOKED_AT: Final = 32
"""Values that are looked at before a column is held to have few different ones."""

_JOINED_ROWS: Final = 100
"""Memory above 128 KB comes fresh from the kernel each time, which costs more than its use."""


@dataclass(frozen=True, slots=True)
class ColumnEncoder(Generic[AnyStr]):
    """Writes the cells of one column."""

    one: Callable[[Value], AnyStr]
    """Any value, null too."""
    many: Callable[[Column], Sequence[AnyStr] | None]
    """A whole column to the same effect; None where a value is null or out of the ordinary."""
    has_signed_zeros: bool
    """Whether 0.0 and -0.0, which are equal, are written differently."""

    def encode(self, column: Column) -> tuple[Sequence[AnyStr] | AnyStr, bool]:
        """The cells of *column*, a single one where all are the same; and whether one is null."""
        few = self._few(column)
        if few is not None:
            cells = {value: self.one(value) for value in few}
            if len(cells) == 1:
                return cells[column[0]], None in cells
            return list(map(cells.__getitem__, column)), None in cells
        many = self.many(column)
        if many is not None:
            return many, False
        return list(map(self.one, column)), None in column

    def _few(self, column: Column) -> set[Value] | None:
        """The different values of *column* if they are few; those that are equal, written alike."""
        if len(set(column[:_LOOKED_AT])) > _LOOKED_AT // 2:
            return None
        values = set(column)
        if 2 * len(values) > len(column) or (self.has_signed_zeros and 0 in values):
            return None
        return values


def join_rows(
    columns: Iterable[Sequence[AnyStr] | AnyStr], separator: AnyStr, count: int
) -> Iterator[list[AnyStr]]:
    """The *count* rows of encoded *columns*, some at a time.

    What is the same in all rows is joined once.
    """
    parts: list[Iterable[AnyStr]] = []
    for is_same, neighbours in groupby(columns, lambda cells: isinstance(cells, (str, bytes))):
        if is_same:
            parts.append(repeat(separator.join(cast("Iterable[AnyStr]", neighbours)), count))
        else:
            parts.extend(cast("Iterable[Sequence[AnyStr]]", neighbours))
    rows = map(separator.join, zip(*parts, strict=True))
    while some := list(islice(rows, _JOINED_ROWS)):
        yield some


def text_encoder(field: Field, *, escape: Callable[[str], str], plain: bytes) -> ColumnEncoder[str]:
    """Writes cells of *field* as text, null as nothing.

    *plain* are the ASCII characters that *escape* leaves alone wherever they stand.
    """
    kind = field.kind
    if kind is Kind.TEXT:

        def one(value: Value) -> str:
            return "" if value is None else escape(text_of(value))

        def many(column: Column) -> Sequence[str] | None:
            return cast("Sequence[str]", column) if joined_if_plain(column, plain) else None

        return ColumnEncoder(one, many, has_signed_zeros=False)
    return ColumnEncoder(
        scalar_writer(kind), _QUICK.get(kind, never), has_signed_zeros=kind is Kind.NUMBER
    )


def joined_if_plain(column: Column, plain: bytes) -> bytes | None:
    """A *column* with line feeds between, if it is text of *plain* ASCII characters only."""
    try:
        joined = "\n".join(cast("Sequence[str]", column)).encode("utf-8", "surrogatepass")
    except TypeError:  # a null, say
        return None
    others = joined.translate(None, plain)
    return joined if others == b"\n" * (len(column) - 1) else None


def never(_column: Column) -> None:
    """For columns that are written one value at a time."""


def _integers(column: Column) -> Sequence[str] | None:
    return list(map(str, column)) if set(map(type, column)) == {int} else None


def _numbers(column: Column) -> Sequence[str] | None:
    """As `format_number`, whose `repr` alone would take a quarter of a table's time."""
    if set(map(type, column)) != {float}:
        return None
    numbers = cast("Sequence[float]", column)
    shortest = _FLOATS.dump_json(tuple(numbers))
    # With an exponent, and below 0.0001, Python's spelling differs.
    if not shortest.translate(None, b"0123456789.,-[]") and b"0.0000" not in shortest:
        return shortest[1:-1].decode("ascii").split(",")
    return list(map(repr, numbers)) if isfinite(sum(numbers)) else None


_FLOATS: Final = TypeAdapter(tuple[float, ...])

_QUICK: Final[dict[Kind, Callable[[Column], Sequence[str] | None]]] = {
    Kind.INTEGER: _integers,
    Kind.NUMBER: _numbers,
}
