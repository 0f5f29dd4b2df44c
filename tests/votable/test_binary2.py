"""BINARY2: read by others as the TABLEDATA of the same rows is."""

from __future__ import annotations

import base64
import math
import re
import struct
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from support.catalogs import HOSTILE, HOSTILE_AS_READ
from support.documents import assert_valid_votable, complaints_of_stilts, read_votable
from support.programs import require_program

from soda_service.errors import ConfigurationError
from soda_service.votable.binary2 import binary2_pieces
from soda_service.votable.document import Serialization, Template, votable_chunks
from soda_service.votable.table import Field, blocks_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from soda_service.votable.table import Value

TEMPLATE = Template(
    "test.xml",
    b"""<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">
      <RESOURCE type="results"><INFO name="QUERY_STATUS" value="OK"/><TABLE>
        <FIELD name="text" datatype="char" arraysize="*"/>
        <FIELD name="double" datatype="double"/>
        <FIELD name="float" datatype="float"/>
        <FIELD name="long" datatype="long"/>
        <FIELD name="int" datatype="int"/>
        <FIELD name="short" datatype="short"/>
        <FIELD name="boolean" datatype="boolean"/>
        <FIELD name="double8" datatype="double"/>
        <FIELD name="text9" datatype="char" arraysize="*"/>
        <DATA><TABLEDATA/></DATA>
      </TABLE></RESOURCE>
    </VOTABLE>""",
)
FULL = ('a <b> & "c"', 0.1, 1.5, -(2**62), 7, -3, True, math.inf, "last")
EMPTY = (None,) * len(FULL)
GAPS: list[tuple[Value, ...]] = [(*FULL[:at], None, *FULL[at + 1 :]) for at in range(len(FULL))]
ROWS: list[tuple[Value, ...]] = [
    FULL,
    EMPTY,
    ("", -0.0, 0.0, 0, 0, 0, False, -math.inf, ""),
    *GAPS,
]


def document(rows: Sequence[Sequence[Value]], serialization: Serialization) -> bytes:
    """A whole document around *rows*."""
    return b"".join(
        votable_chunks(
            TEMPLATE.fill({}),
            TEMPLATE.fields,
            blocks_of(rows),
            serialization=serialization,
            explain=str,
        )
    )


def stream_of(rows: Sequence[Sequence[Value]]) -> bytes:
    """What the STREAM holds, decoded."""
    return base64.b64decode(b"".join(binary2_pieces(TEMPLATE.fields, blocks_of(rows))))


def test_the_bytes_of_a_row() -> None:
    """Flags from the most significant bit on, then big-endian cells (VOTable 1.4 §5.4)."""
    row = ("ab", 1.0, None, 2, 3, 4, True, None, "")
    expected = (
        bytes([0b00100001, 0])
        + b"\0\0\0\2ab"
        + struct.pack(">dfqih", 1.0, math.nan, 2, 3, 4)
        + b"T"
        + struct.pack(">d", math.nan)
        + b"\0\0\0\0"
    )
    assert stream_of([row]) == expected
    assert stream_of([EMPTY])[:2] == bytes([0b11111111, 0b10000000])


def test_astropy_reads_both_alike() -> None:
    """Values and masks, column by column; an empty text is none in TABLEDATA."""
    binary, text = (
        read_votable(document(ROWS, one)).get_first_table().array for one in Serialization
    )
    for name in binary.dtype.names:
        assert list(binary.mask[name]) == list(text.mask[name]) or binary[name].dtype == object
        for one, other in zip(binary[name].filled(), text[name].filled(), strict=True):
            assert one == other or (one != one and other != other), name  # noqa: PLR0124 - NaN
    assert np.signbit(binary["double"][2])


def test_the_document_is_valid(tmp_path: Path) -> None:
    """Schema, astropy and STILTS find no fault."""
    seen = document(ROWS, Serialization.BINARY2)
    assert_valid_votable(seen)
    assert complaints_of_stilts("votlint", seen, tmp_path) == []


def test_stilts_reads_both_alike(tmp_path: Path) -> None:
    """Every cell."""
    stilts = require_program("stilts")
    said = []
    for one in Serialization:
        file = tmp_path / f"{one}.vot"
        file.write_bytes(document(ROWS, one))
        done = subprocess.run(
            [stilts, "tpipe", f"in={file}", "ifmt=votable", "omode=out", "ofmt=csv"],
            check=False, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said[0] == said[1]
    assert said[0].count("\n") == len(ROWS) + 1


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.none() | st.text(st.characters(codec="ascii")),
            st.none() | st.floats(),
            st.none() | st.floats(width=32),
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.integers(-(2**31), 2**31 - 1),
            st.none() | st.integers(-(2**15), 2**15 - 1),
            st.none() | st.booleans(),
            st.none() | st.floats(),
            st.none() | st.text(st.characters(codec="ascii")),
        ),
        min_size=1,
    )
)
def test_any_rows_are_read_as_they_were_written(rows: list[tuple[Value, ...]]) -> None:
    """By astropy; null where it was null, but for text, which knows none."""
    array = read_votable(document(rows, Serialization.BINARY2)).get_first_table().array
    for at, field in enumerate(TEMPLATE.fields):
        for row, value, is_null in zip(
            rows, array[field.name].data, np.ma.getmaskarray(array[field.name]), strict=True
        ):
            wanted = row[at]
            if isinstance(wanted, str) or field.datatype == "char":
                assert value == re.sub(r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]", "", str(wanted or ""))
            elif wanted is None or wanted != wanted:  # noqa: PLR0124 - NaN
                assert is_null or value != value  # noqa: PLR0124 - what NaN is told by
            else:
                assert (value, is_null) == (wanted, False)


def test_text_beyond_ascii_stays_readable() -> None:
    """Char is ASCII: a reader would stumble over anything else."""
    rows = [(HOSTILE, *EMPTY[1:]), ("é", *EMPTY[1:])]
    read = read_votable(document(rows, Serialization.BINARY2)).get_first_table().array["text"]
    assert list(read) == [HOSTILE_AS_READ.encode("ascii", "replace").decode(), "?"]


def test_rows_stream() -> None:
    """Chunks come as soon as they are full."""
    taken = 0

    def endless() -> Iterator[Sequence[Value]]:
        nonlocal taken
        while True:
            taken += 1
            yield FULL

    pieces = binary2_pieces(TEMPLATE.fields, blocks_of(endless()))
    for _ in range(5):
        next(pieces)
    assert taken < 2000


@pytest.mark.parametrize(("datatype", "arraysize"), [("unicodeChar", "*"), ("char", "8")])
def test_texts_of_another_shape_are_refused(datatype: str, arraysize: str) -> None:
    """No template of ours has any; an operator who writes one is told."""
    field = Field(name="x", datatype=datatype, arraysize=arraysize)
    with pytest.raises(ConfigurationError, match=r"'x'.*BINARY2"):
        list(binary2_pieces([field], [[["a"]]]))


def test_a_number_in_a_column_of_text_is_a_bug() -> None:
    """A type that does not fit is not written as if it did."""
    with pytest.raises(TypeError, match="text expected"):
        stream_of([(1.0, *FULL[1:])])
