"""The bytes of a file's headers, whether the file is compressed as a whole or not.

A compressed file is inflated as a stream from which nothing but what is asked for is kept:
memory stays bounded, and nothing is written. It is inflated to its end once, which proves its
check sum and tells its size, and once more as far as its last header.
"""

from __future__ import annotations

import bz2
import gzip
import os
import stat
import zlib
from typing import TYPE_CHECKING, BinaryIO, Final, Self, cast

from soda_service.errors import CorruptFileError, SourceUnavailableError, UnknownDatasetError
from soda_service.storage.source import FileVersion

if TYPE_CHECKING:
    from types import TracebackType

_GULP: Final = 1 << 20

_GZIP: Final = b"\x1f\x8b"
_BZIP2: Final = b"BZh"
_COMPRESS: Final = b"\x1f\x9d"

_DAMAGED: Final = (EOFError, zlib.error, gzip.BadGzipFile, ValueError)


class HeaderSource:
    """An open file to be read forwards, mostly; one thread only."""

    def __init__(self, path: str, *, inflated_limit: int) -> None:
        """Open *path*.

        Raises UnknownDatasetError when nothing is there, SourceUnavailableError when it
        cannot be read, CorruptFileError for a compressed file that is damaged or that
        inflates to more than *inflated_limit* bytes.
        """
        self._path = path
        self._file = _open_regular(path)
        try:
            self.version = _version_of(self._file)
            self.media_type, self._stream = self._recognised()
            self.size = self._inflated_size(inflated_limit) if self._stream else self.version.size
        except BaseException:
            self._file.close()
            raise

    def read_at(self, start: int, length: int) -> bytes:
        """Up to *length* bytes from *start*, of the inflated content; short at its end only."""
        try:
            if self._stream is None:
                return _pread(self._file.fileno(), start, length)
            self._stream.seek(start)
            return self._stream.read(length)
        except _DAMAGED as error:
            raise CorruptFileError(f"cannot be inflated: {error}", path=self._path) from None
        except OSError as error:
            raise SourceUnavailableError(_reason(error), path=self._path) from None

    def assert_unchanged(self) -> None:
        """Raise SourceUnavailableError where the file was written to since it was opened."""
        if _version_of(self._file) != self.version:
            raise SourceUnavailableError("changed while it was read", path=self._path)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _recognised(self) -> tuple[str, BinaryIO | None]:
        magic = _pread(self._file.fileno(), 0, 3)
        if magic.startswith(_GZIP):
            return "application/gzip", cast("BinaryIO", gzip.GzipFile(fileobj=self._file))
        if magic.startswith(_BZIP2):
            return "application/x-bzip2", cast("BinaryIO", bz2.BZ2File(self._file))
        if magic.startswith(_COMPRESS):
            raise CorruptFileError("compressed in a way that is not supported", path=self._path)
        return "application/fits", None

    def _inflated_size(self, limit: int) -> int:
        assert self._stream is not None
        size = 0
        try:
            while piece := self._stream.read(_GULP):
                size += len(piece)
                if size > limit:
                    raise CorruptFileError(f"inflates to more than {limit} bytes", path=self._path)
        except _DAMAGED as error:
            raise CorruptFileError(f"cannot be inflated: {error}", path=self._path) from None
        except OSError as error:
            # bz2 says so of damaged data; the disk's own errors have a number.
            if error.errno is None:
                raise CorruptFileError(f"cannot be inflated: {error}", path=self._path) from None
            raise SourceUnavailableError(_reason(error), path=self._path) from None
        return size


def _open_regular(path: str) -> BinaryIO:
    """The open file; a pipe or device is refused before it can block."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise UnknownDatasetError(path, "no such file") from None
    except (OSError, ValueError) as error:
        raise SourceUnavailableError(_reason(error), path=path) from None
    file = open(descriptor, "rb", buffering=0)  # noqa: SIM115, PTH123 - closed by its owner
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise CorruptFileError("not a regular file", path=path)
    return cast("BinaryIO", file)


def _version_of(file: BinaryIO) -> FileVersion:
    status = os.fstat(file.fileno())
    return FileVersion(status.st_size, status.st_mtime_ns)


def _pread(descriptor: int, start: int, length: int) -> bytes:
    """Up to *length* bytes; a signal or a network file system may cut one read short."""
    pieces = []
    while length > 0 and (piece := os.pread(descriptor, length, start)):
        pieces.append(piece)
        start, length = start + len(piece), length - len(piece)
    return b"".join(pieces)


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)
