"""Pixels of a tile-compressed image, decompressed by astropy.

Values come out as astropy decompresses them and are never scaled: integers as stored, with
BSCALE, BZERO and BLANK left to the header; quantised floats restored, their blanks as NaN.
Source: FITS 4.0 §10 (tile compression).
"""

from __future__ import annotations

import io
import re
import struct
import threading
from contextlib import nullcontext
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Final

from soda_service.errors import CorruptFileError, SodaServiceError
from soda_service.fits.cards import END_CARD, render_cards

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    import numpy as np
    from numpy.typing import NDArray

    from soda_service.fits.layout import HduLayout
    from soda_service.geometry.pixelbox import PixelBox
    from soda_service.storage.local import LocalSource

    class _Section(Protocol):
        """What astropy gives for reading parts of an image."""

        def __getitem__(self, index: tuple[slice, ...]) -> NDArray[np.generic]: ...

    class _CompressedHdu(Protocol):
        """What is used of astropy's compressed HDU."""

        section: _Section
        compressed_data: dict[str, NDArray[np.int64]]


_SLAB: Final = 32 * 1024 * 1024
"""Bytes of tiles decompressed at once, unless a single tile has more."""
_LARGEST_TILE: Final = 1024 * 1024 * 1024
"""Bytes of a tile that are still decompressed: a header may claim anything."""

_METHODS: Final = frozenset(
    ("RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "PLIO_1", "HCOMPRESS_1", "NOCOMPRESS")
)
_HCOMPRESS: Final = "HCOMPRESS_1"
_HCOMPRESS_LOCK: Final = threading.Lock()
"""The decoder keeps its place in variables of the whole process and lets other threads run."""
_HCOMPRESS_MAGIC: Final = b"\xdd\x99"
_HCOMPRESS_FORMAT: Final = ">2siiiq3s"
"""Magic, axis lengths, scale, sum of the pixels, bit planes of the three quadrants."""
_HCOMPRESS_HEADER: Final = struct.calcsize(_HCOMPRESS_FORMAT)
_MOST_BIT_PLANES: Final = 63

_PLIO: Final = "PLIO_1"
_PLIO_FORMAT: Final = ">5h"
"""The words of a line list that say how long it is and where it begins."""
_PLIO_HEADER: Final = struct.calcsize(_PLIO_FORMAT)

_STRUCTURE: Final = re.compile(
    rb"(?:XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|THEAP|TFIELDS"
    rb"|T(?:TYPE|FORM|SCAL|ZERO|NULL|DIM)\d+"
    rb"|Z(?:IMAGE|BITPIX|NAXIS\d*|TILE\d+|CMPTYPE|NAME\d+|VAL\d+|QUANTIZ|DITHER0|BLANK|SCALE|ZERO))"
)
"""Keywords that say how the pixels are compressed; no others are shown to astropy."""

_EMPTY_PRIMARY: Final = render_cards(
    b"SIMPLE  =                    T".ljust(len(END_CARD)),
    b"BITPIX  =                    8".ljust(len(END_CARD)),
    b"NAXIS   =                    0".ljust(len(END_CARD)),
)


class TiledReader:
    """Reads boxes of one compressed image; safe to use from several threads."""

    def __init__(self, layout: HduLayout, source: LocalSource) -> None:
        """Raises CorruptFileError where the header does not describe a compressed image."""
        self._layout = layout
        self._source = source
        self._itemsize = abs(layout.bitpix) // 8
        self._tile = self._tile_axes()
        self._method = layout.header.string("ZCMPTYPE")
        if self._method not in _METHODS:
            raise self._corrupt(f"ZCMPTYPE = {self._method!r} is no known compression")
        if layout.end > source.version.size:
            raise self._corrupt("the file ends inside its data")

    def bands(self, box: PixelBox, band_bytes: int) -> Iterator[memoryview]:
        """The stored values of *box*, big-endian and in FITS order; may block.

        Memory holds the tiles that a band touches, at least one tile. Raises
        CorruptFileError, SourceUnavailableError.
        """
        naxis = self._layout.naxis
        if len(box.naxis) != len(naxis) or any(
            high > length for high, length in zip(box.upper, naxis, strict=False)
        ):
            raise ValueError(f"{box.section} reaches out of an image of axes {naxis}")
        if prod(self._tile) * self._itemsize > _LARGEST_TILE:
            raise self._corrupt(f"its tiles of {self._tile} pixels are too large")
        image = _TiledImage(self._layout, self._source, self._tile)
        for part in self._parts(box, len(naxis) - 1, max(band_bytes, _SLAB)):
            pixels = memoryview(self._decompressed(image, part))
            self._source.check_unchanged()
            for at in range(0, len(pixels), band_bytes):
                yield pixels[at : at + band_bytes]

    def copy_resident(self, box: PixelBox, target: memoryview) -> bool:
        """False: decompressing takes longer than an event loop should wait."""
        del box, target
        return False

    def _decompressed(self, image: _TiledImage, box: PixelBox) -> bytes:
        try:
            if self._method in (_HCOMPRESS, _PLIO):
                image.check(box, self._method)
            with _HCOMPRESS_LOCK if self._method == _HCOMPRESS else nullcontext():
                stored = image.read(box)
        except (SodaServiceError, MemoryError):
            raise
        except Exception as error:
            # Damage makes the decoders raise nearly anything.
            raise self._corrupt(f"a tile of {box.section} cannot be read: {error}") from error
        big_endian = f">{'f' if self._layout.bitpix < 0 else 'u' if self._itemsize == 1 else 'i'}"
        return stored.astype(f"{big_endian}{self._itemsize}", copy=False).tobytes()

    def _parts(self, box: PixelBox, axis: int, most: int) -> Iterator[PixelBox]:
        """*box* in parts that follow each other in FITS order and touch tiles of *most* bytes.

        Axes slower than *axis* have one pixel.
        """
        tile = self._tile[axis]
        low, high = box.lower[axis], box.upper[axis]
        single = self._touched(box.replaced(axis, low, low + 1))
        if single > most and axis > 0:
            # Where tiles are deeper than one pixel they are decompressed once for each: slow,
            # but the alternative is memory without bound.
            for at in range(low, high):
                yield from self._parts(box.replaced(axis, at, at + 1), axis - 1, most)
            return
        step = max(1, most // single) * tile
        start = low
        while start < high:
            end = min(high, start // tile * tile + step)
            yield box.replaced(axis, start, end)
            start = end

    def _touched(self, box: PixelBox) -> int:
        """Bytes of the tiles that *box* touches."""
        size = self._itemsize
        for low, high, tile, length in zip(
            box.lower, box.upper, self._tile, self._layout.naxis, strict=True
        ):
            size *= min(length, -(-high // tile) * tile) - low // tile * tile
        return size

    def _tile_axes(self) -> tuple[int, ...]:
        """Axis lengths of a tile in FITS order; rows where the header says nothing."""
        header = self._layout.header
        tile = []
        for axis, length in enumerate(self._layout.naxis, 1):
            default = length if axis == 1 else 1
            given = header.integer(f"ZTILE{axis}") if f"ZTILE{axis}" in header else default
            if given is None or given < 1:
                raise self._corrupt(f"ZTILE{axis} is not a positive integer")
            tile.append(min(given, length))
        return tuple(tile)

    def _corrupt(self, reason: str) -> CorruptFileError:
        return CorruptFileError(f"HDU {self._layout.index}: {reason}", path=self._source.path)


class _TiledImage:
    """One compressed HDU as astropy sees it; for one thread."""

    def __init__(self, layout: HduLayout, source: LocalSource, tile: tuple[int, ...]) -> None:
        self._layout = layout
        self._source = source
        self._tile = tile
        self._opened: _CompressedHdu | None = None

    def read(self, box: PixelBox) -> NDArray[np.generic]:
        """The stored values, in the machine's byte order."""
        return self._hdu().section[box.slices]

    def check(self, box: PixelBox, method: str) -> None:
        """Raises ValueError where a tile that *box* touches would crash its decoder.

        The decoders believe what a tile says of its own size, be there room for it or not.
        """
        header, naxis = self._layout.header, self._layout.naxis
        table_size = (header.integer("NAXIS1") or 0) * (header.integer("NAXIS2") or 0)
        heap = self._layout.data_offset + (header.integer("THEAP") or table_size)
        descriptors = self._hdu().compressed_data["COMPRESSED_DATA"]
        limits = zip(box.lower, box.upper, self._tile, strict=True)
        touched = [range(low // tile, -(-high // tile)) for low, high, tile in limits]
        for tile_at in product(*touched):
            row, step, pixels = 0, 1, 1
            for at, tile, length in zip(tile_at, self._tile, naxis, strict=True):
                row += at * step
                step *= -(-length // tile)
                pixels *= min(tile, length - at * tile)
            count, offset = (int(number) for number in descriptors[row])
            if not count:
                continue
            if offset < 0:
                raise ValueError("a tile lies before the heap")
            if method == _HCOMPRESS:
                _check_hcompress(self._source.read(heap + offset, _HCOMPRESS_HEADER), pixels)
            else:
                _check_plio(self._source.read(heap + offset, _PLIO_HEADER), count)

    def _hdu(self) -> _CompressedHdu:
        if self._opened is None:
            from astropy.io import fits  # 0.4 s, and the first compressed image comes later

            file = _HduFile(self._layout, self._source)
            hdus = fits.open(file, mode="readonly", memmap=False, do_not_scale_image_data=True)
            self._opened = hdus[1]
        opened: _CompressedHdu = self._opened
        return opened


def _check_hcompress(beginning: bytes, pixels: int) -> None:
    magic, nx, ny, _, _, planes = struct.unpack(_HCOMPRESS_FORMAT, beginning)
    if magic != _HCOMPRESS_MAGIC or nx <= 0 or nx * ny != pixels:
        raise ValueError("a tile is not as large as the header says")
    if max(planes) > _MOST_BIT_PLANES:
        raise ValueError("a tile has impossible bit planes")


def _check_plio(beginning: bytes, count: int) -> None:
    """*count*: words of the tile."""
    _, first, length, low, high = struct.unpack(_PLIO_FORMAT, beginning)
    if length > 0:
        # The older form: three words of header, the length in one of them.
        first = 3
    else:
        length = (high << 15) + low
    if not (first >= 0 and high >= 0 and length <= count):
        raise ValueError("a tile is longer than the table says")


class _HduFile(io.RawIOBase):
    """A read-only file of an empty primary HDU and one compressed image."""

    mode = "rb"

    def __init__(self, layout: HduLayout, source: LocalSource) -> None:
        super().__init__()
        self._header = _EMPTY_PRIMARY + _structure(layout)
        self._source = source
        self._shift = layout.data_offset - len(self._header)
        self._size = len(self._header) + layout.data_size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise ValueError("before the beginning of the file")
        self._position = origin + offset
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Everything up to the end where *size* is negative or None."""
        rest = max(0, self._size - self._position)
        size = rest if size is None or size < 0 else min(size, rest)
        start = self._position
        self._position += size
        if start >= len(self._header):
            return self._source.read(start + self._shift, size)
        head = self._header[start : start + size]
        size -= len(head)
        return head + self._source.read(len(self._header) + self._shift, size) if size else head


def _structure(layout: HduLayout) -> bytes:
    """The header without what does not concern the compression.

    So astropy neither scales nor complains, whatever else stands there.
    """
    cards = []
    for card in layout.header:
        keyword = card.raw[:8].rstrip()
        # BLANK restores the blanks of integers whose tiles say ZBLANK.
        if _STRUCTURE.fullmatch(keyword) or (keyword == b"BLANK" and layout.bitpix > 0):
            cards.append(card.raw)
    return render_cards(*cards)
