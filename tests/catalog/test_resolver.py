"""Resolving identifiers while files and catalog change under the service."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import numpy as np
import pytest
from support.images import FAMILIES, primary, sky_cards
from support.leaping import LeapingTime, StandingTime
from support.mounts import pretend_network

from soda_service.catalog import changedfiles, crew, reindex, resolver as resolver_module
from soda_service.catalog.check import check_catalog
from soda_service.catalog.holdings import Holdings
from soda_service.catalog.resolver import FixedResolver, Resolver
from soda_service.catalog.store import CatalogStore
from soda_service.config import load_collections, resource_path
from soda_service.errors import CorruptFileError, SourceUnavailableError, UnknownDatasetError
from soda_service.storage import disks

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from support.archive import Archive


@pytest.fixture(autouse=True)
def catalog_clock(monkeypatch: pytest.MonkeyPatch) -> StandingTime:
    """By which resolvers know when the catalog is to be looked at again."""
    clock = StandingTime()
    monkeypatch.setattr(resolver_module, "time", clock)
    return clock


@pytest.fixture
def resolver(archive: Archive) -> Iterator[Resolver]:
    """A resolver over an archive of `tan.fits` and `fk5.fits`."""
    archive.add("tan")
    archive.add("fk5")
    archive.ingest()
    store = CatalogStore(archive.settings)
    made = Resolver(store, archive.settings)
    yield made
    made.close()
    store.close()


@pytest.fixture
def on_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system of temporary files seems to be another machine's."""
    pretend_network(tmp_path, monkeypatch)


DID = "ivo://archive.example/archive?tan.fits"


def test_the_same_object_as_long_as_nothing_changes(resolver: Resolver) -> None:
    assert resolver.peek(DID) is None
    dataset = resolver.resolve(DID)
    assert dataset.publisher_did == DID
    assert resolver.resolve(DID.upper()) is dataset
    assert resolver.peek(DID) is dataset
    assert resolver.peek(DID.replace("archive", "ARCHIVE")) is dataset


def test_a_file_of_another_machine_is_not_looked_at_on_an_event_loop(
    resolver: Resolver, archive: Archive, on_network: None
) -> None:
    """Its server may have gone, and then nobody would be answered any more."""
    dataset = resolver.resolve(DID)
    assert resolver.peek(DID) is None
    assert resolver.resolve(DID) is dataset
    assert resolver.peek(DID) is None
    (archive.folder / "tan.fits").write_bytes(FAMILIES["mef"]())
    assert len(resolver.resolve(DID).hdus) > len(dataset.hdus)
    assert resolver.peek(DID) is None


def test_a_disk_that_is_mounted_over_a_known_folder(
    resolver: Resolver,
    catalog_clock: StandingTime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the same files: from the next look on, none is looked at on an event loop."""
    dataset = resolver.resolve(DID)
    assert resolver.peek(DID) is dataset
    with monkeypatch.context() as patch:
        pretend_network(tmp_path, patch)
        disks._mounted._count += 1000  # the kernel's list is another one now
        catalog_clock.now += 1.0
        assert resolver.peek(DID) is None  # it is time to look
        assert resolver.resolve(DID) is dataset
        assert resolver.peek(DID) is None
    catalog_clock.now += 1.0
    assert resolver.resolve(DID) is dataset
    assert resolver.peek(DID) is dataset


def test_a_link_that_is_turned_to_the_disk_of_another_machine(
    archive: Archive,
    catalog_clock: StandingTime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the same files: soon none is looked at on an event loop, though nothing is mounted."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    archive.add("tan").rename(here / "tan.fits")
    shutil.copytree(here, there)
    link = archive.folder / "linked"
    link.symlink_to(here)
    archive.ingest()
    pretend_network(there, monkeypatch)
    identifier = "ivo://archive.example/archive?linked/tan.fits"
    with closing(Resolver(archive.store, archive.settings)) as resolver:
        dataset = resolver.resolve(identifier)
        assert resolver.peek(identifier) is dataset
        for target in (there, here):
            link.unlink()
            link.symlink_to(target)
            catalog_clock.now += resolver_module._DISK_SECONDS + 0.1
            resolver.has_changed([])  # the catalog is looked at for another one
            assert resolver.peek(identifier) is None
            assert resolver.resolve(identifier) is dataset
            assert (resolver.peek(identifier) is dataset) == (target == here)


@pytest.mark.parametrize("identifier", ["", "tan.fits", "ivo://x/y?z", "../../etc/passwd", "\x00"])
def test_unknown_identifiers(resolver: Resolver, identifier: str) -> None:
    assert resolver.peek(identifier) is None
    with pytest.raises(UnknownDatasetError):
        resolver.resolve(identifier)


def test_a_changed_file_is_indexed_anew_and_stored(resolver: Resolver, archive: Archive) -> None:
    before = resolver.resolve(DID)
    path = archive.folder / "tan.fits"
    path.write_bytes(FAMILIES["mef"]())
    assert resolver.peek(DID) is None
    after = resolver.resolve(DID)
    assert after.publisher_did == DID
    assert len(after.hdus) > len(before.hdus)
    assert resolver.resolve(DID) is after
    assert archive.store.get(DID) == after
    assert archive.ingest().unchanged == 2


def test_a_changed_file_does_not_wait_for_who_writes(
    resolver: Resolver,
    archive: Archive,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A backup may hold the catalog for long: the file is answered for, and stored by the next."""
    monkeypatch.setattr(reindex, "_PATIENCE", 0.05)
    resolver.resolve(DID)
    (archive.folder / "tan.fits").write_bytes(FAMILIES["mef"]())
    other = sqlite3.connect(archive.settings.catalog_path, isolation_level=None)
    with closing(other):
        other.execute("BEGIN IMMEDIATE")
        after = resolver.resolve(DID)
        assert "database is locked" in caplog.text
        other.execute("ROLLBACK")
    assert len(after.hdus) > 1
    assert resolver.resolve(DID) is after
    stored = archive.store.get(DID)
    assert stored is not None
    assert len(stored.hdus) == 1
    assert archive.ingest().changed == 1
    assert archive.store.get(DID) == after


def test_a_changed_file_is_answered_for_while_the_catalog_is_away(
    resolver: Resolver, archive: Archive, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is written to a catalog that is not there under its name."""
    resolver.resolve(DID)
    (archive.folder / "tan.fits").write_bytes(FAMILIES["mef"]())
    path = archive.settings.catalog_path
    away = path.rename(path.with_name("away"))
    after = resolver.resolve(DID)
    assert len(after.hdus) > 1
    assert f"cannot store {DID} anew: the catalog is gone" in caplog.text
    assert resolver.resolve(DID) is after
    away.rename(path)
    stored = archive.store.get(DID)
    assert stored is not None
    assert len(stored.hdus) == 1


def test_a_vanished_file_is_gone_and_may_come_back(resolver: Resolver, archive: Archive) -> None:
    dataset = resolver.resolve(DID)
    path = archive.folder / "tan.fits"
    path.rename(path.with_name("aside"))
    assert resolver.peek(DID) is None
    with pytest.raises(UnknownDatasetError, match="its file is gone"):
        resolver.resolve(DID)
    path.with_name("aside").rename(path)
    assert resolver.resolve(DID) == dataset


@pytest.mark.parametrize("mount_point", ["left empty", "gone"])
def test_a_disk_that_is_not_mounted(resolver: Resolver, archive: Archive, mount_point: str) -> None:
    """Nothing is said to be gone for good where all of it is."""
    dataset = resolver.resolve(DID)
    aside = archive.folder.with_name("aside")
    archive.folder.rename(aside)
    if mount_point == "left empty":
        archive.folder.mkdir()
    assert resolver.peek(DID) is None
    with pytest.raises(SourceUnavailableError, match="the root of its collection is empty or not"):
        resolver.resolve(DID)
    if mount_point == "left empty":
        archive.folder.rmdir()
    aside.rename(archive.folder)
    assert resolver.resolve(DID) == dataset


@pytest.mark.parametrize("mount_point", ["left empty", "gone"])
def test_a_disk_below_another_root_that_is_not_mounted(archive: Archive, mount_point: str) -> None:
    """The outer root has files of its own, so it is the inner one that tells."""
    disk = archive.add("fk5", "disk").parent
    archive.add("ncp", "disk")
    archive.add("tan")
    archive.ingest(disk, collection="disk")
    archive.ingest()
    on_disk = "ivo://archive.example/disk?fk5.fits"
    with closing(Resolver(archive.store, archive.settings)) as resolver:
        resolver.resolve(on_disk)
        (archive.folder / "tan.fits").unlink()
        disk.rename(archive.folder.with_name("aside"))
        if mount_point == "left empty":
            disk.mkdir()
        (archive.folder / "note.txt").touch()
        with pytest.raises(SourceUnavailableError, match="root of its collection is empty or not"):
            resolver.resolve(on_disk)
        with pytest.raises(UnknownDatasetError, match="its file is gone"):
            resolver.resolve(DID)
        if mount_point == "left empty":
            disk.rmdir()
        archive.folder.with_name("aside").rename(disk)
        resolver.resolve(on_disk)
        (disk / "fk5.fits").unlink()
        with pytest.raises(UnknownDatasetError, match="its file is gone"):
            resolver.resolve(on_disk)


def test_a_file_that_breaks_says_so_until_it_is_mended(
    resolver: Resolver, archive: Archive
) -> None:
    resolver.resolve(DID)
    path = archive.folder / "tan.fits"
    content = path.read_bytes()
    path.write_bytes(content[:5000])
    for _ in range(2):
        with pytest.raises(CorruptFileError):
            resolver.resolve(DID)
    path.write_bytes(content)
    assert resolver.resolve(DID).version.size == len(content)


def test_only_what_is_not_there_is_gone(
    resolver: Resolver, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = resolver.resolve(DID)
    stat = os.stat
    reasons = {"error": OSError(5, "Input/output error"), "none": NotADirectoryError()}

    def failing(path: str, *, follow_symlinks: bool = True) -> os.stat_result:
        if path == dataset.url:
            raise reasons[kind]
        return stat(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "stat", failing)
    kind = "error"
    assert resolver.peek(DID) is None
    with pytest.raises(SourceUnavailableError, match="Input/output error"):
        resolver.resolve(DID)
    kind = "none"
    assert resolver.peek(DID) is None
    with pytest.raises(UnknownDatasetError, match="its file is gone"):
        resolver.resolve(DID)


def _hostile(folder: Path, deed: str) -> str:
    """A folder whose `sitecustomize` lets reading `tan.fits` do *deed*, in new processes."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import os, signal, time\n"
        "from pathlib import Path\n"
        "import soda_service.catalog.headersource as source\n"
        "class Hostile(source.HeaderSource):\n"
        "    def __init__(self, path, **options):\n"
        "        if path.endswith('tan.fits'):\n"
        f"            Path({str(folder / 'read')!r}).open('a').write('x')\n"
        f"            {deed}\n"
        "        super().__init__(path, **options)\n"
        "source.HeaderSource = Hostile\n"
    )
    return str(folder)


def test_a_changed_file_that_kills_its_reader_is_corrupt_and_not_tried_again(
    resolver: Resolver, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver.resolve(DID)
    (archive.folder / "tan.fits").write_bytes(FAMILIES["mef"]())
    patch = tmp_path / "patch"
    monkeypatch.syspath_prepend(_hostile(patch, "os.kill(os.getpid(), signal.SIGSEGV)"))
    for _ in range(2):
        with pytest.raises(CorruptFileError, match="SIGSEGV") as caught:
            resolver.resolve(DID)
        assert str(archive.folder) not in str(caught.value)
    assert (patch / "read").read_text() == "x"


def test_a_changed_file_that_takes_too_long_holds_up_nobody_for_long(
    resolver: Resolver, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = DID.replace("tan", "fk5")
    resolver.resolve(DID)
    resolver.resolve(other)
    (archive.folder / "tan.fits").write_bytes(FAMILIES["mef"]())
    (archive.folder / "fk5.fits").write_bytes(FAMILIES["fk4"]())
    patch = tmp_path / "patch"
    monkeypatch.syspath_prepend(_hostile(patch, "while True: pass"))
    clock = LeapingTime()
    monkeypatch.setattr(crew, "time", clock)
    monkeypatch.setattr(changedfiles, "_WAIT_SECONDS", 1.0)
    outcome: list[Exception] = []

    def ask() -> None:
        try:
            resolver.resolve(DID)
        except SourceUnavailableError as error:
            outcome.append(error)

    first = threading.Thread(target=ask)
    first.start()
    while not (patch / "read").exists():
        assert first.is_alive()
        time.sleep(0.01)
    # The same dataset's other clients are told to come back; another's are served.
    with pytest.raises(SourceUnavailableError, match="try again"):
        resolver.resolve(DID)
    assert resolver.resolve(other).version.size == (archive.folder / "fk5.fits").stat().st_size
    assert first.is_alive()
    clock.ahead += reindex.SECONDS
    first.join(60)
    assert [f"took over {reindex.SECONDS:.0f} s" in str(error) for error in outcome] == [True]


def test_what_another_process_writes_is_noticed(
    resolver: Resolver, archive: Archive, catalog_clock: StandingTime
) -> None:
    kept, removed = resolver.resolve(DID), resolver.resolve(DID.replace("tan", "fk5"))
    archive.configure("archive", root="archive", constants={"target_name": "M 31"})
    (archive.folder / "fk5.fits").unlink()
    shutil.copy(archive.folder / "tan.fits", archive.folder / "new.fits")
    archive.ingest()
    catalog_clock.now += resolver_module._CATALOG_SECONDS + 0.1
    assert resolver.peek(DID) is None
    fresh = resolver.resolve(DID)
    assert fresh.obscore.target_name == "M 31"
    assert kept.obscore.target_name is None
    assert resolver.peek(DID) is fresh
    with pytest.raises(UnknownDatasetError):
        resolver.resolve(removed.publisher_did)
    assert resolver.resolve(DID.replace("tan", "new")).obscore.obs_id == "new"


def test_writes_that_do_not_concern_a_dataset_leave_it(
    resolver: Resolver, archive: Archive, catalog_clock: StandingTime
) -> None:
    dataset = resolver.resolve(DID)
    archive.add("fk4")
    archive.ingest()
    catalog_clock.now += resolver_module._CATALOG_SECONDS + 0.1
    assert resolver.resolve(DID) is dataset


def test_the_cache_is_bounded(archive: Archive) -> None:
    for number in range(6):
        archive.add("tan", name=f"n{number}.fits")
    archive.ingest()
    settings = archive.settings.model_copy(update={"plan_cache_datasets": 3})
    resolver = Resolver(archive.store, settings)
    identifiers = [f"ivo://archive.example/archive?n{number}.fits" for number in range(6)]
    for identifier in identifiers:
        resolver.resolve(identifier)
    assert [resolver.peek(one) is not None for one in identifiers] == [False] * 3 + [True] * 3


def test_the_cache_is_bounded_by_bytes(archive: Archive) -> None:
    """Headers may be large: a few datasets with such fill it."""
    for number in range(6):
        cards = [*sky_cards(), *(("HISTORY", f"{line} {'x' * 60}") for line in range(2500))]
        pixels = np.zeros((4, 5), np.int16)
        (archive.folder / f"n{number}.fits").write_bytes(primary(pixels, cards))
    archive.ingest()
    resolver = Resolver(archive.store, archive.settings, memory=1_500_000)
    identifiers = [f"ivo://archive.example/archive?n{number}.fits" for number in range(6)]
    for identifier in identifiers * 2:
        resolver.resolve(identifier)
    assert [resolver.peek(one) is not None for one in identifiers] == [False] * 3 + [True] * 3
    (archive.folder / "n5.fits").unlink()
    with pytest.raises(UnknownDatasetError):
        resolver.resolve(identifiers[5])
    resolver.resolve(identifiers[2])
    assert [resolver.peek(one) is not None for one in identifiers[2:]] == [True] * 3 + [False]
    # One larger than all that is allowed is served all the same.
    tiny = Resolver(archive.store, archive.settings, memory=1)
    assert tiny.resolve(identifiers[0]) is tiny.resolve(identifiers[0])


def _change(archive: Archive, family: str) -> None:
    (archive.folder / "tan.fits").write_bytes(FAMILIES[family]())


def test_the_process_that_reads_changed_files_is_kept_for_the_next(
    resolver: Resolver, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Counted(crew._Worker):
        def __init__(self, file_seconds: float) -> None:
            super().__init__(file_seconds)
            started.append(self._process)

    monkeypatch.setattr(crew, "_Worker", Counted)
    monkeypatch.setattr(reindex, "_FILES_EACH", 4)
    for family in ("mef", "fk5"):
        _change(archive, family)
        assert resolver.resolve(DID).version.size == len(FAMILIES[family]())
    assert len(started) == 1
    # One that was killed while it had nothing to do is not the next file's fault.
    started[0].kill()
    started[0].wait()
    for family in ("mef", "fk5", "mef"):
        _change(archive, family)
        assert resolver.resolve(DID).version.size == len(FAMILIES[family]())
    assert len(started) == 3  # it had read its four
    resolver.close()
    assert all(process.poll() is not None for process in started)


def test_a_process_with_nothing_to_do_is_ended(
    resolver: Resolver, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reindex, "IDLE_SECONDS", 0.2)
    _change(archive, "mef")
    resolver.resolve(DID)
    reader = resolver._changed.reindexer()
    end = time.monotonic() + 30
    while reader._idle and time.monotonic() < end:
        time.sleep(0.02)
    assert not reader._idle
    monkeypatch.setattr(reindex, "IDLE_SECONDS", 1000.0)
    _change(archive, "fk5")  # and the next one is started as before
    resolver.resolve(DID)
    assert reader._idle


def test_a_resolver_that_is_forgotten_leaves_no_process(archive: Archive) -> None:
    archive.add("tan")
    archive.ingest()
    resolver = Resolver(archive.store, archive.settings)
    _change(archive, "mef")
    resolver.resolve(DID)
    process = resolver._changed.reindexer()._idle[0].crew._workers[0]._process
    assert process.poll() is None
    del resolver
    gc.collect()
    assert process.poll() is not None


def test_what_has_changed_is_known_before_it_is_read(resolver: Resolver, archive: Archive) -> None:
    other = DID.replace("tan", "fk5")
    unknown = "ivo://x/y?z"
    assert not resolver.has_changed([DID, other, unknown])
    (archive.folder / "fk5.fits").write_bytes(FAMILIES["mef"]())
    assert not resolver.has_changed([DID, unknown])
    assert resolver.has_changed([unknown, DID, other])
    resolver.resolve(other)
    assert not resolver.has_changed([DID, other])
    (archive.folder / "fk5.fits").unlink()
    assert not resolver.has_changed([DID, other])  # gone is soon said


def test_a_catalog_that_may_only_be_read_still_serves(
    resolver: Resolver, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError

    def refuse(*_: object, **__: object) -> None:
        raise OperationalError("INSERT", {}, Exception("attempt to write a readonly database"))

    monkeypatch.setattr(Holdings, "write", refuse)
    resolver.resolve(DID)
    (archive.folder / "tan.fits").write_bytes(FAMILIES["mef"]())
    dataset = resolver.resolve(DID)
    assert len(dataset.hdus) > 1
    assert resolver.resolve(DID) is dataset  # and is not indexed at every call
    assert resolver.peek(DID) is dataset


def test_fixed_resolver(resolver: Resolver) -> None:
    dataset = resolver.resolve(DID)
    fixed = FixedResolver(dataset)
    assert fixed.resolve(DID.upper()) is dataset
    assert fixed.peek("x") is None
    with pytest.raises(UnknownDatasetError):
        fixed.resolve("x")


def test_check_names_what_is_wrong(resolver: Resolver, archive: Archive, tmp_path: Path) -> None:
    resolver.resolve(DID)
    archive.add("wcs_singular")
    archive.add("no_wcs")
    archive.add("ncp")
    archive.ingest()
    (archive.folder / "fk5.fits").unlink()
    (archive.folder / "ncp.fits").write_bytes(b"SIMPLE")
    told: list[tuple[int, int | None, str]] = []
    report = check_catalog(
        archive.settings, archive.collections, progress=lambda *news: told.append(news)
    )
    assert report.checked == 5
    assert [news[:2] for news in told] == [(number, 5) for number in range(1, 6)]
    problems = {identifier.partition("?")[2]: text for identifier, text in report.problems}
    assert set(problems) == {"wcs_singular.fits", "fk5.fits", "ncp.fits"}
    assert [identifier.partition("?")[2] for identifier, _ in report.remarks] == ["no_wcs.fits"]
    assert "no such file" in problems["fk5.fits"]
    assert "changed" in problems["ncp.fits"]


def test_check_names_folders_that_are_not_there(resolver: Resolver, archive: Archive) -> None:
    resolver.resolve(DID)
    archive.configure("elsewhere", root="nowhere")
    away = archive.folder.rename(archive.folder.with_name("away"))
    report = check_catalog(archive.settings, archive.collections)
    problems = dict(report.problems)
    assert "nowhere is not there" in problems["collection elsewhere"]
    assert f"{archive.folder} is not there" in problems["collection archive"]
    assert "no such file" in problems[DID]
    away.rename(archive.folder)
    settings = archive.settings.model_copy(update={"data_dir": archive.folder / "none"})
    problems = dict(check_catalog(settings, archive.collections).problems)
    assert problems["data_dir"] == f"the folder {archive.folder}/none is not there"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a" * 300, "File name too long"), ("loop", "Too many levels of symbolic links")],
)
def test_check_names_what_cannot_be_looked_at(archive: Archive, name: str, reason: str) -> None:
    (archive.folder / "loop").symlink_to("loop")
    archive.add("tan")
    archive.ingest()
    bad = archive.folder / name / "x"
    archive.configure("elsewhere", root=str(bad))
    settings = archive.settings.model_copy(update={"data_dir": bad})
    problems = dict(check_catalog(settings, archive.collections).problems)
    assert problems["data_dir"] == f"the folder {bad} cannot be looked at: {reason}"
    assert problems["collection elsewhere"] == f"its root {bad} cannot be looked at: {reason}"
    settings = archive.settings.model_copy(update={"catalog": f"sqlite:///{bad}"})
    problems = dict(check_catalog(settings, archive.collections).problems)
    assert problems["catalog"] == f"{bad} cannot be looked at: {reason}"


def test_check_tells_what_is_read_in_threads_only(archive: Archive, on_network: None) -> None:
    archive.add("tan")
    archive.ingest()
    report = check_catalog(archive.settings, archive.collections)
    assert report.problems == []
    ((subject, remark),) = report.remarks
    assert subject == "collection archive"
    assert f"its files below {archive.folder.parent} (nfs4) are read in threads only" in remark


def test_check_says_no_password_again(archive: Archive) -> None:
    archive.add("tan")
    archive.ingest()
    archive.configure("elsewhere", root="ftp://user:sec/ret@host/images")
    settings = archive.settings.model_copy(update={"data_dir": Path("s3://user:se@cret@bucket")})
    problems = dict(check_catalog(settings, archive.collections).problems)
    assert problems["data_dir"] == "the folder s3:…@bucket is not there"
    assert problems["collection elsewhere"].endswith("…@host/images is not there")
    assert "cret" not in str(problems)
    assert "sec" not in str(problems)


def test_the_roots_of_the_shipped_examples_may_be_missing(
    resolver: Resolver, archive: Archive
) -> None:
    resolver.resolve(DID)
    path = resource_path("config/collections.toml")
    settings = archive.settings.model_copy(update={"collections": path})
    assert check_catalog(settings, load_collections(path)).problems == []


def test_check_makes_no_catalog(archive: Archive) -> None:
    report = check_catalog(archive.settings, archive.collections)
    assert [subject for subject, _ in report.problems] == ["catalog"]
    assert "run ingest" in report.problems[0][1]
    assert not archive.settings.catalog_path.exists()


def test_check_tells_of_another_authority(resolver: Resolver, archive: Archive) -> None:
    resolver.resolve(DID)
    upper = archive.settings.model_copy(update={"authority": "ARCHIVE.example"})
    assert check_catalog(upper, archive.collections).problems == []
    other = archive.settings.model_copy(update={"authority": "other.example"})
    ((subject, problem),) = check_catalog(other, archive.collections).problems
    assert subject == "authority"
    assert "2 datasets" in problem
    assert "ivo://archive.example/archive?" in problem
    assert "other.example" in problem


def test_a_name_that_lost_its_encoding_is_told(archive: Archive) -> None:
    """As a URL does to the percent signs of an identifier that is pasted into it as it is."""
    names = ["odd names/a b.fits", "50%.fits", "é+.fits"]
    for name in names:
        path = archive.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(FAMILIES["tan"]())
    archive.ingest()
    with closing(CatalogStore(archive.settings)) as store:
        resolver = Resolver(store, archive.settings)
        known = [*store.identifiers()]
        assert {unquote(one.partition("?")[2]) for one in known} == set(names)
        for identifier in known:
            assert resolver.resolve(identifier).publisher_did == identifier
            with pytest.raises(UnknownDatasetError, match="no such dataset") as caught:
                resolver.resolve(unquote(identifier))
            assert f"; its identifier is {identifier!r}, and in a URL" in str(caught.value)
        for unknown in ("ivo://archive.example/archive?c d.fits", f"{DID}x", "a b", "\udcff", "?"):
            with pytest.raises(UnknownDatasetError) as caught:
                resolver.resolve(unknown)
            assert "its identifier" not in str(caught.value)
        resolver.close()
