"""Cards written anew, read back by this reader and by astropy."""

from __future__ import annotations

import string

import pytest
from astropy.io import fits
from hypothesis import assume, given, strategies as st

from soda_service.fits.cards import CARD_SIZE, Card, Header
from soda_service.fits.newcards import card, commentary

_TEXT = st.text(alphabet=string.printable[:95], max_size=300).map(str.rstrip)


@given(
    keyword=st.text(alphabet=string.ascii_uppercase + string.digits + "-_", min_size=1, max_size=8),
    value=st.one_of(
        st.booleans(),
        st.integers(-(10**30), 10**30),
        st.floats(allow_nan=False, allow_infinity=False),
        _TEXT,
        st.none(),
    ),
    comment=st.text(alphabet=string.ascii_letters, max_size=60),
)
def test_cards_written_are_read_back(keyword: str, value: float | str | None, comment: str) -> None:
    """By this reader and by astropy, to the last digit."""
    assume(keyword not in {"COMMENT", "HISTORY", "CONTINUE", "END", "HIERARCH"})
    raw = card(keyword, value, comment)
    assert len(raw) % CARD_SIZE == 0
    header = Header(raw)
    assert header[keyword] == value
    assert type(header[keyword]) is type(value)
    theirs = fits.Header.fromstring(header.render())
    if value is not None and not (isinstance(value, str) and "&" in value):
        # astropy takes a trailing & for the sign of a long string.
        assert theirs[keyword] == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5.0, "5.0"),
        (1e-5, "1.0E-05"),
        (1e22, "1.0E+22"),
        (0.1, "0.1"),
        (-1.5e300, "-1.5E+300"),
        (True, "T"),
        (12, "12"),
    ],
)
def test_numbers_end_at_column_30(value: float, text: str) -> None:
    """Fixed format, the shortest digits that read back."""
    assert card("KEY", value)[:30].decode() == f"KEY     = {text:>20}"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_fits_cannot_express_is_refused(value: float) -> None:
    """FITS has no infinity and no NaN in headers."""
    with pytest.raises(ValueError, match="no card"):
        card("KEY", value)


@pytest.mark.parametrize("keyword", ["", "A=B", "LINE\nFEED", "ÉTÉ"])
def test_what_is_no_keyword_is_refused(keyword: str) -> None:
    """It would be a card that nobody can read."""
    with pytest.raises(ValueError, match="not a keyword"):
        card(keyword, 1)


def test_long_names_become_hierarch() -> None:
    """What does not fit into eight characters."""
    raw = card("ESO DET NAME", "chip", "which")
    assert fits.Header.fromstring(Header(raw).render())["ESO DET NAME"] == "chip"


def test_history_is_broken_at_words_and_loses_none() -> None:
    """Indentation is kept; what is not ASCII is marked."""
    text = "  " + " ".join(["word"] * 40)
    raw = commentary("HISTORY", text)
    lines = [Card(raw[at : at + 80]).text for at in range(0, len(raw), 80)]
    assert all(line.startswith("HISTORY ") for line in lines)
    assert lines[0].startswith("HISTORY   word")
    assert " ".join(line[8:].strip() for line in lines).split() == text.split()
    one, two = commentary("HISTORY", "one"), commentary("HISTORY", "two")
    assert commentary("HISTORY", "one\ntwo") == one + two
    assert b"?" in commentary("COMMENT", "é")
