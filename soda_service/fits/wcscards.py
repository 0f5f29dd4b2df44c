"""The cards of a header that describe its coordinates, checked and told in one way.

Only the primary description is read. What reaches wcslib is composed anew from values that
were checked here, never passed on from the file: wcslib has fixed buffers and trusts what it
gets. Axis numbers in keywords are 1-based, as in FITS; `axis` and `axes` are 0-based.
Source: FITS 4.0 §8; the older forms are those of wcslib.
"""

from __future__ import annotations

import re
from copy import copy
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from soda_service.fits.axiskeywords import matrix_element

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from soda_service.fits.cards import Card, Header

_MOST_AXES: Final = 16
_MOST_CARDS: Final = 2000
_LARGEST: Final = 1e100
_LARGEST_CRPIX: Final = 1e9
_WAT_WIDTH: Final = 68
"""Characters of IRAF's attributes on each card."""
_TAB_CTYPE: Final = len("WAVE-TAB")
NEGLIGIBLE_PIXELS: Final = 1e-7
"""By which a pixel may be moved: a tenth of what an interval or a shape must cover to select it."""
_TABLE: Final = (("PS", 0), ("PV", 1), ("PV", 2), ("PS", 1))
"""Which -TAB table and column an axis is looked up in."""
_LARGEST_SIP_ORDER: Final = 9
"""Of the SIP convention."""

_AXIS_NUMBER: Final = re.compile(r"(CRPIX|CRVAL|CDELT|CROTA)([1-9][0-9]{0,2})")
_AXIS_TEXT: Final = re.compile(r"(CTYPE|CUNIT)([1-9][0-9]{0,2})")
_PARAMETER: Final = re.compile(r"(PV|PS)0*([0-9]{1,2})_([0-9]{1,3})")
_SIP: Final = re.compile(r"([AB]P?)_(?:(ORDER)|([0-9])_([0-9]))")
_DISTORTION: Final = re.compile(r"(CPDIS|CQDIS|D2IMDIS)([0-9])")
_RECORD: Final = re.compile(r"(DP|DQ|D2IM)([0-9])")
_WAT: Final = re.compile(r"WAT([1-9])_([0-9]{3})")
_PLATE: Final = re.compile(
    r"AMD[XY][0-9]{1,2}|PPO[1-6]|CNPIX[12]|[XY]PIXELSZ|PLTRA[HMS]|PLTDEC[DMS]"
)
_AXES_NUMBERS: Final = frozenset((
    "RESTFRQ", "RESTFREQ", "RESTWAV", "VELOSYS", "MJDREF", "MJDREFI", "MJDREFF",
    "JDREF", "JDREFI", "JDREFF", "TIMEOFFS",
))  # fmt: skip
_AXES_TEXTS: Final = frozenset(("SPECSYS", "TIMESYS", "TIMEUNIT", "DATEREF", "TREFPOS"))
"""These two kinds are for axes beside the sky alone: what is wrong with them is wrong there."""
_NUMBERS: Final = frozenset(("LONPOLE", "LATPOLE", "EQUINOX", "EPOCH", "VELREF")) | _AXES_NUMBERS
_TEXTS: Final = frozenset(("RADESYS", "RADECSYS", "PLTDECSN")) | _AXES_TEXTS
_PATTERNS: Final = (
    _AXIS_NUMBER, _AXIS_TEXT, _PARAMETER, _SIP, _DISTORTION, _RECORD, _WAT, _PLATE
)  # fmt: skip


@lru_cache(maxsize=4096)
def _may_describe(name: bytes) -> bool:
    """Whether cards of this keyword, eight bytes as it stands, may belong to a description.

    Most cards of most headers do not, and the headers of an archive have the same ones.
    """
    keyword = name.rstrip(b" \0").decode("latin-1")
    return (
        keyword in _NUMBERS
        or keyword in _TEXTS
        or keyword == "WCSAXES"
        or matrix_element(keyword) is not None
        or any(pattern.fullmatch(keyword) for pattern in _PATTERNS)
    )


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
            if not _may_describe(card.raw[:8]):
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
            return self._cd(row, column)
        implied = 1.0 if row == column else 0.0
        scale = self.number("CDELT", row, 1.0)
        return scale * self.matrix.get(("PC", row, column), implied)

    def _cd(self, row: int, column: int) -> float:
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

    def coupling(
        self, axes: Sequence[int], *, most_pixels: float = NEGLIGIBLE_PIXELS
    ) -> str | None:
        """The element that makes *axes* depend on an axis of more than one pixel beside them.

        None where all such elements together move pixels of *axes* by no more than *most_pixels*
        from one end of the other axes to the other: the intermediate coordinates by |m_ik| N_k,
        and pixels by the inverse of the matrix of *axes* times that.
        """
        found: dict[str, NDArray[np.float64]] = {}
        for (name, row, column), value in self.matrix.items():
            if row in axes and column not in axes and value and self.length(column) > 1:
                moved = np.zeros(len(axes))
                moved[axes.index(row)] = abs(self.element(row, column)) * self.length(column)
                found[f"{name}{row + 1}_{column + 1}"] = moved
        if not found:
            return None
        matrix = np.array([[self.element(row, column) for column in axes] for row in axes])
        # Rows are scaled: their units differ by many powers of ten.
        scale = np.abs(matrix).max(axis=1, initial=0)
        with np.errstate(all="ignore"):
            try:
                inverse = np.abs(np.linalg.inv(matrix / scale[:, None]))
            except np.linalg.LinAlgError:
                return next(iter(found))
            pixels = {name: inverse @ (moved / scale) for name, moved in found.items()}
            if np.sum(list(pixels.values()), axis=0).max() <= most_pixels:
                return None
        return max(pixels, key=lambda name: pixels[name].max())

    def reference_pixel(self, axes: Sequence[int]) -> NDArray[np.float64]:
        """CRPIX of *axes* alone, the only pixel of any other axis taken into account.

        1-based. Raises WcsError where the matrix of *axes* is singular.
        """
        matrix = np.array([[self.element(row, column) for column in axes] for row in axes])
        scale = np.abs(matrix).max(axis=1, initial=0)
        if not scale.all() or abs(np.linalg.det(matrix / scale[:, None])) < 1e-12:
            keyword = "CD" if self.matrix_name == "CD" else "CDELT"
            named = ", ".join(f"{keyword}{axis + 1}" + "_j" * (keyword == "CD") for axis in axes)
            raise WcsError(f"{named}: the matrix is singular")
        crpix = np.array([self.number("CRPIX", axis, 0.0) for axis in axes])
        others = [axis for axis in range(self.count) if axis not in axes]
        shift = np.array(
            [
                sum(self.element(row, k) * (1 - self.number("CRPIX", k, 0.0)) for k in others)
                for row in axes
            ]
        )
        if not shift.any():
            return crpix
        # Rows are scaled as above: their units differ by many powers of ten.
        steps = np.linalg.solve(matrix / scale[:, None], shift / scale)
        return np.asarray(crpix - steps, dtype=np.float64)

    def compose(self, axes: Sequence[int], *, ctypes: Sequence[str]) -> bytes:
        """A header for wcslib that describes *axes* alone, numbered anew from 1.

        The distortions of pixel coordinates (SIP, tables) are left out; *ctypes* stand in the
        place of CTYPE.
        """
        cards = [_card("WCSAXES", len(axes))]
        self._check_table_axes([one for one, ctype in zip(axes, ctypes, strict=True)
                                if ctype.endswith("-TAB")])  # fmt: skip
        crpix = self.reference_pixel(axes)
        for new, axis in enumerate(axes, 1):
            cards.append(_card(f"CTYPE{new}", ctypes[new - 1]))
            cards.append(_card(f"CRPIX{new}", float(crpix[new - 1])))
            cards.append(_card(f"CRVAL{new}", self.number("CRVAL", axis, 0.0)))
            if unit := self.text("CUNIT", axis):
                cards.append(_card(f"CUNIT{new}", unit))
            if self.matrix_name != "CD":
                cards.append(_card(f"CDELT{new}", self.number("CDELT", axis, 1.0)))
        cards += self._compose_matrix(axes)
        cards += self._compose_parameters(axes)
        for keyword in ("LONPOLE", "LATPOLE", "RESTFRQ", "RESTWAV", "VELREF"):
            if keyword in self.numbers:
                value = self.numbers[keyword]
                cards.append(_card(keyword, int(value) if keyword == "VELREF" else value))
        return b"".join(cards)

    def _check_table_axes(self, axes: Sequence[int]) -> None:
        """Each table's axes (PVi_3) are 1 and so on: wcslib takes them as indices, unchecked."""
        numbers: dict[object, list[float | str]] = {}
        for axis in axes:
            if len(self.text("CTYPE", axis)) != _TAB_CTYPE:
                # wcslib takes it for no such axis, and frees memory twice over the table's others.
                ctype = self.text("CTYPE", axis)
                raise WcsError(f"CTYPE{axis + 1} = {ctype!r}: four characters stand before -TAB")
            table = tuple(self.parameters.get((name, axis, at)) for name, at in _TABLE)
            numbers.setdefault(table, []).append(self.parameters.get(("PV", axis, 3), 1.0))
        for found in numbers.values():
            if set(found) != set(range(1, len(found) + 1)):
                keywords = ", ".join(f"PV{axis + 1}_3" for axis in axes)
                raise WcsError(f"{keywords}: not all axes of the table are there")

    def _compose_matrix(self, axes: Sequence[int]) -> Iterator[bytes]:
        name = self.matrix_name
        for new_row, row in enumerate(axes, 1):
            for new_column, column in enumerate(axes, 1):
                if name == "CD":
                    yield _card(f"CD{new_row}_{new_column}", self._cd(row, column))
                elif (name, row, column) in self.matrix:
                    value = self.matrix[name, row, column]
                    yield _card(f"PC{new_row}_{new_column}", value)
            if not self.matrix and f"CROTA{row + 1}" in self.numbers:
                yield _card(f"CROTA{new_row}", self.number("CROTA", row, 0.0))

    def _compose_parameters(self, axes: Sequence[int]) -> Iterator[bytes]:
        for (name, axis, number), value in self.parameters.items():
            if axis in axes:
                yield _card(f"{name}{axes.index(axis) + 1}_{number}", value)
        for keyword, value in self.texts.items():
            if (found := _WAT.fullmatch(keyword)) and int(found[1]) - 1 in axes:
                new = axes.index(int(found[1]) - 1) + 1
                # IRAF's text runs on from column 68 of one card to the next, blanks and all.
                yield _card(f"WAT{new}_{found[2]}", value.ljust(_WAT_WIDTH))
        if list(axes) == [0, 1]:
            yield from self._compose_functions()

    def _compose_functions(self) -> Iterator[bytes]:
        """Distortions that wcslib computes itself, and plate solutions."""
        for name, record in (("CPDIS", "DP"), ("CQDIS", "DQ")):
            for number in (1, 2):
                kind = self.texts.get(f"{name}{number}")
                if kind is None or kind.upper() == "LOOKUP":
                    continue
                yield _card(f"{name}{number}", kind)
                for field, value in self.records.get(f"{record}{number}", {}).items():
                    # wcslib takes these as indices, and does not check them.
                    if field.startswith(("NAXES", "AXIS.")) and value not in (1, 2):
                        text = f"{record}{number} = '{field}: {value:g}'"
                        raise WcsError(f"{text}: a function of two axes is wanted")
                    yield _card(f"{record}{number}", f"{field}: {value!r}")
        for keyword, value in self.numbers.items():
            if _PLATE.fullmatch(keyword):
                yield _card(keyword, value)
        if "PLTDECSN" in self.texts:
            yield _card("PLTDECSN", self.texts["PLTDECSN"])

    def take_attributes(self, axis: int) -> list[str]:
        """IRAF's attributes of an axis (WATi_nnn), in pieces; they are removed."""
        keys = sorted(key for key in self.texts if key.startswith(f"WAT{axis + 1}_"))
        return [self.texts.pop(key).ljust(_WAT_WIDTH) for key in keys]

    def put_attributes(self, axis: int, text: str) -> None:
        """Attributes of an axis, cut into cards again."""
        for number, start in enumerate(range(0, len(text), _WAT_WIDTH), 1):
            self.texts[f"WAT{axis + 1}_{number:03d}"] = text[start : start + _WAT_WIDTH]

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
        if found := _AXIS_NUMBER.fullmatch(keyword):
            axis = self._axis(found[2], keyword)
            value = _number(card, _LARGEST_CRPIX if found[1] == "CRPIX" else _LARGEST)
            if value is not None:
                self.numbers[f"{found[1]}{axis + 1}"] = value
            return True
        if found := _AXIS_TEXT.fullmatch(keyword):
            axis = self._axis(found[2], keyword)
            self._take_text(f"{found[1]}{axis + 1}", card)
            return True
        if found := _PARAMETER.fullmatch(keyword):
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
        if not (found := _SIP.fullmatch(keyword)):
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
        if keyword in _AXES_NUMBERS or keyword in _AXES_TEXTS:
            self._take_for_axes(keyword, card)
        elif keyword in _NUMBERS or _PLATE.fullmatch(keyword):
            # 'J2000' and the like are no numbers: wcslib passes over them, and so do we.
            if not isinstance(_value(card), str) and (value := _number(card, _LARGEST)) is not None:
                self.numbers[keyword] = value
        elif keyword in _TEXTS or _WAT.fullmatch(keyword) or _DISTORTION.fullmatch(keyword):
            self._take_text(keyword, card)
        elif _RECORD.fullmatch(keyword):
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
            if keyword in _AXES_TEXTS:
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
            value = float(literal)
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
            self.texts = {key: one for key, one in self.texts.items() if not _WAT.fullmatch(key)}
        if distorted or not {"AMDX1", "AMDY1", "PPO3", "PPO6"} <= self.numbers.keys():
            self.texts.pop("PLTDECSN", None)
            self.numbers = {
                key: one for key, one in self.numbers.items() if not _PLATE.fullmatch(key)
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


def _card(keyword: str, value: float | str) -> bytes:
    """A card in free format, as wcslib reads it."""
    if isinstance(value, str):
        quoted = value.replace("'", "''")
        text = f"{keyword:8}= '{quoted:8}'"
    else:
        text = f"{keyword:8}= {value!r:>20}"
    if len(text) > 80:
        raise WcsError(f"{keyword} = {value!r:.60}: too long")
    return text.encode("ascii").ljust(80)
