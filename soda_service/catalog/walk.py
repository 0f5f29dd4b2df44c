"""Which files an ingest looks at, and which collection each belongs to.

Symbolic links are followed: to files always, to folders after everything that is reached
without them, and no folder is entered twice, so loops end. Names that begin with a dot are
left out, as are pipes, sockets and devices.

What lies in a store is found by lists of it, which tell the versions of its objects too.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import stat
import time
from collections import deque
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from soda_service.catalog.indexer import place_in
from soda_service.catalog.query import fold
from soda_service.errors import SourceUnavailableError, UsageError
from soda_service.storage.remoteplace import place_of
from soda_service.storage.source import FileVersion, is_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from soda_service.catalog.indexer import Place
    from soda_service.catalog.store import CollectionRow
    from soda_service.config import CollectionConfig, CollectionsFile, Settings
    from soda_service.storage.stores import RemoteStores


_LISTED_AT_ONCE: Final = 1_000
"""Entries of a folder that are held as a list; a larger folder stays open meanwhile."""

_COUNTED_AT_ONCE: Final = 1_000
"""Files counted between two looks at the clock."""

_ABSENT: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP))
"""Errors that say that there is no file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file to be looked at."""

    path: str
    version: FileVersion
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
        stores: RemoteStores | None = None,
    ) -> None:
        """*stores* learn of every place in one of them.

        Raises UsageError for a name that cannot be a collection's, ConfigurationError for a
        root that is the URL of no store.
        """
        self._settings = settings
        self._collections = collections
        self._stores = stores
        self._named = _checked(named) if named is not None else None
        self._configured = [
            (root, name)
            for name, config in collections.collections.items()
            if (root := root_of(config, settings)) is not None
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
                root, name = given, self._spelt(_name_of(given) or "data")
        if (name, root) not in self._places:
            place = place_in(
                self._settings, collection=name, root=root, config=self._collections.named(name)
            )
            if place.store is not None and self._stores is not None:
                self._stores.add(place.store)
            self._places[name, root] = place
        return self._places[name, root]

    def roots(self) -> list[str]:
        """The roots of all collections, outer ones first."""
        return sorted({root for root, _ in self._configured + self._stored}, key=len)

    def missing_root(self, path: str) -> str | None:
        """The root of a collection that holds *path* or lies below it, and has nothing in it.

        Or that is not there itself. A disk that is not mounted looks like either; so does a
        folder that was emptied or removed.
        """
        near = (one for one in self.roots() if is_below(path, one) or is_below(one, path))
        return next((root for root in near if self._has_nothing(root)), None)

    def _has_nothing(self, root: str) -> bool:
        if not is_remote(root):
            return _has_nothing(root)
        assert self._stores is not None
        self.of(root, root)
        try:
            return next(self._stores.list(root), None) is None
        except SourceUnavailableError:
            return False

    def _spelt(self, name: str) -> str:
        """*name* as it is spelt already, names being one regardless of case."""
        return self._spellings.setdefault(fold(name), name)


def root_of(config: CollectionConfig, settings: Settings) -> str | None:
    """The root of a collection: an absolute path, or a URL as the catalog has it.

    Raises ConfigurationError for a URL that is none of a store.
    """
    if config.root is None:
        return None
    if is_remote(config.root):
        return place_of(config.root).url
    return real_path(settings.data_dir / config.root)


def real_path(path: Path) -> str:
    """The absolute path without links, as far as they can be followed.

    Unlike `Path.resolve`, which raises RuntimeError for links that go round in a circle.
    """
    return os.path.realpath(path)


def is_utf8(path: str) -> bool:
    """Whether the catalog can have *path*."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _name_of(given: str) -> str:
    """The last part of a path or a URL."""
    if not is_remote(given):
        return Path(given).name
    place = place_of(given)
    return (place.key or place.authority).rpartition("/")[2].replace(":", "-")


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


def folder_of(path: str) -> str:
    """The folder in which a file lies, or the place in a store that an object lies below."""
    if not is_remote(path):
        return str(Path(path).parent)
    place = place_of(path)
    return place._replace(key=place.key.rpartition("/")[0]).url


class Walk:
    """Finds the files of a folder, one after the other.

    What it remembers grows with the depth of the folders and by a number for each of them,
    never with the files.
    """

    def __init__(
        self,
        places: Places,
        *,
        excluded: Path,
        problem: Callable[[str, str], None],
        stores: RemoteStores | None = None,
    ) -> None:
        """*problem* is told (path, reason) of what cannot be read; *excluded* is not entered.

        *stores* are needed for what lies in them.
        """
        self._places = places
        self._stores = stores
        self._problem = problem
        self._excluded = real_path(excluded)
        self._patterns: dict[tuple[str, ...], re.Pattern[str]] = {}
        self.unread: list[str] = []
        """Folders that could not be listed."""
        self.asked = ""
        """The file or folder that a disk is asked about now; for `Watch`."""
        self.unknown: list[str] = []
        """Files of which a disk did not say what they are now."""
        self.vanished: set[str] = set()
        """Objects that were looked at and are not there."""

    def files(self, given: str) -> Iterator[FoundFile]:
        """The files below the folder *given* that their collections include."""
        if is_remote(given):
            yield from self._objects(given)
            return
        for path, place in self._named(given):
            found = self.look_at(path, place)
            if found is not None:
                yield found

    def file(self, path: str) -> FoundFile | None:
        """The file *path*, whatever its name; None where it cannot be looked at."""
        folder = folder_of(path)
        return self.look_at(path, self._places.of(folder, folder))

    def count(self, given: str, *, until: float) -> int | None:
        """How many files have such names; None where that takes longer than *until*.

        *until* is a time of `time.monotonic`. No file is looked at, and no store is asked.
        """
        if is_remote(given):
            return None
        count = 0
        for _ in self._named(given):
            count += 1
            if not count % _COUNTED_AT_ONCE and time.monotonic() > until:
                return None
        return count

    def _named(self, given: str) -> Iterator[tuple[str, Place]]:
        """The paths below *given* whose names their collections include.

        Where a folder is left for one below it, the rest of it waits as the operating system
        hands it out, not as a list of paths.
        """
        entered: dict[int, set[int]] = {}
        linked = deque([given])
        while linked:
            waiting = [self._opened(linked.popleft(), given, entered)]
            while waiting:
                place, entries = waiting[-1]
                entry = next(entries, None)
                if entry is None:
                    waiting.pop()
                elif entry.name.startswith("."):
                    continue
                elif not self._is_folder(entry, place):
                    if self._pattern(place.config).fullmatch(entry.name):
                        yield entry.path, place
                elif entry.is_symlink():
                    linked.append(entry.path)
                else:
                    waiting.append(self._opened(entry.path, given, entered))

    def _is_folder(self, entry: os.DirEntry[str], place: Place) -> bool:
        """Whether *entry* is a folder or leads to one; links that go round in a circle do not."""
        self.asked = entry.path
        try:
            return entry.is_dir()
        except OSError as error:
            is_named = self._pattern(place.config).fullmatch(entry.name)  # and looked at as a file
            if error.errno not in _ABSENT and not is_named:
                self._not_read(entry.path, error)
            return False
        finally:
            self.asked = ""

    def _opened(
        self, folder: str, given: str, entered: dict[int, set[int]]
    ) -> tuple[Place, Iterator[os.DirEntry[str]]]:
        """The place of files in *folder* and what is in it, nothing if it was entered before."""
        place = self._places.of(folder, given)
        if folder == self._excluded or not self._enter(folder, entered):
            return place, iter(())
        return place, self._entries(folder)

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str]]:
        self.asked = folder
        try:
            with os.scandir(folder) as entries:
                # Few folders are larger, so that few are open at a time however deep they lie.
                listed = list(islice(entries, _LISTED_AT_ONCE))
                if len(listed) == _LISTED_AT_ONCE:
                    self.asked = ""
                    yield from chain(listed, entries)
                    return
        except OSError as error:
            self._not_read(folder, error)
            return
        finally:
            self.asked = ""
        yield from listed

    def _enter(self, folder: str, entered: dict[int, set[int]]) -> bool:
        self.asked = folder
        try:
            status = Path(folder).stat()
        except OSError as error:
            self._not_read(folder, error)
            return False
        finally:
            self.asked = ""
        known = entered.setdefault(status.st_dev, set())
        if status.st_ino in known:
            return False
        known.add(status.st_ino)
        return True

    def look_at(self, path: str, place: Place) -> FoundFile | None:
        """The file *path* of *place* as it is now; None where it cannot be looked at."""
        if is_remote(path):
            return self._look_at_object(path, place)
        if not is_utf8(path):
            self._problem(path.encode(errors="replace").decode(), "its name is not UTF-8")
            return None
        self.asked = path
        try:
            status = Path(path).stat()
        except OSError as error:
            self._problem(path, error.strerror or str(error))
            if error.errno not in _ABSENT:
                self.unknown.append(path)
            return None
        finally:
            self.asked = ""
        if not stat.S_ISREG(status.st_mode):
            self._problem(path, "not a regular file")
            return None
        version = FileVersion(status.st_size, status.st_mtime_ns)
        return FoundFile(path=path, version=version, place=place)

    def _objects(self, given: str) -> Iterator[FoundFile]:
        """The same of a place in a store; what cannot be listed to its end counts as unread."""
        assert self._stores is not None
        self._places.of(given, given)
        try:
            for url, version in self._stores.list(given):
                names = place_of(url).key.removeprefix(place_of(given).key).split("/")
                if any(name.startswith(".") for name in names):
                    continue
                place = self._places.of(folder_of(url), given)
                if self._pattern(place.config).fullmatch(names[-1]):
                    yield FoundFile(path=url, version=version, place=place)
        except SourceUnavailableError as error:
            self.unread.append(given)
            self._problem(given, str(error))

    def _look_at_object(self, url: str, place: Place) -> FoundFile | None:
        assert self._stores is not None
        try:
            version = self._stores.version_of(url)
        except SourceUnavailableError as error:
            self._problem(url, str(error))
            return None
        if version is None:
            self.vanished.add(url)
            return None
        return FoundFile(path=url, version=version, place=place)

    def _not_read(self, folder: str, error: OSError) -> None:
        self.unread.append(folder)
        self._problem(folder, f"cannot be listed: {error.strerror}")

    def _pattern(self, config: CollectionConfig) -> re.Pattern[str]:
        if config.include not in self._patterns:
            self._patterns[config.include] = _compiled(config)
        return self._patterns[config.include]


def includes(config: CollectionConfig, path: str) -> bool:
    """Whether the collection includes files with the name of *path*."""
    return _compiled(config).fullmatch(path.rpartition("/")[2]) is not None


def _compiled(config: CollectionConfig) -> re.Pattern[str]:
    alternatives = "|".join(fnmatch.translate(one) for one in config.include) or "(?!)"
    return re.compile(alternatives, re.IGNORECASE)


def _has_nothing(folder: str) -> bool:
    """Whether *folder* is empty or not there; not where that cannot be told."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
