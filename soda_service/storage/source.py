"""A source: something of known size whose bytes can be read by range.

Offsets are 0-based bytes; ranges are half-open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from soda_service.storage.local import LocalSource


class FileVersion(NamedTuple):
    """What tells one content of a file from the next without reading it."""

    size: int
    """Bytes."""
    modified_ns: int
    """Modification time, nanoseconds since 1970."""

    @property
    def etag(self) -> str:
        """A strong entity tag (RFC 9110 §8.8.3), quotes included."""
        return f'"{self.size:x}-{self.modified_ns:x}"'


class ByteSource(Protocol):
    """Bytes by range. Every method may block; each may be called from several threads at once."""

    @property
    def version(self) -> FileVersion:
        """Of the content that this source was opened on."""

    def read(self, start: int, length: int) -> bytes:
        """Exactly *length* bytes from *start*.

        Raises CorruptFileError when the source ends before them, SourceUnavailableError
        when they cannot be reached.
        """

    def check_unchanged(self) -> None:
        """Raises SourceUnavailableError where the content is no more that of `version`."""

    def close(self) -> None:
        """Let go of what is held open."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


def open_source(url: str) -> LocalSource:
    """The source at *url*, an absolute path or a file URL; to be closed by the caller.

    Raises FileNotFoundError when nothing is there (its message names no path; who knows the
    identifier makes an UnknownDatasetError of it), SourceUnavailableError when it cannot be
    opened, ConfigurationError for a scheme that is not supported.
    """
    from soda_service.storage.local import LocalSource  # the implementation needs this module

    return LocalSource.open(url)
