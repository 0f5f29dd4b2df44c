"""Header cards, read without losing a byte.

A card is 80 bytes. `Header` keeps every card as it came, legal or not, and reads a value
only when it is asked for; bytes beyond ASCII are read as Latin-1 and survive untouched.
Source: FITS 4.0 §4.1 (keyword records), §4.2 (values; CONTINUE in §4.2.1.2), Appendix A
(grammar), and the registered HIERARCH convention.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar, overload

from soda_service.errors import CorruptFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

CARD_SIZE = 80
"""Bytes of a card (FITS 4.0 §3.3.1)."""

BLOCK_SIZE = 2880
"""Bytes of a FITS block (FITS 4.0 §3.1)."""

FIXED_END = 30
"""Column where numbers and logicals end in fixed format (FITS 4.0 §4.2.2 to §4.2.4)."""

END_CARD = b"END".ljust(CARD_SIZE)

_ENDS = [b"END".ljust(BLOCK_SIZE - size) for size in range(0, BLOCK_SIZE, CARD_SIZE)]
"""What ends a header, by the number of cards before it in its last block."""

_Default = TypeVar("_Default")

Value = bool | int | float | complex | str | None
"""What a card can say; None is an undefined value (FITS 4.0 §4.1.2.3)."""

# A number or logical ends at a blank, a comment or the end of the card. NUL is not legal in
# a header, but it pads values in files of some old writers and reads as a blank here.
_GAP = r"[ \x00]*"
_STRING = re.compile(_GAP + r"'((?:[^']|'')*)'" + _GAP + r"(?:/|$)")
_NUMBER = re.compile(
    _GAP + r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[EeDd][+-]?[0-9]+)?)(?=[ \x00/]|$)"
)
_LOGICAL = re.compile(_GAP + r"([TF])(?=[ \x00/]|$)")
_UNDEFINED = re.compile(_GAP + r"(?:/|$)")
_COMPLEX = re.compile(
    _GAP + r"\(([^,()]*),([^,()]*)\)" + _GAP + r"(?:/|$)",
)
_HIERARCH = b"HIERARCH"
_COMMENTARY = frozenset((b"COMMENT ", b"HISTORY ", b" " * 8))


@dataclass(frozen=True, slots=True)
class Card:
    """One card as it stands in the file."""

    raw: bytes
    """80 bytes."""

    @property
    def keyword(self) -> str:
        """The keyword without its padding; of a HIERARCH card the words after HIERARCH."""
        if (name := _hierarch_name(self.raw)) is not None:
            return name
        return self.raw[:8].rstrip(b" \0").decode("latin-1")

    @property
    def value_start(self) -> int | None:
        """Where the value field begins; None where the card has no value."""
        if self.raw[8:10] == b"= " and self.raw[:8] not in _COMMENTARY:
            return 10
        if self.raw.startswith(b"HIERARCH ") and (equals := self.raw.find(b"=")) > 0:
            return equals + 1
        return None

    @property
    def value(self) -> Value:
        """What this card alone says; ValueError where it says nothing legible."""
        start = self.value_start
        if start is None:
            raise ValueError("the card has no value")
        return parse_value(self.raw[start:].decode("latin-1"))

    @property
    def string(self) -> str | None:
        """The value where it is a string, otherwise None."""
        try:
            value = self.value
        except ValueError:
            return None
        return value if isinstance(value, str) else None

    @property
    def text(self) -> str:
        """The whole card, trailing blanks left out."""
        return self.raw.decode("latin-1").rstrip(" \0")


def parse_value(field: str) -> Value:
    """The value in a value field, which may end with a comment; ValueError where there is none."""
    if found := _NUMBER.match(field):
        return _number(found[1])
    if found := _STRING.match(field):
        return found[1].replace("''", "'").rstrip(" \0")
    if found := _LOGICAL.match(field):
        return found[1] == "T"
    if _UNDEFINED.match(field):
        return None
    if found := _COMPLEX.match(field):
        parts = [_NUMBER.fullmatch(part.strip()) for part in found.groups()]
        if parts[0] and parts[1]:
            return complex(float(_number(parts[0][1])), float(_number(parts[1][1])))
    raise ValueError("the value cannot be read")


def _number(literal: str) -> int | float:
    try:
        return int(literal)
    except ValueError:
        return float(literal.upper().replace("D", "E"))


def _hierarch_name(raw: bytes) -> str | None:
    """The words after HIERARCH in capitals; None for any other card."""
    if not raw.startswith(b"HIERARCH ") or (equals := raw.find(b"=")) < 0:
        return None
    return raw[9:equals].decode("latin-1").strip(" \0").upper()


class Header:
    """The cards of one HDU, END and padding left out; immutable.

    Keywords are looked up without regard to case; the first of several wins. A keyword of
    the HIERARCH convention is named by the words that follow HIERARCH.
    """

    __slots__ = ("_first", "_hierarch", "_raw")

    def __init__(self, raw: bytes) -> None:
        if len(raw) % CARD_SIZE:
            raise ValueError(f"{len(raw)} bytes are not a whole number of cards")
        self._raw = raw
        self._first: dict[bytes, int] | None = None
        self._hierarch: dict[str, int] | None = None

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """The header in *raw*, up to its END card or, where there is none, its last card.

        Raises CorruptFileError where *raw* ends inside a card.
        """
        end = find_end(raw, 0)
        cards = raw if end is None else raw[:end]
        if len(cards) % CARD_SIZE:
            raise CorruptFileError(f"a header of {len(cards)} bytes ends inside a card")
        return cls(cards)

    @property
    def raw(self) -> bytes:
        """The cards, one after the other."""
        return self._raw

    def render(self) -> bytes:
        """The cards with END, padded to whole blocks."""
        return render_cards(self._raw)

    def __len__(self) -> int:
        return len(self._raw) // CARD_SIZE

    def __iter__(self) -> Iterator[Card]:
        for start in range(0, len(self._raw), CARD_SIZE):
            yield Card(self._raw[start : start + CARD_SIZE])

    def beginning(self, prefixes: frozenset[bytes]) -> Iterator[tuple[int, Card]]:
        """Numbered cards with a value whose keywords begin with one of these two letters.

        HIERARCH cards are not among them. Most cards are passed over without being read.
        """
        raw = self._raw
        for at in range(0, len(raw), CARD_SIZE):
            if raw[at : at + 2] in prefixes and raw[at + 8 : at + 10] == b"= ":
                yield at // CARD_SIZE, Card(raw[at : at + CARD_SIZE])

    def __contains__(self, keyword: object) -> bool:
        return isinstance(keyword, str) and self._find(keyword) is not None

    def __getitem__(self, keyword: str) -> Value:
        """The value; None where it is undefined.

        Raises KeyError where no card has the keyword, CorruptFileError where its card
        cannot be read.
        """
        if (start := self._find(keyword)) is None:
            raise KeyError(keyword)
        try:
            return self._value_at(start)
        except ValueError as error:
            text = Card(self._raw[start : start + CARD_SIZE]).text
            raise CorruptFileError(f"{keyword}: {error}: {text!r}") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Header) and self._raw == other._raw

    def __hash__(self) -> int:
        return hash(self._raw)

    def __reduce__(self) -> tuple[type[Self], tuple[bytes]]:
        return type(self), (self._raw,)

    def __repr__(self) -> str:
        return f"<Header of {len(self)} cards>"

    @overload
    def get(self, keyword: str) -> Value: ...

    @overload
    def get(self, keyword: str, default: _Default) -> Value | _Default: ...

    def get(self, keyword: str, default: object = None) -> object:
        """The value, or *default* where it is absent, undefined or illegible."""
        if (start := self._find(keyword)) is None:
            return default
        try:
            value = self._value_at(start)
        except ValueError:
            return default
        return default if value is None else value

    def integer(self, keyword: str) -> int | None:
        """The value where it is an integer, otherwise None."""
        value = self.get(keyword)
        return value if type(value) is int else None

    def number(self, keyword: str) -> float | None:
        """The value where it is a real number, otherwise None."""
        value = self.get(keyword)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        try:
            return float(value)
        except OverflowError:
            return None

    def string(self, keyword: str) -> str | None:
        """The value where it is a string, otherwise None."""
        value = self.get(keyword)
        return value if isinstance(value, str) else None

    def values(self, keyword: str) -> tuple[Value, ...]:
        """The legible values of every card with this keyword, in their order."""
        found: list[Value] = []
        for start in self.positions(keyword):
            try:
                found.append(self._value_at(start * CARD_SIZE))
            except ValueError:
                continue
        return tuple(found)

    def literal(self, keyword: str) -> str | None:
        """The characters of a number as they stand in its card; None where there is none."""
        if (start := self._find(keyword)) is None:
            return None
        card = Card(self._raw[start : start + CARD_SIZE])
        if (span := number_span(card)) is None:
            return None
        return card.raw[slice(*span)].decode("ascii")

    def positions(self, keyword: str) -> tuple[int, ...]:
        """Numbers of the cards with this keyword, the first card of the header being 0."""
        first = self._find(keyword)
        if first is None:
            return ()
        same = self._raw[first : first + 8]
        later = range(first, len(self._raw), CARD_SIZE)
        if same == _HIERARCH:
            name = keyword.upper()
            found = [at for at in later if _hierarch_name(self._card_at(at)) == name]
        else:
            found = [at for at in later if self._raw.startswith(same, at)]
        return tuple(at // CARD_SIZE for at in found)

    def _card_at(self, start: int) -> bytes:
        return self._raw[start : start + CARD_SIZE]

    def _find(self, keyword: str) -> int | None:
        """First byte of the first card with this keyword."""
        if self._first is None:
            starts = range(0, len(self._raw), CARD_SIZE)
            keywords = [self._raw[start : start + 8] for start in starts]
            # Filled backwards, so that the first of several stays.
            self._first = dict(zip(reversed(keywords), reversed(starts), strict=True))
        name = keyword.upper()
        if len(name) <= 8:
            try:
                start = self._first.get(name.ljust(8).encode("latin-1"))
            except UnicodeEncodeError:
                return None
            if start is not None:
                return start
        if _HIERARCH not in self._first:
            return None
        if self._hierarch is None:
            self._hierarch = {}
            for start in range(0, len(self._raw), CARD_SIZE):
                if (found := _hierarch_name(self._card_at(start))) is not None:
                    self._hierarch.setdefault(found, start)
        return self._hierarch.get(name)

    def _value_at(self, start: int) -> Value:
        value = Card(self._card_at(start)).value
        if not isinstance(value, str) or not value.endswith("&"):
            return value
        pieces = [value]
        while pieces[-1].endswith("&"):
            start += CARD_SIZE
            if not self._raw.startswith(b"CONTINUE", start):
                break
            piece = _STRING.match(self._raw[start + 10 : start + CARD_SIZE].decode("latin-1"))
            if piece is None:
                break
            pieces[-1] = pieces[-1][:-1]
            pieces.append(piece[1].replace("''", "'").rstrip(" \0"))
        return "".join(pieces)


def find_end(raw: bytes, start: int) -> int | None:
    """Where the END card lies at or after *start*, where a card must begin; None if nowhere."""
    letters = raw[start::CARD_SIZE]
    number = letters.find(b"E")
    while number >= 0:
        at = start + number * CARD_SIZE
        if raw.startswith(b"END", at) and not raw[at + 3 : at + 8].strip(b" \0"):
            return at
        number = letters.find(b"E", number + 1)
    return None


def render_cards(*pieces: bytes) -> bytes:
    """A complete header: the cards, END, and blanks to whole blocks."""
    return b"".join((*pieces, end_of(sum(map(len, pieces)))))


def end_of(size: int) -> bytes:
    """What ends a header whose cards have *size* bytes: END, and blanks to whole blocks."""
    return _ENDS[size // CARD_SIZE % len(_ENDS)]


def number_span(card: Card) -> tuple[int, int] | None:
    """First byte of a number in its card, and the byte after it; None where there is none."""
    start = card.value_start
    if start is None:
        return None
    found = _NUMBER.match(card.raw.decode("latin-1"), start)
    return found.span(1) if found else None


def string_span(card: Card) -> tuple[int, int] | None:
    """First byte of a string in its card, opening quote, and the byte after the closing one."""
    start = card.value_start
    if start is None:
        return None
    found = _STRING.match(card.raw.decode("latin-1"), start)
    return (found.start(1) - 1, found.end(1) + 1) if found else None
