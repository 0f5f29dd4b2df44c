"""The coverage of a collection over HTTP, read by mocpy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import astropy.units as u
import mocpy
import pytest
from astropy.coordinates import Latitude, Longitude

if TYPE_CHECKING:
    from pathlib import Path

    from support.service import LiveService

TYPES = {
    "moc.fits": ("application/fits", "fits"),
    "moc.txt": ("text/plain; charset=us-ascii", "ascii"),
    "moc.json": ("application/json", "json"),
}


@pytest.mark.parametrize("document", TYPES)
def test_each_form_is_read_and_holds_the_datasets(
    live: LiveService, tmp_path: Path, document: str
) -> None:
    answer = live.get(f"/coverage/visits/{document}")
    assert answer.status_code == 200
    media_type, form = TYPES[document]
    assert answer.headers["content-type"] == media_type
    assert answer.headers["content-disposition"] == f'inline; filename="visits-{document}"'
    (tmp_path / document).write_bytes(answer.content)
    moc = mocpy.MOC.load(tmp_path / document, format=form)
    lon, lat = (
        Longitude([149.81, 150.19, 150.0, 151.0] * u.deg),
        Latitude([1.91, 2.09, 2, 2] * u.deg),
    )
    assert moc.contains_lonlat(lon, lat).tolist() == [True, True, True, False]


def test_the_collection_itself_gives_fits(live: LiveService) -> None:
    assert live.get("/coverage/visits").content == live.get("/coverage/visits/moc.fits").content
    assert (
        live.get("/coverage/VISITS/moc.txt").content == live.get("/coverage/visits/moc.txt").content
    )


@pytest.mark.parametrize("document", TYPES)
def test_head_and_a_copy_that_is_still_good(live: LiveService, document: str) -> None:
    got = live.get(f"/coverage/visits/{document}")
    head = live.head(f"/coverage/visits/{document}")
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-length", "etag"):
        assert head.headers[name] == got.headers[name]
    again = live.get(f"/coverage/visits/{document}", headers={"If-None-Match": got.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = live.get(f"/coverage/visits/{document}", headers={"If-None-Match": '"other"'})
    assert other.content == got.content


@pytest.mark.parametrize(
    "path",
    ["nothing", "nothing/moc.fits", "visits/moc.png", "visits/moc.fits/", "visits/", "",
     "visits/moc.fits%0A", "visits%0A", "%00", "../visits", "visits/MOC.FITS", "%FF"],
)  # fmt: skip
def test_anything_else_is_not_there(live: LiveService, path: str) -> None:
    answer = live.get(f"/coverage/{path}")
    assert answer.status_code == 404
    assert answer.text.startswith("UsageError: there is nothing at ")


def test_the_page_links_to_it(live: LiveService) -> None:
    links = re.findall(r'href="([^"]*/coverage/[^"]*)"', live.get("/").text)
    assert [link.removeprefix(live.base) for link in links] == [
        f"/coverage/visits/{document}" for document in TYPES
    ]
    assert all(live.client.get(link).status_code == 200 for link in links)
