"""Whose turn it is to index a changed file, and that disks which hang take nobody else's."""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Final

import pytest
from support.faultydisk import FaultyDisk, require_faulty_disk
from support.images import FAMILIES
from support.leaping import StandingTime

from soda_service.catalog import changedfiles
from soda_service.catalog.changedfiles import ChangedFiles
from soda_service.catalog.resolver import Resolver
from soda_service.errors import SourceUnavailableError
from soda_service.storage import disks
from soda_service.storage.disks import MOST_LOST, DiskHangsError, disk_of, touch_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.archive import Archive

    from soda_service.catalog.dataset import Dataset

_SECONDS: Final = 60.0
"""Within which anything happens, however slow the machine is."""

_EVER: Final = 3600.0


@pytest.fixture(name="changed")
def _changed(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ChangedFiles:
    """Of an archive whose files lie on the disks `/a`, `/b`, `/c` and `/d`, or seem to."""
    mounts = tmp_path / "mountinfo"
    lines = ["20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"]
    lines += [f"{31 + n} 20 0:4{n} / /{d} rw - nfs4 server:/{d} rw" for n, d in enumerate("abcd")]
    mounts.write_text("\n".join(lines))
    monkeypatch.setattr(disks, "_mounted", disks.Mounted(mounts))
    return ChangedFiles(archive.store, archive.settings)


@pytest.fixture(name="held")
def _held() -> Iterator[ExitStack]:
    """The turns that a test has taken and not given back."""
    with ExitStack() as held:
        yield held


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> StandingTime:
    """By which it is known who is lost."""
    clock = StandingTime()
    monkeypatch.setattr(disks, "time", clock)
    return clock


def _take(changed: ChangedFiles, held: ExitStack, *urls: str) -> None:
    for url in urls:
        held.enter_context(changed.turn(url, url))


def _is_free(changed: ChangedFiles, url: str) -> bool:
    try:
        with changed.turn(url, url):
            return True
    except DiskHangsError:
        raise
    except SourceUnavailableError:
        return False


@pytest.fixture(name="at_once")
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a turn."""
    monkeypatch.setattr(changedfiles, "_WAIT_SECONDS", -1.0)


@pytest.mark.usefixtures("at_once")
def test_each_disk_has_turns_of_its_own(changed: ChangedFiles, held: ExitStack) -> None:
    _take(changed, held, "/a/1", "/a/2")
    assert not _is_free(changed, "/a/3")
    _take(changed, held, "/b/1", "/b/2")
    assert not _is_free(changed, "/b/3")
    assert _is_free(changed, "/1")


@pytest.mark.usefixtures("at_once")
def test_so_has_each_store(changed: ChangedFiles, held: ExitStack) -> None:
    _take(changed, held, "s3://x/deep/1", "s3://x/2")
    assert not _is_free(changed, "s3://x/3")
    assert _is_free(changed, "s3://y/1")
    assert _is_free(changed, "gs://x/1")
    assert _is_free(changed, "/x/1")


@pytest.mark.usefixtures("at_once")
def test_there_are_not_more_of_them_however_many_disks(
    changed: ChangedFiles, held: ExitStack
) -> None:
    """Each takes the memory of a process."""
    with ExitStack() as first:
        _take(changed, first, "/a/1", "/a/2")
        _take(changed, held, "/b/1", "/b/2", "/c/1", "/c/2")
        assert not _is_free(changed, "/d/1")
    assert _is_free(changed, "/d/1")


@pytest.mark.usefixtures("at_once")
def test_one_dataset_has_one_turn(changed: ChangedFiles, held: ExitStack) -> None:
    _take(changed, held, "/a/1")
    assert not _is_free(changed, "/a/1")
    assert _is_free(changed, "/a/2")


@contextmanager
def _lost(*paths: str) -> Iterator[None]:
    """Threads that ask the disks of *paths* and get no answer."""
    release = threading.Event()

    def ask(path: str, asked: threading.Event) -> None:
        with disk_of(path).touched(path):
            asked.set()
            release.wait(_SECONDS)

    threads = []
    for path in paths:
        asked = threading.Event()
        threads.append(threading.Thread(target=ask, args=(path, asked), daemon=True))
        threads[-1].start()
        assert asked.wait(_SECONDS)
    try:
        yield
    finally:
        release.set()
        for thread in threads:
            thread.join(_SECONDS)


@pytest.mark.usefixtures("at_once")
def test_disks_that_hang_do_not_take_all_turns(
    changed: ChangedFiles, held: ExitStack, clock: StandingTime
) -> None:
    """Several may: they are of one server. Nor do stores, of which nobody knows."""
    _take(changed, held, "/a/1", "/a/2", "/b/1", "/b/2")
    assert _is_free(changed, "/c/1")
    with _lost("/c/lost"):
        assert _is_free(changed, "/c/1")
        clock.now += disks.SILENT_SECONDS + 0.1
        assert not _is_free(changed, "/c/1")
        assert not _is_free(changed, "s3://x/1")
        assert _is_free(changed, "/d/1")
    assert _is_free(changed, "/c/1")


class _Wanting(threading.Thread):
    """Somebody who wants a turn, and asks the disk when he has it, until he is told to end."""

    def __init__(self, changed: ChangedFiles, url: str) -> None:
        super().__init__(daemon=True)
        self._asked = changed, url
        self.has_turn = threading.Event()
        self.end = threading.Event()
        self.error: SourceUnavailableError | None = None
        self.start()

    def run(self) -> None:
        changed, url = self._asked
        try:
            with changed.turn(url, url), disk_of(url).touched(url):
                self.has_turn.set()
                self.end.wait(_SECONDS)
        except SourceUnavailableError as error:
            self.error = error

    def outcome(self) -> SourceUnavailableError | None:
        """The error in which it ended."""
        self.join(_SECONDS)
        assert not self.is_alive()
        return self.error

    @property
    def is_waiting(self) -> bool:
        """Whether it is in a touch, which it has not been let out of."""
        return touch_of(self.ident or 0) is not None and not self.has_turn.is_set()


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(name="patient")
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a turn does so for as long as the disk lets him."""
    monkeypatch.setattr(changedfiles, "_WAIT_SECONDS", _EVER)


@pytest.mark.usefixtures("patient")
def test_who_waits_for_a_turn_is_lost_with_those_who_have_it(
    changed: ChangedFiles, clock: StandingTime
) -> None:
    """So another thread takes his place. He is found again with the first of them."""
    disk = disk_of("/a")
    first, second = (_Wanting(changed, f"/a/{number}") for number in range(2))
    assert first.has_turn.wait(_SECONDS)
    assert second.has_turn.wait(_SECONDS)
    third, same = _Wanting(changed, "/a/3"), _Wanting(changed, "/a/0")
    _wait(lambda: third.is_waiting and same.is_waiting)
    assert disk.lost == 0
    clock.now += disks.SILENT_SECONDS + 0.1
    assert disk.lost == 4
    touch = touch_of(second.ident or 0)
    assert touch is not None
    touch.goes_on()
    _wait(lambda: disk.lost == 2)  # the other one, and who waits for that very dataset
    clock.now += disks.HANGS_SECONDS + 0.1
    for one in (third, same):
        assert isinstance(one.outcome(), DiskHangsError)
    assert disk.lost == 2
    for one in (first, second):
        one.end.set()
        assert one.outcome() is None
    assert disk.lost == 0


@pytest.mark.usefixtures("patient")
def test_who_waits_for_those_who_work_is_not_lost(
    changed: ChangedFiles, held: ExitStack, clock: StandingTime
) -> None:
    """They put what they have read into the catalog, say, and the disk has nothing to do."""
    with ExitStack() as first:
        _take(changed, first, "/a/1")
        _take(changed, held, "/a/2")
        third = _Wanting(changed, "/a/3")
        _wait(lambda: third.is_waiting)
        clock.now += 10 * disks.HANGS_SECONDS
        _wait(lambda: disk_of("/a").lost == 0)
        assert third.is_alive()
    assert third.has_turn.wait(_SECONDS)
    third.end.set()
    assert third.outcome() is None


@pytest.mark.usefixtures("patient")
def test_nobody_waits_for_a_turn_on_a_disk_that_is_known_to_hang(
    changed: ChangedFiles, held: ExitStack, clock: StandingTime
) -> None:
    _take(changed, held, "/a/1", "/a/2", "/b/1", "/b/2")
    with _lost(*(f"/a/lost{number}" for number in range(MOST_LOST + 1))):
        clock.now += disks.SILENT_SECONDS + 0.1
        with _lost("/a/trial"):
            assert isinstance(_Wanting(changed, "/a/3").outcome(), DiskHangsError)
            other = _Wanting(changed, "/b/3")
            _wait(lambda: other.is_waiting)
            held.close()
            assert other.has_turn.wait(_SECONDS)
            other.end.set()
            assert other.outcome() is None


def test_changed_files_of_a_disk_that_hangs_do_not_hold_up_those_of_another(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where nobody is told for an hour that it does."""
    require_faulty_disk()
    monkeypatch.setattr(disks, "HANGS_SECONDS", _EVER)
    for name in ("0.fits", "1.fits", "2.fits"):
        archive.add("tan", "well", name)
    behind, ill = tmp_path / "behind", archive.folder / "ill"
    shutil.copytree(archive.folder / "well", behind)
    with FaultyDisk.mounted(behind, ill) as disk:
        archive.ingest(archive.folder / "well", collection="well")
        archive.ingest(ill, collection="ill")
        for folder in (archive.folder / "well", behind):
            for path in folder.iterdir():
                path.write_bytes(FAMILIES["mef"]())
        with closing(Resolver(archive.store, archive.settings)) as resolver:
            disk.hang("read")
            found: list[Dataset] = []

            def ask(number: int) -> None:
                found.append(resolver.resolve(f"ivo://archive.example/ill?{number}.fits"))

            asking = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
            for thread in asking:
                thread.start()
            disk.wait_until_hanging(2)
            for number in range(3):
                resolver.resolve(f"ivo://archive.example/well?{number}.fits")
            assert all(thread.is_alive() for thread in asking)
            disk.heal()
            for thread in asking:
                thread.join(_SECONDS)
            assert {len(one.hdus) > 1 for one in found} == {True}
            assert len(found) == 2
