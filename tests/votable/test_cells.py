"""Columns written at once say the same as cells written one by one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st
from support.catalogs import HOSTILE

from soda_service.votable.binary2 import binary2_pieces
from soda_service.votable.delimited import Delimited, delimited_chunks
from soda_service.votable.table import Field
from soda_service.votable.tabledata import tabledata_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from soda_service.votable.table import Block, Value

FLOATS = st.floats() | st.floats(1e-6, 1e-3) | st.floats(-360, 360) | st.floats(1e14, 1e17)
VALUES: dict[str, st.SearchStrategy[Value]] = {
    "char": st.text() | st.sampled_from(["", "plain", "a,b", "a\tb\nc\\", "<&>", "é", HOSTILE]),
    "double": FLOATS | st.integers(-(2**53), 2**53) | st.sampled_from([0.0, -0.0, math.nan]),
    "long": st.integers(-(2**63), 2**63 - 1),
    "boolean": st.booleans(),
}
FORMS: list[Callable[[Sequence[Field], Iterable[Block]], Iterable[bytes]]] = [
    tabledata_pieces,
    lambda fields, blocks: delimited_chunks(Delimited.CSV, fields, blocks),
    lambda fields, blocks: delimited_chunks(Delimited.TSV, fields, blocks),
]


def column(datatype: str) -> Field:
    """A field of that type."""
    return Field(name="x", datatype=datatype, arraysize="*" if datatype == "char" else None)


def columns_of(datatype: str) -> st.SearchStrategy[list[Value]]:
    """Columns of many and of few different values, with and without nulls."""
    values = VALUES[datatype]
    few = st.lists(values | st.none(), min_size=1, max_size=3)
    return (
        st.lists(values, min_size=1, max_size=80)
        | st.lists(values | st.none(), min_size=1, max_size=80)
        | few.flatmap(lambda some: st.lists(st.sampled_from(some), min_size=1, max_size=80))
    )


@pytest.mark.parametrize("datatype", VALUES)
@settings(max_examples=150)
@given(st.data())
def test_text_of_a_column_is_that_of_its_cells(datatype: str, data: st.DataObject) -> None:
    """In every form of text, whatever the neighbours of a value are."""
    values = data.draw(columns_of(datatype))
    for written in FORMS:
        fields = [column(datatype)]
        none = b"".join(written(fields, []))
        together = b"".join(written(fields, [[values]])).removeprefix(none)
        one_by_one = [b"".join(written(fields, [[[value]]])) for value in values]
        assert together == b"".join(cell.removeprefix(none) for cell in one_by_one)


@pytest.mark.parametrize("datatype", VALUES)
@settings(max_examples=100)
@given(st.data())
def test_binary_columns_are_those_of_their_cells(datatype: str, data: st.DataObject) -> None:
    """The same for bytes, whose base64 goes on across blocks."""
    values = data.draw(columns_of(datatype))
    fields = [column(datatype), column("long")]
    together = binary2_pieces(fields, [[values, list(range(len(values)))]])
    one_by_one = binary2_pieces(fields, [[[value], [at]] for at, value in enumerate(values)])
    assert b"".join(together).replace(b"\n", b"") == b"".join(one_by_one).replace(b"\n", b"")
