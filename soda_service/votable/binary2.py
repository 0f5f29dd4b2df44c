"""BINARY2: rows as base64 of binary numbers (VOTable 1.4 §5.4).

A row is one bit for each field, set where the cell is null, in the fewest bytes; then the
cells, big-endian. Text has the number of its characters before it, 32 bits. A cell of type
char holds ASCII and nothing else (VOTable 1.4 §6; readers stumble over more), so a letter
beyond it becomes `?`.
"""

from __future__ import annotations

import struct
from functools import partial
from operator import add
from struct import pack, unpack
from typing import TYPE_CHECKING, Final

import pybase64

from soda_service.errors import ConfigurationError
from soda_service.votable.cells import ColumnEncoder, join_rows, joined_if_plain, never
from soda_service.votable.table import Kind, clean, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from soda_service.votable.table import Block, Column, Field, Value


def binary2_pieces(fields: Sequence[Field], blocks: Iterable[Block]) -> Iterator[bytes]:
    """The content of a STREAM whose encoding is base64, in pieces.

    A value of the wrong type is a bug of the caller and raises TypeError, ValueError or
    struct.error.
    """
    columns = BinaryColumns(fields)
    return stream_pieces(
        rows for block in blocks for rows in join_rows(columns.of(block), b"", len(block[0]))
    )


def stream_pieces(rows: Iterable[Sequence[bytes]]) -> Iterator[bytes]:
    """The same of *rows*, or of parts of rows, some at a time."""
    # Three bytes are four characters: what is over waits for what comes next.
    over = b""
    for some in rows:
        data = b"".join([over, *some])
        end = len(data) - len(data) % 3
        over = data[end:]
        yield pybase64.b64encode(memoryview(data)[:end]) + b"\n"
    if over:
        yield pybase64.b64encode(over) + b"\n"


class BinaryColumns:
    """Writes blocks of a table of *fields*, column by column."""

    def __init__(self, fields: Sequence[Field]) -> None:
        """Raises ConfigurationError for a field that BINARY2 has no room for here."""
        self._encoders = [_encoder(field) for field in fields]

    def of(self, block: Block) -> list[Sequence[bytes] | bytes]:
        """The flags of each row, then its cells; a single one where all rows have the same."""
        cells: list[Sequence[bytes] | bytes] = []
        nulls: list[list[int]] = []
        size = (len(self._encoders) + 7) // 8
        flag = 1 << 8 * size
        for encoder, column in zip(self._encoders, block, strict=True):
            flag >>= 1
            encoded, has_null = encoder.encode(column)
            cells.append(encoded)
            if has_null:
                nulls.append([flag if value is None else 0 for value in column])
        return [_null_flags(nulls, size), *cells]


def _null_flags(nulls: Sequence[Sequence[int]], size: int) -> Sequence[bytes] | bytes:
    """The flags of each row, or of all where they are the same; *size* bytes each."""
    if not nulls:
        return bytes(size)
    sums = list(map(sum, zip(*nulls, strict=True)))
    flags = {number: number.to_bytes(size, "big") for number in set(sums)}
    return flags[sums[0]] if len(flags) == 1 else [flags[number] for number in sums]


def _encoder(field: Field) -> ColumnEncoder[bytes]:
    match field.kind:
        case Kind.TEXT if field.arraysize == "*" and field.datatype == "char":
            return ColumnEncoder(_text, _texts, has_signed_zeros=False)
        case Kind.TEXT:
            raise ConfigurationError(
                f"column {field.name!r}: cannot write datatype {field.datatype!r} "
                f"with arraysize {field.arraysize!r} as BINARY2"
            )
        case Kind.BOOLEAN:
            return ColumnEncoder(_boolean, never, has_signed_zeros=False)
        case Kind.INTEGER:
            code = _CODES[field.datatype]
            return ColumnEncoder(
                partial(_integer, code), partial(_packed, code), has_signed_zeros=False
            )
        case Kind.NUMBER:
            code = _CODES[field.datatype]
            return ColumnEncoder(
                partial(_number, code), partial(_packed, code), has_signed_zeros=True
            )


def _text(value: Value) -> bytes:
    if value is None:
        return bytes(4)
    text = clean(text_of(value)).encode("ascii", "replace")
    return pack(">I", len(text)) + text


def _texts(column: Column) -> Sequence[bytes] | None:
    joined = joined_if_plain(column, _PRINTABLE)
    if joined is None:
        return None
    texts = joined.split(b"\n")
    lengths = _packed("I", list(map(len, texts)))
    assert lengths is not None
    return list(map(add, lengths, texts))


def _packed(code: str, column: Column) -> Sequence[bytes] | None:
    """The cells of a column of numbers; None where one of them is no number."""
    count = len(column)
    try:
        packed = pack(f">{count}{code}", *column)
    except struct.error:
        return None
    return unpack(f"{len(packed) // count}s" * count, packed)


def _integer(code: str, value: Value) -> bytes:
    return pack(f">{code}", 0 if value is None else int(value))


def _number(code: str, value: Value) -> bytes:
    return pack(f">{code}", _NAN if value is None else float(value))


def _boolean(value: Value) -> bytes:
    if value is None:
        return b"\0"
    return b"T" if value else b"F"


_NAN: Final = float("nan")
_CODES: Final = {"short": "h", "int": "i", "long": "q", "float": "f", "double": "d"}
_PRINTABLE: Final = bytes(range(0x20, 0x7F))
