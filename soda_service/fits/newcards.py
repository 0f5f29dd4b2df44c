"""Cards written anew, where one must be added to a header or put in the place of another.

Source: FITS 4.0 §4.1 and §4.2, in fixed format; CONTINUE in §4.2.1.2; the registered HIERARCH
convention.
"""

from __future__ import annotations

import re
from math import isfinite

from soda_service.fits.cards import CARD_SIZE, FIXED_END

_COMMENTARY_WIDTH = 72
_KEYWORD = re.compile(r"[A-Z0-9_-]{1,8}")


def card(keyword: str, value: float | str | None, comment: str = "") -> bytes:
    """A card, or for a long string a card with its CONTINUE cards: 80 bytes each.

    Numbers are the shortest that read back the same. What is not printable ASCII in a
    string or comment becomes `?`; a comment that does not fit is cut. Raises ValueError for
    a keyword that cannot be written, and for a number that FITS cannot express.
    """
    name = keyword.upper()
    if _KEYWORD.fullmatch(name):
        prefix = f"{name:8}= "
    elif name and name.isascii() and name.isprintable() and "=" not in name:
        prefix = f"HIERARCH {name} = "
    else:
        raise ValueError(f"not a keyword: {keyword!r}")
    if isinstance(value, str):
        return _string_cards(prefix, _printable(value), _printable(comment))
    text = format_value(value)
    line = f"{prefix}{text:>{max(0, FIXED_END - len(prefix))}}"
    if len(line) > CARD_SIZE:
        raise ValueError(f"{keyword} = {text} does not fit into a card")
    return _with_comment(line, _printable(comment))


def commentary(keyword: str, text: str) -> bytes:
    """COMMENT, HISTORY or blank-keyword cards that hold *text*, broken at blanks where it can be.

    What is not printable ASCII becomes `?`; line feeds begin a new card.
    """
    if len(text) <= _COMMENTARY_WIDTH and text.isascii() and text.isprintable():
        return f"{keyword:8}{text:{_COMMENTARY_WIDTH}}".encode("ascii")
    cards: list[str] = []
    for line in text.split("\n"):
        rest = _printable(line)
        while len(rest) > _COMMENTARY_WIDTH:
            cut = rest.rfind(" ", 1, _COMMENTARY_WIDTH + 1)
            cut = _COMMENTARY_WIDTH if cut < _COMMENTARY_WIDTH // 2 else cut
            cards.append(rest[:cut])
            rest = rest[cut:].removeprefix(" ")
        cards.append(rest)
    return "".join(f"{keyword:8}{line:{_COMMENTARY_WIDTH}}" for line in cards).encode("ascii")


def format_value(value: float | None) -> str:
    """A value as it stands in a card, padding left out. Raises ValueError for NaN and infinity."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, int):
        return str(value)
    if not isfinite(value):
        raise ValueError(f"FITS has no card for {value}")
    mantissa, exponent, power = repr(value).upper().partition("E")
    if "." not in mantissa:
        mantissa += ".0"
    return mantissa + exponent + power


def _string_cards(prefix: str, text: str, comment: str) -> bytes:
    quoted = text.replace("'", "''")
    if len(prefix) + len(quoted) + 2 <= CARD_SIZE:
        return _with_comment(f"{prefix}'{quoted:8}'", comment)
    if len(prefix) > FIXED_END:
        raise ValueError(f"a string of {len(text)} characters does not fit after {prefix!r}")
    cards = []
    rest = quoted
    start = prefix
    while len(rest) > (width := CARD_SIZE - len(start) - 2):
        cut = width - 1
        # A doubled quote is one character and is not torn apart.
        cut -= (len(rest[:cut]) - len(rest[:cut].rstrip("'"))) % 2
        cards.append(_with_comment(f"{start}'{rest[:cut]}&'", ""))
        rest, start = rest[cut:], "CONTINUE  "
    cards.append(_with_comment(f"{start}'{rest}'", comment))
    return b"".join(cards)


def _with_comment(line: str, comment: str) -> bytes:
    if comment and len(line) + 3 < CARD_SIZE:
        line = f"{line:{FIXED_END}} / {comment}"
    return line[:CARD_SIZE].ljust(CARD_SIZE).encode("ascii")


def _printable(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)
