"""A changed file that cannot be read: nobody waits for long, and it is tried again."""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
from support.images import FAMILIES
from support.leaping import LeapingTime

from soda_service.catalog import crew, reindex
from soda_service.catalog.reindex import Reindexer
from soda_service.catalog.store import CatalogStore
from soda_service.errors import SourceUnavailableError
from soda_service.storage import disks
from soda_service.storage.disks import DiskHangsError, disk_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from support.archive import Archive

    from soda_service.catalog.crew import IndexTask
    from soda_service.catalog.dataset import Dataset
    from soda_service.catalog.rows import DatasetRows
    from soda_service.catalog.worker import IndexFailure

DID = "ivo://archive.example/archive?tan.fits"
_SECONDS = 60.0
"""Within which anything happens, however slow the machine is."""


@pytest.fixture(name="reindexer")
def _reindexer(archive: Archive) -> Iterator[Reindexer]:
    """Of an archive of `tan.fits`, which has changed."""
    archive.add("tan")
    archive.ingest()
    store = CatalogStore(archive.settings)
    made = Reindexer(store, archive.settings)
    (archive.folder / "tan.fits").write_bytes(FAMILIES["mef"]())
    yield made
    made.close()
    store.close()


@pytest.fixture(name="dataset")
def _dataset(archive: Archive, reindexer: Reindexer) -> Dataset:
    found = archive.store.get(DID)
    assert found is not None
    return found


class _Deed:
    """What the processes do that read headers, before they do, as long as the file `held` is."""

    def __init__(self, folder: Path, deed: str) -> None:
        self.held = folder / "held"
        self._begun = folder / "begun"
        folder.mkdir()
        self.held.touch()
        (folder / "sitecustomize.py").write_text(
            "import time\n"
            "from pathlib import Path\n"
            "import soda_service.catalog.headersource as source\n"
            "class Held(source.HeaderSource):\n"
            "    def __init__(self, path, **options):\n"
            f"        Path({str(self._begun)!r}).open('a').write('x')\n"
            f"        while Path({str(self.held)!r}).exists():\n"
            f"            {deed}\n"
            "        super().__init__(path, **options)\n"
            "source.HeaderSource = Held\n"
        )

    @property
    def begun(self) -> int:
        """How often a file has been begun."""
        return len(self._begun.read_text()) if self._begun.exists() else 0


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class _Asking(threading.Thread):
    """Somebody who wants a changed file, and what becomes of that."""

    def __init__(self, reindexer: Reindexer, dataset: Dataset) -> None:
        super().__init__(daemon=True)
        self._asked = reindexer, dataset
        self.outcome: Dataset | Exception | None = None
        self.start()

    def run(self) -> None:
        reindexer, dataset = self._asked
        try:
            self.outcome = reindexer.reindexed(dataset)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.outcome = error

    def result(self) -> Dataset | Exception | None:
        """What became of it."""
        self.join(_SECONDS)
        assert not self.is_alive()
        return self.outcome


def test_what_takes_too_long_is_left_alone_for_as_long_and_tried_again(
    reindexer: Reindexer, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be the disk's fault, and nobody knows when that is over."""
    deed = _Deed(tmp_path / "patch", "pass")
    monkeypatch.syspath_prepend(str(tmp_path / "patch"))
    clock = LeapingTime()
    monkeypatch.setattr(crew, "time", clock)
    monkeypatch.setattr(reindex, "time", clock)
    # What the process does shows that the disk answers, but not to a clock that leaps.
    monkeypatch.setattr(disks, "HANGS_SECONDS", 10 * reindex.SECONDS)
    asking = _Asking(reindexer, dataset)
    _wait(lambda: deed.begun == 1)
    clock.ahead += reindex.SECONDS
    error = asking.result()
    assert type(error) is SourceUnavailableError
    assert f"took over {reindex.SECONDS:.0f} s" in str(error)
    deed.held.unlink()
    with pytest.raises(SourceUnavailableError, match="took over"):
        reindexer.reindexed(dataset)
    assert deed.begun == 1
    clock.ahead += 2 * reindex.SECONDS
    assert reindexer.reindexed(dataset).version.size == len(FAMILIES["mef"]())
    assert deed.begun == 2


def test_who_waits_for_a_process_that_hangs_is_lost_with_it(
    reindexer: Reindexer, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that another thread takes his place; he is told when he would be if he read himself."""
    deed = _Deed(tmp_path / "patch", "time.sleep(3600)")
    monkeypatch.syspath_prepend(str(tmp_path / "patch"))
    monkeypatch.setattr(disks, "SILENT_SECONDS", 0.6)
    monkeypatch.setattr(disks, "HANGS_SECONDS", 3600.0)
    clock = LeapingTime()
    monkeypatch.setattr(reindex, "time", clock)
    started: list[crew._Worker] = []
    begin = crew._Worker.__init__

    def counted(self: crew._Worker, file_seconds: float) -> None:
        begin(self, file_seconds)
        started.append(self)

    monkeypatch.setattr(crew._Worker, "__init__", counted)
    asking = _Asking(reindexer, dataset)
    _wait(lambda: deed.begun == 1)
    disk = disk_of(dataset.url)
    _wait(lambda: disk.lost == 1)
    assert asking.is_alive()
    clock.ahead += 3600.0
    error = asking.result()
    assert isinstance(error, DiskHangsError)
    assert disk.lost == 0
    assert not started[0].is_running
    deed.held.unlink()
    clock.ahead += 2 * 3600.0
    # The disk answers from now on, but a slow machine may let the process wait.
    monkeypatch.setattr(disks, "HANGS_SECONDS", 2 * clock.ahead)
    assert reindexer.reindexed(dataset).version.size == len(FAMILIES["mef"]())


def _has_worked(seen: crew.Crew, before: int) -> bool:
    return seen.worked > before


class _Slow(crew.Crew):
    """Whose processes get on at each look, and need a thousand of these."""

    looks = 0

    def index(
        self, tasks: Iterable[IndexTask]
    ) -> Iterator[tuple[IndexTask, DatasetRows | IndexFailure] | None]:
        for _ in range(1000):
            yield None
        yield from super().index(tasks)

    @property
    def worked(self) -> int:
        """More each time."""
        type(self).looks += 1
        return self.looks


def test_a_file_that_takes_long_is_waited_for_as_long_as_something_goes_on(
    reindexer: Reindexer, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long that is, and for however short a time nothing may."""
    monkeypatch.setattr(reindex, "Crew", _Slow)
    monkeypatch.setattr(disks, "HANGS_SECONDS", 0.0)
    assert reindexer.reindexed(dataset).version.size == len(FAMILIES["mef"]())
    assert _Slow.looks > 1000


@pytest.mark.parametrize("deed", ["time.sleep(3600)", "pass"], ids=["rests", "works"])
def test_a_process_is_seen_to_work(
    reindexer: Reindexer,
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    deed: str,
) -> None:
    """By the time of the processor that it takes."""
    held = _Deed(tmp_path / "patch", deed)
    monkeypatch.syspath_prepend(str(tmp_path / "patch"))
    crews: list[crew.Crew] = []

    class Seen(crew.Crew):
        def __init__(self, size: int, *, file_seconds: float) -> None:
            super().__init__(size, file_seconds=file_seconds)
            crews.append(self)

    monkeypatch.setattr(reindex, "Crew", Seen)
    asking = _Asking(reindexer, dataset)
    _wait(lambda: held.begun == 1)
    (seen,) = crews
    if deed == "pass":
        for _ in range(3):
            before = seen.worked
            _wait(partial(_has_worked, seen, before))
    else:

        def rests() -> bool:
            before = seen.worked
            time.sleep(0.3)
            return seen.worked == before

        _wait(rests)
    os.kill(seen._workers[0]._process.pid, 9)
    assert "SIGKILL" in str(asking.result())
