"""What the catalog gives back, and what meets a query."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import tracemalloc
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from math import inf
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st
from sqlalchemy import event
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
from support.leaping import StandingTime
from support.turn import until

from soda_service.app import _following_services
from soda_service.catalog import catalogfile, database, openfile
from soda_service.catalog.dataset import Relations
from soda_service.catalog.presence import file_at
from soda_service.catalog.query import ACCESS_FORMAT, CatalogQuery, fold
from soda_service.catalog.rows import rows_of
from soda_service.catalog.store import CatalogStore
from soda_service.config import CollectionConfig, LinkRule
from soda_service.errors import ConfigurationError, SourceUnavailableError
from soda_service.geometry.shapes import Interval, Range
from soda_service.web.services import Services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from soda_service.catalog.dataset import Dataset
    from soda_service.config import Settings

EVERYTHING = CatalogQuery()

_LONG = 1000.0
"""Seconds that a test does not last: between two looks of a thread that it does not want, say."""


@pytest.mark.parametrize("make", [visit, cube, unplaced])
def test_what_was_written_is_read(store: CatalogStore, make: object) -> None:
    assert callable(make)
    dataset: Dataset = make()
    for identifier in (dataset.publisher_did, dataset.publisher_did.upper()):
        assert store.get(identifier) == dataset


def test_unknown_identifiers(store: CatalogStore) -> None:
    known = visit().publisher_did
    for identifier in (
        "",
        "x",
        known + " ",
        known[:-1],
        known.replace("s", "\u017f"),
        "\x00",
        "é" * 9,
    ):
        assert store.get(identifier) is None
    assert fold("\u0130VO://K") == "\u0130VO://K"


def test_values_match_as_sia_says(store: CatalogStore) -> None:
    everything = found(store)
    assert everything == ["visit-1", "cube-1", "unplaced", found(store)[3]]
    assert found(store, collections=("visits",)) == ["visit-1"]
    assert found(store, collections=("Visits",)) == []
    assert found(store, collections=("visits", "cubes", "none")) == ["visit-1", "cube-1"]
    assert found(store, dptypes=("cube",)) == ["cube-1"]
    assert found(store, dptypes=("spectrum",)) == []
    store.holdings.write([rows_of(visit("subtype", dataproduct_subtype="lsst.visit_image"), "")])
    assert found(store, dpsubtypes=("lsst.visit_image", "lsst.other")) == ["subtype"]
    assert found(store, dpsubtypes=("LSST.visit_image",)) == []
    store.holdings.remove(visit("subtype").url)
    assert found(store, calibs=(2,))[:2] == ["visit-1", "cube-1"]
    assert found(store, calibs=(0, 4)) == []
    assert found(store, targets=("NGC 1",))[:2] == ["visit-1", "cube-1"]
    assert found(store, targets=("ngc 1",)) == []
    assert found(store, targets=("\ud800",), ids=("\ud800",)) == []
    assert found(store, targets=("\ud800", "NGC 1"))[:2] == ["visit-1", "cube-1"]
    assert found(store, facilities=("Erewhon Observatory",), dptypes=("cube",)) == ["cube-1"]
    assert found(store, instruments=("Erewhon%",)) == []
    assert found(store, ids=(visit().publisher_did.upper(), "ivo://none/such?x")) == ["visit-1"]
    assert found(store, formats=(ACCESS_FORMAT,)) == everything
    spaced = "application/x-votable+xml ; content=datalink"
    assert found(store, formats=("application/fits", spaced)) == everything
    assert found(store, formats=("application/fits",)) == []


def test_polarization_states_match_whole(store: CatalogStore) -> None:
    assert found(store, pols=("Q",)) == ["cube-1"]
    assert found(store, pols=("V", "I")) == ["cube-1"]
    assert "cube-1" not in found(store, pols=("V",))
    dataset = make_dataset("cubes", "circular", pol_states="/XX/XY/")
    store.holdings.write([rows_of(dataset, "")])
    assert found(store, pols=("Y",)) == []
    assert found(store, pols=("XY",)) == ["circular"]


def test_nulls_never_match_what_constrains_them(store: CatalogStore) -> None:
    anything = (Interval(-inf, inf),)
    for name in ("bands", "times", "fov", "spatres", "specrp", "exptime", "timeres"):
        assert "unplaced" not in found(store, **{name: anything}), name
    whole_sky = (Range(0.0, 360.0, -90.0, 90.0),)
    assert "unplaced" not in found(store, shapes=whole_sky)
    assert found(store, shapes=whole_sky)[:2] == ["visit-1", "cube-1"]


INTERVALS = st.builds(
    lambda a, b: Interval(min(a, b), max(a, b)),
    st.sampled_from([-inf, inf, 0.0, 1.0, 2.0, 3.0, 4.0, 1e308]),
    st.sampled_from([-inf, inf, 0.0, 1.0, 2.0, 3.0, 4.0, 5e-324]),
)


class Spread:
    """A catalog and what was put into it; not a dataclass, whose repr hypothesis would write."""

    def __init__(self, store: CatalogStore, datasets: list[Dataset]) -> None:
        self.store = store
        self.datasets = datasets


@given(times=st.lists(INTERVALS, max_size=4), fov=st.lists(INTERVALS, max_size=4))
@hypothesis_settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_intervals_are_closed_and_alternatives(
    spread: Spread, times: list[Interval], fov: list[Interval]
) -> None:
    store, datasets = spread.store, spread.datasets
    expected = [
        one.obscore.obs_id
        for one in datasets
        if (not times or any(_meets(one, interval) for interval in times))
        and (not fov or any(_holds(interval, one.obscore.s_fov) for interval in fov))
    ]
    assert found(store, times=tuple(times), fov=tuple(fov)) == expected


def _meets(one: Dataset, interval: Interval) -> bool:
    low, high = one.obscore.t_min, one.obscore.t_max
    if low is None or high is None:
        return False
    return interval.lower <= high and low <= interval.upper


def _holds(interval: Interval, number: float | None) -> bool:
    return number is not None and interval.lower <= number <= interval.upper


@pytest.fixture(scope="module")
def spread(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Spread]:
    """Datasets at small whole numbers of everything, some null."""
    numbers = (None, 0.0, 1.0, 2.0, 3.0, 4.0)
    datasets = [
        make_dataset("c", f"{low}-{high}-{fov}", t_min=low, t_max=high, s_fov=fov)
        for low in numbers
        for high in numbers
        if low is None or high is None or low <= high
        for fov in (None, 1.0, 2.5)
    ]
    store = make_store(make_settings(tmp_path_factory.mktemp("spread")), *datasets)
    yield Spread(store, datasets)
    store.close()


def test_thousands_of_values_are_one_query(store: CatalogStore) -> None:
    many = tuple(Interval(number + 0.1, number + 0.2) for number in range(50_000))
    assert found(store, times=(*many, Interval(60623.25))) == ["visit-1", *found(store)[3:]]
    targets = tuple(f"NGC {number}" for number in range(50_000))
    assert found(store, targets=targets)[:2] == ["visit-1", "cube-1"]


def test_limit_and_order(tmp_path: Path) -> None:
    datasets = [make_dataset("c", f"n{number:04}") for number in range(1200)]
    store = make_store(make_settings(tmp_path), *datasets)
    whole_sky = CatalogQuery(shapes=(Range(0.0, 360.0, -90.0, 90.0),))
    for query in (EVERYTHING, whole_sky):
        for limit in (0, 1, 499, 500, 501, 1200, 5000):
            rows = [row.obs_id for row in store.find(query, limit)]
            assert rows == [f"n{number:04}" for number in range(min(limit, 1200))]
    store.close()


def test_rows_stream(tmp_path: Path) -> None:
    """Few rows are in memory at a time, however many are found."""
    datasets = [make_dataset("c", f"n{number:05}", obs_title="x" * 4000) for number in range(3000)]
    store = make_store(make_settings(tmp_path), *datasets)
    del datasets
    tracemalloc.start()
    try:
        count = sum(1 for _ in store.find(EVERYTHING, 10_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 3000
    assert peak < 6_500_000  # the rows themselves are above 12 MB
    store.close()


def test_an_answer_may_wander_between_threads(store: CatalogStore) -> None:
    rows = store.find(EVERYTHING, 10)
    seen = [next(rows).obs_id]
    thread = threading.Thread(target=lambda: seen.extend(row.obs_id for row in rows))
    thread.start()
    thread.join()
    assert seen == found(store)
    abandoned = store.find(EVERYTHING, 10)
    next(abandoned)
    del abandoned  # lets go of the catalog


def test_relations_follow_the_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CatalogStore(make_settings(tmp_path))
    rules = (
        LinkRule(semantics="#derivation", collection="DIFFS", on=("obs_id",), description="d"),
        LinkRule(semantics="#coderived", collection="visits", on=("lsst_band", "target_name")),
        LinkRule(semantics="#progenitor", collection="nothing there"),
    )
    store.holdings.save_collection("visits", "/", CollectionConfig(links=rules))
    store.holdings.save_collection("diffs", "/", CollectionConfig())
    visits = [make_dataset("visits", f"v{number}") for number in range(150)]
    other_band = make_dataset("visits", "other", lsst_band="r")
    no_band = make_dataset("visits", "bandless", lsst_band=None)
    another = make_dataset("visits", "bandless-2", lsst_band=None)
    diff = make_dataset("diffs", "v7", obs_title="of v7")
    store.holdings.write(
        [rows_of(one, "") for one in (*visits, other_band, no_band, another, diff)]
    )
    told = store.related(visits[7])
    relations = told.found
    assert told.is_complete
    assert [(one.semantics, one.publisher_did, one.description) for one in relations[:2]] == [
        ("#derivation", diff.publisher_did, "d"),
        ("#coderived", visits[0].publisher_did, "A field"),
    ]
    dids = [one.publisher_did for one in relations]
    assert len(relations) == 1 + 149
    assert visits[7].publisher_did not in dids
    assert store.related(other_band) == Relations()
    assert store.related(no_band) == Relations()  # nulls agree with nothing
    assert store.related(diff) == Relations()
    for limit, is_complete in ((149, True), (148, False)):
        monkeypatch.setattr("soda_service.catalog.store._RELATED_LIMIT", limit)
        told = store.related(visits[7])
        assert (len(told.found), told.is_complete) == (1 + limit, is_complete)
    store.close()


def test_summaries(store: CatalogStore) -> None:
    summaries = {one.name: one for one in store.collections()}
    assert list(summaries) == ["cubes", "hostile", "surveys", "visits"]
    assert summaries["visits"].title == "visits"
    assert summaries["visits"].count == 1
    assert summaries["visits"].examples == (visit().obscore,)
    assert unplaced().collection == "surveys"
    assert summaries["surveys"].examples == ()


def test_a_collection_is_shown_by_a_few_of_its_datasets(store: CatalogStore) -> None:
    """Those with a place on the sky, by obs_id."""
    numbered = [make_dataset("visits", f"v{number}") for number in (7, 3, 5, 1, 9, 2)]
    nowhere = replace(numbered[0].obscore, s_ra=None, s_dec=None)
    unplaced_one = replace(numbered[0], obscore=nowhere)
    store.holdings.write([rows_of(one, "") for one in (unplaced_one, *numbered[1:])])
    (visits,) = [one for one in store.collections() if one.name == "visits"]
    assert [one.obs_id for one in visits.examples] == ["v1", "v2", "v3", "v5"]
    assert visits.count == 7


def test_summaries_and_counts_are_not_made_at_every_call(
    store: CatalogStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soda_service.catalog.store._SUMMARY_SECONDS", _LONG)
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(store._database._file.engine, "before_cursor_execute", note)
    first = store.collections()
    assert store.count() == sum(one.count for one in first)
    asked = len(statements)
    assert asked > 0
    for _ in range(5):
        assert store.collections() is first
        store.count()
    assert len(statements) == asked
    other = CatalogStore(make_settings(tmp_path))
    other.holdings.write([rows_of(visit("others"), "")])
    other.close()
    assert store.collections() is first  # a few seconds old, on purpose
    assert store.count() == sum(one.count for one in first) + 1
    monkeypatch.setattr("soda_service.catalog.store._SUMMARY_SECONDS", 0.0)
    assert sum(one.count for one in store.collections()) == store.count()


def test_distinct_values(store: CatalogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soda_service.catalog.store._DISTINCT_SECONDS", _LONG)
    assert store.distinct("obs_collection") == ("cubes", "hostile", "surveys", "visits")
    assert store.distinct("calib_level") == ("2",)
    store.holdings.write([rows_of(visit("another", calib_level=4), "")])
    assert store.distinct("calib_level") == ("2",)  # a few seconds old, on purpose
    monkeypatch.setattr("soda_service.catalog.store._DISTINCT_SECONDS", 0.0)
    assert store.distinct("calib_level") == ("2", "4")


def test_data_version_changes_with_every_writer(store: CatalogStore, tmp_path: Path) -> None:
    first = store.data_version()
    assert store.data_version() == first
    store.holdings.write([rows_of(visit("own"), "")])
    second = store.data_version()
    assert second != first
    other = CatalogStore(make_settings(tmp_path))
    other.holdings.write([rows_of(visit("others"), "")])
    other.close()
    assert store.data_version() != second


def test_identifiers_are_all_there(store: CatalogStore) -> None:
    assert list(store.identifiers()) == [
        one.publisher_did for one in (visit(), cube(), unplaced(), hostile())
    ]
    assert store.count() == 4


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CatalogStore]:
    """A catalog that is gone over from when another is in its place and `fault` is asked."""
    monkeypatch.setattr(database, "_LOOK_SECONDS", _LONG)
    monkeypatch.setattr(database, "_TOLD_SECONDS", 0.0)
    store = make_store(make_settings(tmp_path), visit("one"), visit("two"))
    store.follow()
    yield store
    store.close()


def _put_another(folder: Path, *datasets: Dataset) -> None:
    """A catalog of *datasets*, made elsewhere, in the place of that of *folder*."""
    (folder / "other").mkdir()
    make_store(make_settings(folder / "other"), *datasets).close()
    for end in ("-wal", "-shm"):
        (folder / f"catalog.sqlite{end}").unlink(missing_ok=True)
    (folder / "other" / "catalog.sqlite").replace(folder / "catalog.sqlite")


def test_another_catalog_in_its_place_is_read(followed: CatalogStore, tmp_path: Path) -> None:
    """What is on its way comes whole from the first; nothing of one is taken for the other's."""
    first = followed.data_version(), followed.get_stored(visit("one").publisher_did)
    assert followed.distinct("calib_level") == ("2",)
    rows = followed.find_rows(EVERYTHING, 10, ["obs_id"])
    pieces = iter(rows)
    begun = list(next(pieces))
    _put_another(tmp_path, visit("one", obs_title="another one", calib_level=3), visit("three"))
    assert followed.fault() is None
    assert followed.count() == 2
    assert followed.data_version() != first[0]
    again = followed.get_stored(visit("one").publisher_did)
    assert first[1] is not None
    assert again is not None
    assert again.dataset.obscore.obs_title == "another one"
    assert again.revision != first[1].revision
    assert followed.revision_of(visit("one").publisher_did) == again.revision
    assert followed.get(visit("two").publisher_did) is None
    assert followed.get(visit("three").publisher_did) is not None
    assert followed.fault() is None
    begun += [row for piece in pieces for row in piece]
    assert begun == [("one",), ("two",)]
    followed.holdings.write([rows_of(visit("four"), "")])
    assert followed.count() == 3


def test_a_catalog_that_is_gone_is_read_on(
    followed: CatalogStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is made in its place, and what is put there is served only if it is a catalog."""
    path, aside = tmp_path / "catalog.sqlite", tmp_path / "aside"
    followed.count()
    path.rename(aside)
    assert "is gone" in str(followed.fault())
    with pytest.raises(SourceUnavailableError, match="is gone"):
        followed.holdings.write([rows_of(visit("three"), "")])
    assert followed.get(visit("one").publisher_did) is not None
    assert followed.count() == 2
    with ExitStack() as reading, pytest.raises(SourceUnavailableError, match="is gone"):
        _ = [reading.enter_context(followed._database.reading()) for _ in range(20)]
    assert not path.exists()
    path.touch()
    assert "cannot be used so far" in str(followed.fault())
    assert followed.count() == 2
    followed.get(visit("one").publisher_did)
    (line,) = (one.getMessage() for one in caplog.records)
    assert line.startswith(f"the catalog {path} has been replaced by a file that is none")
    path.unlink()
    aside.rename(path)
    assert followed.fault() is None
    followed.holdings.write([rows_of(visit("three"), "")])
    assert followed.count() == 3


def test_what_cannot_be_read_in_the_place_of_a_catalog(
    followed: CatalogStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing beside it is in the way, and none of that is touched."""
    (tmp_path / "catalog.sqlite").rename(tmp_path / "kept.sqlite")
    (tmp_path / "catalog.sqlite").mkdir()
    assert "cannot be used so far" in str(followed.fault())
    (line,) = (one.getMessage() for one in caplog.records)
    assert "cannot be read: Is a directory; the one before is served" in line
    (tmp_path / "catalog.sqlite").rmdir()
    (tmp_path / "kept.sqlite").rename(tmp_path / "catalog.sqlite")
    assert followed.fault() is None
    followed.holdings.write([rows_of(visit("three"), "")])
    assert followed.count() == 3


@pytest.mark.parametrize("is_linked", [False, True])
def test_what_is_left_of_one_catalog_is_not_read_into_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_linked: bool
) -> None:
    """SQLite would take the last changes of the first, in its `-wal`, for those of the other.

    Whoever has moved the first one away has it with those changes.
    """
    monkeypatch.setattr(database, "_LOOK_SECONDS", _LONG)
    settings = make_settings(tmp_path)
    path = tmp_path / "catalog.sqlite"
    if is_linked:
        (tmp_path / "elsewhere").mkdir()
        path.symlink_to(tmp_path / "elsewhere" / "linked.sqlite")
    store = make_store(settings, visit("one"), visit("two"))
    store.holdings.write([rows_of(visit("three"), "")])
    (tmp_path / "other").mkdir()
    make_store(make_settings(tmp_path / "other"), visit("four")).close()
    path = path.resolve()
    assert path.with_name(f"{path.name}-wal").stat().st_size
    path.rename(tmp_path / "kept.sqlite")
    (tmp_path / "other" / "catalog.sqlite").replace(path)
    # None of them may ask the new file with what belongs to the old beside it.
    with ExitStack() as reading, pytest.raises(SourceUnavailableError, match="been replaced"):
        _ = [reading.enter_context(store._database.reading()) for _ in range(20)]
    store.follow()
    assert store.fault() is None
    assert list(store.identifiers()) == [visit("four").publisher_did]
    store.holdings.write([rows_of(visit("five"), "")])
    store.close()
    for file, names in (
        (path, ["four", "five"]),
        (tmp_path / "kept.sqlite", ["one", "two", "three"]),
    ):
        with closing(sqlite3.connect(file)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            found = connection.execute("SELECT did_folded FROM dataset ORDER BY id").fetchall()
        assert found == [(fold(visit(name).publisher_did),) for name in names]


def test_the_last_changes_of_a_catalog_that_was_moved_away_are_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By whoever makes another one: they are in what SQLite keeps beside the file."""
    settings = make_settings(tmp_path)
    before = make_store(settings, visit("one"))
    path, kept = tmp_path / "catalog.sqlite", tmp_path / "kept.sqlite"
    path.rename(kept)
    CatalogStore(settings).close()
    assert "catalog.sqlite-wal.before" in caplog.text
    (tmp_path / "catalog.sqlite-wal.before").rename(tmp_path / "kept.sqlite-wal")
    with closing(sqlite3.connect(kept)) as connection:
        found = connection.execute("SELECT did_folded FROM dataset").fetchall()
    assert found == [(fold(visit("one").publisher_did),)]
    before.close()


def _datasets(path: Path) -> list[str]:
    """The obs_ids in the file of a catalog, which is whole; by SQLite alone."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [row[0] for row in connection.execute("SELECT obs_id FROM dataset ORDER BY id")]


def _has(store: CatalogStore, *names: str) -> bool:
    """Whether its catalog has these visits; not where it is gone over to just now."""
    with suppress(SourceUnavailableError):
        return list(store.identifiers()) == [visit(name).publisher_did for name in names]
    return False


def _exchange(folder: Path, *names: str, version: str | None = None) -> None:
    """Move the catalog to `kept.sqlite`, and another one with *names* into its place.

    What is beside it stays where it is. The other one may be of an older *version*.
    """
    (folder / "other").mkdir()
    make_store(make_settings(folder / "other"), *map(visit, names)).close()
    if version is not None:
        with closing(sqlite3.connect(folder / "other" / "catalog.sqlite")) as connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", [version])
            connection.commit()
    (folder / "catalog.sqlite").rename(folder / "kept.sqlite")
    (folder / "other" / "catalog.sqlite").rename(folder / "catalog.sqlite")


def test_a_service_that_nobody_asks_lets_go_of_what_is_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next process to open the new catalog would read the old one's changes into it."""
    monkeypatch.setattr(database, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(database, "_CLOSE_SECONDS", 60.0)
    settings = make_settings(tmp_path)
    wal = tmp_path / "catalog.sqlite-wal"
    before = threading.enumerate()
    with closing(make_store(settings, visit("one"), visit("two"))) as store:
        store.follow()
        first = file_at(wal)
        with wal.open("rb"):  # so that no other file has its number
            _exchange(tmp_path, "three")
            until(lambda: file_at(wal) not in {None, first})
        # Which is made before all is done.
        until(lambda: _has(store, "three"))
    own = {one.name for one in threading.enumerate() if one not in before}
    assert "catalog-follower" not in own
    assert _datasets(tmp_path / "kept.sqlite") == ["one", "two"]
    assert _datasets(tmp_path / "catalog.sqlite") == ["three"]


@pytest.mark.parametrize("is_followed", [False, True])
@pytest.mark.parametrize("comes_first", [False, True])
def test_who_ends_leaves_nothing_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_followed: bool, comes_first: bool
) -> None:
    """Of a catalog that comes before the end, or after it."""
    monkeypatch.setattr(database, "_LOOK_SECONDS", _LONG)
    monkeypatch.setattr(database, "_CLOSE_SECONDS", 60.0)
    store = make_store(make_settings(tmp_path), visit("one"), visit("two"))
    if is_followed:
        store.follow()
    _exchange(tmp_path, "three")
    if not comes_first:
        (tmp_path / "catalog.sqlite").rename(tmp_path / "later.sqlite")
    store.close()
    if not comes_first:
        (tmp_path / "later.sqlite").rename(tmp_path / "catalog.sqlite")
    assert _datasets(tmp_path / "kept.sqlite") == ["one", "two"]
    assert _datasets(tmp_path / "catalog.sqlite") == ["three"]


def test_what_cannot_be_moved_into_a_catalog_that_was_moved_away_is_kept(
    followed: CatalogStore, tmp_path: Path
) -> None:
    """An answer on its way reads what is older."""
    pieces = followed.find_rows(EVERYTHING, 10, ["obs_id"])
    next(iter(pieces))
    followed.holdings.write([rows_of(visit("acknowledged"), "")])
    _exchange(tmp_path, "three")
    assert followed.fault() is None
    list(pieces)
    (tmp_path / "catalog.sqlite-wal.before").rename(tmp_path / "kept.sqlite-wal")
    assert _datasets(tmp_path / "kept.sqlite") == ["one", "two", "acknowledged"]


def test_what_was_last_written_to_a_catalog_that_was_removed_is_kept(
    followed: CatalogStore, tmp_path: Path
) -> None:
    """Whoever has copied it before, to another disk, has it without that."""
    shutil.copyfile(tmp_path / "catalog.sqlite", tmp_path / "copy.sqlite")
    _exchange(tmp_path, "three")
    (tmp_path / "kept.sqlite").unlink()
    assert followed.fault() is None
    assert followed.count() == 1
    (tmp_path / "catalog.sqlite-wal.before").rename(tmp_path / "copy.sqlite-wal")
    assert _datasets(tmp_path / "copy.sqlite") == ["one", "two"]


def test_what_was_kept_first_is_kept_beside_what_is_kept_next(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    path = tmp_path / "catalog.sqlite"
    stores = []
    for name in ("one", "two", "three"):
        stores.append(make_store(settings, visit(name)))
        path.rename(tmp_path / f"{name}.sqlite")
    make_store(settings, visit("four")).close()
    for name, end in (("one", ""), ("two", "2"), ("three", "3")):
        (tmp_path / f"catalog.sqlite-wal.before{end}").rename(tmp_path / f"{name}.sqlite-wal")
        assert _datasets(tmp_path / f"{name}.sqlite") == [name]
    assert _datasets(path) == ["four"]
    for store in stores:
        store.close()


_WRITES = """
import sys
from pathlib import Path
from support.catalogs import make_settings, visit
from soda_service.catalog.rows import rows_of
from soda_service.catalog.store import CatalogStore

store = CatalogStore(make_settings(Path(sys.argv[1])))
store.holdings.write([rows_of(visit("of another process"), "")])
print(store.count(), flush=True)
sys.stdin.read()
store.close()
"""


@pytest.mark.parametrize("version", [None, "0001"])
def test_a_catalog_that_comes_back_is_shared_with_others_again(
    followed: CatalogStore, tmp_path: Path, version: str | None
) -> None:
    """After one that was good, and after one of an older version, which is not gone over to.

    What was beside it has been taken away, so that others open what is new there.
    """
    path, kept = tmp_path / "catalog.sqlite", tmp_path / "kept.sqlite"
    _exchange(tmp_path, "three", version=version)
    assert (followed.fault() is None) == (version is None)
    path.rename(tmp_path / "other.sqlite")
    kept.rename(path)
    assert followed.fault() is None
    folders = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    with subprocess.Popen(
        [sys.executable, "-c", _WRITES, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": folders},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "3\n"
        assert followed.count() == 3
        followed.holdings.write([rows_of(visit("own"), "")])
        assert followed.fault() is None
        process.communicate("")
    followed.close()
    assert _datasets(path) == ["one", "two", "of another process", "own"]
    assert _datasets(tmp_path / "other.sqlite") == ["three"]


def test_a_catalog_that_comes_back_waits_for_answers_on_their_way(
    followed: CatalogStore, tmp_path: Path
) -> None:
    """They have open what was beside it, which others do not share; nothing is written to that."""
    pieces = followed.find_rows(EVERYTHING, 10, ["obs_id"])
    begun = list(next(iter(pieces)))
    _exchange(tmp_path, "three", version="0001")
    assert followed.fault() is not None
    (tmp_path / "catalog.sqlite").rename(tmp_path / "other.sqlite")
    (tmp_path / "kept.sqlite").rename(tmp_path / "catalog.sqlite")
    for _ in range(2):
        with pytest.raises(SourceUnavailableError):
            followed.holdings.write([rows_of(visit("four"), "")])
        assert "was away" in str(followed.fault())
    with pytest.raises(SourceUnavailableError):
        followed.data_version()
    assert begun + [row for piece in pieces for row in piece] == [("one",), ("two",)]
    assert followed.fault() is None
    followed.data_version()


def test_nothing_is_written_that_ends_after_the_catalog(tmp_path: Path) -> None:
    store = make_store(make_settings(tmp_path), visit("one"))

    def remove() -> None:
        with store._database.writing() as connection:
            connection.exec_driver_sql("DELETE FROM dataset")
            _exchange(tmp_path, "two")

    with pytest.raises(SourceUnavailableError):
        remove()
    with pytest.raises(SourceUnavailableError), store._database.writing():
        pytest.fail("is begun")
    assert store.count() == 1
    store.close()


def test_a_catalog_that_was_gone_over_from_is_let_go_of(
    followed: CatalogStore, tmp_path: Path
) -> None:
    """By the next look, or when the last answer out of it ends."""
    path = tmp_path / "catalog.sqlite"
    for name in ("three", "four"):
        identity = path.stat().st_ino
        pieces = followed.find_rows(EVERYTHING, 10, ["obs_id"])
        next(iter(pieces))
        _exchange(tmp_path, name)
        (tmp_path / "other").rmdir()
        for _ in range(3):
            assert followed.fault() is None
        list(pieces)
        assert identity not in _open_files()
        assert path.stat().st_ino in _open_files()


def _open_files() -> set[int]:
    found = set()
    for descriptor in os.listdir("/dev/fd"):  # noqa: PTH208 - numbers are wanted
        with suppress(OSError):
            found.add(os.fstat(int(descriptor)).st_ino)
    return found


def test_files_are_told_apart_where_sqlite_numbers_their_changes_alike(
    followed: CatalogStore, tmp_path: Path
) -> None:
    numbers = []
    for name in ("three", "four"):
        _exchange(tmp_path, name)
        (tmp_path / "other").rmdir()
        assert followed.fault() is None
        numbers.append(followed.data_version())
    assert numbers[0] % 2**32 == numbers[1] % 2**32
    assert numbers[0] != numbers[1]


def test_a_catalog_that_is_replaced_while_it_is_connected_to_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is open by then, and what is beside it may be the other one's."""
    store = make_store(make_settings(tmp_path), visit("one"))
    made: list[sqlite3.Connection] = []

    class Slow(sqlite3.Connection):
        def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
            if sql == "PRAGMA schema_version" and self is made[0]:
                monkeypatch.undo()
                _exchange(tmp_path, "two")
            return super().execute(sql, *rest)

    def slow(path: Path, **options: Any) -> sqlite3.Connection:
        made.append(sqlite3.connect(path, factory=Slow, **options))
        return made[-1]

    monkeypatch.setattr(openfile, "open_connection", slow)
    store._database._file.engine.dispose()
    with pytest.raises(SourceUnavailableError, match="just been replaced"):
        store.count()
    assert len(made) == 1
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        made[0].execute("SELECT 1")
    store.close()


def test_two_may_make_a_catalog_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes second leaves alone what he finds when it is his turn."""
    settings = make_settings(tmp_path)
    alone_in = catalogfile.alone_in
    quicker = []

    @contextmanager
    def late(folder: Path, *, patience: float) -> Iterator[None]:
        monkeypatch.setattr(catalogfile, "alone_in", alone_in)
        quicker.append(make_store(settings, visit("one")))
        with alone_in(folder, patience=patience):
            yield

    monkeypatch.setattr(catalogfile, "alone_in", late)
    with closing(CatalogStore(settings)) as store:
        assert store.count() == 1
    quicker[0].close()
    assert _datasets(tmp_path / "catalog.sqlite") == ["one"]


def test_a_worker_makes_no_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where it goes at that very moment."""
    settings = make_settings(tmp_path)
    make_store(settings, visit("one")).close()
    path = tmp_path / "catalog.sqlite"
    services_of = Services.of

    def of(settings: Settings, **options: bool) -> Services:
        path.unlink()
        return services_of(settings, **options)

    monkeypatch.setattr(Services, "of", of)
    with pytest.raises(ConfigurationError, match="there is no catalog"):
        _following_services(settings)
    assert not path.exists()


def test_a_folder_that_is_locked_keeps_nobody_waiting(
    followed: CatalogStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is beside another catalog cannot be taken away meanwhile, but will be."""

    def sleep(_seconds: float) -> None:
        pytest.fail("waits")

    _exchange(tmp_path, "three")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with monkeypatch.context() as patch:
            patch.setattr(catalogfile, "time", SimpleNamespace(monotonic=monotonic, sleep=sleep))
            assert followed.fault() is not None
        assert followed.count() == 2
    finally:
        os.close(descriptor)
    (line,) = (one.getMessage() for one in caplog.records)
    assert "another program holds the folder locked" in line
    assert "remove" not in line.split("beside it")[1]
    assert followed.fault() is None
    assert followed.count() == 1


def test_a_folder_that_somebody_else_has_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a line of cron does that calls us: it would wait for itself."""
    monkeypatch.setattr(catalogfile, "_LOCK_SECONDS", 0.1)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(ConfigurationError, match="holds its folder locked"):
            CatalogStore(make_settings(tmp_path))
    finally:
        os.close(descriptor)


def test_a_new_catalog_has_nothing_of_the_one_before(tmp_path: Path) -> None:
    """Which somebody has open, and of which the file alone was removed."""
    settings = make_settings(tmp_path)
    before = make_store(settings, visit("one"), visit("two"))
    assert (tmp_path / "catalog.sqlite-wal").stat().st_size
    (tmp_path / "catalog.sqlite").unlink()
    after = make_store(settings, visit("three"))
    with pytest.raises(SourceUnavailableError, match="been replaced"):
        before.holdings.write([rows_of(visit("four"), "")])
    after.holdings.write([rows_of(visit("five"), "")])
    before.close()
    after.close()
    again = CatalogStore(settings)
    assert list(again.identifiers()) == [visit(name).publisher_did for name in ("three", "five")]
    again.close()


def test_who_does_not_follow_stays_with_his_file(tmp_path: Path) -> None:
    """As ingest, which numbers what it has met by what it has read."""
    store = make_store(make_settings(tmp_path), visit("one"), visit("two"))
    store.count()
    _put_another(tmp_path, visit("three"))
    assert store.count() == 2
    assert "is another one now" in str(store.fault())
    store.close()


@pytest.mark.parametrize("found", ["nothing", "empty", "old"])
def test_a_catalog_that_is_not_to_be_made_is_left_alone(tmp_path: Path, found: str) -> None:
    path = tmp_path / "folder" / "catalog.sqlite"
    said = {"nothing": "there is no catalog", "empty": "is an empty file", "old": "another version"}
    if found != "nothing":
        path.parent.mkdir()
        path.touch()
    if found == "old":
        database.Database(path).close()
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '0001'")
        connection.close()
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(ConfigurationError, match=said[found]) as caught:
        database.Database(path, make=False)
    assert "soda-service ingest" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.parent.exists() == (found != "nothing")
    assert before == (path.read_bytes() if path.exists() else None)


def test_a_link_that_leads_to_itself_is_no_catalog(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    path.symlink_to(path)
    with pytest.raises(ConfigurationError, match=r"cannot be used: .*(leads to itself|symbolic)"):
        database.Database(path)


def test_a_file_that_nobody_would_expect_does_not_end_the_looking(
    followed: CatalogStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One with the mark of a catalog, and no revision in its table of revisions."""
    path, odd = tmp_path / "catalog.sqlite", tmp_path / "odd"
    make_store(make_settings(tmp_path / "elsewhere"), visit("three")).close()
    (tmp_path / "elsewhere" / "catalog.sqlite").replace(odd)
    with closing(sqlite3.connect(odd)) as connection:
        connection.execute("DELETE FROM alembic_version")
        connection.commit()
    odd.replace(path)
    assert "cannot be used so far" in str(followed.fault())
    with pytest.raises(ConfigurationError):
        database.Database(path, make=False)


def test_whatever_happens_the_looking_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And is told of once."""
    monkeypatch.setattr(database, "_LOOK_SECONDS", 0.01)
    went_wrong = 0
    look = database.Database._fault_now

    def looking(opened: database.Database) -> str | None:
        nonlocal went_wrong
        if went_wrong < 3:
            went_wrong += 1
            raise ZeroDivisionError
        return look(opened)

    with closing(make_store(make_settings(tmp_path), visit("one"))) as store:
        monkeypatch.setattr(database.Database, "_fault_now", looking)
        store.follow()
        until(lambda: went_wrong == 3)
        _exchange(tmp_path, "three")
        until(lambda: _has(store, "three"))
    told = [one for one in caplog.records if "cannot tell which file" in one.getMessage()]
    assert len(told) == 1


def test_a_checkpoint_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Who asks for the version meanwhile gets that of before, and the new one with his next."""
    with closing(database.Database(tmp_path / "catalog.sqlite")) as opened:
        before = opened.data_version()
        with opened.writing() as connection:
            connection.exec_driver_sql("CREATE TABLE more (x)")
        with opened._file._watcher_lock:
            assert opened.data_version() == before
        assert opened.data_version() != before


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A catalog that SQLite's own VACUUM INTO has made, which is not in WAL mode."""
    make_store(make_settings(tmp_path), visit("one")).close()
    _without_wal(tmp_path / "catalog.sqlite")
    return tmp_path / "catalog.sqlite"


def _without_wal(catalog: Path) -> None:
    copy = catalog.with_name("copy")
    with closing(sqlite3.connect(catalog)) as connection:
        connection.execute("VACUUM INTO ?", [str(copy)])
    copy.replace(catalog)


def test_a_copy_need_not_be_in_wal_mode(copied: Path) -> None:
    """Else a writer would wait for everybody who reads."""
    with closing(database.Database(copied)) as opened, opened.reading() as reader:
        reader.exec_driver_sql("SELECT count(*) FROM dataset").fetchall()
        with opened.writing(patience=0.1) as writer:
            writer.exec_driver_sql("CREATE TABLE more (x)")


def test_who_asks_while_another_asks_is_told_of_the_same_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of the last one that anybody has heard of, which may be as old as the process."""
    asked, may_answer = threading.Event(), threading.Event()

    class Slow:
        def __init__(self, watcher: sqlite3.Connection) -> None:
            self._watcher = watcher

        def execute(self, sql: str) -> sqlite3.Cursor:
            asked.set()
            assert may_answer.wait(60)
            return self._watcher.execute(sql)

    with closing(database.Database(tmp_path / "catalog.sqlite")) as opened:
        before, told = opened.data_version(), []
        with opened.writing() as connection:
            connection.exec_driver_sql("CREATE TABLE more (x)")
        asking = [
            threading.Thread(target=lambda: told.append(opened.data_version())) for _ in range(2)
        ]
        with monkeypatch.context() as patch:
            watcher = opened._file._watcher
            assert watcher is not None
            patch.setattr(opened._file, "_watcher", Slow(watcher))
            asking[0].start()
            assert asked.wait(60)
            asking[1].start()
            asking[1].join(0.2)  # who does not wait has been told by then
            may_answer.set()
            for one in asking:
                one.join(60)
    assert len(told) == 2
    assert before not in told


@contextmanager
def _read(path: Path) -> Iterator[None]:
    """Another program reads it within the block."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM dataset").fetchone()
        yield


def _is_in_wal_mode(path: Path) -> bool:
    return path.read_bytes()[18:20] == b"\x02\x02"  # SQLite's file format §1.3.3


@pytest.mark.parametrize("make", [True, False])
def test_a_copy_that_somebody_reads_is_waited_for(copied: Path, *, make: bool) -> None:
    """What is written without WAL, and not to its end, would be undone in the next catalog."""
    opened: list[database.Database] = []
    with _read(copied):
        comes = threading.Thread(target=lambda: opened.append(database.Database(copied, make=make)))
        comes.start()
        comes.join(0.5)
        assert not opened
        # Who comes to read is held up for an instant at most.
        with closing(sqlite3.connect(copied, timeout=60)) as another:
            another.execute("SELECT count(*) FROM dataset").fetchone()
    comes.join(60)
    (one,) = opened
    assert _is_in_wal_mode(copied)
    one.close()


def test_a_copy_that_somebody_goes_on_reading(
    copied: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = StandingTime()

    def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(database, "PATIENCE", 2.0)
    # Time goes by only in between: each look takes none.
    monkeypatch.setattr(
        catalogfile, "time", SimpleNamespace(monotonic=clock.monotonic, sleep=sleep)
    )
    said = "database is locked; somebody reads or writes it, and it is not in WAL mode so far"
    with _read(copied), pytest.raises(ConfigurationError, match=said):
        database.Database(copied, make=False)
    (line,) = (one.getMessage() for one in caplog.records)
    assert line.endswith("and somebody reads or writes it; waiting")


def test_a_copy_that_is_always_read_by_somebody(copied: Path) -> None:
    """Reads that are brief, but overlap: there is no moment between them unless one is made."""
    ended = threading.Event()

    def read_on() -> None:
        while not ended.is_set():
            with closing(sqlite3.connect(copied, isolation_level=None, timeout=60)) as other:
                other.execute("BEGIN")
                other.execute("SELECT count(*) FROM dataset").fetchone()
                ended.wait(0.03)

    readers = [threading.Thread(target=read_on) for _ in range(4)]
    for one in readers:
        one.start()
    try:
        database.Database(copied, make=False).close()
    finally:
        ended.set()
        for one in readers:
            one.join(60)
    assert _is_in_wal_mode(copied)


def test_who_has_a_copy_alone_once_it_is_in_wal_mode_is_waited_for(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As whoever closes it last has it for an instant."""
    alone: list[sqlite3.Connection] = []

    def interrupted(*arguments: Any, **options: Any) -> None:
        catalogfile.use_wal(*arguments, **options)
        other = sqlite3.connect(copied, isolation_level=None, check_same_thread=False)
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        alone.append(other)
        threading.Timer(0.5, other.close).start()  # who does not wait has given up by then

    monkeypatch.setattr(openfile, "use_wal", interrupted)
    with closing(database.Database(copied, make=False)) as opened:
        assert opened._file._watcher is not None
        # From here on it is asked on the event loop.
        assert opened._file._watcher.execute("PRAGMA busy_timeout").fetchone() == (0,)
    assert len(alone) == 1


@pytest.mark.parametrize("make", [True, False])
def test_a_copy_that_is_replaced_while_it_is_waited_for(
    copied: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    make: bool,
) -> None:
    """Nobody is told that the other is read by somebody, nor made to wait for this one."""
    monkeypatch.setattr(database, "PATIENCE", _LONG)
    monkeypatch.setattr(catalogfile, "_TOLD_SECONDS", 0.0)
    (copied.parent / "other").mkdir()
    make_store(make_settings(copied.parent / "other"), visit("two")).close()
    if make:  # before it is brought up to date
        with closing(sqlite3.connect(copied)) as old:
            old.execute("UPDATE alembic_version SET version_num = '0001'")
            old.commit()
    refused = []

    def come() -> None:
        try:
            database.Database(copied, make=make).close()
        except ConfigurationError as error:
            refused.append(str(error))

    with _read(copied):
        comes = threading.Thread(target=come)
        comes.start()
        until(lambda: caplog.text.endswith("waiting\n"))
        (copied.parent / "other" / "catalog.sqlite").replace(copied)
        comes.join(60)  # and not as long as it is read
        assert not comes.is_alive()
    (said,) = refused
    assert said.endswith("the catalog is gone or has just been replaced")
    with closing(database.Database(copied, make=False)) as other, other.reading() as reading:
        assert reading.exec_driver_sql("SELECT obs_id FROM dataset").scalar() == "two"


def test_a_copy_that_somebody_reads_is_gone_over_to_later(
    followed: CatalogStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits meanwhile."""
    (tmp_path / "other").mkdir()
    make_store(make_settings(tmp_path / "other"), visit("three")).close()
    copied = tmp_path / "other" / "catalog.sqlite"
    _without_wal(copied)
    with _read(copied):
        copied.replace(tmp_path / "catalog.sqlite")
        assert "cannot be used so far" in (followed.fault() or "")
        assert list(followed.identifiers()) == [visit(one).publisher_did for one in ("one", "two")]
    assert "somebody reads or writes it" in caplog.text
    assert followed.fault() is None
    assert list(followed.identifiers()) == [visit("three").publisher_did]


@pytest.fixture
def read_only(copied: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Such a copy, as for a user who may not write it: root may write everywhere."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    return copied


def test_a_copy_in_a_folder_that_is_not_to_be_written(read_only: Path) -> None:
    """It is read as it is, also while another program turns WAL on."""
    with closing(database.Database(read_only, make=False)) as opened, ExitStack() as reading:
        opened.follow()
        first = reading.enter_context(opened.reading())
        assert first.exec_driver_sql("SELECT count(*) FROM dataset").scalar() == 1
        assert not _is_in_wal_mode(read_only)
        reading.close()
        before = opened.data_version()
        with closing(sqlite3.connect(read_only)) as another:
            another.execute("PRAGMA journal_mode = WAL").fetchone()
            another.execute("CREATE TABLE more (x)")
            assert opened.data_version() != before
            reading.enter_context(opened.reading())
            assert opened.fault() is None
            with opened.reading() as second:
                assert second.exec_driver_sql("SELECT count(*) FROM more").scalar() == 0


def _looks(opened: database.Database) -> None:
    assert opened.fault() is None


def _asks_for_the_version(opened: database.Database) -> None:
    opened.data_version()


def _reads(opened: database.Database) -> None:
    with opened.reading() as reading:
        assert len(_titles(reading.exec_driver_sql)) == 1


@pytest.mark.parametrize("shares", [_looks, _asks_for_the_version, _reads])
def test_a_copy_in_which_another_turns_wal_on_is_replaced(
    read_only: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shares: Callable[[database.Database], None],
) -> None:
    """What was last written to it stays while it is read, and is not read into the next one."""
    monkeypatch.setattr(database, "_LOOK_SECONDS", _LONG)
    other = tmp_path / "other.sqlite"
    shutil.copy(read_only, other)
    wal = read_only.with_name("catalog.sqlite-wal")
    with closing(database.Database(read_only, make=False)) as opened:
        opened.follow()
        with closing(sqlite3.connect(read_only)) as owner:
            owner.execute("PRAGMA journal_mode = WAL").fetchone()
            owner.execute("UPDATE dataset SET obs_title = 'of the one before'")
            owner.commit()
            shares(opened)
        assert wal.stat().st_size > 0  # else nobody could read it who may not write beside it
        other.replace(read_only)
        assert opened.fault() is None
        with opened.reading() as reading:
            assert _titles(reading.exec_driver_sql) == ["A field"]
    assert wal.with_name("catalog.sqlite-wal.before").stat().st_size > 0
    with closing(sqlite3.connect(read_only)) as later:
        assert _titles(later.execute) == ["A field"]
        assert later.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def _titles(execute: Callable[[str], Any]) -> list[str]:
    return [title for (title,) in execute("SELECT obs_title FROM dataset").fetchall()]


def test_a_copy_that_cannot_be_read_any_more(
    read_only: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In WAL mode it takes a file beside it, which may be impossible to make."""
    monkeypatch.setattr(database, "_LOOK_SECONDS", _LONG)
    monkeypatch.setattr(database, "_TOLD_SECONDS", 0.0)
    with closing(database.Database(read_only, make=False)) as opened:
        opened.follow()
        with closing(sqlite3.connect(read_only)) as owner:
            owner.execute("PRAGMA journal_mode = WAL").fetchone()
        in_the_way = read_only.with_name("catalog.sqlite-shm")
        in_the_way.symlink_to(in_the_way)
        for _ in range(2):
            assert opened.fault() == "The file of the catalog cannot be read any more."
        (line,) = (one.getMessage() for one in caplog.records)
        assert line.startswith(f"the catalog {read_only} cannot be used: unable to open database")
        in_the_way.unlink()
        assert opened.fault() is None
        with opened.reading() as reading:
            assert _titles(reading.exec_driver_sql) == ["A field"]
        caplog.clear()
        (read_only.parent / "none").write_text("no catalog")
        (read_only.parent / "none").replace(read_only)
        for _ in range(2):
            assert "cannot be used so far" in (opened.fault() or "")
        (line,) = (one.getMessage() for one in caplog.records)
        assert "has been replaced by a file that is none" in line


def test_another_bad_catalog_is_told_of_again(
    read_only: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database, "_LOOK_SECONDS", _LONG)
    monkeypatch.setattr(database, "_TOLD_SECONDS", 0.0)
    with closing(database.Database(read_only, make=False)) as opened:
        opened.follow()
        for number in range(2):
            (read_only.parent / "none").write_text("no catalog")
            (read_only.parent / "none").replace(read_only)
            assert "cannot be used so far" in (opened.fault() or "")
            assert caplog.text.count("has been replaced by a file that is none") == number + 1


def test_what_is_beside_the_next_catalog_is_not_opened_twice(
    read_only: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an answer of the one before that ends: to close it again lets go of all locks on it."""
    monkeypatch.setattr(database, "_LOOK_SECONDS", _LONG)
    other = tmp_path / "other.sqlite"
    shutil.copy(read_only, other)
    with closing(sqlite3.connect(other)) as owner:
        owner.execute("PRAGMA journal_mode = WAL").fetchone()
    with closing(database.Database(read_only, make=False)) as opened, ExitStack() as reading:
        opened.follow()
        before = reading.enter_context(opened.reading())
        assert _titles(before.exec_driver_sql) == ["A field"]
        other.replace(read_only)
        assert opened.fault() is None
        with closing(sqlite3.connect(read_only)) as owner:
            owner.execute("UPDATE dataset SET obs_title = 'of the next one'")
            owner.commit()
            _reads(opened)
            reading.close()
            shared = os.path.realpath(read_only.with_name("catalog.sqlite-shm"))
            # The owner is of this process, too; SQLite opens it once for one file.
            names = [os.path.realpath(one) for one in Path("/dev/fd").iterdir()]
            assert names.count(shared) == 1
        assert opened.fault() is None


def test_who_only_looks_makes_nothing_beside_a_copy(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner could not write to what belongs to somebody who may write to the folder only."""
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).is_dir())
    monkeypatch.setattr(database, "_LOOK_SECONDS", _LONG)
    with closing(database.Database(copied, make=False)) as opened:
        opened.follow()
        with closing(sqlite3.connect(copied)) as owner:
            owner.execute("PRAGMA journal_mode = WAL").fetchone()
        assert opened.fault() is None
        assert [one.name for one in copied.parent.iterdir()] == ["catalog.sqlite"]


def test_a_commit_to_a_copy_keeps_nobody_waiting(read_only: Path) -> None:
    """Who asks for the version meanwhile is on the event loop."""
    with closing(database.Database(read_only, make=False)) as opened:
        before = opened.data_version()
        with closing(sqlite3.connect(read_only, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            other.execute("CREATE TABLE more (x)")
            assert opened.data_version() == before
            other.execute("COMMIT")
            assert opened.data_version() != before


def test_who_has_the_catalog_for_himself_is_waited_for(copied: Path) -> None:
    """Longer than for a look: so has for a moment whoever closes a catalog last."""
    opened: list[database.Database] = []
    with closing(sqlite3.connect(copied, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        comes = threading.Thread(
            target=lambda: opened.append(database.Database(copied, make=False))
        )
        comes.start()
        comes.join(0.5)  # who does not wait has given up by then
        other.execute("ROLLBACK")
    comes.join(60)
    (one,) = opened
    one.close()


def test_a_fault_names_the_catalog(
    followed: CatalogStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """SQLite's own words do not."""

    def locked(_file: openfile.OpenFile, **_options: object) -> None:
        raise sqlite3.OperationalError("database is locked")

    _exchange(tmp_path, "three")
    with monkeypatch.context() as patch:
        patch.setattr(openfile.OpenFile, "open", locked)
        assert followed.fault() is not None
    (line,) = (one.getMessage() for one in caplog.records if one.levelname == "ERROR")
    path = tmp_path / "catalog.sqlite"
    assert line.startswith(f"the catalog {path} cannot be used: database is locked")


def test_who_reads_is_as_patient_as_ever(tmp_path: Path) -> None:
    """Over the connection of a writer who was not."""
    with closing(database.Database(tmp_path / "catalog.sqlite")) as opened:
        with opened.writing(patience=0.05) as connection:
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 50
        with opened.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 60_000
