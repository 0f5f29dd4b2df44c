"""The edge over the real engine: files that were ingested, and what becomes of them later."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from support.catalogs import AUTHORITY, make_settings
from support.images import write_family
from support.service import LiveService, running

from soda_service.app import create_app
from soda_service.catalog.ingest import ingest
from soda_service.config import CollectionsFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEF = f"ivo://{AUTHORITY}/zoo?mef.fits"


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "zoo"
    folder.mkdir()
    write_family("mef", folder)
    return folder


@pytest.fixture(name="zoo")
def _zoo(folder: Path, tmp_path: Path) -> Iterator[LiveService]:
    settings = make_settings(tmp_path, cache_dir=tmp_path / "cache", log_requests=False)
    report = ingest([folder], settings, CollectionsFile(), collection="zoo", workers=1)
    assert not report.failed
    with running(create_app(settings)) as live:
        yield live


def _middle(live: LiveService) -> str:
    """Where the images are, as SIA says it."""
    answer = live.get("/sia/query", ID=MEF)
    from astropy.io.votable import parse
    from pyvo.dal.sia2 import SIA2Results

    row = SIA2Results(parse(io.BytesIO(answer.content)))[0]
    return f"{row['s_ra']} {row['s_dec']} 0.003"


def test_an_identifier_alone_gives_the_file(zoo: LiveService, folder: Path) -> None:
    """As it is, and as /files has it."""
    content = (folder / "mef.fits").read_bytes()
    assert zoo.get("/soda/sync", ID=MEF).content == content
    assert zoo.get("/files/zoo/mef.fits").content == content


def test_a_cutout_is_a_slice_of_every_plane(zoo: LiveService, folder: Path) -> None:
    """Its values are the parent's, and its length was told before; asked twice, it is the same."""
    answer = zoo.get("/soda/sync", ID=MEF, CIRCLE=_middle(zoo))
    again = zoo.get("/soda/sync", ID=MEF, CIRCLE=_middle(zoo))
    assert answer.content == again.content
    assert answer.headers["content-length"] == str(len(answer.content))
    with (
        fits.open(io.BytesIO(answer.content)) as cutout,
        fits.open(folder / "mef.fits") as parent,
    ):
        for name in ("IMAGE", "MASK", "VARIANCE"):
            data, whole = cutout[name].data, parent[name].data
            height, width = data.shape
            assert (height, width) != whole.shape
            windows = np.lib.stride_tricks.sliding_window_view(whole, (height, width))
            assert (windows == data).all(axis=(2, 3)).any()


def test_a_place_elsewhere_is_204(zoo: LiveService) -> None:
    """SODA 1.0 §5.1."""
    assert zoo.get("/soda/sync", ID=MEF, CIRCLE="10 -80 0.01").status_code == 204


def test_a_file_that_is_replaced_is_noticed(zoo: LiveService, folder: Path) -> None:
    """The next cutout is of the new file."""
    where = _middle(zoo)
    before = zoo.get("/soda/sync", ID=MEF, CIRCLE=where).content
    with fits.open(folder / "mef.fits") as parent:
        parent["IMAGE"].data[:] = 42
        parent.writeto(folder / "new.tmp")
    os.replace(folder / "new.tmp", folder / "mef.fits")
    answer = zoo.get("/soda/sync", ID=MEF, CIRCLE=where)
    assert answer.content != before
    with fits.open(io.BytesIO(answer.content)) as cutout:
        assert (cutout["IMAGE"].data == 42).all()


def test_a_file_that_is_deleted_is_unknown(zoo: LiveService, folder: Path) -> None:
    """404 for the cutout and for the file, and the service goes on."""
    where = _middle(zoo)
    assert zoo.get("/soda/sync", ID=MEF, CIRCLE=where).status_code == 200
    (folder / "mef.fits").unlink()
    assert zoo.get("/soda/sync", ID=MEF, CIRCLE=where).status_code == 404
    assert zoo.get("/soda/sync", ID=MEF).status_code == 404
    assert zoo.get("/files/zoo/mef.fits").status_code == 404
    assert zoo.get("/").status_code == 200


def test_a_file_that_is_truncated_is_an_error_of_ours(zoo: LiveService, folder: Path) -> None:
    """500 with the label Error; its path is not told."""
    where = _middle(zoo)
    path = folder / "mef.fits"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    answer = zoo.get("/soda/sync", ID=MEF, CIRCLE=where)
    assert answer.status_code == 500
    assert answer.text.startswith("Error: ")
    assert str(folder) not in answer.text
