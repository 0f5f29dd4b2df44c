"""Which files an ingest looks at, and which collection each belongs to.

Symbolic links are followed: to files always, to folders after everything that is reached
without them, and no folder is entered twice, so loops end. Names that begin with a dot are
left out, as are pipes, sockets and devices.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from soda_service.catalog.indexer import place_in
from soda_service.catalog.query import fold
from soda_service.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from soda_service.catalog.indexer import Place
    from soda_service.catalog.store import CollectionRow
    from soda_service.config import CollectionConfig, CollectionsFile, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file to be looked at."""

    path: str
    size: int
    modified_ns: int
    place: Place


class Places:
    """Says which collection the files of a folder belong to.

    In this order: the one that was named; the configured one whose root holds the folder;
    one that the catalog has, with such a root; one called as the folder given to ingest.
    """

    def __init__(
        self,
        settings: Settings,
        collections: CollectionsFile,
        stored: Iterable[CollectionRow],
        *,
        named: str | None = None,
    ) -> None:
        """Raises UsageError for a name that cannot be a collection's."""
        self._settings = settings
        self._collections = collections
        self._named = _checked(named) if named is not None else None
        self._configured = [
            (str((settings.data_dir / config.root).resolve()), name)
            for name, config in collections.collections.items()
            if config.root is not None
        ]
        stored = tuple(stored)
        self._stored = [(root, row.name) for row in stored for root in row.roots]
        self._spellings = {fold(row.name): row.name for row in stored}
        self._spellings |= {fold(name): name for name in collections.collections}
        self._places: dict[tuple[str, str], Place] = {}

    def of(self, folder: str, given: str) -> Place:
        """The place of files in *folder*, which is *given* or lies below it."""
        if self._named is not None:
            name = self._spelt(self._named)
            own = [(root, one) for root, one in self._configured + self._stored if one == name]
            root = _deepest(own, folder)[0] or given
        else:
            root, name = _deepest(self._configured, folder)
            if not name:
                root, name = _deepest(self._stored, folder)
            if not name:
                root, name = given, self._spelt(Path(given).name or "data")
        if (name, root) not in self._places:
            self._places[name, root] = place_in(
                self._settings, collection=name, root=root, config=self._collections.named(name)
            )
        return self._places[name, root]

    def missing_root(self, path: str) -> str | None:
        """The root of a collection that is not there, and that holds *path* or lies below it.

        A disk that is not mounted looks like that; so does a folder that was removed.
        """
        roots = {root for root, _ in self._configured + self._stored}
        near = (root for root in roots if is_below(path, root) or is_below(root, path))
        return min((root for root in near if not Path(root).is_dir()), key=len, default=None)

    def _spelt(self, name: str) -> str:
        """*name* as it is spelt already, names being one regardless of case."""
        return self._spellings.setdefault(fold(name), name)


def _checked(name: str) -> str:
    if not name.strip() or not name.isprintable() or "/" in name or len(name) > 100:
        raise UsageError(f"not a name for a collection: {name[:100]!r}")
    return name


def _deepest(roots: Iterable[tuple[str, str]], folder: str) -> tuple[str, str]:
    """The deepest of *roots* that holds *folder*, and its collection; empty where none does."""
    holding = [(root, name) for root, name in roots if is_below(folder, root)]
    return max(holding, key=lambda one: len(one[0]), default=("", ""))


def is_below(path: str, folder: str) -> bool:
    """Whether *path* is *folder* or lies below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


class Walk:
    """Finds the files of a folder, one after the other."""

    def __init__(
        self, places: Places, *, excluded: Path, problem: Callable[[str, str], None]
    ) -> None:
        """*problem* is told (path, reason) of what cannot be read; *excluded* is not entered."""
        self._places = places
        self._problem = problem
        self._excluded = str(excluded.resolve())
        self._patterns: dict[tuple[str, ...], re.Pattern[str]] = {}
        self.unread: list[str] = []
        """Folders that could not be listed."""

    def files(self, given: str) -> Iterator[FoundFile]:
        """The files below the folder *given* that their collections include."""
        entered: set[tuple[int, int]] = set()
        folders = deque([given])
        linked: deque[str] = deque()
        while folders or linked:
            folder = folders.pop() if folders else linked.popleft()
            if folder == self._excluded or not self._enter(folder, entered):
                continue
            yield from self._files_in(folder, given, folders, linked)

    def file(self, path: str) -> FoundFile | None:
        """The file *path*, whatever its name; None where it cannot be looked at."""
        folder = str(Path(path).parent)
        return self._found(path, self._places.of(folder, folder))

    def _enter(self, folder: str, entered: set[tuple[int, int]]) -> bool:
        try:
            status = Path(folder).stat()
        except OSError as error:
            self._not_read(folder, error)
            return False
        identity = (status.st_dev, status.st_ino)
        if identity in entered:
            return False
        entered.add(identity)
        return True

    def _files_in(
        self, folder: str, given: str, folders: deque[str], linked: deque[str]
    ) -> Iterator[FoundFile]:
        place = self._places.of(folder, given)
        matches = self._pattern(place.config).fullmatch
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        (linked if entry.is_symlink() else folders).append(entry.path)
                    elif matches(entry.name) and (found := self._found(entry.path, place)):
                        yield found
        except OSError as error:
            self._not_read(folder, error)

    def _found(self, path: str, place: Place) -> FoundFile | None:
        try:
            path.encode()
            status = Path(path).stat()
        except UnicodeEncodeError:
            self._problem(path.encode(errors="replace").decode(), "its name is not UTF-8")
            return None
        except OSError as error:
            self._problem(path, error.strerror or str(error))
            return None
        if not stat.S_ISREG(status.st_mode):
            self._problem(path, "not a regular file")
            return None
        return FoundFile(
            path=path, size=status.st_size, modified_ns=status.st_mtime_ns, place=place
        )

    def _not_read(self, folder: str, error: OSError) -> None:
        self.unread.append(folder)
        self._problem(folder, f"cannot be listed: {error.strerror}")

    def _pattern(self, config: CollectionConfig) -> re.Pattern[str]:
        if config.include not in self._patterns:
            alternatives = "|".join(fnmatch.translate(one) for one in config.include) or "(?!)"
            self._patterns[config.include] = re.compile(alternatives, re.IGNORECASE)
        return self._patterns[config.include]
