"""What of the sky each collection covers, as a MOC that follows the catalog.

The MOC is made of the footprints in the catalog, and kept in a file beside it with what tells
the rows that it was made of. Whoever asks has that compared with the rows as they are: where
rows were added, their footprints are added; where others changed or went, it is made anew. So
ingest needs to do nothing, and a MOC that has fallen behind never goes out for longer than
`_BELIEVED_SECONDS` after a change. Memory does not grow with the number of datasets.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from contextlib import closing
from dataclasses import astuple, dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Self

from sqlalchemy import func, select

from soda_service.catalog import schema
from soda_service.catalog.query import fold
from soda_service.catalog.rows import polygons_of
from soda_service.geometry.moc import Moc
from soda_service.geometry.mocbuilder import MocBuilder

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

    from soda_service.catalog.database import Database

_ORDER: Final = 10
"""Order of the MOC: cells of 3.4 arcminutes, a map of 12 MB while it is made."""
_MOST_CELLS: Final = 250_000
"""Cells of a MOC, 2 MB as FITS; one that would have more is made coarser."""
_GULP: Final = 200
"""Footprints in memory at once."""
_BELIEVED_SECONDS: Final = 30.0
"""How long a MOC is not compared with a catalog that changes."""
_FORM: Final = 1
"""Of the files that are kept; other ones count as absent."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _State:
    """What tells one set of rows from another."""

    count: int
    size: int
    """Bytes of the files."""
    modified: int
    """Sum of what is left of their times after division by a prime."""
    revision: int
    """The largest; every row that is written gets a larger one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionCoverage:
    """The part of the sky that a collection covers."""

    collection: str
    """The name as the catalog spells it."""
    moc: Moc
    """Holds every pixel of every dataset; empty where none has a place on the sky."""
    etag: str
    """Differs where the datasets do."""


class SkyCoverages:
    """The coverage of every collection of a catalog. Safe to use from several threads."""

    def __init__(self, database: Database) -> None:
        """*database* stays the caller's."""
        self._database = database
        self._folder = database.path.with_name(database.path.name + "-coverage")
        self._lock = threading.Lock()
        self._known: dict[str, tuple[int, float, CollectionCoverage]] = {}

    def get(self, collection: str) -> CollectionCoverage | None:
        """The coverage of *collection*, whatever its case; None where no dataset is in one.

        Blocks while it is made: about a second for a thousand footprints that are new.
        """
        name = fold(collection)
        with self._lock:  # whoever comes meanwhile waits rather than does the same work
            version, now = self._database.data_version(), time.monotonic()
            known = self._known.get(name)
            if known and (known[0] == version or now - known[1] < _BELIEVED_SECONDS):
                return known[2]
            with self._database.reading() as connection:
                found = self._made(connection, name)
            if found is None:
                self._known.pop(name, None)
            else:
                self._known[name] = version, now, found
            return found

    def _made(self, connection: Connection, folded: str) -> CollectionCoverage | None:
        """The coverage in one state of the catalog; None where the collection has no dataset."""
        table = schema.collection
        row = connection.execute(
            select(table.c.id, table.c.name).where(table.c.name_folded == folded)
        ).one_or_none()
        if row is None:
            return None
        state = _state(connection, row.id)
        if state.count == 0:
            return None  # all its datasets were removed: searches know it no more either
        digest = blake2b(folded.encode(), digest_size=16).hexdigest()
        path = self._folder / f"{digest}.moc"
        kept = _Kept.read(path)
        if kept is None or kept.state != state:
            kept = _Kept(state, _moc(connection, row.id, state, kept))
            kept.write(path)
        stamp = "-".join(map(str, (_FORM, *astuple(state), kept.moc.order)))
        etag = blake2b(f"{digest} {stamp}".encode(), digest_size=12).hexdigest()
        return CollectionCoverage(collection=row.name, moc=kept.moc, etag=f'"{etag}"')


@dataclass(frozen=True, slots=True)
class _Kept:
    """A MOC with the state that it was made of."""

    state: _State
    moc: Moc

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """What is kept at *path*; None where that is nothing, or nothing of use."""
        try:
            head, _, packed = path.read_bytes().partition(b"\n")
            told = json.loads(head)
            if told["form"] != _FORM or len(packed) != told["bytes"] or len(packed) % 16:
                return None
            return cls(_State(*map(int, told["state"])), Moc(int(told["order"]), packed))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Keep it for the next time; where that cannot be, it is made again then."""
        told = {
            "form": _FORM,
            "state": astuple(self.state),
            "order": self.moc.order,
            "bytes": len(self.moc.packed),
        }
        unfinished = path.with_suffix(f".{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(json.dumps(told).encode("ascii") + b"\n" + self.moc.packed)
            unfinished.replace(path)
        except OSError as error:
            _log.warning("the coverage cannot be kept in %s: %s", path.parent, error.strerror)


def _state(connection: Connection, collection_id: int, until: int | None = None) -> _State:
    """The state of the rows of a collection, those of later revisions than *until* left out."""
    table = schema.dataset
    statement = select(
        func.count(),
        func.coalesce(func.sum(table.c.size), 0),
        # A prime, so that whole seconds differ too.
        func.coalesce(func.sum(table.c.modified_ns % 1_000_000_007), 0),
        func.coalesce(func.max(table.c.revision), 0),
    ).where(table.c.collection_id == collection_id)
    if until is not None:
        statement = statement.where(table.c.revision <= until)
    return _State(*map(int, connection.execute(statement).one()))


def _moc(connection: Connection, collection_id: int, state: _State, kept: _Kept | None) -> Moc:
    """The MOC of all footprints, made from the one that is kept where its rows are still there."""
    after = -1
    order = _ORDER
    moc: Moc | None = None
    if kept is not None and _state(connection, collection_id, kept.state.revision) == kept.state:
        after, moc, order = kept.state.revision, kept.moc, kept.moc.order
    builder = MocBuilder(order)
    if moc is not None:
        builder.add_moc(moc)
    table = schema.dataset
    statement = select(table.c.polygons).where(
        table.c.collection_id == collection_id,
        table.c.polygons.is_not(None),
        table.c.revision > after,
        table.c.revision <= state.revision,
    )
    with closing(connection.execution_options(stream_results=True).execute(statement)) as result:
        for rows in result.partitions(_GULP):
            builder.add([one for row in rows for one in polygons_of(row.polygons)])
    return builder.moc(most_cells=_MOST_CELLS)
