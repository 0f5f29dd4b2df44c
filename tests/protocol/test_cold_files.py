"""Files that are not in memory: threads read them from the disk, and the event loop never does.

Linux counts for each thread what it has fetched from a disk itself, and the pages that it had to
wait for.
"""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from astropy.io import fits
from support.service import running

from soda_service.app import create_app
from soda_service.catalog.ingest import ingest
from soda_service.config import CollectionsFile, Settings
from soda_service.storage.mapping import FileMapping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Receive, Scope, Send
    from support.service import LiveService

pytestmark = pytest.mark.skipif(
    not Path("/proc/thread-self/io").exists(), reason="this kernel does not count for each thread"
)

SIDE = 1200
SCALE = 1e-4
PIXELS = np.random.default_rng(5).normal(100.0, 3.0, (SIDE, SIDE)).astype(np.float32)
WANTED = {
    "point": {"PIXELS": "[600:600,600:600]"},
    "small": {"CIRCLE": f"150.01 1.99 {25 * SCALE}"},
    "medium": {"CIRCLE": f"149.98 2.01 {100 * SCALE}"},
    "large": {"CIRCLE": f"150 2 {500 * SCALE}"},
    "columns": {"PIXELS": "[7:9,*]"},
    "whole": {"PIXELS": "[*,*]"},
}
"""Of a file each, for pages that a process has touched stay."""
KINDS = ["plain", "tiles"]


class Waits(NamedTuple):
    """What a thread has waited for so far."""

    disk_bytes: int
    """That it fetched itself."""
    pages: int
    """That it touched and that were not there (major faults)."""

    @classmethod
    def of(cls, thread: int) -> Waits:
        """Those of one thread of this process."""
        task = Path(f"/proc/self/task/{thread}")
        counts = dict(line.split(": ") for line in (task / "io").read_text().splitlines())
        state = (task / "stat").read_text().rpartition(")")[2].split()
        return cls(int(counts["read_bytes"]), int(state[9]))


class _Known:
    """The application, and which thread its event loop runs in."""

    def __init__(self, settings: Settings) -> None:
        self._app = create_app(settings)
        self.thread = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.thread = threading.get_native_id()
        await self._app(scope, receive, send)


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cold")
    (folder / "images").mkdir()
    header = fits.Header()
    header.update(
        CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=150.0, CRVAL2=2.0, CRPIX1=SIDE / 2,
        CRPIX2=SIDE / 2, CDELT1=-SCALE, CDELT2=SCALE,
    )  # fmt: skip
    plain = fits.PrimaryHDU(PIXELS, header)
    tiles = fits.CompImageHDU(PIXELS, header, tile_shape=(100, 100), quantize_level=16)
    for kind, hdu in zip(KINDS, (plain, tiles), strict=True):
        hdu.writeto(folder / "first.fits", overwrite=True)
        for name in [*WANTED, "download", "warm"]:
            shutil.copy(folder / "first.fits", folder / "images" / f"{kind}_{name}.fits")
    return folder


@pytest.fixture(name="app", scope="module")
def _app(folder: Path) -> _Known:
    settings = Settings(
        authority="archive.example",
        catalog=f"sqlite:///{folder}/catalog.sqlite",
        data_dir=folder,
        cache_dir=folder / "cache",
        spool_dir=folder / "spool",
        log_requests=False,
    )
    assert ingest([folder / "images"], settings, CollectionsFile(), workers=1).added == 16
    return _Known(settings)


@pytest.fixture(name="live", scope="module")
def _live(app: _Known) -> Iterator[LiveService]:
    with running(app) as live:
        live.get("/")  # waits until everything is loaded that a cutout needs
        yield live


def forget(path: Path) -> None:
    """Have the kernel forget the pages of a file; skips where its file system keeps them."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        size = path.stat().st_size
        if not FileMapping(file.fileno(), size).has_resident(size // 2, size // 2 + 1):
            return
    pytest.skip(f"the file system of {path.parent} keeps everything in memory")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", WANTED)
def test_the_loop_reads_nothing_from_the_disk(
    app: _Known, live: LiveService, folder: Path, kind: str, name: str
) -> None:
    """Neither for what is answered at once when it is warm, nor for what is sent in bands."""
    # First of another file: the code, too, may have to come from the disk.
    live.get(
        "/soda/sync", None, ID=f"ivo://archive.example/images?{kind}_warm.fits", **WANTED[name]
    )
    wanted = {"ID": f"ivo://archive.example/images?{kind}_{name}.fits", **WANTED[name]}
    forget(folder / "images" / f"{kind}_{name}.fits")
    before, of_all = Waits.of(app.thread), _read_by_all()
    cold = live.get("/soda/sync", None, **wanted)
    assert Waits.of(app.thread) == before
    assert _read_by_all() > of_all  # somebody has
    assert cold.status_code == 200
    assert live.get("/soda/sync", None, **wanted).content == cold.content


@pytest.mark.parametrize("kind", KINDS)
def test_nor_for_a_whole_file(app: _Known, live: LiveService, folder: Path, kind: str) -> None:
    path = folder / "images" / f"{kind}_download.fits"
    live.get(f"/files/images/{kind}_warm.fits")
    forget(path)
    before, of_all = Waits.of(app.thread), _read_by_all()
    got = live.get(f"/files/images/{path.name}").content
    assert Waits.of(app.thread) == before
    assert _read_by_all() > of_all
    assert got == path.read_bytes()


def test_the_counts_tell(folder: Path) -> None:
    """A thread that reads is told by one of them, one that touches a page by the other."""
    path = folder / "first.fits"
    me = threading.get_native_id()
    forget(path)
    before = Waits.of(me)
    with path.open("rb") as file:
        os.pread(file.fileno(), 100, path.stat().st_size // 2)
    read = Waits.of(me)
    assert read.disk_bytes > before.disk_bytes
    forget(path)
    assert np.memmap(path, np.uint8, "r")[path.stat().st_size // 3] >= 0
    assert Waits.of(me).pages > read.pages


def _read_by_all() -> int:
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counts["read_bytes"])
