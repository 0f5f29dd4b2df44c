"""What Unix's `compress` writes (`.Z`): LZW, decoded in bounded memory.

The libraries that there are keep every string of the dictionary whole: two gigabytes of them
where an image is blank. Here a long string is the continuation of a shorter one, so that the
dictionary never has more than some tens of megabytes.

The format: two bytes of magic; one that says how wide codes may become (10 to 16 bits; files of
at most 9 no other reader reads either) and whether code 256 empties the dictionary; then the
codes, their lowest bit first, 9 bits wide to begin with and one bit wider each time the
dictionary has no room for another code of that width. They are written in groups of eight:
where the width changes, the rest of a group means nothing. There is neither an end nor a check
sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

MAGIC: Final = b"\x1f\x9d"

_HEADER: Final = 3
_WIDTHS: Final = 0x1F
_CAN_BE_EMPTIED: Final = 0x80
_NARROWEST: Final = 9
_WIDEST: Final = 16
_EMPTY: Final = 256
"""The code that empties the dictionary."""
_GROUP: Final = 8
"""Codes that are written together, in as many bytes as a code has bits."""
_MOST_CODES: Final = 8192
"""Codes that are looked at together once they grow no more."""
_LONGEST_PIECE: Final = 256
"""Bytes of a string that the dictionary holds in one piece."""
_PIECE: Final = 1024 * 1024
"""About as many bytes are given at a time."""


def unpacked_pieces(read: Callable[[int, int], bytes], size: int) -> Iterator[bytes]:
    """What a file of *size* bytes holds; *read* gives a length of its bytes from a place on.

    Raises ValueError where the file is damaged, as far as that can be seen.
    """
    header = read(0, min(_HEADER, size))
    if len(header) < _HEADER or not header.startswith(MAGIC):
        raise ValueError("it does not begin as it should")
    widest = header[2] & _WIDTHS
    if not _NARROWEST < widest <= _WIDEST:
        raise ValueError(f"codes of {widest} bits")
    dictionary = _Dictionary(widest, can_be_emptied=bool(header[2] & _CAN_BE_EMPTIED))
    position = _HEADER
    while position < size:
        width, count = dictionary.width, dictionary.codes_of_this_width
        data = read(position, min(-(-count // _GROUP) * width, size - position))
        codes = _codes(data, width)[:count]
        used = yield from dictionary.unpacked(codes)
        is_end = used == len(codes) and position + len(data) == size
        if is_end and used < count and 8 * len(data) - used * width >= 8:
            raise ValueError("it is truncated")
        position += len(data) if is_end else -(-used // _GROUP) * width


def _codes(data: bytes, width: int) -> list[int]:
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    count = len(bits) // width
    places = 1 << np.arange(width, dtype=np.int32)
    codes: list[int] = (bits[: count * width].reshape(count, width) @ places).tolist()
    return codes


class _Dictionary:
    """The strings that codes stand for, each one byte longer than another one."""

    def __init__(self, widest: int, *, can_be_emptied: bool) -> None:
        self._widest = widest
        self._can_be_emptied = can_be_emptied
        self._first_own = _EMPTY + can_be_emptied
        # A string is that of its parent, where it has one, and then its piece.
        self._pieces = [bytes([byte]) for byte in range(256)]
        self._parents = [-1] * 256
        self._beginnings = list(self._pieces)
        if can_be_emptied:
            self._pieces.append(b"")
            self._parents.append(-1)
            self._beginnings.append(b"")
        self._previous = -1

    @property
    def width(self) -> int:
        """Bits of the next code."""
        return min(self._widest, max(_NARROWEST, len(self._pieces).bit_length()))

    @property
    def codes_of_this_width(self) -> int:
        """How many codes follow before they become wider, if they are not as wide as can be."""
        if self.width == self._widest:
            return _MOST_CODES
        # The first code adds nothing to the dictionary, every other one does.
        return (1 << self.width) - len(self._pieces) + (self._previous < 0)

    def unpacked(self, codes: list[int]) -> Generator[bytes, None, int]:
        """What *codes* stand for up to one that empties the dictionary; returns how many those are.

        They are not more than still have this width.
        """
        pieces, parents, beginnings = self._pieces, self._parents, self._beginnings
        room, previous = 1 << self._widest, self._previous
        unpacked = bytearray()
        for number, code in enumerate(codes, 1):
            if code == _EMPTY and self._can_be_emptied:
                self._empty()
                yield bytes(unpacked)
                return number
            if code > len(pieces) or (code == len(pieces) and previous < 0):
                raise ValueError(f"code {code} stands for nothing")
            if previous >= 0 and len(pieces) < room:
                # The new string ends in the byte that this code's own begins with, and may be
                # what this code stands for.
                end = beginnings[code if code < len(pieces) else previous]
                beginnings.append(beginnings[previous])
                if len(pieces[previous]) < _LONGEST_PIECE:
                    parents.append(parents[previous])
                    pieces.append(pieces[previous] + end)
                else:
                    parents.append(previous)
                    pieces.append(end)
            elif code == len(pieces):
                raise ValueError(f"code {code} stands for nothing")
            unpacked += pieces[code] if parents[code] < 0 else self._string(code)
            previous = code
            if len(unpacked) >= _PIECE:
                yield bytes(unpacked)
                unpacked.clear()
        self._previous = previous
        yield bytes(unpacked)
        return len(codes)

    def _string(self, code: int) -> bytes:
        pieces = []
        while code >= 0:
            pieces.append(self._pieces[code])
            code = self._parents[code]
        return b"".join(reversed(pieces))

    def _empty(self) -> None:
        del self._pieces[self._first_own :]
        del self._parents[self._first_own :]
        del self._beginnings[self._first_own :]
        self._previous = -1
