"""Ready rows: the same bytes as rows that are written when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings, strategies as st
from support.catalogs import HOSTILE

from soda_service.errors import ConfigurationError
from soda_service.votable.binary2 import binary2_pieces
from soda_service.votable.readyrows import ReadyRows, ready_binary2, ready_tabledata
from soda_service.votable.table import Field
from soda_service.votable.tabledata import tabledata_pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from soda_service.votable.table import Value

TEXTS = st.text() | st.sampled_from(["", "plain", "<TD>", "\x1f", "\x1e", "é", HOSTILE])
NUMBERS = st.floats() | st.sampled_from([0.0, -0.0])
FIELDS = {
    "text": (Field(name="text", datatype="char", arraysize="*"), st.none() | TEXTS),
    "link": (Field(name="link", datatype="char", arraysize="*"), TEXTS),
    "number": (Field(name="number", datatype="double"), st.none() | NUMBERS),
    "whole": (Field(name="whole", datatype="long"), st.none() | st.integers(-(2**63), 2**63 - 1)),
    "truth": (Field(name="truth", datatype="boolean"), st.none() | st.booleans()),
}


@settings(max_examples=200)
@given(
    st.data(),
    st.permutations(list(FIELDS)),
    st.sampled_from(["", "https://a.example/x", "http://b/?a=1&b=<'\">é\x1f"]) | st.text(),
)
def test_ready_rows_say_what_other_rows_say(
    data: st.DataObject, names: Sequence[str], beginning: str
) -> None:
    """In any order of columns, wherever the service is seen."""
    fields = [FIELDS[name][0] for name in names]
    row = st.tuples(*(FIELDS[name][1] for name in names))
    blocks: list[list[list[Value]]] = [
        [list(column) for column in zip(*rows, strict=True)]
        for rows in data.draw(st.lists(st.lists(row, min_size=1, max_size=130), max_size=2))
    ]
    made = [ReadyRows(fields, "link").of(block) for block in blocks]
    link = names.index("link")
    for block in blocks:
        block[link] = [f"{beginning}{text}" for text in block[link]]
    texts: list[Any] = [[[one.tabledata for one in rows]] for rows in made]
    seen = b"".join(ready_tabledata(texts, beginning))
    assert seen == b"".join(tabledata_pieces(fields, blocks))
    columns: list[Any] = [
        list(zip(*((r.head, r.link_length, r.tail) for r in rows), strict=True)) for rows in made
    ]
    assert b"".join(ready_binary2(columns, beginning)) == b"".join(binary2_pieces(fields, blocks))


def test_a_column_that_binary2_cannot_hold_is_refused() -> None:
    fields = [FIELDS["link"][0], Field(name="odd", datatype="char", arraysize="3")]
    with pytest.raises(ConfigurationError, match="odd"):
        ReadyRows(fields, "link")
