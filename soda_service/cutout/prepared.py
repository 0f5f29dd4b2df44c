"""A dataset made ready for cutting: coordinates understood, headers compiled, planes grouped.

Preparing parses WCS and may take milliseconds; it is done once for each version of a
dataset and shared by all requests after it.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from soda_service import __version__
from soda_service.cutout.beams import has_beams
from soda_service.cutout.companions import is_companion
from soda_service.cutout.quickplan import QuickPlanner, is_ordinary
from soda_service.errors import UnknownDatasetError
from soda_service.fits.cards import BLOCK_SIZE, CARD_SIZE, commentary, find_end
from soda_service.fits.distortion import ReferredTable, referred_tables
from soda_service.fits.header import HeaderCutter, image_header, kept_primary
from soda_service.fits.inherited import with_inherited
from soda_service.fits.layout import HduKind
from soda_service.fits.proof import Prover
from soda_service.fits.tablerows import BinaryTable
from soda_service.fits.wcs import MOST_TABLE_BYTES, ImageWcs, WcsError, needed_tables
from soda_service.geometry.skyindex import SkyIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from soda_service.catalog.dataset import Dataset, DatasetHdu
    from soda_service.fits.cards import Header
    from soda_service.fits.cubefaces import CubeFaces
    from soda_service.fits.wcs import CelestialGrid
    from soda_service.storage.pool import OpenFiles

    ReadHdus = Callable[[Iterable[tuple[str, int]]], bytes]

_SAME_GRID_PIXELS: Final = 0.01
"""Planes whose corners agree this well on the sky are cut with one box."""

_HEADER_CUTTERS: Final = 8
"""Compiled headers kept for one HDU: it has one, unless details and shapes leave HDUs out."""

PREPARED_BYTES: Final = 64 * 1024 * 1024
"""Of all prepared datasets together."""
_HEADER_COPIES: Final = 6
"""Times a header's own bytes that the header takes with its cards, coordinates and cutters."""

_OF_PARENT_ONLY: Final = frozenset({"ASDF", "WCSCORR"})
_OF_THE_FILE_ONLY: Final = {"INDXADDR": "INDEX", "JSONADDR": "JSON"}
"""The primary header's address of a table, and the EXTNAME of that, in files of lsst.images."""
_MOST_ROW_BYTES: Final = 16 * 1024 * 1024
"""Of a table whose rows are chosen from; a larger one goes along whole."""

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._+-]")
_SUFFIX: Final = re.compile(r"(\.(fits|fit|fts))?(\.(gz|fz|bz2|Z))?$", re.IGNORECASE)

_CutterKey = tuple[int, tuple[tuple[tuple[str, int], int], ...]]


class PreparedHdu:
    """One HDU with its coordinates and its compiled header."""

    def __init__(self, hdu: DatasetHdu, primary: Header, read_hdus: ReadHdus) -> None:
        """*primary* is the header of the file's first HDU."""
        self.hdu = hdu
        self.wcs: ImageWcs | None = None
        self.wcs_problem = ""
        """Why there is no `wcs`, where the header has one that cannot be used."""
        self.leader: PreparedHdu | None = None
        """The HDU whose sky grid holds for this one; itself for the first of its kind."""
        self.tables: tuple[ReferredTable, ...] = ()
        """The other HDUs without which the image's coordinates cannot be read."""
        self.is_cuttable = hdu.layout.is_image
        """Whether there are pixels that a request may choose from; not in lookup tables."""
        self.is_of_the_file_only = False
        """Whether it is a table of the places of things in the parent's file."""
        name = f" ({hdu.layout.name},{hdu.layout.version})" if hdu.layout.name else ""
        self.called = f"HDU {hdu.layout.index}{name}"
        """How errors speak of it."""
        self.described = f"  {self.called} section"
        """How provenance speaks of it, up to the box."""
        self._header_cutters: dict[_CutterKey, HeaderCutter] = {}
        self._index: SkyIndex | None = None
        self._face_indices: dict[int, SkyIndex] = {}
        self._index_lock = threading.Lock()
        self._read_hdus = read_hdus
        layout = hdu.layout
        if layout.is_image:
            compressed = layout.kind is HduKind.COMPRESSED
            header = image_header(layout.header) if compressed else layout.header
            self.tables = referred_tables(header)
            try:
                needed = needed_tables(header)
                tables = read_hdus(needed) if needed else b""
                described = with_inherited(header, primary) if layout.index else header
                self.wcs = ImageWcs.of(described, layout.naxis, tables=tables)
            except WcsError as error:
                self.wcs_problem = str(error)

    def header_cutter(
        self, extensions: int, table_versions: Mapping[tuple[str, int], int]
    ) -> HeaderCutter:
        """What moves the header of this image; *extensions* follow it if it is the first HDU."""
        first = self.hdu.layout.index == 0
        key = (extensions if first else 0, tuple(sorted(table_versions.items())))
        cutter = self._header_cutters.get(key)
        if cutter is None:
            cutter = HeaderCutter(
                self.hdu.layout.header,
                self.hdu.layout.kind,
                first=first,
                extensions=extensions if first else None,
                table_versions=table_versions,
            )
            if len(self._header_cutters) < _HEADER_CUTTERS:
                self._header_cutters[key] = cutter
        return cutter

    @property
    def is_of_parent_only(self) -> bool:
        """Whether it is true of the parent, and cannot be made true of a cutout.

        It may be a coordinate system that no header but a table of its own has: gwcs in ASDF,
        HST's WCSCORR. Or it is about the parent's file.
        """
        layout = self.hdu.layout
        is_text = not layout.is_image or len(layout.naxis) == 1
        return self.is_of_the_file_only or (is_text and layout.name.upper() in _OF_PARENT_ONLY)

    @property
    def has_table(self) -> bool:
        """Whether `table` is at hand."""
        return "table" in self.__dict__

    @cached_property
    def table(self) -> BinaryTable | None:
        """The rows, where it is a binary table that can be read; the first call may block."""
        layout = self.hdu.layout
        if layout.kind is not HduKind.TABLE or layout.data_size > _MOST_ROW_BYTES:
            return None
        raw = self._read_hdus([(layout.name, layout.version)])
        start = layout.data_offset - layout.header_offset
        try:
            return BinaryTable(layout.header, raw[start : start + layout.data_size])
        except ValueError:
            return None

    @cached_property
    def prover(self) -> Prover:
        """What compares cutouts of this image with it; made at the first call, which may block."""
        tables = b"".join(header + data for header, data in self.referred_hdus.values())
        return Prover(self.image_header, self.hdu.layout.naxis, tables=tables)

    @cached_property
    def referred_hdus(self) -> dict[tuple[str, int], tuple[bytes, bytes]]:
        """Header and data of each HDU that the coordinates refer to; the first call may block."""
        found = {}
        for table in self.tables:
            raw = self._read_hdus([(table.name, table.version)])
            end = find_end(raw, 0)
            if end is not None:
                start = -(-(end + CARD_SIZE) // BLOCK_SIZE) * BLOCK_SIZE
                found[table.name, table.version] = raw[:start], raw[start:]
        return found

    @property
    def grid(self) -> CelestialGrid | None:
        """The HDU's own sky grid."""
        return self.wcs.celestial if self.wcs is not None else None

    @property
    def faces(self) -> CubeFaces | None:
        """The HDU's own sky grids where they are faces of a cube, which has no other `grid`."""
        return self.wcs.faces if self.wcs is not None else None

    @property
    def blank(self) -> int | None:
        """The stored value of integers that means none (FITS 4.0 §4.4.2.5)."""
        return self.image_header.integer("BLANK")

    @property
    def image_header(self) -> Header:
        """The header of the image, compressed or not."""
        return image_header(self.hdu.layout.header)

    @property
    def sky_planes(self) -> tuple[tuple[int, CelestialGrid], ...]:
        """The grids with the planes that they are of; that of the sky itself as plane 0."""
        if self.faces is not None:
            return self.faces.planes
        return () if self.grid is None else ((0, self.grid),)

    @property
    def sky_axes(self) -> tuple[int, ...]:
        """The two axes that a sky box limits, 0-based, and that of the faces of a cube."""
        grid, faces = self.grid, self.faces
        if grid is None and faces is None and self.leader is not None:
            faces = self.leader.faces
        if faces is not None:
            return faces.axes
        return grid.axes if grid is not None else (0, 1)

    @property
    def sky_naxis(self) -> tuple[int, ...]:
        """Lengths of those axes."""
        return self.lengths_of(self.sky_axes)

    def lengths_of(self, axes: tuple[int, ...]) -> tuple[int, ...]:
        """Lengths of some axes; none where it lacks any of them."""
        naxis = self.hdu.layout.naxis
        return tuple(naxis[axis] for axis in axes) if len(naxis) > max(axes) else ()

    @property
    def axes_wcs(self) -> ImageWcs | None:
        """What the axes mean: the HDU's own WCS, or that of the plane that it lies over."""
        if self.wcs is None and self.leader is not None:
            same = self.leader.hdu.layout.naxis == self.hdu.layout.naxis
            return self.leader.wcs if same else None
        return self.wcs

    @property
    def ready_sky_index(self) -> SkyIndex | None:
        """The acceleration structure of the grid if it has been built."""
        return self._index

    @property
    def memory(self) -> int:
        """Bytes that it takes, about; more once the acceleration structure has been built."""
        header = len(self.hdu.layout.header.raw) * _HEADER_COPIES
        indices = sum(one.nbytes for one in list(self._face_indices.values()))
        return header + indices + (self._index.nbytes if self._index is not None else 0)

    def sky_index(self) -> SkyIndex:
        """The acceleration structure of the grid, built at the first call; may block."""
        with self._index_lock:
            if self._index is None:
                assert self.grid is not None
                self._index = SkyIndex.of(self.grid)
            return self._index

    def face_index(self, plane: int) -> SkyIndex:
        """The same of one of the `faces`."""
        assert self.faces is not None
        with self._index_lock:
            if plane not in self._face_indices:
                self._face_indices[plane] = SkyIndex.of(dict(self.faces.planes)[plane])
            return self._face_indices[plane]


class PreparedDataset:
    """A dataset whose every HDU is prepared and whose planes know what they belong to."""

    def __init__(self, dataset: Dataset, files: OpenFiles) -> None:
        self.dataset = dataset
        self._files = files
        self.origin_cards = commentary(
            "HISTORY", f"Cutout by soda-service {__version__} of\n  {dataset.publisher_did}"
        )
        """HISTORY cards that every cut HDU carries."""
        primary = dataset.hdus[0].layout.header
        self.hdus = tuple(PreparedHdu(hdu, primary, self._read_hdus) for hdu in dataset.hdus)
        self.stem = _SUFFIX.sub("", file_name(dataset))
        """What the name of an answer begins with."""
        planes = [hdu.planes for hdu in dataset.hdus if hdu.planes is not None]
        self.etag_base = f"{dataset.publisher_did}|{dataset.version.etag}|{__version__}|{planes}"
        """What makes the entity tags of this version of the dataset unlike any other's."""
        self._primaries: dict[tuple[tuple[int, ...], int], bytes] = {}
        self._find_leaders()
        header = dataset.hdus[0].layout.header
        of_file = {name for keyword, name in _OF_THE_FILE_ONLY.items() if keyword in header}
        for hdu in self.hdus:
            layout = hdu.hdu.layout
            hdu.is_of_the_file_only = not layout.is_image and layout.name.upper() in of_file
        self.has_companions = any(is_companion(hdu) for hdu in self.hdus)
        """Whether there are HDUs that only go along with others."""
        self.has_beams = any(has_beams(hdu) for hdu in self.hdus)
        """Whether the beams of a cube stand in a table."""

    @property
    def memory(self) -> int:
        """Bytes that it takes, about."""
        return sum(hdu.memory for hdu in self.hdus)

    @cached_property
    def quick_planner(self) -> QuickPlanner | None:
        """Who plans ordinary requests, where the dataset is ordinary."""
        return QuickPlanner(self) if is_ordinary(self) else None

    def kept_primary(self, kept: tuple[int, ...], extensions: int) -> bytes:
        """The header of a primary HDU that is not cut, first of the HDUs with the numbers *kept*.

        *extensions* is how many HDUs follow it, copies of tables included.
        """
        header = self._primaries.get((kept, extensions))
        if header is None:
            numbers = {old: new for new, old in enumerate(kept)}
            header = kept_primary(
                self.dataset.hdus[0].layout.header,
                extensions=extensions,
                hdu_numbers=None if kept == tuple(range(len(kept))) else numbers,
            )
            if len(self._primaries) < _HEADER_CUTTERS:
                self._primaries[kept, extensions] = header
        return header

    def _read_hdus(self, needed: Iterable[tuple[str, int]]) -> bytes:
        """The HDUs with these EXTNAMEs and EXTVERs, as they stand in the file, joined."""
        wanted = {(name.upper(), version) for name, version in needed}
        layouts = [
            hdu.layout
            for hdu in self.dataset.hdus
            if (hdu.layout.name.upper(), hdu.layout.version) in wanted
        ]
        if sum(layout.end - layout.header_offset for layout in layouts) > MOST_TABLE_BYTES:
            raise WcsError("the tables that the coordinates refer to are larger than can be right")
        try:
            dataset = self.dataset
            with self._files.borrow(dataset.url, dataset.version, dataset.is_packed) as source:
                tables = b"".join(
                    source.read(layout.header_offset, layout.end - layout.header_offset)
                    for layout in layouts
                )
                source.check_unchanged()
        except FileNotFoundError:
            raise UnknownDatasetError(self.dataset.publisher_did, "its file is gone") from None
        return tables

    def _find_leaders(self) -> None:
        lookups = {
            (table.name, table.version) for hdu in self.hdus for table in hdu.tables if table.moves
        }
        for hdu in self.hdus:
            if (hdu.hdu.layout.name, hdu.hdu.layout.version) in lookups:
                hdu.is_cuttable = False
        images = [hdu for hdu in self.hdus if hdu.is_cuttable]
        leaders: list[PreparedHdu] = []
        for image in images:
            if image.grid is None and image.faces is None:
                continue
            image.leader = _leader_of(leaders, image)
            if image.leader is image:
                leaders.append(image)
        for image in images:
            if image.grid is None and image.faces is None:
                image.leader = _companion_leader(leaders, image)


def file_name(dataset: Dataset) -> str:
    """The file's own name, with nothing in it that a header of HTTP could not carry."""
    return _UNSAFE.sub("_", dataset.file_name) or "dataset.fits"


def _leader_of(leaders: list[PreparedHdu], image: PreparedHdu) -> PreparedHdu:
    """The plane whose grid *image*, which has coordinates, lies over; itself where there is none.

    HST's ERR may carry its own, undistorted WCS beside SCI's: where a collection gives both
    a role, being of one size and version and showing the same place is enough.
    """
    distances = [(_distance(one, image), one) for one in leaders]
    same = [one for (apart, _), one in distances if apart <= _SAME_GRID_PIXELS]
    if same:
        return same[0]
    planes = [
        (middles, number, one)
        for number, ((_, middles), one) in enumerate(distances)
        if one.hdu.role and image.hdu.role and one.hdu.role != image.hdu.role
        if one.hdu.layout.version == image.hdu.layout.version
        if middles < min(one.sky_naxis) / 2
    ]
    return min(planes)[2] if planes else image


def _distance(leader: PreparedHdu, image: PreparedHdu) -> tuple[float, float]:
    """Pixels between the same points of two images: the most of corners and middle, the middle's.

    Infinite where the images are of different sizes, or their middles are not on the sky.
    Corners that are not are left out.
    """
    if leader.sky_naxis != image.sky_naxis:
        return np.inf, np.inf
    assert leader.wcs is not None
    assert image.wcs is not None
    if leader.faces is not None and image.faces is not None:
        planes, others = leader.faces.planes, image.faces.planes
        if [at for at, _ in planes] != [at for at, _ in others]:
            return np.inf, np.inf
    pairs = zip(leader.wcs.sky_grids, image.wcs.sky_grids, strict=True)
    apart = [_grids_apart(*pair) for pair in pairs]
    return max(most for most, _ in apart), max(middle for _, middle in apart)


def _grids_apart(grid: CelestialGrid, other: CelestialGrid) -> tuple[float, float]:
    """The same of two grids of one size."""
    width, height = grid.naxis
    x = np.array([0.0, width - 1, 0, width - 1, (width - 1) / 2])
    y = np.array([0.0, 0, height - 1, height - 1, (height - 1) / 2])
    sky_of_one, sky_of_other = grid.pixel_to_sky(x, y), other.pixel_to_sky(x, y)
    step = grid.pixel_to_sky(x[4:] + 1, y[4:]) - sky_of_one[:, 4:]
    apart = np.linalg.norm(sky_of_one - sky_of_other, axis=0) / np.linalg.norm(step)
    if np.isnan(apart[4]):
        return np.inf, np.inf
    return float(np.nanmax(apart)), float(apart[4])


def _companion_leader(leaders: list[PreparedHdu], image: PreparedHdu) -> PreparedHdu | None:
    """The plane that an image without coordinates (HST's DQ, say) lies over, if it is certain."""
    fitting = [
        one
        for one in leaders
        if one.sky_naxis == image.lengths_of(one.faces.axes if one.faces else (0, 1))
    ]
    same_version = [one for one in fitting if one.hdu.layout.version == image.hdu.layout.version]
    certain = same_version if len(same_version) == 1 else fitting
    return certain[0] if len(certain) == 1 else None


class PreparedDatasets:
    """The prepared datasets used last; safe to use from several threads.

    As many as *limit*, and as fit into *memory* bytes; the one used last in any case.
    """

    def __init__(self, limit: int, files: OpenFiles, *, memory: int = PREPARED_BYTES) -> None:
        self._limit = limit
        self._memory = memory
        self._files = files
        self._lock = threading.Lock()
        self._prepared: OrderedDict[str, PreparedDataset] = OrderedDict()

    def peek(self, dataset: Dataset) -> PreparedDataset | None:
        """The prepared form of this very object, if it is here; never blocks for long."""
        identifier = dataset.publisher_did
        with self._lock:
            found = self._prepared.get(identifier)
            if found is None or found.dataset is not dataset:
                return None
            self._prepared.move_to_end(identifier)
            return found

    def get(self, dataset: Dataset) -> PreparedDataset:
        """The prepared form of *dataset*, made now if need be; may block."""
        found = self.peek(dataset)
        if found is not None:
            return found
        made = PreparedDataset(dataset, self._files)
        _ = made.quick_planner  # made here, where it may take milliseconds
        with self._lock:
            self._prepared[dataset.publisher_did] = made
            self._prepared.move_to_end(dataset.publisher_did)
            # Counted anew, because what was small may have built its acceleration structure since.
            memory = sum(one.memory for one in self._prepared.values())
            while len(self._prepared) > self._limit or (
                memory > self._memory and len(self._prepared) > 1
            ):
                memory -= self._prepared.popitem(last=False)[1].memory
        return made
