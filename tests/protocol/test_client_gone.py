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
from support.turn import until

from soda_service.app import create_app
from soda_service.catalog.ingest import ingest
from soda_service.config import CollectionsFile, Settings
from soda_service.cutout import cutter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.service import LiveService

SIDE = 3000


class Watched:
    """How far the pixels of an answer have been read, and a place where reading waits."""

    def __init__(self) -> None:
        self.bands = 0
        self.has_begun = threading.Event()
        self.may_go_on = threading.Event()
        self.was_told = threading.Event()
        self.has_ended = threading.Event()
        self._until = cutter._until

    def until(self, stopped: Callable[[], bool], bands: Iterator[Any]) -> Iterator[Any]:
        """What `cutter._until` gives; at the third band, reading waits until it is told to stop."""
        try:
            yield from self._until(stopped, self._waiting(stopped, bands))
        finally:
            if self.was_told.is_set():
                self.has_ended.set()

    def _waiting(self, stopped: Callable[[], bool], bands: Iterator[Any]) -> Iterator[Any]:
        for band in bands:
            self.bands += 1
            if self.bands == 3:
                self.has_begun.set()
                assert self.may_go_on.wait(60)
                until(stopped)
                self.was_told.set()
            yield band


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
    """With the band that is read just then; nothing stays on the disk set aside."""
    live, did = service
    watched = Watched()
    monkeypatch.setattr(cutter, "_until", watched.until)
    url = live.url("/soda/sync", ID=did, PIXELS="[1:2999,1:2999]", **asked)
    target = url.removeprefix(live.base)
    with socket.create_connection(("127.0.0.1", live.port), timeout=60) as connection:
        request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        connection.sendall(request.encode("ascii"))
        assert watched.has_begun.wait(60), "no pixel was read"
    watched.may_go_on.set()
    assert watched.was_told.wait(60)
    assert watched.has_ended.wait(60)
    assert watched.bands == 3
    monkeypatch.undo()
    # The service goes on, and has its threads and its disk again.
    small = live.get("/soda/sync", ID=did, PIXELS="[1:9,1:9]", COMPRESS="gz")
    assert small.status_code == 200
