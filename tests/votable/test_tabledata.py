"""TABLEDATA: whatever stands in a cell, a reader gets it back."""

from __future__ import annotations

import math
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from lxml import etree
from support.catalogs import HOSTILE, HOSTILE_AS_READ
from support.documents import assert_valid_votable, read_votable

from soda_service.votable.document import Template, votable_chunks
from soda_service.votable.table import CHUNK_BYTES, blocks_of, clean
from soda_service.votable.tabledata import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from soda_service.votable.table import Value

TEMPLATE = Template(
    "test.xml",
    b"""<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">
      <RESOURCE type="results"><INFO name="QUERY_STATUS" value="OK"/><TABLE>
        <FIELD name="text" datatype="char" arraysize="*"/>
        <FIELD name="number" datatype="double"/>
        <FIELD name="whole" datatype="long"/>
        <FIELD name="truth" datatype="boolean"/>
        <DATA><TABLEDATA/></DATA>
      </TABLE></RESOURCE>
    </VOTABLE>""",
)


def document(rows: Sequence[Sequence[Value]]) -> bytes:
    """A whole document around *rows*."""
    return b"".join(
        votable_chunks(TEMPLATE.fill({}), TEMPLATE.fields, blocks_of(rows), explain=str)
    )


def texts_read(seen: bytes) -> list[str | None]:
    """The contents of all cells, as any XML parser sees them."""
    return [cell.text for cell in etree.fromstring(seen).iter("{*}TD")]


def test_cells_of_every_type_come_back() -> None:
    """Text, doubles, longs and booleans are read by astropy as they were written."""
    rows = [
        ("plain", 1.0, 1, True),
        ("with <tags> & \"quotes\" 'two'", -2.5e-300, -(2**62), False),
        ("", 0.1, 0, True),
    ]
    seen = document(rows)
    assert_valid_votable(seen)
    table = read_votable(seen).get_first_table().array
    for row, read in zip(rows, table, strict=True):
        assert row == tuple(read)


def test_null_is_an_empty_cell() -> None:
    """None is null in every type (VOTable 1.4 §5.5)."""
    seen = document([(None, None, None, None)])
    assert_valid_votable(seen)
    assert texts_read(seen) == [None] * 4
    table = read_votable(seen).get_first_table().array
    assert [bool(table.mask[name][0]) for name in ("number", "whole", "truth")] == [True] * 3


def test_numbers_beyond_the_finite_are_spelled_as_votable_wants() -> None:
    """Python's own inf and nan are not legal in a VOTable."""
    seen = document([("x", value, None, None) for value in (math.inf, -math.inf, math.nan)])
    assert_valid_votable(seen)
    assert texts_read(seen)[1::4] == ["+Inf", "-Inf", "NaN"]
    numbers = read_votable(seen).get_first_table().array["number"].data
    assert np.array_equal(numbers, [math.inf, -math.inf, math.nan], equal_nan=True)


def test_hostile_text_stays_inside_its_cell() -> None:
    """Markup, quotes, control characters and letters of all planes change no structure."""
    seen = document([(HOSTILE, 1.0, 1, True)])
    assert_valid_votable(seen)
    assert texts_read(seen)[0] == HOSTILE_AS_READ


@settings(max_examples=300)
@given(st.text())
def test_any_text_comes_back_but_for_what_xml_cannot_carry(text: str) -> None:
    """In content and in attributes alike, escaping and parsing are inverse."""
    markup = f'<a b="{escape(text)}">{escape(text)}</a>'.encode("ascii")
    read = etree.fromstring(markup)
    assert read.get("b") == clean(text)
    assert (read.text or "") == clean(text)


def test_lone_surrogates_are_dropped() -> None:
    """Undecodable bytes of a file name, say, cannot spoil a document."""
    assert escape("a\ud800b\udcffc") == "abc"


def test_rows_stream() -> None:
    """Chunks come as soon as they are full, and an endless table is no trouble."""
    taken = 0

    def endless() -> Iterator[Sequence[Value]]:
        nonlocal taken
        for row in repeat(("x" * 100, 1.5, 7, True)):
            taken += 1
            yield row

    chunks = votable_chunks(TEMPLATE.fill({}), TEMPLATE.fields, blocks_of(endless()), explain=str)
    next(chunks)
    sizes = [len(next(chunks)) for _ in range(5)]
    assert all(CHUNK_BYTES <= size < 2 * CHUNK_BYTES for size in sizes)
    assert taken * 100 < 12 * CHUNK_BYTES


def test_a_row_with_a_cell_too_few_is_a_bug() -> None:
    """Cells are never moved under the wrong heading."""
    with pytest.raises(ValueError, match="shorter"):
        document([("x", 1.0)])


def test_a_number_in_a_column_of_text_is_a_bug() -> None:
    """A type that does not fit is not written as if it did."""
    with pytest.raises(TypeError, match="text expected"):
        document([(1.0, 1.0, 1, True)])
