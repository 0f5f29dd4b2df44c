"""Headers of images that have only every so-manyth plane of their parent along one axis.

An axis that is alone in its description stays linear when planes are left out: it counts from
its first plane, whose world coordinate becomes CRVAL, in steps that are as many times longer.
Numbers are exact in decimal. Sources: FITS 4.0 §8.2; Greisen & Calabretta (2002) §2.1.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final

from soda_service.fits.cards import CARD_SIZE, Card, Header, render_cards
from soda_service.fits.newcards import card
from soda_service.fits.recast import text_slot, with_integer

if TYPE_CHECKING:
    from collections.abc import Iterable

_OF_AN_AXIS: Final = re.compile("(CRPIX|CTYPE|CRVAL|CDELT|CUNIT|CROTA)([1-9][0-9]?)([A-Z]?)")
_OF_A_MATRIX: Final = re.compile("(CD|PC)([1-9][0-9]?)_([1-9][0-9]?)([A-Z]?)")
_OF_AN_OLD_MATRIX: Final = re.compile("(CD|PC)([0-9]{3})([0-9]{3})")
_OF_OTHERS: Final = re.compile(
    "(?:PV|PS)([1-9][0-9]?)_[0-9]{1,3}[A-Z]?|(?:CPDIS|CQDIS|DP|DQ|D2IMDIS|LTV)([1-9][0-9]?)[A-Z]?"
    "|LTM([1-9][0-9]?)_[1-9][0-9]?|LTM[1-9][0-9]?_([1-9][0-9]?)"
)
_DIGITS: Final = 60


class _Description:
    """What one description of the coordinates says of the axis."""

    def __init__(self) -> None:
        self.cards: dict[str, int] = {}
        """Number of the card by the kind of its keyword; none where only defaults hold."""
        self.values: dict[str, Decimal] = {}
        self.last = 0
        """Number of the last card of the whole description."""
        self.has_cd = False
        """Whether any axis of it has elements of CD: then those that are missing are not CDELT's,
        and the diagonal is 1 where an axis has none (wcslib's cdfix)."""


def can_step(header: Header, axis: int) -> bool:
    """Whether the planes of *axis*, 0-based in FITS order, can be stepped over.

    Not where a matrix, a table or a distortion ties it to other axes, nor where a number is not
    legible.
    """
    return _descriptions(header, axis + 1) is not None


def stepped_header(header: bytes, axis: int, step: int) -> bytes:
    """A complete image header of which every *step*-th plane of *axis* is kept, the first with it.

    *axis* is 0-based, in FITS order. Raises ValueError unless `can_step`.
    """
    parsed = Header.parse(header)
    number = axis + 1
    descriptions = _descriptions(parsed, number)
    if descriptions is None:
        raise ValueError(f"axis {number} cannot be stepped along")
    cards = [one.raw for one in parsed]
    inserted: dict[int, list[bytes]] = {}
    at = parsed.positions(f"NAXIS{number}")[0]
    cards[at] = with_integer(cards[at], -(-(parsed.integer(f"NAXIS{number}") or 1) // step))
    for alternate, found in descriptions.items():
        values = found.values
        # With CD the matrix has the step; otherwise CDELT has it, PC being beside it.
        stretched = "CD" if found.has_cd else "CDELT"
        rate = values.get("CD", Decimal(1)) if found.has_cd else (
            values.get("CDELT", Decimal(1)) * values.get("PC", Decimal(1))
        )  # fmt: skip
        first = values.get("CRVAL", Decimal(0)) + rate * (1 - values.get("CRPIX", Decimal(0)))
        changes = {
            "CRPIX": Decimal(1),
            "CRVAL": first,
            stretched: values.get(stretched, Decimal(1)) * step,
        }
        last = max(found.cards.values(), default=found.last)
        for kind, value in changes.items():
            if value == values.get(kind):
                continue
            place = found.cards.get(kind)
            if place is None:
                element = f"_{number}" if kind == "CD" else ""
                inserted.setdefault(last, []).append(
                    card(f"{kind}{number}{element}{alternate}", float(value))
                )
            else:
                cards[place] = text_slot(cards[place]).fill(_text(value))
    pieces: list[bytes] = []
    for place, raw in enumerate(cards):
        pieces += [raw, *inserted.get(place, ())]
    return render_cards(*pieces)


def _descriptions(header: Header, number: int) -> dict[str, _Description] | None:
    """What the header says of axis *number*, by alternate; None where that is not simple."""
    found: dict[str, _Description] = {}
    for at, one in enumerate(header):
        keyword = one.keyword
        kind, alternate, is_diagonal = "", "", True
        if match := _OF_AN_AXIS.fullmatch(keyword):
            kind, alternate = match[1], match[3]
            found.setdefault(alternate, _Description()).last = at
            if int(match[2]) != number:
                continue
        elif match := _OF_A_MATRIX.fullmatch(keyword) or _OF_AN_OLD_MATRIX.fullmatch(keyword):
            kind = match[1]
            alternate = match[4] if len(match.groups()) > 3 else ""
            axes = int(match[2]), int(match[3])
            description = found.setdefault(alternate, _Description())
            description.last = at
            description.has_cd = description.has_cd or kind == "CD"
            if number not in axes:
                continue
            is_diagonal = axes == (number, number)
        elif match := _OF_OTHERS.fullmatch(keyword):
            if number in _numbers(match.groups()):
                return None
            continue
        else:
            continue
        description = found[alternate]
        if kind in ("CTYPE", "CUNIT"):
            description.cards[kind] = at
            continue
        value = _decimal(one)
        if value is None or ((kind == "CROTA" or not is_diagonal) and value):
            return None
        if is_diagonal and kind != "CROTA":
            description.cards[kind], description.values[kind] = at, value
    if any(one.has_cd and "PC" in one.cards for one in found.values()):
        return None
    return found


def _numbers(texts: Iterable[str | None]) -> set[int]:
    return {int(text) for text in texts if text is not None}


def _decimal(one: Card) -> Decimal | None:
    """The number of a card, exactly; None where it is not written as a number."""
    text = one.raw[10:].decode("latin-1").partition("/")[0].strip().upper().replace("D", "E")
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() and len(value.as_tuple().digits) < _DIGITS else None


def _text(value: Decimal) -> str:
    """The shortest digits that are exactly *value*, with a point so that it is no integer."""
    text = format(value.normalize(), "f")
    if len(text) > CARD_SIZE // 2:
        text = str(float(value)).upper()
    return text if "." in text or "E" in text else f"{text}.0"
