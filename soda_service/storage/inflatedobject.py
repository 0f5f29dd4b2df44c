"""The inflated copy of an object in a store, for as long as the object is still that one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from soda_service.storage.closing import Closable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from soda_service.storage.local import LocalSource
    from soda_service.storage.remote import RemoteSource
    from soda_service.storage.runs import RunGrid
    from soda_service.storage.source import Buffer, Piece, Write


class InflatedObject(Closable):
    """Reads the copy; asks the store once in a while. Safe to use from several threads."""

    gulp_bytes: Final = 0

    def __init__(self, copy: LocalSource, origin: RemoteSource) -> None:
        """Takes both over."""
        self._copy = copy
        self._origin = origin
        self.version = copy.version
        """That of the copy."""
        self.path = origin.path

    def read(self, start: int, length: int) -> bytes:
        """As of any source; raises SourceUnavailableError too where the object has changed."""
        self._origin.confirm()
        return self._copy.read(start, length)

    def read_into(self, start: int, buffer: memoryview) -> None:
        """The same into *buffer*."""
        self._origin.confirm()
        self._copy.read_into(start, buffer)

    def read_runs(self, grid: RunGrid) -> memoryview:
        """The runs of *grid*, one after another."""
        self._origin.confirm()
        return self._copy.read_runs(grid)

    def resident_runs(self, grid: RunGrid, *, in_thread: bool = False) -> Buffer | None:
        """As of any source; None where the store should be asked first."""
        if not self._origin.is_fresh:
            return None
        return self._copy.resident_runs(grid, in_thread=in_thread)

    def write_resident(self, pieces: Sequence[Piece], write: Write) -> int:
        """As of any source; 0 where the store should be asked first."""
        return self._copy.write_resident(pieces, write) if self._origin.is_fresh else 0

    def prefetch(self, spans: Iterable[tuple[int, int]]) -> None:
        """Nothing: the copy lies on a disk."""

    def confirm(self) -> None:
        """Raises ObjectChangedError where the object is another one by now; may ask the store."""
        self._origin.confirm()

    def check_unchanged(self) -> None:
        """Raises SourceUnavailableError where the copy has changed, or the object is known to."""
        self._origin.check_unchanged()
        self._copy.check_unchanged()

    def close(self) -> None:
        """Close the copy."""
        self._copy.close()
        self._origin.close()
