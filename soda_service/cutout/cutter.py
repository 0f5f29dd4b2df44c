"""The cutter: first decides (`plan`), then does (`cut`).

Everything that can be known to fail fails in `plan`. A dataset that the shape, the band,
the time or the polarization does not touch gives None, which is not an error (SODA 1.0 §5.1).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Final, Protocol

from soda_service.cutout.form import Packing
from soda_service.cutout.naming import file_name
from soda_service.cutout.places import NotQuickError, exact_box, quick_box
from soda_service.cutout.plan import NOT_QUICK, CutoutPlan, HduPlan, Quickness
from soda_service.cutout.planner import Planner
from soda_service.cutout.prepared import PreparedDatasets
from soda_service.cutout.request import CutoutRequest
from soda_service.errors import SourceUnavailableError, UnknownDatasetError
from soda_service.geometry.pixelbox import PixelBox, SteppedBox
from soda_service.pixels.filled import filled_bands
from soda_service.pixels.plain import runs_of
from soda_service.pixels.reader import open_reader
from soda_service.pixels.tiledimages import TiledImages
from soda_service.pixels.tilepass import passed_tiles
from soda_service.render.fits import FitsPart, awaits_sums, checksummed, fits_chunks, padding_size
from soda_service.render.headertext import header_text
from soda_service.render.packed import TiledPart, gzipped, tile_compressed
from soda_service.render.spool import SpoolRoom
from soda_service.storage.bands import BAND_BYTES, CopiedBands, MadeBands, read_on
from soda_service.storage.cache import InflatedCache
from soda_service.storage.inflatedobject import InflatedObject
from soda_service.storage.objectstore import ObjectChangedError
from soda_service.storage.pool import OpenFiles
from soda_service.storage.remote import RemoteSource
from soda_service.storage.runs import RunGrid
from soda_service.storage.source import is_remote, open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from soda_service.catalog.dataset import Dataset
    from soda_service.config import Settings
    from soda_service.render.packed import PackedFile
    from soda_service.storage.bands import Bands
    from soda_service.storage.source import RunSource
    from soda_service.storage.stores import RemoteStores

    Buffer = bytes | bytearray | memoryview

__all__ = ["NOT_QUICK", "AbandonedError", "CutoutPlan", "Cutter", "Quickness"]

RESIDENT_BYTES: Final = 512 * 1024
"""Largest answer that is made in one piece."""


_NOTHING_ELSE: Final = CutoutRequest("")[2:]
"""What follows the identifier and the shape in the ordinary request."""


class DatasetResolver(Protocol):
    """What a cutter needs of a catalog."""

    def resolve(self, identifier: str) -> Dataset:
        """The dataset; raises UnknownDatasetError."""

    def peek(self, identifier: str) -> Dataset | None:
        """The dataset if that is known without blocking."""

    def doubt(self, dataset: Dataset) -> None:
        """Have the object of *dataset*, which is another one by now, looked at."""


class Cutter:
    """Makes plans of requests, and bytes of plans. Safe to use from several threads."""

    def __init__(
        self,
        resolver: DatasetResolver,
        settings: Settings,
        stores: RemoteStores | None = None,
    ) -> None:
        """*stores* are those in which datasets may lie."""
        self._resolver = resolver
        self._stores = stores
        self._cache = InflatedCache(settings.cache_dir, settings.cache_bytes, stores)
        self._files = OpenFiles(settings.open_files, self._cache.open)
        self._prepared = PreparedDatasets(settings.plan_cache_datasets, self._files)
        self._images = TiledImages(settings.tile_memory_bytes)
        self._spools = SpoolRoom(settings.spool_dir, settings.spool_bytes)
        self._proves = settings.proof
        self._most_mas = settings.proof_limit_mas

    def plan(self, request: CutoutRequest) -> CutoutPlan | None:
        """What the answer will be, or None where no pixel is asked for; may block.

        Raises UnknownDatasetError, UsageError, SourceUnavailableError, CorruptFileError, and
        UntrueHeaderError where a proof is asked for and fails.
        """
        try:
            return self._plan(request)
        except ObjectChangedError:
            return self._plan(request)  # of the object that is there now

    def _plan(self, request: CutoutRequest) -> CutoutPlan | None:
        dataset = self._resolver.resolve(request.identifier)
        if request.is_whole_file:
            return _whole_file(dataset)
        with self._noticing_changes(dataset):
            prepared = self._prepared.get(dataset)
            if self._proves and request.form.proof is None:
                request = request._replace(form=replace(request.form, proof=True))
            return Planner(prepared, request, exact_box, most_mas=self._most_mas).plan()

    def plan_quickly(self, request: CutoutRequest) -> CutoutPlan | Quickness | None:
        """The same without blocking, or NOT_QUICK where that cannot be done."""
        dataset = self._resolver.peek(request.identifier)
        if dataset is None:
            return NOT_QUICK
        shape = request.shape
        if shape is None and request.is_whole_file:
            return _whole_file(dataset)
        prepared = self._prepared.peek(dataset)
        if prepared is None or self._proves or request.form.proof:
            return NOT_QUICK
        if shape is not None and request[2:] == _NOTHING_ELSE:
            planner = prepared.quick_planner
            plan = planner.plan(shape) if planner is not None else NOT_QUICK
            if plan is not NOT_QUICK:
                return plan
        try:
            return Planner(prepared, request, quick_box).plan()
        except NotQuickError:
            return NOT_QUICK

    def cut(
        self, plan: CutoutPlan, stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[Buffer]:
        """The bytes of the answer in bands; exactly `plan.size` of them, or an error.

        Those of a packed answer are as many as `pack` says. May block. Raises
        SourceUnavailableError, CorruptFileError, UnknownDatasetError, and AbandonedError soon
        after *stopped* has become true.
        """
        if plan.form.packing is not Packing.NONE:
            with self.pack(plan, stopped) as packed:
                yield from packed.chunks()
            return
        if plan.form.header_only and not plan.form.checksums:
            yield header_text(one.header for one in plan.hdus)
            return
        with self._open(plan) as source:
            if not plan.hdus:
                yield from read_on(source, 0, source.version.size)
            elif plan.form.header_only:
                parts = _parts(plan, source, self._images, stopped)
                yield header_text(part.header for part in parts)
            else:
                yield from fits_chunks(_parts(plan, source, self._images, stopped), BAND_BYTES)

    def bands(self, plan: CutoutPlan, stopped: Callable[[], bool] = lambda: False) -> Bands:
        """The same in bands that are at hand where they lie in memory."""
        if (plan.is_copy or not plan.hdus) and not is_remote(plan.dataset.url):
            return CopiedBands(self._open(plan), _pieces(plan))
        return MadeBands(self.cut(plan, stopped))

    def pack(self, plan: CutoutPlan, stopped: Callable[[], bool] = lambda: False) -> PackedFile:
        """The answer, packed as its form says, on temporary disk until it is closed; blocks.

        Raises what `cut` raises, UsageError where it does not fit on the disk that is set aside,
        SourceUnavailableError where other answers take that now, and AbandonedError soon after
        *stopped* has become true.
        """
        with self._open(plan) as source:
            if plan.form.packing is Packing.GZIP:
                return gzipped(_parts(plan, source, self._images, stopped), self._spools)
            return tile_compressed(_tiled_parts(plan, source, self._images, stopped), self._spools)

    def cut_resident(self, plan: CutoutPlan) -> list[bytes | memoryview] | None:
        """The whole answer in pieces if it is small and its pixels are in memory; never blocks."""
        if not plan.is_copy or plan.size > RESIDENT_BYTES:
            return None
        borrowed = self._files.peek(plan.dataset.url, plan.dataset.version)
        if borrowed is None:
            return None
        pieces: list[bytes | memoryview] = []
        source = borrowed.source
        try:
            for one in plan.hdus:
                pieces.append(one.header)
                if one.data_size:
                    runs = _runs(one)
                    data = None if runs.is_scattered else source.resident_runs(runs)
                    if data is None:
                        return None
                    pieces.append(data)
                    pieces.append(bytes(padding_size(one.data_size)))
        finally:
            self._files.give_back(borrowed)
        return pieces

    def confirm(self, plan: CutoutPlan) -> None:
        """Where nothing is read for an answer: that the object is still that of *plan*; may block.

        It is asked once in a while only. Raises SourceUnavailableError, UnknownDatasetError.
        """
        with self._open(plan) as source:
            if isinstance(source, (RemoteSource, InflatedObject)):
                source.confirm()

    def wait_for_indexes(self) -> None:
        """Blocks until what is learnt of compressed images beside the requests is complete."""
        self._images.wait()

    def close(self) -> None:
        """Let go of open files, and make no more indexes."""
        self._images.close()
        self._files.close()

    @contextmanager
    def _open(self, plan: CutoutPlan) -> Iterator[RunSource]:
        """The file, inflated unless it goes out as it is."""
        dataset = plan.dataset
        try:
            with self._noticing_changes(dataset):
                if plan.hdus:
                    packed = dataset.is_packed
                    with self._files.borrow(dataset.url, dataset.version, packed) as source:
                        yield source
                    return
                with open_source(dataset.url, self._stores, dataset.version) as source:
                    if source.version != dataset.version:
                        raise SourceUnavailableError("the file has just changed", path=dataset.url)
                    yield source
        except FileNotFoundError:
            raise UnknownDatasetError(dataset.publisher_did, "its file is gone") from None

    @contextmanager
    def _noticing_changes(self, dataset: Dataset) -> Iterator[None]:
        """Has a file opened anew that cannot be read, and an object looked at that is another."""
        try:
            yield
        except ObjectChangedError:
            self._files.discard(dataset.url, dataset.version)
            self._resolver.doubt(dataset)
            raise
        except SourceUnavailableError:
            if not is_remote(dataset.url):
                # What is open may be of a disk that is gone, and is mounted anew by now.
                self._files.discard(dataset.url, dataset.version)
            raise


def _pieces(plan: CutoutPlan) -> Iterator[bytes | RunGrid]:
    """What an answer that is copied is made of."""
    if not plan.hdus and plan.size:
        yield RunGrid(0, plan.size)
    for one in plan.hdus:
        yield one.header
        if one.data_size:
            yield _runs(one)
            yield bytes(padding_size(one.data_size))


def _runs(one: HduPlan) -> RunGrid:
    """Where the data unit of an HDU lies that is copied."""
    if one.box is None:
        return RunGrid(one.hdu.layout.data_offset, one.data_size)
    return runs_of(one.hdu.layout, one.box)


class AbandonedError(Exception):
    """Nobody waits for the answer any more."""


def _parts(
    plan: CutoutPlan,
    source: RunSource,
    images: TiledImages,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[FitsPart]:
    for one in plan.hdus:
        header = one.header
        if plan.form.checksums and awaits_sums(header):
            # The sums stand before the pixels, which are therefore read twice.
            header = checksummed(header, _until(stopped, _data(one, source, images)))
        data = _until(stopped, _data(one, source, images))
        yield FitsPart(header=header, data=data, data_size=one.data_size)


def _until(stopped: Callable[[], bool], bands: Iterator[Buffer]) -> Iterator[Buffer]:
    for band in bands:
        if stopped():
            raise AbandonedError
        yield band


def _tiled_parts(
    plan: CutoutPlan, source: RunSource, images: TiledImages, stopped: Callable[[], bool]
) -> Iterator[FitsPart | TiledPart]:
    """The same with the tiles of the parent where they can be taken as they are."""
    for one, part in zip(plan.hdus, _parts(plan, source, images, stopped), strict=True):
        tiles = None
        if type(one.box) is PixelBox and one.filling is None:
            tiles = passed_tiles(one.hdu.layout, one.box, source)
        yield part if tiles is None else TiledPart(plain=part, tiles=tiles)


def _data(one: HduPlan, source: RunSource, images: TiledImages) -> Iterator[Buffer]:
    """The data unit of the answer, in bands."""
    if one.box is not None:
        reader = open_reader(one.hdu.layout, source, images)
        boxes = one.box.parts() if isinstance(one.box, SteppedBox) else (one.box,)
        bands: Iterator[memoryview] = chain.from_iterable(
            reader.bands(box, BAND_BYTES) for box in boxes
        )
        if one.filling is not None:
            bands = filled_bands(one.filling, one.box, bands, BAND_BYTES)
        yield from bands
        return
    if one.made is not None:
        yield one.made
        return
    start = one.hdu.layout.data_offset
    yield from read_on(source, start, start + one.data_size)


def _whole_file(dataset: Dataset) -> CutoutPlan:
    return CutoutPlan(
        dataset=dataset,
        hdus=(),
        size=dataset.version.size,
        filename=file_name(dataset),
        media_type=dataset.media_type,
        etag=dataset.version.etag,
    )
