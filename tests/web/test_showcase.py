"""What the page and the examples show of archives that are not made for it."""

from __future__ import annotations

from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from lxml import etree
from support.images import FAMILIES, extension, primary, ramp, sky_cards
from support.rangeserver import Fault, range_server
from support.service import LiveService, running

from soda_service.app import create_app
from soda_service.catalog.ingest import ingest
from soda_service.config import CollectionConfig, CollectionsFile, Settings
from soda_service.web import showcase

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to be shown is waited for, however slow the machine is."""
    monkeypatch.setattr(showcase, "_PAGE_SECONDS", 600)
    monkeypatch.setattr(showcase, "_PATIENCE_SECONDS", 600)


def _settings(folder: Path) -> Settings:
    return Settings(
        catalog=f"sqlite:///{folder / 'catalog.sqlite'}",
        cache_dir=folder / "cache",
        spool_dir=folder / "spool",
    )


@contextmanager
def _served(folder: Path) -> Iterator[LiveService]:
    """A service over what is in *folder*, each folder of it a collection."""
    settings = _settings(folder)
    for one in sorted(path for path in folder.iterdir() if path.is_dir()):
        ingest([one], settings, CollectionsFile(), workers=1)
    with running(create_app(settings)) as live:
        yield live


def _links(live: LiveService, path: str) -> list[str]:
    document = etree.fromstring(live.get(path).content, etree.HTMLParser())
    return [str(one.get("href")) for one in document.iter("{*}a", "a")]


def _chips_apart() -> bytes:
    """A camera of two chips with a gap between them that is wider than they are."""
    chips = [extension(ramp(40, 30), sky_cards(crval=(lon, 2.2))) for lon in (149.0, 151.0)]
    return b"".join([primary(None), *chips])


@pytest.mark.parametrize("path", ["/", "/soda/examples"])
def test_the_middle_of_a_dataset_may_be_a_gap(tmp_path: Path, path: str) -> None:
    (tmp_path / "chips").mkdir()
    (tmp_path / "chips" / "a.fits").write_bytes(_chips_apart())
    with _served(tmp_path) as live:
        (cutout,) = [link for link in _links(live, path) if "/soda/sync?" in link]
        answer = live.client.get(cutout)
        assert answer.status_code == 200
        with fits.open(BytesIO(answer.content)) as hdus:
            assert [one.data is not None and one.data.size > 0 for one in hdus] == [False, True]


@pytest.mark.parametrize("path", ["/", "/soda/examples"])
def test_a_damaged_file_does_not_stand_for_all(tmp_path: Path, path: str) -> None:
    (tmp_path / "some").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "some" / f"{name}.fits").write_bytes(FAMILIES["tan"]())
    with _served(tmp_path) as live:
        (tmp_path / "some" / "a.fits").unlink()
        (tmp_path / "some" / "b.fits").write_bytes(b"no image any more")
        (cutout,) = [link for link in _links(live, path) if "/soda/sync?" in link]
        assert "c.fits" in cutout
        assert live.client.get(cutout).status_code == 200


@pytest.mark.parametrize("path", ["/", "/soda/examples"])
def test_a_file_that_cannot_be_reached_hides_no_other(tmp_path: Path, path: str) -> None:
    """Its entry cannot be looked at, which is told at once and is the matter of no other file."""
    (tmp_path / "some").mkdir()
    for name in ("a", "b"):
        (tmp_path / "some" / f"{name}.fits").write_bytes(FAMILIES["tan"]())
    with _served(tmp_path) as live:
        first = tmp_path / "some" / "a.fits"
        first.unlink()
        first.symlink_to(first)
        refused = live.get("/soda/sync", ID="ivo://demo.invalid/some?a.fits", POS="CIRCLE 1 2 3")
        assert (refused.status_code, "cannot be looked at" in refused.text) == (503, True)
        (cutout,) = [link for link in _links(live, path) if "/soda/sync?" in link]
        assert "b.fits" in cutout
        assert live.client.get(cutout).status_code == 200


def test_where_files_make_one_wait_one_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here every wait is too long."""
    (tmp_path / "some").mkdir()
    for name in ("a", "b"):
        (tmp_path / "some" / f"{name}.fits").write_bytes(FAMILIES["tan"]())
    with _served(tmp_path) as live:
        (tmp_path / "some" / "a.fits").unlink()
        (tmp_path / "some" / "a.fits").symlink_to("a.fits")
        assert "b.fits" in live.get("/soda/examples").text
        monkeypatch.setattr(showcase, "_PATIENCE_SECONDS", -1.0)
        assert "b.fits" not in live.get("/soda/examples").text


def test_a_store_that_refuses_one_object_is_asked_for_no_other(tmp_path: Path) -> None:
    """What it has is planned from the catalog, but for the tables of distortions."""
    settings = _settings(tmp_path)
    with range_server() as store:
        for name in "abc":
            store.contents[f"/far/{name}.fits"] = FAMILIES["lookup_distortion"]()
        far = CollectionConfig(root=store.url("/far"))
        collections = CollectionsFile(collections={"far": far})
        urls = [store.url(path) for path in store.contents]
        assert ingest(urls, settings, collections, workers=1).added == 3
        store.always = Fault.FORBIDDEN
        with running(create_app(settings)) as live:
            live.get("/soda/examples")
            store.forget()
            assert "can be tried as it stands" not in live.get("/soda/examples").text
            assert {one.path for one in store.asked} == {"/far/a.fits"}
            store.always = None
            assert "far" in live.get("/soda/examples").text


@pytest.mark.parametrize("path", ["/", "/soda/examples"])
def test_a_root_that_is_gone_leaves_the_other_collections(tmp_path: Path, path: str) -> None:
    for collection in ("first", "second"):
        (tmp_path / collection).mkdir()
        for name in ("a", "b"):
            (tmp_path / collection / f"{name}.fits").write_bytes(FAMILIES["tan"]())
    with _served(tmp_path) as live:
        (tmp_path / "first").rename(tmp_path / "elsewhere")
        (cutout,) = [link for link in _links(live, path) if "/soda/sync?" in link]
        assert "second" in cutout


def test_where_nothing_can_be_shown_nothing_is_promised(tmp_path: Path) -> None:
    (tmp_path / "nowhere").mkdir()
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(tmp_path / "nowhere" / "a.fits")
    with _served(tmp_path) as live:
        page, examples = live.get("/").text, live.get("/soda/examples").text
        assert "1 dataset.<" in page
        assert "works as it stands" not in page
        assert "None of those tried can be cut by a position" in page
        assert "can be tried as it stands" not in examples
        assert "no dataset that was tried can be cut by a position" in examples


def test_a_collection_without_a_title_has_its_name_once(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.fits").write_bytes(FAMILIES["tan"]())
    with _served(tmp_path) as live:
        document = etree.fromstring(live.get("/").content, etree.HTMLParser())
        (cell,) = document.iterfind(".//tbody//th")
        assert cell.text == "mine"
        assert [one.text for one in cell.iter("small")] == ["Where on the sky (MOC): "]
