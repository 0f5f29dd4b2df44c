"""A disk that hangs, fails or goes away beside one that is well, under a running service.

It is a real file system (FUSE), mounted for the test and told what to do wrong. The service is
told to lose its patience sooner than it would; nothing here depends on how fast it does: what
has to be noticed first is waited for, and never a time.
"""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

import httpx2
import numpy as np
import pytest
from astropy.io import fits
from support.command import served
from support.faultydisk import FaultyDisk, require_faulty_disk, unmount
from support.service import rest_of, running

from soda_service.app import create_app
from soda_service.catalog import watch
from soda_service.catalog.check import CheckReport, check_catalog
from soda_service.catalog.ingest import ingest
from soda_service.catalog.tally import IngestReport
from soda_service.config import CollectionsFile, Settings
from soda_service.errors import SourceUnavailableError
from soda_service.storage import disks
from soda_service.storage.disks import MOST_LOST
from soda_service.storage.local import LocalSource
from soda_service.storage.mapping import FileMapping
from soda_service.storage.networkfile import NetworkFile
from soda_service.storage.runs import RunGrid
from soda_service.storage.source import open_source
from soda_service.web import responses, threads as pools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SMALL: Final = 64
LARGE: Final = 1500
"""9 MB: more than sockets hold."""
FILES: Final = 20
DISKS: Final = 10
"""Of one server."""
THREADS: Final = 2
_SECONDS: Final = 60.0
"""Within which anything happens, however slow the machine is."""


@dataclass(frozen=True, slots=True)
class _Site:
    """A service with the collections `well` and `ill`, the second on a disk with faults."""

    base: str
    disk: FaultyDisk

    def cutout(self, collection: str, name: str | int, pixels: str = "[1:20,1:20]") -> str:
        wanted = {"ID": _identifier(collection, name), "PIXELS": pixels}
        return f"{self.base}/soda/sync?{urlencode(wanted, quote_via=quote)}"

    def links(self, collection: str, name: str | int) -> str:
        wanted = {"ID": _identifier(collection, name)}
        return f"{self.base}/datalink/links?{urlencode(wanted, quote_via=quote)}"

    def file(self, collection: str, name: str | int) -> str:
        return f"{self.base}/files/{collection}/{name}.fits"

    def until(self, url: str, status: int, *, method: str = "GET") -> httpx2.Response:
        """The first answer with this *status*; asks until it comes."""
        end = time.monotonic() + _SECONDS
        while (came := _ask(method, url)).status_code != status:
            assert time.monotonic() < end, (url, came.status_code, came.text[:200])
            time.sleep(0.05)
        return came


def _identifier(collection: str, name: str | int) -> str:
    return f"ivo://archive.example/{collection}?{name}.fits"


def _get(url: str) -> httpx2.Response:
    return _ask("GET", url)


def _ask(method: str, url: str) -> httpx2.Response:
    return httpx2.request(method, url, timeout=_SECONDS, trust_env=False)


class _Asking:
    """Requests under way, each in a thread of its own."""

    def __init__(self, urls: list[str]) -> None:
        self._answers: list[httpx2.Response] = []
        self._threads = [threading.Thread(target=self._ask, args=(url,)) for url in urls]
        for thread in self._threads:
            thread.start()

    def _ask(self, url: str) -> None:
        self._answers.append(_get(url))

    def answers(self) -> list[httpx2.Response]:
        """All of them, once they have come."""
        for thread in self._threads:
            thread.join(_SECONDS)
            assert not thread.is_alive()
        return self._answers


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def _workers() -> int:
    """Threads of all services in this process, those of other tests among them."""
    return sum(one.name.startswith("soda-service_") for one in threading.enumerate())


def _pixels(side: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.arange(side * side, dtype=np.float32).reshape(side, side)


def _write(path: Path, side: int) -> None:
    header = fits.Header()
    header.update(
        CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=150.0, CRVAL2=2.0, CRPIX1=side / 2,
        CRPIX2=side / 2, CDELT1=-1e-4, CDELT2=1e-4,
    )  # fmt: skip
    fits.PrimaryHDU(_pixels(side), header).writeto(path)


def _settings(folder: Path) -> Settings:
    return Settings(
        authority="archive.example",
        catalog=f"sqlite:///{folder}/catalog.sqlite",
        data_dir=folder,
        cache_dir=folder / "cache",
        spool_dir=folder / "spool",
        threads=THREADS,
        log_requests=False,
    )


@pytest.fixture(name="archive", scope="module")
def _archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both collections and their catalog; nothing of `ill` is mounted."""
    require_faulty_disk()
    folder = tmp_path_factory.mktemp("archive")
    _make_collections(folder, files=FILES)
    return folder


def _make_collections(folder: Path, files: int) -> None:
    (folder / "well").mkdir()
    for number in range(files):
        _write(folder / "well" / f"{number}.fits", SMALL)
    _write(folder / "well" / "large.fits", LARGE)
    _write(folder / "well" / "packed.fits.gz", SMALL)
    shutil.copytree(folder / "well", folder / "behind")
    with FaultyDisk.mounted(folder / "behind", folder / "ill"):
        both = [folder / "well", folder / "ill"]
        report = ingest(both, _settings(folder), CollectionsFile(), workers=1)
    assert report.added == 2 * (files + 2)


@pytest.fixture(name="impatient")
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disks, "SILENT_SECONDS", 0.2)
    monkeypatch.setattr(disks, "HANGS_SECONDS", 1.0)
    monkeypatch.setattr(disks, "_TRIAL_SECONDS", 1.0)
    monkeypatch.setattr(pools, "_LOOK_SECONDS", 0.1)


@contextmanager
def _running(folder: Path, attribute_seconds: float = 0.0) -> Iterator[_Site]:
    with (
        FaultyDisk.mounted(
            folder / "behind", folder / "ill", attribute_seconds=attribute_seconds
        ) as disk,
        running(create_app(_settings(folder))) as live,
    ):
        yield _Site(live.base, disk)


@pytest.fixture(name="site")
def _site(archive: Path, impatient: None) -> Iterator[_Site]:
    with _running(archive) as site:
        yield site


@pytest.mark.parametrize("attribute_seconds", [0.0, 3.0], ids=["asked-always", "asked-seldom"])
def test_others_are_served_while_a_disk_hangs(
    archive: Path, impatient: None, attribute_seconds: float
) -> None:
    """Who wants what is on it is told to come back, and soon; when it goes on, so does all."""
    others = _workers()
    with _running(archive, attribute_seconds) as site:
        for collection in ("well", "ill"):
            for _ in range(2):
                site.until(site.cutout(collection, 0), 200)
        site.disk.hang("getattr", "open", "read")
        asking = _Asking([site.cutout("ill", number) for number in range(1, FILES)])
        site.disk.wait_until_hanging()
        site.until(f"{site.base}/health", 200)
        for number in range(FILES):  # the first is in memory
            site.until(site.cutout("well", number), 200)
        for url in (
            *(site.file("well", 3), site.links("well", 3), site.cutout("well", "large", "[*,*]")),
            *(f"{site.base}/soda/availability", f"{site.base}/health"),
        ):
            site.until(url, 200)
        refused = site.until(site.cutout("ill", 0), 503)
        assert int(refused.headers["retry-after"]) > 0
        assert "the disk does not answer" in refused.text
        assert "/ill" not in refused.text
        site.until(site.file("ill", 0), 503)
        assert {one.status_code for one in asking.answers()} == {503}
        assert _workers() - others <= 2 * THREADS + 3 * MOST_LOST
        site.until(site.cutout("well", 0), 200)
        site.until(f"{site.base}/", 200)
        site.disk.heal()
        for name in (0, 5):
            content = site.until(site.cutout("ill", name), 200).content
            with fits.open(io.BytesIO(content)) as hdus:
                np.testing.assert_array_equal(hdus[0].data, _pixels(SMALL)[:20, :20])
        # Those that took the places of the lost ones leave.
        _wait(lambda: _workers() - others <= 2 * THREADS)


def test_one_server_that_is_gone_does_not_take_a_thread_for_each_file_of_its_disks(
    tmp_path: Path, impatient: None
) -> None:
    """Its disks are tried by one each, and one that is well is not mistaken for one of them."""
    require_faulty_disk()
    others = _workers()
    names = [f"ill{number}" for number in range(DISKS)]
    for name in ("well", "far", *names):
        (tmp_path / f"behind-{name}").mkdir()
        for number in range(MOST_LOST):
            _write(tmp_path / f"behind-{name}" / f"{number}.fits", SMALL)
    (tmp_path / "behind-well").rename(tmp_path / "well")
    with ExitStack() as mounted:
        far, *ill = (
            mounted.enter_context(FaultyDisk.mounted(tmp_path / f"behind-{name}", tmp_path / name))
            for name in ("far", *names)
        )
        roots = [tmp_path / name for name in ("well", "far", *names)]
        ingest(roots, _settings(tmp_path), CollectionsFile(), workers=1)
        site = _Site(mounted.enter_context(running(create_app(_settings(tmp_path)))).base, far)
        for name in ("well", "far"):
            site.until(site.cutout(name, 0), 200)
        for disk in ill:
            disk.hang("getattr", "open", "read")
        wanted = [site.cutout(name, number) for number in range(MOST_LOST) for name in names]
        asking = _Asking(wanted)
        for disk in ill:
            disk.wait_until_hanging()
        for number in range(MOST_LOST):
            site.until(site.cutout("well", number), 200)
            site.until(site.cutout("far", number), 200)
        assert {one.status_code for one in asking.answers()} == {503}
        assert _workers() - others <= 2 * THREADS + 2 * MOST_LOST + 2 * DISKS
        for disk in ill:
            disk.heal()
        for name in names:
            site.until(site.cutout(name, 0), 200)
        _wait(lambda: _workers() - others <= 2 * THREADS)


def test_searches_and_links_go_on_while_a_disk_hangs(site: _Site) -> None:
    """Links look at the files; searches do not, and those of what hangs find it all the same."""
    site.disk.hang("getattr", "open", "read")
    asking = _Asking([site.links("ill", number) for number in range(FILES)])
    site.disk.wait_until_hanging()
    site.until(site.links("well", 0), 200)
    found = _get(f"{site.base}/sia/query?POS=CIRCLE+150+2+0.1&COLLECTION=ill")
    assert found.text.count("<TR>") == FILES + 2
    site.until(f"{site.base}/datalink/availability", 200)
    assert len(asking.answers()) == FILES


def test_whoever_waits_for_the_same_compressed_file_is_told_too(site: _Site) -> None:
    """One makes the copy, and hangs; the others wait for that one."""
    url = site.cutout("ill", "packed").replace("packed.fits", "packed.fits.gz")
    site.disk.hang("read", name="packed")
    asking = _Asking([url] * (2 * THREADS))
    site.disk.wait_until_hanging()
    site.until(site.cutout("well", 1), 200)
    assert {one.status_code for one in asking.answers()} == {503}
    site.disk.heal()
    site.until(url, 200)


def test_who_waits_asks_the_disk_and_not_the_memory(archive: Path) -> None:
    """For who reads a file that is partly in memory may hang all the same."""
    with FaultyDisk.mounted(archive / "behind", archive / "ill") as disk:
        path = str(archive / "ill" / "packed.fits.gz")
        with open_source(path) as source:
            assert isinstance(source, NetworkFile)
            content = source.read(0, source.version.size)
            disk.hang("read")
            assert source.read(0, len(content)) == content
            asking = threading.Thread(target=source.ask_disk)
            asking.start()
            assert disk.wait_until_hanging() == ["read /packed.fits.gz"]
            assert asking.is_alive()
            disk.heal()
            asking.join(_SECONDS)
            assert not asking.is_alive()
            disk.fail("read", error=errno.EIO)
            with pytest.raises(SourceUnavailableError, match=os.strerror(errno.EIO)):
                source.ask_disk()


def test_changed_files_that_cannot_be_read_hold_up_nobody(tmp_path: Path, impatient: None) -> None:
    """A process reads their headers, and hangs; when the disk goes on they are as they are now."""
    require_faulty_disk()
    _make_collections(tmp_path, files=THREADS + 2)
    with _running(tmp_path) as site:
        for collection in ("well", "behind"):
            for number in range(THREADS + 1):
                (tmp_path / collection / f"{number}.fits").unlink()
                _write(tmp_path / collection / f"{number}.fits", 2 * SMALL)
        site.disk.hang("read")
        asking = _Asking([site.cutout("ill", number) for number in range(THREADS + 1)])
        site.disk.wait_until_hanging()
        for number in range(THREADS + 2):
            site.until(site.cutout("well", number), 200)
        answers = asking.answers()
        assert {one.status_code for one in answers} == {503}
        assert any("the disk does not answer" in one.text for one in answers)
        site.disk.heal()
        for number in range(THREADS + 1):
            content = site.until(site.cutout("ill", number), 200).content
            with fits.open(io.BytesIO(content)) as hdus:
                np.testing.assert_array_equal(hdus[0].data, _pixels(2 * SMALL)[:20, :20])


def _received(url: str, deed: Callable[[], None]) -> tuple[bytes, bool]:
    """See `rest_of`; asks until an answer begins."""
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        with httpx2.stream("GET", url, timeout=_SECONDS, trust_env=False) as answer:
            if answer.status_code == 200:
                return rest_of(answer, deed)
    raise TimeoutError(url)


@pytest.mark.parametrize("way", ["cutout", "file"])
@pytest.mark.parametrize("fault", ["hangs", "EIO", "ESTALE"])
def test_an_answer_that_cannot_be_finished_is_broken(
    site: _Site, monkeypatch: pytest.MonkeyPatch, way: str, fault: str
) -> None:
    url = site.file("ill", "large") if way == "file" else site.cutout("ill", "large", "[*,*]")

    def fail() -> None:
        match fault:
            case "hangs":
                site.disk.hang("read")
            case "EIO":
                site.disk.fail("read", error=errno.EIO, from_byte=7_000_000)
            case _:
                site.disk.fail("read", "getattr", error=errno.ESTALE)

    with monkeypatch.context() as patch:
        patch.setattr(responses, "STALL_SECONDS", 1.0)
        got, complete = _received(url, fail)
    assert not complete
    end = site.cutout("ill", "large", f"[1:20,{LARGE - 5}:{LARGE}]")
    assert _get(end).status_code == 503
    assert _get(f"{site.base}/health").status_code == 200
    site.disk.heal()
    whole = site.until(url, 200).content
    assert len(whole) > len(got)
    assert whole.startswith(got)
    site.until(end, 200)


def test_a_disk_that_is_mounted_anew_serves_again(site: _Site, archive: Path) -> None:
    """What is kept open is of the old one, and is let go of."""
    urls = [site.cutout("ill", 0), site.file("ill", 0)]
    for url in urls:
        site.until(url, 200)
    unmount(site.disk.mount)
    for url in urls:
        assert _get(url).status_code == 503
    with FaultyDisk.mounted(archive / "behind", archive / "ill"):
        for url in urls:
            site.until(url, 200)
        site.disk.end()
        for url in urls:
            site.until(url, 200)


def test_who_is_lost_in_an_old_disk_says_nothing_of_the_new_one(site: _Site, archive: Path) -> None:
    url = site.cutout("ill", 0)
    site.until(url, 200)
    site.disk.hang("read", "getattr")
    asking = _Asking([url, *(site.cutout("ill", number) for number in range(1, FILES))])
    site.disk.wait_until_hanging()
    site.until(site.cutout("ill", 1), 503)
    unmount(site.disk.mount)
    with FaultyDisk.mounted(archive / "behind", archive / "ill"):
        for number in range(FILES):
            site.until(site.cutout("ill", number), 200)
        assert len(asking.answers()) == FILES


def test_closing_a_file_holds_nobody_up(site: _Site) -> None:
    """Of FUSE, and of others, the end of a file is a question too; HEAD reads nothing else."""
    site.disk.hang("flush")
    site.until(site.file("ill", 0), 200, method="HEAD")
    site.disk.wait_until_hanging()
    assert _get(f"{site.base}/health").status_code == 200
    site.until(site.cutout("ill", 1), 200)


_IMPATIENT: Final = """
from soda_service.storage import disks
disks.HANGS_SECONDS = 1.0
from soda_service.__main__ import main
main()
"""


def test_the_service_stops_while_threads_hang(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cleanly, with an answer for who waited."""
    with FaultyDisk.mounted(archive / "behind", archive / "ill") as disk:
        for name, value in _settings(archive).model_dump(mode="json", exclude_unset=True).items():
            monkeypatch.setenv(f"SODA_{name.upper()}", str(value))
        with served("serve", folder=tmp_path, program=("-c", _IMPATIENT)) as server:
            site = _Site(server.base.rstrip("/"), disk)
            # The service tries the first files by itself when it starts; nobody asks for these.
            disk.hang("read")
            asked = range(FILES - THREADS, FILES)
            asking = _Asking([site.cutout("ill", number) for number in asked])
            wanted = {f"read /{number}.fits" for number in asked}
            _wait(lambda: wanted <= set(disk.wait_until_hanging()))
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(_SECONDS) == 0
            assert {one.status_code for one in asking.answers()} == {503}
        assert "Traceback" not in "".join(server.log)


def test_the_start_names_the_disks_of_others_and_waits_for_none(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, however many processes answer."""
    with FaultyDisk.mounted(archive / "behind", archive / "ill") as disk:
        for name, value in _settings(archive).model_dump(mode="json", exclude_unset=True).items():
            monkeypatch.setenv(f"SODA_{name.upper()}", str(value))
        disk.hang("getattr", "open", "read", "readdir")
        with served("serve", "--workers", "2", folder=tmp_path) as server:

            def lines() -> list[str]:
                return [line for line in server.log if "files on these disks" in line]

            _wait(lambda: bool(lines()))
            assert _get(server.base + "health").status_code == 200
            (line,) = lines()
            assert " INFO soda_service.server " in line
            assert "read in threads only, never on the event loop" in line
            assert re.search(rf": {re.escape(str(archive / 'ill'))} \(fuse[^;,]*; ill\)\n$", line)


def test_ingest_names_what_cannot_be_read_and_removes_nothing(
    archive: Path, tmp_path: Path
) -> None:
    """A disk that does not say what a file is now does not say that it is gone, either."""
    settings = _settings(tmp_path).model_copy(update={"data_dir": archive})
    with FaultyDisk.mounted(archive / "behind", archive / "ill") as disk:
        told: list[tuple[str, str]] = []

        def run() -> tuple[int, int, int]:
            told.clear()
            report = ingest(
                [archive / "ill"],
                settings,
                CollectionsFile(),
                workers=1,
                problem=lambda path, reason: told.append((path, reason)),
            )
            return report.added, report.removed, len(told)

        bad = str(archive / "ill" / "7.fits")
        disk.fail("read", error=errno.EIO, name="/7.fits")
        assert run() == (FILES + 1, 0, 1)
        assert told == [(bad, f"cannot be read: {os.strerror(errno.EIO)}")]
        disk.heal()
        assert run() == (1, 0, 0)
        disk.fail("getattr", error=errno.ESTALE, name="/7.fits")
        assert run() == (0, 0, 1)
        assert told == [(bad, os.strerror(errno.ESTALE))]
        disk.fail("readdir", error=errno.EIO)
        assert run() == (0, 0, 1)
        disk.heal()
        (archive / "behind" / "deep").mkdir()
        shutil.copy(archive / "behind" / "0.fits", archive / "behind" / "deep")
        try:
            assert run() == (1, 0, 0)
            disk.fail("getattr", error=errno.EIO, name="/deep")
            assert run() == (0, 0, 1)
            assert told[0][0] == str(archive / "ill" / "deep")
        finally:
            shutil.rmtree(archive / "behind" / "deep")


@pytest.mark.parametrize(
    ("operation", "name"),
    [("getattr", "/large"), ("getattr", "/"), ("read", "/large"), ("readdir", "/")],
)
def test_ingest_and_check_name_what_they_wait_for(
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    operation: str,
    name: str,
) -> None:
    """And end as ever when it comes."""
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.01)
    settings = _settings(tmp_path).model_copy(update={"data_dir": archive})
    with FaultyDisk.mounted(archive / "behind", archive / "ill") as disk:
        named = str(archive / "ill") + ("" if name == "/" else "/large.fits")
        works: list[Callable[[], IngestReport | CheckReport]] = [
            lambda: ingest([archive / "ill"], settings, CollectionsFile(), workers=1)
        ]
        if operation == "read" or (operation, name) == ("getattr", "/"):
            works.append(lambda: check_catalog(settings, CollectionsFile()))
        for work in works:
            disk.hang(operation, name=name)
            with ThreadPoolExecutor(1) as threads:
                done = threads.submit(work)
                try:
                    _wait(lambda: f"still waiting for {named}\n" in caplog.text)
                finally:
                    disk.heal()
            match done.result():
                case IngestReport(added=added, failures=failures):
                    assert (added, failures) == (FILES + 2, 0)
                case CheckReport(checked=checked, problems=problems):
                    assert (checked, problems) == (FILES + 2, [])
            caplog.clear()
        assert "still waiting" not in caplog.text


def test_a_mapped_page_that_cannot_be_read_is_noticed(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel said a moment ago that it was in memory; the signal for it is survived."""
    with FaultyDisk.mounted(archive / "behind", archive / "ill") as disk:
        disk.fail("read", error=errno.EIO, from_byte=4_000_000)
        with LocalSource.open(str(archive / "ill" / "large.fits")) as source:
            grid = RunGrid(6_000_000, 10_000)
            monkeypatch.setattr(FileMapping, "has_resident", lambda *_given, **_named: True)
            assert source.resident_runs(grid) is None
            disk.heal()
            assert source.resident_runs(grid) == source.read(grid.start, grid.length)
