"""Ingest over real files: what is found, what is left out, and what happens the next time."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from astropy.table import Table
from support.images import DAMAGED_FAMILIES, FAMILIES, write_family
from support.processes import has_ended
from support.turn import until

from soda_service.catalog import crew, tally, walk, worker
from soda_service.catalog.batches import Batches
from soda_service.catalog.ingest import index_file, ingest
from soda_service.catalog.query import CatalogQuery
from soda_service.catalog.tally import IngestInterrupted
from soda_service.catalog.walk import Places
from soda_service.config import CollectionsFile
from soda_service.errors import CorruptFileError, UnknownDatasetError, UsageError
from soda_service.geometry.shapes import Circle

if TYPE_CHECKING:
    from support.archive import Archive

    from soda_service.catalog.tally import IngestReport

SOUND = [name for name in FAMILIES if name not in DAMAGED_FAMILIES]


def test_the_zoo_is_ingested_and_its_damaged_files_are_named(archive: Archive) -> None:
    for name in FAMILIES:
        archive.add(name, below="damaged" if name in DAMAGED_FAMILIES else "sound")
    report = archive.ingest()
    failed = {Path(path).name.partition(".")[0] for path, _ in report.failed}
    # What lies in the tiles, and not in the headers, is seen when it is read.
    assert failed == set(DAMAGED_FAMILIES) - {"tiles_outside_the_heap"}
    assert all(reason.strip() for _, reason in report.failed)
    assert report.added == len(FAMILIES) - len(failed)
    again = archive.ingest()
    assert (again.added, again.changed, again.removed) == (0, 0, 0)
    assert again.unchanged == report.added
    assert sorted(again.failed) == sorted(report.failed)


def test_identifiers_come_from_paths(archive: Archive) -> None:
    archive.add("tan", "a b/ü", "odd name+&=#%?;1.fits")
    archive.add("tan_sip", "plain", "2006:04:13.fits")
    archive.ingest()
    assert set(archive.rows()) == {
        "a%20b/%C3%BC/odd%20name%2B%26%3D%23%25%3F%3B1.fits",
        "plain/2006:04:13.fits",
    }
    for row in archive.rows().values():
        assert row.obs_publisher_did.startswith("ivo://archive.example/archive?")
        assert row.obs_publisher_did.isascii()
        upper = archive.store.get(row.obs_publisher_did.upper())
        assert upper is not None
        assert upper.publisher_did == row.obs_publisher_did


def test_a_file_that_is_none_makes_no_collection(archive: Archive) -> None:
    """Its folder is no root: the identifiers of a later ingest are what they would have been."""
    broken = archive.folder / "deep" / "inside" / "broken.fits"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"SIMPLE  =                    T")
    assert archive.ingest(broken).failures == 1
    assert archive.store.collection_rows() == ()
    broken.unlink()
    archive.add("tan", "deep/inside", "good.fits")
    archive.ingest()
    assert list(archive.rows()) == ["deep/inside/good.fits"]
    (only,) = archive.store.collection_rows()
    assert only.roots == (str(archive.folder),)


def test_files_of_one_collection_are_not_taken_into_another(archive: Archive) -> None:
    """Their identifiers would be lost: it says so, names both, and changes nothing."""
    first = archive.add("tan", "sub", "a.fits")
    archive.add("tan", "sub", "b.fits")
    archive.ingest()
    before = {row.obs_publisher_did for row in archive.rows().values()}
    archive.add("tan", "sub", "c.fits")
    for path, count in ((archive.folder, "2 files"), (first, "1 file ")):
        with pytest.raises(UsageError, match="--move") as refused:
            archive.ingest(path, collection="other")
        assert count in str(refused.value)
        assert "collection archive;" in str(refused.value)
        assert "in other" in str(refused.value)
    assert {row.obs_publisher_did for row in archive.rows().values()} == before
    # The name of their own collection, in any case, is no other one.
    assert archive.ingest(collection="ARCHIVE").unchanged == 2
    report = archive.ingest(first, collection="other", move=True)
    assert (report.added, report.changed) == (0, 1)
    rows = {row.obs_publisher_did for row in archive.rows().values()}
    assert sum("/other?" in did for did in rows) == 1


def test_changed_vanished_and_new_files_are_noticed(archive: Archive) -> None:
    kept, changed, gone = (archive.add("tan", "sub", f"{name}.fits") for name in "abc")
    archive.ingest()
    identifiers = set(archive.rows())
    changed.write_bytes(FAMILIES["mef"]())
    gone.unlink()
    archive.add("fk4", name="d.fits")
    report = archive.ingest()
    assert (report.added, report.changed, report.unchanged, report.removed) == (1, 1, 1, 1)
    assert not report.failed
    rows = archive.rows()
    assert set(rows) == identifiers - {"sub/c.fits"} | {"d.fits"}
    dataset = archive.store.get(rows["sub/b.fits"].obs_publisher_did)
    assert dataset is not None
    assert len(dataset.hdus) > 1
    assert dataset.version.size == changed.stat().st_size
    assert kept.exists()


def test_a_touched_file_is_read_again(archive: Archive) -> None:
    path = archive.add("tan")
    archive.ingest()
    os.utime(path, ns=(1, 1))
    assert archive.ingest().changed == 1
    assert archive.ingest().unchanged == 1


def test_a_file_that_breaks_leaves_the_catalog(archive: Archive) -> None:
    path = archive.add("tan")
    archive.ingest()
    path.write_bytes(path.read_bytes()[:4000])
    report = archive.ingest()
    assert [Path(name) for name, _ in report.failed] == [path]
    assert report.removed == 1
    assert not archive.rows()


def test_a_file_that_leaves_the_catalog_is_told_so(archive: Archive) -> None:
    """In the line that says what is wrong with it, and in no other."""
    names = ("damaged", "emptied", "new")
    damaged, emptied, new = (archive.folder / f"{name}.fits" for name in names)
    for path in (damaged, emptied):
        path.write_bytes(FAMILIES["tan"]())
    archive.ingest()
    damaged.write_bytes(FAMILIES["tan"]()[:3000])
    new.write_bytes(FAMILIES["tan"]()[:3000])
    Table({"a": [1, 2]}).write(emptied, overwrite=True)

    def said() -> tuple[IngestReport, dict[str, str]]:
        told: list[tuple[str, str]] = []
        report = ingest(
            [archive.folder],
            archive.settings,
            archive.collections,
            workers=1,
            allow_empty=True,
            problem=lambda *one: told.append(one),
        )
        assert [one for one in report.failed if one not in told] == []
        return report, {Path(path).stem: reason for path, reason in told}

    report, lines = said()
    assert (report.removed, report.failures, report.imageless) == (2, 2, 1)
    assert lines["emptied"] == "holds no image; it leaves the catalog"
    assert lines["damaged"] == f"{lines['new']}; it leaves the catalog"
    report, lines = said()
    assert (report.removed, report.failures, report.imageless) == (0, 2, 1)
    assert {name: "leaves" in line for name, line in lines.items()} == dict.fromkeys(names, False)


def test_a_file_that_takes_the_name_of_another_is_told_that_it_leaves(archive: Archive) -> None:
    archive.configure("named", root="archive", publisher_did="{OBJECT}")
    content = FAMILIES["much_metadata"]()
    first, second = archive.folder / "a.fits", archive.folder / "b.fits"
    first.write_bytes(content)
    second.write_bytes(content.replace(b"O''Hara", b"O''Hare"))
    assert archive.ingest().added == 2
    second.write_bytes(content)
    report = archive.ingest()
    assert (report.unchanged, report.removed) == (1, 1)
    ((path, reason),) = report.failed
    assert path == str(second)
    assert reason.endswith(f" is already that of {first}; it leaves the catalog")
    ((_, reason),) = archive.ingest().failed
    assert reason.endswith(f" is already that of {first}")


def test_names_that_differ_in_case_alone(archive: Archive) -> None:
    """Identifiers are compared without regard to it, and the line says so."""
    content = FAMILIES["much_metadata"]()
    first, second = archive.folder / "Case.fits", archive.folder / "case.fits"
    first.write_bytes(content)
    second.write_bytes(content)
    report = archive.ingest()
    assert report.added == 1
    ((path, reason),) = report.failed
    other = ({str(first), str(second)} - {path}).pop()
    assert reason.endswith(f"is, but for small and capital letters, already that of {other}")


def test_only_what_lies_below_the_paths_given_is_removed(archive: Archive) -> None:
    one, other = archive.add("tan", "one"), archive.add("tan", "one0")
    archive.ingest()
    one.unlink()
    other.unlink()
    assert archive.ingest(archive.folder / "one").removed == 1
    assert set(archive.rows()) == {"one0/tan.fits"}


def test_paths_that_are_not_there(archive: Archive) -> None:
    path = archive.add("tan")
    archive.add("fk5", "folder")
    archive.ingest()
    path.unlink()
    missing = archive.folder / "nothing"
    report = archive.ingest(path, missing)
    assert [name for name, _ in report.failed] == [str(missing)]
    assert "nothing is there" in report.failed[0][1]
    assert report.removed == 1
    assert set(archive.rows()) == {"folder/fk5.fits"}


def test_a_folder_that_is_gone_takes_its_rows_with_it(archive: Archive) -> None:
    archive.add("tan", "kept")
    archive.add("tan", "gone0")
    archive.add("tan", "gone", "one.fits")
    archive.add("fk5", "gone/deep", "two.fits")
    archive.ingest()
    shutil.rmtree(archive.folder / "gone")
    report = archive.ingest(archive.folder / "gone")
    assert (report.removed, report.failed) == (2, [])
    assert set(archive.rows()) == {"kept/tan.fits", "gone0/tan.fits"}


@pytest.mark.parametrize("configured", [False, True])
@pytest.mark.parametrize("asked", ["", "night", "night/tan.fits", ".."])
def test_a_root_that_is_gone_keeps_its_rows(
    archive: Archive, asked: str, *, configured: bool
) -> None:
    archive.folder = archive.folder / "disk"
    if configured:
        archive.configure("survey", root="archive/disk")
    archive.add("tan", "night")
    archive.ingest()
    away = archive.folder.with_name("away")
    archive.folder.rename(away)
    path = archive.folder / asked
    if asked == "..":
        away = away.parent.rename(away.parent.with_name("far away")) / "away"
        path = archive.folder.parent
    report = archive.ingest(path)
    assert report.removed == 0
    ((_, reason),) = report.failed
    assert "root of a collection" in reason
    assert set(archive.rows()) == {"night/tan.fits"}
    # It is mounted again, and nothing has to be read anew.
    away.parent.rename(archive.folder.parent)
    (archive.folder.parent / "away").rename(archive.folder)
    assert archive.ingest().unchanged == 1


def mountless(archive: Archive, way: str) -> None:
    """What a root looks like when the disk that it was is not mounted."""
    if way == "gone":
        archive.folder.rename(archive.folder.with_name("away"))
        return
    for path in sorted(archive.folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    if way == "other files":
        (archive.folder / "lost+found").mkdir()
        (archive.folder / ".mount").write_text("")
        (archive.folder / "README").write_text("")


@pytest.mark.parametrize(
    ("way", "asked"),
    [
        *product(("gone", "empty"), (".", "..", "night", "night/tan.fits")),
        # What is missing from a root that is there was removed.
        *product(("other files",), (".", "..")),
    ],
)
def test_an_empty_root_keeps_its_rows_unless_told_otherwise(
    archive: Archive, way: str, asked: str
) -> None:
    archive.folder = archive.folder / "disk"
    archive.configure("survey", root="archive/disk")
    archive.add("tan", "night")
    archive.add("fk5", "night")
    archive.ingest()
    path = Path(os.path.normpath(archive.folder / asked))
    (archive.folder.parent / "other").mkdir()
    archive.folder, disk = archive.folder.parent, archive.folder
    archive.add("tan", "other")
    archive.folder = disk
    mountless(archive, way)
    names = {"night/tan.fits", "night/fk5.fits"}
    report = archive.ingest(path)
    assert report.removed == 0
    (failure,) = report.failed
    assert "is its disk mounted?" in failure[1]
    assert "--allow-empty" in failure[1]
    if way != "gone":
        assert asked.startswith("night") or "2 datasets" in failure[1]
    assert names <= set(archive.rows())
    report = ingest([path], archive.settings, archive.collections, workers=1, allow_empty=True)
    assert report.failed == []
    assert report.removed == (1 if asked.endswith(".fits") else 2)


def test_each_of_several_roots_may_be_missing(archive: Archive) -> None:
    for name in ("one", "two"):
        archive.add("tan", name)
        archive.ingest(archive.folder / name, collection=name)
    (archive.folder / "two" / "tan.fits").unlink()
    archive.add("fk5", "one")
    (archive.folder / "one" / "tan.fits").unlink()
    report = archive.ingest()
    ((path, _),) = report.failed
    assert path == str(archive.folder / "two")
    assert (report.added, report.removed) == (1, 1)
    assert len(archive.rows()) == 2


def test_files_that_cannot_be_used_are_files(archive: Archive) -> None:
    """A root whose last file broke is not empty."""
    path = archive.add("tan")
    archive.ingest()
    path.write_bytes(b"SIMPLE")
    report = archive.ingest()
    assert [Path(one) for one, _ in report.failed] == [path]
    assert report.removed == 1


def test_a_folder_without_fits_files_is_said_to_be_one(archive: Archive) -> None:
    (archive.folder / "notes.txt").write_text("")
    report = archive.ingest()
    ((path, reason),) = report.failed
    assert path == str(archive.folder)
    assert "*.fits" in reason
    assert report.failures == 1


def test_failures_are_told_as_they_come_and_few_are_kept(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "_FAILURES_KEPT", 3)
    for number in range(8):
        (archive.folder / f"n{number}.fits").write_bytes(b"junk")
    told: list[str] = []
    report = ingest(
        [archive.folder],
        archive.settings,
        archive.collections,
        workers=1,
        problem=lambda path, _: told.append(Path(path).name),
    )
    assert sorted(told) == [f"n{number}.fits" for number in range(8)]
    assert (report.failures, len(report.failed)) == (8, 3)


def test_very_many_folders_that_cannot_be_listed(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than SQLite takes conditions: their parents are left alone then."""
    archive.add("tan", "kept")
    archive.add("tan", "shut/f7")
    archive.ingest()
    for number in range(1200):
        (archive.folder / "shut" / f"f{number}").mkdir(exist_ok=True)
    scandir = os.scandir

    def refusing(path: str) -> object:
        if "/shut/" in path:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    report = archive.ingest()
    assert (report.unchanged, report.removed, report.failures) == (1, 0, 1200)
    assert set(archive.rows()) == {"kept/tan.fits", "shut/f7/tan.fits"}


def test_large_folders_are_walked_as_they_are_handed_out(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "_LISTED_AT_ONCE", 2)
    archive.add("tan", "a/b/c")
    for folder in ("", "a", "a/b", "a/b/c", "d"):
        archive.add("fk5", folder)
        archive.add("fk4", folder)
    (archive.folder / "a" / "b" / "up").symlink_to(archive.folder)
    (archive.folder / "a" / "circle").symlink_to("circle")
    report = archive.ingest()
    assert (report.added, report.failed) == (11, [])


def test_a_path_that_cannot_be_looked_at_keeps_its_rows(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive.add("tan")
    archive.ingest()
    lstat = os.lstat

    def refusing(name: str, *options: object, **more: object) -> object:
        if name == str(path):
            raise OSError(5, "Input/output error", name)
        return lstat(name, *options, **more)  # type: ignore[arg-type] # handed on as it came

    monkeypatch.setattr(os, "lstat", refusing)
    report = archive.ingest(path)
    assert report.failed == [(str(path), "cannot be looked at: Input/output error")]
    assert set(archive.rows()) == {"tan.fits"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a" * 300, "cannot be looked at: File name too long"),
        ("loop", "cannot be looked at: Too many levels of symbolic links"),
        ("b\udcff", "its name is not UTF-8"),
    ],
)
@pytest.mark.parametrize("collection", [None, "another"])
def test_paths_that_no_file_can_have(
    archive: Archive, name: str, reason: str, collection: str | None
) -> None:
    (archive.folder / "loop").symlink_to("loop")
    folder = archive.folder / name
    sound = archive.add("tan", "sound")
    report = archive.ingest(folder / "x", folder / "x.fits", sound, collection=collection)
    assert report.added == 1
    assert [told for _, told in report.failed] == [reason, reason]


def test_a_folder_whose_name_is_not_utf8(archive: Archive) -> None:
    path = archive.add("tan", "b\udcff")
    for given in (path, path.parent, archive.folder):
        report = archive.ingest(given)
        assert [told for _, told in report.failed] == ["its name is not UTF-8"]
        assert report.added == 0


def test_what_cannot_be_read_now_keeps_its_rows(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.add("tan", "closed")
    archive.add("fk5", "open")
    archive.ingest()
    (archive.folder / "open" / "fk5.fits").unlink()
    scandir = os.scandir

    def refusing(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    report = archive.ingest()
    assert report.failed == [
        (str(archive.folder / "closed"), "cannot be listed: Permission denied")
    ]
    assert report.removed == 1
    assert set(archive.rows()) == {"closed/tan.fits"}


def test_links_are_followed_once(archive: Archive, tmp_path: Path) -> None:
    archive.add("tan", "real")
    outside = tmp_path / "outside"
    outside.mkdir()
    write_family("fk5", outside)
    (archive.folder / "real" / "loop").symlink_to(archive.folder)
    (archive.folder / "again").symlink_to(archive.folder / "real")
    (archive.folder / "away").symlink_to(outside)
    (archive.folder / "file.fits").symlink_to(outside / "fk5.fits")
    (archive.folder / "broken.fits").symlink_to(tmp_path / "nowhere.fits")
    report = archive.ingest()
    assert set(archive.rows()) == {"real/tan.fits", "away/fk5.fits", "file.fits"}
    assert [Path(path).name for path, _ in report.failed] == ["broken.fits"]


def test_odd_directory_entries_are_harmless(archive: Archive) -> None:
    archive.add("tan", ".hidden")
    archive.add("tan", name="._tan.fits")
    archive.add("tan", name="notes.txt")
    archive.add("tan", name="UPPER.FITS")
    os.mkfifo(archive.folder / "pipe.fits")
    (archive.folder / "folder.fits").mkdir()
    Path(os.fsdecode(os.fsencode(archive.folder) + b"/latin\xe9.fits")).write_bytes(b"")
    report = archive.ingest()
    assert set(archive.rows()) == {"UPPER.FITS"}
    assert sorted(reason for _, reason in report.failed) == [
        "its name is not UTF-8", "not a regular file",
    ]  # fmt: skip
    for path, _ in report.failed:
        path.encode()  # can be printed


def test_a_file_given_by_name_needs_no_suffix(archive: Archive) -> None:
    path = archive.add("tan", name="image.dat")
    assert archive.ingest(path).added == 1
    assert set(archive.rows()) == {"image.dat"}


def test_identifiers_that_differ_in_case_only_are_refused(archive: Archive) -> None:
    archive.add("tan", name="m31.fits")
    archive.ingest()
    archive.add("fk5", name="M31.fits")
    report = archive.ingest()
    (failure,) = report.failed
    assert failure[0].endswith("M31.fits")
    assert "m31.fits" in failure[1]
    assert set(archive.rows()) == {"m31.fits"}


def test_a_template_names_datasets_wherever_they_lie(archive: Archive) -> None:
    archive.configure("named", root="archive", publisher_did="{OBJECT}/{NAXIS1}")
    path = archive.add("much_metadata")
    unnamed = archive.add("tan")
    report = archive.ingest()
    assert [Path(name) for name, _ in report.failed] == [unnamed]
    assert "OBJECT" in report.failed[0][1]
    (before,) = archive.rows()
    path.rename(path.with_name("elsewhere.fits"))
    report = archive.ingest()
    assert (report.added, report.moved, report.removed) == (0, 1, 0)
    (after,) = archive.rows()
    assert before == after


def test_collections_are_told_by_root_then_by_name(archive: Archive) -> None:
    archive.configure("Configured", root="archive/in/there", title="A title")
    archive.add("tan", "in/there/deep")
    archive.add("tan", "in/here")
    archive.ingest()
    assert {row.obs_publisher_did for row in archive.rows().values()} == {
        "ivo://archive.example/Configured?deep/tan.fits",
        "ivo://archive.example/archive?in/here/tan.fits",
    }
    # A part of what was ingested before keeps its identifiers.
    assert archive.ingest(archive.folder / "in" / "here").unchanged == 1
    assert archive.ingest(archive.folder / "in" / "here" / "tan.fits").unchanged == 1
    assert archive.ingest(archive.folder, collection="configured", move=True).changed == 1
    summary = {one.name: (one.title, one.count) for one in archive.store.collections()}
    assert summary == {"Configured": ("A title", 2)}


@pytest.mark.parametrize("name", ["", " ", "a/b", "a\nb", "x" * 101])
def test_impossible_names_of_collections(archive: Archive, name: str) -> None:
    with pytest.raises(UsageError):
        archive.ingest(collection=name)


def test_changed_settings_are_applied_to_files_that_did_not_change(archive: Archive) -> None:
    archive.add("tan")
    archive.ingest()
    archive.configure("archive", root="archive", constants={"target_name": "M 31"})
    assert archive.ingest().changed == 1
    assert archive.rows()["tan.fits"].target_name == "M 31"
    archive.configure("archive", root="archive", title="New", constants={"target_name": "M 31"})
    assert archive.ingest().unchanged == 1
    (summary,) = archive.store.collections()
    assert summary.title == "New"


def test_the_cache_is_not_scanned(archive: Archive, tmp_path: Path) -> None:
    archive.settings = archive.settings.model_copy(update={"cache_dir": archive.folder / "cache"})
    archive.add("tan", "cache")
    archive.add("tan", "other")
    archive.ingest()
    assert set(archive.rows()) == {"other/tan.fits"}


def test_a_file_that_kills_its_reader_is_named_and_the_rest_goes_on(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number in range(12):
        archive.add("tan", name=f"n{number:02}.fits")
    archive.add("tan", name="deadly.fits")
    # What astropy's C code did to such a process: a signal that nobody can handle.
    patch = tmp_path / "patch"
    patch.mkdir()
    (patch / "sitecustomize.py").write_text(
        "import os, signal\n"
        "import soda_service.catalog.headersource as source\n"
        "class Deadly(source.HeaderSource):\n"
        "    def __init__(self, path, **options):\n"
        "        if path.endswith('deadly.fits'):\n"
        "            os.kill(os.getpid(), signal.SIGSEGV)\n"
        "        super().__init__(path, **options)\n"
        "source.HeaderSource = Deadly\n"
    )
    monkeypatch.syspath_prepend(str(patch))
    report = archive.ingest()
    ((path, reason),) = report.failed
    assert path.endswith("deadly.fits")
    assert "SIGSEGV" in reason
    assert report.added == 12


def test_a_file_that_takes_too_long_is_given_up(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It keeps its row: perhaps it is the disk that is slow."""
    endless = archive.add("tan", name="endless.fits")
    quick = archive.add("tan", name="quick.fits")
    assert archive.ingest(endless).added == 1
    os.utime(endless, (1, 1))
    patch, begun = tmp_path / "patch", tmp_path / "begun"
    patch.mkdir()
    (patch / "sitecustomize.py").write_text(
        "import time\n"
        "from pathlib import Path\n"
        "import soda_service.catalog.headersource as source\n"
        "class Endless(source.HeaderSource):\n"
        "    def __init__(self, path, **options):\n"
        "        if path.endswith('endless.fits'):\n"
        f"            Path({str(begun)!r}).touch()\n"
        "            time.sleep(3600)\n"
        "        super().__init__(path, **options)\n"
        "source.HeaderSource = Endless\n"
    )
    monkeypatch.syspath_prepend(str(patch))

    class Clock:
        """Leaps when the endless file is being read: the other one has all its time."""

        def monotonic(self) -> float:
            return time.monotonic() + (crew.FILE_SECONDS if begun.exists() else 0.0)

    monkeypatch.setattr(crew, "time", Clock())
    report = archive.ingest(endless, quick)
    ((path, reason),) = report.failed
    assert path == str(endless)
    assert f"took over {crew.FILE_SECONDS:.0f} s" in reason
    assert report.removed == 0
    assert set(archive.rows()) == {"endless.fits", "quick.fits"}


def test_progress_counts_what_lasts(archive: Archive) -> None:
    for number in range(7):
        archive.add("tan", name=f"n{number}.fits")
    told: list[tuple[int, int | None, int]] = []

    def progress(done: int, total: int | None, current: str) -> None:
        assert current.startswith(str(archive.folder))
        told.append((done, total, archive.store.count()))

    ingest([archive.folder], archive.settings, archive.collections, workers=1, progress=progress)
    assert told[0][1] == 7  # known from the beginning
    assert told[-1] == (7, 7, 7)
    assert all(done <= count for done, _, count in told)


def test_the_service_reads_while_ingest_writes(archive: Archive) -> None:
    archive.add("tan", name="first.fits")
    archive.ingest()
    reader = archive.store.find(CatalogQuery(shapes=(Circle(150.1, 2.2, 1.0),)), 10)
    first = next(reader)
    for number in range(5):
        archive.add("tan", name=f"later{number}.fits")
    (archive.folder / "first.fits").unlink()
    report = archive.ingest()  # neither waits for the other
    assert (report.added, report.removed) == (5, 1)
    assert list(reader) == []  # one state from the first step to the last
    assert first.obs_id == "first"
    assert len(archive.rows()) == 5


_INGEST = """
import sys
from pathlib import Path
from soda_service.catalog import ingest
from soda_service.config import CollectionsFile, Settings
ingest._BATCH = 5
def progress(done, total, current):
    print(done, flush=True)
ingest.ingest([Path(sys.argv[1])], Settings(catalog=sys.argv[2], authority="archive.example"),
              CollectionsFile(), workers=2, progress=progress)
"""


def test_a_killed_ingest_loses_nothing_that_it_told_of(archive: Archive) -> None:
    for number in range(200):
        archive.add("tan", f"f{number % 7}", f"n{number:03}.fits")
    command = [sys.executable, "-c", _INGEST, str(archive.folder), archive.settings.catalog]
    done = 0
    for aim in (10, 60, 120):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                done = int(line)
                if done >= aim:
                    break
            process.send_signal(signal.SIGKILL)
            process.wait()
        rows = archive.rows()
        assert len(rows) >= done >= aim
        for row in rows.values():
            dataset = archive.store.get(row.obs_publisher_did)
            assert dataset is not None
            assert dataset.hdus
        everywhere = CatalogQuery(shapes=(Circle(150.1, 2.2, 1.0),))
        assert len(list(archive.store.find(everywhere, 1000))) == len(rows)
    report = ingest([archive.folder], archive.settings, CollectionsFile(), workers=2)
    assert report.added + report.unchanged == 200
    assert not report.failed
    assert len(archive.rows()) == 200


def test_two_ingests_at_once_agree(archive: Archive) -> None:
    for number in range(30):
        archive.add("tan", name=f"n{number:03}.fits")
    command = [sys.executable, "-c", _INGEST, str(archive.folder), archive.settings.catalog]
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert len(archive.rows()) == 30


def test_workers_end_with_their_master(archive: Archive) -> None:
    archive.add("tan")
    script = (
        "import os, sys; from soda_service.catalog.crew import _Worker;"
        "worker = _Worker(60.0); worker.connection.poll(60);"
        "print(worker._process.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as master:
        assert master.stdout is not None
        worker = int(master.stdout.readline())
        master.kill()
    until(lambda: has_ended(worker))


@pytest.mark.parametrize("asked", [0, 1, 3])
def test_a_worker_whose_caller_hangs_up_ends_without_a_word(archive: Archive, asked: int) -> None:
    """With answers unread and questions unanswered, as when ingest is killed."""
    path = archive.add("much_metadata")
    place = Places(archive.settings, archive.collections, ()).of("/", "/")
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "soda_service.catalog.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    connection = Connection(ours.detach())
    assert connection.recv_bytes() == worker.READY
    for number in range(asked):
        connection.send((str(path), place.fingerprint, None if number else place, None, None))
    if asked == 1:
        connection.poll(30)
    connection.close()
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out, errors) == (0, b"", b"")


def test_a_dataset_offers_the_details_that_it_has(archive: Archive) -> None:
    archive.configure(
        "archive",
        root="archive",
        details=[
            {"name": "Weight", "hdus": ["WHT"]},
            {"name": "Image", "hdus": ["sci", "IMAGE"]},
            {"name": "Mask", "hdus": ["mask"]},  # a role
            {"name": "First", "hdus": ["PRIMARY"]},
        ],
        links=[{"semantics": "#weight", "detail": "Weight"}],
    )
    archive.add("tan")
    archive.add("mef")
    archive.ingest()
    names = {}
    for row in archive.rows().values():
        dataset = archive.store.get(row.obs_publisher_did)
        assert dataset is not None
        names[row.obs_id] = [detail.name for detail in dataset.details]
        for detail in dataset.details:
            assert any(detail.holds(hdu) for hdu in dataset.hdus)
        assert (
            dataset.details
            == index_file(Path(dataset.url), archive.settings, archive.collections).details
        )
    assert names["tan"] == ["First"]
    assert names["mef"][0] == "Image"
    assert "Weight" not in names["mef"]
    archive.configure("archive", root="archive", details=[{"name": "Weight", "hdus": ["WHT"]}])
    archive.ingest()
    dataset = archive.store.get("ivo://archive.example/archive?tan.fits")
    assert dataset is not None
    assert [(one.name, one.hdus) for one in dataset.details] == [("All", ("*",))]


def test_what_was_written_is_told_although_the_user_stops_it(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch lasts before it is counted, and Ctrl-C may come between the two."""
    for number in range(7):
        archive.add("tan", name=f"{number}.fits")
    report = Batches._report

    def interrupted(*given: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        report(*given)

    monkeypatch.setattr(Batches, "_report", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(IngestInterrupted) as stopped:
            archive.ingest()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert stopped.value.report.added == archive.store.count() > 0


def test_index_file_needs_no_catalog(archive: Archive) -> None:
    path = archive.add("mef")
    dataset = index_file(path, archive.settings, archive.collections)
    assert dataset.publisher_did == "ivo://archive.example/archive?mef.fits"
    assert not archive.settings.catalog_path.exists()
    with pytest.raises(UnknownDatasetError):
        index_file(path.with_name("none.fits"), archive.settings, archive.collections)
    with pytest.raises(CorruptFileError) as caught:
        index_file(archive.add("truncated_data"), archive.settings, archive.collections)
    assert caught.value.path.endswith("truncated_data.fits")
    assert str(archive.folder) not in str(caught.value)
