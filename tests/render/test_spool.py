"""The spool: what is written is read, the budget holds, and nothing is left behind."""

from __future__ import annotations

import gc
import os
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st

from soda_service.errors import SourceUnavailableError, UsageError
from soda_service.render.spool import SpoolRoom

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024


@settings(max_examples=50)
@given(pieces=st.lists(st.tuples(st.booleans(), st.binary(max_size=300_000)), max_size=8))
def test_what_is_written_is_read(
    pieces: list[tuple[bool, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In order, and what was skipped where it is filled in later."""
    room = SpoolRoom(tmp_path_factory.getbasetemp() / "spool", 64 * MIB)
    with room.open() as spool:
        holes = []
        for is_skipped, piece in pieces:
            if is_skipped:
                holes.append((spool.size, piece))
                spool.skip(len(piece))
            else:
                spool.append(piece)
        for at, piece in reversed(holes):
            spool.write_at(at, piece)
        expected = b"".join(piece for _, piece in pieces)
        assert spool.size == len(expected)
        assert b"".join(spool.chunks(0, spool.size)) == expected
        third = len(expected) // 3
        assert b"".join(spool.chunks(third, 2 * third)) == expected[third : 2 * third]
    assert room.taken == 0


def test_what_was_skipped_is_zeros(tmp_path: Path) -> None:
    """Even at the end of the file."""
    with SpoolRoom(tmp_path, MIB).open() as spool:
        spool.append(b"abc")
        spool.skip(5)
        assert b"".join(spool.chunks(0, spool.size)) == b"abc" + bytes(5)


def test_only_what_was_skipped_is_filled_in(tmp_path: Path) -> None:
    """Never beyond the end."""
    with SpoolRoom(tmp_path, MIB).open() as spool:
        spool.skip(5)
        with pytest.raises(ValueError, match="not what was skipped"):
            spool.write_at(3, b"abc")


def test_an_answer_above_the_budget_is_the_clients_affair(tmp_path: Path) -> None:
    """It would never fit."""
    room = SpoolRoom(tmp_path, MIB)
    with room.open() as spool:
        for _ in range(8):
            spool.append(bytes(MIB // 8))
        with pytest.raises(UsageError, match=f"more than {MIB} bytes of temporary disk"):
            spool.append(b"x")
        with pytest.raises(UsageError):
            spool.skip(1)
    assert room.taken == 0


def test_answers_that_are_in_each_others_way(tmp_path: Path) -> None:
    """The second may come again when the first has gone."""
    room = SpoolRoom(tmp_path, 10 * MIB)
    first, second = room.open(), room.open()
    first.append(bytes(7 * MIB))
    second.append(bytes(MIB))
    with pytest.raises(SourceUnavailableError, match="too many compressed answers"):
        second.append(bytes(4 * MIB))
    first.close()
    second.append(bytes(4 * MIB))
    second.close()
    second.close()
    assert room.taken == 0


def test_no_file_is_to_be_seen(tmp_path: Path) -> None:
    """So none is left behind by a process that is killed."""
    room = SpoolRoom(tmp_path / "deep" / "spool", MIB)
    with room.open() as spool:
        spool.append(bytes(MIB))
        assert list(room.folder.iterdir()) == []


def test_a_spool_that_nobody_closed(tmp_path: Path) -> None:
    """Gives its disk and its descriptor back when it is forgotten."""
    room = SpoolRoom(tmp_path, MIB)
    spool = room.open()
    spool.append(bytes(100))
    descriptor = spool._descriptor
    assert room.taken
    del spool
    gc.collect()
    assert room.taken == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    """It is the operator's affair; the client may try again."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SourceUnavailableError, match="temporary disk cannot be used"):
        SpoolRoom(tmp_path / "file", MIB).open()


def test_threads_share_the_budget(tmp_path: Path) -> None:
    """Whatever they do, what they took is given back."""
    room = SpoolRoom(tmp_path, 40 * MIB)
    refused = []

    def write() -> None:
        for _ in range(20):
            try:
                with room.open() as spool:
                    spool.append(bytes(5 * MIB))
                    assert room.taken <= room.budget
            except SourceUnavailableError as error:
                refused.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert room.taken == 0
