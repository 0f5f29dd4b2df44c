"""Rows of searches, made ready once for all the answers that will have them.

They are kept in the catalog, and made there again wherever they are missing or of another
form. The form stands for the columns of the template, the spelling of links, and how this software
writes every sort of value, which a few samples tell.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from hashlib import blake2b
from itertools import cycle, islice
from math import inf, nan
from typing import TYPE_CHECKING, Final, Protocol, cast

from soda_service.discovery.obscore import LINK_COLUMN, ObsCoreTable
from soda_service.errors import ConfigurationError
from soda_service.votable.document import Serialization, load_template
from soda_service.votable.readyrows import ReadyRow, ReadyRows, ready_binary2, ready_tabledata
from soda_service.votable.table import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Self

    from soda_service.discovery.urls import Urls
    from soda_service.votable.table import Block, Field, Value

    Facts = Sequence[Value]
    """Columns of a dataset as `ObsCoreTable.facts` names them."""


class LackingStore(Protocol):
    """What making rows ready needs of a catalog."""

    def write_ready(
        self,
        make: Callable[[Sequence[Facts]], Sequence[ReadyRow | None]],
        columns: Sequence[str],
        *,
        form: int,
    ) -> Iterator[int]:
        """Make every row that lacks it ready; the number of rows looked at, some at a time."""


class ReadyTable:
    """Ready rows of a table, and what makes pieces of a document of them."""

    def __init__(self, rows: ReadyRows, form: int, table: ObsCoreTable) -> None:
        self._rows = rows
        self._table = table
        self.form = form
        """What rows must have been made in to be these."""

    @classmethod
    def of(cls, table: ObsCoreTable) -> Self | None:
        """That of *table*; None where its template cannot be written in every serialization."""
        try:
            rows = _ready_rows(table.fields)
        except ConfigurationError:
            return None
        return cls(rows, _form(table.fields, tuple(table.short_links(_IDENTIFIERS))), table)

    def made(self, rows: Sequence[Facts]) -> list[ReadyRow | None]:
        """*rows* made ready; None for one that holds what its column cannot."""
        if not rows:
            return []
        try:
            return list(self._rows.of(self._table.short_block(rows)))
        except _UNWRITABLE:
            if len(rows) == 1:
                return [None]
            return [made for row in rows for made in self.made([row])]

    def block(
        self,
        cells: Sequence[Sequence[object]],
        facts: Mapping[int, Facts],
        serialization: Serialization,
    ) -> Block:
        """A block of ready rows, their columns first in *cells*; *facts* of those that lack them.

        Raises what an encoder raises for facts that cannot be written.
        """
        names = READY_COLUMNS[serialization]
        if facts:
            cells = list(cells)
            made = self._rows.of(self._table.short_block(list(facts.values())))
            for place, row in zip(facts, made, strict=True):
                cells[place] = [getattr(row, name) for name in names]
        return cast("Block", list(zip(*cells, strict=True)))

    def pieces(self, blocks: Iterable[Block], serialization: Serialization) -> Iterator[bytes]:
        """What stands between the tags of the table, of blocks made by `block`."""
        return _WRITERS[serialization](blocks, self._table.link_beginning)


def make_ready(store: LackingStore, urls: Urls) -> Iterator[int]:
    """Make the rows of SIA answers ready that are not; the number of datasets, some at a time.

    *urls* may be those of any place.
    """
    table = ObsCoreTable(load_template("sia2.xml").fields, urls)
    ready = ReadyTable.of(table)
    if ready is not None:
        yield from store.write_ready(ready.made, table.facts, form=ready.form)


@lru_cache(maxsize=4)
def _ready_rows(fields: tuple[Field, ...]) -> ReadyRows:
    return ReadyRows(fields, LINK_COLUMN)


@lru_cache(maxsize=4)
def _form(fields: tuple[Field, ...], links: tuple[str, ...]) -> int:
    """A number for *fields*, and for what is made of values; *links* are samples of their own."""
    count = max(map(len, _SAMPLES.values())) + 1
    block = [
        links
        if field.name == LINK_COLUMN
        else list(islice(cycle((*_SAMPLES[field.kind], None)), count))
        for field in fields
    ]
    digest = blake2b(digest_size=8)
    for field in fields:
        digest.update(repr((field.name, field.datatype, field.arraysize)).encode())
    for row in _ready_rows(fields).of([list(islice(cycle(column), count)) for column in block]):
        digest.update(repr(row).encode())
    return int.from_bytes(digest.digest(), "big", signed=True)


_IDENTIFIERS: Final = ("ivo://a/b?c", "ivo://A.b/c-d_e~f?g/h i+j%20k&l=m#n'o\"p<q>r?s:t@u", "")

_SAMPLES: Final[dict[Kind, tuple[Value, ...]]] = {
    Kind.TEXT: (
        "plain",
        "",
        "<'\"&>\\]]>",
        "é\u2603\U0001d11e",
        "\t\n\r\x00\x1e\x1f\x7f\x85\ufffe~",
    ),
    Kind.INTEGER: (0, -1, 32767),
    Kind.NUMBER: (0.1, -0.0, 0.0, 1e300, 1e-5, 123456.0, 1e16, nan, inf, -inf),
    Kind.BOOLEAN: (True, False),
}
"""Values that any change of how values are written would write differently."""

READY_COLUMNS: Final = {
    Serialization.TABLEDATA: ("tabledata",),
    Serialization.BINARY2: ("head", "link_length", "tail"),
}
_WRITERS: Final = {
    Serialization.TABLEDATA: ready_tabledata,
    Serialization.BINARY2: ready_binary2,
}
_UNWRITABLE: Final = (TypeError, ValueError, OverflowError, struct.error)
