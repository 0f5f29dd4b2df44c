"""What moves in a header when a box is cut out of its image: the rules, card by card.

With *d* the first pixel of the box (0-based) a pixel coordinate p of the parent is p - d in
the cutout. Pixel coordinates and sizes are all that changes; every card that no rule names
stays as it is, byte for byte, because a coordinate system that is written anew is read
anew.

Sources: FITS 4.0 §4.4, §8; FITS WCS Papers I to IV; the SIP and TPV registry; the NOAO
and IRAF dictionaries for LTV, LTM and the section keywords; wcslib's `dis.h` for TPD.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from soda_service.fits.axiskeywords import axes_named
from soda_service.fits.cards import CARD_SIZE, Card, Header
from soda_service.fits.distortion import Move, distortion_moves
from soda_service.fits.newcards import card
from soda_service.fits.pixelpolynomial import polynomial_moves
from soda_service.fits.recast import IntegerCard, MovingNumber, with_text
from soda_service.fits.section import Section, format_section, mapped, moved, parse_section

if TYPE_CHECKING:
    from collections.abc import Mapping

    from soda_service.geometry.pixelbox import PixelBox

_NUMBERS = "[1-9][0-9]?"
_DESCRIBING = ("CTYPE", "CRVAL", "CDELT", "CUNIT", "CROTA", "PC", "CD")
_LTV = re.compile(f"LTV({_NUMBERS})")
_LTM = re.compile(f"LTM({_NUMBERS})_({_NUMBERS})")
_UP = re.compile(f"(?:LBOUND|SUBSTRT)({_NUMBERS})|CNPIX([12])")
_SIZE = re.compile(f"(?:SUBSIZE|NPIX)({_NUMBERS})")
_SIZES = {"IMAGEW": 0, "IMAGEH": 1}
_IMAGE_SECTION = re.compile("(?:DATA|TRIM|BIAS|PRE|POST)SEC[A-Z0-9]?|[DBT]SEC[A-Z0-9]{0,3}")
_DATA_SECTION = re.compile("(?:DATA|D)SEC([A-Z0-9]{0,3})")
_OTHER_SECTION = re.compile("(?:CCD|DET|AMP)SEC([A-Z0-9]?)|[AC]SEC([A-Z0-9]{1,3})")

# Statements about the parent's pixels or outline that the cutout makes untrue.
_STALE = re.compile(
    "CHECKSUM|DATASUM|DATAM(?:IN|AX)|S_REGION"
    "|CORN[1-9](?:RA|DEC)|CORN(?:RA|DEC)[1-9]|COR[1-9](?:RA|DEC)[0-9]|CEN(?:RA|DEC)[0-9]"
    "|CENT(?:RA|DEC)|(?:RA|DEC)_CENT|RAC[1-4]|DECC[1-4]|(?:RA|DEC)C(?:MIN|MAX)|CROSSRA0"
    "|(?:RA|DEC)_(?:UL|UR|LL|LR)"
    # of this service, of an earlier cut
    "|CUTCOVER|CUTWCSER|CUTAXSER|CUTWCSNP"
)
_SPECTRAL = (
    *("FREQ", "ENER", "WAVN", "VRAD", "WAVE", "VOPT", "ZOPT", "AWAV", "VELO", "BETA", "FELO"),
    "LAMBDA",
)

# The first two letters of every keyword that a rule names; other cards are never looked at.
_BEGINNINGS = frozenset(
    b"AL AM AS BI BS CC CD CE CH CN CO CR CS CT CU DA DE".split()
    + b"DS IM LB LT NP PC PO PR PS PV RA S_ SU TR TS".split()
)


@dataclass(slots=True)
class Movement:
    """What becomes of the cards of one header."""

    replaced: dict[int, Move | bytes] = field(default_factory=dict)
    """By number of the card, the first being 0."""
    dropped: set[int] = field(default_factory=set)
    inserted: defaultdict[int, list[Move]] = field(default_factory=lambda: defaultdict(list))
    """What follows the card with this number."""


def movement_of(
    header: Header, axes: tuple[int, ...], table_versions: Mapping[tuple[str, int], int]
) -> Movement:
    """The rules applied to a header of an image with these axis lengths, mandatory cards apart.

    *table_versions* says which lookup tables, by EXTNAME and EXTVER, get another EXTVER.
    """
    cards = [(at, found.keyword, found) for at, found in header.beginning(_BEGINNINGS)]
    movement = Movement()
    _drop_stale(header, cards, movement)
    _move_reference_pixels(header, cards, axes, movement)
    _move_physical(cards, axes, movement)
    _move_sections(cards, axes, movement)
    _move_others(header, cards, axes, movement)
    moves = distortion_moves(header, axes, table_versions)
    movement.replaced |= moves.replaced
    terms, new_terms = polynomial_moves(header, axes)
    movement.replaced |= terms
    for at, absent in [*moves.inserted, *new_terms]:
        movement.inserted[at].append(absent)
    return movement


_Cards = list[tuple[int, str, Card]]


def drop(header: Header, at: int, movement: Movement) -> None:
    """Leave out a card with the CONTINUE cards that belong to it."""
    movement.dropped.add(at)
    while header.raw.startswith(b"CONTINUE", (at + 1) * CARD_SIZE):
        at += 1
        movement.dropped.add(at)


def is_stale(keyword: str) -> bool:
    """Whether what a card says of the parent's pixels or outline is untrue of any cutout."""
    return _STALE.fullmatch(keyword) is not None


def _drop_stale(header: Header, cards: _Cards, movement: Movement) -> None:
    for at, keyword, _ in cards:
        if is_stale(keyword):
            drop(header, at, movement)


class _Shift(MovingNumber):
    """A card that goes *up* or down with the first pixel of an axis."""

    __slots__ = ("_axis", "_sign")

    def __init__(self, raw: bytes, axis: int, *, up: bool = False) -> None:
        super().__init__(raw)
        self._axis = axis
        self._sign = 1 if up else -1

    def __call__(self, box: PixelBox) -> bytes:
        return self.plus(self._sign * box.lower[self._axis])


class _Absent:
    """A card that was absent because its default, zero, was right before anything moved."""

    __slots__ = ("_axis", "_keyword")

    def __init__(self, keyword: str, axis: int) -> None:
        self._keyword = keyword
        self._axis = axis

    def __call__(self, box: PixelBox) -> bytes:
        # All absent ones come together, so that a cutout of a cutout has them in one order.
        return card(self._keyword, 0.0 - box.lower[self._axis]) if any(box.lower) else b""


class _Size:
    """A card that says the length of an axis."""

    __slots__ = ("_axis", "_card")

    def __init__(self, raw: bytes, axis: int) -> None:
        self._card = IntegerCard(raw)
        self._axis = axis

    def __call__(self, box: PixelBox) -> bytes:
        return self._card.at(box.upper[self._axis] - box.lower[self._axis])


def _move_reference_pixels(
    header: Header, cards: _Cards, axes: tuple[int, ...], movement: Movement
) -> None:
    """CRPIXja of every alternate; where it is absent but the alternate is not, inserted."""
    lsst = _is_lsst_offset(header, axes)
    present: defaultdict[str, set[int]] = defaultdict(set)
    highest: defaultdict[str, int] = defaultdict(int)
    last: dict[str, int] = {}
    described: set[str] = set()
    for at, keyword, found in cards:
        if (named := axes_named(keyword)) is None:
            continue
        alternate, numbers = named
        highest[alternate] = max(highest[alternate], *numbers)
        if keyword.startswith("CRPIX"):
            axis = numbers[0]
            present[alternate].add(axis)
            last[alternate] = at
            if axis <= len(axes) and not (lsst and alternate == "A"):
                movement.replaced[at] = _Shift(found.raw, axis - 1)
        elif keyword.startswith(_DESCRIBING):
            last[alternate] = at
            described.add(alternate)
            if lsst and keyword in ("CRVAL1A", "CRVAL2A"):
                movement.replaced[at] = _Shift(found.raw, numbers[0] - 1, up=True)
    for alternate in described:
        world_axes = header.integer(f"WCSAXES{alternate}")
        count = len(axes) if world_axes is None else max(world_axes, highest[alternate])
        for axis in range(1, min(len(axes), count) + 1):
            if axis not in present[alternate]:
                movement.inserted[last[alternate]].append(
                    _Absent(f"CRPIX{axis}{alternate}", axis - 1)
                )


def _is_lsst_offset(header: Header, axes: tuple[int, ...]) -> bool:
    """Whether alternate A says where the image lies in its parent as LSST's afw writes it.

    afw reads CRVALnA only where both CRPIXnA are 1, so there CRVALnA moves instead: for a
    matrix of unity the two say the same.
    """
    if len(axes) != 2:
        return False
    matrix = {"CD1_1A": 1, "CD2_2A": 1, "CD1_2A": 0, "CD2_1A": 0}
    matrix |= {key.replace("CD", "CD0").replace("_", "_0"): one for key, one in matrix.items()}
    matrix |= {key.replace("CD", "PC"): value for key, value in matrix.items()}
    matrix |= {"CDELT1A": 1, "CDELT2A": 1}
    return (
        all(header.number(f"CRPIX{axis}A") == 1 for axis in (1, 2))
        and all(header.number(f"CRVAL{axis}A") is not None for axis in (1, 2))
        and all((header.string(f"CTYPE{axis}A") or "LINEAR") in _LINEAR for axis in (1, 2))
        and all(header.get(key, value) == value for key, value in matrix.items())
    )


_LINEAR = ("LINEAR", "PIXEL")


def _move_physical(cards: _Cards, axes: tuple[int, ...], movement: Movement) -> None:
    """LTVi goes with the pixels; where only LTMi_i exists, LTVi is inserted."""
    present: set[int] = set()
    scaled: set[int] = set()
    last = 0
    for at, keyword, found in cards:
        if match := _LTV.fullmatch(keyword):
            present.add(int(match[1]))
            if int(match[1]) <= len(axes):
                movement.replaced[at] = _Shift(found.raw, int(match[1]) - 1)
        elif match := _LTM.fullmatch(keyword):
            last = at
            if match[1] == match[2]:
                scaled.add(int(match[1]))
    for axis in sorted(scaled - present):
        if axis <= len(axes):
            movement.inserted[last].append(_Absent(f"LTV{axis}", axis - 1))


class _ImageSection:
    """A section of the image itself: moved, clipped, left out where nothing is left."""

    __slots__ = ("_raw", "_section")

    def __init__(self, raw: bytes, section: Section | None) -> None:
        self._raw = raw
        self._section = section

    def __call__(self, box: PixelBox) -> bytes:
        if self._section is None:
            return b""
        section = moved(self._section, box)
        return _section_card(self._raw, self._section, section)


class _OtherSection:
    """A section of something else (CCD, mosaic, amplifier) that a section of the image shows."""

    __slots__ = ("_axes", "_image", "_raw", "_section")

    def __init__(
        self, raw: bytes, section: Section | None, image: Section | None, axes: tuple[int, ...]
    ) -> None:
        self._raw = raw
        self._section = section
        self._image = image
        self._axes = axes

    def __call__(self, box: PixelBox) -> bytes:
        if self._section is None or self._image is None:
            return b""
        count = len(self._section)
        if box.naxis[:count] == self._axes[:count] and not any(box.lower[:count]):
            return self._raw
        section = mapped(self._section, self._image, box)
        return _section_card(self._raw, self._section, section)


def _section_card(raw: bytes, old: Section, new: Section | None) -> bytes:
    if new is None:
        return b""
    return raw if new == old else with_text(raw, format_section(new))


def is_section(keyword: str) -> bool:
    """Whether a card says which part of the image, or of what the image shows, it is about."""
    return bool(_IMAGE_SECTION.fullmatch(keyword) or _OTHER_SECTION.fullmatch(keyword))


def _move_sections(cards: _Cards, axes: tuple[int, ...], movement: Movement) -> None:
    """The family of DATASEC in pixels of the image; that of CCDSEC through it.

    Without DATASEC the whole image shows the CCDSEC. What is written as a section but
    cannot be read as one is left out of every true part of the image.
    """
    images: dict[str, Section | None] = {"": tuple((1, length) for length in axes[:2])}
    others: list[tuple[int, bytes, Section | None, str]] = []
    for at, keyword, found in cards:
        value = found.string
        if value is None or not value.lstrip().startswith("["):
            continue
        # What a whole axis of anything else than the image is cannot be known.
        is_other = _OTHER_SECTION.fullmatch(keyword)
        section = parse_section(value, () if is_other else axes)
        if match := _DATA_SECTION.fullmatch(keyword):
            images[match[1]] = section
        if is_other:
            others.append((at, found.raw, section, is_other[1] or is_other[2] or ""))
        elif _IMAGE_SECTION.fullmatch(keyword):
            movement.replaced[at] = _WhereCut(_ImageSection(found.raw, section), found.raw, axes)
    for at, raw, section, key in others:
        move = _OtherSection(raw, section, images.get(key), axes)
        movement.replaced[at] = _WhereCut(move, raw, axes)


class _WhereCut:
    """A card that changes only where the box is not the whole image."""

    __slots__ = ("_axes", "_move", "_raw")

    def __init__(self, move: Move, raw: bytes, axes: tuple[int, ...]) -> None:
        self._move = move
        self._raw = raw
        self._axes = axes

    def __call__(self, box: PixelBox) -> bytes:
        is_whole = box.naxis == self._axes and not any(box.lower)
        return self._raw if is_whole else self._move(box)


def _move_others(header: Header, cards: _Cards, axes: tuple[int, ...], movement: Movement) -> None:
    """Pixel coordinates and sizes of single conventions."""
    spectral = _spectral_axis(header, len(axes))
    for at, keyword, found in cards:
        if keyword == "ALTRPIX" and spectral is not None:
            movement.replaced[at] = _Shift(found.raw, spectral)
        elif match := _UP.fullmatch(keyword):
            axis = int(match[1] or match[2]) - 1
            if axis < len(axes):
                movement.replaced[at] = _Shift(found.raw, axis, up=True)
        elif (sized := axis_of_size(keyword)) is not None and sized < len(axes):
            movement.replaced[at] = _Size(found.raw, sized)


def axis_of_size(keyword: str) -> int | None:
    """The axis whose length a card says, mandatory cards apart, 0-based; None for other cards."""
    if match := _SIZE.fullmatch(keyword):
        return int(match[1]) - 1
    return _SIZES.get(keyword)


def _spectral_axis(header: Header, count: int) -> int | None:
    for axis in range(count):
        if (header.string(f"CTYPE{axis + 1}") or "").upper().startswith(_SPECTRAL):
            return axis
    return None
