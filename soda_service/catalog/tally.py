"""What an ingest has done so far, and who is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    Progress = Callable[[int, int | None, str], None]
    """Told of files done, files in all if known, and a path."""
    Problem = Callable[[str, str], None]
    """Told of a path, and of what is wrong with it."""

_FAILURES_KEPT: Final = 1_000


@dataclass(slots=True, kw_only=True)
class IngestReport:
    """What an ingest did."""

    added: int = 0
    changed: int = 0
    moved: int = 0
    """Files found at another path, whose datasets kept their identifiers."""
    unchanged: int = 0
    removed: int = 0
    imageless: int = 0
    """Files that hold no image, tables say, and are left out."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    """Path and reason of each file or folder that could not be read; the first 1,000."""
    failures: int = 0
    """All of them."""


class IngestInterrupted(KeyboardInterrupt):
    """The user stopped an ingest; what *report* tells of lasts."""

    def __init__(self, report: IngestReport) -> None:
        super().__init__()
        self.report = report


class Tally:
    """The counts of one ingest, told as they grow."""

    def __init__(self, progress: Progress | None, problem: Problem | None) -> None:
        self.report = IngestReport()
        self.found = 0
        """Files met so far."""
        self.total: int | None = None
        """Files to be looked at, if that is known."""
        self._done = 0
        self._progress = progress
        self._problem = problem

    def advance(self, count: int, path: str) -> None:
        """So many more are done, of which the last is *path*."""
        self._done += count
        total = self.total if self.total is None else max(self.total, self._done)
        if self._progress is not None:
            self._progress(self._done, total, path)

    def leave_out(self, path: str, reason: str, *, removed: int = 0) -> None:
        """The file *path* is no dataset, with which nothing is wrong; *removed* as with `fail`."""
        self.report.imageless += 1
        reason = self._with_removed(reason, removed)
        if self._problem is not None:
            self._problem(path, reason)

    def fail(self, path: str, reason: str, *, removed: int = 0) -> None:
        """The file or folder *path* could not be read, or its datasets are kept against it.

        *removed* datasets, which the catalog had of it, it has no more.
        """
        self.report.failures += 1
        reason = self._with_removed(reason, removed)
        if len(self.report.failed) < _FAILURES_KEPT:
            self.report.failed.append((path, reason))
        if self._problem is not None:
            self._problem(path, reason)

    def _with_removed(self, reason: str, removed: int) -> str:
        self.report.removed += removed
        return f"{reason}; it leaves the catalog" if removed else reason
