"""Tiles of a compressed image that a box holds whole: copied, not decompressed.

A box whose edges are borders of tiles, or the image's own, is an image of those tiles. Their
bytes are copied with all that stands beside them in their rows. Source: FITS 4.0 §10.1, §10.2
(dithering), §7.3.5 (descriptors).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from soda_service.errors import CorruptFileError
from soda_service.fits.layout import HduKind
from soda_service.fits.newcards import card
from soda_service.fits.tiles import TileColumn, TileLayout, column_cards, rebased_dither

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from soda_service.fits.cards import Header
    from soda_service.fits.layout import HduLayout
    from soda_service.geometry.pixelbox import PixelBox
    from soda_service.storage.source import RunSource

    Numbers = NDArray[np.int64]

_MOST_TILES: Final = 2**18
"""Tiles whose rows are held in memory; a box of more is decompressed and compressed anew."""
_MOST_READ: Final = 1024 * 1024
"""Bytes of rows that are read at once."""
_CHECKED: Final = 256
"""Rows after which the file is looked at whether it is still the same."""
_DITHERED: Final = ("SUBTRACTIVE_DITHER_1", "SUBTRACTIVE_DITHER_2")
_NOT_DITHERED: Final = ("NO_DITHER", "NONE")
_PERIOD: Final = 10000
"""Tiles after which the random numbers of dithering repeat."""
_SCALES: Final = ("ZSCALE", "ZZERO")
"""In the header, for all tiles, they are the standard's but not what the libraries read."""
_MASK: Final = "NULL_PIXEL_MASK"
"""A column that this service does not decompress, and so does not pass on either."""
_KEPT: Final = re.compile(
    rb"Z(?:CMPTYPE|NAME[0-9]+|VAL[0-9]+|QUANTIZ|DITHER0|BLANK|SCALE|ZERO|MASKCMP)"
)
"""Cards that a reader of the tiles must know."""


@dataclass(frozen=True, slots=True)
class _Cell:
    """Where a column stands in the rows of the parent."""

    column: TileColumn
    start: int
    size: int
    """Bytes: of a descriptor, where the elements stand in the heap."""


class PassedTiles:
    """The tiles of one box; the table of the parent is read by `passed_tiles` already."""

    def __init__(
        self,
        layout: TileLayout,
        cells: Sequence[_Cell],
        rows: NDArray[np.uint8],
        heap: _Heap,
    ) -> None:
        self.layout = layout
        """How they are compressed: as in the parent, but that a dither goes on from here."""
        self._cells = cells
        self._rows = rows
        self._heap = heap
        self._pointers = {
            cell.start: heap.pointers(rows[:, cell.start : cell.start + cell.size], cell.column)
            for cell in cells
            if cell.column.varies
        }
        self.heap_size = sum(int(sizes.sum()) for _, sizes in self._pointers.values())
        """Bytes of all cells that stand in the heap."""

    def rows(self) -> Iterator[Sequence[bytes]]:
        """For each tile the bytes of its cells, one for each column; may block.

        Raises CorruptFileError, SourceUnavailableError.
        """
        for number in range(len(self._rows)):
            if number % _CHECKED == 0:
                self._prefetch(slice(number, number + _CHECKED))
            yield [self._cell(cell, number) for cell in self._cells]
            if number % _CHECKED == 0:
                self._heap.source.check_unchanged()
        self._heap.source.check_unchanged()

    def _prefetch(self, some: slice) -> None:
        """Has the elements of *some* rows brought in together, where they come from far away."""
        if self._heap.source.gulp_bytes:
            self._heap.prefetch(
                [(starts[some], sizes[some]) for starts, sizes in self._pointers.values()]
            )

    def _cell(self, cell: _Cell, number: int) -> bytes:
        if not cell.column.varies:
            return self._rows[number, cell.start : cell.start + cell.size].tobytes()
        starts, sizes = self._pointers[cell.start]
        return self._heap.read(int(starts[number]), int(sizes[number]))


def passed_tiles(layout: HduLayout, box: PixelBox, source: RunSource) -> PassedTiles | None:
    """The tiles of which *box* consists; None where it must be compressed anew; may block.

    That is so for images that are not compressed, boxes that cut tiles, dithered floats whose
    tiles do not follow each other in the parent as they do in the box (each has random numbers
    by its place), tables that are not as they should be, and what readers do not read alike.
    Raises CorruptFileError where tiles lie outside of the file, SourceUnavailableError.
    """
    if layout.kind is not HduKind.COMPRESSED or layout.end > source.version.size:
        return None
    header = layout.header
    cells = _cells(header)
    tile = _tile(header, layout.naxis)
    if cells is None or tile is None or not _is_read_widely(layout, cells):
        return None
    numbers = _tile_numbers(layout.naxis, tile, box)
    dither = _dither(layout, numbers) if numbers is not None else None
    if numbers is None or dither is None or int(numbers[-1]) >= (header.integer("NAXIS2") or 0):
        return None
    made = TileLayout(
        tile=tuple(map(min, tile, box.naxis)),
        columns=tuple(cell.column for cell in cells),
        cards=_cards(layout, dither),
    )
    return PassedTiles(made, cells, _read_rows(layout, source, numbers), _Heap(layout, source))


# ---------------------------------------------------------------- decisions, from the header alone


def _cells(header: Header) -> tuple[_Cell, ...] | None:
    """The columns; None where they are not what the length of a row says, or not understood."""
    cells = []
    start = 0
    for number in range(1, (header.integer("TFIELDS") or 0) + 1):
        form = header.string(f"TFORM{number}") or ""
        column = TileColumn.of(header.string(f"TTYPE{number}") or "", form)
        if column is None or column.name.strip().upper() == _MASK:
            return None
        size = (16 if "Q" in form else 8) if column.varies else column.fixed_size
        cells.append(_Cell(column, start, size))
        start += size
    return tuple(cells) if start and start == header.integer("NAXIS1") else None


def _is_read_widely(layout: HduLayout, cells: Sequence[_Cell]) -> bool:
    """Whether cfitsio and astropy make of such tiles what the plain cutout holds."""
    header = layout.header
    columns = {cell.column.name.strip().upper() for cell in cells}
    if layout.bitpix == 64 or any(one in header and one not in columns for one in _SCALES):
        return False
    if layout.bitpix < 0 and "BLANK" in header:
        return False  # some make NaN of that integer
    match header.string("ZCMPTYPE"):
        case "RICE_1" | "RICE_ONE" | "HCOMPRESS_1":
            return "ZVAL1" in header and "ZVAL2" in header
        case "PLIO_1":
            forms = (header.string(f"TFORM{number}") or "" for number in range(1, len(cells) + 1))
            named = zip(cells, forms, strict=True)
            return all(
                re.match("1?[PQ]I", form)
                for cell, form in named
                if cell.column.name.strip().upper() == "COMPRESSED_DATA"
            )
        case method:
            return method in ("GZIP_1", "GZIP_2")


def _tile(header: Header, naxis: tuple[int, ...]) -> tuple[int, ...] | None:
    """Axis lengths of a tile; rows where the header does not say."""
    defaults = (naxis[0], *(1 for _ in naxis[1:]))
    given = [
        header.integer(f"ZTILE{axis}") if f"ZTILE{axis}" in header else default
        for axis, default in enumerate(defaults, 1)
    ]
    tile = [one for one in given if one is not None and one > 0]
    return tuple(tile) if len(tile) == len(naxis) else None


def _tile_numbers(naxis: tuple[int, ...], tile: tuple[int, ...], box: PixelBox) -> Numbers | None:
    """Numbers in the parent, 0-based, of the tiles of *box* in its own order; None if it cuts any.

    Also None for more of them than are held in memory.
    """
    numbers = np.zeros(1, np.int64)
    step = 1
    for low, high, one, length in zip(box.lower, box.upper, tile, naxis, strict=True):
        if low % one or (high % one and high != length):
            return None
        first, end = low // one, -(-high // one)
        if (end - first) * len(numbers) > _MOST_TILES:
            return None
        along = np.arange(first, end, dtype=np.int64)
        numbers = (along[:, None] * step + numbers).ravel()
        step *= -(-length // one)
    return numbers


def _dither(layout: HduLayout, numbers: Numbers) -> int | None:
    """ZDITHER0 for the tiles with these numbers, 0 where it plays no part; None if there is none.

    A tile's random numbers begin at a place given by its number, so only tiles that follow
    each other (modulo the period) can keep theirs.
    """
    header = layout.header
    method = header.string("ZQUANTIZ") if "ZQUANTIZ" in header else _NOT_DITHERED[0]
    if layout.bitpix > 0 or method in _NOT_DITHERED:
        return 0
    first = header.integer("ZDITHER0")
    if method not in _DITHERED or first is None or not 1 <= first <= _PERIOD:
        return None
    if ((numbers - numbers[0] - np.arange(len(numbers))) % _PERIOD).any():
        return None
    return rebased_dither(first, int(numbers[0]))


def _cards(layout: HduLayout, dither: int) -> bytes:
    """What the new table says of its tiles."""
    header = layout.header
    cards = []
    for one in header:
        keyword = one.raw[:8].rstrip()
        if keyword == b"ZDITHER0" and dither:
            cards.append(card("ZDITHER0", dither, "dithering goes on from the parent's tile"))
        elif _KEPT.fullmatch(keyword):
            cards.append(one.raw)
    return b"".join(cards) + column_cards(header)


# ---------------------------------------------------------------- reading


def _read_rows(layout: HduLayout, source: RunSource, numbers: Numbers) -> NDArray[np.uint8]:
    """The rows of the table with these numbers, one a row."""
    width = layout.header.integer("NAXIS1") or 0
    rows = np.empty((len(numbers), width), np.uint8)
    most = max(1, _MOST_READ // width)
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    if source.gulp_bytes:
        begins, ends = numbers[[0, *breaks]], numbers[[*(breaks - 1), -1]] + 1
        spans = np.stack((begins, ends), axis=1) * width + layout.data_offset
        source.prefetch([(start, stop) for start, stop in spans.tolist()])
    for first, end in zip([0, *breaks], [*breaks, len(numbers)], strict=True):
        for at in range(first, end, most):
            count = min(most, end - at)
            raw = source.read(layout.data_offset + int(numbers[at]) * width, count * width)
            rows[at : at + count] = np.frombuffer(raw, np.uint8).reshape(count, width)
    return rows


class _Heap:
    """Where the elements of cells stand whose number varies (FITS 4.0 §7.3.5)."""

    def __init__(self, layout: HduLayout, source: RunSource) -> None:
        header = layout.header
        table_size = (header.integer("NAXIS1") or 0) * (header.integer("NAXIS2") or 0)
        gap = header.integer("THEAP") if "THEAP" in header else table_size
        self.source = source
        self._index = layout.index
        self._start = layout.data_offset + (gap or 0)
        self._size = layout.end - self._start
        if gap is None or gap < table_size or self._size < 0:
            raise self._corrupt("its heap does not lie behind its table")

    def pointers(self, raw: NDArray[np.uint8], column: TileColumn) -> tuple[Numbers, Numbers]:
        """Starts in the heap and sizes, both in bytes, from the descriptors of a column."""
        kind = ">i4" if raw.shape[1] == 8 else ">i8"
        pairs = np.ascontiguousarray(raw).view(kind).astype(np.int64)
        counts, starts = pairs[:, 0], pairs[:, 1]
        starts = np.where(counts == 0, 0, starts)
        most = self._size // column.element_size
        if (counts < 0).any() or (counts > most).any() or (starts < 0).any():
            raise self._corrupt(f"tiles of {column.name} are longer than its heap")
        sizes = counts * column.element_size
        if (starts > self._size - sizes).any():
            raise self._corrupt(f"tiles of {column.name} lie behind its heap")
        return starts, sizes

    def prefetch(self, pointers: Sequence[tuple[Numbers, Numbers]]) -> None:
        """Have the bytes brought in that *pointers* point to."""
        spans = [
            (self._start + start, self._start + start + size)
            for starts, sizes in pointers
            for start, size in zip(starts.tolist(), sizes.tolist(), strict=True)
            if size
        ]
        self.source.prefetch(sorted(spans))

    def read(self, start: int, size: int) -> bytes:
        """Bytes of the heap."""
        return self.source.read(self._start + start, size) if size else b""

    def _corrupt(self, reason: str) -> CorruptFileError:
        return CorruptFileError(f"HDU {self._index}: {reason}", path=self.source.path)
