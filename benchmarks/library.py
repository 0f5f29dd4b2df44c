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
from dataclasses import dataclass, field as dataclass_field
from functools import partial
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import archive
from astropy.io import fits

from soda_service.catalog.ingest import ingest
from soda_service.catalog.resolver import Resolver
from soda_service.catalog.store import CatalogStore
from soda_service.config import load_collections, load_settings
from soda_service.cutout.cutter import RESIDENT_BYTES, Cutter
from soda_service.cutout.plan import CutoutPlan
from soda_service.cutout.request import CutoutRequest
from soda_service.fits.cards import CARD_SIZE
from soda_service.fits.newcards import commentary
from soda_service.geometry.pixelbox import PixelBox, box_around_quickly
from soda_service.geometry.shapes import Circle
from soda_service.pixels.plain import runs_of
from soda_service.render.fits import padding_size
from soda_service.storage.bands import BAND_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from soda_service.fits.header import HeaderCutter
    from soda_service.fits.layout import HduLayout
    from soda_service.storage.source import RunSource

ROUNDS = 5
BOXES_OF_A_FILE = 4
"""In each round; no box comes twice unless a row says so, for a page that a process has touched
once costs it less from then on."""
FEWEST = 4
"""Cutouts of the slowest peer in one round."""
LONGEST = 2.0
"""Seconds of one round of a peer, where it is not slower than that."""
_MOST_RUNS = 1024
CUTS_BEFORE_INDEX = 16
"""Of 1000x1000 pixels each, after which every file has an index."""
Row = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Box:
    """One cutout: the file, the circle, and the square of pixels that the circle touches."""

    field: archive.Field
    circle: Circle
    request: CutoutRequest
    low: tuple[int, int]
    high: tuple[int, int]
    """One past the last pixel; x first."""


class _Kept(NamedTuple):
    """A file of one image that is open, and what is known of it."""

    source: RunSource
    layout: HduLayout
    cutter: HeaderCutter
    origin: bytes
    """The cards that say where it comes from."""
    history: bytes
    """The card that says which section this is, up to the section."""


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
        self._kept: dict[Path, _Kept] = {}

    def cut(self, box: Box) -> int:
        """The bytes of a cutout as they would be sent; their number."""
        plan = self.cutter.plan_quickly(box.request)
        if not isinstance(plan, CutoutPlan):
            plan = self.cutter.plan(box.request)
        if plan is None:
            raise RuntimeError(f"nothing was cut out of {box.field.path}")
        whole = self.cutter.cut_resident(plan)
        if whole is not None:
            return sum(map(len, whole))
        return sum(len(band) for band in self.cutter.cut(plan))

    def keep_open(self, fields: list[archive.Field]) -> None:
        """Prepare files of one image for `cut_box`, as peers do that keep them open."""
        for field in fields:
            dataset = self._resolver.resolve(field.identifier)
            with self.cutter._files.borrow(dataset.url, dataset.version, packed=False):  # noqa: SLF001 - the engine is what is measured
                pass
            borrowed = self.cutter._files.peek(dataset.url, dataset.version)  # noqa: SLF001 - likewise
            assert borrowed is not None
            prepared = self.cutter._prepared.get(dataset)  # noqa: SLF001 - likewise
            (one,) = prepared.hdus
            history = commentary("HISTORY", one.history_prefix).rstrip() + b" "
            self._kept[field.path] = _Kept(
                borrowed.source,
                one.hdu.layout,
                one.header_cutter(0, {}),
                prepared.origin_cards,
                history,
            )

    def cut_box(self, box: Box) -> int:
        """The same for a box of pixels, which is what most peers are given; of files kept open.

        No catalog is asked, no circle becomes a box, and there is no name or entity tag for what
        comes: header, pixels and padding, by the ways that answers to requests take, in pieces as
        they are sent.
        """
        source, layout, cutter, origin, history = self._kept[box.field.path]
        section = PixelBox(box.low, box.high)
        card = (history + section.section.encode("ascii")).ljust(CARD_SIZE)
        header = cutter.cut(section, (origin, card))
        runs = runs_of(layout, section)
        size = runs.size
        pieces: list[bytes | memoryview] = [header]
        bands = [runs] if size <= RESIDENT_BYTES else runs.bands(BAND_BYTES, most_runs=_MOST_RUNS)
        for band in bands:
            found = source.resident_runs(band)
            if found is None:
                raise RuntimeError(f"{box.field.path} is not in the page cache")
            pieces.append(found)
        pieces.append(bytes(padding_size(size)))
        return sum(map(len, pieces))

    def boxes(
        self, fields: list[archive.Field], pixels: int, count: int, *, seed: int = 0
    ) -> list[Box]:
        """Circles of so many pixels at random places, and the boxes that the engine gives them.

        Another *seed* gives other places.
        """
        chance = random.Random(1000 * pixels + seed)
        boxes = []
        for number in range(count):
            field = fields[number % len(fields)]
            reach = (field.naxis / 2 - pixels) * archive.SCALE * 0.7
            lat = field.lat + chance.uniform(-reach, reach)
            lon = (field.lon + chance.uniform(-reach, reach)) % 360
            circle = Circle(lon, lat, (pixels - 0.5) / 2 * archive.SCALE)
            request = CutoutRequest(identifier=field.identifier, shape=circle)
            plan = self.cutter.plan(request)
            if plan is None:
                raise RuntimeError(f"{circle} is not in {field.path}")
            box = next(one.box for one in plan.hdus if one.box is not None)
            (x, y, *_), (end_x, end_y, *_) = box.lower, box.upper
            boxes.append(Box(field, circle, request, (x, y), (end_x, end_y)))
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

    def learn_rows(self, fields: list[archive.Field]) -> None:
        """Cuts until the rows of all files are indexed, which happens beside the requests."""
        for box in self.boxes(fields, 1000, CUTS_BEFORE_INDEX * len(fields)):
            self.cut(box)
        self.cutter.wait_for_indexes()

    def close(self) -> None:
        """Let go of files and catalog."""
        self.cutter.close()
        self._store.close()


@dataclass(frozen=True, slots=True)
class Setting:
    """What a peer is set up with."""

    fields: list[archive.Field]
    folder: Path
    """For what it writes."""
    pixels: int


@dataclass(frozen=True, slots=True)
class Peer:
    """Another way to the same pixels."""

    name: str
    set_up: Callable[[Setting], Callable[[Box], object]]
    needs: str
    """The module or program without which there is no such peer."""
    is_given_pixels: bool = True
    """Whether it cuts a box of pixels; otherwise a place on the sky."""

    @property
    def is_installed(self) -> bool:
        """Whether it can be measured."""
        return shutil.which(self.needs) is not None or find_spec(self.needs) is not None


@dataclass(frozen=True, slots=True)
class Work:
    """Files of one kind, what is cut out of each, and the least ratio to each peer."""

    name: str
    files: dict[str, Any]
    """How `archive.write_fields` writes them."""
    bars: dict[int, dict[Peer, float]]
    """For each size in pixels."""
    indexed: dict[int, dict[Peer, float]] = dataclass_field(default_factory=dict)
    """The same once there is an index of the rows."""
    most_files: int = 1_000
    """Of large files so many that what is cut out of them stays in the page cache."""
    tells_regions: bool = False
    """Whether the time from region to box is told too."""
    is_kept_open: bool = False
    """Whether we are given what peers are given: a box of pixels, of files kept open."""


def rows(folder: Path, files: int) -> Iterator[Row]:
    """Every row of the table; *files* is how many there are of each kind."""
    warnings.simplefilter("ignore")  # what peers warn of is theirs
    for number, work in enumerate(works()):
        yield from _rows_of(work, folder / f"library-{number}", files)


def works() -> tuple[Work, ...]:
    """What is measured, with its bars."""
    fitsio = Peer("fitsio kept open, pixels only", _fitsio_kept, "fitsio")
    fitsio_tiles = Peer(fitsio.name, partial(_fitsio_kept, hdu=1), "fitsio")
    fitsio_cube = Peer(fitsio.name, partial(_fitsio_kept, cube=True), "fitsio")
    imcopy, fitscut = Peer("imcopy", _imcopy, "imcopy"), Peer("fitscut", _fitscut, "fitscut")
    astrocut = Peer("astrocut", _astrocut, "astrocut", is_given_pixels=False)
    astropy = Peer("astropy kept open", _astropy_kept, "astropy")
    astropy_anew = Peer("astropy reopened", _astropy_reopened, "astropy")
    plain: dict[int, dict[Peer, float]] = {
        pixels: {fitsio: bar, imcopy: slow_bar, fitscut: slow_bar, astrocut: slow_bar}
        for pixels, bar, slow_bar in ((50, 10, 300), (200, 8, 100), (1000, 4, 20))
    }
    return (
        Work("plain", {"naxis": 4096}, plain, tells_regions=True, is_kept_open=True),
        Work("3 image HDUs of a MEF of 4", {"naxis": 2048, "planes": 3}, {200: {astropy: 30}}),
        Work("64 planes of a cube", {"naxis": 1024, "depth": 64}, {200: {fitsio_cube: 8}},
             most_files=24),
        Work("RICE in tiles of 100x100", {"naxis": 4096, "tile": (100, 100)},
             {200: {fitsio_tiles: 1.5, astrocut: 10}}),
        Work("RICE in rows", {"naxis": 4096, "tile": (1, 4096)},
             {200: {fitsio_tiles: 2, astrocut: 10}}, indexed={200: {fitsio_tiles: 5}}),
        Work(".fits.gz, second cutout of a file", {"naxis": 2048, "gzip": True},
             {200: {astropy_anew: 100}}),
    )  # fmt: skip


def _rows_of(work: Work, folder: Path, files: int) -> Iterator[Row]:
    fields = archive.write_fields(
        folder / "images", count=min(files, work.most_files), **work.files
    )
    engine = Engine(folder, [folder / "images"])
    try:
        with archive.in_memory([field.path for field in fields]):
            yield from _rows_of_files(work, engine, fields, folder)
    finally:
        engine.close()
        shutil.rmtree(folder)


def _rows_of_files(
    work: Work, engine: Engine, fields: list[archive.Field], folder: Path
) -> Iterator[Row]:
    for pixels, peers in work.bars.items():
        setting = Setting(fields, folder, pixels)
        yield from _against(work.name, engine, setting, peers, kept_open=work.is_kept_open)
    if work.indexed:
        engine.learn_rows(fields)
    for pixels, peers in work.indexed.items():
        name = f"{work.name}, indexed"
        yield from _against(name, engine, Setting(fields, folder, pixels), peers)
    if work.tells_regions:
        yield from _region_rows(engine, fields)


def _against(
    name: str,
    engine: Engine,
    setting: Setting,
    peers: dict[Peer, float],
    *,
    kept_open: bool = False,
) -> Iterator[Row]:
    fields, pixels = setting.fields, setting.pixels
    what = f"{name}, {pixels}x{pixels}"
    for box in engine.boxes(fields, pixels, len(fields)):
        engine.cut(box)  # what the first cutout of a file costs is not what is compared
    if kept_open:
        engine.keep_open(fields)
    count = BOXES_OF_A_FILE * len(fields)
    for seed, (peer, bar) in enumerate(peers.items(), start=1):
        boxes = engine.boxes(fields, pixels, ROUNDS * count, seed=seed)
        rounds = [boxes[at : at + count] for at in range(0, len(boxes), count)]
        is_given_pixels = kept_open and peer.is_given_pixels
        own_cut = engine.cut_box if is_given_pixels else engine.cut
        yield _row(f"library, {what}, {peer.name}", own_cut, rounds, peer, setting, bar)
        if is_given_pixels and seed == 1:
            again = [rounds[0]] * ROUNDS
            yield _row("  the same boxes again and again", own_cut, again, peer, setting)
            own = _seconds(partial(_all_of, engine.cut, rounds[0]), count) * 1e6
            yield f"  {what}, of a circle through catalog and plan, again", f"{own:.0f} us", ""


def _row(
    work: str,
    own_cut: Callable[[Box], int],
    rounds: list[list[Box]],
    peer: Peer,
    setting: Setting,
    bar: float | None = None,
) -> Row:
    """The median of the ratios of some *rounds*, in each of which both cut the same boxes.

    They are the first in turn, for who comes second finds the bytes in the processor's caches.
    """
    wanted = "" if bar is None else f">= {bar}"
    if not peer.is_installed:
        return work, "not installed", wanted
    try:
        cut = peer.set_up(setting)
        first = rounds[0][0]
        once = min(_seconds(lambda: cut(first), 1, 1) for _ in range(3))
        fewer = max(FEWEST, min(len(rounds[0]), int(LONGEST / once)))
    except Exception as error:  # noqa: BLE001 - a peer may fail in any way, and that is a result
        return work, f"the peer failed: {type(error).__name__}", wanted
    own, other = [], []
    for number, boxes in enumerate(rounds):
        some = boxes[:fewer]
        for which in (number, number + 1):
            if which % 2:
                own.append(_seconds(partial(_all_of, own_cut, boxes), len(boxes), 1))
            else:
                other.append(_seconds(partial(_all_of, cut, some), len(some), 1))
    ratio = statistics.median(b / a for a, b in zip(own, other, strict=True))
    mine, theirs = statistics.median(own) * 1e6, statistics.median(other) * 1e6
    return work, f"{theirs:.0f} us / {mine:.0f} us = {ratio:.1f}", wanted


def _all_of(cut: Callable[[Box], object], boxes: list[Box]) -> None:
    for box in boxes:
        cut(box)


def _region_rows(engine: Engine, fields: list[archive.Field]) -> Iterator[Row]:
    for name, some_fields, bar in (("TAN", fields[::2], 20), ("TAN-SIP", fields[1::2], 40)):
        for pixels in (200, 1000):
            boxes = engine.boxes(some_fields, pixels, 400)
            seen = engine.box_microseconds(some_fields, boxes)
            yield f"region to box, {name}, {pixels} pixels", f"{seen:.1f} us", f"<= {bar} us"


def _seconds(work: Callable[[], object], count: int, rounds: int = ROUNDS) -> float:
    """Of one of *count* pieces of work, the median of some rounds."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append((time.perf_counter() - start) / count)
    return statistics.median(taken)


def _fitsio_kept(setting: Setting, *, hdu: int = 0, cube: bool = False) -> Callable[[Box], object]:
    import fitsio

    opened = {field.path: fitsio.FITS(str(field.path))[hdu] for field in setting.fields}

    def cut(box: Box) -> object:
        rows, columns = slice(box.low[1], box.high[1]), slice(box.low[0], box.high[0])
        image = opened[box.field.path]
        return image[:, rows, columns] if cube else image[rows, columns]

    return cut


def _astropy_kept(setting: Setting) -> Callable[[Box], object]:
    """Sections of files that stay open, under headers whose reference pixel is moved."""
    opened = {field.path: fits.open(field.path) for field in setting.fields}

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


def _astropy_reopened(_: Setting) -> Callable[[Box], object]:
    def cut(box: Box) -> object:
        with fits.open(box.field.path) as hdus:
            # Sections of a file that is compressed as a whole take it ten times as long.
            return hdus[0].data[box.low[1] : box.high[1], box.low[0] : box.high[0]]

    return cut


def _imcopy(setting: Setting) -> Callable[[Box], object]:
    target = setting.folder / "imcopy.fits"

    def cut(box: Box) -> object:
        section = f"[{box.low[0] + 1}:{box.high[0]},{box.low[1] + 1}:{box.high[1]}]"
        return subprocess.run(
            ["imcopy", f"{box.field.path}{section}", f"!{target}"], check=True, capture_output=True
        )

    return cut


def _fitscut(setting: Setting) -> Callable[[Box], object]:
    target = setting.folder / "fitscut.fits"

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


def _astrocut(setting: Setting) -> Callable[[Box], object]:
    from astropy.coordinates import SkyCoord

    def cut(box: Box) -> object:
        from astrocut import fits_cut

        return fits_cut(
            str(box.field.path),
            SkyCoord(box.circle.lon, box.circle.lat, unit="deg"),
            setting.pixels,
            memory_only=True,
            single_outfile=True,
        )

    return cut
