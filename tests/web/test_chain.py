"""The edge over the real engine: files that were ingested, and what becomes of them later."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.votable import parse
from pyvo.dal.sia2 import SIA2Results
from support.catalogs import AUTHORITY, make_settings
from support.images import write_family
from support.service import running

from soda_service.app import create_app
from soda_service.catalog.ingest import ingest
from soda_service.config import CollectionsFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.service import LiveService

WHOLE, REPLACED, DELETED, TRUNCATED = (
    f"ivo://{AUTHORITY}/zoo?{name}.fits" for name in ("whole", "replaced", "deleted", "truncated")
)


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file, four times: each may come to its own end."""
    folder = tmp_path_factory.mktemp("zoo")
    for identifier in (WHOLE, REPLACED, DELETED, TRUNCATED):
        write_family("mef", folder).rename(folder / identifier.rpartition("?")[2])
    return folder


@pytest.fixture(name="zoo", scope="module")
def _zoo(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    place = tmp_path_factory.mktemp("catalog")
    settings = make_settings(place, cache_dir=place / "cache", log_requests=False)
    report = ingest([folder], settings, CollectionsFile(), collection="zoo", workers=1)
    assert report.added == 4
    with running(create_app(settings)) as live:
        yield live


@pytest.fixture(name="where", scope="module")
def _where(zoo: LiveService) -> str:
    """A circle in the middle of the images, as SIA says it."""
    answer = zoo.get("/sia/query", ID=WHOLE)
    (row,) = SIA2Results(parse(io.BytesIO(answer.content)))
    return f"{row['s_ra']} {row['s_dec']} 0.003"


def test_an_identifier_alone_gives_the_file(zoo: LiveService, folder: Path) -> None:
    """As it is, and as /files has it."""
    content = (folder / "whole.fits").read_bytes()
    assert zoo.get("/soda/sync", ID=WHOLE).content == content
    assert zoo.get("/files/zoo/whole.fits").content == content


def test_a_cutout_is_a_slice_of_every_plane(zoo: LiveService, folder: Path, where: str) -> None:
    """Its values are the parent's, and its length was told before; asked twice, it is the same."""
    answer = zoo.get("/soda/sync", ID=WHOLE, CIRCLE=where)
    again = zoo.get("/soda/sync", ID=WHOLE, CIRCLE=where)
    assert answer.content == again.content
    assert answer.headers["content-length"] == str(len(answer.content))
    with (
        fits.open(io.BytesIO(answer.content)) as cutout,
        fits.open(folder / "whole.fits") as parent,
    ):
        for name in ("IMAGE", "MASK", "VARIANCE"):
            data, whole = cutout[name].data, parent[name].data
            height, width = data.shape
            assert (height, width) != whole.shape
            windows = np.lib.stride_tricks.sliding_window_view(whole, (height, width))
            assert (windows == data).all(axis=(2, 3)).any()


def test_a_place_elsewhere_is_204(zoo: LiveService) -> None:
    """SODA 1.0 §5.1."""
    assert zoo.get("/soda/sync", ID=WHOLE, CIRCLE="10 -80 0.01").status_code == 204


def test_a_file_that_is_replaced_is_noticed(zoo: LiveService, folder: Path, where: str) -> None:
    """The next cutout is of the new file."""
    before = zoo.get("/soda/sync", ID=REPLACED, CIRCLE=where).content
    with fits.open(folder / "replaced.fits") as parent:
        parent["IMAGE"].data[:] = 42
        parent.writeto(folder / "new.tmp")
    (folder / "new.tmp").rename(folder / "replaced.fits")
    answer = zoo.get("/soda/sync", ID=REPLACED, CIRCLE=where)
    assert answer.content != before
    with fits.open(io.BytesIO(answer.content)) as cutout:
        assert (cutout["IMAGE"].data == 42).all()


def test_a_file_that_is_deleted_is_unknown(zoo: LiveService, folder: Path, where: str) -> None:
    """404 for the cutout and for the file, and the service goes on."""
    assert zoo.get("/soda/sync", ID=DELETED, CIRCLE=where).status_code == 200
    (folder / "deleted.fits").unlink()
    assert zoo.get("/soda/sync", ID=DELETED, CIRCLE=where).status_code == 404
    assert zoo.get("/soda/sync", ID=DELETED).status_code == 404
    assert zoo.get("/files/zoo/deleted.fits").status_code == 404
    assert zoo.get("/").status_code == 200


def test_a_file_that_is_truncated_is_an_error_of_ours(
    zoo: LiveService, folder: Path, where: str
) -> None:
    """500 with the label Error; its path is not told."""
    path = folder / "truncated.fits"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    answer = zoo.get("/soda/sync", ID=TRUNCATED, CIRCLE=where)
    assert answer.status_code == 500
    assert answer.text.startswith("Error: ")
    assert str(folder) not in answer.text
