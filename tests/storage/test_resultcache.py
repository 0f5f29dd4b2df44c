"""Answers on disk: whole or not there, within their budget, and never in the way."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from soda_service.errors import ConfigurationError
from soda_service.storage.bands import MadeBands
from soda_service.storage.resultcache import ResultCache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUDGET = 1_000_000
PIECES = [bytes([at]) * 1000 for at in range(20)]
ANSWER = b"".join(PIECES)


def etag(number: int) -> str:
    """As `Cutter` makes them."""
    return f'"{number:030x}"'


def keep(cache: ResultCache, number: int, *, pieces: list[bytes] = PIECES) -> list[bytes]:
    """What comes out of an answer that is kept on its way."""
    bands = cache.keeping(etag(number), MadeBands(iter(pieces)), len(ANSWER))
    with closing(bands):
        return list(map(bytes, bands))


def found(cache: ResultCache, number: int) -> bytes | None:
    """What is kept of it."""
    source = cache.open(etag(number))
    if source is None:
        return None
    with source:
        return source.read(0, source.version.size)


def files_in(folder: Path) -> list[Path]:
    """Whatever was written, but for the lock."""
    return sorted(path for path in folder.glob("*/*") if path.is_file())


def test_an_answer_is_there_for_the_next(tmp_path: Path) -> None:
    """For other processes too, under its own tag only."""
    cache = ResultCache(tmp_path, BUDGET)
    assert found(cache, 1) is None
    assert keep(cache, 1) == PIECES
    assert found(cache, 1) == found(ResultCache(tmp_path, BUDGET), 1) == ANSWER
    assert found(cache, 2) is None


def test_who_takes_the_last_piece_has_it_all(tmp_path: Path) -> None:
    """A sender that knows the length does not ask whether there is more."""
    cache = ResultCache(tmp_path, BUDGET)
    bands = cache.keeping(etag(1), MadeBands(iter(PIECES)), len(ANSWER))
    for _ in PIECES:
        next(bands)
    bands.close()
    assert found(cache, 1) == ANSWER


def test_part_of_an_answer_is_not_kept(tmp_path: Path) -> None:
    """The client went, or it came out shorter than planned."""
    cache = ResultCache(tmp_path, BUDGET)
    bands = cache.keeping(etag(1), MadeBands(iter(PIECES)), len(ANSWER))
    next(bands)
    bands.close()
    keep(cache, 2, pieces=PIECES[:-1])
    assert found(cache, 1) is found(cache, 2) is None
    assert files_in(tmp_path) == []


def test_an_answer_that_fails_is_not_kept(tmp_path: Path) -> None:
    """The fault goes on to whoever waits, and what made the answer is closed."""
    ended = []

    def failing() -> Iterator[bytes]:
        try:
            yield from PIECES[:3]
            raise RuntimeError("no more")
        finally:
            ended.append(True)

    cache = ResultCache(tmp_path, BUDGET)
    with (
        closing(cache.keeping(etag(1), MadeBands(failing()), len(ANSWER))) as bands,
        pytest.raises(RuntimeError, match="no more"),
    ):
        list(bands)
    assert ended
    assert found(cache, 1) is None
    assert files_in(tmp_path) == []


def test_a_large_answer_goes_by(tmp_path: Path) -> None:
    """One that would push out many others."""
    cache = ResultCache(tmp_path, 10 * len(ANSWER) - 1)
    assert keep(cache, 1) == PIECES
    assert files_in(tmp_path) == []


def test_answers_under_way_are_few(tmp_path: Path) -> None:
    """Clients that read slowly do not fill the disk, and one answer is written once at a time."""
    cache = ResultCache(tmp_path, BUDGET)
    many = [cache.keeping(etag(at), MadeBands(iter(PIECES)), len(ANSWER)) for at in range(50)]
    same = [cache.keeping(etag(0), MadeBands(iter(PIECES)), len(ANSWER)) for _ in range(3)]
    for bands in [*many, *same]:
        next(bands)
    assert len(files_in(tmp_path)) == BUDGET // 10 // len(ANSWER)
    for bands in [*many, *same]:
        assert len(list(bands)) == len(PIECES) - 1
        bands.close()
    assert found(cache, 0) == ANSWER
    assert keep(cache, 49) == PIECES
    assert found(cache, 49) == ANSWER


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    """The budget holds, and what is asked for stays."""
    cache = ResultCache(tmp_path, BUDGET)
    for number in range(200):
        keep(cache, number)
        assert found(cache, 0) == ANSWER
        assert sum(path.stat().st_size for path in files_in(tmp_path)) <= BUDGET
    assert found(cache, 1) is None
    assert found(cache, 199) == ANSWER


def test_reading_does_not_make_it_another_version(tmp_path: Path) -> None:
    """Whoever streams it while others open it would otherwise be told that it has changed."""
    cache = ResultCache(tmp_path, BUDGET)
    keep(cache, 1)
    first = cache.open(etag(1))
    assert first is not None
    with first:
        assert found(cache, 1) == ANSWER
        first.check_unchanged()


def test_one_that_is_removed_is_read_to_its_end(tmp_path: Path) -> None:
    """Its name goes, its bytes stay."""
    cache = ResultCache(tmp_path, BUDGET)
    keep(cache, 1)
    source = cache.open(etag(1))
    assert source is not None
    with source:
        for path in files_in(tmp_path):
            path.unlink()
        assert source.read(0, len(ANSWER)) == ANSWER


def test_a_folder_that_fails_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Answers are made again then; the log says so, once."""
    cache = ResultCache(tmp_path, BUDGET)
    (tmp_path / etag(1)[1:3]).write_text("in the way")
    for _ in range(3):
        assert keep(cache, 1) == PIECES
        assert found(cache, 1) is None
    assert len(caplog.records) == 1


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="no /dev/full here")
def test_a_disk_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The client gets its answer, and nothing is kept."""
    cache = ResultCache(tmp_path, BUDGET)
    full = os.open("/dev/full", os.O_WRONLY)
    unnamed = tmp_path / "unfinished.part"
    unnamed.touch()
    monkeypatch.setattr(
        "soda_service.storage.budgetedfolder.tempfile.mkstemp", lambda **_: (full, str(unnamed))
    )
    assert keep(cache, 1) == PIECES
    assert found(cache, 1) is None
    assert not unnamed.exists()
    assert "No space left" in caplog.text


def test_a_folder_that_cannot_be_is_a_wrong_setting(tmp_path: Path) -> None:
    """It is said at the start."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot use the folder"):
        ResultCache(tmp_path / "file" / "results", BUDGET)
