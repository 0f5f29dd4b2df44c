"""Blocks of objects on disk, within a budget of bytes.

A block carries a check sum: what a machine that failed left behind is not taken for a block.
"""

from __future__ import annotations

import os
import struct
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from soda_service.storage.blockcache import BLOCK_BYTES, Part
from soda_service.storage.budgetedfolder import BudgetedFolder

if TYPE_CHECKING:
    from pathlib import Path

_HEADER: Final = struct.Struct("<4sIQ")
"""Magic, check sum of what follows it, first byte in the object."""
_MAGIC: Final = b"SBK1"


class BlockFolder:
    """Blocks by key and number; safe to use from several threads and processes.

    It never fails: a block that cannot be read is not there, and one that cannot be written is
    not kept. The log says why.
    """

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        """See `BudgetedFolder`."""
        self._files = BudgetedFolder(folder, budget_bytes, suffix=".block")

    def get(self, key: str, number: int) -> Part | None:
        """What there is of this block."""
        path = self._files.path(_name(key, number))
        try:
            with path.open("rb", buffering=0) as file:
                raw = file.read(_HEADER.size + BLOCK_BYTES + 1)
                # The access time says how recently it was wanted.
                os.utime(file.fileno())
        except FileNotFoundError:
            return None
        except OSError as error:
            self._files.complain("read", error)
            return None
        part = _decoded(raw, number)
        if part is None:
            with suppress(OSError):
                path.unlink()
        return part

    def put(self, key: str, number: int, part: Part) -> None:
        """Keep *part* of this block."""
        start = struct.pack("<Q", part.start)
        header = _HEADER.pack(_MAGIC, zlib.crc32(part.content, zlib.crc32(start)), part.start)
        try:
            unfinished = self._files.begin(_name(key, number))
            try:
                unfinished.write(header)
                unfinished.write(part.content)
                unfinished.finish()
            finally:
                unfinished.abandon()
        except OSError as error:
            self._files.complain("written", error)


def _name(key: str, number: int) -> str:
    return f"{key}-{number:x}"


def _decoded(raw: bytes, number: int) -> Part | None:
    """The part in *raw*, None where it is damaged or of another block."""
    if not _HEADER.size < len(raw) <= _HEADER.size + BLOCK_BYTES:
        return None
    magic, checksum, start = _HEADER.unpack_from(raw)
    if magic != _MAGIC or checksum != zlib.crc32(memoryview(raw)[8:]):
        return None
    if start // BLOCK_BYTES != number:
        return None
    return Part(start, memoryview(raw)[_HEADER.size :])
