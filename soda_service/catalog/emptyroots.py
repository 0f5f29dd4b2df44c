"""Roots of collections where nothing is found any more, as when a disk is not mounted.

What the catalog has below one of them stays, and the root counts as failed, unless whoever runs
the ingest says that it is meant to be empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from soda_service.catalog.walk import is_below
from soda_service.storage.source import is_remote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from soda_service.catalog.holdings import Holdings
    from soda_service.catalog.tally import Tally
    from soda_service.catalog.walk import Places


class EmptyRoots:
    """The roots of one ingest that are not taken at their word."""

    def __init__(
        self, holdings: Holdings, places: Places, tally: Tally, *, allow_empty: bool
    ) -> None:
        self._holdings = holdings
        self._places = places
        self._tally = tally
        self._allow_empty = allow_empty
        self._suspects: list[str] = []
        """Roots that the catalog has datasets of and of which no file has been found so far."""
        self._guarded: list[str] = []
        """Folders of stores that look empty and are not taken at their word."""

    def suspect(self, folders: Sequence[str]) -> None:
        """Note which roots would lose all of their datasets if no file of *folders* were found."""
        self._suspects = [root for root in self._places.roots() if self._is_at_risk(root, folders)]

    def clear(self, path: str) -> None:
        """The file *path* was found: the roots that it lies below are not empty."""
        if self._suspects:
            self._suspects = [root for root in self._suspects if not is_below(path, root)]

    def keeps_vanished(self, path: str) -> bool:
        """Whether what the catalog has of *path*, where nothing is, stays; then it is told why."""
        missing = self._missing_root(path)
        if missing is None:
            return False
        self._tally.fail(
            path,
            f"{missing}, the root of a collection, is empty or not there: is its disk "
            "mounted? Its datasets stay in the catalog; --allow-empty removes them",
        )
        return True

    def guard(self, folder: str) -> None:
        """Keep what the catalog has below a folder of a store that answers as if it were empty.

        Some web servers that are out of order do: then their whole root is empty, too.
        """
        if not is_remote(folder) or folder in self._suspects:
            return
        missing = self._missing_root(folder)
        if missing is not None:
            self._guarded.append(folder)
            self._tally.fail(
                folder,
                f"{missing}, the root of a collection, is empty or not there. Its datasets stay in "
                "the catalog; --allow-empty removes them",
            )

    def keep(self, unread: Sequence[str]) -> list[str]:
        """The folders below which nothing may be removed: those *unread*, and roots found empty.

        One in which a folder could not be listed is not empty. The others count as failed.
        """
        kept = [*unread, *self._guarded]
        refused: list[str] = []
        for root in self._suspects:
            count = self._holdings.count_below(root)
            is_told = any(is_below(root, other) for other in refused)
            is_unread = any(is_below(one, root) or is_below(root, one) for one in unread)
            if not count or is_told or is_unread:
                continue
            refused.append(root)
            self._tally.fail(
                root,
                "no file is found any more in this root of a collection: is its disk mounted? "
                f"Its {count} datasets stay in the catalog; --allow-empty removes them",
            )
        return kept + refused

    def _is_at_risk(self, root: str, folders: Sequence[str]) -> bool:
        if self._allow_empty or not any(is_below(root, folder) for folder in folders):
            return False
        return self._holdings.has_below(root)

    def _missing_root(self, path: str) -> str | None:
        """The root near *path* that has nothing in it, though the catalog has datasets of it."""
        missing = None if self._allow_empty else self._places.missing_root(path)
        return missing if missing is not None and self._holdings.has_below(missing) else None
