"""Headers of the answer: the original cards, with those moved that must move.

`HeaderCutter` reads the rules of `movement` into a sequence of pieces once; a cut then only
fills in the few cards that depend on the box. Sources: FITS 4.0 §4.4.1 (mandatory keywords
and their order), §10.1 (tile compression).
"""

from __future__ import annotations

import re
from operator import gt
from typing import TYPE_CHECKING

from soda_service.fits.axiskeywords import axes_named
from soda_service.fits.cards import CARD_SIZE, Header, end_of, render_cards
from soda_service.fits.layout import HduKind
from soda_service.fits.movement import Movement, drop, is_section, is_stale, movement_of
from soda_service.fits.newcards import card
from soda_service.fits.recast import IntegerCard
from soda_service.geometry.frames import Frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from soda_service.fits.distortion import Move
    from soda_service.geometry.pixelbox import PixelBox

_COMPRESSION = re.compile(
    "Z(?:IMAGE|TENSION|SIMPLE|EXTEND|BLOCKED|PCOUNT|GCOUNT|HECKSUM|DATASUM|BITPIX|NAXIS[0-9]*"
    "|CMPTYPE|TILE[0-9]+|NAME[0-9]+|VAL[0-9]+|QUANTIZ|DITHER0|BLANK|SCALE|ZERO|MASKCMP)"
)
_TABLE = re.compile(
    "TFIELDS|THEAP"
    "|T(?:TYPE|FORM|UNIT|NULL|SCAL|ZERO|DISP|DIM|BCOL|DMIN|DMAX|LMIN|LMAX|COMM)([0-9]+)"
)
_MANDATORY = re.compile("SIMPLE|XTENSION|BITPIX|NAXIS[0-9]*")
_IN_FRONT = frozenset(b"SI XT BI NA PC GC IN EX NE GR".split())
_NOT_OF_THE_IMAGE = frozenset(
    b"SI XT BI NA PC GC EX CH DA BL TF TH TT TU TN TS TZ TD TB TL TC".split()
) | {b"Z" + bytes([letter]) for letter in b"BCDEGHIMNPQSTVZ"}
_IMAGE_EXTENSION = re.compile(rb"XTENSION= '(?:IMAGE|IUEIMAGE) *'")

# What describes an array, and has no meaning without one; `axes_named`, `is_section` and `is_stale`
# know more of it.
_OF_THE_ARRAY = re.compile(
    "NAXIS[0-9]+|BSCALE|BZERO|BLANK|BUNIT|DATAM(?:IN|AX)|CHECKSUM|DATASUM|PCOUNT|GCOUNT|GROUPS"
    "|(?:WCSAXES|WCSNAME|LONPOLE|LATPOLE)[A-Z]?"
    "|(?:RADESYS|EQUINOX|SPECSYS|SSYSOBS|SSYSSRC|VELOSYS|ZSOURCE|VELANGL|RESTFRQ|RESTWAV)[A-Z]"
    "|(?:CPDIS|CQDIS|CPERR|CQERR|DP|DQ)[1-9][0-9]?[A-Z]?"
    "|D2IM[1-9]|D2IM(?:DIS|ERR)[1-9]|D2IMEXT|AXISCORR|(?:A|B|AP|BP)_(?:[0-9]_[0-9]|ORDER|DMAX)"
    "|LTV[1-9]|LTM[1-9]_[1-9]|ATV[1-9]|ATM[1-9]_[1-9]|DTV[1-9]|DTM[1-9]_[1-9]|WAT[0-9]_[0-9]{3}"
    "|CNPIX[12]|AMD[XY][0-9]+|PPO[0-9]+|[XY]PIXELSZ|PLT(?:RA[HMS]|DEC(?:SN|[DMS]))"
    "|(?:LBOUND|SUBSTRT|SUBSIZE|NPIX)[1-9]|PIXVALUE|IMAGE[WH]|ALT(?:RPIX|RVAL)"
)
_BYTE_ADDRESSES = ("INDXADDR", "INDXSIZE", "JSONADDR", "JSONSIZE")


def cut_header(
    header: Header,
    box: PixelBox,
    *,
    kind: HduKind,
    first: bool,
    provenance: Sequence[bytes] = (),
) -> bytes:
    """The complete header of the image that *box* cuts out: END, padded to whole blocks.

    *first* makes it a primary header, otherwise an IMAGE extension's. *provenance* are
    whole cards, appended.
    """
    return HeaderCutter(header, kind, first=first).cut(box, provenance)


class HeaderCutter:
    """One header, prepared for being cut many times; safe to share between threads."""

    __slots__ = ("_axes", "_moves", "_pieces", "_size")

    def __init__(
        self,
        header: Header,
        kind: HduKind,
        *,
        first: bool | None = None,
        extensions: int | None = None,
        table_versions: Mapping[tuple[str, int], int] | None = None,
    ) -> None:
        """What stays the same for every box.

        *first* makes it a primary header, False an IMAGE extension's; None leaves it what
        it is. *extensions* is how many HDUs follow a first one (EXTEND, NEXTEND); None leaves
        what is said. *table_versions* maps EXTNAME and EXTVER of lookup tables to another
        EXTVER. Raises ValueError where there is no image to cut.
        """
        source = image_header(header) if kind is HduKind.COMPRESSED else header
        if first is None:
            first = source.raw.startswith(b"SIMPLE")
        self._axes = _cut_axes(source)
        movement = movement_of(source, self._axes, table_versions or {})
        if first:
            _count_extensions(source, extensions, movement)
        pieces = _mandatory(source, self._axes, first, movement)
        if first and extensions and "EXTEND" not in source:
            pieces.append(card("EXTEND", value=True))
        pieces.extend(_others(source, movement))
        joined = _joined(pieces)
        self._pieces = [piece if isinstance(piece, bytes) else b"" for piece in joined]
        self._size = sum(map(len, self._pieces))
        """Of what does not move."""
        # A method is called at half the price of an object that has it.
        self._moves = [
            (at, piece.__call__) for at, piece in enumerate(joined) if not isinstance(piece, bytes)
        ]

    def cut(self, box: PixelBox, provenance: Sequence[bytes] = ()) -> bytes:
        """The complete header for *box*, with *provenance*, whole cards, appended.

        Raises ValueError where the box, if it is no `Frame`, does not lie in the image.
        """
        if len(box.upper) != len(self._axes) or (
            any(map(gt, box.upper, self._axes)) and not isinstance(box, Frame)
        ):
            raise ValueError(f"{box.section} is not inside an image of {self._axes}")
        cards = self._pieces.copy()
        size = self._size
        for at, move in self._moves:
            cards[at] = card = move(box)
            size += len(card)
        for card in provenance:
            cards.append(card)
            size += len(card)
        cards.append(end_of(size))
        return b"".join(cards)


def image_header(header: Header) -> Header:
    """The header of the image in a tile-compressed HDU, as an IMAGE extension.

    What describes the table and the compression is left out; BITPIX, NAXIS and NAXISn are
    those of the image. Any other header is given back as it is. Raises ValueError where the
    image of a compressed HDU is not described.
    """
    if header.get("ZIMAGE") is not True or header.get("XTENSION") != "BINTABLE":
        return header
    columns = header.integer("TFIELDS") or 0
    is_float = (header.integer("ZBITPIX") or 0) < 0
    pieces = [card("XTENSION", "IMAGE", "image extension"), _unprefixed(header, "ZBITPIX")]
    pieces.append(_unprefixed(header, "ZNAXIS"))
    axes = range(1, (header.integer("ZNAXIS") or 0) + 1)
    pieces += [_unprefixed(header, f"ZNAXIS{axis}") for axis in axes]
    pieces += [card("PCOUNT", 0, "no group parameters"), card("GCOUNT", 1, "one data group")]
    if not is_float and "BLANK" not in header and header.integer("ZBLANK") is not None:
        pieces.append(_unprefixed(header, "ZBLANK"))
    left_out = Movement()
    for at, one in header.beginning(_NOT_OF_THE_IMAGE):
        keyword = one.keyword
        column = _TABLE.fullmatch(keyword)
        if (
            _COMPRESSION.fullmatch(keyword)
            or (column and (column[1] is None or 1 <= int(column[1]) <= columns))
            or _MANDATORY.fullmatch(keyword)
            or keyword in ("PCOUNT", "GCOUNT", "EXTEND", "CHECKSUM", "DATASUM")
            # FITS 4.0 §4.4.2.5: BLANK belongs to integers only.
            or (keyword == "BLANK" and is_float)
            or (keyword == "EXTNAME" and one.string == "COMPRESSED_IMAGE")
        ):
            drop(header, at, left_out)
    return Header(b"".join(_whole_cards([*pieces, *_others(header, left_out)])))


def _unprefixed(header: Header, keyword: str) -> bytes:
    """The card of *keyword* without its Z; ValueError where there is none."""
    positions = header.positions(keyword)
    if not positions:
        raise ValueError(f"no {keyword}: not a compressed image")
    start = positions[0] * CARD_SIZE
    raw = header.raw[start : start + CARD_SIZE]
    return raw[1:8] + b" " + raw[8:]


def empty_primary(
    header: Header, *, extensions: int | None = None, provenance: Sequence[bytes] = ()
) -> bytes:
    """The complete header of a primary HDU whose image is left out of the answer.

    What describes the image goes, what describes the observation stays.
    """
    movement = Movement()
    for at, one in enumerate(header):
        if one.raw[8:10] == b"= " and _is_of_the_array(one.keyword):
            drop(header, at, movement)
    _count_extensions(header, extensions, movement)
    pieces = _mandatory(header, (), True, movement)
    if extensions and "EXTEND" not in header:
        pieces.append(card("EXTEND", value=True))
    pieces.extend(_others(header, movement))
    return render_cards(*_whole_cards(pieces), *provenance)


def _is_of_the_array(keyword: str) -> bool:
    return bool(
        _OF_THE_ARRAY.fullmatch(keyword)
        or axes_named(keyword)
        or is_section(keyword)
        or is_stale(keyword)
    )


def kept_primary(
    header: Header,
    *,
    extensions: int,
    hdu_numbers: Mapping[int, int] | None = None,
    images_are_whole: bool = False,
    provenance: Sequence[bytes] = (),
) -> bytes:
    """The complete header of a primary HDU that goes into an answer whole.

    *extensions* is how many HDUs follow. *hdu_numbers* gives the place in the answer of
    each HDU that is kept, both counted from 0; None where they keep their places. Byte
    addresses of the parent file (lsst.images) are left out; AR_HDU of LSST's afw follows
    its HDU, or goes with the identifiers into that archive. What a header without pixels says
    of corners and outlines (CORN1RA, S_REGION) is said of the images behind it, and goes unless
    *images_are_whole* and all in their places. CHECKSUM stays only where no card changed.
    """
    movement = Movement()
    if not header.integer("NAXIS") and not (images_are_whole and hdu_numbers is None):
        for at, one in enumerate(header):
            # DATASUM is of its own data, of which there are none.
            is_sum = one.keyword in ("CHECKSUM", "DATASUM")
            if one.raw[8:10] == b"= " and is_stale(one.keyword) and not is_sum:
                drop(header, at, movement)
    _count_extensions(header, extensions, movement)
    _move_addresses(header, hdu_numbers, movement)
    raw = header.raw
    pieces: list[bytes | Move] = [raw[: CARD_SIZE * _mandatory_count(header)]]
    if extensions and "EXTEND" not in header:
        pieces.append(card("EXTEND", value=True))
    pieces.extend(_others(header, movement, start=_mandatory_count(header)))
    cards = b"".join(_whole_cards(pieces)) + b"".join(provenance)
    if cards != raw:
        kept = Header(cards)
        cards = b"".join(one.raw for one in kept if one.keyword != "CHECKSUM")
    return render_cards(cards)


def constant_axes(header: Header) -> tuple[int, ...]:
    """Axis lengths, NPIX1 and NPIX2, of an image all of whose pixels are PIXVALUE; else none.

    HST writes it so, with NAXIS = 0 and no data. `HeaderCutter` cuts it as any other image.
    """
    lengths = tuple([header.integer(keyword) or 0 for keyword in ("NPIX1", "NPIX2")])
    return lengths if header.integer("NAXIS") == 0 and min(lengths) > 0 else ()


def _cut_axes(header: Header) -> tuple[int, ...]:
    """Axis lengths of the image, or of the constant one."""
    count = header.integer("NAXIS") or 0
    lengths = [header.integer(f"NAXIS{axis}") for axis in range(1, count + 1)]
    known = tuple(length for length in lengths if length) or constant_axes(header)
    if not known or len(known) < count:
        raise ValueError("the header describes no image")
    return known


class _AxisLength(IntegerCard):
    __slots__ = ("_axis",)

    def __init__(self, raw: bytes, axis: int) -> None:
        super().__init__(raw)
        self._axis = axis

    def __call__(self, box: PixelBox) -> bytes:
        length = box.upper[self._axis] - box.lower[self._axis]
        return self._raw if length == self._value else self._template % length


def _mandatory(
    header: Header, axes: tuple[int, ...], first: bool, movement: Movement
) -> list[bytes | Move]:
    """The cards that stand first, in their order; their originals are marked as dropped."""
    raw: dict[str, bytes] = {}
    was_extension = header.raw.startswith(b"XTENSION")
    for at, one in header.beginning(_IN_FRONT):
        keyword = one.keyword
        is_group = keyword in ("PCOUNT", "GCOUNT") and (was_extension or not first)
        if _MANDATORY.fullmatch(keyword) or is_group:
            raw.setdefault(keyword, one.raw)
            drop(header, at, movement)
        elif (was_extension and first and keyword == "INHERIT") or (
            not was_extension and not first and keyword in ("EXTEND", "NEXTEND", "GROUPS")
        ):
            drop(header, at, movement)

    cards: list[bytes | Move] = []
    if first:
        made = card("SIMPLE", value=True, comment="conforms to FITS standard")
        cards.append(raw.get("SIMPLE", made))
    elif _IMAGE_EXTENSION.match(raw.get("XTENSION", b"")):
        cards.append(raw["XTENSION"])
    else:
        cards.append(card("XTENSION", "IMAGE", "image extension"))
    is_array = "NAXIS1" in raw and bool(axes)
    count = len(axes) if is_array else 0
    cards.append(raw.get("BITPIX", card("BITPIX", 8)))
    cards.append(IntegerCard(raw.get("NAXIS", card("NAXIS", 0))).at(count))
    cards.extend(_AxisLength(raw[f"NAXIS{axis + 1}"], axis) for axis in range(count))
    if not first:
        cards.append(raw.get("PCOUNT", card("PCOUNT", 0, "no group parameters")))
        cards.append(raw.get("GCOUNT", card("GCOUNT", 1, "one data group")))
    return cards


def _mandatory_count(header: Header) -> int:
    """How many cards stand before the place of EXTEND in a primary header."""
    return 3 + (header.integer("NAXIS") or 0)


def _others(header: Header, movement: Movement, start: int = 0) -> Iterator[bytes | Move]:
    """The cards from number *start*, as the movement leaves them; untouched ones in runs."""
    raw = header.raw
    done = start
    touched = movement.dropped | movement.replaced.keys() | movement.inserted.keys()
    for at in sorted(touched):
        if at < start:
            continue
        yield raw[done * CARD_SIZE : at * CARD_SIZE]
        here = raw[at * CARD_SIZE : (at + 1) * CARD_SIZE]
        if at not in movement.dropped:
            yield movement.replaced.get(at, here)
        yield from movement.inserted.get(at, ())
        done = at + 1
    yield raw[done * CARD_SIZE :]


def _joined(pieces: Iterable[bytes | Move]) -> tuple[bytes | Move, ...]:
    """The same pieces, those that never change joined with their neighbours."""
    joined: list[bytes | Move] = []
    for piece in pieces:
        if joined and isinstance(piece, bytes) and isinstance(joined[-1], bytes):
            joined[-1] += piece
        else:
            joined.append(piece)
    return tuple(joined)


def _whole_cards(pieces: Iterable[bytes | Move]) -> list[bytes]:
    """Pieces none of which depends on a box."""
    return [piece for piece in pieces if isinstance(piece, bytes)]


def _count_extensions(header: Header, extensions: int | None, movement: Movement) -> None:
    """EXTEND and NEXTEND of a primary header that *extensions* HDUs follow."""
    if extensions is None:
        return
    for at in header.positions("EXTEND") if extensions else ():
        if header.get("EXTEND") is not True:
            movement.replaced[at] = card("EXTEND", value=True)
    for at in header.positions("NEXTEND"):
        raw = header.raw[at * CARD_SIZE : (at + 1) * CARD_SIZE]
        movement.replaced[at] = IntegerCard(raw).at(extensions)


def _move_addresses(
    header: Header, hdu_numbers: Mapping[int, int] | None, movement: Movement
) -> None:
    """Where the header says where other things lie in the file."""
    if any(keyword in header for keyword in _BYTE_ADDRESSES):
        for keyword in (*_BYTE_ADDRESSES, "FMTVER", "DATAMODL"):
            for at in header.positions(keyword):
                drop(header, at, movement)
    archive = header.integer("AR_HDU")
    if archive is None or hdu_numbers is None:
        return
    place = hdu_numbers.get(archive - 1)
    for at, one in enumerate(header):
        keyword = one.keyword
        if keyword == "AR_HDU" and place is not None:
            movement.replaced[at] = IntegerCard(one.raw).at(place + 1)
        elif place is None and (
            keyword in ("AR_HDU", "AR_NAME")
            or keyword.startswith("ARCHIVE_ID_")
            or (keyword.endswith("_ID") and "archive ID" in one.text)
        ):
            drop(header, at, movement)
