"""The bytes of a file's headers, whether the file is compressed as a whole or not.

A compressed file is inflated as a stream of which little more than what is asked for is
kept: memory stays bounded, and nothing is written. It is inflated to its end once, which
proves its check sum and tells its size, and once more as far as its last header.

Of an object in a store no more is read than its headers; where it is compressed, no more than
up to the last of them, and its size is what its end claims until that is put to the test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from soda_service.errors import CorruptFileError, UnknownDatasetError
from soda_service.storage.closing import Closable
from soda_service.storage.headerwindow import HeaderWindow
from soda_service.storage.inflate import inflated_pieces, is_compressed, largest_inflated
from soda_service.storage.remote import RemoteSource
from soda_service.storage.source import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from soda_service.storage.local import LocalSource
    from soda_service.storage.source import FileVersion
    from soda_service.storage.stores import RemoteStores

PLAIN: Final = "application/fits"
_GZIP: Final = b"\x1f\x8b"
_MEDIA_TYPES: Final = {
    _GZIP: "application/gzip",
    b"BZh": "application/x-bzip2",
    b"\x1f\x9d": "application/x-compress",
}
_LEAST_GZIP: Final = 18
"""Bytes of header and trailer of a gzip stream."""
_MAGIC_BYTES: Final = 3

_KEPT: Final = 1 << 20
"""Inflated bytes kept behind the last reading: the next header often begins a little earlier."""

_GULP: Final = 64 * 1024
"""Bytes of an object that one request asks for: headers are seldom longer."""


class HeaderSource(Closable):
    """An open file to be read forwards, mostly; one thread only."""

    def __init__(
        self,
        path: str,
        *,
        inflated_limit: int,
        stores: RemoteStores | None = None,
        version: FileVersion | None = None,
    ) -> None:
        """Open *path*, which may be an object of *stores* whose *version* may be known.

        Raises UnknownDatasetError when nothing is there, SourceUnavailableError when it
        cannot be read, CorruptFileError for a compressed file that is damaged or that
        inflates to more than *inflated_limit* bytes or than any image can.
        """
        try:
            self._source = open_source(path, stores, version)
        except FileNotFoundError:
            raise UnknownDatasetError(path, "no such file") from None
        try:
            self._limit = inflated_limit
            self._window: HeaderWindow | None = None
            if isinstance(self._source, RemoteSource):
                self._window = HeaderWindow(self._source, gulp_bytes=_GULP)
            self._stream: _InflatedStream | None = None
            self.version = self._source.version
            self.size = self.version.size
            self.is_size_proved = True
            """Whether the size is a fact, not a claim."""
            magic = self.read_at(0, _MAGIC_BYTES)
            self.media_type = next(
                (name for start, name in _MEDIA_TYPES.items() if magic.startswith(start)), PLAIN
            )
            if is_compressed(magic):
                self._inflate(magic)
        except BaseException:
            self._source.close()
            raise

    def read_at(self, start: int, length: int) -> bytes:
        """Up to *length* bytes from *start*, of the inflated content; short at its end only."""
        length = max(0, min(length, self.size - start))
        if self._stream is not None:
            return self._stream.read(start, length)
        if self._window is not None:
            return self._window.read_at(start, length)
        return self._source.read(start, length) if length else b""

    def prove_size(self) -> None:
        """Make a fact of the size, by inflating all of the file."""
        if not self.is_size_proved:
            self.is_size_proved = True
            self.size = self._inflated_size()

    def assert_unchanged(self) -> None:
        """Raise SourceUnavailableError where the file was written to since it was opened."""
        self._source.check_unchanged()

    def close(self) -> None:
        """Let go of the file."""
        self._source.close()

    def _inflate(self, magic: bytes) -> None:
        window = self._window
        if window is None:
            self.size = self._inflated_size()
            self._stream = _InflatedStream(lambda: inflated_pieces(self._source))
            return
        claimed = self._claimed_size() if magic.startswith(_GZIP) else 0
        self.is_size_proved = not claimed
        self.size = claimed or self._inflated_size()
        self._stream = _InflatedStream(
            lambda: inflated_pieces(_Windowed(self._source, window), gulp=_GULP)
        )

    def _claimed_size(self) -> int:
        """What a gzip stream says of its size at its end (RFC 1952 §2.3.1), if it may be true.

        It is that of the last stream of a file, modulo 4 GiB; 0 where it is certainly not.
        """
        size = self.version.size
        if size < _LEAST_GZIP:
            return 0
        claimed = int.from_bytes(self._source.read(size - 4, 4), "little")
        return claimed if size <= claimed <= largest_inflated(size, self._limit) else 0

    def _inflated_size(self) -> int:
        limit = largest_inflated(self.version.size, self._limit)
        size = 0
        for piece in inflated_pieces(self._source):
            size += len(piece)
            if size > limit:
                raise CorruptFileError(
                    f"inflates to more than {limit} bytes", path=self._source.path
                )
        return size


class _Windowed:
    """An object that is read forwards by few requests, and as far as it is wanted."""

    def __init__(self, source: RemoteSource | LocalSource, window: HeaderWindow) -> None:
        self.version = source.version
        self.path = source.path
        self.read = window.read_at


class _InflatedStream:
    """What a compressed file inflates to; cheap to read forwards, begun anew otherwise."""

    def __init__(self, begin: Callable[[], Iterator[bytes]]) -> None:
        self._begin = begin
        self._pieces: Iterator[bytes] = iter(())
        self._window = bytearray()
        self._start = 0
        """Where in the content the window begins."""
        self._restart()

    def read(self, start: int, length: int) -> bytes:
        """These bytes; fewer only where the content ends."""
        if start < self._start:
            self._restart()
        end = start + length
        while self._start + len(self._window) < end:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._window += piece
            passed = min(start, self._start + len(self._window)) - _KEPT - self._start
            if passed > 0:
                del self._window[:passed]
                self._start += passed
        return bytes(self._window[start - self._start : end - self._start])

    def _restart(self) -> None:
        self._pieces = self._begin()
        self._window.clear()
        self._start = 0
