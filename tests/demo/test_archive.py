"""Writing the archive: complete, the same every time, resumed, and renewed."""

from __future__ import annotations

import csv
import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from soda_service.config import load_collections, resource_path
from soda_service.demo import instruments
from soda_service.demo.archive import MARKER, WrittenArchive, examples, write_archive
from soda_service.demo.sky import TRANSIENT, truth
from soda_service.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

SIZE_LIMIT = 60_000_000


def digests(folder: Path) -> dict[str, str]:
    """Every file below *folder*, with a digest of its bytes."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def moments(folder: Path) -> dict[str, int]:
    """Every file below *folder*, with the moment of its last change."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def two_instruments(monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive of two files and the tables, quickly written."""
    monkeypatch.setattr(instruments, "INSTRUMENTS", (instruments.radio, instruments.drizzled))


def test_it_has_every_instrument_and_stays_small(archive: WrittenArchive) -> None:
    """Every instrument of the contract is there, and no more bytes than it allows."""
    roots = {name.partition("/")[0] for name in archive.files if "/" in name}
    assert roots == {
        "visits", "templates", "differences", "coadds", "stacks", "infrared", "drizzled", "radio",
    }  # fmt: skip
    assert archive.written == archive.files
    assert set(digests(archive.folder)) == {*archive.files, MARKER}
    assert sum(path.stat().st_size for path in archive.folder.rglob("*")) < SIZE_LIMIT


def test_two_archives_are_the_same_to_the_byte(archive: WrittenArchive, tmp_path: Path) -> None:
    """Nothing of the machine, the folder or the time of day gets into a file."""
    write_archive(tmp_path)
    assert digests(tmp_path) == digests(archive.folder)


def test_a_complete_archive_is_left_alone(archive: WrittenArchive) -> None:
    """A second call touches no file."""
    before = moments(archive.folder)
    again = write_archive(archive.folder)
    assert again.written == ()
    assert again.files == archive.files
    assert moments(archive.folder) == before


@pytest.mark.usefixtures("two_instruments")
def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    """A progress bar starts at nothing and ends full."""
    heard: list[tuple[int, int | None, str]] = []
    written = write_archive(tmp_path, lambda *step: heard.append(step))
    total = len(written.files)
    assert [done for done, _, _ in heard] == list(range(total + 1))
    assert {of for _, of, _ in heard} == {total}
    assert [name for _, _, name in heard[:-1]] == list(written.files)


@pytest.mark.usefixtures("two_instruments")
def test_an_interrupted_archive_is_completed(tmp_path: Path) -> None:
    """What was whole is kept; what was not begun is written."""

    def interrupt(done: int, _total: int | None, _name: str) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_archive(tmp_path, interrupt)
    first = moments(tmp_path)
    assert len(first) == 2  # one file and the marker, nothing half written
    written = write_archive(tmp_path)
    assert len(written.written) == len(written.files) - 1
    assert first.items() <= moments(tmp_path).items()


@pytest.mark.usefixtures("two_instruments")
def test_a_file_that_was_removed_comes_back_alone(tmp_path: Path) -> None:
    """Only what is missing is written."""
    files = write_archive(tmp_path).files
    (tmp_path / files[0]).unlink()
    assert write_archive(tmp_path).written == files[:1]


@pytest.mark.usefixtures("two_instruments")
def test_an_archive_of_another_edition_is_written_anew(tmp_path: Path) -> None:
    """Files of older code go, those of the user stay."""
    files = write_archive(tmp_path).files
    fresh = digests(tmp_path)
    old = json.loads((tmp_path / MARKER).read_text())
    (tmp_path / "gone.fits").write_bytes(b"of the other edition")
    (tmp_path / "mine.fits").write_bytes(b"not ours")
    (tmp_path / files[0]).write_bytes(b"stale")
    content = {"edition": "another", "files": [*old["files"], "gone.fits"]}
    (tmp_path / MARKER).write_text(json.dumps(content))
    assert write_archive(tmp_path).written == files
    assert not (tmp_path / "gone.fits").exists()
    (tmp_path / "mine.fits").unlink()
    assert digests(tmp_path) == fresh


@pytest.mark.usefixtures("two_instruments")
@pytest.mark.parametrize(
    "marker", ["", "[]", "{}", '{"edition": "x", "files": ["../outside.txt"]}', "\x00\xff"]
)
def test_a_strange_marker_removes_nothing_else(tmp_path: Path, marker: str) -> None:
    """A marker that somebody edited leads to no file outside the folder."""
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    folder = tmp_path / "archive"
    folder.mkdir()
    (folder / MARKER).write_text(marker)
    written = write_archive(folder)
    assert written.written == written.files
    assert outside.read_text() == "mine"


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """The user learns of it in a sentence."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="cannot write the demo archive"):
        write_archive(tmp_path / "file")


@pytest.mark.usefixtures("two_instruments")
def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    """Whatever is in it stays; one with nothing in it, or a new disk, is as good as none."""
    (tmp_path / "truth.csv").write_text("mine")
    with pytest.raises(UsageError, match="is not a demo archive, but not empty"):
        write_archive(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["truth.csv"]
    assert (tmp_path / "truth.csv").read_text() == "mine"
    (tmp_path / "truth.csv").unlink()
    (tmp_path / "lost+found").mkdir()
    (tmp_path / ".hidden").touch()
    assert write_archive(tmp_path).written


def test_the_tables_hold_the_truth(archive_folder: Path) -> None:
    """Who reads the tables has the very numbers that were drawn."""
    with (archive_folder / "truth.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(truth())
    for row, source in zip(rows, truth(), strict=True):
        assert row["name"] == source["name"]
        assert float(row["ra"]) == source["ra"]
        assert float(row["dec"]) == source["dec"]
        assert float(row["flux_r"]) == source["flux_r"]
    with (archive_folder / "lightcurve.csv").open(newline="") as file:
        epochs = list(csv.DictReader(file))
    assert {row["band"] for row in epochs} == {"g", "r"}
    assert {(float(row["ra"]), float(row["dec"])) for row in epochs} == {
        (TRANSIENT.ra, TRANSIENT.dec)
    }
    brightness = [float(row["flux_njy"]) for row in epochs if row["band"] == "r"]
    assert brightness[0] == 0
    after_the_peak = brightness[2:]
    assert after_the_peak == sorted(after_the_peak, reverse=True)


def test_the_configuration_names_what_is_there(archive_folder: Path) -> None:
    """Every root, keyword, filter, HDU and link that the configuration names exists."""
    from astropy.io import fits

    collections = load_collections(resource_path("config/collections.toml"))
    roots = {path.name for path in archive_folder.iterdir() if path.is_dir()}
    assert roots <= {str(config.root) for config in collections.collections.values()}
    for root in sorted(roots):
        config = collections.named(root)
        headers = []
        names: set[str] = set()
        for path in sorted((archive_folder / root).iterdir()):
            assert any(path.match(pattern) for pattern in config.include)
            with fits.open(path) as hdus:
                names |= {hdu.name for hdu in hdus}
                merged = fits.Header()
                for hdu in hdus:
                    merged.update(hdu.header)
                headers.append(merged)
        own = collections.collections[root]
        for keyword, spellings in own.keywords.items():
            for header in headers:
                assert any(name in header for name in spellings), (root, keyword)
        for name in own.keywords.get("lsst_band", ()):
            assert {header[name] for header in headers} == set(own.filters)
        for detail in own.details:
            assert set(detail.hdus) <= names | {"*"}
        for link in own.links:
            assert link.collection is None or link.collection in roots
            assert link.detail is None or link.detail in {detail.name for detail in own.details}


def test_visits_have_the_numbers_that_their_identifiers_are_made_of(archive_folder: Path) -> None:
    """No two visits share an identifier, and the example names one of them."""
    from astropy.io import fits

    collections = load_collections(resource_path("config/collections.toml"))
    template = collections.named("visits").publisher_did
    assert template is not None
    identifiers = set()
    for path in (archive_folder / "visits").iterdir():
        header = fits.getheader(path)
        assert len(header) > 100
        identifiers.add(template.format_map(header))
    assert len(identifiers) == 12
    visit = dict(examples())["What can be had of one visit"].rpartition("%3F")[2]
    assert visit in identifiers
