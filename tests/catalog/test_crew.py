"""Processes that read headers, where the system gives none or they go silent."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from soda_service.catalog import crew
from soda_service.catalog.crew import Crew, IndexTask
from soda_service.catalog.indexer import place_in
from soda_service.catalog.worker import IndexFailure
from soda_service.config import CollectionConfig
from soda_service.errors import SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.archive import Archive


@pytest.fixture(name="task")
def _task(archive: Archive) -> IndexTask:
    path = archive.add("tan")
    place = place_in(
        archive.settings,
        collection="archive",
        root=str(archive.folder),
        config=CollectionConfig(),
    )
    return IndexTask(path=str(path), place=place, known_id=None)


@pytest.fixture(name="one")
def _one() -> Iterator[Crew]:
    made = Crew(1)
    yield made
    made.close()


@contextmanager
def _no_more_descriptors() -> Iterator[None]:
    """This process has as many files open as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_too_many_open_files(one: Crew, task: IndexTask) -> None:
    """It is no fault of the file's: who asked is to come again."""
    with (
        pytest.raises(SourceUnavailableError, match=os.strerror(errno.EMFILE)),
        _no_more_descriptors(),
    ):
        list(one.index([task]))


def _open_files() -> set[tuple[str, str]]:
    """What this process has open, each with its number; threads of other tests may close some."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # it is closed by now
            found.add((entry.name, str(entry.readlink())))
    return found


def test_a_process_that_cannot_be_started(
    one: Crew, task: IndexTask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And nothing of it stays open."""
    before = _open_files()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    with pytest.raises(SourceUnavailableError, match="cannot start: No such file"):
        list(one.index([task]))
    assert _open_files() <= before


def test_a_process_that_goes_silent_and_does_not_end(
    one: Crew, task: IndexTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for its end; it is ended."""
    monkeypatch.setattr(crew, "_END_SECONDS", 0.5)
    code = (
        "import os, sys, time; from multiprocessing.connection import Connection;"
        "from soda_service.catalog.worker import READY; one = Connection(int(sys.argv[1]));"
        "one.send_bytes(READY); one.recv(); one.close(); time.sleep(600)"
    )
    started: list[subprocess.Popen[bytes]] = []

    def silent(command: list[str], **kwargs: object) -> subprocess.Popen[bytes]:
        made: subprocess.Popen[bytes] = popen([command[0], "-c", code, command[-1]], **kwargs)  # type: ignore[call-overload]  # as given
        started.append(made)
        return made

    popen = subprocess.Popen
    monkeypatch.setattr("soda_service.catalog.crew.subprocess.Popen", silent)
    ((_, failure),) = [done for done in one.index([task]) if done is not None]
    assert isinstance(failure, IndexFailure)
    assert "told nothing any more" in failure.reason
    assert started[0].poll() is not None
