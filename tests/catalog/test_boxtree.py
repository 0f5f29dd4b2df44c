"""The R*Tree read by its nodes names what SQLite names, and bytes that are wrong do no harm."""

from __future__ import annotations

import json
import random
import re
import sqlite3
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st

from soda_service.catalog import boxtree
from soda_service.catalog.boxtree import NoPieces, Pieces, pieces_meeting
from soda_service.catalog.schema import FIRST_PIECE, MOST_PIECES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from soda_service.catalog.skybox import SkyBox

EVERYWHERE = (-1.0, 1.0, -1.0, 1.0, -1.0, 1.0)
NOWHERE = (3.0, 4.0, 3.0, 4.0, 3.0, 4.0)
ALL = 10**9


def some_box(chance: random.Random, size: float) -> SkyBox:
    """A box of up to *size* somewhere in the cube."""
    x, y, z = (chance.uniform(-1, 1) for _ in "xyz")
    w, h, d = (chance.uniform(0, size) for _ in "xyz")
    return x, x + w, y, y + h, z, z + d


def make_tree(count: int, first: int = FIRST_PIECE) -> sqlite3.Connection:
    """A tree of so many pieces, two for each dataset, in a transaction."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(
        "CREATE VIRTUAL TABLE piece_box USING rtree("
        "id, min_x, max_x, min_y, max_y, min_z, max_z, +dataset_id)"
    )
    chance = random.Random(count)
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO piece_box VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (first + (number // 2) * MOST_PIECES + number % 2, *some_box(chance, 0.05), number // 2)
            for number in range(count)
        ],
    )
    return connection


@pytest.fixture(scope="module")
def trees() -> Iterator[dict[int, sqlite3.Connection]]:
    """Of no level but the root, and of up to three."""
    made = {count: make_tree(count) for count in (0, 1, 30, 400, 6000)}
    yield made
    for one in made.values():
        one.close()


def asked_of_sqlite(
    connection: sqlite3.Connection, boxes: Sequence[SkyBox]
) -> list[tuple[float, ...]]:
    """Dataset and box of each piece that meets a box, once for each of those."""
    return [
        row
        for box in boxes
        for row in connection.execute(
            "SELECT dataset_id, min_x, max_x, min_y, max_y, min_z, max_z FROM piece_box"
            " WHERE max_x >= ? AND min_x <= ? AND max_y >= ? AND min_y <= ?"
            " AND max_z >= ? AND min_z <= ?",
            box,
        )
    ]


def rows_of_pieces(pieces: Pieces) -> list[tuple[float, ...]]:
    """The same of what was read from the nodes."""
    boxes = pieces.boxes.reshape(-1, 6).tolist()
    return [(number, *box) for number, box in zip(pieces.datasets.tolist(), boxes, strict=True)]


@pytest.mark.parametrize("count", [0, 1, 30, 400, 6000])
@pytest.mark.parametrize(("nodes", "inner"), [(256, 16), (3, 1)])
def test_the_nodes_name_what_sqlite_names(
    trees: dict[int, sqlite3.Connection],
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    nodes: int,
    inner: int,
) -> None:
    monkeypatch.setattr(boxtree, "_NODES", nodes)
    monkeypatch.setattr(boxtree, "_INNER_NODES", inner)
    chance = random.Random(nodes)
    asked = [[some_box(chance, size)] for size in (0.0, 0.1, 0.5, 2.0) * 5]
    asked += [[some_box(chance, 0.5) for _ in range(number)] for number in (2, 3, 5)]
    for boxes in (*asked, [EVERYWHERE], [NOWHERE], [EVERYWHERE, NOWHERE, EVERYWHERE]):
        expected = asked_of_sqlite(trees[count], boxes)
        found = pieces_meeting(trees[count], boxes, ALL)
        assert isinstance(found, Pieces)
        assert sorted(rows_of_pieces(found)) == sorted(set(expected))
        # Those that meet several boxes count as often.
        enough = pieces_meeting(trees[count], boxes, len(expected) + 1)
        assert isinstance(enough, Pieces)
        assert pieces_meeting(trees[count], boxes, len(expected)) is NoPieces.TOO_MANY


def test_of_too_many_pieces_few_nodes_are_read(
    trees: dict[int, sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boxtree, "_NODES", 8)
    monkeypatch.setattr(boxtree, "_INNER_NODES", 1)
    tree, seen = trees[6000], list[str]()
    query = "SELECT rtreedepth(data) FROM piece_box_node WHERE nodeno = 1"
    (depth,) = tree.execute(query).fetchone()
    (nodes,) = tree.execute("SELECT count(*) FROM piece_box_node").fetchone()
    assert depth >= 2
    tree.set_trace_callback(seen.append)
    assert pieces_meeting(tree, [EVERYWHERE], 300) is NoPieces.TOO_MANY
    tree.set_trace_callback(None)
    lists = re.findall(r"json_each\('(\[.*?\])'\)", " ".join(seen))
    assert sum(len(json.loads(one)) for one in lists) <= 30 < nodes / 4


def test_without_a_transaction_nothing_is_read() -> None:
    """Between two steps the tree could become another."""
    tree = make_tree(10)
    tree.commit()
    assert pieces_meeting(tree, [EVERYWHERE], ALL) is NoPieces.UNREADABLE
    tree.close()


def test_pieces_of_older_catalogs_do_not_tell_their_datasets() -> None:
    tree = make_tree(10, first=1)
    assert pieces_meeting(tree, [EVERYWHERE], ALL) is NoPieces.UNREADABLE
    tree.close()


ROOT = "(SELECT 1)"
CHILD = "(SELECT nodeno FROM piece_box_node WHERE nodeno > 1 ORDER BY nodeno LIMIT 1)"
BY_HAND: dict[str, tuple[str, Callable[[bytes], object]]] = {
    "root of nothing": (ROOT, lambda _: b""),
    "root of three bytes": (ROOT, lambda data: data[:3]),
    "root of a head alone": (ROOT, lambda data: data[:4]),
    "root cut short": (ROOT, lambda data: data[:-40]),
    "null": (ROOT, lambda _: None),
    "text": (CHILD, lambda data: "x" * len(data)),
    "a number": (ROOT, lambda _: 7),
    "too deep": (ROOT, lambda data: b"\x00\x29" + data[2:]),
    "far too deep": (ROOT, lambda data: b"\xff\xff" + data[2:]),
    "deeper than it is": (ROOT, lambda data: b"\x00\x05" + data[2:]),
    "too many cells": (ROOT, lambda data: data[:2] + b"\xff\xff" + data[4:]),
    "one cell too many": (CHILD, lambda data: data[:2] + b"\x00\x34" + data[4:]),
    "no such node": (ROOT, lambda data: data[:4] + b"\x7f" * 8 + data[12:]),
    "itself": (ROOT, lambda data: data[:4] + b"\x00" * 7 + b"\x01" + data[12:]),
    "a node twice": (ROOT, lambda data: data[:4] + data[36:44] + data[12:]),
    "a node of another length": (CHILD, lambda data: data[:-32]),
    "a piece without end": (CHILD, lambda data: data[:12] + b"\xff\x80\x00\x00" + data[16:]),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_tree_that_is_not_as_it_should_be_is_left_to_sqlite(name: str) -> None:
    node, wrong = BY_HAND[name]
    tree = make_tree(400)
    number, data = tree.execute(
        f"SELECT nodeno, data FROM piece_box_node WHERE nodeno = {node}"
    ).fetchone()
    assert len(data) == 4 + 51 * 32
    tree.execute("UPDATE piece_box_node SET data = ? WHERE nodeno = ?", (wrong(data), number))
    assert pieces_meeting(tree, [EVERYWHERE], ALL) is NoPieces.UNREADABLE
    tree.close()


def test_a_node_that_is_gone() -> None:
    tree = make_tree(400)
    tree.execute(f"DELETE FROM piece_box_node WHERE nodeno = {CHILD}")
    assert pieces_meeting(tree, [EVERYWHERE], ALL) is NoPieces.UNREADABLE
    tree.execute("DELETE FROM piece_box_node")
    assert pieces_meeting(tree, [EVERYWHERE], ALL) is NoPieces.UNREADABLE
    tree.close()


PLACES = st.integers(0, 70) | st.integers(0, 1635)
WRONG = st.binary(min_size=1, max_size=9)


@hypothesis_settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.tuples(st.integers(0, 2), PLACES, WRONG), min_size=1, max_size=4))
def test_whatever_the_bytes_are_there_is_an_answer(
    trees: dict[int, sqlite3.Connection], wrong: list[tuple[int, int, bytes]]
) -> None:
    """Warnings of numpy would be errors here."""
    tree = trees[400]
    numbers = [row[0] for row in tree.execute("SELECT nodeno FROM piece_box_node ORDER BY 1")]
    tree.execute("SAVEPOINT before")
    for which, place, some in wrong:
        number = numbers[which]
        (data,) = tree.execute(
            "SELECT data FROM piece_box_node WHERE nodeno = ?", (number,)
        ).fetchone()
        data = (data[:place] + some + data[place + len(some) :])[: len(data)]
        tree.execute("UPDATE piece_box_node SET data = ? WHERE nodeno = ?", (data, number))
    found = pieces_meeting(tree, [EVERYWHERE, (0.0, 0.1, 0.0, 0.1, 0.0, 0.1)], ALL)
    tree.execute("ROLLBACK TO before")
    tree.execute("RELEASE before")
    assert isinstance(found, Pieces) or found is NoPieces.UNREADABLE
