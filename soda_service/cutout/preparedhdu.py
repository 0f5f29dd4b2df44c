"""An HDU made ready for cutting: its coordinates understood, its header compiled."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeVar

from soda_service.fits.cards import BLOCK_SIZE, CARD_SIZE, find_end
from soda_service.fits.distortion import ReferredTable, referred_tables
from soda_service.fits.header import HeaderCutter, constant_axes, image_header
from soda_service.fits.inherited import with_inherited
from soda_service.fits.layout import HduKind
from soda_service.fits.newcards import commentary
from soda_service.fits.proof import Prover
from soda_service.fits.stepping import can_step
from soda_service.fits.tablerows import BinaryTable
from soda_service.fits.wcs import AxisRange, ImageWcs, Polarization, WcsError, needed_tables
from soda_service.geometry.skyindex import SkyIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from soda_service.catalog.dataset import DatasetHdu
    from soda_service.fits.cards import Header
    from soda_service.fits.wcs import CelestialGrid, CubeFaces

    ReadHdus = Callable[[Iterable[tuple[str, int]]], bytes]
    """The HDUs with these EXTNAMEs and EXTVERs, as they stand in the file, joined."""

_HEADER_CUTTERS: Final = 8
"""Compiled headers kept for one HDU: it has one, unless details and shapes leave HDUs out."""

_HEADER_COPIES: Final = 6
"""Times a header's own bytes that the header takes with its cards, coordinates and cutters."""

_OF_PARENT_ONLY: Final = frozenset({"ASDF", "WCSCORR"})
_MOST_ROW_BYTES: Final = 16 * 1024 * 1024
"""Of a table whose rows are chosen from; a larger one goes along whole."""

_UNSAID: Final = frozenset({"", "LINEAR", "PIXEL"})
"""CTYPE of an axis whose coordinates mean nothing."""

_Axis = TypeVar("_Axis", AxisRange, Polarization)
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
        self.lender: PreparedHdu | None = None
        """The HDU over whose pixels those of this one lie, on all axes."""
        self.borrowers: list[PreparedHdu] = []
        """The HDUs that have this one for their lender."""
        self.tables: tuple[ReferredTable, ...] = ()
        """The other HDUs without which the image's coordinates cannot be read."""
        self.is_cuttable = hdu.layout.is_image
        """Whether there are pixels that a request may choose from; not in lookup tables."""
        self.is_about_the_file = False
        """Whether it is a table of the places of things in the parent's file."""
        name = f" ({hdu.layout.name},{hdu.layout.version})" if hdu.layout.name else ""
        self.called = f"HDU {hdu.layout.index}{name}"
        """How errors speak of it."""
        self.history_prefix = f"  {self.called} section"
        """What a HISTORY card of a cutout of it says, up to the box."""
        self._header_cutters: dict[_CutterKey, HeaderCutter] = {}
        self._index: SkyIndex | None = None
        self._face_indices: dict[int, SkyIndex] = {}
        self._index_lock = threading.Lock()
        self._read_hdus = read_hdus
        layout = hdu.layout
        is_empty = layout.kind is HduKind.EMPTY
        self.is_constant = is_empty and bool(constant_axes(layout.header))
        """Whether it has no data because all its pixels are the same, as HST writes it."""
        self.naxis = constant_axes(layout.header) if self.is_constant else layout.naxis
        """Lengths of its axes, of those of a constant too."""
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
        HST's WCSCORR. Or it `is_about_the_file`.
        """
        layout = self.hdu.layout
        is_text = not layout.is_image or len(layout.naxis) == 1
        return self.is_about_the_file or (is_text and layout.name.upper() in _OF_PARENT_ONLY)

    @property
    def left_out_card(self) -> bytes:
        """HISTORY: that it is not in the answer."""
        return commentary("HISTORY", f"  without {self.called}, which is true of the parent only")

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

    def follow(self, leader: PreparedHdu) -> None:
        """Be cut with the boxes of *leader*, which may be the HDU itself."""
        self.leader = leader
        if leader is not self and leader.naxis == self.naxis:
            self.borrow_from(leader)

    def borrow_from(self, lender: PreparedHdu) -> None:
        """Have what *lender* says of axes that the header itself is silent about."""
        self.lender = lender
        lender.borrowers.append(self)

    @property
    def sky_axes(self) -> tuple[int, ...]:
        """The two axes that a sky box limits, 0-based, and that of the faces of a cube.

        The leader's where it has no grid of its own; none where it has no leader either.
        """
        if self.faces is not None:
            return self.faces.axes
        if self.grid is not None:
            return self.grid.axes
        if self.leader is None or self.leader is self:
            return ()
        return self.axes_over(self.leader.sky_axes)

    def axes_over(self, axes: tuple[int, ...]) -> tuple[int, ...]:
        """Its axes that lie over these of another image; none where it lacks them.

        A plain image lies over the sky of a cube, whichever axes that is on.
        """
        count = len(self.naxis)
        if count > max(axes):
            return axes
        return (0, 1) if count == len(axes) == 2 else ()

    @property
    def sky_naxis(self) -> tuple[int, ...]:
        """Lengths of those axes."""
        return self.lengths_of(self.sky_axes)

    def lengths_of(self, axes: tuple[int, ...]) -> tuple[int, ...]:
        """Lengths of some axes, all of which it has."""
        return tuple([self.naxis[axis] for axis in axes])

    def describes(self, axis: int) -> bool:
        """Whether its header says by itself what an axis, 0-based, means."""
        ctype = self.image_header.string(f"CTYPE{axis + 1}") or ""
        return ctype.strip().upper() not in _UNSAID

    @property
    def spectral(self) -> AxisRange | None:
        """The wavelengths along one of its axes; see `polarization`."""
        return self._own_or_lent(lambda wcs: wcs.spectral)

    @property
    def temporal(self) -> AxisRange | None:
        """The times along one of its axes; see `polarization`."""
        return self._own_or_lent(lambda wcs: wcs.temporal)

    @property
    def polarization(self) -> Polarization | None:
        """The states along one of its axes.

        As the other two its own, or, where its header is silent about that axis, its lender's.
        """
        return self._own_or_lent(lambda wcs: wcs.polarization)

    def _own_or_lent(self, kind: Callable[[ImageWcs], _Axis | None]) -> _Axis | None:
        own = kind(self.wcs) if self.wcs is not None else None
        if own is not None or self.lender is None or self.lender.wcs is None:
            return own
        lent = kind(self.lender.wcs)
        if lent is None or (self.describes(lent.axis) and not self.wcs_problem):
            return None
        return lent

    def can_step(self, axis: int) -> bool:
        """Whether planes of *axis*, 0-based, can be left out of all HDUs that share it alike."""
        lender = self.lender or self
        return all(can_step(one.image_header, axis) for one in (lender, *lender.borrowers))

    @property
    def ready_sky_index(self) -> SkyIndex | None:
        """The acceleration structure of the grid if it has been built."""
        return self._index

    @property
    def memory(self) -> int:
        """Bytes that it takes, about; more once the acceleration structure has been built."""
        header = len(self.hdu.layout.header.raw) * _HEADER_COPIES
        indices = sum(one.nbytes for one in list(self._face_indices.values()))
        indices += self.wcs.nbytes if self.wcs is not None else 0
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
