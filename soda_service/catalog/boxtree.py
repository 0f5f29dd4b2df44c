"""The R*Tree of the sky's pieces, read node by node.

SQLite hands out a tree's rows one at a time, which takes as long as all the rest of a long
search. Its nodes are blobs in a table of their own, and numpy looks at hundreds of them at once.

Source: the form of a node is part of SQLite's file format (its documentation of R*Trees, the
section on shadow tables). All is big-endian: the depth of the tree in two bytes, of meaning in
the root alone, which is node 1; the number of cells in two; then the cells. A cell is a number in
eight bytes, of a node further down or at the bottom of a row, and least and largest of each axis
in 32-bit floats.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from soda_service.catalog.schema import FIRST_PIECE, MOST_PIECES

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from soda_service.catalog.skybox import SkyBox

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]

_ROOT: Final = 1
_DEEPEST: Final = 40
"""SQLite makes no deeper tree."""

_HEAD: Final = 4
_CELL: Final = np.dtype([("number", ">i8"), ("box", ">f4", (3, 2))])

_NODES: Final = 256
"""Nodes at the bottom looked at together: arrays that a cache holds."""

_INNER_NODES: Final = 16
"""The same further up. All of these are followed down before others are, so that of a tree that
has too many pieces little is read."""


class NoPieces(Enum):
    """Why there are no `Pieces`."""

    TOO_MANY = "as many as are too many"
    UNREADABLE = "the nodes are not as they should be, or the pieces do not tell their datasets"


class Pieces(NamedTuple):
    """Some pieces, in no order."""

    datasets: Ints
    """The id of the dataset of each."""
    boxes: Floats
    """Piece, axis, and least and largest."""


class _UnreadableError(Exception):
    """A node is not as it should be."""


def pieces_meeting(
    connection: sqlite3.Connection, boxes: Sequence[SkyBox], too_many: int
) -> Pieces | NoPieces:
    """The pieces whose boxes meet one of *boxes*, where they are fewer than *too_many*.

    A piece that meets several is counted for each of them. Needs a transaction, since the tree
    is read in many steps.
    """
    if not connection.in_transaction:
        return NoPieces.UNREADABLE
    try:
        return _Walk(connection, boxes).pieces(too_many)
    except _UnreadableError:
        return NoPieces.UNREADABLE


class _Walk:
    """One way down the tree, each node once."""

    def __init__(self, connection: sqlite3.Connection, boxes: Sequence[SkyBox]) -> None:
        self._connection = connection
        limits = np.array(boxes, dtype=np.float64).reshape(-1, 3, 2)
        self._limits = [(one[:, 0], one[:, 1]) for one in limits]
        self._seen: set[int] = set()
        self._size = 0

    def pieces(self, too_many: int) -> Pieces | NoPieces:
        """See `pieces_meeting`; raises _UnreadableError."""
        blobs = self._blobs([_ROOT])
        depth = int.from_bytes(blobs[0][:2], "big")
        if depth > _DEEPEST:
            raise _UnreadableError
        count = 0
        datasets, boxes = [np.empty(0, dtype=np.int64)], [np.empty((0, 3, 2))]
        ahead: list[tuple[int, list[int]]] = []
        while True:
            found, around, times = self._meeting(blobs)
            if depth:
                size = _NODES if depth == 1 else _INNER_NODES
                numbers = sorted(found.tolist())
                ahead += [
                    (depth - 1, numbers[start : start + size])
                    for start in range(0, len(numbers), size)
                ]
            elif (found < FIRST_PIECE).any() or not np.isfinite(around).all():
                raise _UnreadableError
            else:
                count += times
                datasets.append((found - FIRST_PIECE) // MOST_PIECES)
                boxes.append(around)
            if count >= too_many:
                return NoPieces.TOO_MANY
            if not ahead:
                return Pieces(np.concatenate(datasets), np.concatenate(boxes))
            depth, numbers = ahead.pop()
            blobs = self._blobs(numbers)

    def _blobs(self, numbers: list[int]) -> list[bytes]:
        """Those nodes, in any order, each as long as all others."""
        if len(set(numbers)) < len(numbers) or not self._seen.isdisjoint(numbers):
            raise _UnreadableError
        self._seen.update(numbers)
        rows = self._connection.execute(
            "SELECT n.data FROM json_each(?) AS i CROSS JOIN piece_box_node AS n"
            " ON n.nodeno = i.value",
            (json.dumps(numbers),),
        ).fetchall()
        blobs = [row[0] for row in rows]
        if len(blobs) < len(numbers) or set(map(type, blobs)) != {bytes}:
            raise _UnreadableError
        self._size = self._size or len(blobs[0])
        if self._size < _HEAD or set(map(len, blobs)) != {self._size}:
            raise _UnreadableError
        return blobs

    def _meeting(self, blobs: list[bytes]) -> tuple[Ints, Floats, int]:
        """Numbers and boxes of the cells that meet a box, and how often they do in all."""
        nodes = np.frombuffer(b"".join(blobs), np.uint8).reshape(len(blobs), self._size)
        counts = nodes[:, 2].astype(np.int64) << 8 | nodes[:, 3]
        most = (self._size - _HEAD) // _CELL.itemsize
        if counts.max() > most:
            raise _UnreadableError
        if not most:
            return np.empty(0, dtype=np.int64), np.empty((0, 3, 2)), 0
        room = np.ascontiguousarray(nodes[:, _HEAD : _HEAD + most * _CELL.itemsize])
        cells = room.view(_CELL)[np.arange(most) < counts[:, None]]
        with np.errstate(invalid="ignore"):  # what is not a number meets nothing
            around = cells["box"].astype(np.float64)
            met = [
                ((around[:, :, 1] >= least) & (around[:, :, 0] <= largest)).all(axis=1)
                for least, largest in self._limits
            ]
        meets = np.logical_or.reduce(met)
        times = sum(int(np.count_nonzero(one)) for one in met)
        return cells["number"][meets].astype(np.int64), around[meets], times
