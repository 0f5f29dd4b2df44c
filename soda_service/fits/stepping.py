"""Headers of images that have only every so-manyth plane of their parent along one axis.

An axis that is alone in its description stays linear when planes are left out: it counts from
its first plane, whose world coordinate becomes CRVAL, in steps that are as many times longer.
Numbers are exact in decimal. Sources: FITS 4.0 §8.2; Greisen & Calabretta (2002) §2.1.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final

from soda_service.fits.axiskeywords import axes_named, matrix_element
from soda_service.fits.cards import CARD_SIZE, Card, Header, number_span, render_cards
from soda_service.fits.movement import axis_of_size, is_section
from soda_service.fits.newcards import card
from soda_service.fits.recast import text_slot, with_integer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_OF_AN_AXIS: Final = re.compile("(CRPIX|CTYPE|CRVAL|CDELT|CUNIT|CROTA)[1-9][0-9]?[A-Z]?")
_OF_OTHERS: Final = re.compile(
    "(?:PV|PS)0*([0-9]{1,2})_[0-9]{1,3}[A-Z]?|(?:CPDIS|CQDIS|DP|DQ|D2IMDIS|LTV)([1-9][0-9]?)[A-Z]?"
    "|LTM([1-9][0-9]?)_[1-9][0-9]?|LTM[1-9][0-9]?_([1-9][0-9]?)"
)
_FIELD_START: Final = 10
"""Where the value field of an ordinary card begins (FITS 4.0 §4.1.2.3)."""
_DIGITS: Final = 60
_LARGEST_EXPONENT: Final = 100
"""Larger and smaller numbers are none of planes, and their products not of doubles."""


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

    Not where a matrix, a table or a distortion ties it to other axes, where a section (DATASEC)
    counts its pixels, nor where a number is not legible.
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
    length = -(-(parsed.integer(f"NAXIS{number}") or 1) // step)
    for at, one in _ordinary_cards(parsed):
        if one.keyword == f"NAXIS{number}" or axis_of_size(one.keyword) == axis:
            cards[at] = with_integer(one.raw, length)
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
    naming: set[str] = set()
    for at, one in _ordinary_cards(header):
        keyword = one.keyword
        if (match := _OF_OTHERS.fullmatch(keyword)) and number in _numbers(match.groups()):
            return None
        if is_section(keyword) and _pairs(one.string) >= number:
            return None
        if (named := axes_named(keyword)) is None:
            continue
        alternate, axes = named
        element = matrix_element(keyword)
        axis_card = _OF_AN_AXIS.fullmatch(keyword)
        kind = element.name if element else axis_card[1] if axis_card else ""
        if kind:
            description = found.setdefault(alternate, _Description())
            description.last = at
            description.has_cd = description.has_cd or kind == "CD"
        if number not in axes:
            continue
        naming.add(alternate)
        if kind and not _take(description, kind, at, one, is_diagonal=len(set(axes)) == 1):
            return None
    if any(one.has_cd and "PC" in one.cards for one in found.values()):
        return None
    return {
        alternate: one
        for alternate, one in found.items()
        if alternate in naming or (header.integer(f"WCSAXES{alternate}") or number) >= number
    }


def _take(description: _Description, kind: str, at: int, one: Card, *, is_diagonal: bool) -> bool:
    """Whether the card number *at* is one that a line along the axis may have; it is kept."""
    if kind in ("CTYPE", "CUNIT"):
        description.cards[kind] = at
        return True
    value = _decimal(one)
    if kind == "CROTA" or not is_diagonal:
        return value == 0
    if value is None or kind in description.values:
        # Readers differ in which of several cards they take.
        return False
    description.cards[kind], description.values[kind] = at, value
    return True


def _ordinary_cards(header: Header) -> Iterator[tuple[int, Card]]:
    """Numbered cards with a value, those of the HIERARCH convention left out."""
    return ((at, one) for at, one in enumerate(header) if one.value_start == _FIELD_START)


def _pairs(section: str | None) -> int:
    """How many axes a text is a section of; 0 where it is none."""
    return section.count(",") + 1 if section and section.lstrip().startswith("[") else 0


def _numbers(texts: Iterable[str | None]) -> set[int]:
    return {int(text) for text in texts if text is not None}


def _decimal(one: Card) -> Decimal | None:
    """The number of a card, exactly; None where it has none, or one out of all bounds."""
    span = number_span(one)
    if span is None:
        return None
    try:
        value = Decimal(one.raw[slice(*span)].decode("ascii").upper().replace("D", "E"))
    except InvalidOperation:
        return None
    is_told = not value or abs(value.adjusted()) <= _LARGEST_EXPONENT
    return value if is_told and len(value.as_tuple().digits) < _DIGITS else None


def _text(value: Decimal) -> str:
    """The shortest digits that are exactly *value*, with a point so that it is no integer."""
    text = format(value.normalize(), "f")
    if len(text) > CARD_SIZE // 2:
        text = str(float(value)).upper()
    return text if "." in text or "E" in text else f"{text}.0"
