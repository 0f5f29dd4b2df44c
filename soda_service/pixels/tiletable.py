"""The table of a compressed image: where the bytes of each tile lie, and what restores them.

Nothing that a table says is believed: bytes outside the heap, rows that are not there and
columns that do not fit into a row are a CorruptFileError. Source: FITS 4.0 §7.3 (binary
tables; §7.3.5 arrays of variable length) and §10.1 (tile compression).
"""

from __future__ import annotations

import re
from enum import Enum
from itertools import repeat
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from soda_service.errors import CorruptFileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from soda_service.fits.cards import Header
    from soda_service.fits.layout import HduLayout
    from soda_service.storage.source import RunSource

    Numbers = NDArray[np.int64]

_TFORM: Final = re.compile(r"([0-9]{0,18})([LXBIJKAEDCMPQ])(.?).*", re.DOTALL)
_SIZES: Final = dict(zip("LBIJKAEDCMPQ", (1, 1, 2, 4, 8, 1, 4, 8, 8, 16, 8, 16), strict=True))
_NUMBERS: Final = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_DESCRIPTORS: Final = {"P": ">i4", "Q": ">i8"}
_MOST_COLUMNS: Final = 999
_MASK: Final = "NULL_PIXEL_MASK"
_LARGEST_INTEGER: Final = 2**63 - 1
_SPAN: Final = 1024 * 1024
"""Most bytes of the table that are read at once."""


class Form(Enum):
    """In which column the bytes of a tile lie; the first one that has any counts."""

    PACKED = "COMPRESSED_DATA"
    """Compressed as ZCMPTYPE says."""
    GZIPPED = "GZIP_COMPRESSED_DATA"
    """Floats that could not be quantised, in gzip."""
    PLAIN = "UNCOMPRESSED_DATA"
    """The values as they are."""


FORMS: Final = tuple(Form)


class Tile(NamedTuple):
    """One tile as its row describes it."""

    row: int
    """In the table, from 0."""
    form: Form
    start: int
    """First byte in the file."""
    size: int
    """Bytes."""
    scale: float
    zero: float
    blank: int | None
    """The integer that stands for an undefined pixel, where the row or the header says one."""


class TileRows(NamedTuple):
    """Some tiles as their rows describe them, an array of each."""

    rows: Numbers
    """In the table, from 0; ascending."""
    forms: Numbers
    """Numbers of the members of `Form`."""
    starts: Numbers
    """First byte in the file."""
    sizes: Numbers
    """Bytes."""
    scales: NDArray[np.float64]
    zeros: NDArray[np.float64]
    blanks: Numbers | None
    """The integers that stand for undefined pixels, where rows or header say any."""

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(one.nbytes for one in self if one is not None)

    def each(self) -> Iterator[Tile]:
        """One after another."""
        blanks: Iterable[int | None]
        blanks = repeat(None) if self.blanks is None else self.blanks.tolist()
        columns = (one.tolist() for one in self[:-1] if one is not None)
        for row, form, start, size, scale, zero, blank in zip(*columns, blanks, strict=False):
            yield Tile(row, FORMS[form], start, size, scale, zero, blank)

    def part(self, wanted: slice | NDArray[np.bool_] | Numbers) -> TileRows:
        """Those of them that *wanted* says by their places."""
        return TileRows(
            self.rows[wanted],
            self.forms[wanted],
            self.starts[wanted],
            self.sizes[wanted],
            self.scales[wanted],
            self.zeros[wanted],
            None if self.blanks is None else self.blanks[wanted],
        )


class _Column(NamedTuple):
    offset: int
    """Byte in the row."""
    dtype: np.dtype[np.generic]
    """Of the number that stands there, or of each of the two of a descriptor."""
    element: np.dtype[np.generic] | None
    """Of what a descriptor points to; None where the column holds a number itself."""


class TileTable:
    """What the header says of one compressed image's table, and how to read its rows."""

    def __init__(self, layout: HduLayout, path: str) -> None:
        """Raises CorruptFileError where the header describes no table of tiles.

        *path* is the file's, for errors.
        """
        self._path = path
        self._index = layout.index
        self._data_offset = layout.data_offset
        header = layout.header
        self.row_count = self._count(header, "NAXIS2")
        self._row_size = self._count(header, "NAXIS1")
        size = self._row_size * self.row_count
        end = size + self._count(header, "PCOUNT")
        heap = header.integer("THEAP") if "THEAP" in header else size
        if heap is None or not size <= heap <= end or layout.data_offset + end > layout.end:
            raise self.corrupt("its heap does not lie inside its data")
        self._heap = layout.data_offset + heap
        self._heap_size = end - heap
        columns = self._columns(header)
        self._arrays = [(form, columns[form.value]) for form in Form if form.value in columns]
        if not self._arrays or self._arrays[0][0] is not Form.PACKED:
            raise self.corrupt("its table has no column COMPRESSED_DATA")
        self._mask = columns.get(_MASK)
        for name in (*(form.value for form, _ in self._arrays), _MASK):
            if name in columns and columns[name].element is None:
                raise self.corrupt(f"its column {name} holds no arrays")
        self._scale = self._number(header, columns, "ZSCALE")
        self._zero = self._number(header, columns, "ZZERO")
        blank = self._number(header, columns, "ZBLANK")
        is_possible = isinstance(blank, _Column) or abs(blank or 0) <= _LARGEST_INTEGER
        self._blank = blank if is_possible else None
        self.is_scaled = self._scale is not None
        self._is_float = layout.bitpix < 0

    @property
    def plain_dtype(self) -> np.dtype[np.generic]:
        """Of the values in the column UNCOMPRESSED_DATA, big-endian."""
        element = next(column.element for form, column in self._arrays if form is Form.PLAIN)
        assert element is not None
        return element

    def tiles(self, rows: Numbers, source: RunSource) -> Iterator[TileRows]:
        """The tiles of *rows*, which ascend, in one or several parts; may block.

        Raises CorruptFileError where one is missing or does not lie inside the heap.
        """
        begin = 0
        most = max(1, _SPAN // max(1, self._row_size))
        while begin < len(rows):
            end = int(np.searchsorted(rows, rows[begin] + most, "left"))
            yield self._described(rows[begin:end], source)
            begin = end

    def all_tiles(self, source: RunSource, most: int) -> TileRows | None:
        """Every tile; may block.

        None where they take more than *most* bytes, or are very many, or one of them is wrong.
        """
        if self.row_count * max(self._row_size, 1) > _SPAN:
            return None
        try:
            tiles = self._described(np.arange(self.row_count), source)
        except CorruptFileError:
            return None  # who wants that tile will be told
        return tiles if tiles.nbytes <= most else None

    def corrupt(self, reason: str) -> CorruptFileError:
        """The error that says *reason* of this HDU."""
        return CorruptFileError(f"HDU {self._index}: {reason}", path=self._path)

    def corrupt_tile(self, row: int, reason: str) -> CorruptFileError:
        """The error that says *reason* of the tile in *row*, for people counted from 1."""
        return self.corrupt(f"tile {row + 1} {reason}")

    def _described(self, rows: Numbers, source: RunSource) -> TileRows:
        """The tiles of *rows* that lie close to each other."""
        first, last = int(rows[0]), int(rows[-1])
        if last >= self.row_count:
            raise self.corrupt_tile(max(first, self.row_count), "is not in the table")
        read = source.read(
            self._data_offset + first * self._row_size, (last - first + 1) * self._row_size
        )
        wanted = rows - first
        forms = np.full(len(rows), -1)
        starts = np.zeros(len(rows), np.int64)
        sizes = np.zeros(len(rows), np.int64)
        for form, column in self._arrays:
            assert column.element is not None
            counts, offsets = (
                self._values(read, column, place)[wanted].astype(np.int64) for place in (0, 1)
            )
            here = (forms < 0) & (counts != 0)
            itemsize = column.element.itemsize
            fits = (counts > 0) & (counts <= self._heap_size // itemsize)
            bytes_of = np.where(fits, counts, 0) * itemsize
            fits &= (offsets >= 0) & (offsets <= self._heap_size - bytes_of)
            self._check(rows, fits | ~here, "does not lie inside the heap")
            forms[here] = FORMS.index(form)
            starts[here] = offsets[here] + self._heap
            sizes[here] = bytes_of[here]
        self._check(rows, forms >= 0, "is missing")
        if self._mask and self._values(read, self._mask, 0)[wanted].any():
            # Readers that leave the mask alone give undefined pixels a value without a word.
            raise self.corrupt(f"a column {_MASK} is not supported")
        scales = self._each(read, wanted, self._scale)
        zeros = self._each(read, wanted, self._zero)
        if not self._is_float and self._scale is not None:
            plain = (scales == 1) & (zeros == 0)
            said = "holds integers that ZSCALE and ZZERO change: only floats are quantised"
            self._check(rows, plain | (forms != FORMS.index(Form.PACKED)), said)
        blanks = None
        if self._blank is not None:
            blanks = self._each(read, wanted, self._blank).astype(np.int64)
        return TileRows(
            rows, forms, starts, sizes, scales.astype(np.float64), zeros.astype(np.float64), blanks
        )

    def _check(self, rows: Numbers, sound: NDArray[np.bool_], reason: str) -> None:
        if not sound.all():
            raise self.corrupt_tile(int(rows[np.argmin(sound)]), reason)

    def _each(
        self, read: bytes, wanted: Numbers, number: _Column | float | None
    ) -> NDArray[np.generic]:
        """The *number* of each tile; 0 where there is none."""
        if not isinstance(number, _Column):
            return np.full(len(wanted), number or 0)
        return self._values(read, number, 0)[wanted]

    def _values(self, read: bytes, column: _Column, place: int) -> NDArray[np.generic]:
        """What stands in *column* of the rows that were read; *place* 1 is a second number."""
        offset = column.offset + place * column.dtype.itemsize
        count = len(read) // self._row_size
        return np.ndarray((count,), column.dtype, read, offset, (self._row_size,))

    def _columns(self, header: Header) -> dict[str, _Column]:
        """The columns that can be read, by their names in capitals."""
        count = self._count(header, "TFIELDS")
        if count > _MOST_COLUMNS:
            raise self.corrupt("its table has too many columns")
        columns: dict[str, _Column] = {}
        offset = 0
        for number in range(1, count + 1):
            form = _TFORM.fullmatch((header.string(f"TFORM{number}") or "").strip())
            if form is None:
                raise self.corrupt(f"TFORM{number} is not the form of a column")
            elements = int(form[1] or 1)
            letter, element = form[2], form[3]
            name = (header.string(f"TTYPE{number}") or "").strip().upper()
            if not elements:
                continue
            if letter in _DESCRIPTORS:
                if element in _NUMBERS and elements == 1:
                    dtype, pointed = np.dtype(_DESCRIPTORS[letter]), np.dtype(_NUMBERS[element])
                    columns.setdefault(name, _Column(offset, dtype, pointed))
            elif letter in _NUMBERS:
                columns.setdefault(name, _Column(offset, np.dtype(_NUMBERS[letter]), None))
            bits = elements if letter == "X" else 8 * elements * _SIZES[letter]
            offset += -(-bits // 8)
        if offset > self._row_size:
            raise self.corrupt("its columns are wider than its rows")
        self._refuse_scaled_columns(header, count)
        return columns

    def _refuse_scaled_columns(self, header: Header, count: int) -> None:
        for number in range(1, count + 1):
            for keyword, nothing in ((f"TSCAL{number}", 1), (f"TZERO{number}", 0)):
                if keyword in header and header.number(keyword) != nothing:
                    raise self.corrupt(f"{keyword} is not supported in a table of tiles")

    def _number(
        self, header: Header, columns: dict[str, _Column], name: str
    ) -> _Column | float | None:
        """Where the *name* of each tile is to be found: a column, or one for all in the header."""
        column = columns.get(name)
        if column is None:
            return header.integer(name) if name == "ZBLANK" else header.number(name)
        if column.element is not None or (name == "ZBLANK" and column.dtype.kind == "f"):
            raise self.corrupt(f"its column {name} holds no numbers of the right kind")
        return column

    def _count(self, header: Header, keyword: str) -> int:
        value = header.integer(keyword)
        if value is None or value < 0:
            raise self.corrupt(f"{keyword} is not a count")
        return value
