"""Columns and blocks of rows."""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, strategies as st

from soda_service.errors import ConfigurationError
from soda_service.votable.table import (
    CHUNK_BYTES,
    Field,
    Kind,
    LimitedBlocks,
    blocks_of,
    clean,
    format_number,
    gather,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@given(st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn"))))
def test_ordinary_text_is_not_touched_by_cleaning(text: str) -> None:
    """Only control characters, surrogates and non-characters are dropped."""
    assert clean(text) == text


@given(st.floats())
def test_numbers_are_shortest_and_exact(value: float) -> None:
    """The text gives the very number back, and repr is never shorter."""
    text = format_number(value)
    assert float(text) == value or math.isnan(value)
    assert not math.isfinite(value) or len(text) <= len(repr(value))


def test_numpy_numbers_are_written_as_numbers() -> None:
    """Never as `np.float64(1.5)`."""
    assert format_number(np.float64(1.5)) == "1.5"


@given(st.lists(st.tuples(st.integers(), st.text()), max_size=1000))
def test_blocks_hold_the_rows_they_are_made_of(rows: list[tuple[int, str]]) -> None:
    """In their order, none lost, none empty."""
    blocks = list(blocks_of(rows))
    assert list(chain.from_iterable(zip(*block, strict=True) for block in blocks)) == rows
    assert all(len(block[0]) for block in blocks)


@given(st.integers(0, 1000), st.none() | st.integers(0, 1000))
def test_a_limit_cuts_within_a_block(count: int, limit: int | None) -> None:
    """Exactly as many rows as are allowed, and it is known whether there were more."""
    limited = LimitedBlocks(blocks_of((number,) for number in range(count)), limit)
    rows = [number for (numbers,) in limited for number in numbers]
    allowed = count if limit is None else limit
    assert rows == list(range(min(count, allowed)))
    assert limited.overflows is (count > allowed)


def test_what_rows_raise_comes_after_the_rows_before_it() -> None:
    """A table that broke off holds what there was."""

    def failing() -> Iterator[tuple[int]]:
        yield (1,)
        yield (2,)
        raise OSError("gone")

    blocks = blocks_of(failing())
    assert list(next(blocks)) == [(1, 2)]
    with pytest.raises(OSError, match="gone"):
        next(blocks)


def test_rows_of_different_lengths_are_a_bug() -> None:
    """Cells are never moved under the wrong heading."""
    with pytest.raises(ValueError, match="shorter"):
        list(blocks_of([("x", 1.0), ("x",)]))


def test_pieces_are_gathered_into_chunks() -> None:
    """A chunk for each few bytes would cost more than what is in it."""
    pieces = [b"x" * 1000] * 200
    chunks = list(gather(pieces))
    assert b"".join(chunks) == b"".join(pieces)
    assert all(CHUNK_BYTES <= len(chunk) < CHUNK_BYTES + 1000 for chunk in chunks[:-1])
    assert list(gather([])) == []


@pytest.mark.parametrize(
    ("datatype", "arraysize", "kind"),
    [
        ("char", "*", Kind.TEXT),
        ("long", None, Kind.INTEGER),
        ("float", None, Kind.NUMBER),
        ("boolean", None, Kind.BOOLEAN),
    ],
)
def test_kinds(datatype: str, arraysize: str | None, kind: Kind) -> None:
    """What a FIELD holds."""
    assert Field(name="x", datatype=datatype, arraysize=arraysize).kind is kind


@pytest.mark.parametrize(
    "field",
    [
        Field(name="x", datatype="floatComplex"),
        Field(name="x", datatype="double", arraysize="*"),
        Field(name="x", datatype="char"),
    ],
)
def test_columns_that_cannot_be_written_are_refused_at_once(field: Field) -> None:
    """An operator's template is wrong, not the request."""
    with pytest.raises(ConfigurationError, match="'x'"):
        _ = field.kind
