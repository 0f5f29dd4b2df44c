"""Searches: what they find is what meets the query, and the work does not grow with the catalog."""

from __future__ import annotations

import random
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from math import asin, degrees, inf
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from alembic import command
from alembic.config import Config
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st
from sqlalchemy import create_engine
from support.catalogs import (
    allsky,
    cube,
    hostile,
    make_dataset,
    make_settings,
    make_store,
    unplaced,
    visit,
)

from soda_service.catalog import boxtree, candidates, migrations, search, skymatch, ways
from soda_service.catalog.boxtree import Pieces
from soda_service.catalog.dataset import Dataset, Footprint
from soda_service.catalog.query import CatalogQuery, fold
from soda_service.catalog.rows import OBSCORE_NAMES, rows_of
from soda_service.catalog.skymatch import SkyMatch
from soda_service.catalog.store import CatalogStore
from soda_service.geometry.moc import Moc
from soda_service.geometry.shapes import Circle, Interval, Polygon, Range
from soda_service.geometry.sphere import contains, intersects

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from soda_service.geometry.shapes import Shape

COLLECTIONS = ("one", "two", "three")
BANDS = {"g": (4e-7, 5.5e-7), "r": (5.5e-7, 7e-7), "radio": (0.2, 0.21), None: (None, None)}
DAYS = 60_000.0


def field(number: int, lon: float, lat: float) -> Dataset:
    """A field of a tenth of a degree, one of many, with a second piece where it is every fifth."""
    band = list(BANDS)[number % 7 % len(BANDS)]
    em_min, em_max = BANDS[band]
    start = None if number % 11 == 3 else DAYS + number
    pieces = [_square(lon, lat)]
    if number % 5 == 0:
        pieces.append(_square(lon + 0.3, lat))
    return make_dataset(
        COLLECTIONS[number % len(COLLECTIONS)],
        f"n{number:05}",
        footprint=Footprint(polygons=tuple(pieces), cap=Circle(lon, lat, 0.6)),
        target_name=f"target {number % 40}",
        lsst_band=band,
        em_min=em_min,
        em_max=em_max,
        t_min=start,
        t_max=None if start is None else start + 0.01,
        facility_name="common" if number % 3 else None,
        instrument_name=f"camera {number % 4}",
        pol_states=("/I/", "/I/Q/U/", None)[number % 3],
        calib_level=number % 3,
    )


def _square(lon: float, lat: float) -> Polygon:
    lon, lat = lon % 360, max(-89.0, min(89.0, lat))
    return Polygon(
        tuple(
            ((lon + x) % 360, lat + y)
            for x, y in ((-0.1, -0.1), (0.1, -0.1), (0.1, 0.1), (-0.1, 0.1))
        )
    )


def fields(count: int) -> list[Dataset]:
    """Spread over the whole sky."""
    chance = random.Random(count)
    return [
        field(number, chance.uniform(0, 360), degrees(asin(chance.uniform(-0.99, 0.99))))
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def datasets() -> list[Dataset]:
    """Many plain ones, and odd ones among them."""
    plain = fields(200)
    return [visit(), *plain[:100], allsky(), unplaced(), *plain[100:], cube(), hostile()]


@pytest.fixture(scope="module")
def store(
    datasets: list[Dataset], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CatalogStore]:
    """A catalog of them."""
    made = make_store(make_settings(tmp_path_factory.mktemp("catalog")), *datasets)
    yield made
    made.close()


def meets(dataset: Dataset, query: CatalogQuery) -> bool:
    """What SIA 2.0 §2.1 says, in the plainest words."""
    facts = dataset.obscore
    footprint = dataset.footprint

    def overlaps(low: float | None, high: float | None, asked: tuple[Interval, ...]) -> bool:
        return not asked or any(
            low is not None and high is not None and low <= one.upper and high >= one.lower
            for one in asked
        )

    def overlaps_sky(polygon: Polygon) -> bool:
        return any(intersects(one, polygon) for one in query.shapes if not isinstance(one, Moc))

    def is_one_of(value: object, asked: tuple[object, ...]) -> bool:
        return not asked or (value is not None and value in asked)

    return (
        (
            not query.shapes
            or (footprint is not None and any(map(overlaps_sky, footprint.polygons)))
        )
        and overlaps(facts.em_min, facts.em_max, query.bands)
        and overlaps(facts.t_min, facts.t_max, query.times)
        and overlaps(facts.t_exptime, facts.t_exptime, query.exptime)
        and is_one_of(facts.obs_collection, query.collections)
        and is_one_of(facts.facility_name, query.facilities)
        and is_one_of(facts.instrument_name, query.instruments)
        and is_one_of(facts.calib_level, query.calibs)
        and is_one_of(facts.target_name, query.targets)
        and is_one_of(fold(facts.obs_publisher_did), tuple(map(fold, query.ids)))
        and (
            not query.pols
            or any(f"/{one}/" in (facts.pol_states or "") for one in query.pols)
        )
    )  # fmt: skip


LONS, LATS = st.floats(0, 350), st.floats(-85, 85)
SHAPES = (
    st.builds(Circle, LONS, LATS, st.sampled_from([0.0, 0.2, 10.0, 60.0, 179.0, 180.0]))
    | st.builds(lambda lon, lat: Range(lon, (lon + 30) % 360, lat - 5, lat + 4), LONS, LATS)
    | st.builds(lambda lon, lat: Polygon(((lon, lat), (lon + 9, lat), (lon, lat + 4))), LONS, LATS)
)  # fmt: skip
ENDS = st.sampled_from([-inf, inf, 0.0, DAYS, DAYS + 50.5, DAYS + 51, DAYS + 199.01, -1e300, 1e300])
TIMES = st.builds(lambda a, b: Interval(min(a, b), max(a, b)), ENDS, ENDS)
LENGTHS = st.sampled_from([-inf, inf, 0.0, 4.2e-7, 5.5e-7, 6e-7, 0.2, 0.3, 1e300])
BANDS_ASKED = st.builds(lambda a, b: Interval(min(a, b), max(a, b)), LENGTHS, LENGTHS)


def some(values: st.SearchStrategy[Any], most: int = 2) -> st.SearchStrategy[tuple[Any, ...]]:
    """Often none."""
    return st.just(()) | st.lists(values, min_size=1, max_size=most).map(tuple)


QUERIES = st.builds(
    CatalogQuery,
    shapes=some(SHAPES),
    bands=some(BANDS_ASKED, 3),
    times=some(TIMES, 3),
    exptime=some(st.just(Interval(29.0, 31.0))),
    pols=some(st.sampled_from(["I", "Q", "V"])),
    ids=some(st.sampled_from([visit().publisher_did, cube().publisher_did.upper(), "x"])),
    collections=some(st.sampled_from([*COLLECTIONS, "visits", "nowhere"])),
    facilities=some(st.sampled_from(["common", "Erewhon Observatory"])),
    instruments=some(st.sampled_from(["camera 1", "camera 3", "ErewhonCam"])),
    targets=some(st.sampled_from(["target 3", "target 11", "NGC 1"])),
    calibs=some(st.sampled_from([0, 1, 2, 9])),
)


@pytest.mark.parametrize("budgets", [candidates.BUDGETS, (2, 5), (0,)])
@hypothesis_settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(QUERIES)
def test_a_search_finds_what_meets_the_query(
    store: CatalogStore,
    datasets: list[Dataset],
    monkeypatch: pytest.MonkeyPatch,
    budgets: tuple[int, ...],
    query: CatalogQuery,
) -> None:
    """Each dataset once, whichever index is entered; in the order of ingest where it is narrow."""
    monkeypatch.setattr(candidates, "BUDGETS", budgets)
    monkeypatch.setattr(candidates, "FEW_ROWS", 0)
    monkeypatch.setattr(search, "FEW_ROWS", 0)
    expected = [one.publisher_did for one in datasets if meets(one, query)]
    found = [one.obs_publisher_did for one in store.find(query, 10_000)]
    assert sorted(found) == sorted(expected)
    for limit in (1, 7):
        part = [one.obs_publisher_did for one in store.find(query, limit)]
        assert len(part) == len(set(part)) == min(limit, len(expected))
        assert set(part) <= set(expected)


def test_a_narrow_search_keeps_the_order_of_ingest(
    store: CatalogStore, datasets: list[Dataset]
) -> None:
    for query in (
        CatalogQuery(shapes=(Circle(10.0, 10.0, 70.0),)),
        CatalogQuery(times=(Interval(DAYS, DAYS + 100),), collections=("three", "one")),
        CatalogQuery(targets=("target 8", "target 3")),
    ):
        expected = [one.publisher_did for one in datasets if meets(one, query)]
        assert [one.obs_publisher_did for one in store.find(query, 1000)] == expected
        assert len(expected) > 5


@pytest.mark.parametrize("limit", [10, 10_000])
def test_a_way_that_names_nobody_is_an_empty_answer(store: CatalogStore, limit: int) -> None:
    for query in (
        CatalogQuery(times=(Interval(-inf, -inf),)),
        CatalogQuery(targets=("nobody's",)),
        CatalogQuery(shapes=(Circle(10.0, 10.0, 0.0),), ids=("nobody",)),
    ):
        assert list(store.find(query, limit)) == []


@pytest.mark.parametrize(("gulp", "matched"), [(search.GULP, search._MATCHED), (7, 20), (3, 2)])
def test_circles_find_what_is_within_and_what_is_at_their_rim(
    store: CatalogStore,
    datasets: list[Dataset],
    monkeypatch: pytest.MonkeyPatch,
    gulp: int,
    matched: int,
) -> None:
    """Some datasets are known to meet by a box alone, others are compared; some have both."""
    monkeypatch.setattr(search, "GULP", gulp)
    monkeypatch.setattr(search, "_MATCHED", matched)
    chance = random.Random(gulp)
    for radius in (0.1, 5.0, 30.0, 60.0, 90.0, 150.0, 180.0) * 3:
        place = chance.uniform(0, 360), degrees(asin(chance.uniform(-1, 1)))
        query = CatalogQuery(shapes=(Circle(*place, radius),))
        expected = [one.publisher_did for one in datasets if meets(one, query)]
        assert [one.obs_publisher_did for one in store.find(query, 1000)] == expected
        assert [one.obs_publisher_did for one in store.find(query, 9)] == expected[:9]


def without_nodes(store: CatalogStore, query: CatalogQuery, limit: int) -> list[str]:
    """What is found where SQLite walks all of the tree."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "_MOST_SHAPES", -1)
        return [one.obs_publisher_did for one in store.find(query, limit)]


@pytest.mark.parametrize("budgets", [candidates.BUDGETS, (60, 60, 60)])
@hypothesis_settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(SHAPES, min_size=1, max_size=3).map(tuple),
    some(st.just(Interval(29.0, 31.0))),
    st.sampled_from([1001, 1020, 10_000]),
)
def test_a_long_search_finds_the_same_by_the_nodes_of_the_tree(
    store: CatalogStore,
    larger: CatalogStore,
    datasets: list[Dataset],
    monkeypatch: pytest.MonkeyPatch,
    budgets: tuple[int, ...],
    shapes: tuple[Any, ...],
    exptime: tuple[Interval, ...],
    limit: int,
) -> None:
    """In the same order, wherever the answer ends, and just as often by the wide way."""
    read: list[object] = []

    def reading(*arguments: Any) -> object:
        read.append(boxtree.pieces_meeting(*arguments))
        return read[-1]

    monkeypatch.setattr(candidates, "BUDGETS", budgets)
    monkeypatch.setattr(candidates, "_FEW_PIECES", 0)
    monkeypatch.setattr(candidates, "pieces_meeting", reading)
    query = CatalogQuery(shapes=shapes, exptime=exptime)
    for catalog in (store, larger):
        found = [one.obs_publisher_did for one in catalog.find(query, limit)]
        assert found == without_nodes(catalog, query, limit)
        if catalog is store and isinstance(read[-1], boxtree.Pieces):
            assert found == [one.publisher_did for one in datasets if meets(one, query)]
    assert len(read) == 2
    assert boxtree.NoPieces.UNREADABLE not in read


def test_boxes_alone_tell_of_most_candidates(
    larger: CatalogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only those at the rim are compared; with every one, the answer is the same."""
    compared: list[int] = []
    meeting = SkyMatch.meeting

    def counting(self: SkyMatch, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        compared.append(len(rows))
        return meeting(self, rows)

    monkeypatch.setattr(SkyMatch, "meeting", counting)
    shapes: tuple[Shape, ...] = (
        Circle(40.0, 20.0, 50.0),
        Polygon(((10.0, -30.0), (80.0, -30.0), (60.0, 50.0))),
        Range(300.0, 20.0, -40.0, 40.0),
    )
    for asked in ((shapes[0],), (shapes[1],), (shapes[2],), shapes):
        query = CatalogQuery(shapes=asked)
        compared.clear()
        found = [one.obs_publisher_did for one in larger.find(query, 5000)]
        assert sum(compared) < 0.25 * len(found)
        with monkeypatch.context() as patch:
            patch.setattr(candidates, "_DEAREST", 0.0)
            compared.clear()
            assert found == [one.obs_publisher_did for one in larger.find(query, 5000)]
            assert sum(compared) >= len(found) > 100


def test_few_candidates_are_left_to_sqlite_too(
    larger: CatalogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And short answers, and those with another way into the catalog."""
    read: list[object] = []
    monkeypatch.setattr(candidates, "pieces_meeting", lambda *given: read.append(given))
    wide = (Circle(0.0, 0.0, 90.0),)
    for query, limit in (
        (CatalogQuery(shapes=(Circle(150.0, 2.0, 0.1),)), 10_000),
        (CatalogQuery(shapes=wide), 1000),
        (CatalogQuery(shapes=wide * 20), 10_000),
        (CatalogQuery(shapes=wide, collections=("one",)), 10_000),
        (CatalogQuery(shapes=wide, targets=("target 3",)), 10_000),
    ):
        assert next(iter(larger.find(query, limit))).obs_id
    assert read == []


def test_a_tree_that_cannot_be_read_is_left_to_sqlite(
    larger: CatalogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = CatalogQuery(shapes=(Circle(40.0, 20.0, 50.0),))
    expected = [one.obs_publisher_did for one in larger.find(query, 5000)]
    monkeypatch.setattr(candidates, "pieces_meeting", lambda *_: boxtree.NoPieces.UNREADABLE)
    assert [one.obs_publisher_did for one in larger.find(query, 5000)] == expected


def boxes_of_all_sorts(chance: random.Random) -> Pieces:
    """Of no extent, as small as footprints, of all sizes; odd ones."""
    sizes = np.repeat([0.0, 1e-7, 1e-3, 0.1, 0.5, 1.0, 2.0], 60)[:, None]
    spread = np.random.default_rng(chance.randrange(1000))
    centres = spread.normal(size=(len(sizes), 3))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    half = sizes * spread.uniform(0, 1, (len(sizes), 3))
    odd = [[[-1.0, 1.0]] * 3, [[0.0, 0.0]] * 3, [[0.0, 1.0]] * 3, [[1.0, 1.0], [0, 0], [0, 0]]]
    boxes = np.concatenate([np.stack([centres - half, centres + half], axis=2), np.array(odd)])
    return Pieces(np.arange(len(boxes)), boxes)


@pytest.mark.parametrize(
    "shape",
    [
        Circle(20.0, 10.0, 0.0),
        Circle(20.0, 10.0, 30.0),
        Circle(0.0, 90.0, 90.0),
        Circle(200.0, -10.0, 150.0),
        Circle(20.0, 10.0, 180.0),
        Polygon(((10.0, -30.0), (80.0, -30.0), (60.0, 50.0))),
        Range(300.0, 20.0, -40.0, 90.0),
        Range(0.0, 360.0, -90.0, 90.0),
    ],
)
def test_what_boxes_tell_holds_for_all_that_they_can_hold(shape: Shape) -> None:
    """No point of the sphere in a box that is sure is outside; none in one that is apart inside."""
    pieces = boxes_of_all_sorts(random.Random(5))
    told = candidates.told_by_boxes((shape,), pieces)
    sure = set(told.ids[~told.unsure].tolist())
    maybe = set(told.ids.tolist())
    spread = np.random.default_rng(3)
    for number, box in zip(pieces.datasets.tolist(), pieces.boxes, strict=True):
        points = box[:, :1] + (box[:, 1:] - box[:, :1]) * spread.uniform(0, 1, (3, 200))
        lengths = np.linalg.norm(points, axis=0)
        points = points[:, lengths > 0] / lengths[lengths > 0]
        within = ((points >= box[:, :1] - 1e-15) & (points <= box[:, 1:] + 1e-15)).all(axis=0)
        inside = contains(shape, points[:, within])
        assert number not in sure or inside.all()
        assert number in maybe or not inside.any()


def ids_found(connection: sqlite3.Connection, query: CatalogQuery, limit: int) -> list[int]:
    """By a search that reads nothing of the table of datasets."""
    columns = search.Columns(["{id}"], need_dataset=False)
    return [row[0] for rows in search.search(connection, query, limit, columns) for row in rows]


FACETS_ALONE = (
    CatalogQuery(collections=("two",)),
    CatalogQuery(collections=("one", "three"), facilities=("common",)),
    CatalogQuery(pols=("Q",)),
    CatalogQuery(instruments=("camera 1", "camera 3"), calibs=(0, 2)),
    CatalogQuery(calibs=(1,), formats=("application/x-votable+xml;content=datalink",)),
)
MORE_THAN_FACETS = (
    CatalogQuery(collections=("two",), times=(Interval(DAYS, DAYS + 100.0),)),
    CatalogQuery(collections=("two",), bands=(Interval(4e-7, 5e-7),)),
    CatalogQuery(pols=("Q",), exptime=(Interval(29.0, 31.0),)),
    CatalogQuery(pols=("Q",), shapes=(Circle(100.0, 0.0, 60.0),)),
    CatalogQuery(instruments=("camera 1",), targets=("target 3", "target 9")),
)


@pytest.mark.parametrize("budgets", [candidates.BUDGETS, (0,)])
@pytest.mark.parametrize("changed", [None, ("_MOST_BOXES", 1), ("_SURE_FACETS", 0)])
def test_facets_alone_decide_where_nothing_else_is_asked(
    larger: CatalogStore,
    monkeypatch: pytest.MonkeyPatch,
    budgets: tuple[int, ...],
    changed: tuple[str, int] | None,
) -> None:
    """The table of datasets is left alone, but where ranges of facets hold others too."""
    monkeypatch.setattr(candidates, "BUDGETS", budgets)
    if changed:
        monkeypatch.setattr(ways, *changed)
    connection = connection_of(larger)
    known = [visit(), *fields(2000), allsky(), cube()]
    by_did = dict(connection.execute("SELECT obs_publisher_did, id FROM dataset").fetchall())
    for query in (*FACETS_ALONE, *MORE_THAN_FACETS):
        expected = [by_did[one.publisher_did] for one in known if meets(one, query)]
        seen: list[str] = []
        connection.set_trace_callback(seen.append)
        found = ids_found(connection, query, 5000)
        connection.set_trace_callback(None)
        assert sorted(found) == expected
        assert len(ids_found(connection, query, 7)) == min(7, len(expected)) > 0
        is_joined = any("dataset AS" in one for one in seen)
        assert is_joined or query in FACETS_ALONE
        if query in FACETS_ALONE and changed != ("_MOST_BOXES", 1):
            assert is_joined == (changed is not None)
    connection.close()


@pytest.mark.parametrize("many", [1, 10**9])
def test_vertices_inside_of_a_shape_are_enough(
    store: CatalogStore, datasets: list[Dataset], monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    """Of some pieces or one; where no vertex is inside, the polygon may yet meet the shape."""
    monkeypatch.setattr(skymatch, "_MANY", many)
    chance = random.Random(many)
    connection = connection_of(store)
    rows = connection.execute(
        f"SELECT d.obs_publisher_did, {', '.join(SkyMatch.columns)} FROM dataset AS d"
        " WHERE d.cap_lon IS NOT NULL ORDER BY d.id"
    ).fetchall()
    connection.close()
    placed = [one for one in datasets if one.footprint]
    for number in range(18):
        near = chance.choice(placed).footprint
        assert near is not None
        lon, lat = near.cap.lon, max(-80.0, min(80.0, near.cap.lat))
        shapes: list[Shape] = [
            Circle(lon, lat, chance.choice([0.0, 0.01, 0.25, 20.0, 100.0])),
            Range(lon, (lon + 9.0) % 360.0, lat, lat + 0.05),
            Polygon(((lon, lat), ((lon + 2.0) % 360.0, lat), (lon, lat + 3.0))),
        ]
        asked = shapes[number % 3 : number % 3 + 1 + number % 2]
        expected = [
            one.publisher_did for one in placed if meets(one, CatalogQuery(shapes=tuple(asked)))
        ]
        assert [row[0] for row in SkyMatch(asked).meeting(rows)] == expected


def connection_of(store: CatalogStore) -> sqlite3.Connection:
    """A connection of its own to the same catalog."""
    return sqlite3.connect(store._database.path, isolation_level=None)


NARROW = {
    "circle": CatalogQuery(shapes=(Circle(150.0, 2.0, 0.1),)),
    "circle and more": CatalogQuery(
        shapes=(Circle(150.0, 2.0, 0.1),),
        bands=(Interval(5e-7, 5e-7),),
        times=(Interval(60623.0, 60624.0),),
        collections=("visits",),
    ),
    "time": CatalogQuery(times=(Interval(60623.25, 60623.26),)),
    "band": CatalogQuery(bands=(Interval(0.2101, 0.2102),)),
    "time and collection": CatalogQuery(
        times=(Interval(60600.0, 60700.0),), collections=("visits",)
    ),
    "identifier": CatalogQuery(ids=(visit().publisher_did,)),
    "identifiers": CatalogQuery(ids=(visit().publisher_did, "nobody")),
    "target": CatalogQuery(targets=("NGC 1",)),
    "unknown facility": CatalogQuery(facilities=("nobody's",)),
    "unknown polarization": CatalogQuery(pols=("YX",), shapes=(Circle(0.0, 0.0, 180.0),)),
}
WIDE = {
    "everything": CatalogQuery(),
    "collection": CatalogQuery(collections=("two",)),
    "all the sky": CatalogQuery(shapes=(Circle(0.0, 0.0, 180.0),)),
    "all times of a collection": CatalogQuery(times=(Interval(),), collections=("one",)),
    "all the sky and a facility": CatalogQuery(
        shapes=(Range(0.0, 360.0, -90.0, 90.0),), facilities=("common",)
    ),
}


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CatalogStore]:
    """Ten times as many fields around the same visit."""
    made = make_store(
        make_settings(tmp_path_factory.mktemp("larger")), visit(), *fields(2000), allsky(), cube()
    )
    yield made
    made.close()


def steps(store: CatalogStore, query: CatalogQuery, limit: int) -> tuple[int, int]:
    """Steps of SQLite's machine, and rows that came out."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    connection = connection_of(store)
    connection.set_progress_handler(step, 1)
    columns = search.Columns([f"d.{name}" for name in OBSCORE_NAMES])
    rows = sum(len(rows) for rows in search.search(connection, query, limit, columns))
    connection.close()
    return count, rows


@pytest.mark.parametrize("name", NARROW)
def test_work_of_a_narrow_search_does_not_grow_with_the_catalog(
    store: CatalogStore, larger: CatalogStore, name: str
) -> None:
    (few, rows), (many, more) = (steps(one, NARROW[name], 100) for one in (store, larger))
    assert max(rows, more) <= 60
    # A step or two for every dataset would be thousands.
    assert many <= few + 150 * max(0, more - rows) + 400


@pytest.mark.parametrize("name", WIDE)
def test_work_of_a_wide_search_does_not_grow_with_the_catalog(
    store: CatalogStore, larger: CatalogStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The first rows come out before the index has been read to its end."""
    monkeypatch.setattr(candidates, "BUDGETS", (8, 20, 20))
    (few, rows), (many, more) = (steps(one, WIDE[name], 10) for one in (store, larger))
    assert rows == more == 10
    assert many <= few + 400


def test_the_plan_enters_the_index_first(store: CatalogStore) -> None:
    """And sorts nothing; the planner is not asked to choose."""
    connection = connection_of(store)
    seen: list[str] = []
    connection.set_trace_callback(seen.append)
    for query in (*NARROW.values(), *WIDE.values()):
        for _ in search.search(connection, query, 5, search.Columns(["d.obs_title"])):
            pass
    connection.set_trace_callback(None)
    ours = [one for one in seen if " AS q " in one or " AS i" in one or " AS d " in one]
    assert len(ours) > 30
    for statement in ours:
        plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + statement)]
        for step in plan:
            assert "FOR ORDER BY" not in step, (statement, plan)
            # Lists of values and trees; the table itself where nothing constrains the search.
            is_list = step.startswith(("SCAN i VIRTUAL", "SCAN q VIRTUAL", "SCAN one VIRTUAL"))
            is_tree = bool(re.fullmatch(r"SCAN b VIRTUAL TABLE INDEX 2:([A-F][0-5]){2,6}", step))
            is_known = step.startswith(("SEARCH", "CO-ROUTINE", "SCAN (subquery", "LIST SUBQUERY"))
            is_all = step == "SCAN d" and statement.endswith("WHERE 1 ORDER BY d.id")
            is_values = "json_each VIRTUAL" in step or "CORRELATED" in step
            assert is_list or is_tree or is_known or is_all or is_values, (statement, plan)
    connection.close()


def facets(store: CatalogStore) -> list[tuple[Any, ...]]:
    """As triggers keep them, and as they would be counted."""
    connection = connection_of(store)
    columns = (
        "collection_id, obs_collection, facility_name, instrument_name, dataproduct_type,"
        " dataproduct_subtype, calib_level, lsst_band, pol_states"
    )
    kept = connection.execute(f"SELECT datasets, {columns} FROM facet").fetchall()
    counted = connection.execute(
        f"SELECT count(*), {columns} FROM dataset GROUP BY {columns}"
    ).fetchall()
    spans = connection.execute("SELECT id FROM dataset_span ORDER BY id").fetchall()
    assert sorted(kept, key=repr) == sorted(counted, key=repr)
    assert spans == connection.execute("SELECT id FROM dataset ORDER BY id").fetchall()
    connection.close()
    return kept


def test_facets_follow_the_datasets(tmp_path: Path) -> None:
    """However they come, change and go; odd values and nulls too."""
    store = make_store(make_settings(tmp_path), *fields(40), hostile(), unplaced(), allsky())
    before = facets(store)
    assert sum(row[0] for row in before) == store.count() == 43
    changed = field(7, 0.0, 0.0)
    changed = replace(
        changed,
        obscore=replace(changed.obscore, facility_name="moved", t_min=inf, t_max=-inf, em_min=-1.0),
    )
    store.holdings.write([rows_of(changed, "")])
    assert [row[0] for row in facets(store) if "moved" in row] == [1]
    assert [one.obs_id for one in store.find(CatalogQuery(facilities=("moved",)), 9)] == ["n00007"]
    store.holdings.write([rows_of(field(7, 0.0, 0.0), "")])
    assert sorted(facets(store), key=repr) == sorted(before, key=repr)
    for dataset in (*fields(40), hostile(), unplaced(), allsky()):
        assert store.holdings.remove(dataset.url) == 1
    assert facets(store) == []
    assert store.count() == 0
    store.close()


def test_an_older_catalog_is_brought_up_to_date(
    datasets: list[Dataset],
    store: CatalogStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that searches need is made from what it holds; its pieces are numbered otherwise."""
    settings = make_settings(tmp_path)
    path = tmp_path / "catalog.sqlite"
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    config.set_main_option("path_separator", "os")
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA application_id = 0x534F4441")
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    engine.dispose()
    old = sqlite3.connect(path)
    old.execute("ATTACH ? AS new", (str(store._database.path),))
    for table in ("collection", "dataset", "hdu"):
        names = ", ".join(row[1] for row in old.execute(f"PRAGMA main.table_info({table})"))
        old.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}")
    old.execute(
        "INSERT INTO piece SELECT row_number() OVER (ORDER BY id), dataset_id FROM new.piece"
    )
    old.execute(
        "INSERT INTO piece_box SELECT row_number() OVER (ORDER BY id), min_x, max_x, min_y, max_y,"
        " min_z, max_z, dataset_id FROM new.piece_box"
    )
    old.commit()
    old.close()
    upgraded = CatalogStore(settings)
    facets(upgraded)
    for query in (*NARROW.values(), *WIDE.values()):
        wanted = [one.obs_id for one in store.find(query, 1000)]
        assert [one.obs_id for one in upgraded.find(query, 1000)] == wanted
    monkeypatch.setattr(candidates, "_FEW_PIECES", 0)
    for radius in (0.1, 30.0, 120.0):  # long enough for the nodes, which do not tell datasets
        query = CatalogQuery(shapes=(Circle(150.0, 2.0, radius),))
        wanted = [one.obs_id for one in store.find(query, 5000)]
        assert [one.obs_id for one in upgraded.find(query, 5000)] == wanted
    more = field(901, 12.0, 12.0)
    upgraded.holdings.write([rows_of(more, ""), rows_of(replace(datasets[1], footprint=None), "")])
    found = upgraded.find(CatalogQuery(shapes=(Circle(12.0, 12.0, 0.01),)), 9)
    assert more.obscore in list(found)
    facets(upgraded)
    upgraded.close()


@pytest.mark.parametrize("limit", [1, 10, 1000])
def test_what_has_no_place_meets_no_shape(tmp_path: Path, limit: int) -> None:
    """By whatever way it is found: its identifier, its collection, or all of the catalog."""
    placed = visit()
    with closing(make_store(make_settings(tmp_path), placed, unplaced())) as store:
        everywhere = (Circle(0.0, 0.0, 180.0),)
        both = (placed.publisher_did, unplaced().publisher_did)
        for query in (
            CatalogQuery(shapes=everywhere),
            CatalogQuery(shapes=everywhere, ids=both),
            CatalogQuery(shapes=everywhere, ids=both[1:]),
            CatalogQuery(shapes=everywhere, collections=("surveys",)),
        ):
            found = [one.obs_publisher_did for one in store.find(query, limit)]
            is_asked = not query.collections and query.ids != both[1:]
            assert found == ([placed.publisher_did] if is_asked else [])
