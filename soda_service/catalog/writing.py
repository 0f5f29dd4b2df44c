"""Writing datasets into the catalog: which row one takes, and when it is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, or_, select

from soda_service.catalog import schema
from soda_service.catalog.query import fold
from soda_service.errors import SourceUnavailableError
from soda_service.storage.source import FileVersion, is_remote

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from sqlalchemy import Connection

    from soda_service.catalog.rows import Cell, DatasetRows

_NOWHERE: Final = ""
"""The path of a row for a moment within a transaction: no two rows may have the same."""


class Written(Enum):
    """What became of a dataset that was written."""

    ADDED = "added"
    CHANGED = "changed"
    MOVED = "moved"
    """It has its identifier from the row of a path where it is no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A dataset was not written: another file has its identifier, regardless of case."""

    path: str
    """Of the other file."""
    publisher_did: str
    """As the other file's row spells it."""
    has_changed: bool
    """Whether the other file is not the one of its row any more: it may be another dataset."""


Outcome = Written | Refused

LookAtObject = Callable[[str], FileVersion | None]
"""The version of the object at a URL, None where there is none; raises SourceUnavailableError."""


class _Look(Enum):
    """What else a look at a file may tell."""

    UNKNOWN = "unknown"
    """Nothing."""


Found = FileVersion | _Look | None
"""What is at a path now."""


class NotLookedAtError(Exception):
    """Whether a dataset is written depends on a file that has not been looked at."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class DatasetWriter:
    """Writes datasets within one transaction, in which no file and no store is looked at.

    That may take long, and other writers wait meanwhile.
    """

    def __init__(
        self,
        connection: Connection,
        scan: int | None,
        *,
        overtaking: Container[str],
        found: Mapping[str, Found],
    ) -> None:
        """*found* are the files of other rows with the identifiers of what will be written.

        *overtaking* are files that have been read since they changed, and hold other datasets.
        """
        self._connection = connection
        self._found = dict(found)
        self._scan = scan
        self._overtaking = overtaking
        self._collections: dict[str, int] = {}
        counters = schema.counters
        self._revision = connection.execute(
            counters.update()
            .values(revision=counters.c.revision + 1)
            .returning(counters.c.revision)
        ).scalar_one()

    def write(self, new: DatasetRows) -> Outcome:
        """Put *new* in the place of what its path or its identifier had before.

        Raises NotLookedAtError; then the transaction has to begin anew.
        """
        table = schema.dataset
        standing = self._connection.execute(
            select(
                table.c.id,
                table.c.path,
                table.c.obs_publisher_did,
                table.c.size,
                table.c.modified_ns,
                table.c.tag,
                table.c.scan,
            ).where(
                or_(
                    table.c.path == new.path,
                    table.c.did_folded == new.dataset["did_folded"],
                )
            )
        ).all()
        same_path = next((row for row in standing if row.path == new.path), None)
        same_did = next((row for row in standing if row is not same_path), None)
        if same_did is not None:
            if same_did.path not in self._found:
                raise NotLookedAtError(same_did.path)
            found = self._found[same_did.path]
            version = FileVersion(same_did.size, same_did.modified_ns, same_did.tag)
            is_there = found is _Look.UNKNOWN or (
                isinstance(found, FileVersion) and found.is_of_same_content(version)
            )
            is_overtaken = same_did.path in self._overtaking and same_did.scan < (self._scan or 0)
            if is_there or (found is not None and not is_overtaken):
                return Refused(
                    path=same_did.path,
                    publisher_did=same_did.obs_publisher_did,
                    has_changed=not is_there,
                )
        # A file that moved and kept its identifier keeps its row.
        kept = same_did or same_path
        displaced = same_path.id if same_did is not None and same_path is not None else None
        if displaced is not None:
            self._displace(displaced, _NOWHERE)
        row_id = self._insert(new) if kept is None else self._replace(kept.id, new)
        self._insert_parts(row_id, new)
        # What was read a moment ago is there.
        self._found.setdefault(new.path, new.version)
        if same_did is not None and displaced is not None:
            self._displace(displaced, same_did.path)
        if same_did is not None:
            return Written.MOVED
        return Written.ADDED if kept is None else Written.CHANGED

    def _displace(self, row_id: int, path: str) -> None:
        """Keep the row of a file that is no more where it was, until it is found or given up.

        It is given the path that the other file came from, but fits no version of a file there.
        """
        table = schema.dataset
        self._connection.execute(
            table.update()
            .where(table.c.id == row_id)
            .values(path=path, modified_ns=-1, tag="", revision=self._revision)
        )

    def _insert(self, new: DatasetRows) -> int:
        table = schema.dataset
        cells = {**self._cells(new), "scan": self._scan or 0}
        return int(
            self._connection.execute(table.insert().returning(table.c.id), cells).scalar_one()
        )

    def _replace(self, row_id: int, new: DatasetRows) -> int:
        table, hdu, piece = schema.dataset, schema.hdu, schema.piece
        self._connection.execute(hdu.delete().where(hdu.c.dataset_id == row_id))
        self._connection.execute(piece.delete().where(piece.c.dataset_id == row_id))
        statement = table.update().where(table.c.id == row_id).values(self._cells(new))
        if self._scan is not None:
            statement = statement.values(scan=func.max(table.c.scan, self._scan))
        self._connection.execute(statement)
        return row_id

    def _cells(self, new: DatasetRows) -> dict[str, Cell]:
        return {
            **new.dataset,
            "collection_id": self._collection_id(new.collection),
            "revision": self._revision,
        }

    def _insert_parts(self, row_id: int, new: DatasetRows) -> None:
        hdus = [{**hdu, "dataset_id": row_id} for hdu in new.hdus]
        first = schema.FIRST_PIECE + row_id * schema.MOST_PIECES
        pieces = [{"id": first + at, "dataset_id": row_id} for at in range(len(new.boxes))]
        boxes = [
            {**piece, **dict(zip(schema.BOX_COLUMNS, box, strict=True))}
            for piece, box in zip(pieces, new.boxes, strict=True)
        ]
        for table, rows in (
            (schema.hdu, hdus), (schema.piece, pieces), (schema.piece_box, boxes),
        ):  # fmt: skip
            if rows:
                self._connection.execute(table.insert(), rows)

    def _collection_id(self, name: str) -> int:
        if name not in self._collections:
            collection = schema.collection
            self._collections[name] = self._connection.execute(
                select(collection.c.id).where(collection.c.name_folded == fold(name))
            ).scalar_one()
        return self._collections[name]


def holders(connection: Connection, datasets: Sequence[DatasetRows]) -> list[str]:
    """The paths of rows that have the identifiers of *datasets* from other files."""
    table = schema.dataset
    new = {(str(one.dataset["did_folded"]), one.path) for one in datasets}
    standing = connection.execute(
        select(table.c.did_folded, table.c.path).where(
            table.c.did_folded.in_({identifier for identifier, _ in new})
        )
    )
    known = {row.did_folded: row.path for row in standing}
    return list({known[did] for did, path in new if known.get(did, path) != path})


def look_at(path: str, look: LookAtObject | None) -> Found:
    """What is at *path* now; of an object, what *look* says."""
    if is_remote(path):
        try:
            return look(path) if look is not None else _Look.UNKNOWN
        except SourceUnavailableError:
            return _Look.UNKNOWN
    try:
        status = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return _Look.UNKNOWN  # what cannot be looked at now has not gone away
    return FileVersion(status.st_size, status.st_mtime_ns)
