"""Rows made ready before anybody asks: kept as an answer will have them.

One column, the link, holds URLs, which begin with where a client sees the service. A ready row
is made of links without that beginning, which is put in when the row is sent. In TABLEDATA,
markup between cells is kept as one byte; neither that byte nor the one that marks the place of
the beginning can stand in a cell, for XML has no such characters.
"""

from __future__ import annotations

from itertools import chain, islice
from struct import pack
from typing import TYPE_CHECKING, AnyStr, Final, NamedTuple, cast

from soda_service.votable.binary2 import BinaryColumns, stream_pieces
from soda_service.votable.cells import join_rows
from soda_service.votable.table import clean
from soda_service.votable.tabledata import (
    AFTER_ROWS,
    BEFORE_ROWS,
    BETWEEN_CELLS,
    BETWEEN_ROWS,
    TextColumns,
    escape,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from soda_service.votable.table import Block, Field

_CELL_ENDS: Final = "\x1f"
_LINK_BEGINS: Final = "\x1e"

_ROWS_AT_ONCE: Final = 100
"""As `cells.join_rows`, so that BINARY2 breaks its lines where it always does."""


class ReadyRow(NamedTuple):
    """One row in both serializations."""

    tabledata: bytes
    head: bytes
    """BINARY2 up to the link."""
    link_length: int
    """Characters of the link without its beginning."""
    tail: bytes
    """BINARY2 from there on, that link first."""


class ReadyRows:
    """Makes rows of a table of *fields* ready; *link* is the name of the column of URLs."""

    def __init__(self, fields: Sequence[Field], link: str) -> None:
        """Raises ConfigurationError where there is no such column, or BINARY2 cannot hold one."""
        self._link = [field.name for field in fields].index(link)
        self._texts = TextColumns(fields)
        self._binaries = BinaryColumns(fields)

    def of(self, block: Block) -> list[ReadyRow]:
        """The rows of *block*, whose links lack their beginning.

        A value of the wrong type raises TypeError, ValueError or struct.error.
        """
        count, link = len(block[0]), self._link
        texts = self._texts.of(block)
        texts[link] = [_LINK_BEGINS + text for text in _each(texts[link], count)]
        binaries = self._binaries.of(block)
        # The flags come first; four bytes of length are left out.
        links = [text[4:] for text in _each(binaries[1 + link], count)]
        rows = chain.from_iterable(join_rows(texts, _CELL_ENDS, count))
        heads = chain.from_iterable(join_rows(binaries[: 1 + link], b"", count))
        tails = chain.from_iterable(join_rows([links, *binaries[2 + link :]], b"", count))
        return [
            ReadyRow(row.encode("ascii"), head, len(rest), tail)
            for row, head, rest, tail in zip(rows, heads, links, tails, strict=True)
        ]


def ready_tabledata(blocks: Iterable[Block], beginning: str) -> Iterator[bytes]:
    """What `tabledata_pieces` makes of the rows whose `tabledata` is the only column of *blocks*.

    *beginning* is that of every link.
    """
    link = escape(beginning).encode("ascii")
    before, between, after, cells = (
        text.encode("ascii") for text in (BEFORE_ROWS, BETWEEN_ROWS, AFTER_ROWS, BETWEEN_CELLS)
    )
    cell_ends, link_begins = _CELL_ENDS.encode(), _LINK_BEGINS.encode()
    for (column,) in blocks:
        rows = iter(cast("Sequence[bytes]", column))
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            # Onto short strings: to join three long pieces would copy them once more.
            some[0] = before + some[0]
            some[-1] += after
            yield between.join(some).replace(cell_ends, cells).replace(link_begins, link)


def ready_binary2(blocks: Iterable[Block], beginning: str) -> Iterator[bytes]:
    """What `binary2_pieces` makes of rows: `head`, `link_length` and `tail` are the columns."""
    return stream_pieces(_binary_rows(blocks, clean(beginning).encode("ascii", "replace")))


def _binary_rows(blocks: Iterable[Block], beginning: bytes) -> Iterator[list[bytes]]:
    starts: dict[int, bytes] = {}
    for columns in blocks:
        heads, lengths, tails = cast(
            "tuple[Sequence[bytes], Sequence[int], Sequence[bytes]]", columns
        )
        for length in set(lengths).difference(starts):
            starts[length] = pack(">I", len(beginning) + length) + beginning
        parts = [b""] * (3 * len(heads))
        parts[0::3] = heads
        parts[1::3] = map(starts.__getitem__, lengths)
        parts[2::3] = tails
        for at in range(0, len(parts), 3 * _ROWS_AT_ONCE):
            yield parts[at : at + 3 * _ROWS_AT_ONCE]


def _each(cells: Sequence[AnyStr] | AnyStr, count: int) -> Sequence[AnyStr]:
    """The cell of each of *count* rows."""
    return [cells] * count if isinstance(cells, (str, bytes)) else cells
