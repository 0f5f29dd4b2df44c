"""A source: something of known size whose bytes can be read by range.

Offsets are 0-based bytes; ranges are half-open.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType
    from typing import Self

    from soda_service.storage.local import LocalSource
    from soda_service.storage.remote import RemoteSource
    from soda_service.storage.runs import RunGrid
    from soda_service.storage.stores import RemoteStores


Buffer: TypeAlias = "bytes | memoryview"

Piece: TypeAlias = "bytes | RunGrid"
"""Bytes that are there, or runs of a source."""

Write: TypeAlias = "Callable[[Sequence[Buffer]], int]"
"""Takes buffers, one after another, as far as that is possible at once; how many bytes of them."""


class FileVersion(NamedTuple):
    """What tells one content of a file from the next without reading it."""

    size: int
    """Bytes."""
    modified_ns: int
    """Modification time, nanoseconds since 1970; whole seconds for an object in a store."""
    tag: str = ""
    """The entity tag that a store gives the object, quotes included; empty for a local file."""

    def is_of_same_content(self, other: FileVersion) -> bool:
        """Whether both tell of one content: by their tags where both have one, else by time."""
        if self.tag and other.tag:
            return self.size == other.size and self.tag == other.tag
        return self.size == other.size and self.modified_ns == other.modified_ns

    @property
    def etag(self) -> str:
        """A strong entity tag (RFC 9110 §8.8.3) of our own, quotes included."""
        if not self.tag:
            return f'"{self.size:x}-{self.modified_ns:x}"'
        digest = blake2b(self.tag.encode(), digest_size=8).hexdigest()
        return f'"{self.size:x}-{self.modified_ns:x}-{digest}"'


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


class RunSource(ByteSource, Protocol):
    """A source that gives the boxes of an image: what readers of pixels need."""

    @property
    def path(self) -> str:
        """Where it lies, for the log and never for a client."""

    @property
    def gulp_bytes(self) -> int:
        """How much of a box is best asked for at once; 0 where that makes no difference."""

    def prefetch(self, spans: Iterable[tuple[int, int]]) -> None:
        """Bring these half-open ranges, which ascend, into memory, if readings gain by it."""

    def read_into(self, start: int, buffer: memoryview) -> None:
        """Fills *buffer* with the bytes from *start*; raises what `read` raises."""

    def read_runs(self, grid: RunGrid) -> memoryview:
        """The runs of *grid*, one after another; raises what `read` raises."""

    def resident_runs(self, grid: RunGrid, *, in_thread: bool = False) -> Buffer | None:
        """What `read_runs` gives if it is in memory, and not too much; otherwise None.

        Never blocks.

        *in_thread* others go on meanwhile, should a page make us wait after all.
        """

    def write_resident(self, pieces: Sequence[Piece], write: Write) -> int:
        """Have *write* take *pieces* from where they lie in memory; how many bytes it took.

        Never blocks. 0 where that cannot be done. Raises SourceUnavailableError where the
        content may have changed meanwhile: what was taken is then worthless.
        """


def is_remote(url: str) -> bool:
    """Whether *url* names an object in a store rather than a file of this machine."""
    scheme, separator, _ = url.partition("://")
    return bool(separator) and scheme.lower() in _REMOTE_SCHEMES


_REMOTE_SCHEMES = frozenset(("s3", "gs", "az", "http", "https"))


def open_source(
    url: str, stores: RemoteStores | None = None, version: FileVersion | None = None
) -> LocalSource | RemoteSource:
    """The source at *url*, an absolute path, a file URL or, with *stores*, an object in one.

    To be closed by the caller. Which objects may be reached, *stores* says. An object whose
    *version* is known is opened without a request. Raises FileNotFoundError when nothing is
    there (its message names no path; who knows the identifier makes an UnknownDatasetError of
    it), SourceUnavailableError when it cannot be opened, an object in no store of *stores* or
    in one that is not set up as it should included, ConfigurationError for a scheme that is
    not supported.
    """
    if stores is not None and is_remote(url):
        return stores.open_known(url, version)
    # The implementations need this module.
    from soda_service.storage.disks import disk_of
    from soda_service.storage.local import LocalSource, local_path
    from soda_service.storage.networkfile import NetworkFile

    disk = disk_of(local_path(url))
    kind = LocalSource if disk.is_local else NetworkFile
    return kind.open(url, disk)
