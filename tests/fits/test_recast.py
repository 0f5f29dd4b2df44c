"""Numbers that move in their cards: exact by decimal arithmetic, and nothing beside them moves."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import example, given, strategies as st

from soda_service.fits.cards import CARD_SIZE, Card
from soda_service.fits.recast import MovingNumber

_FIRST = 10
"""Bytes before the value."""
_FIXED_END = 30

_COMMENTS = st.sampled_from(["", " / reference pixel", " / 100% of %d and %%", "/tight"])
_DIGITS = st.text("0123456789", min_size=1, max_size=12)


def _number(sign: str, whole: str, decimals: str) -> str:
    return f"{sign}{whole}.{decimals}"


@given(
    sign=st.sampled_from(["", "-", "+"]),
    whole=_DIGITS,
    decimals=_DIGITS,
    shift=st.integers(-(10**9), 10**9),
    comment=_COMMENTS,
    leans_left=st.booleans(),
)
@example("", "0", "5", -1, " / 100% of %d and %%", False)  # -0.5: a sign before no digit but 0
@example("", "999", "5", 1, "", False)  # one digit more than before
@example("-", "1", "0", 1, "", False)  # zero
@example("", "12", "5", -13, "", False)
def test_a_number_moves_exactly_and_alone(
    sign: str, whole: str, decimals: str, shift: int, comment: str, leans_left: bool
) -> None:
    """The value is that of decimal arithmetic, with as many decimals; the rest stays in place."""
    text = _number(sign, whole, decimals)
    field = text if leans_left else text.rjust(_FIXED_END - _FIRST)
    raw = f"CRPIX1  = {field}{comment}".ljust(CARD_SIZE).encode("ascii")
    moved = MovingNumber(raw).plus(shift)
    assert len(moved) == CARD_SIZE
    if not shift:
        assert moved == raw
        return
    value = moved[_FIRST:].split(b"/")[0].strip().decode("ascii")
    with localcontext() as context:
        context.prec = 60
        assert Decimal(value) == Decimal(text) + shift
    assert len(value.partition(".")[2]) == len(decimals)
    assert moved[:_FIRST] == raw[:_FIRST]
    if not leans_left and len(value) <= _FIXED_END - _FIRST:
        assert moved[_FIRST:_FIXED_END].decode("ascii") == value.rjust(_FIXED_END - _FIRST)
        assert moved[_FIXED_END:] == raw[_FIXED_END:]


@pytest.mark.parametrize("room", [3, 4, 5])
def test_what_needs_more_room_takes_it_and_keeps_its_digits(room: int) -> None:
    """In a field that ends before column 30 a number that grows is still written whole."""
    raw = b"CRPIX1  = " + b"9.5".rjust(room) + b" / " + b"x" * 20
    card = Card(MovingNumber(raw.ljust(CARD_SIZE)).plus(-1_000_000))
    assert card.value == -999990.5
