"""The cutter: first decides (`plan`), then does (`cut`).

Everything that can be known to fail fails in `plan`. A dataset that the shape, the band,
the time or the polarization does not touch gives None, which is not an error (SODA 1.0 §5.1).
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from soda_service.cutout.plan import NOT_QUICK, CutoutPlan, HduPlan, Quickness
from soda_service.cutout.prepared import PreparedDataset, PreparedDatasets, PreparedHdu, file_name
from soda_service.cutout.tables import WHOLE, MovedTables, Whole
from soda_service.errors import SourceUnavailableError, UnknownDatasetError, UsageError
from soda_service.fits.cards import commentary
from soda_service.fits.header import empty_primary
from soda_service.fits.wcs import WcsError
from soda_service.geometry.pixelbox import PixelBox, box_around, box_around_quickly
from soda_service.geometry.shapes import Interval
from soda_service.pixels.reader import open_reader
from soda_service.render.fits import (
    FitsPart,
    checksummed,
    fits_chunks,
    padding_size,
    with_checksum_cards,
)
from soda_service.storage.cache import InflatedCache
from soda_service.storage.local import LocalSource
from soda_service.storage.pool import OpenFiles
from soda_service.storage.runs import RunGrid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from soda_service.catalog.dataset import Dataset, Detail
    from soda_service.config import Settings
    from soda_service.cutout.request import CutoutRequest
    from soda_service.geometry.shapes import Shape

    Buffer = bytes | bytearray | memoryview

__all__ = ["NOT_QUICK", "CutoutPlan", "Cutter", "Quickness"]

BAND_BYTES: Final = 256 * 1024
"""Bytes of pixels in one chunk of an answer: large enough to be cheap, small enough to wait."""

RESIDENT_BYTES: Final = 512 * 1024
"""Largest answer that is made in one piece."""

FITS_MEDIA_TYPE: Final = "application/fits"


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

    def plan(self, request: CutoutRequest) -> CutoutPlan | None:
        """What the answer will be, or None where no pixel is asked for; may block.

        Raises UnknownDatasetError, UsageError, SourceUnavailableError, CorruptFileError.
        """
        dataset = self._resolver.resolve(request.identifier)
        if request.is_whole_file:
            return _whole_file(dataset)
        prepared = self._prepared.get(dataset)
        return _Planner(prepared, request, _exact_box).plan()

    def plan_quickly(self, request: CutoutRequest) -> CutoutPlan | Quickness | None:
        """The same without blocking, or NOT_QUICK where that cannot be done."""
        dataset = self._resolver.peek(request.identifier)
        if dataset is None:
            return NOT_QUICK
        if request.is_whole_file:
            return _whole_file(dataset)
        prepared = self._prepared.peek(dataset)
        if prepared is None:
            return NOT_QUICK
        try:
            return _Planner(prepared, request, _quick_box).plan()
        except _NotQuickError:
            return NOT_QUICK

    def cut(self, plan: CutoutPlan) -> Iterator[Buffer]:
        """The bytes of the answer in bands; exactly `plan.size` of them, or an error.

        May block. Raises SourceUnavailableError, CorruptFileError, UnknownDatasetError.
        """
        with self._open(plan) as source:
            if not plan.hdus:
                yield from _file_bands(source)
                return
            yield from fits_chunks(_parts(plan, source), BAND_BYTES)

    def cut_resident(self, plan: CutoutPlan) -> memoryview | None:
        """The whole answer if it is small and its pixels are in memory; never blocks.

        Raises CorruptFileError where the file cannot hold what the plan wants of it.
        """
        if not plan.hdus or plan.checksums or plan.size > RESIDENT_BYTES:
            return None
        borrowed = self._files.peek(plan.dataset.url, plan.dataset.version)
        if borrowed is None:
            return None
        answer = np.empty(plan.size, np.uint8).data  # not cleared: every byte is written
        at = 0
        with borrowed as source:
            for one in plan.hdus:
                data_at = at + len(one.header)
                end = data_at + one.data_size
                at = end + padding_size(one.data_size)
                answer[data_at - len(one.header) : data_at] = one.header
                answer[end:at] = bytes(at - end)
                if one.data_size and not _copy_resident(one, source, answer[data_at:end]):
                    return None
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
    if one.box is None:
        return source.copy_resident(RunGrid(one.hdu.layout.data_offset, one.data_size), target)
    return open_reader(one.hdu.layout, source).copy_resident(one.box, target)


def _file_bands(source: LocalSource) -> Iterator[Buffer]:
    size = source.version.size
    for start in range(0, size, BAND_BYTES):
        yield _unchanged(source, start, min(BAND_BYTES, size - start))


def _parts(plan: CutoutPlan, source: LocalSource) -> Iterator[FitsPart]:
    for one in plan.hdus:
        header = one.header
        if plan.checksums and one.box is not None:
            # The sums stand before the pixels, which are therefore read twice.
            header = checksummed(header, _data(one, source))
        yield FitsPart(header=header, data=_data(one, source), data_size=one.data_size)


def _data(one: HduPlan, source: LocalSource) -> Iterator[Buffer]:
    """The data unit, in bands."""
    if one.box is not None:
        yield from open_reader(one.hdu.layout, source).bands(one.box, BAND_BYTES)
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


class _NotQuickError(Exception):
    """The quick way to a box does not apply; known in this file only."""


def _exact_box(shape: Shape, leader: PreparedHdu) -> PixelBox | None:
    assert leader.grid is not None
    quick = box_around_quickly(shape, leader.grid, leader.ready_sky_index)
    if quick is not NOT_QUICK:
        return quick
    return box_around(shape, leader.grid, leader.sky_index())


def _quick_box(shape: Shape, leader: PreparedHdu) -> PixelBox | None:
    assert leader.grid is not None
    box = box_around_quickly(shape, leader.grid, leader.ready_sky_index)
    if box is NOT_QUICK:
        raise _NotQuickError
    return box


class _Planner:
    """The decisions about one request."""

    def __init__(
        self,
        prepared: PreparedDataset,
        request: CutoutRequest,
        find_box: Callable[[Shape, PreparedHdu], PixelBox | None],
    ) -> None:
        self._prepared = prepared
        self._dataset = prepared.dataset
        self._request = request
        self._find_box = find_box
        self._limits_other_axes = bool(request.band or request.time or request.pol)
        self._sky_boxes: dict[int, PixelBox | None] = {}
        self._is_primary_bare = False

    def plan(self) -> CutoutPlan | None:
        chosen = self._chosen()
        if self._request.shape is None and not self._limits_other_axes:
            return self._plan_of([(hdu, self._whole(hdu)) for hdu in chosen])
        if self._limits_other_axes and not self._dataset_meets():
            return None
        placed = [(hdu, self._place(hdu)) for hdu in chosen]
        if not [box for _, box in placed if isinstance(box, PixelBox)]:
            self._refuse_if_no_sky(chosen)
            return None
        return self._plan_of(placed)

    def _chosen(self) -> list[PreparedHdu]:
        """The HDUs of the detail; the primary one always stands first."""
        hdus = self._prepared.hdus
        if self._request.detail is None:
            return list(hdus)
        detail = self._detail(self._request.detail)
        wanted = {name.upper() for name in detail.hdus}
        if "*" in wanted:
            return list(hdus)
        chosen = [one for one in hdus if _is_among(wanted, one)]
        # An image in the primary HDU that is not of the detail leaves its header alone behind.
        self._is_primary_bare = hdus[0].is_cuttable and hdus[0] not in chosen
        needed = {(table.name, table.version) for one in chosen for table in one.tables}
        return [
            one
            for one in hdus
            if one.hdu.layout.index == 0 or one in chosen or _table_key(one) in needed
        ]

    def _detail(self, name: str) -> Detail:
        for detail in self._dataset.details:
            if detail.name == name:
                return detail
        known = ", ".join(detail.name for detail in self._dataset.details)
        raise UsageError(f"the dataset has the details {known}, got {name[:100]!r}")

    def _dataset_meets(self) -> bool:
        """Whether the dataset as a whole can hold what an axis that it lacks was asked for."""
        obscore, request = self._dataset.obscore, self._request
        axes = [one.wcs for one in self._prepared.hdus if one.wcs is not None]
        meet = True
        if request.band is not None and not any(wcs.spectral for wcs in axes):
            meet &= _meets(request.band, obscore.em_min, obscore.em_max)
        if request.time is not None and not any(wcs.temporal for wcs in axes):
            meet &= _meets(request.time, obscore.t_min, obscore.t_max)
        if request.pol and not any(wcs.polarization for wcs in axes):
            states = obscore.pol_states or ""
            meet &= any(f"/{state}/" in states for state in request.pol)
        return meet

    def _whole(self, hdu: PreparedHdu) -> Whole | None:
        """What becomes of an HDU where nothing limits any axis."""
        return None if self._is_primary_bare and hdu.hdu.layout.index == 0 else WHOLE

    def _place(self, hdu: PreparedHdu) -> PixelBox | Whole | None:
        """The box to cut, `WHOLE` for what is copied, None for what the request misses."""
        if not hdu.is_cuttable:
            return WHOLE
        if self._is_primary_bare and hdu.hdu.layout.index == 0:
            return None
        lower, upper = [0] * len(hdu.hdu.layout.naxis), list(hdu.hdu.layout.naxis)
        if self._request.shape is not None:
            if hdu.leader is None:
                return WHOLE
            sky = self._sky_box(hdu.leader, self._request.shape)
            if sky is None:
                return None
            for axis, low, high in zip(hdu.sky_axes, sky.lower, sky.upper, strict=True):
                lower[axis], upper[axis] = low, high
        box = PixelBox(tuple(lower), tuple(upper))
        return self._place_other_axes(hdu, box) if self._limits_other_axes else box

    def _place_other_axes(self, hdu: PreparedHdu, box: PixelBox) -> PixelBox | None:
        wcs, request = hdu.axes_wcs, self._request
        if wcs is None:
            return box
        limits: list[tuple[int, tuple[int, int] | None]] = []
        try:
            if request.band is not None and wcs.spectral is not None:
                limits.append((wcs.spectral.axis, wcs.spectral.box(request.band)))
            if request.time is not None and wcs.temporal is not None:
                limits.append((wcs.temporal.axis, wcs.temporal.box(request.time)))
            if request.pol and wcs.polarization is not None:
                limits.append((wcs.polarization.axis, wcs.polarization.box(request.pol)))
        except WcsError as error:
            raise UsageError(
                f"HDU {hdu.hdu.layout.index} cannot be cut along that axis: {error}"
            ) from None
        for axis, limit in limits:
            if limit is None:
                return None
            box = box.replaced(axis, *limit)
        return box

    def _sky_box(self, leader: PreparedHdu, shape: Shape) -> PixelBox | None:
        """The box of all planes that share *leader*'s grid, found once."""
        index = leader.hdu.layout.index
        if index not in self._sky_boxes:
            self._sky_boxes[index] = self._find_box(shape, leader)
        return self._sky_boxes[index]

    def _refuse_if_no_sky(self, chosen: list[PreparedHdu]) -> None:
        """Nothing to cut is an error where it is the file, not the shape, that is to blame."""
        images = [one for one in chosen if one.is_cuttable]
        if not images:
            raise UsageError("there is no image to cut in what was asked for")
        if self._request.shape is None or any(one.leader is not None for one in images):
            return
        problems = [f"HDU {one.hdu.layout.index}: {one.wcs_problem}" for one in images]
        broken = "; ".join(text for text in problems if not text.endswith(": "))
        raise UsageError(
            "the dataset cannot be cut by sky position: "
            + (broken or "no image of it has celestial coordinates")
        )

    def _plan_of(self, placed: list[tuple[PreparedHdu, PixelBox | Whole | None]]) -> CutoutPlan:
        kept = [(one, box) for one, box in placed if box is not None or one.hdu.layout.index == 0]
        tables = MovedTables(kept)
        extensions = len(kept) + len(tables.copies) - 1
        numbers = tuple([one.hdu.layout.index for one, _ in kept])
        planned: list[HduPlan] = []
        sections: list[str] = []
        for one, box in kept:
            layout = one.hdu.layout
            if isinstance(box, PixelBox):
                sections.append(section := box.section)
                cutter = one.header_cutter(extensions, tables.versions(one))
                header = cutter.cut(box, self._provenance(one, section))
                if self._request.checksums:
                    header = with_checksum_cards(header)
                size = box.pixel_count * abs(layout.bitpix) // 8
                planned.append(HduPlan(hdu=one.hdu, header=header, box=box, data_size=size))
            else:
                sections.append("whole" if box is WHOLE else "header")
                planned.append(self._uncut(one, box, tables, numbers, extensions))
        planned.extend(tables.copies)
        size = 0
        for plan in planned:
            size += len(plan.header) + plan.data_size + padding_size(plan.data_size)
        return CutoutPlan(
            dataset=self._dataset,
            hdus=tuple(planned),
            size=size,
            filename=self._filename(sections),
            media_type=FITS_MEDIA_TYPE,
            etag=self._etag(numbers, sections),
            checksums=self._request.checksums,
        )

    def _uncut(
        self,
        one: PreparedHdu,
        box: Whole | None,
        tables: MovedTables,
        numbers: tuple[int, ...],
        extensions: int,
    ) -> HduPlan:
        """An HDU that is copied whole, or a primary image that leaves its header alone behind."""
        layout = one.hdu.layout
        data_size = layout.data_size
        if box is None:
            header = empty_primary(
                layout.header,
                extensions=extensions,
                provenance=(self._prepared.origin_cards,),
            )
            data_size = 0
        elif layout.index == 0:
            header = self._prepared.kept_primary(numbers, extensions)
        else:
            header = tables.moved_header(one) or layout.header.render()
        return HduPlan(hdu=one.hdu, header=header, box=None, data_size=data_size)

    def _provenance(self, one: PreparedHdu, section: str) -> tuple[bytes, bytes]:
        """HISTORY cards: they add up where a cutout is cut again, as keywords could not."""
        return (self._prepared.origin_cards, commentary("HISTORY", f"{one.described} {section}"))

    def _filename(self, sections: list[str]) -> str:
        """The parent's name with the box of the first image, or with the detail."""
        what = self._request.detail
        for section in sections:
            if section[0] == "[":
                what = section[1:-1].replace(":", "-").replace(",", "_")
                break
        return f"{self._prepared.stem}_{what or 'cutout'}.fits"

    def _etag(self, numbers: tuple[int, ...], sections: list[str]) -> str:
        """Of everything that decides about the bytes of the answer."""
        text = f"{self._prepared.etag_base}|{self._request.checksums}|{numbers}|{sections}"
        return f'"{hashlib.blake2b(text.encode(), digest_size=15).hexdigest()}"'


def _is_among(wanted: set[str], one: PreparedHdu) -> bool:
    name = one.hdu.layout.name or ("PRIMARY" if one.hdu.layout.index == 0 else "")
    return not wanted.isdisjoint({name.upper(), one.hdu.role.upper()} - {""})


def _table_key(one: PreparedHdu) -> tuple[str, int]:
    return one.hdu.layout.name, one.hdu.layout.version


def _meets(asked: Interval, lower: float | None, upper: float | None) -> bool:
    """Whether limits meet what was asked for; unknown ones never do, as in a search."""
    return lower is not None and upper is not None and asked.meets(Interval(lower, upper))


def _whole_file(dataset: Dataset) -> CutoutPlan:
    return CutoutPlan(
        dataset=dataset,
        hdus=(),
        size=dataset.version.size,
        filename=file_name(dataset),
        media_type=dataset.media_type,
        etag=dataset.version.etag,
        checksums=False,
    )
