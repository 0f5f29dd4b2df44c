"""The engine without HTTP: bytes ready to be sent, header included, against other libraries.

Each row is a ratio of two times of the same run: how long a peer takes for one cutout over how
long the service's own engine takes. Boxes are random, files are many and in the page cache, and
nothing is kept of an answer.
"""

from __future__ import annotations

import random
import shutil
import statistics
import subprocess
import time
import warnings
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

import archive
from astropy.io import fits

from soda_service.catalog.ingest import ingest
from soda_service.catalog.resolver import Resolver
from soda_service.catalog.store import CatalogStore
from soda_service.config import load_collections, load_settings
from soda_service.cutout.cutter import Cutter
from soda_service.cutout.plan import CutoutPlan
from soda_service.cutout.request import CutoutRequest
from soda_service.geometry.pixelbox import box_around_quickly
from soda_service.geometry.shapes import Circle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROUNDS = 5
Row = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Box:
    """One cutout: the file, the circle, and the square of pixels that the circle touches."""

    field: archive.Field
    circle: Circle
    low: tuple[int, int]
    high: tuple[int, int]
    """One past the last pixel; x first."""


class Engine:
    """The service's own engine over the files of some folders."""

    def __init__(self, folder: Path, roots: list[Path]) -> None:
        settings = load_settings(
            catalog=f"sqlite:///{folder / 'catalog.sqlite'}",
            cache_dir=folder / "cache",
            authority=archive.AUTHORITY,
        )
        report = ingest(roots, settings, load_collections(settings.collections))
        if report.failed:
            raise RuntimeError(f"not ingested: {report.failed[:3]}")
        self._store = CatalogStore(settings)
        self._resolver = Resolver(self._store, settings)
        self.cutter = Cutter(self._resolver, settings)

    def cut(self, box: Box) -> int:
        """The bytes of a cutout as they would be sent; their number."""
        request = CutoutRequest(identifier=box.field.identifier, shape=box.circle)
        plan = self.cutter.plan_quickly(request)
        if not isinstance(plan, CutoutPlan):
            plan = self.cutter.plan(request)
        if plan is None:
            raise RuntimeError(f"nothing was cut out of {box.field.path}")
        whole = self.cutter.cut_resident(plan)
        if whole is not None:
            return len(whole)
        return sum(len(band) for band in self.cutter.cut(plan))

    def boxes(self, fields: list[archive.Field], pixels: int, count: int) -> list[Box]:
        """Circles of so many pixels at random places, and the boxes that the engine gives them."""
        chance = random.Random(pixels)
        boxes = []
        for number in range(count):
            field = fields[number % len(fields)]
            reach = (field.naxis / 2 - pixels) * archive.SCALE * 0.7
            lat = field.lat + chance.uniform(-reach, reach)
            lon = (field.lon + chance.uniform(-reach, reach)) % 360
            circle = Circle(lon, lat, (pixels - 0.5) / 2 * archive.SCALE)
            plan = self.cutter.plan(CutoutRequest(identifier=field.identifier, shape=circle))
            if plan is None:
                raise RuntimeError(f"{circle} is not in {field.path}")
            box = next(one.box for one in plan.hdus if one.box is not None)
            (x, y, *_), (end_x, end_y, *_) = box.lower, box.upper
            boxes.append(Box(field, circle, (x, y), (end_x, end_y)))
        chance.shuffle(boxes)
        return boxes

    def box_microseconds(self, fields: list[archive.Field], boxes: list[Box]) -> float:
        """From the circle to the box, the median of some rounds."""
        grids = {}
        for field in fields:
            dataset = self._resolver.resolve(field.identifier)
            prepared = self.cutter._prepared.get(dataset)  # noqa: SLF001 - the engine is what is measured
            grid = prepared.hdus[0].grid
            assert grid is not None
            grids[field.path] = grid
        pairs = [(box.circle, grids[box.field.path]) for box in boxes]

        def all_of_them() -> None:
            for circle, grid in pairs:
                if not box_around_quickly(circle, grid):
                    raise RuntimeError(f"no quick answer for {circle}")

        return _seconds(all_of_them, len(pairs)) * 1e6

    def close(self) -> None:
        """Let go of files and catalog."""
        self.cutter.close()
        self._store.close()


def rows(folder: Path, files: int) -> Iterator[Row]:
    """Every row of the table; *files* is how many there are of the plain ones."""
    warnings.simplefilter("ignore")  # what peers warn of is theirs
    yield from _plain_rows(folder / "plain", files)
    yield from _mef_row(folder / "mef")
    yield from _cube_row(folder / "cube")
    yield from _compressed_rows(folder / "rice")
    yield from _gzip_row(folder / "gzip")


def _plain_rows(folder: Path, files: int) -> Iterator[Row]:
    fields = archive.write_fields(folder / "images", count=files, naxis=4096)
    engine = Engine(folder, [folder / "images"])
    try:
        for pixels, bar, slow_bar in ((50, 10, 300), (200, 8, 100), (1000, 4, 20)):
            boxes = engine.boxes(fields, pixels, 4 * len(fields))
            some = boxes[: max(4, 2000 // pixels)]
            name = f"library, plain {pixels}x{pixels}"
            yield _row(f"{name}, fitsio kept open, pixels only", engine, boxes,
                       _fitsio_kept(fields), boxes, bar)  # fmt: skip
            for peer, one in (("imcopy", _imcopy), ("fitscut", _fitscut)):
                if shutil.which(peer) is None:
                    yield f"{name}, {peer}", "not installed", f">= {slow_bar}"
                else:
                    yield _row(f"{name}, {peer}", engine, boxes, one(folder), some, slow_bar)
            yield _row(f"{name}, astrocut", engine, boxes, _astrocut(pixels), some, slow_bar)
        for name, some_fields, bar in (("TAN", fields[::2], 20), ("TAN-SIP", fields[1::2], 40)):
            for pixels in (200, 1000):
                boxes = engine.boxes(some_fields, pixels, 400)
                seen = engine.box_microseconds(some_fields, boxes)
                yield f"region to box, {name}, {pixels} pixels", f"{seen:.1f} us", f"<= {bar} us"
    finally:
        engine.close()
        shutil.rmtree(folder)


def _mef_row(folder: Path) -> Iterator[Row]:
    fields = archive.write_fields(folder / "images", count=10, naxis=2048, planes=3)
    engine = Engine(folder, [folder / "images"])
    try:
        boxes = engine.boxes(fields, 200, 200)
        yield _row("library, 3 image HDUs of a MEF of 4, 200x200, astropy kept open",
                   engine, boxes, _astropy_kept(fields), boxes[:40], 30)  # fmt: skip
    finally:
        engine.close()
        shutil.rmtree(folder)


def _cube_row(folder: Path) -> Iterator[Row]:
    fields = archive.write_fields(folder / "images", count=4, naxis=1024, depth=64)
    engine = Engine(folder, [folder / "images"])
    try:
        boxes = engine.boxes(fields, 200, 40)
        yield _row("library, 200x200x64 of a cube, fitsio kept open",
                   engine, boxes, _fitsio_kept(fields, cube=True), boxes, 8)  # fmt: skip
    finally:
        engine.close()
        shutil.rmtree(folder)


def _compressed_rows(folder: Path) -> Iterator[Row]:
    for tile, bar, name in (((100, 100), 1.5, "RICE 100x100 tiles"), ((1, 4096), 2, "RICE rows")):
        fields = archive.write_fields(folder / "images", count=10, naxis=4096, tile=tile)
        engine = Engine(folder, [folder / "images"])
        try:
            boxes = engine.boxes(fields, 200, 100)
            yield _row(f"library, {name}, 200x200, fitsio kept open, pixels only",
                       engine, boxes, _fitsio_kept(fields, hdu=1), boxes, bar)  # fmt: skip
            yield _row(f"library, {name}, 200x200, astrocut",
                       engine, boxes, _astrocut(200), boxes[:10], 10)  # fmt: skip
        finally:
            engine.close()
            shutil.rmtree(folder)


def _gzip_row(folder: Path) -> Iterator[Row]:
    fields = archive.write_fields(folder / "images", count=4, naxis=2048, gzip=True)
    engine = Engine(folder, [folder / "images"])
    try:
        boxes = engine.boxes(fields, 200, 40)

        def reopened(box: Box) -> None:
            with fits.open(box.field.path) as hdus:
                hdus[0].section[box.low[1] : box.high[1], box.low[0] : box.high[0]]

        yield _row("library, .fits.gz, second cutout of a file, astropy reopened",
                   engine, boxes, reopened, boxes[:4], 100)  # fmt: skip
    finally:
        engine.close()
        shutil.rmtree(folder)


def _row(
    work: str,
    engine: Engine,
    boxes: list[Box],
    peer: Callable[[Box], object],
    peer_boxes: list[Box],
    bar: float,
) -> Row:
    """The median of the ratios of some rounds, each of which measures both."""
    for box in boxes:
        engine.cut(box)  # what the first cutout of a file costs is not what is compared
    try:
        for box in peer_boxes:
            peer(box)
    except Exception as error:  # noqa: BLE001 - a peer may fail in any way, and that is a result
        return work, f"the peer failed: {type(error).__name__}", f">= {bar}"
    own, other = [], []
    for _ in range(ROUNDS):
        own.append(_seconds(lambda: [engine.cut(box) for box in boxes], len(boxes), 1))
        other.append(_seconds(lambda: [peer(box) for box in peer_boxes], len(peer_boxes), 1))
    ratio = statistics.median(b / a for a, b in zip(own, other, strict=True))
    mine, theirs = statistics.median(own) * 1e6, statistics.median(other) * 1e6
    return work, f"{theirs:.0f} us / {mine:.0f} us = {ratio:.1f}", f">= {bar}"


def _seconds(work: Callable[[], object], count: int, rounds: int = ROUNDS) -> float:
    """Of one of *count* pieces of work, the median of some rounds."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append((time.perf_counter() - start) / count)
    return statistics.median(taken)


def _fitsio_kept(
    fields: list[archive.Field], *, hdu: int = 0, cube: bool = False
) -> Callable[[Box], object]:
    import fitsio

    opened = {field.path: fitsio.FITS(str(field.path))[hdu] for field in fields}

    def cut(box: Box) -> object:
        rows, columns = slice(box.low[1], box.high[1]), slice(box.low[0], box.high[0])
        image = opened[box.field.path]
        return image[:, rows, columns] if cube else image[rows, columns]

    return cut


def _astropy_kept(fields: list[archive.Field]) -> Callable[[Box], object]:
    """Sections of files that stay open, under headers whose reference pixel is moved."""
    opened = {field.path: fits.open(field.path) for field in fields}

    def cut(box: Box) -> object:
        primary, *images = opened[box.field.path]
        hdus = fits.HDUList([fits.PrimaryHDU(header=primary.header.copy())])
        for image in images:
            header = image.header.copy()
            header["CRPIX1"] -= box.low[0]
            header["CRPIX2"] -= box.low[1]
            part = image.section[box.low[1] : box.high[1], box.low[0] : box.high[0]]
            hdus.append(fits.ImageHDU(part, header))
        written = BytesIO()
        hdus.writeto(written)
        return written

    return cut


def _imcopy(folder: Path) -> Callable[[Box], object]:
    target = folder / "imcopy.fits"

    def cut(box: Box) -> object:
        section = f"[{box.low[0] + 1}:{box.high[0]},{box.low[1] + 1}:{box.high[1]}]"
        return subprocess.run(
            ["imcopy", f"{box.field.path}{section}", f"!{target}"], check=True, capture_output=True
        )

    return cut


def _fitscut(folder: Path) -> Callable[[Box], object]:
    target = folder / "fitscut.fits"

    def cut(box: Box) -> object:
        sizes = [f"--x0={box.low[0]}", f"--y0={box.low[1]}",
                 f"--columns={box.high[0] - box.low[0]}",
                 f"--rows={box.high[1] - box.low[1]}"]  # fmt: skip
        return subprocess.run(
            ["fitscut", "--force", *sizes, str(box.field.path), str(target)],
            check=True,
            capture_output=True,
        )

    return cut


def _astrocut(pixels: int) -> Callable[[Box], object]:
    from astropy.coordinates import SkyCoord

    def cut(box: Box) -> object:
        from astrocut import fits_cut

        return fits_cut(
            str(box.field.path),
            SkyCoord(box.circle.lon, box.circle.lat, unit="deg"),
            pixels,
            memory_only=True,
            single_outfile=True,
        )

    return cut
