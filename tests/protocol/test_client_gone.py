"""Work that nobody waits for any more ends, over a real socket."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits
from support.images import sky_cards
from support.service import running

from soda_service.app import create_app
from soda_service.catalog.ingest import ingest
from soda_service.config import CollectionsFile, Settings
from soda_service.cutout import cutter
from soda_service.storage.bands import BAND_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.service import LiveService

SIDE = 3000
BANDS = SIDE * SIDE * 4 // BAND_BYTES
"""Bands of each image of the file, about."""


class Watched:
    """How far the pixels of an answer have been read, and a place where reading waits."""

    def __init__(self) -> None:
        self.bands = 0
        self.has_begun = threading.Event()
        self.may_go_on = threading.Event()
        self.has_ended = threading.Event()

    def over(self, bands: Iterator[Any]) -> Iterator[Any]:
        """The same bands; after the third, reading waits until the client has gone."""
        try:
            for band in bands:
                self.bands += 1
                if self.bands == 3:
                    self.has_begun.set()
                    assert self.may_go_on.wait(60)
                if self.bands > 3:
                    # The news that the client has gone needs some milliseconds.
                    self.has_ended.wait(0.02)
                yield band
        finally:
            self.has_ended.set()


@pytest.fixture(scope="module", name="service")
def _service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveService, str]]:
    """A file of two images of noise, which take long to compress."""
    folder = tmp_path_factory.mktemp("noise")
    noise = np.random.default_rng(7).normal(size=(SIDE, SIDE)).astype(">f4")
    header = fits.Header(sky_cards(crpix=(1500.0, 1500.0)))
    hdus = [fits.ImageHDU(noise, header, name=name) for name in ("SCI", "ERR")]
    (folder / "files").mkdir()
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(folder / "files" / "noise.fits")
    settings = Settings(
        data_dir=folder, catalog=f"sqlite:///{folder / 'catalog.sqlite'}",
        cache_dir=folder / "cache", spool_dir=folder / "spool",
    )  # fmt: skip
    collections = CollectionsFile.model_validate({"collections": {"noise": {"root": "files"}}})
    report = ingest([folder / "files"], settings, collections, workers=1)
    assert report.added == 1
    with running(create_app(settings)) as live:
        yield live, f"ivo://{settings.authority}/noise?noise.fits"


@pytest.mark.parametrize(
    "asked",
    [
        {"COMPRESS": "gz"},
        {"COMPRESS": "fz"},
        {"CHECKSUM": "1"},
        {"CHECKSUM": "1", "HEADERONLY": "1"},
        {"CHECKSUM": "1", "COMPRESS": "gz"},
    ],
    ids="-".join,
)
def test_it_ends_when_the_client_goes(
    service: tuple[LiveService, str], monkeypatch: pytest.MonkeyPatch, asked: dict[str, str]
) -> None:
    """Long before all pixels have been read; nothing stays on the disk set aside."""
    live, did = service
    watched = Watched()
    read = cutter._data
    monkeypatch.setattr(cutter, "_data", lambda *args: watched.over(read(*args)))
    url = live.url("/soda/sync", ID=did, PIXELS="[1:2999,1:2999]", **asked)
    target = url.removeprefix(live.base)
    with socket.create_connection(("127.0.0.1", live.port)) as connection:
        request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        connection.sendall(request.encode("ascii"))
        assert watched.has_begun.wait(60), "no pixel was read"
    watched.may_go_on.set()
    assert watched.has_ended.wait(60)
    assert watched.bands < BANDS / 2
    monkeypatch.undo()
    # The service goes on, and has its threads and its disk again.
    small = live.get("/soda/sync", ID=did, PIXELS="[1:9,1:9]", COMPRESS="gz")
    assert small.status_code == 200
