"""The bytes of a file's headers, whether the file is compressed as a whole or not.

A compressed file is inflated as a stream of which little more than what is asked for is
kept: memory stays bounded, and nothing is written. It is inflated to its end once, which
proves its check sum and tells its size, and once more as far as its last header.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from soda_service.errors import CorruptFileError, UnknownDatasetError
from soda_service.storage.inflate import inflated_pieces, is_compressed, largest_inflated
from soda_service.storage.local import LocalSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_MEDIA_TYPES: Final = {b"\x1f\x8b": "application/gzip", b"BZh": "application/x-bzip2"}

_KEPT: Final = 1 << 20
"""Inflated bytes kept behind the last reading: the next header often begins a little earlier."""


class HeaderSource:
    """An open file to be read forwards, mostly; one thread only."""

    def __init__(self, path: str, *, inflated_limit: int) -> None:
        """Open *path*.

        Raises UnknownDatasetError when nothing is there, SourceUnavailableError when it
        cannot be read, CorruptFileError for a compressed file that is damaged or that
        inflates to more than *inflated_limit* bytes or than any image can.
        """
        try:
            self._source = LocalSource.open(path)
        except FileNotFoundError:
            raise UnknownDatasetError(path, "no such file") from None
        try:
            self.version = self._source.version
            magic = self._source.read(0, min(3, self.version.size))
            self.media_type = next(
                (name for start, name in _MEDIA_TYPES.items() if magic.startswith(start)),
                "application/fits",
            )
            self._stream: _InflatedStream | None = None
            self.size = self.version.size
            if is_compressed(magic):
                self.size = _inflated_size(self._source, inflated_limit)
                self._stream = _InflatedStream(self._source)
        except BaseException:
            self._source.close()
            raise

    def read_at(self, start: int, length: int) -> bytes:
        """Up to *length* bytes from *start*, of the inflated content; short at its end only."""
        length = max(0, min(length, self.size - start))
        if self._stream is not None:
            return self._stream.read(start, length)
        return self._source.read(start, length) if length else b""

    def assert_unchanged(self) -> None:
        """Raise SourceUnavailableError where the file was written to since it was opened."""
        self._source.check_unchanged()

    def close(self) -> None:
        """Let go of the file."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _InflatedStream:
    """What a compressed file inflates to; cheap to read forwards, begun anew otherwise."""

    def __init__(self, source: LocalSource) -> None:
        self._source = source
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
        self._pieces = inflated_pieces(self._source)
        self._window.clear()
        self._start = 0


def _inflated_size(source: LocalSource, budget: int) -> int:
    limit = largest_inflated(source.version.size, budget)
    size = 0
    for piece in inflated_pieces(source):
        size += len(piece)
        if size > limit:
            raise CorruptFileError(f"inflates to more than {limit} bytes", path=source.path)
    return size
