"""Companions: PSF cubes and their like, which go with an image but do not lie on its pixels.

They go along whole, or, where the collection says so, as the one plane that belongs to the place
that is cut. Where on the image each plane belongs stands in the cube's header, in a table, or in
the coordinates of the cube itself, as the collection's rule tells.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from soda_service.config import PlaneRule
from soda_service.fits.cards import CARD_SIZE, END_CARD, Card, render_cards, string_span
from soda_service.fits.recast import Literal, MovingNumber, with_text
from soda_service.geometry.pixelbox import PixelBox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from soda_service.cutout.preparedhdu import PreparedHdu
    from soda_service.fits.cards import Header
    from soda_service.fits.tablerows import BinaryTable

    FindTable = Callable[[str], tuple[PreparedHdu, BinaryTable] | None]

WHOLE_ROLE: Final = "psf"
PLANE_ROLE: Final = "psf-by-position"
"""The role of a cube of which a cutout gets one plane."""

_OF_THE_ROLE: Final = PlaneRule(
    by="keywords", x="XCTR_{n}", y="YCTR_{n}", others=("XWID_{n}", "YWID_{n}")
)
"""Where the collection gives no rule: as the NASA SPHEREx pipeline writes it."""
_TWO_NUMBERS: Final = re.compile(r"([^0-9+.-]*)([^\s,;()]+)([\s,;]+)([^\s,;()]+)(.*)")


class Plane(NamedTuple):
    """The plane of a cube that belongs to a place."""

    box: PixelBox
    """Of the cube."""
    number: int
    """From 0; of a grid, along its third axis first."""
    table: PreparedHdu | None
    """Where the places of the planes stand, if that is another HDU."""
    row: int
    """The plane's row there, from 0."""


def rule_of(hdu: PreparedHdu) -> PlaneRule | None:
    """The rule by which a cutout gets one plane of *hdu*; None where it goes along whole."""
    return hdu.hdu.planes or (_OF_THE_ROLE if hdu.hdu.role == PLANE_ROLE else None)


def is_companion(hdu: PreparedHdu) -> bool:
    """Whether *hdu* goes along with what is cut of other images."""
    if hdu.leader is not None or not hdu.hdu.layout.is_image:
        return False
    return hdu.hdu.role in {WHOLE_ROLE, PLANE_ROLE} or hdu.hdu.planes is not None


def plane_for(hdu: PreparedHdu, image: PixelBox, find_table: FindTable) -> Plane | None:
    """The plane of *hdu* that belongs to the middle of *image*, a box of the image it goes with.

    *find_table* gives a table by its EXTNAME. None where the cube goes along whole: it has no
    rule, or the places of its planes are not all known.
    """
    rule, naxis = rule_of(hdu), hdu.hdu.layout.naxis
    if rule is None or len(naxis) < 3 or len(image.lower) < 2:
        return None
    middle = [(low + high - 1) / 2 for low, high in zip(image.lower[:2], image.upper, strict=False)]
    if rule.by == "grid":
        return _cell(hdu, naxis, middle)
    axis = len(naxis) - 1
    table: PreparedHdu | None = None
    rows = np.arange(naxis[axis])
    if rule.by == "table":
        found = find_table(rule.table)
        listed = found and _listed(found[1], rule, naxis[axis])
        if found is None or not listed:
            return None
        table = found[0]
        places, rows = listed
    else:
        places = np.array(
            [_place_in(hdu.hdu.layout.header, rule, number) for number in range(naxis[axis])]
        )
    if not np.isfinite(places).all():
        return None
    distances = np.hypot(*(places - rule.origin - middle).T)
    number = int(distances.argmin())
    box = PixelBox.whole(naxis).replaced(axis, number, number + 1)
    return Plane(box, number, table, int(rows[number]))


def _place_in(header: Header, rule: PlaneRule, number: int) -> tuple[float, float]:
    """The place of a plane, from 0, as its keywords give it; NaN where they do not."""
    told = str(number + rule.first)
    nowhere = float("nan")
    if rule.yx:
        text = header.string(rule.yx.replace("{n}", told)) or ""
        found = _TWO_NUMBERS.fullmatch(text)
        try:
            return (float(found[4]), float(found[2])) if found else (nowhere, nowhere)
        except ValueError:
            return nowhere, nowhere
    x, y = (header.number(pattern.replace("{n}", told)) for pattern in (rule.x, rule.y))
    return (nowhere if x is None else x), (nowhere if y is None else y)


def _listed(
    table: BinaryTable, rule: PlaneRule, planes: int
) -> tuple[NDArray[np.float64], NDArray[np.intp]] | None:
    """The places of all planes and their rows, as a table has them; None where it has not."""
    x, y = table.numbers(rule.x), table.numbers(rule.y)
    order = table.numbers(rule.plane) if rule.plane else np.arange(table.count) + float(rule.first)
    if x is None or y is None or order is None:
        return None
    numbers = np.rint(order - rule.first).astype(np.intp)
    rows = np.full(planes, -1, dtype=np.intp)
    known = (numbers >= 0) & (numbers < planes)
    rows[numbers[known]] = np.flatnonzero(known)
    return (np.column_stack([x, y])[rows], rows) if (rows >= 0).all() else None


def _cell(hdu: PreparedHdu, naxis: tuple[int, ...], middle: Sequence[float]) -> Plane | None:
    """The cell of a regular grid of planes that is nearest to *middle*."""
    if len(naxis) != 4:
        return None
    header = hdu.image_header
    box, cells = PixelBox.whole(naxis), []
    for axis, at in zip((2, 3), middle, strict=True):
        values = [header.number(f"{name}{axis + 1}") for name in ("CRPIX", "CRVAL", "CDELT")]
        crpix, crval, cdelt = values
        if crpix is None or crval is None or not cdelt:
            return None
        centres = crval + cdelt * (np.arange(1, naxis[axis] + 1) - crpix) - 1
        cells.append(int(np.abs(centres - at).argmin()))
        box = box.replaced(axis, cells[-1], cells[-1] + 1)
    return Plane(box, cells[0] + naxis[2] * cells[1], None, 0)


def header_of_plane(header: bytes, hdu: PreparedHdu, plane: Plane, offset: Sequence[int]) -> bytes:
    """The complete *header* of a cube of which only *plane* is left.

    Its place moves with the image, of which *offset* are the first pixels; other planes' are
    left out.
    """
    rule = rule_of(hdu)
    assert rule is not None
    cards = [header[at : at + CARD_SIZE] for at in range(0, len(header), CARD_SIZE)]
    cards = cards[: cards.index(END_CARD)]
    if rule.by == "grid":
        return render_cards(*_with_moved_grid(cards, offset))
    return render_cards(*_with_one_place(cards, rule, plane, offset))


def _with_moved_grid(cards: Sequence[bytes], offset: Sequence[int]) -> Iterator[bytes]:
    for card in cards:
        axis = {b"CRVAL3": 0, b"CRVAL4": 1}.get(card[:8].rstrip())
        yield card if axis is None else MovingNumber(card).plus(-offset[axis])


def _with_one_place(
    cards: Sequence[bytes], rule: PlaneRule, plane: Plane, offset: Sequence[int]
) -> Iterator[bytes]:
    own = {rule.x: 0, rule.y: 1} if rule.by == "keywords" else {}
    patterns = [pattern for pattern in (*own, rule.yx, *rule.others) if "{n}" in pattern]
    keyword = re.compile("|".join(
        f"(?:{re.escape(one).replace(re.escape('{n}'), '([0-9]{1,4})')})" for one in patterns
    ))  # fmt: skip
    for card in cards:
        found = keyword.fullmatch(card[:8].decode("latin-1").rstrip()) if patterns else None
        if found is None or found.lastindex is None:
            yield card
            continue
        pattern = patterns[found.lastindex - 1]
        if int(found[found.lastindex]) != plane.number + rule.first:
            continue
        moved = card
        if pattern in own:
            moved = MovingNumber(card).plus(-offset[own[pattern]])
        elif pattern == rule.yx:
            moved = _with_moved_pair(card, offset)
        name = pattern.replace("{n}", str(rule.first))
        yield name.encode("ascii").ljust(8) + moved[8:]


def _with_moved_pair(card: bytes, offset: Sequence[int]) -> bytes:
    """The card of a text with y and x in it, both less *offset*."""
    text = Card(card).string or ""
    found = _TWO_NUMBERS.fullmatch(text)
    if found is None or string_span(Card(card)) is None:
        return card
    y, x = Literal(found[2]).plus(-offset[1]), Literal(found[4]).plus(-offset[0])
    return with_text(card, f"{found[1]}{y}{found[3]}{x}{found[5]}")
