"""The coverage of collections follows the catalog, and holds every pixel."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import Latitude, Longitude, SkyCoord
from support.catalogs import cube, make_dataset, make_settings, make_store, unplaced, visit
from support.images import COMPRESSED_FAMILIES, SKY_FAMILIES
from support.mocs import reference
from support.wcs import first_image

from soda_service.catalog import skycoverage
from soda_service.catalog.dataset import Footprint
from soda_service.catalog.rows import rows_of
from soda_service.catalog.store import CatalogStore
from soda_service.fits.footprint import footprint
from soda_service.geometry.mocbuilder import MocBuilder
from soda_service.geometry.shapes import Circle, Polygon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import mocpy

    from soda_service.catalog.dataset import Dataset
    from soda_service.config import Settings

FAMILIES = [name for name in SKY_FAMILIES if name not in COMPRESSED_FAMILIES]


@pytest.fixture(name="settings")
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(skycoverage, "_BELIEVED_SECONDS", 0.0)
    return make_settings(tmp_path)


@pytest.fixture(name="store")
def _store(settings: Settings) -> Iterator[CatalogStore]:
    store = make_store(settings, place(10.0), place(20.0), cube(), unplaced())
    yield store
    store.close()


def place(lon: float, **facts: object) -> Dataset:
    """A visit of a degree by a degree at a longitude."""
    corners = ((lon, 0.0), (lon + 1.0, 0.0), (lon + 1.0, 1.0), (lon, 1.0))
    return visit(
        f"at-{lon}",
        footprint=Footprint(polygons=(Polygon(corners),), cap=Circle(lon + 0.5, 0.5, 0.71)),
        **facts,
    )


def expected(*lons: float) -> mocpy.MOC:
    builder = MocBuilder(10)
    for lon in lons:
        footprint_ = place(lon).footprint
        assert footprint_ is not None
        builder.add(footprint_.polygons)
    return reference(builder.moc(most_cells=10**7))


def covered(settings: Settings, name: str = "visits") -> mocpy.MOC:
    """By a process that has just started."""
    with closing(CatalogStore(settings)) as store:
        found = store.coverages.get(name)
        assert found is not None
        return reference(found.moc)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_pixel_of_every_image_is_in_the_moc(name: str) -> None:
    """Corners and centres, by astropy's own WCS and mocpy's own HEALPix."""
    image = first_image(name)
    builder = MocBuilder(10)
    builder.add([Polygon(piece) for piece in footprint(image.grid())])
    moc = reference(builder.moc(most_cells=250_000))
    width, height = image.grid().naxis
    x, y = np.meshgrid(np.arange(-0.5, width, 0.5), np.arange(-0.5, height, 0.5))
    sky = image.astropy_sky(x.ravel(), y.ravel())
    sky = sky[:, np.isfinite(sky).all(axis=0)]
    assert sky.size
    lon = np.degrees(np.arctan2(sky[1], sky[0]))
    lat = np.degrees(np.arctan2(sky[2], np.hypot(sky[0], sky[1])))
    assert moc.contains_lonlat(Longitude(lon, u.deg), Latitude(lat, u.deg)).all()


def test_the_moc_is_the_union_of_the_footprints(settings: Settings, store: CatalogStore) -> None:
    moc = covered(settings)
    assert moc == expected(10.0, 20.0)
    assert moc.max_order == 10
    inside, outside = (
        SkyCoord([10.01, 20.99], [0.01, 0.99], unit="deg"),
        SkyCoord(15, 0, unit="deg"),
    )
    assert moc.contains_skycoords(inside).all()
    assert not moc.contains_skycoords(outside).any()
    # The cube lies across longitude 0.
    assert (
        covered(settings, "cubes")
        .contains_skycoords(SkyCoord([0.4, 359.6], [-27.5, -27.5], unit="deg"))
        .all()
    )


def test_names_are_of_any_case_and_others_are_none(settings: Settings, store: CatalogStore) -> None:
    coverages = store.coverages
    found = coverages.get("VISITS")
    assert found is not None
    assert found.collection == "visits"
    for name in ("nothing", "", "visits\n", "é", "%"):
        assert coverages.get(name) is None


def test_a_collection_without_places_has_an_empty_moc(
    settings: Settings, store: CatalogStore
) -> None:
    assert covered(settings, "surveys").empty()


def test_what_is_added_is_added(settings: Settings, store: CatalogStore) -> None:
    """In one process and in the next, from what is kept and without it."""
    coverages = store.coverages
    before = coverages.get("visits")
    store.holdings.write([rows_of(place(30.0), "by hand")])
    after = coverages.get("visits")
    assert before is not None
    assert after is not None
    assert before.etag != after.etag
    assert reference(after.moc) == expected(10.0, 20.0, 30.0)
    assert covered(settings) == expected(10.0, 20.0, 30.0)


def test_only_what_is_new_is_looked_at(
    settings: Settings, store: CatalogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    add = MocBuilder.add

    def noted(self: MocBuilder, polygons: list[Polygon]) -> None:
        seen.append(len(polygons))
        add(self, polygons)

    monkeypatch.setattr(MocBuilder, "add", noted)
    covered(settings)
    covered(settings)
    store.holdings.write([rows_of(place(30.0), "by hand")])
    covered(settings)
    assert seen == [2, 1]


def test_what_goes_or_changes_is_taken_out(settings: Settings, store: CatalogStore) -> None:
    assert covered(settings) == expected(10.0, 20.0)
    store.holdings.remove(place(20.0).url)
    assert covered(settings) == expected(10.0)
    moved = replace(place(40.0), url=place(10.0).url, obscore=place(10.0).obscore)
    store.holdings.write([rows_of(moved, "by hand")])
    assert covered(settings) == expected(40.0)
    store.holdings.write([rows_of(place(50.0), "by hand")])
    store.holdings.remove(moved.url)
    assert covered(settings) == expected(50.0)


def test_a_file_that_is_broken_or_cannot_be_is_no_harm(
    settings: Settings, store: CatalogStore, tmp_path: Path
) -> None:
    covered(settings)
    (kept,) = (tmp_path / "catalog.sqlite-coverage").iterdir()
    whole = kept.read_bytes()
    for content in (b"", b"{}\n", whole[:-8], whole + b"x" * 16, b"\xff" * 100, b'{"form": 9}\n'):
        kept.write_bytes(content)
        assert covered(settings) == expected(10.0, 20.0)
        assert kept.read_bytes() == whole
    kept.unlink()
    kept.parent.rmdir()
    kept.parent.write_text("a file where the folder should be")
    assert covered(settings) == expected(10.0, 20.0)


def test_a_changing_catalog_is_believed_for_a_while(
    settings: Settings, store: CatalogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skycoverage, "_BELIEVED_SECONDS", 1000.0)
    coverages = store.coverages
    before = coverages.get("visits")
    store.holdings.write([rows_of(place(30.0), "by hand")])
    assert coverages.get("visits") is before
    monkeypatch.setattr(skycoverage, "_BELIEVED_SECONDS", 0.0)
    assert coverages.get("visits") is not before


def test_another_collection_that_changes_leaves_the_tag(
    settings: Settings, store: CatalogStore
) -> None:
    coverages = store.coverages
    before = coverages.get("visits")
    store.holdings.write([rows_of(make_dataset("cubes", "other"), "by hand")])
    after = coverages.get("visits")
    assert before is not None
    assert after is not None
    assert before.etag == after.etag


def test_a_collection_whose_datasets_were_removed_has_none(
    settings: Settings, store: CatalogStore
) -> None:
    """As if it had never been; it may come back."""
    coverages = store.coverages
    assert coverages.get("visits") is not None
    for lon in (10.0, 20.0):
        assert store.holdings.remove(place(lon).url) == 1
    assert coverages.get("visits") is None
    store.holdings.write([rows_of(place(20.0), "")])
    assert coverages.get("visits") is not None
