"""Compressed files, from their first byte to their last, in pieces of bounded size.

Source: RFC 1952 (gzip), RFC 1951 (deflate); bzip2 as its library reads it; `compress` as
`lzw` tells.
"""

from __future__ import annotations

import bz2
import zlib
from typing import TYPE_CHECKING, Final, Protocol

from soda_service.errors import CorruptFileError
from soda_service.storage import lzw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from soda_service.storage.source import FileVersion

_GULP: Final = 256 * 1024
"""Bytes of the compressed file read at once."""
_PIECE: Final = 1024 * 1024
"""Most bytes of one piece of what comes out."""
_LARGEST_RATIO: Final = 1100
"""Deflate cannot do better than 1032; what does is no image."""
_SMALL: Final = 64 * 1024 * 1024
"""Bytes that any file may inflate to, whatever its ratio."""
_GZIP_WRAPPED: Final = 16 + zlib.MAX_WBITS
"""Tells zlib to expect the header and the trailer of RFC 1952 and to check them."""


class _Member(Protocol):
    """One compressed stream; a file may hold several, one after another."""

    rest: bytes
    """What of the fed bytes lies behind the end of the stream."""

    @property
    def ended(self) -> bool:
        """Whether the end of the stream, its check sum included, has been met."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What comes out of *data*; to be exhausted before the next call."""


class _GzipMember:
    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP_WRAPPED)
        self.rest = b""

    @property
    def ended(self) -> bool:
        return self._stream.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data and not self._stream.eof:
            yield self._stream.decompress(data, _PIECE)
            data = self._stream.unconsumed_tail
        self.rest = self._stream.unused_data


class _Bzip2Member:
    def __init__(self) -> None:
        self._stream = bz2.BZ2Decompressor()
        self.rest = b""

    @property
    def ended(self) -> bool:
        return self._stream.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield self._stream.decompress(data, _PIECE)
        while not self._stream.eof and not self._stream.needs_input:
            yield self._stream.decompress(b"", _PIECE)
        self.rest = self._stream.unused_data


_MEMBERS: Final[dict[bytes, Callable[[], _Member]]] = {
    b"\x1f\x8b": _GzipMember,
    b"BZh": _Bzip2Member,
}
_LONGEST_MAGIC: Final = 3


def is_compressed(beginning: bytes) -> bool:
    """Whether a file that begins so is a compressed one; three bytes are enough."""
    return beginning.startswith((*_MEMBERS, lzw.MAGIC))


def largest_inflated(compressed: int, budget: int) -> int:
    """Most bytes that a file of *compressed* bytes may inflate to, *budget* at most."""
    return min(budget, max(_SMALL, _LARGEST_RATIO * compressed))


class CompressedSource(Protocol):
    """What is needed of a file to inflate it."""

    @property
    def version(self) -> FileVersion:
        """Tells its size."""

    @property
    def path(self) -> str:
        """Where it lies."""

    @property
    def read(self) -> Callable[[int, int], bytes]:
        """Gives exactly so many bytes from a place on."""


def inflated_pieces(source: CompressedSource, *, gulp: int = _GULP) -> Iterator[bytes]:
    """What the compressed file *source* holds; memory stays below some tens of megabytes.

    *gulp* bytes are read at once.

    Zeros and junk after the last stream are left alone, as gzip does. Raises
    CorruptFileError where the file is damaged or truncated (which of a `.Z` cannot always be
    seen), SourceUnavailableError where it cannot be read.
    """
    size = source.version.size
    try:
        beginning = source.read(0, min(gulp, size))
        if beginning.startswith(lzw.MAGIC):
            yield from lzw.unpacked_pieces(source.read, size)
        else:
            yield from _of_members(source, beginning, gulp)
    except (ValueError, zlib.error, OSError, EOFError) as error:
        raise CorruptFileError(
            f"the compressed file is damaged: {error}", path=source.path
        ) from None


def _of_members(source: CompressedSource, data: bytes, gulp: int) -> Iterator[bytes]:
    """What the streams of *source*, which begins with *data*, hold.

    Raises what the libraries raise, and CorruptFileError.
    """
    size = source.version.size
    position = len(data)
    while True:
        make = next((make for magic, make in _MEMBERS.items() if data.startswith(magic)), None)
        if make is None:
            return
        member = make()
        while not member.ended:
            if not data:
                if position == size:
                    raise CorruptFileError("the compressed file is truncated", path=source.path)
                data = source.read(position, min(gulp, size - position))
                position += len(data)
            yield from member.feed(data)
            data = member.rest
        if len(data) < _LONGEST_MAGIC and position < size:
            more = source.read(position, min(gulp, size - position))
            position += len(more)
            data += more
