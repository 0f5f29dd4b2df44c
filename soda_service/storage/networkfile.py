"""Files on file systems that another machine, or another program, answers for.

A question about such a file may take as long as that one likes: seconds, or for ever where a
server has gone. So nothing about it is asked on an event loop, not even its entry.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from soda_service.storage.local import LocalSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from soda_service.storage.runs import RunGrid
    from soda_service.storage.source import Piece, Write

_MOUNTS: Final = Path("/proc/self/mountinfo")
_KNOWN_SECONDS: Final = 10.0
"""How long a list of what is mounted is believed."""
_TYPES: Final = frozenset(
    (
        "afs", "beegfs", "ceph", "cifs", "coda", "fuse", "gpfs", "lustre", "nfs", "nfs4",
        "orangefs", "pvfs2", "smb3", "smbfs",
    )
)  # fmt: skip


class NetworkFile(LocalSource):
    """A file that is read in threads only; as any source otherwise."""

    def copy_resident(
        self, _grid: RunGrid, _target: memoryview, *, in_thread: bool = False
    ) -> bool:
        """False: whether the file is still the same, its server would have to say."""
        del in_thread  # it is the same there
        return False

    def write_resident(self, _pieces: Sequence[Piece], _write: Write) -> int:
        """0, for the same reason."""
        return 0


class _Mounted:
    """Which devices are network file systems; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._devices: frozenset[int] = frozenset()
        self._read_at = float("-inf")

    def has(self, device: int) -> bool:
        with self._lock:
            if time.monotonic() - self._read_at > _KNOWN_SECONDS:
                self._devices = frozenset(_network_devices())
                self._read_at = time.monotonic()
            return device in self._devices


def is_on_network(path: str) -> bool:
    """Whether *path* is on a network file system, or a program's (FUSE); may block.

    False where nothing is there and where the system does not tell.
    """
    try:
        return _mounted.has(os.stat(path).st_dev)  # noqa: PTH116 - strings are what there is
    except (OSError, ValueError):
        return False


def _network_devices() -> list[int]:
    """Their numbers, out of the list that the kernel keeps; see proc(5)."""
    try:
        lines = _MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        mount, _, what = line.partition(" - ")
        kind = what.partition(" ")[0]
        if kind in _TYPES or kind.startswith("fuse."):
            major, _, minor = mount.split()[2].partition(":")
            found.append(os.makedev(int(major), int(minor)))
    return found


_mounted = _Mounted()
