"""Files that move, are copied and change places, as ingest and a running service see them."""

from __future__ import annotations

import io
import os
import shutil
import threading
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import numpy as np
import pytest
from astropy.io import fits
from support.images import primary, sky_cards
from support.leaping import StandingTime
from support.service import running

from soda_service.app import create_app
from soda_service.catalog import batches, reindex, resolver as resolver_module
from soda_service.catalog.crew import Crew
from soda_service.catalog.query import CatalogQuery
from soda_service.catalog.resolver import Resolver
from soda_service.catalog.tally import IngestInterrupted
from soda_service.errors import UnknownDatasetError
from soda_service.geometry.shapes import Circle
from soda_service.storage.source import FileVersion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.archive import Archive
    from support.service import LiveService

    from soda_service.catalog.crew import IndexTask

CIRCLE = "150.1 2.2 0.0005"

_CLOCK = count(1_700_000_000)


def add(archive: Archive, path: str, name: str, value: int | None = None) -> Path:
    """An image with the OBSID *name*, all its pixels *value*, written at a time of its own."""
    target = archive.folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((50, 60), value or 0, np.int16)
    target.write_bytes(primary(pixels, [*sky_cards(), ("OBSID", name)]))
    stamp = next(_CLOCK)
    os.utime(target, (stamp, stamp))
    return target


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def version_of(path: Path) -> FileVersion:
    status = path.stat()
    return FileVersion(status.st_size, status.st_mtime_ns)


def did(name: str) -> str:
    return f"ivo://archive.example/named?{name}"


def paths(archive: Archive) -> dict[str, str]:
    """Local part of each identifier, and where the catalog believes its file to be."""
    found = {}
    for row in archive.rows().values():
        dataset = archive.store.get(row.obs_publisher_did)
        assert dataset is not None
        found[dataset.local_part] = os.path.relpath(dataset.url, archive.folder)
        assert Path(dataset.url).stat().st_size == dataset.version.size
    # What the sky index finds is what there is.
    everywhere = archive.store.find(CatalogQuery(shapes=(Circle(150.1, 2.2, 1.0),)), 1000)
    assert len(list(everywhere)) == len(found)
    return found


@pytest.fixture(name="named")
def _named(archive: Archive) -> Archive:
    """An archive whose identifiers come from OBSID."""
    archive.configure("named", root="archive", publisher_did="{OBSID}")
    return archive


def test_a_file_that_moved_keeps_its_identifier_and_its_row(named: Archive) -> None:
    moved = add(named, "old/a.fits", "A")
    add(named, "old/b.fits", "B")
    named.ingest()
    before = named.store.get_stored(did("A"))
    (named.folder / "new").mkdir()
    moved.rename(named.folder / "new" / "other.fits")
    report = named.ingest()
    assert (report.added, report.changed, report.moved) == (0, 0, 1)
    assert (report.unchanged, report.removed, report.failed) == (1, 0, [])
    assert paths(named) == {"A": "new/other.fits", "B": "old/b.fits"}
    after = named.store.get_stored(did("A"))
    assert before is not None
    assert after is not None
    assert after.revision > before.revision
    # What an answer's entity tag is made of is the same.
    assert after.dataset.publisher_did == before.dataset.publisher_did
    assert after.dataset.version == before.dataset.version


def test_without_a_template_it_is_one_that_vanished_and_one_that_was_added(
    archive: Archive,
) -> None:
    moved = add(archive, "old/a.fits", "A")
    add(archive, "old/b.fits", "B")
    archive.ingest()
    moved.rename(archive.folder / "a.fits")
    report = archive.ingest()
    assert (report.added, report.moved, report.removed, report.unchanged) == (1, 0, 1, 1)
    assert set(archive.rows()) == {"a.fits", "old/b.fits"}


@pytest.mark.parametrize("template", [None, "{OBSID}"])
def test_a_move_between_roots_of_a_collection(archive: Archive, template: str | None) -> None:
    archive.configure("named", publisher_did=template)
    roots = [archive.folder / name for name in ("disk1", "disk2")]
    for number, name in enumerate("ABCD"):
        add(archive, f"disk{number % 2 + 1}/night/{name}.fits", name)
    archive.ingest(*roots, collection="named")
    identifiers = set(archive.rows())
    (roots[0] / "night" / "A.fits").rename(roots[1] / "night" / "A.fits")
    report = archive.ingest(*roots, collection="named")
    assert (report.moved, report.added, report.removed, report.unchanged) == (1, 0, 0, 3)
    assert set(archive.rows()) == identifiers
    # So it is where only the new place is looked at, and where a whole root moves.
    (roots[0] / "night" / "C.fits").rename(roots[1] / "night" / "C.fits")
    assert archive.ingest(roots[1], collection="named").moved == 1
    roots[1].rename(archive.folder / "disk3")
    report = archive.ingest(archive.folder / "disk3", collection="named")
    assert (report.moved, report.added, report.failed) == (4, 0, [])
    assert set(archive.rows()) == identifiers


def test_a_copy_is_refused_by_name_and_the_original_stays(named: Archive) -> None:
    original = add(named, "b/original.fits", "A")
    named.ingest()
    for number, folder in enumerate(("a", "c")):  # walked before it or after it
        copy = named.folder / folder / "copy.fits"
        copy.parent.mkdir()
        shutil.copy2(original, copy) if number else shutil.copy(original, copy)
        report = named.ingest()
        reasons = dict(report.failed)
        assert "b/original.fits" in reasons[str(copy)]
        assert did("A") in reasons[str(copy)]
        assert (report.added, report.moved, report.removed, report.unchanged) == (0, 0, 0, 1)
    # Not even where the original was touched, and is read again itself.
    os.utime(original, (1, 1))
    report = named.ingest()
    assert (report.changed, report.moved, report.failures) == (1, 0, 2)
    assert paths(named) == {"A": "b/original.fits"}
    # When it is gone, one of the copies takes its place, and only one.
    original.unlink()
    report = named.ingest()
    assert (report.moved, report.failures) == (1, 1)
    assert set(paths(named)) == {"A"}


def test_the_folder_of_a_copy_is_no_root(archive: Archive) -> None:
    """Or it would decide about identifiers and collections for ever after."""
    archive.configure("named", publisher_did="{OBSID}")
    original = add(archive, "one/original.fits", "A")
    archive.ingest(original.parent, collection="named")
    copy = archive.folder / "two" / "copy.fits"
    copy.parent.mkdir()
    shutil.copy(original, copy)
    report = archive.ingest(copy.parent, collection="named")
    assert (report.added, report.failures) == (0, 1)
    (row,) = archive.store.collection_rows()
    assert row.roots == (str(original.parent),)
    add(archive, "two/another.fits", "B")
    assert archive.ingest(copy.parent, collection="named").added == 1
    (row,) = archive.store.collection_rows()
    assert row.roots == (str(original.parent), str(copy.parent))


def test_files_that_change_places_do_so_in_one_run(named: Archive) -> None:
    one, other = add(named, "a.fits", "A"), add(named, "b.fits", "B")
    third = [add(named, f"ring/{name}.fits", f"R{name}") for name in "123"]
    named.ingest()
    swap(one, other)
    swap(third[0], third[1])
    swap(third[1], third[2])
    report = named.ingest()
    assert report.failed == []
    assert (report.added, report.removed, report.unchanged) == (0, 0, 0)
    assert report.moved + report.changed == 5
    assert paths(named) == {
        "A": "b.fits", "B": "a.fits",
        "R2": "ring/1.fits", "R3": "ring/2.fits", "R1": "ring/3.fits",
    }  # fmt: skip
    again = named.ingest()
    assert (again.unchanged, again.changed, again.moved) == (5, 0, 0)


def test_names_that_move_up_by_one(named: Archive) -> None:
    files = [add(named, f"n{number}.fits", f"D{number}") for number in range(8)]
    named.ingest()
    for number in reversed(range(8)):
        files[number].rename(named.folder / f"n{number + 1}.fits")
    report = named.ingest()
    assert report.failed == []
    assert paths(named) == {f"D{number}": f"n{number + 1}.fits" for number in range(8)}
    assert (report.added, report.removed) == (0, 0)


def test_many_files_that_change_places(named: Archive) -> None:
    files = [add(named, f"n{number}.fits", f"D{number}") for number in range(20)]
    named.ingest()
    for one, other in zip(files[::2], files[1::2], strict=True):
        swap(one, other)
    report = named.ingest()
    assert report.failed == []
    assert paths(named) == {f"D{number}": f"n{number ^ 1}.fits" for number in range(20)}


def test_an_old_place_that_cannot_be_looked_at_is_not_empty(
    named: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = add(named, "shut/a.fits", "A")
    named.ingest()
    shutil.copy(original, named.folder / "copy.fits")
    stat = Path.stat

    def refusing(path: Path, **options: bool) -> os.stat_result:
        if path == original:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refusing)
    report = named.ingest(named.folder / "copy.fits")
    assert (report.moved, report.failures) == (0, 1)
    stored = named.store.get(did("A"))
    assert stored is not None
    assert stored.url == str(original)


@pytest.mark.parametrize(
    ("after", "seconds"), [(1, 3600.0), (3, 0.0), (5, 3600.0), (7, 0.0), (9, 0.0), (9, 3600.0)]
)
def test_who_stops_an_ingest_gives_no_identifier_to_a_copy(
    named: Archive, monkeypatch: pytest.MonkeyPatch, after: int, seconds: float
) -> None:
    """Whatever has been read by then, and however much of that has been written."""
    originals = [add(named, name, name[0].upper()) for name in ("a.fits", "y.fits")]
    pair = [add(named, name, name[0].upper()) for name in ("b.fits", "c.fits")]
    named.ingest()
    right = {"A": "a.fits", "B": "c.fits", "C": "b.fits", "Y": "y.fits"}
    for path in originals:
        add(named, path.name, path.stem.upper(), 1)
    copies = [add(named, name, name[-6].upper(), 2) for name in ("copy_a.fits", "copy_y.fits")]
    swap(*pair)

    handed_over = count(1)
    index = Crew.index

    def interrupted(self: Crew, tasks: Iterator[IndexTask]) -> object:
        for outcome in index(self, tasks):
            yield outcome
            if outcome is not None and next(handed_over) == after:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Crew, "index", interrupted)
        patch.setattr(batches, "_BATCH_SECONDS", seconds)
        with pytest.raises(IngestInterrupted) as stopped:
            named.ingest(copies[0], originals[0], *pair, copies[1], originals[1])
    stored = [named.store.get(did(name)) for name in right]
    held = {one.url: one.version for one in stored if one is not None}
    assert len(held) == 4
    assert not held.keys() & {str(copy) for copy in copies}
    # What was told lasts, and nothing else does.
    current = [url for url, version in held.items() if version == version_of(Path(url))]
    assert stopped.value.report.changed + stopped.value.report.moved == len(current)
    report = named.ingest()
    assert {path for path, _ in report.failed} == {str(copy) for copy in copies}
    assert paths(named) == right


def test_a_copy_gains_nothing_where_the_original_was_not_asked_for(named: Archive) -> None:
    original = add(named, "old/a.fits", "A")
    named.ingest()
    add(named, "old/a.fits", "A", 1)
    copy = add(named, "new/copy.fits", "A", 2)
    for _ in range(2):
        report = named.ingest(copy.parent)
        ((path, reason),) = report.failed
        assert path == str(copy)
        assert str(original) in reason
        assert report.moved == 0
        assert paths(named) == {"A": "old/a.fits"}
    assert named.ingest(original.parent).unchanged == 1  # it has been read
    # Its place taken by another dataset, it is the original no more.
    add(named, "old/a.fits", "B")
    report = named.ingest(copy.parent)
    assert report.failed == []
    assert paths(named) == {"A": "new/copy.fits", "B": "old/a.fits"}


def test_files_that_change_places_do_so_where_one_is_asked_for(named: Archive) -> None:
    ring = [add(named, f"{name}/{name}.fits", name) for name in "ABC"]
    named.ingest()
    swap(ring[0], ring[1])
    swap(ring[1], ring[2])
    report = named.ingest(ring[0])
    assert report.failed == []
    assert (report.added, report.removed) == (0, 0)
    assert paths(named) == {"B": "A/A.fits", "C": "B/B.fits", "A": "C/C.fits"}
    assert named.ingest().unchanged == 3


def test_only_what_moved_is_read(named: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [add(named, f"f{number}/{number}.fits", f"D{number}") for number in range(12)]
    named.ingest()
    read: list[str] = []
    files[5].rename(named.folder / "elsewhere.fits")
    index = Crew.index

    def counted(self: Crew, tasks: Iterator[object]) -> object:
        def seen() -> Iterator[object]:
            for task in tasks:
                read.append(task.path)  # type: ignore[attr-defined] # handed on as it came
                yield task

        return index(self, seen())  # type: ignore[arg-type] # handed on as it came

    monkeypatch.setattr(Crew, "index", counted)
    assert named.ingest().moved == 1
    assert [Path(path).name for path in read] == ["elsewhere.fits"]


def test_links_between_datasets_follow_a_move(archive: Archive) -> None:
    archive.configure(
        "named",
        root="archive",
        publisher_did="{OBSID}",
        keywords={"target_name": ["OBSID"]},
        constants={"target_name": "one"},
        links=[{"semantics": "#progenitor", "collection": "named", "on": "target_name"}],
    )
    moved = add(archive, "a.fits", "A")
    add(archive, "b.fits", "B")
    archive.ingest()
    moved.rename(archive.folder / "c.fits")
    archive.ingest()
    for one, other in (("A", "B"), ("B", "A")):
        dataset = archive.store.get(did(one))
        assert dataset is not None
        (relation,) = archive.store.related(dataset).found
        assert relation.publisher_did == did(other)


# ------------------------------------------------------------ while the service answers


def test_a_resolver_finds_what_the_catalog_knows_to_have_moved(
    named: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver_module, "time", StandingTime())  # no other look will be due
    path = add(named, "a.fits", "A")
    named.ingest()
    resolver = Resolver(named.store, named.settings)
    before = resolver.resolve(did("A"))
    path.rename(named.folder / "b.fits")
    named.ingest()
    after = resolver.resolve(did("A"))
    assert after.url != before.url
    assert after.publisher_did == before.publisher_did


def test_a_place_taken_by_another_dataset_is_read_once(
    named: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = add(named, "a.fits", "A"), add(named, "b.fits", "B")
    named.ingest()
    resolver = Resolver(named.store, named.settings)
    clock = StandingTime()
    monkeypatch.setattr(resolver_module, "time", clock)
    for name in "AB":
        resolver.resolve(did(name))
    swap(one, other)
    reads = 0
    reindexed = reindex.Reindexer.reindexed

    def counted(self: reindex.Reindexer, dataset: object) -> object:
        nonlocal reads
        reads += 1
        return reindexed(self, dataset)  # type: ignore[arg-type] # handed on as it came

    monkeypatch.setattr(reindex.Reindexer, "reindexed", counted)
    for _ in range(3):
        for name in "AB":
            with pytest.raises(UnknownDatasetError, match="another dataset"):
                resolver.resolve(did(name))
    assert reads == 2
    named.ingest()
    clock.now += resolver_module._CATALOG_SECONDS + 0.1
    assert resolver.resolve(did("A")).url == str(other)
    assert resolver.resolve(did("B")).url == str(one)
    resolver.close()


@pytest.fixture(name="live")
def _live(named: Archive) -> Iterator[LiveService]:
    with running(create_app(named.settings)) as service:
        yield service


def test_no_request_gets_the_pixels_of_another(named: Archive, live: LiveService) -> None:
    """Two datasets change places again and again while clients ask for both."""
    one, other = add(named, "a.fits", "A", 1), add(named, "b.fits", "B", 2)
    named.ingest()
    stop = threading.Event()
    wrong: list[str] = []
    statuses: set[int] = set()
    served = {"A": 0, "B": 0}

    def ask(name: str, value: int) -> None:
        with httpx2.Client(timeout=60, trust_env=False) as client:
            while not stop.is_set():
                answer = client.get(live.url("/soda/sync", ID=did(name), CIRCLE=CIRCLE))
                statuses.add(answer.status_code)
                if answer.status_code == 200:
                    served[name] += 1
                    pixels = fits.getdata(io.BytesIO(answer.content))
                    if not (pixels == value).all():
                        wrong.append(name)
                elif not answer.text.startswith(("UsageError", "ServiceUnavailable")):
                    wrong.append(answer.text)

    clients = [threading.Thread(target=ask, args=pair) for pair in (("A", 1), ("B", 2))]
    for client in clients:
        client.start()
    for _ in range(4):
        swap(one, other)
        time.sleep(0.3)
        named.ingest()
        time.sleep(0.8)
    # And once the catalog knows, both are served again.
    seen = dict(served)
    end = time.monotonic() + 60
    while not all(served[name] > seen[name] for name in "AB") and time.monotonic() < end:
        time.sleep(0.02)
    stop.set()
    for client in clients:
        client.join(60)
    assert wrong == []
    assert statuses <= {200, 404, 503}
    assert all(served[name] > seen[name] for name in "AB")


def test_a_move_as_a_client_sees_it(named: Archive, live: LiveService) -> None:
    path = add(named, "old/a.fits", "A", 7)
    add(named, "old/b.fits", "B", 8)
    named.ingest()
    first = live.get("/soda/sync", ID=did("A"), CIRCLE=CIRCLE)
    whole = live.get("/files/named/A")
    assert first.status_code == 200
    (named.folder / "new").mkdir()
    path.rename(named.folder / "new" / "c.fits")
    gone = live.get("/soda/sync", ID=did("A"), CIRCLE=CIRCLE)
    assert gone.status_code == 404
    assert gone.headers["content-type"].startswith("text/plain")
    assert gone.text.startswith("UsageError: ")
    assert str(named.folder) not in gone.text
    links = live.get("/datalink/links", ID=did("A")).text
    assert "NotFoundFault" in links
    add(named, "old/a.fits", "C", 9)  # another dataset takes its place
    named.ingest()
    time.sleep(0.6)
    again = live.get("/soda/sync", ID=did("A"), CIRCLE=CIRCLE)
    assert again.status_code == 200
    assert again.content == first.content
    assert again.headers["etag"] == first.headers["etag"]
    moved = live.get("/files/named/A")
    assert moved.content == whole.content
    assert moved.headers["etag"] == whole.headers["etag"]
    etag = first.headers["etag"]
    unmodified = live.get("/soda/sync", {"If-None-Match": etag}, ID=did("A"), CIRCLE=CIRCLE)
    assert unmodified.status_code == 304
    assert "NotFoundFault" not in live.get("/datalink/links", ID=did("A")).text
