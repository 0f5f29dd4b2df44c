"""Files that are changed, cut off, replaced or taken away while an answer is being sent.

A disk that hangs, gives errors or goes away is in `test_hanging_disk`; the errors of a read
itself are in `tests/storage`.
"""

from __future__ import annotations

import errno
import io
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from support.faultydisk import FaultyDisk
from support.service import SMALL_BUFFER, received, running

from soda_service.app import create_app
from soda_service.catalog.ingest import ingest
from soda_service.config import CollectionsFile, Settings
from soda_service.errors import SourceUnavailableError
from soda_service.storage.local import LocalSource
from soda_service.storage.runs import RunGrid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.service import LiveService

SIDE = 2400
"""23 MB: more than the sockets hold, which are told to hold little."""
PIXELS = np.arange(SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
PATHS = ["/soda/sync", "/files/disk/image.fits"]
DID = "ivo://archive.example/disk?image.fits"


@pytest.fixture(name="image")
def _image(tmp_path: Path) -> Path:
    header = fits.Header()
    header.update(
        CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=150.0, CRVAL2=2.0, CRPIX1=SIDE / 2,
        CRPIX2=SIDE / 2, CDELT1=-1e-4, CDELT2=1e-4,
    )  # fmt: skip
    path = tmp_path / "disk" / "image.fits"
    path.parent.mkdir()
    fits.PrimaryHDU(PIXELS, header).writeto(path)
    return path


@pytest.fixture(name="live")
def _live(image: Path, tmp_path: Path) -> Iterator[LiveService]:
    settings = _settings(tmp_path)
    assert ingest([image.parent], settings, CollectionsFile(), workers=1).added == 1
    with running(create_app(settings), buffer_bytes=SMALL_BUFFER) as live:
        yield live


def _settings(tmp_path: Path) -> Settings:
    return Settings(
        authority="archive.example",
        catalog=f"sqlite:///{tmp_path}/catalog.sqlite",
        data_dir=tmp_path,
        cache_dir=tmp_path / "cache",
        spool_dir=tmp_path / "spool",
        log_requests=False,
    )


def _url(live: LiveService, path: str) -> str:
    wanted = {"ID": DID, "PIXELS": "[*,*]"} if path == "/soda/sync" else {}
    return live.url(path, **wanted)


def _received(live: LiveService, path: str, deed: Callable[[], None]) -> tuple[bytes, bool]:
    return received(live.client, _url(live, path), deed)


@pytest.mark.parametrize("path", PATHS)
def test_a_file_that_is_cut_off_breaks_the_answer(
    live: LiveService, image: Path, path: str
) -> None:
    whole = live.client.get(_url(live, path)).content
    got, complete = _received(live, path, lambda: os.truncate(image, 10_000_000))
    assert not complete
    assert whole.startswith(got)
    assert live.client.get(_url(live, path)).status_code == 500
    assert live.get("/health").status_code == 200


@pytest.mark.parametrize("path", PATHS)
def test_a_file_that_is_written_to_breaks_the_answer(
    live: LiveService, image: Path, path: str
) -> None:
    def write() -> None:
        with image.open("r+b") as file:
            file.seek(-8_000_000, os.SEEK_END)
            file.write(bytes(4_000_000))

    whole = live.client.get(_url(live, path)).content
    got, complete = _received(live, path, write)
    assert not complete
    assert whole.startswith(got)
    after = live.client.get(_url(live, path))
    assert after.status_code == 200
    assert len(after.content) == len(whole)
    assert after.content != whole


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("deed", ["replaced", "removed"])
def test_one_that_is_replaced_or_removed_is_sent_to_its_end(
    live: LiveService, image: Path, path: str, deed: str
) -> None:
    """As it was: the old file lives as long as somebody has it open."""
    other = image.with_name("other")
    other.write_bytes(image.read_bytes()[:-4_000_000] + bytes(4_000_000))
    whole = live.client.get(_url(live, path)).content

    def act() -> None:
        if deed == "replaced":
            other.rename(image)
        else:
            image.unlink()

    got, complete = _received(live, path, act)
    assert complete
    assert got == whole
    after = live.client.get(_url(live, path))
    assert after.status_code == (200 if deed == "replaced" else 404)
    assert after.content != whole


@pytest.mark.parametrize("path", PATHS)
def test_one_that_is_gone_between_being_found_and_being_opened_is_unknown(
    image: Path, tmp_path: Path, path: str
) -> None:
    """404, for nothing is there; no fault of ours."""
    with FaultyDisk.mounted(image.parent, tmp_path / "faulty" / "disk") as disk:
        settings = _settings(tmp_path)
        assert ingest([disk.mount], settings, CollectionsFile(), workers=1).added == 1
        with running(create_app(settings)) as live:
            disk.fail("open", error=errno.ENOENT)
            answer = live.client.get(_url(live, path))
    assert answer.status_code == 404
    assert "its file is gone" in answer.text


def test_a_file_that_its_disk_knows_no_more_is_told_as_unreachable(
    image: Path, tmp_path: Path
) -> None:
    """Whatever is asked about it: a file server that has lost a file says ESTALE, on and on."""
    with FaultyDisk.mounted(image.parent, tmp_path / "faulty") as disk:
        source = LocalSource.open(str(disk.mount / image.name))
        with source:
            disk.fail("getattr", error=errno.ESTALE)
            lost = pytest.raises(SourceUnavailableError, match=os.strerror(errno.ESTALE))
            with lost:
                source.check_unchanged()
            with lost:
                source.read(source.version.size, 1)
            with lost:
                source.read_runs(RunGrid(0, 100_000, (2,), (200_000,)))


@pytest.mark.parametrize("kind", ["pipe", "folder", "memory", "loop"])
def test_what_is_no_file_any_more_is_an_error_and_nobody_waits(
    live: LiveService, image: Path, kind: str
) -> None:
    """A pipe would wait for its writer; `/proc/self/mem` claims to be a file and gives EIO."""
    image.unlink()
    match kind:
        case "pipe":
            os.mkfifo(image)
        case "folder":
            image.mkdir()
        case "memory":
            image.symlink_to("/proc/self/mem")
        case _:
            image.symlink_to(image)
    for path in PATHS:
        answer = live.client.get(_url(live, path))
        # Of what is in the file's place for good no client is told to try again.
        expected = {500} if kind in {"pipe", "folder"} else {404, 500, 503}
        assert answer.status_code in expected
        assert str(image.parent) not in answer.text
    assert live.get("/health").status_code == 200


def test_a_read_of_the_right_pixels_before_all_this(live: LiveService) -> None:
    content = live.client.get(_url(live, "/soda/sync")).content
    with fits.open(io.BytesIO(content)) as hdus:
        np.testing.assert_array_equal(hdus[0].data, PIXELS)
