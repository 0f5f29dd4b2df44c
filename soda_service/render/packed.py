"""Compressed FITS files: tile-compressed HDU by HDU (`.fits.fz`), or gzipped (`.fits.gz`).

Both are lossless, the same bytes for the same parts, and made in bounded memory: the file is
written to a spool first, because its size must be known before its first byte is sent.
Source: FITS 4.0 §10 (tile compression), RFC 1952 (gzip).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from soda_service.errors import CorruptFileError
from soda_service.fits.cards import render_cards
from soda_service.fits.newcards import card
from soda_service.fits.tiles import TileColumn, TileLayout, compressed_header, compressible_image
from soda_service.fits.wcstables import lookup_keywords
from soda_service.render.fits import (
    FitsPart,
    checksummed,
    fits_chunks,
    padding_size,
    with_checksum_cards,
)
from soda_service.storage.closing import Closable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from soda_service.fits.tiles import PlainImage
    from soda_service.render.spool import Spool, SpoolRoom

    Buffer = bytes | bytearray | memoryview

_TILE_PIXELS: Final = 16 * 1024
"""Pixels of a tile, if rows are not longer: enough that what each tile costs besides (8 bytes
in the table, 18 of gzip) is nothing, few enough that a reader of a few rows decompresses few."""
_LONGEST_ROW: Final = 128 * 1024
"""Pixels of a row from which on it is cut into several tiles: memory must not grow with it."""
_BLOCK_SIZE: Final = 32
"""Pixels that RICE_1 codes together; the only number that all decoders take."""
_GZIP: Final = 31
"""For zlib: with the header and the trailer of gzip, which then holds no time and no name."""
_GZIP_LEVEL: Final = 1
"""Noise comes out at 65.7 % of its size instead of 65.2 %, in little more than half the time."""
_NARROW_HEAP: Final = 2**31 - 1
"""Bytes of a heap that 32-bit descriptors reach."""
_AT_ONCE: Final = 256 * 1024

_EMPTY_PRIMARY: Final = render_cards(
    card("SIMPLE", value=True, comment="conforms to FITS standard"),
    card("BITPIX", 8),
    card("NAXIS", 0),
    card("EXTEND", value=True, comment="the image follows, compressed"),
)


class CompressedTiles(Protocol):
    """Tiles that were compressed before."""

    @property
    def layout(self) -> TileLayout:
        """How they are compressed."""

    @property
    def heap_size(self) -> int:
        """Bytes of all cells that stand in the heap."""

    def rows(self) -> Iterator[Sequence[Buffer]]:
        """For each tile the bytes of its cells, one for each column; may block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TiledPart:
    """One image on its way out whose tiles can be taken as they are."""

    plain: FitsPart
    """The same image, uncompressed: its header goes into that of the table."""
    tiles: CompressedTiles


class PackedFile(Closable):
    """A whole answer on temporary disk; to be closed."""

    def __init__(self, spool: Spool) -> None:
        """Takes *spool* over."""
        self._spool = spool
        self.size = spool.size
        """Bytes."""

    def chunks(self) -> Iterator[bytes]:
        """All of its bytes; may block. Raises SourceUnavailableError."""
        return self._spool.chunks(0, self.size)

    def close(self) -> None:
        """Let go of the disk."""
        self._spool.close()


def gzipped(parts: Iterable[FitsPart], room: SpoolRoom) -> PackedFile:
    """The file of *parts*, gzipped as a whole.

    May block. Raises UsageError and SourceUnavailableError for want of disk, and whatever
    the parts raise.
    """

    def write(spool: Spool) -> None:
        compress = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP)
        for chunk in fits_chunks(parts, _AT_ONCE):
            spool.append(compress.compress(chunk))
        spool.append(compress.flush())

    return _spooled(write, room)


def tile_compressed(parts: Iterable[FitsPart | TiledPart], room: SpoolRoom) -> PackedFile:
    """The file of *parts*, each image of it compressed by tiles; all else stays as it is.

    Integers of 8, 16 and 32 bits become RICE_1, floats GZIP_2. An image in the primary HDU
    follows an empty one. Images of 64-bit integers stay as they are, for want of readers; so
    do tables of distortions, which are small and are not read as images, and images whose
    header cannot be that of a table. Raises as `gzipped` does.
    """

    def write(spool: Spool) -> None:
        for part in parts:
            plain = part.plain if isinstance(part, TiledPart) else part
            image = compressible_image(plain.header)
            if image is not None and isinstance(part, TiledPart):
                _write_image(spool, image, part.tiles)
            elif image is not None and _is_worth_it(image):
                _write_image(spool, image, _NewTiles(image, plain))
            else:
                for chunk in fits_chunks([plain], _AT_ONCE):
                    spool.append(chunk)

    return _spooled(write, room)


def _is_worth_it(image: PlainImage) -> bool:
    tables = [extname for _, _, extname in lookup_keywords()]
    return image.bitpix in _METHODS and image.header.string("EXTNAME") not in tables


def _spooled(write: Callable[[Spool], None], room: SpoolRoom) -> PackedFile:
    spool = room.open()
    try:
        write(spool)
        return PackedFile(spool)
    except BaseException:
        spool.close()
        raise


# ---------------------------------------------------------------- a table of tiles


def _write_image(spool: Spool, image: PlainImage, tiles: CompressedTiles) -> None:
    """The HDU of a compressed image; behind an empty primary HDU where it would be the first."""
    if not spool.size:
        spool.append(_EMPTY_PRIMARY)
    layout = tiles.layout
    wide = tiles.heap_size > _NARROW_HEAP
    is_summed = "CHECKSUM" in image.header
    if image.bitpix < 0 and not isinstance(tiles, _NewTiles):
        # Readers restore undefined pixels as NaNs of different bits: no sum is true for all.
        image = image.without_sums()

    def header_of(heap_size: int, longest: Sequence[int]) -> bytes:
        made = compressed_header(image, layout, heap_size=heap_size, longest=longest, wide=wide)
        return with_checksum_cards(made) if is_summed else made

    header_at = spool.size
    spool.skip(len(header_of(0, [0] * len(layout.columns))))
    data_at = spool.size
    heap_size, longest = _write_rows(spool, image, tiles, wide=wide)
    data_end = spool.size
    spool.append(bytes(padding_size(data_end - data_at)))
    header = header_of(heap_size, longest)
    if is_summed:
        header = checksummed(header, spool.chunks(data_at, data_end))
    spool.write_at(header_at, header)


def _write_rows(
    spool: Spool, image: PlainImage, tiles: CompressedTiles, *, wide: bool
) -> tuple[int, list[int]]:
    """The rows and the heap; gives the size of the heap and the most elements by column."""
    columns = tiles.layout.columns
    pointer = struct.Struct(">qq" if wide else ">ii")
    count = image.tile_count(tiles.layout.tile)
    at = spool.size
    spool.skip(count * tiles.layout.width(wide=wide))
    longest = [0] * len(columns)
    heap_size = done = 0
    waiting = bytearray()
    for row in tiles.rows():
        for number, (column, cell) in enumerate(zip(columns, row, strict=True)):
            if not column.varies:
                waiting += cell
                continue
            elements = len(cell) // column.element_size
            longest[number] = max(longest[number], elements)
            waiting += pointer.pack(elements, heap_size if elements else 0)
            spool.append(cell)
            heap_size += len(cell)
        done += 1
        if len(waiting) >= _AT_ONCE or done == count:
            spool.write_at(at, waiting)
            at += len(waiting)
            waiting = bytearray()
    if done != count:
        raise CorruptFileError(f"{done} tiles for an image of {count}")
    return heap_size, longest


# ---------------------------------------------------------------- tiles made anew


@dataclass(frozen=True, slots=True)
class _Method:
    """A way of compressing pixels of one BITPIX."""

    cards: bytes
    encode: Callable[[bytearray], bytes]


class _NewTiles:
    """The pixels of a part, compressed as they pass by; to be iterated once."""

    def __init__(self, image: PlainImage, part: FitsPart) -> None:
        self._image = image
        self._part = part
        self._method = _METHODS[image.bitpix]
        self._whole, tile = _tile_of(image.naxis)
        column = TileColumn(name="COMPRESSED_DATA", code="B", varies=True)
        self.layout = TileLayout(tile=tile, columns=(column,), cards=self._method.cards)
        # Noise grows by less than a part in thirty.
        self.heap_size = image.data_size * 16 // 15 + 64 * image.tile_count(tile)

    def rows(self) -> Iterator[Sequence[Buffer]]:
        """As `CompressedTiles` has them."""
        for tile in _in_pieces(_exactly(self._part), self._tile_sizes()):
            yield (self._method.encode(tile),)

    def _tile_sizes(self) -> Iterator[int]:
        """Bytes of each tile: along one axis they are as long as there are pixels left."""
        axis = self._whole
        naxis, tile = self._image.naxis, self.layout.tile
        one = prod(naxis[:axis]) * abs(self._image.bitpix) // 8
        for _ in range(prod(naxis[axis + 1 :])):
            for start in range(0, naxis[axis], tile[axis]):
                yield one * min(tile[axis], naxis[axis] - start)


def _tile_of(naxis: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Axis lengths of a tile whose pixels follow each other in the file.

    It has whole axes up to one (given first, 0-based) of which it has a part, then single
    pixels: whole rows, as many as make a tile of a sensible size.
    """
    if naxis[0] > _LONGEST_ROW:
        return 0, (_LONGEST_ROW, *(1 for _ in naxis[1:]))
    pixels = 1
    for axis, length in enumerate(naxis):
        if pixels * length > _TILE_PIXELS and axis:
            part = max(1, _TILE_PIXELS // pixels)
            return axis, (*naxis[:axis], part, *(1 for _ in naxis[axis + 1 :]))
        pixels *= length
    return len(naxis) - 1, naxis


def _in_pieces(data: Iterable[Buffer], sizes: Iterable[int]) -> Iterator[bytearray]:
    """The bytes of *data* in pieces of these sizes; what is left over is read and forgotten."""
    source = iter(data)
    rest = memoryview(b"")
    for size in sizes:
        piece = bytearray(size)
        at = 0
        while at < size:
            if not rest:
                if (more := next(source, None)) is None:
                    raise CorruptFileError(f"{size - at} bytes of a tile are missing")
                rest = memoryview(more).cast("B")
            taken = rest[: size - at]
            piece[at : at + len(taken)] = taken
            rest = rest[len(taken) :]
            at += len(taken)
        yield piece
    for _ in source:
        pass


def _exactly(part: FitsPart) -> Iterator[Buffer]:
    """The data of *part*, as many bytes as it promised. Raises CorruptFileError."""
    rest = part.data_size
    for piece in part.data:
        rest -= len(piece)
        if rest < 0:
            raise CorruptFileError(f"{-rest} bytes of data more than planned")
        if len(piece):
            yield piece
    if rest:
        raise CorruptFileError(f"{rest} bytes of data fewer than planned")


def _rice(size: int) -> _Method:
    """RICE_1 for integers of *size* bytes (FITS 4.0 §10.4.1)."""
    cards = [
        card("ZCMPTYPE", "RICE_1", "compression algorithm"),
        card("ZNAME1", "BLOCKSIZE"),
        card("ZVAL1", _BLOCK_SIZE, "pixels in a block"),
        card("ZNAME2", "BYTEPIX"),
        card("ZVAL2", size, "bytes of a pixel"),
    ]

    def encode(tile: bytearray) -> bytes:
        # 0.4 s. It is not of astropy's public interface, which compresses whole images only;
        # a test holds it against what cfitsio and astropy decompress.
        from astropy.io.fits.hdu.compressed._codecs import Rice1

        codec = Rice1(blocksize=_BLOCK_SIZE, bytepix=size, tilesize=len(tile) // size)
        encoded: bytes = codec.encode(np.frombuffer(tile, f">i{size}"))
        return encoded

    return _Method(b"".join(cards), encode)


def _gzip_2(size: int) -> _Method:
    """GZIP_2 for values of *size* bytes: gzip of all first bytes, then of all second ones.

    FITS 4.0 §10.4.2.
    """

    def encode(tile: bytearray) -> bytes:
        shuffled = np.frombuffer(tile, np.uint8).reshape(-1, size).T.tobytes()
        return zlib.compress(shuffled, _GZIP_LEVEL, wbits=_GZIP)

    return _Method(card("ZCMPTYPE", "GZIP_2", "compression algorithm"), encode)


_METHODS: Final = {8: _rice(1), 16: _rice(2), 32: _rice(4), -32: _gzip_2(4), -64: _gzip_2(8)}
"""By BITPIX."""
