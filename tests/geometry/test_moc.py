"""MOCs as text, against mocpy."""

from __future__ import annotations

import mocpy
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from support.mocs import reference

from soda_service.errors import UsageError
from soda_service.geometry.healpix import MAX_ORDER, cell_count
from soda_service.geometry.moc import MAX_CELLS, Moc, format_moc, parse_moc


@st.composite
def texts(draw: st.DrawFn) -> list[str]:
    """Runs of cells that may overlap, each with its order."""
    words = []
    for _ in range(draw(st.integers(1, 6))):
        order = draw(st.integers(0, MAX_ORDER))
        first = draw(st.integers(0, cell_count(order) - 1))
        last = min(cell_count(order) - 1, first + draw(st.integers(0, 40)))
        words.append(f"{order}/{first}-{last}" if last > first else f"{order}/{first}")
    return words


@settings(max_examples=150)
@given(words=texts())
def test_a_text_is_read_as_mocpy_reads_it(words: list[str]) -> None:
    moc = parse_moc(" ".join(words))
    expected = mocpy.MOC.from_string(words[0])
    for word in words[1:]:
        expected = expected.union(mocpy.MOC.from_string(word))
    assert moc.order == max(int(word.partition("/")[0]) for word in words)
    np.testing.assert_array_equal(moc.ranges.T, expected.to_depth29_ranges.astype(np.int64))
    assert moc.sky_fraction == pytest.approx(expected.sky_fraction)


@settings(max_examples=150)
@given(words=texts())
def test_what_is_written_is_read_again_here_and_there(words: list[str]) -> None:
    moc = parse_moc(" ".join(words))
    text = format_moc(moc)
    assert parse_moc(text) == moc
    back = reference(moc)
    assert back.max_order == moc.order
    assert format_moc(moc) == " ".join(back.to_string().split())


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("3/10-12 5/45,56 29/", "3/10-12 5/45 56 29/"),
        ("1/1 2 4 2/12-14 21 23 25 8/", "1/1-2 4 2/12-14 21 23 25 8/"),
        ("1/1 2", "1/1-2"),
        ("s5/7", "5/7"),
        ("5/ 7\r\n 8\t9", "5/7-9"),
        ("5/7, 8 ,9", "5/7-9"),
        ("5/9 8 7 7 4/1", "4/1 5/8-9"),
        ("5/0-3", "4/0 5/"),
        ("2/0-191", "0/0-11 2/"),
        ("7/", "7/"),
        ("0/0 0/", "0/0"),
        ("29/3458764513820540927", "29/3458764513820540927"),
        ("07/0012", "7/12"),
    ],
)
def test_texts_and_the_form_that_they_take(text: str, form: str) -> None:
    assert format_moc(parse_moc(text)) == form


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "s", "5", "5 7", "/", "/7", "5/7/8", "30/0", "-1/0", "5/-1", "5/12288", "0/12",
        "5/9-7", "5/7-", "5/-", "5/7--8", "5/1.0", "5/1e2", "5/x", "t61/0", "t61/1 s5/7", "+5/7",
        "5/+7", "5/7\N{NO-BREAK SPACE}8", "5/\N{ARABIC-INDIC DIGIT FIVE}", "5/7;8", "{\"5\":[7]}",
        "5/99999999999999999999999", "CIRCLE 1 2 3", "5/\x00", "5/7 " * (MAX_CELLS + 1),
        "29/" + "1" * 700_000,
    ],
)  # fmt: skip
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^MOC .*, got '"):
        parse_moc(text)


def test_an_order_that_there_is_not_is_quoted() -> None:
    with pytest.raises(UsageError) as caught:
        parse_moc("99/0")
    assert str(caught.value) == "MOC has the order '99', and orders go from 0 to 29, got '99/0'"


@settings(max_examples=200)
@given(text=st.text(alphabet="0123456789/-, st\n", max_size=30) | st.text(max_size=20))
def test_any_text_is_a_moc_or_refused(text: str) -> None:
    try:
        moc = parse_moc(text)
    except UsageError:
        return
    assert parse_moc(format_moc(moc)) == moc


def test_few_words_may_be_many_cells_and_are_bounded() -> None:
    whole = parse_moc("9/0-3145727")
    assert whole.cell_count == 12
    # Every other cell, as runs that share no parent.
    ragged = f"29/1-{cell_count(29) - 2}"
    assert parse_moc(ragged).cell_count < 200
    with pytest.raises(UsageError, match=r"has 20001 cells and may have 20000"):
        parse_moc(" ".join(f"12/{4 * number}-{4 * number + 2}" for number in range(6667)))


def test_a_moc_is_a_value() -> None:
    assert parse_moc("5/7 8") == parse_moc("5/8,7")
    assert len({parse_moc("5/7 8"), parse_moc("5/8,7"), parse_moc("5/7")}) == 2
    with pytest.raises(ValueError, match="read-only"):
        parse_moc("5/7").ranges[0] = 0
    empty = Moc.of(np.empty(0, np.int64), np.empty(0, np.int64), 10)
    assert empty == parse_moc("10/")
    assert (empty.cell_count, empty.sky_fraction) == (0, 0.0)
