"""Files on disks that another machine, or another program, answers for.

A question about such a file may take as long as that one likes: seconds, or for ever where a
server has gone. So nothing about it is asked on an event loop, not even its entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from soda_service.storage.local import LocalSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from soda_service.storage.runs import RunGrid
    from soda_service.storage.source import Buffer, Piece, Write


class NetworkFile(LocalSource):
    """A file that is read in threads only; as any source otherwise."""

    _read_at_once: ClassVar[int] = 1024 * 1024
    """Less than of a disk of this machine: 100 kB a second are slow, but an answer."""

    def resident_runs(self, _grid: RunGrid, *, in_thread: bool = False) -> Buffer | None:
        """None: whether the file is still the same, its server would have to say."""
        del in_thread  # it is the same there
        return None

    def write_resident(self, _pieces: Sequence[Piece], _write: Write) -> int:
        """0, for the same reason."""
        return 0

    def close(self) -> None:
        """Let go of the descriptor, which its server may have to be told: nobody waits for it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            self._disk.close_later(descriptor)
