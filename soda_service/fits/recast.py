"""A card with another value in its place: the layout stays, the number moves exactly.

Arithmetic is done in decimal on the digits of the card, so that none is lost and none is
invented; style (decimals, exponent letter and width, trailing point) stays as it was.
Source: FITS 4.0 §4.2.3, §4.2.4 (numbers), §4.2.1 (strings).
"""

from __future__ import annotations

import re

from soda_service.fits.cards import CARD_SIZE, FIXED_END, Card, number_span, string_span

_FIELD_START = 10
_LONGEST_VALUE = CARD_SIZE - _FIELD_START
_LITERAL = re.compile(r"\s*([+-]?)([0-9]*)(\.?)([0-9]*)(?:([EeDd])([+-]?)([0-9]+))?\s*")
_LARGEST_EXPONENT = 40
"""Beyond it a number and the same number moved by any axis length are one double."""


class Slot:
    """The place of the value in a card, the rest of which stays as it is."""

    __slots__ = ("_after", "_before", "_comment", "_leading", "_right", "_trailing", "width")

    def __init__(self, raw: bytes, start: int, end: int) -> None:
        """*start* and *end* enclose the old value; equal where it was undefined."""
        text = raw.decode("latin-1").replace("\0", " ")
        after = text[end:]
        comment_at = end + len(after) - len(after.lstrip())
        self._comment = text[comment_at:].rstrip()
        # A number in fixed format ends at column 30, others keep the side they leant on.
        is_fixed = end == FIXED_END and text[start] != "'"
        self._right = start > _FIELD_START or is_fixed or end == start
        self._leading = text[:_FIELD_START]
        if self._right:
            self.width = end - _FIELD_START
            self._trailing = text[end:]
        else:
            if self._comment and comment_at == end and text.endswith(" "):
                # A comment that follows at once gives way by a blank, and then has it for good.
                text = f"{text[:end]} {text[end:-1]}"
                comment_at += 1
            last = max(end, comment_at - 1) if self._comment else CARD_SIZE
            self.width = last - _FIELD_START
            self._trailing = text[_FIELD_START + self.width :]
        self._before, self._after = (
            self._leading.encode("latin-1"),
            self._trailing.encode("latin-1"),
        )

    def fill(self, value: str) -> bytes:
        """The card with *value*; a comment that no longer fits is cut at its end."""
        if len(value) > self.width:
            return self._squeezed(value).encode("latin-1")
        padded = value.rjust(self.width) if self._right else value.ljust(self.width)
        return self._before + padded.encode("latin-1") + self._after

    def decimal_template(self, decimals: int) -> tuple[bytes, int]:
        """The card with a place for what stands before the point and one for the *decimals* after.

        And how many characters the first has room for; none where the value leans to the left.
        """
        whole = self.width - 1 - decimals
        if not self._right or whole < 1:
            return b"", 0
        before, after = (one.replace(b"%", b"%%") for one in (self._before, self._after))
        return before + b"%%%dd.%%0%dd" % (whole, decimals) + after, whole

    def _squeezed(self, value: str) -> str:
        line = self._leading + value
        if self._comment:
            comment_at = _FIELD_START + self.width + len(self._trailing)
            comment_at -= len(self._trailing.lstrip())
            line = f"{line.ljust(comment_at - 1)} {self._comment}"
        return line[:CARD_SIZE].ljust(CARD_SIZE)


def text_slot(raw: bytes) -> Slot:
    """The place of whatever value the card has: a string, a number, or none."""
    card = Card(raw)
    span = string_span(card) or number_span(card)
    if span is None:
        blank = len(raw[_FIELD_START:]) - len(raw[_FIELD_START:].lstrip(b" \0"))
        # An undefined value: there is room up to the comment, or to column 30.
        end = max(_FIELD_START, min(FIXED_END, _FIELD_START + blank - 1))
        return Slot(raw, end, end)
    return Slot(raw, *span)


def with_text(raw: bytes, text: str) -> bytes:
    """The card with a string for its value."""
    quoted = text.replace("'", "''")
    return text_slot(raw).fill(f"'{quoted:8}'")


def with_integer(raw: bytes, value: int) -> bytes:
    """The card with an integer for its value, in fixed format."""
    return IntegerCard(raw).at(value)


class IntegerCard:
    """A card that must have its integer in fixed format (FITS 4.0 §4.4.1)."""

    __slots__ = ("_raw", "_template", "_value")

    def __init__(self, raw: bytes) -> None:
        card = Card(raw)
        span = number_span(card)
        self._raw = raw
        before, after = text_slot(raw).fill("\0" * 20).replace(b"%", b"%%").split(b"\0" * 20)
        self._template = before + b"%20d" + after
        self._value = None
        if span is not None and raw[slice(*span)].isdigit():
            self._value = int(raw[slice(*span)])

    def at(self, value: int) -> bytes:
        """The card with *value*; untouched where it has it already."""
        return self._raw if value == self._value else self._template % value


class Literal:
    """A number as it is written: its digits, where the point stands, and its style."""

    __slots__ = ("_decimals", "_exponent", "_fraction", "_mantissa", "_point", "_power")

    def __init__(self, text: str) -> None:
        """ValueError where *text* is not a number of FITS."""
        found = _LITERAL.fullmatch(text)
        if found is None or not (found[2] or found[4]):
            raise ValueError(f"not a number: {text!r}")
        sign, whole, point, fraction, letter, exponent_sign, exponent = found.groups()
        power = int(f"{exponent_sign}{exponent}") if letter else 0
        self._mantissa = int(f"{sign}{whole}{fraction}")
        self._decimals = len(fraction) - power
        self._point = point
        self._fraction = len(fraction)
        self._exponent = (letter, exponent_sign == "+", len(exponent)) if letter else None
        if power < -_LARGEST_EXPONENT or not self._mantissa:
            self._mantissa, self._decimals = 0, len(fraction)
        elif self._decimals < 0 and power <= _LARGEST_EXPONENT:
            self._mantissa *= 10**-self._decimals
            self._decimals = 0
        self._power = 10**self._decimals if self._decimals >= 0 else 0

    @property
    def decimal(self) -> tuple[int, int, int] | None:
        """Digits as an integer, how many are decimals, ten to that power; None in other styles."""
        plain = self._exponent is None and self._decimals > 0
        return (self._mantissa, self._decimals, self._power) if plain else None

    def plus(self, shift: int) -> str:
        """The number and *shift* together, in the number's own style."""
        mantissa = self._mantissa + shift * self._power
        if self._exponent is not None:
            return self._scientific(mantissa)
        decimals = self._decimals
        if not decimals:
            return f"{mantissa}{self._point}"
        digits = str(abs(mantissa)).zfill(decimals + 1)
        sign = "-" if mantissa < 0 else ""
        return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}"[:_LONGEST_VALUE]

    def _scientific(self, mantissa: int) -> str:
        assert self._exponent is not None
        letter, plus, width = self._exponent
        digits = str(abs(mantissa))
        power = len(digits) - 1 - self._decimals if mantissa else 0
        fraction = digits[1:].rstrip("0").ljust(self._fraction, "0")[: _LONGEST_VALUE - 20]
        exponent_sign = "-" if power < 0 else "+" if plus else ""
        sign = "-" if mantissa < 0 else ""
        point = "." if fraction else self._point
        return f"{sign}{digits[0]}{point}{fraction}{letter}{exponent_sign}{abs(power):0{width}}"


class MovingNumber:
    """A card whose number moves with the pixels; illegible ones stay as they are."""

    __slots__ = (
        "_literal",
        "_mantissa",
        "_power",
        "_quoted",
        "_raw",
        "_room",
        "_slot",
        "_template",
    )

    def __init__(self, raw: bytes) -> None:
        card = Card(raw)
        self._raw = raw
        self._slot = text_slot(raw)
        self._quoted = False
        self._literal: Literal | None = None
        if (span := number_span(card)) is not None:
            self._literal = Literal(raw[slice(*span)].decode("ascii"))
        elif (span := string_span(card)) is not None:
            # Some writers put quotes around their numbers, and some readers read them so.
            self._quoted = True
            self._literal = _literal(raw[span[0] + 1 : span[1] - 1].decode("latin-1"))
        elif _is_undefined(card):
            self._literal = Literal("0.0")
        self._mantissa = self._power = self._room = 0
        self._template = b""
        if self._literal is not None and self._literal.decimal is not None and not self._quoted:
            self._mantissa, decimals, self._power = self._literal.decimal
            self._template, width = self._slot.decimal_template(decimals)
            self._room = 10**width if width > 0 else 0
        """Above what is written before the point of an ordinary number; 0 for all others."""

    def plus(self, shift: int) -> bytes:
        """The card with its number and *shift* together."""
        if not shift or self._literal is None:
            return self._raw
        room = self._room
        if room:
            # What `Literal.plus` would give, without its other cases: it happens in each cutout.
            mantissa = self._mantissa + shift * self._power
            if mantissa >= 0:
                whole, part = divmod(mantissa, self._power)
                if whole < room:
                    return self._template % (whole, part)
            else:
                whole, part = divmod(-mantissa, self._power)
                # The sign needs a place, and a digit behind it.
                if 0 < whole < room // 10:
                    return self._template % (-whole, part)
        text = self._literal.plus(shift)
        return self._slot.fill(f"'{text:8}'" if self._quoted else text)


def _literal(text: str) -> Literal | None:
    try:
        return Literal(text)
    except ValueError:
        return None


def _is_undefined(card: Card) -> bool:
    try:
        return card.value is None
    except ValueError:
        return False
