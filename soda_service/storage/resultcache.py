"""Answers that took work, kept on disk under their entity tags.

A tag is made of everything that decides about the bytes (the version of the file among it), so
what is kept is never wrong, only unwanted.
"""

from __future__ import annotations

import os
import threading
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

    from soda_service.config import Settings
    from soda_service.storage.bands import Bands
    from soda_service.storage.budgetedfolder import UnfinishedFile

    Buffer = bytes | bytearray | memoryview

_SHARE: Final = 10
"""The part of the budget that answers under way may take in one process, and so the largest one."""


class ResultCache:
    """Answers by entity tag; safe to use from several threads and processes.

    It never fails: an answer that cannot be read is not there, and one that cannot be written
    is not kept. The log says why.
    """

    def __init__(self, folder: Path, budget_bytes: int) -> None:
        """See `BudgetedFolder`; answers under way take a tenth of the budget at most beside it."""
        self._files = BudgetedFolder(folder, budget_bytes, suffix=".answer")
        self._most = budget_bytes // _SHARE
        self._lock = threading.Lock()
        self._under_way: dict[str, int] = {}
        """Bytes of the answers that are being kept."""

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
        unfinished = self._begun(etag, size)
        try:
            for piece in answer:
                if unfinished is not None:
                    self._write(unfinished, piece)
                yield piece
        finally:
            # Who knows the size does not ask for what comes after the last piece.
            answer.close()
            if unfinished is not None:
                self._end(unfinished, size)
                with self._lock:
                    del self._under_way[etag]

    def _begun(self, etag: str, size: int) -> UnfinishedFile | None:
        """A file for the answer; None where it is not to be kept."""
        with self._lock:
            taken = sum(self._under_way.values())
            if etag in self._under_way or taken + size > self._most:
                return None
            self._under_way[etag] = size
        try:
            return self._files.begin(_name(etag))
        except OSError as error:
            with self._lock:
                del self._under_way[etag]
            self._files.complain("written", error)
            return None

    def _write(self, unfinished: UnfinishedFile, piece: Buffer) -> None:
        try:
            unfinished.write(piece)
        except OSError as error:
            self._files.complain("written", error)
            unfinished.abandon()

    def _end(self, unfinished: UnfinishedFile, size: int) -> None:
        try:
            if unfinished.size == size:
                unfinished.finish(is_certain=True)
        except OSError as error:
            self._files.complain("written", error)
        finally:
            unfinished.abandon()


def result_cache(settings: Settings) -> ResultCache | None:
    """The cache that *settings* ask for; raises ConfigurationError where its folder cannot be."""
    if not settings.result_cache_bytes:
        return None
    return ResultCache(settings.cache_dir / "results", settings.result_cache_bytes)


def _name(etag: str) -> str:
    return etag.strip('"')
