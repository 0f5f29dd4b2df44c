"""CSV and TSV: read by others as they were written."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st
from support.catalogs import HOSTILE, HOSTILE_AS_READ

from soda_service.votable.delimited import Delimited, delimited_chunks
from soda_service.votable.table import Field, blocks_of, clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from soda_service.votable.table import Value

FIELDS = (
    Field(name="text", datatype="char", arraysize="*"),
    Field(name="number", datatype="double"),
    Field(name="whole", datatype="long"),
    Field(name="truth", datatype="boolean"),
    Field(name="more, text", datatype="char", arraysize="*"),
)


def written(form: Delimited, rows: Sequence[Sequence[Value]]) -> str:
    """The whole table."""
    return b"".join(delimited_chunks(form, FIELDS, blocks_of(rows))).decode()


def test_csv_as_it_stands() -> None:
    """RFC 4180: names first, lines end with CR LF, quotes where they are needed."""
    seen = written(
        Delimited.CSV,
        [
            ("plain text", 0.1, -7, True, "a,b"),
            ('say "x"', float("-inf"), 0, False, "two\r\nlines"),
            (None, None, None, None, None),
        ],
    )
    assert seen == (
        'text,number,whole,truth,"more, text"\r\n'
        'plain text,0.1,-7,true,"a,b"\r\n'
        '"say ""x""",-Inf,0,false,"two\r\nlines"\r\n'
        ",,,,\r\n"
    )


def test_tsv_as_it_stands() -> None:
    """Tabs and line ends, which would set cells apart, are led in by a backslash."""
    seen = written(
        Delimited.TSV,
        [
            ("plain, text", 0.1, -7, True, "a\tb"),
            ("back\\slash", float("nan"), 0, False, "two\r\nlines"),
            (None, None, None, None, None),
        ],
    )
    assert seen == (
        "text\tnumber\twhole\ttruth\tmore, text\n"
        "plain, text\t0.1\t-7\ttrue\ta\\tb\n"
        "back\\\\slash\tNaN\t0\tfalse\ttwo\\r\\nlines\n"
        "\t\t\t\t\n"
    )


@given(st.lists(st.tuples(st.text(), st.text()), max_size=50))
def test_csv_comes_back(pairs: list[tuple[str, str]]) -> None:
    """Through the standard library's reader, any text that a VOTable could carry."""
    rows = [(one, 1.5, 2, True, other) for one, other in pairs]
    read = list(csv.reader(io.StringIO(written(Delimited.CSV, rows), newline="")))
    assert [(row[0], row[4]) for row in read[1:]] == [
        (clean(one), clean(other)) for one, other in pairs
    ]


@given(st.lists(st.tuples(st.text(), st.text()), max_size=50))
def test_tsv_comes_back(pairs: list[tuple[str, str]]) -> None:
    """One line for each row; undoing the backslashes gives the text."""
    rows = [(one, 1.5, 2, True, other) for one, other in pairs]
    lines = written(Delimited.TSV, rows).split("\n")[1:-1]
    cells = [line.split("\t") for line in lines]
    undone = [(_undone(row[0]), _undone(row[4])) for row in cells]
    assert undone == [(clean(one), clean(other)) for one, other in pairs]


def _undone(cell: str) -> str:
    plain = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}
    return re.sub(r"\\(.)", lambda match: plain[match[1]], cell)


@pytest.mark.parametrize("form", Delimited)
def test_hostile_text(form: Delimited) -> None:
    """It says the same as in a VOTable."""
    seen = written(form, [(HOSTILE, None, None, None, "é")])
    line = seen.splitlines()[1]
    assert line.endswith("é")
    texts = {
        Delimited.CSV: '"' + HOSTILE_AS_READ.replace('"', '""') + '"',
        Delimited.TSV: HOSTILE_AS_READ.replace("\\", "\\\\"),
    }
    assert line.startswith(texts[form])


def test_a_limit_and_a_failure() -> None:
    """Rows above the limit are left out; rows that fail fail the table."""
    rows = [("a", 1.0, 1, True, "b")] * 5
    chunks = delimited_chunks(Delimited.TSV, FIELDS, blocks_of(rows), limit=3)
    assert b"".join(chunks).count(b"\n") == 4

    def failing() -> Iterator[Sequence[Value]]:
        yield rows[0]
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(delimited_chunks(Delimited.CSV, FIELDS, blocks_of(failing())))
