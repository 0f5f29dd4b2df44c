"""FITS files out of headers and pixels: padding, chunks and check sums.

Source: FITS 4.0 §3.3.2 (padding of data), §4.4.2.7 and appendix J (DATASUM, CHECKSUM).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from soda_service.errors import CorruptFileError
from soda_service.fits.cards import BLOCK_SIZE, CARD_SIZE, END_CARD, render_cards
from soda_service.fits.newcards import card

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Buffer = bytes | bytearray | memoryview

_CHECKSUM: Final = b"CHECKSUM"
_DATASUM: Final = b"DATASUM "
_SUM_KEYWORDS: Final = (_CHECKSUM, _DATASUM)
_NO_CHECKSUM: Final = "0" * 16
"""The value of CHECKSUM while the sum is made (appendix J)."""
_DATASUM_WIDTH: Final = 10
_MODULUS: Final = 0xFFFFFFFF
_VALUE: Final = slice(11, 27)
"""Where the sixteen characters of CHECKSUM stand in its card."""
_EXCLUDED: Final = frozenset(b":;<=>?@[\\]^_`")
"""Characters between the digits and the letters of ASCII; none may stand in CHECKSUM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitsPart:
    """One HDU on its way out."""

    header: bytes
    """Complete: with END, padded to whole blocks."""
    data: Iterable[Buffer]
    """The data unit in pieces, without padding; iterated once."""
    data_size: int
    """Bytes that *data* gives."""

    @property
    def size(self) -> int:
        """Bytes of the HDU in the file."""
        return len(self.header) + self.data_size + padding_size(self.data_size)


def padding_size(data_size: int) -> int:
    """Bytes between the end of the data and the end of its last block."""
    return -data_size % BLOCK_SIZE


def fits_chunks(parts: Iterable[FitsPart], chunk_bytes: int) -> Iterator[Buffer]:
    """The bytes of the file, in chunks of about *chunk_bytes*.

    Small pieces are joined, large ones go through uncopied. Raises CorruptFileError as soon
    as a part gives more or fewer bytes than it promised: what has been sent by then is short
    of the promised length, and so never looks complete.
    """
    waiting: list[Buffer] = []
    size = 0
    for piece in _pieces(parts):
        if size and size + len(piece) > chunk_bytes:
            yield waiting[0] if len(waiting) == 1 else b"".join(waiting)
            waiting, size = [], 0
        if len(piece):
            waiting.append(piece)
            size += len(piece)
    if size:
        yield waiting[0] if len(waiting) == 1 else b"".join(waiting)


def with_checksum_cards(header: bytes) -> bytes:
    """A complete header with cards for CHECKSUM and DATASUM as its last ones, yet to be filled.

    A header that has them gets new ones. The size is final: `checksummed` keeps it.
    """
    kept = b"".join(one for one in _cards(header) if one[:8] not in _SUM_KEYWORDS)
    return render_cards(
        kept,
        card("CHECKSUM", _NO_CHECKSUM, "HDU checksum"),
        card("DATASUM", "0".ljust(_DATASUM_WIDTH), "data unit checksum"),
    )


def has_sums(header: bytes) -> bool:
    """Whether a complete header has CHECKSUM and DATASUM, right ones or ones to be filled."""
    return {one[:8] for one in _cards(header)} >= set(_SUM_KEYWORDS)


def awaits_sums(header: bytes) -> bool:
    """Whether `with_checksum_cards` made the header, and `checksummed` has not filled it."""
    return card("CHECKSUM", _NO_CHECKSUM, "HDU checksum") in header


def checksummed(header: bytes, data: Iterable[Buffer]) -> bytes:
    """*header*, made by `with_checksum_cards`, with the sums of itself and of *data* filled in."""
    data_sum = ones_complement_sum(data)
    cards = list(_cards(header))
    at = {one[:8]: number for number, one in enumerate(cards)}
    checksum_at, datasum_at = at[_CHECKSUM], at[_DATASUM]
    cards[checksum_at] = card("CHECKSUM", _NO_CHECKSUM, "HDU checksum")
    cards[datasum_at] = card("DATASUM", str(data_sum), "data unit checksum")
    whole = _added(ones_complement_sum([render_cards(*cards)]), data_sum)
    encoded = encode_checksum(_MODULUS - whole)
    checksum = cards[checksum_at]
    cards[checksum_at] = (
        checksum[: _VALUE.start] + encoded.encode("ascii") + checksum[_VALUE.stop :]
    )
    return render_cards(*cards)


def ones_complement_sum(pieces: Iterable[Buffer]) -> int:
    """The 32-bit ones' complement sum of the bytes, as if zeros filled the last block.

    The pieces may have any length; memory holds one of them.
    """
    total = 0
    rest = b""
    for piece in pieces:
        view = memoryview(piece).cast("B")
        if rest:
            missing = min(-len(rest) % 4, len(view))
            rest += bytes(view[:missing])
            view = view[missing:]
            if len(rest) < 4:
                continue
            total = _added(total, _sum_of_words(rest))
        whole = len(view) - len(view) % 4
        total = _added(total, _sum_of_words(view[:whole]))
        rest = bytes(view[whole:])
    return _added(total, _sum_of_words(rest + b"\0" * (-len(rest) % 4)))


def encode_checksum(value: int) -> str:
    """Sixteen characters whose own sum is *value*, a 32-bit number (appendix J.2).

    As they stand in a card, where the value begins at column 12: turned right by one place.
    """
    columns = []
    for shift in (24, 16, 8, 0):
        quotient, remainder = divmod(value >> shift & 0xFF, 4)
        four = [quotient + remainder + ord("0"), *[quotient + ord("0")] * 3]
        # Pairs move apart by one until both are digits or letters; their sum stays.
        while any(one in _EXCLUDED for one in four):
            for first in (0, 2):
                if four[first] in _EXCLUDED or four[first + 1] in _EXCLUDED:
                    four[first] += 1
                    four[first + 1] -= 1
        columns.append(four)
    text = "".join(chr(columns[byte][row]) for row in range(4) for byte in range(4))
    return text[-1] + text[:-1]


def _pieces(parts: Iterable[FitsPart]) -> Iterator[Buffer]:
    for part in parts:
        yield part.header
        rest = part.data_size
        for piece in part.data:
            rest -= len(piece)
            if rest < 0:
                raise CorruptFileError(f"{-rest} bytes of data more than planned")
            yield piece
        if rest:
            raise CorruptFileError(f"{rest} bytes of data fewer than planned")
        yield b"\0" * padding_size(part.data_size)


def _cards(header: bytes) -> Iterator[bytes]:
    """The cards of a complete header, END and padding left out."""
    for start in range(0, len(header), CARD_SIZE):
        one = header[start : start + CARD_SIZE]
        if one == END_CARD:
            return
        yield one


def _sum_of_words(data: Buffer) -> int:
    words = np.frombuffer(data, ">u4")
    # 64 bits hold the sum of 2**32 words, more than any piece has.
    return _folded(int(words.sum(dtype=np.uint64)))


def _added(one: int, other: int) -> int:
    return _folded(one + other)


def _folded(total: int) -> int:
    while total > _MODULUS:
        total = (total & _MODULUS) + (total >> 32)
    return total
