"""Rows made ready in the catalog: answers of the same bytes, only sooner."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support.catalogs import (
    HOSTILE,
    URLS,
    allsky,
    cube,
    hostile,
    make_dataset,
    make_settings,
    make_store,
    unplaced,
    visit,
)

from soda_service.catalog.query import CatalogQuery
from soda_service.catalog.rows import rows_of
from soda_service.discovery import sia2
from soda_service.discovery.obscore import ObsCoreTable
from soda_service.discovery.readyrows import ReadyTable, make_ready
from soda_service.geometry.shapes import Circle
from soda_service.votable.document import Serialization, load_template
from soda_service.web.urls import SiteUrls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from soda_service.catalog.store import CatalogStore
    from soda_service.config import Settings

ODD: dict[str, dict[str, Any]] = {
    "quotes": {"obs_title": "it's \"quoted\" & <b>bold</b> ]]>"},
    "unicode": {"obs_title": "é☃𝄞", "target_name": "Ångström"},
    "controls": {"obs_title": "\x00\x1e\x1f\t\r\n\x7f\x85\ufffe"},
    "hostile": {"obs_title": HOSTILE, "facility_name": HOSTILE},
    "numbers": {"s_ra": math.inf, "s_dec": -math.inf, "s_fov": -0.0, "t_min": 5e-324},
    "large": {"access_estsize": 2**62, "s_xel1": -1, "t_max": 1e300},
    "a name/with?odd&characters=é+%#": {"obs_id": ""},
    "nulls": {"obs_title": None, "s_region": None, "em_max": None, "pol_states": "/I/Q/"},
}  # fmt: skip
PLACES = (URLS, SiteUrls(""), SiteUrls("http://h:1/a'b&c"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a catalog of their own."""
    return make_settings(tmp_path)


@pytest.fixture
def store(settings: Settings) -> Iterator[CatalogStore]:
    """A catalog of everything odd, and of many that are not."""
    odd = [make_dataset("odd", name, **facts) for name, facts in ODD.items()]
    plain = [make_dataset("plain", f"n{number:04}", s_ra=number / 7) for number in range(700)]
    store = make_store(settings, visit(), cube(), allsky(), unplaced(), hostile(), *odd, *plain)
    yield store
    store.close()


def answers(store: CatalogStore, settings: Settings) -> list[bytes]:
    """Whole documents: every serialization, seen from everywhere, whole and cut off."""
    queries = (CatalogQuery(), CatalogQuery(shapes=(Circle(150.0, 2.0, 1.0),)))
    return [
        b"".join(
            sia2.answer(query, store=store, urls=urls, settings=settings, form=form, maxrec=maxrec)
        )
        for form in Serialization
        for urls in PLACES
        for query in queries
        for maxrec in (3, 600, 10_000)
    ]


def ready_rows(store: CatalogStore) -> int:
    """How many rows are ready."""
    with store._database.reading() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM ready_row").scalar_one())


def test_answers_are_the_same_to_the_byte(store: CatalogStore, settings: Settings) -> None:
    """None ready, all ready, some ready."""
    before = answers(store, settings)
    assert all(document.count(b"</VOTABLE>") == 1 for document in before)
    assert sum(make_ready(store.holdings, SiteUrls("https://elsewhere"))) == store.count()
    assert ready_rows(store) == store.count()
    assert list(make_ready(store.holdings, URLS)) == []
    assert answers(store, settings) == before
    with store._database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM ready_row WHERE dataset_id % 3 = 2")
    assert 0 < ready_rows(store) < store.count()
    assert answers(store, settings) == before
    with store._database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM ready_row WHERE dataset_id > 1")
    assert answers(store, settings) == before
    assert sum(make_ready(store.holdings, URLS)) == store.count() - 1
    assert answers(store, settings) == before


def test_ready_rows_are_what_is_sent(store: CatalogStore, settings: Settings) -> None:
    """And not made of the facts again."""
    list(make_ready(store.holdings, URLS))
    with store._database.writing() as connection:
        connection.exec_driver_sql(
            "UPDATE ready_row SET tabledata = CAST('forged' AS BLOB) WHERE dataset_id = 1"
        )
    document = b"".join(sia2.answer(CatalogQuery(), store=store, urls=URLS, settings=settings))
    assert document.count(b"<TR><TD>forged</TD></TR>") == 1


def test_a_dataset_that_is_written_again_is_not_ready(
    store: CatalogStore, settings: Settings
) -> None:
    """Its answer is the new one at once, and so it stays when it is ready again."""
    list(make_ready(store.holdings, URLS))
    count = ready_rows(store)
    changed = visit()
    changed = replace(changed, obscore=replace(changed.obscore, obs_title="another title"))
    store.holdings.write([rows_of(changed, "")])
    assert ready_rows(store) == count - 1
    for _ in range(2):
        document = b"".join(sia2.answer(CatalogQuery(), store=store, urls=URLS, settings=settings))
        assert document.count(b"<TD>another title</TD>") == 1
        list(make_ready(store.holdings, URLS))
    assert ready_rows(store) == count
    store.holdings.remove(changed.url)
    assert ready_rows(store) == count - 1


def test_rows_of_another_form_are_not_taken_but_made_again(
    store: CatalogStore, settings: Settings
) -> None:
    """As after a change of the template or of the software."""
    before = answers(store, settings)
    list(make_ready(store.holdings, URLS))
    with store._database.writing() as connection:
        connection.exec_driver_sql(
            "UPDATE ready_row SET form = 1, tabledata = x'00' WHERE dataset_id % 2 = 0"
        )
    assert answers(store, settings) == before
    with store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE ready_row SET form = 1, tabledata = x'00'")
    assert answers(store, settings) == before
    assert sum(make_ready(store.holdings, URLS)) == store.count()
    assert answers(store, settings) == before


def test_the_form_tells_templates_apart() -> None:
    """By their columns and by nothing of the place where the service is seen."""
    fields = load_template("sia2.xml").fields

    def form(some: Any, urls: SiteUrls = URLS) -> int:
        ready = ReadyTable.of(ObsCoreTable(some, urls))
        assert ready is not None
        return ready.form

    assert {form(fields, urls) for urls in PLACES} == {form(fields)}
    texts = [replace(fields[0], description="other", ucd="other"), *fields[1:]]
    assert form(texts) == form(fields)
    turned = [*fields[1:], fields[0]]
    fewer = [field for field in fields if field.name != "lsst_band"]
    whole = [
        replace(field, datatype="int") if field.name == "s_xel1" else field for field in fields
    ]
    assert len({form(some) for some in (fields, turned, fewer, whole)}) == 4


def test_what_cannot_be_written_is_never_ready(tmp_path: Path) -> None:
    """A number that its column has no room for; its neighbours are."""
    settings = make_settings(tmp_path)
    broken = make_dataset("c", "broken", access_estsize="much")
    store = make_store(settings, make_dataset("c", "a"), broken, make_dataset("c", "b"))
    assert sum(make_ready(store.holdings, URLS)) == 3
    assert ready_rows(store) == 2
    document = b"".join(sia2.answer(CatalogQuery(), store=store, urls=URLS, settings=settings))
    assert b'name="QUERY_STATUS" value="ERROR"' in document
    assert not store._database._file.is_in_use  # the search has ended, and waits for no collector
    store.close()
