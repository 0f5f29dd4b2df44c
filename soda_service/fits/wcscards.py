"""The cards of a header that describe its coordinates, checked and told in one way.

Only the primary description is read, and of the file nothing goes on to wcslib but values that
were checked here (`wcslibheader`). Axis numbers in keywords are 1-based, as in FITS; `axis` and
`axes` are 0-based. Source: FITS 4.0 §8; the older forms are those of wcslib.
"""

from __future__ import annotations

import re
from copy import copy
from math import isfinite
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from soda_service.fits.axiskeywords import matrix_element
from soda_service.fits.wcskeywords import (
    AXES_NUMBERS,
    AXES_TEXTS,
    AXIS_NUMBER,
    AXIS_TEXT,
    DISTORTION,
    NUMBERS,
    PARAMETER,
    PLATE,
    RECORD,
    SIP,
    TEXTS,
    WAT,
    may_describe,
)

if TYPE_CHECKING:
    from soda_service.fits.cards import Card, Header

_MOST_AXES: Final = 16
_MOST_CARDS: Final = 2000
_LARGEST: Final = 1e100
_LARGEST_CRPIX: Final = 1e9
WAT_WIDTH: Final = 68
"""Characters of IRAF's attributes on each card."""
_LARGEST_SIP_ORDER: Final = 9
"""Of the SIP convention."""


class WcsError(ValueError):
    """No coordinates can be computed from a header; the message names the card."""


class WcsCards:
    """What the header says about coordinates: normalised keywords with checked values.

    `PC001002` and `PC01_02` are told as `PC1_2`, `RADECSYS` as `RADESYS`, `EPOCH` as
    `EQUINOX` and `RESTFREQ` as `RESTFRQ` where the newer keyword is absent. Of several
    cards with one keyword the last holds, as in wcslib.
    """

    def __init__(self, naxis: tuple[int, ...]) -> None:
        self.naxis = naxis
        self.numbers: dict[str, float] = {}
        self.texts: dict[str, str] = {}
        self.matrix: dict[tuple[str, int, int], float] = {}
        """By name (`PC` or `CD`), row and column, both 0-based."""
        self.sip: dict[str, dict[tuple[int, int], float]] = {}
        """By `A`, `B`, `AP`, `BP`: the powers of u and v with their coefficient."""
        self.sip_orders: dict[str, int] = {}
        self.parameters: dict[tuple[str, int, int], float | str] = {}
        """By name (`PV` or `PS`), axis (0-based) and number."""
        self.records: dict[str, dict[str, float]] = {}
        """By `DP1`, `DQ2`, `D2IM1`…: field and value of the record-valued cards."""
        self.illegible: dict[str, str] = {}
        """Why the card of a keyword that axes beside the sky are told by has no value."""
        self.count = 2
        """Number of axes of the description (WCSAXES, or what the cards imply)."""

    @classmethod
    def of(cls, header: Header, naxis: tuple[int, ...]) -> Self:
        """The description in *header*; WcsError names the first card that is out of bounds."""
        cards = cls(naxis)
        kept = 0
        for card in header:
            if not may_describe(card.raw[:8]):
                continue
            kept += cards._take(card)
            if kept > _MOST_CARDS:
                raise WcsError(f"more than {_MOST_CARDS} cards describe the coordinates")
        cards._settle()
        return cards

    def number(self, name: str, axis: int, default: float) -> float:
        """The value of an axis keyword, `CRVAL` say."""
        return self.numbers.get(f"{name}{axis + 1}", default)

    def text(self, name: str, axis: int) -> str:
        """The text of an axis keyword, `CTYPE` say; empty where it is absent."""
        return self.texts.get(f"{name}{axis + 1}", "")

    def assert_legible(self, *keywords: str) -> bool:
        """Whether one of *keywords* has a value; WcsError where the card of one is illegible."""
        for keyword in keywords:
            if keyword in self.illegible:
                raise WcsError(self.illegible[keyword])
        return any(keyword in self.numbers or keyword in self.texts for keyword in keywords)

    def length(self, axis: int) -> int:
        """Pixels along an axis; 1 for an axis that only the description has."""
        return self.naxis[axis] if axis < len(self.naxis) else 1

    @property
    def matrix_name(self) -> str:
        """`CD` or `PC`: the form that holds."""
        return "CD" if any(name == "CD" for name, _, _ in self.matrix) else "PC"

    def element(self, row: int, column: int) -> float:
        """d(intermediate coordinate)/d(pixel): an element of CD, or of PC times CDELT."""
        if self.matrix_name == "CD":
            return self.cd_element(row, column)
        implied = 1.0 if row == column else 0.0
        scale = self.number("CDELT", row, 1.0)
        return scale * self.matrix.get(("PC", row, column), implied)

    def cd_element(self, row: int, column: int) -> float:
        """An element of CD, absent ones as they are implied."""
        value = self.matrix.get(("CD", row, column))
        if value is not None:
            return value
        # As wcslib's cdfix: an axis that no element mentions goes on pixel by pixel.
        mentioned = any(
            one and row in (i, j) for (name, i, j), one in self.matrix.items() if name == "CD"
        )
        return 1.0 if row == column and not mentioned else 0.0

    def at_pixel(self, axis: int, pixel: int) -> Self:
        """The description of one pixel (0-based) of an axis: an image of length 1 along it."""
        naxis = tuple(1 if at == axis else length for at, length in enumerate(self.naxis))
        cards = copy(self)
        cards.naxis = naxis
        keyword = f"CRPIX{axis + 1}"
        cards.numbers = self.numbers | {keyword: self.numbers.get(keyword, 0.0) - pixel}
        cards.texts, cards.parameters = dict(self.texts), dict(self.parameters)
        return cards

    def take_attributes(self, axis: int) -> list[str]:
        """IRAF's attributes of an axis (WATi_nnn), in pieces; they are removed."""
        keys = sorted(key for key in self.texts if key.startswith(f"WAT{axis + 1}_"))
        return [self.texts.pop(key).ljust(WAT_WIDTH) for key in keys]

    def put_attributes(self, axis: int, text: str) -> None:
        """Attributes of an axis, cut into cards again."""
        for number, start in enumerate(range(0, len(text), WAT_WIDTH), 1):
            self.texts[f"WAT{axis + 1}_{number:03d}"] = text[start : start + WAT_WIDTH]

    # ------------------------------------------------------------ reading

    def _take(self, card: Card) -> bool:
        """Whether this card belongs to the description; its value is then kept."""
        keyword = card.keyword
        if len(keyword) < 3 or card.value_start != 10:
            return False
        for take in (self._take_axis, self._take_matrix, self._take_sip, self._take_other):
            if take(keyword, card):
                return True
        return False

    def _take_axis(self, keyword: str, card: Card) -> bool:
        if found := AXIS_NUMBER.fullmatch(keyword):
            axis = self._axis(found[2], keyword)
            value = _number(card, _LARGEST_CRPIX if found[1] == "CRPIX" else _LARGEST)
            if value is not None:
                self.numbers[f"{found[1]}{axis + 1}"] = value
            return True
        if found := AXIS_TEXT.fullmatch(keyword):
            axis = self._axis(found[2], keyword)
            self._take_text(f"{found[1]}{axis + 1}", card)
            return True
        if found := PARAMETER.fullmatch(keyword):
            axis = self._axis(found[2], keyword)
            number = int(found[3])
            if number > 99:
                raise WcsError(f"{keyword}: there are no parameters above 99")
            if found[1] == "PS":
                self._take_text(keyword, card)
                if keyword in self.texts:
                    self.parameters["PS", axis, number] = self.texts.pop(keyword)
            elif (value := _number(card, _LARGEST)) is not None:
                self.parameters["PV", axis, number] = value
            return True
        return False

    def _take_matrix(self, keyword: str, card: Card) -> bool:
        element = matrix_element(keyword)
        if element is None or element.alternate:
            return False
        row, column = self._axis(element.row, keyword), self._axis(element.column, keyword)
        if (value := _number(card, _LARGEST)) is not None:
            self.matrix[element.name, row, column] = value
        return True

    def _take_sip(self, keyword: str, card: Card) -> bool:
        if not (found := SIP.fullmatch(keyword)):
            return False
        value = _number(card, _LARGEST)
        if value is None:
            return True
        if found[2]:
            if not 0 <= value <= _LARGEST_SIP_ORDER or value != int(value):
                raise WcsError(f"{keyword} = {value:g}: an order is 0 to {_LARGEST_SIP_ORDER}")
            self.sip_orders[found[1]] = int(value)
        else:
            self.sip.setdefault(found[1], {})[int(found[3]), int(found[4])] = value
        return True

    def _take_other(self, keyword: str, card: Card) -> bool:
        if keyword in AXES_NUMBERS or keyword in AXES_TEXTS:
            self._take_for_axes(keyword, card)
        elif keyword in NUMBERS or PLATE.fullmatch(keyword):
            # 'J2000' and the like are no numbers: wcslib passes over them, and so do we.
            if not isinstance(_value(card), str) and (value := _number(card, _LARGEST)) is not None:
                self.numbers[keyword] = value
        elif keyword in TEXTS or WAT.fullmatch(keyword) or DISTORTION.fullmatch(keyword):
            self._take_text(keyword, card)
        elif RECORD.fullmatch(keyword):
            self._take_record(keyword, card)
        elif keyword == "WCSAXES":
            value = _number(card, _LARGEST)
            if value is not None and not (value == int(value) and 0 <= value <= _MOST_AXES):
                raise WcsError(f"WCSAXES = {value:g}: at most {_MOST_AXES} axes are understood")
            self.count = max(self.count, int(value or 0))
        else:
            return False
        return True

    def _take_for_axes(self, keyword: str, card: Card) -> None:
        try:
            if keyword in AXES_TEXTS:
                self._take_text(keyword, card)
            elif (value := _number(card, _LARGEST)) is not None:
                self.numbers[keyword] = value
        except WcsError as error:
            self.illegible[keyword] = str(error)
        else:
            self.illegible.pop(keyword, None)

    def _take_text(self, keyword: str, card: Card) -> None:
        value = _value(card)
        if isinstance(value, str):
            if not value.isascii() or not value.isprintable():
                raise WcsError(f"{keyword} = {value!r}: not printable ASCII")
            self.texts[keyword] = value.strip() if not keyword.startswith("WAT") else value
        elif value is not None:
            raise WcsError(f"{keyword} = {value!r}: text is wanted")

    def _take_record(self, keyword: str, card: Card) -> None:
        text = _value(card)
        if not isinstance(text, str):
            return
        field, colon, literal = text.partition(":")
        try:
            # FITS 4.0 §4.2.4 lets the exponent be written with a D.
            value = float(literal.upper().replace("D", "E"))
        except ValueError:
            return
        if not colon or not isfinite(value) or not re.fullmatch(r"[A-Z0-9._]{1,40}", field.strip()):
            raise WcsError(f"{keyword} = {text[:60]!r}: not a field with a finite value")
        self.records.setdefault(keyword, {})[field.strip()] = value

    def _axis(self, digits: str | int, keyword: str) -> int:
        number = int(digits)
        if not 1 <= number <= _MOST_AXES:
            raise WcsError(f"{keyword}: at most {_MOST_AXES} axes are understood")
        self.count = max(self.count, number)
        return number - 1

    # ------------------------------------------------------------ settling contradictions

    def _settle(self) -> None:
        self.count = max(self.count, len(self.naxis))
        if self.count > _MOST_AXES:
            raise WcsError(f"NAXIS: at most {_MOST_AXES} axes are understood")
        for old, new in (("EPOCH", "EQUINOX"), ("RESTFREQ", "RESTFRQ")):
            if old in self.numbers:
                self.numbers.setdefault(new, self.numbers.pop(old))
        if "RADECSYS" in self.texts:
            self.texts.setdefault("RADESYS", self.texts.pop("RADECSYS"))
        self._settle_matrix()
        self._settle_functions()

    def _settle_matrix(self) -> None:
        """Keep one of PC and CD where a header has both and they agree."""
        names = {name for name, _, _ in self.matrix}
        if names != {"PC", "CD"}:
            return
        both = [key for key in self.matrix if key[0] == "CD"]
        for _, row, column in both:
            implied = 1.0 if row == column else 0.0
            scale = self.number("CDELT", row, 1.0)
            product = scale * self.matrix.get(("PC", row, column), implied)
            if not np.isclose(product, self.matrix["CD", row, column], rtol=1e-7, atol=1e-14):
                indices = f"{row + 1}_{column + 1}"
                raise WcsError(f"CD{indices} and PC{indices} contradict each other")
        for key in both:
            del self.matrix[key]

    def _settle_functions(self) -> None:
        """Never give wcslib one distortion twice, in two forms."""
        codes = {self.text("CTYPE", axis)[5:8] for axis in range(self.count)}
        distorted = {key for key in self.texts if key.startswith("CQDIS")}
        functions = {key for key in self.texts if key[:5] in {"CPDIS", "CQDIS"}}
        if "TPU" in codes and any(self.texts[key].upper() != "LOOKUP" for key in functions):
            raise WcsError(f"{min(functions)}: beside TPU, which is a distortion of the same kind")
        if distorted and codes & {"TNX", "ZPX", "TPV"}:
            for key in distorted:
                del self.texts[key]
        elif distorted or not codes & {"TNX", "ZPX"}:
            self.texts = {key: one for key, one in self.texts.items() if not WAT.fullmatch(key)}
        if distorted or not {"AMDX1", "AMDY1", "PPO3", "PPO6"} <= self.numbers.keys():
            self.texts.pop("PLTDECSN", None)
            self.numbers = {
                key: one for key, one in self.numbers.items() if not PLATE.fullmatch(key)
            }
        else:
            # A plate solution is preferred to the approximation beside it, as wcslib does.
            self.texts.setdefault("CTYPE1", "RA---TAN")
            self.texts.setdefault("CTYPE2", "DEC--TAN")


def _value(card: Card) -> object:
    try:
        return card.value
    except ValueError:
        raise WcsError(f"{card.keyword}: the card cannot be read: {card.text[:80]!r}") from None


def _number(card: Card, largest: float) -> float | None:
    """The value as a float; None where it is undefined."""
    value = _value(card)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WcsError(f"{card.keyword} = {value!r}: a real number is wanted")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not abs(number) <= largest:
        raise WcsError(f"{card.keyword} = {number:g}: out of all bounds")
    return number
