"""Answers that took work, kept on disk under their entity tags.

A tag is made of everything that decides about the bytes (the version of the file among it), so
what is kept is never wrong, only unwanted.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from soda_service.errors import SourceUnavailableError
from soda_service.storage.bands import MadeBands
from soda_service.storage.budgetedfolder import BudgetedFolder
from soda_service.storage.local import LocalSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from soda_service.storage.bands import Bands
    from soda_service.storage.budgetedfolder import UnfinishedFile

    Buffer = bytes | bytearray | memoryview

_SHARE: Final = 10
"""An answer that takes more than this part of the budget is not kept."""


class ResultCache:
    """Answers by entity tag; safe to use from several threads and processes.

    It never fails: an answer that cannot be read is not there, and one that cannot be written
    is not kept. The log says why.
    """

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        """See `BudgetedFolder`."""
        self._files = BudgetedFolder(folder, budget_bytes, suffix=".answer")
        self._largest = budget_bytes // _SHARE

    def open(self, etag: str) -> LocalSource | None:
        """The answer under *etag*, quotes included, if it is there; may block."""
        try:
            source = LocalSource.open(str(self._files.path(_name(etag)).absolute()))
        except FileNotFoundError:
            return None
        except SourceUnavailableError as error:
            self._files.complain("read", OSError(0, str(error)))
            return None
        # The access time says how recently it was wanted; the other is the version's.
        with suppress(OSError):
            os.utime(source.fileno(), ns=(time.time_ns(), source.version.modified_ns))
        return source

    def keeping(self, etag: str, answer: Bands, size: int) -> MadeBands:
        """*answer*, which has *size* bytes, kept on its way if all of it comes by."""
        return MadeBands(self._kept(etag, answer, size))

    def _kept(self, etag: str, answer: Bands, size: int) -> Iterator[Buffer]:
        unfinished = self._begun(etag) if size <= self._largest else None
        try:
            for piece in answer:
                if unfinished is not None and not self._is_written(unfinished, piece):
                    unfinished = None
                yield piece
        finally:
            # Who knows the size does not ask for what comes after the last piece.
            answer.close()
            if unfinished is not None:
                self._end(unfinished, size)

    def _begun(self, etag: str) -> UnfinishedFile | None:
        try:
            return self._files.begin(_name(etag))
        except OSError as error:
            self._files.complain("written", error)
            return None

    def _is_written(self, unfinished: UnfinishedFile, piece: Buffer) -> bool:
        try:
            unfinished.write(piece)
        except OSError as error:
            self._files.complain("written", error)
            unfinished.abandon()
            return False
        return True

    def _end(self, unfinished: UnfinishedFile, size: int) -> None:
        try:
            if unfinished.size == size:
                unfinished.finish(is_certain=True)
        except OSError as error:
            self._files.complain("written", error)
        finally:
            unfinished.abandon()


def _name(etag: str) -> str:
    return etag.strip('"')
