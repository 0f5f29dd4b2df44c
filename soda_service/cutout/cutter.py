"""The cutter: first decides (`plan`), then does (`cut`).

Everything that can be known to fail fails in `plan`. A dataset that the shape, the band,
the time or the polarization does not touch gives None, which is not an error (SODA 1.0 §5.1).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from soda_service.cutout.form import Packing
from soda_service.cutout.places import NotQuickError, exact_box, quick_box
from soda_service.cutout.plan import NOT_QUICK, CutoutPlan, HduPlan, Quickness
from soda_service.cutout.planner import Planner
from soda_service.cutout.prepared import PreparedDatasets, file_name
from soda_service.cutout.request import CutoutRequest
from soda_service.errors import SourceUnavailableError, UnknownDatasetError
from soda_service.fits.cards import BLOCK_SIZE
from soda_service.fits.layout import HduKind
from soda_service.geometry.pixelbox import PixelBox, SteppedBox
from soda_service.pixels.filled import filled_bands
from soda_service.pixels.plain import runs_of
from soda_service.pixels.reader import open_reader
from soda_service.pixels.tilepass import passed_tiles
from soda_service.render.fits import FitsPart, awaits_sums, checksummed, fits_chunks
from soda_service.render.headertext import header_text
from soda_service.render.packed import TiledPart, gzipped, tile_compressed
from soda_service.render.spool import SpoolRoom
from soda_service.storage.cache import InflatedCache
from soda_service.storage.local import LocalSource
from soda_service.storage.pool import OpenFiles
from soda_service.storage.runs import RunGrid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from soda_service.catalog.dataset import Dataset
    from soda_service.config import Settings
    from soda_service.render.packed import PackedFile

    Buffer = bytes | bytearray | memoryview

__all__ = ["NOT_QUICK", "AbandonedError", "CutoutPlan", "Cutter", "Quickness"]

BAND_BYTES: Final = 256 * 1024
"""Bytes of pixels in one chunk of an answer: large enough to be cheap, small enough to wait."""

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


class Cutter:
    """Makes plans of requests, and bytes of plans. Safe to use from several threads."""

    def __init__(self, resolver: DatasetResolver, settings: Settings) -> None:
        self._resolver = resolver
        self._cache = InflatedCache(settings.cache_dir, settings.cache_bytes)
        self._files = OpenFiles(settings.open_files, self._cache.open)
        self._prepared = PreparedDatasets(settings.plan_cache_datasets, self._files)
        self._spools = SpoolRoom(settings.spool_dir, settings.spool_bytes)
        self._proves = settings.proof
        self._most_mas = settings.proof_limit_mas

    def plan(self, request: CutoutRequest) -> CutoutPlan | None:
        """What the answer will be, or None where no pixel is asked for; may block.

        Raises UnknownDatasetError, UsageError, SourceUnavailableError, CorruptFileError, and
        UntrueHeaderError where a proof is asked for and fails.
        """
        dataset = self._resolver.resolve(request.identifier)
        if request.is_whole_file:
            return _whole_file(dataset)
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

    def cut(self, plan: CutoutPlan) -> Iterator[Buffer]:
        """The bytes of the answer in bands; exactly `plan.size` of them, or an error.

        Those of a packed answer are as many as `pack` says. May block. Raises
        SourceUnavailableError, CorruptFileError, UnknownDatasetError.
        """
        if plan.form.packing is not Packing.NONE:
            with self.pack(plan) as packed:
                yield from packed.chunks()
            return
        if plan.form.header_only and not plan.form.checksums:
            yield header_text(one.header for one in plan.hdus)
            return
        with self._open(plan) as source:
            if not plan.hdus:
                yield from _file_bands(source)
            elif plan.form.header_only:
                yield header_text(part.header for part in _parts(plan, source))
            else:
                yield from fits_chunks(_parts(plan, source), BAND_BYTES)

    def pack(self, plan: CutoutPlan, stopped: Callable[[], bool] = lambda: False) -> PackedFile:
        """The answer, packed as its form says, on temporary disk until it is closed; blocks.

        Raises what `cut` raises, UsageError where it does not fit on the disk that is set aside,
        SourceUnavailableError where other answers take that now, and AbandonedError soon after
        *stopped* has become true.
        """
        with self._open(plan) as source:
            if plan.form.packing is Packing.GZIP:
                return gzipped(_parts(plan, source, stopped), self._spools)
            return tile_compressed(_tiled_parts(plan, source, stopped), self._spools)

    def cut_resident(self, plan: CutoutPlan) -> memoryview | None:
        """The whole answer if it is small and its pixels are in memory; never blocks."""
        if not plan.is_copy or plan.size > RESIDENT_BYTES:
            return None
        borrowed = self._files.peek(plan.dataset.url, plan.dataset.version)
        if borrowed is None:
            return None
        answer = np.empty(plan.size, np.uint8).data  # not cleared: every byte is written
        at = 0
        source = borrowed.source
        try:
            for one in plan.hdus:
                header, size = one.header, one.data_size
                data_at = at + len(header)
                answer[at:data_at] = header
                end = data_at + size
                at = data_at - -size // BLOCK_SIZE * BLOCK_SIZE
                answer[end:at] = bytes(at - end)
                if size and not _copy_resident(one, source, answer[data_at:end]):
                    return None
        finally:
            self._files.give_back(borrowed)
        return answer

    def close(self) -> None:
        """Let go of open files."""
        self._files.close()

    @contextmanager
    def _open(self, plan: CutoutPlan) -> Iterator[LocalSource]:
        """The file, inflated unless it goes out as it is."""
        dataset = plan.dataset
        try:
            if plan.hdus:
                with self._files.borrow(dataset.url, dataset.version) as source:
                    yield source
                return
            with LocalSource.open(dataset.url) as source:
                if source.version != dataset.version:
                    raise SourceUnavailableError("the file has just changed", path=dataset.url)
                yield source
        except FileNotFoundError:
            raise UnknownDatasetError(dataset.publisher_did, "its file is gone") from None


def _copy_resident(one: HduPlan, source: LocalSource, target: memoryview) -> bool:
    layout = one.hdu.layout
    if one.box is None:
        return source.copy_resident(RunGrid(layout.data_offset, one.data_size), target)
    if layout.kind is not HduKind.IMAGE:
        return False  # decompressing takes longer than an event loop should wait
    return source.copy_resident(runs_of(layout, one.box), target)


def _file_bands(source: LocalSource) -> Iterator[Buffer]:
    size = source.version.size
    for start in range(0, size, BAND_BYTES):
        yield _unchanged(source, start, min(BAND_BYTES, size - start))


class AbandonedError(Exception):
    """Nobody waits for the answer any more."""


def _parts(
    plan: CutoutPlan, source: LocalSource, stopped: Callable[[], bool] = lambda: False
) -> Iterator[FitsPart]:
    for one in plan.hdus:
        header = one.header
        if plan.form.checksums and awaits_sums(header):
            # The sums stand before the pixels, which are therefore read twice.
            header = checksummed(header, _until(stopped, _data(one, source)))
        data = _until(stopped, _data(one, source))
        yield FitsPart(header=header, data=data, data_size=one.data_size)


def _until(stopped: Callable[[], bool], bands: Iterator[Buffer]) -> Iterator[Buffer]:
    for band in bands:
        if stopped():
            raise AbandonedError
        yield band


def _tiled_parts(
    plan: CutoutPlan, source: LocalSource, stopped: Callable[[], bool]
) -> Iterator[FitsPart | TiledPart]:
    """The same with the tiles of the parent where they can be taken as they are."""
    for one, part in zip(plan.hdus, _parts(plan, source, stopped), strict=True):
        tiles = None
        if type(one.box) is PixelBox and one.filling is None:
            tiles = passed_tiles(one.hdu.layout, one.box, source)
        yield part if tiles is None else TiledPart(plain=part, tiles=tiles)


def _data(one: HduPlan, source: LocalSource) -> Iterator[Buffer]:
    """The data unit of the answer, in bands."""
    if one.box is not None:
        reader = open_reader(one.hdu.layout, source)
        if isinstance(one.box, SteppedBox):
            for part in one.box.parts():
                yield from reader.bands(part, BAND_BYTES)
            return
        bands = reader.bands(one.box, BAND_BYTES)
        if one.filling is not None:
            bands = filled_bands(one.filling, one.box, bands, BAND_BYTES)
        yield from bands
        return
    start = one.hdu.layout.data_offset
    for at in range(0, one.data_size, BAND_BYTES):
        yield _unchanged(source, start + at, min(BAND_BYTES, one.data_size - at))


def _unchanged(source: LocalSource, start: int, length: int) -> bytes:
    """Bytes of the version that was planned with.

    Checked before they go out: an error after the last byte of an answer comes too late.
    """
    piece = source.read(start, length)
    source.check_unchanged()
    return piece


def _whole_file(dataset: Dataset) -> CutoutPlan:
    return CutoutPlan(
        dataset=dataset,
        hdus=(),
        size=dataset.version.size,
        filename=file_name(dataset),
        media_type=dataset.media_type,
        etag=dataset.version.etag,
    )
