"""What the catalog holds of which file: written, refused, moved, and removed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from support.catalogs import (
    cube,
    found,
    hostile,
    make_dataset,
    make_settings,
    make_store,
    unplaced,
    visit,
)

from soda_service.catalog.rows import rows_of
from soda_service.catalog.writing import Refused, Written
from soda_service.geometry.shapes import Range

if TYPE_CHECKING:
    from pathlib import Path

    from soda_service.catalog.store import CatalogStore
    from soda_service.storage.source import FileVersion


def test_writing_replaces_by_path_and_refuses_by_identifier(
    store: CatalogStore, tmp_path: Path
) -> None:
    original = visit()
    changed = replace(
        original, obscore=replace(original.obscore, target_name="new"), footprint=None
    )
    assert store.holdings.write([rows_of(changed, "")]) == [Written.CHANGED]
    assert store.get(original.publisher_did) == changed
    assert "visit-1" not in found(store, shapes=(Range(0.0, 360.0, -90.0, 90.0),))

    there = tmp_path / "there.fits"
    there.touch()
    standing = make_dataset("visits", "standing", url=str(there))
    rival = replace(
        standing,
        url="/elsewhere.fits",
        obscore=replace(standing.obscore, obs_publisher_did=standing.publisher_did.upper()),
    )
    assert store.holdings.write([rows_of(standing, "")]) == [Written.ADDED]
    (refused,) = store.holdings.write([rows_of(rival, "")])
    assert refused == Refused(
        path=str(there), publisher_did=standing.publisher_did, has_changed=True
    )
    there.unlink()
    assert store.holdings.write([rows_of(rival, "")]) == [Written.MOVED]
    moved = store.get(standing.publisher_did)
    assert moved is not None
    assert moved.url == "/elsewhere.fits"


def test_stores_are_asked_while_others_may_write(store: CatalogStore) -> None:
    """A look may take as long as a store takes to fail, and another process may have come first."""
    standing = make_dataset("visits", "standing", url="http://a.example/standing.fits")
    rival = replace(standing, url="http://a.example/moved.fits")
    version = standing.version
    store.holdings.write([rows_of(standing, "")])
    asked: list[str] = []

    def look(url: str) -> FileVersion | None:
        asked.append(url)
        if len(asked) == 1:  # it moves before the answer comes
            between = replace(standing, url="http://a.example/between.fits")
            assert store.holdings.write([rows_of(between, "")], look=lambda _: None) == [
                Written.MOVED
            ]
        return version if url == "http://a.example/between.fits" else None

    (refused,) = store.holdings.write([rows_of(rival, "")], look=look)
    assert refused == Refused(
        path="http://a.example/between.fits",
        publisher_did=standing.publisher_did,
        has_changed=False,
    )
    assert asked == ["http://a.example/standing.fits", "http://a.example/between.fits"]


def test_two_files_of_one_identifier_written_at_once(store: CatalogStore, tmp_path: Path) -> None:
    """The first has been read a moment ago, so it is there, and the other is a copy."""
    first, copy = (
        make_dataset("visits", "twice", url=str(tmp_path / name)) for name in ("a.fits", "b.fits")
    )
    added, refused = store.holdings.write([rows_of(first, ""), rows_of(copy, "")])
    assert added == Written.ADDED
    assert refused == Refused(path=first.url, publisher_did=first.publisher_did, has_changed=False)


def test_removal_leaves_nothing_behind(store: CatalogStore) -> None:
    for dataset in (visit(), cube(), unplaced(), hostile()):
        assert store.holdings.remove(dataset.url) == 1
    assert store.holdings.remove(visit().url) == 0
    with store._database.reading() as connection:
        for table in ("dataset", "hdu", "piece", "piece_box"):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 0
    assert store.collections() == ()


def test_unseen_rows_below_a_folder_are_removed(tmp_path: Path) -> None:
    urls = ["/a/x.fits", "/a/b/x.fits", "/a/b_/x.fits", "/a0/x.fits", "/a/%/x.fits", "/ab/x.fits"]
    datasets = [make_dataset("c", f"n{at}", url=url) for at, url in enumerate(urls)]
    store = make_store(make_settings(tmp_path), *datasets)
    scan = store.holdings.begin_scan()
    seen = store.holdings.versions(["/a/x.fits"])["/a/x.fits"]
    store.holdings.mark_seen([seen.row_id], scan)
    assert store.holdings.remove_unseen("/a", scan, unread=["/a/b"]) == 2
    assert set(found(store)) == {"n0", "n1", "n3", "n5"}
    assert store.holdings.remove_unseen("/a", scan) == 1
    store.holdings.mark_seen([seen[0]], scan - 1)  # an older ingest that is still at work
    assert store.holdings.remove_unseen("/", scan) == 2
    assert found(store) == ["n0"]
    store.close()
