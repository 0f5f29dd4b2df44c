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


class _Holder(Enum):
    """What has become of the file of a row."""

    THERE = "there"
    """As the row says, as far as can be told."""
    CHANGED = "changed"
    GONE = "gone"


class DatasetWriter:
    """Writes datasets within one transaction."""

    def __init__(
        self,
        connection: Connection,
        scan: int | None,
        *,
        overtaking: bool,
        look: LookAtObject | None,
    ) -> None:
        self._connection = connection
        self._look = look
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
        """Put *new* in the place of what its path or its identifier had before."""
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
            version = FileVersion(same_did.size, same_did.modified_ns, same_did.tag)
            holder = _holder(same_did.path, version, self._look)
            is_overtaken = self._overtaking and same_did.scan < (self._scan or 0)
            if holder is _Holder.THERE or (holder is _Holder.CHANGED and not is_overtaken):
                return Refused(
                    path=same_did.path,
                    publisher_did=same_did.obs_publisher_did,
                    has_changed=holder is _Holder.CHANGED,
                )
        # A file that moved and kept its identifier keeps its row.
        kept = same_did or same_path
        displaced = same_path.id if same_did is not None and same_path is not None else None
        if displaced is not None:
            self._displace(displaced, _NOWHERE)
        row_id = self._insert(new) if kept is None else self._replace(kept.id, new)
        self._insert_parts(row_id, new)
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


def _holder(path: str, version: FileVersion, look: LookAtObject | None) -> _Holder:
    if is_remote(path):
        return _holding_object(path, version, look)
    try:
        status = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return _Holder.GONE
    except OSError:
        return _Holder.THERE  # what cannot be looked at now has not gone away
    is_same = FileVersion(status.st_size, status.st_mtime_ns) == version
    return _Holder.THERE if is_same else _Holder.CHANGED


def _holding_object(path: str, version: FileVersion, look: LookAtObject | None) -> _Holder:
    if look is None:
        return _Holder.THERE
    try:
        found = look(path)
    except SourceUnavailableError:
        return _Holder.THERE
    if found is None:
        return _Holder.GONE
    return _Holder.THERE if found.is_of_same_content(version) else _Holder.CHANGED
