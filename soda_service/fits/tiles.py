"""Tile compression of images: which headers can be compressed, and the table that results.

An image of n axes is cut into tiles, and each is a row of a binary table: axis 1 is fastest
among the tiles as it is among the pixels. Axes are in FITS order. Source: FITS 4.0 §10.1
(keywords, columns), §7.3.5 (variable-length arrays).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Final

from soda_service.fits.cards import CARD_SIZE, Header, render_cards
from soda_service.fits.newcards import card

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_AXES: Final = 6
"""cfitsio reads no compressed image of more axes."""
_LARGEST_INTEGER: Final = 2**31 - 1
"""astropy refuses a BLANK above it."""

_RESERVED: Final = re.compile(
    rb"Z(?:IMAGE|TENSION|SIMPLE|EXTEND|BLOCKED|PCOUNT|GCOUNT|HECKSUM|DATASUM|BITPIX|NAXIS[0-9]*"
    rb"|CMPTYPE|TILE[0-9]+|NAME[0-9]+|VAL[0-9]+|QUANTIZ|DITHER0|BLANK|SCALE|ZERO|MASKCMP)"
    rb"|NAXIS[0-9]+|TFIELDS|THEAP|T(?:TYPE|FORM|UNIT|NULL|SCAL|ZERO|DISP|DIM|BCOL|DMIN|DMAX|LMIN|LMAX)[0-9]+"
)
"""Keywords that would mean something else in the header of the table."""
_IN_PLACE: Final = {
    b"PCOUNT": b"ZPCOUNT", b"GCOUNT": b"ZGCOUNT", b"EXTEND": b"ZEXTEND", b"BLOCKED": b"ZBLOCKED",
    b"CHECKSUM": b"ZHECKSUM", b"DATASUM": b"ZDATASUM",
}  # fmt: skip
"""Keywords of the image that the table has for itself (FITS 4.0 §10.1.1)."""
_OF_A_COLUMN: Final = re.compile(rb"T(?:UNIT|NULL|SCAL|ZERO|DISP)[0-9]+")
_ELEMENT_SIZES: Final = {
    "L": 1, "B": 1, "A": 1, "I": 2, "J": 4, "K": 8, "E": 4, "D": 8, "C": 8, "M": 16,
}  # fmt: skip
_FORM: Final = re.compile(r"([0-9]*)([PQ]?)([LXBIJKAEDCM])(?:\([0-9]*\))? *")


@dataclass(frozen=True, slots=True, kw_only=True)
class TileColumn:
    """A column of the table of tiles."""

    name: str
    code: str
    """Type of an element: `B`, `I`, `D`… (FITS 4.0 table 18)."""
    repeat: int = 1
    """Elements of each cell, where their number is fixed."""
    varies: bool = False
    """Whether each cell has as many elements as it likes; they stand in the heap."""

    @classmethod
    def of(cls, name: str, form: str) -> TileColumn | None:
        """The column of this TTYPE and TFORM; None where that is no form."""
        found = _FORM.fullmatch(form)
        if found is None:
            return None
        repeat, pointer, code = found.groups()
        count = int(repeat) if repeat else 1
        if pointer and (count != 1 or code == "X"):
            return None
        return cls(name=name, code=code, repeat=count, varies=bool(pointer))

    @property
    def element_size(self) -> int:
        """Bytes."""
        return 1 if self.code == "X" else _ELEMENT_SIZES[self.code]

    @property
    def fixed_size(self) -> int:
        """Bytes of a cell whose number of elements is fixed."""
        if self.code == "X":
            return -(-self.repeat // 8)
        return self.repeat * self.element_size

    def form(self, longest: int, *, wide: bool) -> str:
        """TFORM; *longest* is the most elements of a cell, *wide* asks for 64-bit descriptors."""
        if not self.varies:
            return f"{self.repeat}{self.code}"
        return f"1{'Q' if wide else 'P'}{self.code}({longest})"


@dataclass(frozen=True, slots=True, kw_only=True)
class TileLayout:
    """How an image is compressed, its pixels apart."""

    tile: tuple[int, ...]
    """Axis lengths of a tile."""
    columns: tuple[TileColumn, ...]
    cards: bytes
    """ZCMPTYPE, ZNAMEi and whatever else a reader of the tiles must know."""

    def width(self, *, wide: bool) -> int:
        """Bytes of a row."""
        pointer = 16 if wide else 8
        return sum(pointer if one.varies else one.fixed_size for one in self.columns)


@dataclass(frozen=True, slots=True)
class PlainImage:
    """An image whose header can be that of a compressed one."""

    header: Header
    bitpix: int
    naxis: tuple[int, ...]

    @property
    def data_size(self) -> int:
        """Bytes of the pixels, without padding."""
        return prod(self.naxis) * abs(self.bitpix) // 8

    def without_sums(self) -> PlainImage:
        """The same image without CHECKSUM and DATASUM."""
        kept = [one.raw for one in self.header if one.keyword not in ("CHECKSUM", "DATASUM")]
        return PlainImage(Header(b"".join(kept)), self.bitpix, self.naxis)

    def tile_count(self, tile: Sequence[int]) -> int:
        """How many tiles of these axis lengths cover the image."""
        return prod(-(-length // one) for length, one in zip(self.naxis, tile, strict=True))


def compressible_image(raw: bytes) -> PlainImage | None:
    """The image that the complete header *raw* describes, if it can go into a table of tiles.

    None for HDUs without pixels, for tables, and for what a table of tiles cannot express:
    more than six axes, or cards that would mean something else there.
    """
    header = Header.parse(raw)
    bitpix = header.integer("BITPIX")
    count = header.integer("NAXIS") or 0
    is_image = header.get("SIMPLE") is True or header.string("XTENSION") == "IMAGE"
    is_plain = header.get("PCOUNT", 0) == 0 and header.get("GCOUNT", 1) == 1
    if bitpix is None or not is_image or not is_plain or header.get("GROUPS") is True:
        return None
    if not 1 <= count <= _MOST_AXES or not _is_expressible(header, bitpix):
        return None
    naxis = [header.integer(f"NAXIS{axis}") or 0 for axis in range(1, count + 1)]
    if min(naxis) < 1:
        return None
    return PlainImage(header, bitpix, tuple(naxis))


def _is_expressible(header: Header, bitpix: int) -> bool:
    """Whether every card says in the header of a table what it says here."""
    raw = header.raw
    keywords = [raw[at : at + 8].rstrip() for at in range(0, len(raw), CARD_SIZE)]
    structure = _structure(header)
    rest = keywords[len(structure) :]
    if tuple(keywords[: len(structure)]) != structure or not set(structure).isdisjoint(rest):
        return False
    if any(_RESERVED.fullmatch(keyword) for keyword in rest):
        return False
    if b"BLANK" not in rest:
        return True
    # astropy blanks floats by it as well, and refuses what is no number of 32 bits.
    blank = header.integer("BLANK")
    return bitpix > 0 and blank is not None and abs(blank) <= _LARGEST_INTEGER


def compressed_header(
    image: PlainImage,
    layout: TileLayout,
    *,
    heap_size: int,
    longest: Sequence[int],
    wide: bool,
) -> bytes:
    """The complete header of the table: the image's cards in their order, the structure before.

    *heap_size* is in bytes; *longest* is the largest number of elements in each column.
    *wide* asks for 64-bit descriptors. The size of the header depends on none of them.
    """
    rows = image.tile_count(layout.tile)
    cards = [
        card("XTENSION", "BINTABLE", "binary table extension"),
        card("BITPIX", 8, "array data type"),
        card("NAXIS", 2, "number of array dimensions"),
        card("NAXIS1", layout.width(wide=wide), "bytes of a row"),
        card("NAXIS2", rows, "number of tiles"),
        card("PCOUNT", heap_size, "bytes of compressed tiles"),
        card("GCOUNT", 1, "one data group"),
        card("TFIELDS", len(layout.columns), "number of columns"),
    ]
    for number, (column, most) in enumerate(zip(layout.columns, longest, strict=True), 1):
        cards.append(card(f"TTYPE{number}", column.name))
        cards.append(card(f"TFORM{number}", column.form(most, wide=wide)))
    cards.append(card("ZIMAGE", value=True, comment="a tile-compressed image"))
    raw = image.header.raw
    end = CARD_SIZE * len(_structure(image.header))
    cards += [_renamed(raw[at : at + CARD_SIZE]) for at in range(0, end, CARD_SIZE)]
    cards += [card(f"ZTILE{axis}", length) for axis, length in enumerate(layout.tile, 1)]
    cards.append(layout.cards)
    for one in Header(raw[end:]):
        keyword = one.raw[:8].rstrip()
        cards.append(_IN_PLACE.get(keyword, keyword).ljust(8) + one.raw[8:])
    return render_cards(*cards)


def rebased_dither(first: int, tiles: int) -> int:
    """ZDITHER0 for a table that begins with the tile number *tiles* (0-based) of another.

    *first* is that table's. The random numbers repeat after 10000 tiles (FITS 4.0 §10.2.1).
    """
    return (first + tiles - 1) % 10000 + 1


def _structure(header: Header) -> tuple[bytes, ...]:
    """The keywords with which the header of an image begins (FITS 4.0 §4.4.1)."""
    count = header.integer("NAXIS") or 0
    axes = tuple(f"NAXIS{axis}".encode("ascii") for axis in range(1, count + 1))
    if header.raw.startswith(b"SIMPLE"):
        return (b"SIMPLE", b"BITPIX", b"NAXIS", *axes)
    return (b"XTENSION", b"BITPIX", b"NAXIS", *axes, b"PCOUNT", b"GCOUNT")


def _renamed(raw: bytes) -> bytes:
    """A card of the structure as it stands in the table: `ZNAXIS1`, `ZTENSION`."""
    if raw.startswith(b"XTENSION"):
        return b"ZTENSION" + raw[8:]
    return (b"Z" + raw[:8].rstrip()).ljust(8) + raw[8:]


def column_cards(header: Header) -> bytes:
    """Cards about columns that go with them wherever they go, TNULLn say."""
    return b"".join(one.raw for one in header if _OF_A_COLUMN.fullmatch(one.raw[:8].rstrip()))
