"""An archive on a network file system, as a running service sees it."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import numpy as np
from support.images import primary, sky_cards
from support.mounts import pretend_network
from support.service import running

from soda_service.app import create_app

if TYPE_CHECKING:
    import pytest
    from support.archive import Archive


def test_the_event_loop_asks_nothing_of_it(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for its entry nor for what is open, first and later."""
    path = archive.folder / "image.fits"
    pixels = np.arange(2000 * 1500, dtype=np.int16).reshape(2000, 1500)
    path.write_bytes(primary(pixels, sky_cards()))
    archive.ingest()
    pretend_network(archive.folder.parent, monkeypatch)
    asked: list[str] = []
    stat, fstat = os.stat, os.fstat
    status = stat(path)

    def note(found: os.stat_result) -> os.stat_result:
        if (found.st_dev, found.st_ino) == (status.st_dev, status.st_ino):
            asked.append(threading.current_thread().name)
        return found

    with running(create_app(archive.settings)) as live:
        monkeypatch.setattr(os, "stat", lambda *given, **named: note(stat(*given, **named)))
        monkeypatch.setattr(os, "fstat", lambda descriptor: note(fstat(descriptor)))
        for pixel_box in ("[1:100,1:100]", "[1:100,1:100]", "[*,*]"):
            identifier = "ivo://archive.example/archive?image.fits"
            answer = live.get("/soda/sync", ID=identifier, PIXELS=pixel_box)
            assert answer.status_code == 200
    assert asked
    assert {name.rstrip("0123456789") for name in asked} == {"soda-service_"}
