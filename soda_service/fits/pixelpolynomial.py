"""Polynomials in pixel coordinates that PVi_ma spell out: wcslib's projection code TPU.

TPU is TAN with the polynomial of TPV before its matrix instead of behind it. The polynomial gives
the pixel coordinate itself, not a correction, and counts from the image's own pixel 0. In a cutout
it is the same function of other coordinates: P(q + d) - d, a polynomial again, whose coefficients
follow from the binomial theorem. Powers of the distance from pixel 0 have no such successor: with
the odd radial terms that TPV allows (PVi_3, 11, 23, 39) the header of a cutout cannot be true.

As wcslib 8.6 evaluates it: terms that are absent are zero, PVi_1 too; the variables are the pixel
axes 1 and 2 for the longitude, 2 and 1 for the latitude, whichever axes these are.
Source: the TPV registry of the FITS support office for the terms; wcslib's `wcs.c` and `dis.c`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from fractions import Fraction
from math import comb
from typing import TYPE_CHECKING, Final

from soda_service.fits.newcards import card, format_value
from soda_service.fits.recast import text_slot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from soda_service.fits.cards import Card, Header
    from soda_service.fits.distortion import Move
    from soda_service.geometry.pixelbox import PixelBox

_DEGREES: Final = ((0, 0), (1, 1), (4, 2), (7, 3), (12, 4), (17, 5), (24, 6), (31, 7))
"""Number of the first term of each degree; the odd ones are followed by a radial term."""
POWERS: Final = {
    first + at: (degree - at, at) for first, degree in _DEGREES for at in range(degree + 1)
}
"""By number of the term the powers of the two variables."""
RADIAL: Final = frozenset({3, 11, 23, 39})
_LARGEST: Final = 1e100
"""Coefficients above are left alone: they are no pixels of any image."""

_CTYPE: Final = re.compile("CTYPE([1-9][0-9]?)([A-Z]?)")
_PARAMETER: Final = re.compile("PV([1-9][0-9]?)_([0-9]{1,2})([A-Z]?)")
_BEGINNINGS: Final = frozenset((b"CT", b"PV"))
_LATITUDE: Final = re.compile(r"DEC|.LAT|..LT")


@dataclass(slots=True)
class PixelPolynomial:
    """The polynomial that makes the pixel coordinate of one axis, in one description."""

    axis: int
    """0-based."""
    letter: str
    """Of the description; empty for the primary one."""
    variables: tuple[int, int]
    """The axes whose pixel coordinates it takes, 0-based."""
    last: int
    """Number of the last card of it, or of the axis' CTYPE where there is none."""
    terms: dict[int, float] = field(default_factory=dict)
    """Coefficients by their numbers; of several cards of one number the last holds."""
    cards: list[tuple[int, int, bytes]] = field(default_factory=list)
    """Number of the card, number of the term, the card."""

    @property
    def obstacle(self) -> str:
        """The keyword of a term that cannot move; empty where there is none."""
        for number, value in sorted(self.terms.items()):
            if (number in RADIAL and value) or not abs(value) < _LARGEST:
                return f"PV{self.axis + 1}_{number}{self.letter}"
        return ""

    @property
    def possible(self) -> Iterator[int]:
        """The terms that it may have in a cutout: those that divide one it has, and the constant.

        In ascending order.
        """
        there = [POWERS[number] for number in self.terms if number in POWERS]
        for number, (u, v) in POWERS.items():
            if not number or any(u <= more_u and v <= more_v for more_u, more_v in there):
                yield number

    def coefficient(self, number: int, box: PixelBox) -> float:
        """That of a term in the cutout of *box*, to the last digit of a double."""
        u, v = POWERS[number]
        first, second = (box.lower[axis] for axis in self.variables)
        value = Fraction(0)
        for other, one in self.terms.items():
            more_u, more_v = POWERS.get(other, (-1, -1))
            if more_u >= u and more_v >= v:
                ways = comb(more_u, u) * comb(more_v, v)
                value += ways * Fraction(one) * first ** (more_u - u) * second ** (more_v - v)
        if not number:
            value -= box.lower[self.axis]
        return float(value)


def pixel_polynomials(header: Header) -> list[PixelPolynomial]:
    """Those of all descriptions in *header*, the longitude and the latitude of each."""
    found: dict[tuple[int, str], PixelPolynomial] = {}
    parameters: defaultdict[tuple[int, str], list[tuple[int, int, bytes, float]]]
    parameters = defaultdict(list)
    for at, one in header.beginning(_BEGINNINGS):
        keyword = one.keyword
        if match := _CTYPE.fullmatch(keyword):
            text = (one.string or "").strip()
            if text[4:8] == "-TPU":
                axis = int(match[1]) - 1
                is_latitude = bool(_LATITUDE.fullmatch(text[:4].rstrip("-")))
                variables = (1, 0) if is_latitude else (0, 1)
                found[axis, match[2]] = PixelPolynomial(axis, match[2], variables, at)
        elif (match := _PARAMETER.fullmatch(keyword)) and (value := _real(one)) is not None:
            key = int(match[1]) - 1, match[3]
            parameters[key].append((at, int(match[2]), one.raw, value))
    for key, polynomial in found.items():
        for at, number, raw, value in parameters[key]:
            polynomial.terms[number] = value
            polynomial.cards.append((at, number, raw))
            polynomial.last = at
    return list(found.values())


def _real(one: Card) -> float | None:
    """The value of a card where it is a real number."""
    try:
        value = one.value
    except ValueError:
        return None
    return None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)


def polynomial_moves(
    header: Header, axes: tuple[int, ...]
) -> tuple[dict[int, Move], list[tuple[int, Move]]]:
    """What becomes of PVi_ma: by number of the card its successor, and what follows which card.

    Polynomials that cannot move stay as they are.
    """
    replaced: dict[int, Move] = {}
    inserted: list[tuple[int, Move]] = []
    for polynomial in pixel_polynomials(header):
        if polynomial.obstacle or max(polynomial.axis, 1) >= len(axes):
            continue
        for at, number, raw in polynomial.cards:
            if number in POWERS:
                replaced[at] = _MovedTerm(polynomial, number, raw)
        inserted += [
            (polynomial.last, _NewTerm(polynomial, number))
            for number in polynomial.possible
            if number not in polynomial.terms
        ]
    return replaced, inserted


class _MovedTerm:
    """The card of a coefficient."""

    __slots__ = ("_number", "_polynomial", "_raw", "_value")

    def __init__(self, polynomial: PixelPolynomial, number: int, raw: bytes) -> None:
        self._polynomial = polynomial
        self._number = number
        self._raw = raw
        self._value = polynomial.terms[number]

    def __call__(self, box: PixelBox) -> bytes:
        value = self._polynomial.coefficient(self._number, box)
        if value == self._value:
            return self._raw
        return text_slot(self._raw).fill(format_value(value))


class _NewTerm:
    """A coefficient that is zero in the parent."""

    __slots__ = ("_keyword", "_number", "_polynomial")

    def __init__(self, polynomial: PixelPolynomial, number: int) -> None:
        self._polynomial = polynomial
        self._number = number
        self._keyword = f"PV{polynomial.axis + 1}_{number}{polynomial.letter}"

    def __call__(self, box: PixelBox) -> bytes:
        value = self._polynomial.coefficient(self._number, box)
        return card(self._keyword, value) if value else b""
