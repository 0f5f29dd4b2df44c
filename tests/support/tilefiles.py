"""Compressed images made by hand, with what the libraries that write them never write.

`tile_file` makes a complete file of rows; the rows say what stands in the columns, sound or
not. Source: FITS 4.0 §10.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
from support.images import CardSpec, header_bytes, primary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Values = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: one tile. None stands for a column that the table has not."""

    packed: bytes = b""
    gzipped: bytes | None = None
    plain: bytes | None = None
    scale: float | None = None
    zero: float | None = None
    blank: int | None = None


def tiles_of(stored: Values, tile: Sequence[int]) -> list[Values]:
    """The tiles of an image in the order of their rows; *tile* in FITS order."""
    steps = [
        range(0, length, step) for length, step in zip(stored.shape, reversed(tile), strict=True)
    ]
    return [
        stored[tuple(slice(at, at + step) for at, step in zip(ats, reversed(tile), strict=True))]
        for ats in product(*steps)
    ]


def big_endian(values: Values) -> bytes:
    """The bytes of values as they stand in a file."""
    return values.astype(values.dtype.newbyteorder(">")).tobytes()


def gzip_1(values: Values) -> bytes:
    """A tile in GZIP_1."""
    return gzip.compress(big_endian(values), mtime=0)


def gzip_2(values: Values) -> bytes:
    """A tile in GZIP_2."""
    shuffled = np.frombuffer(big_endian(values), np.uint8).reshape(-1, values.dtype.itemsize).T
    return gzip.compress(shuffled.tobytes(), mtime=0)


def rice(block: int = 32) -> Callable[[Values], bytes]:
    """Makes a tile in RICE_1; BYTEPIX is the size of the values."""

    def encoded(values: Values) -> bytes:
        # What the encoder would take for itself is too little for blocks of few pixels.
        room = bytearray(64 + 3 * values.nbytes)
        return bytes(imagecodecs.rcomp_encode(np.ascontiguousarray(values), nblock=block, out=room))

    return encoded


def plio(values: Values) -> bytes:
    """A tile in PLIO_1, pixel by pixel, in the older form and not in the shortest way."""
    words = [0, 0, 0]
    level = 1
    for value in values.ravel().tolist():
        if value == 0:
            words.append(1)
        elif abs(value - level) > 4095:
            words += [0x1000 | value & 4095, value >> 12, 0x4001]
            level = value
        elif value < level:
            words.append(0x7000 | level - value)
            level = value
        else:
            words.append(0x6000 | value - level)
            level = value
    words[2] = len(words)
    return np.array(words, ">i2").tobytes()


def tile_file(
    rows: Sequence[Row],
    naxis: Sequence[int],
    bitpix: int,
    tile: Sequence[int],
    method: str,
    cards: Sequence[CardSpec] = (),
    *,
    descriptor: str = "P",
    element: str = "B",
    plain: str = "E",
    gap: int = 0,
) -> bytes:
    """A file of an empty primary HDU and one compressed image.

    *descriptor*: P or Q; *element* and *plain*: letters of what COMPRESSED_DATA and
    UNCOMPRESSED_DATA hold; *gap*: bytes between the table and the heap.
    """
    table, heap = b"", b"\xee" * 7
    number = ">i4" if descriptor == "P" else ">i8"
    for row in rows:
        for data, letter in ((row.packed, element), (row.gzipped, "B"), (row.plain, plain)):
            if data is not None:
                size = {"B": 1, "I": 2, "J": 4, "K": 8, "E": 4, "D": 8}[letter]
                table += np.array([len(data) // size, len(heap) if data else 0], number).tobytes()
                heap += data
        for value, kind in ((row.scale, ">f8"), (row.zero, ">f8"), (row.blank, ">i4")):
            if value is not None:
                table += np.array([value], kind).tobytes()
    first = rows[0]
    columns = [("COMPRESSED_DATA", f"1{descriptor}{element}")]
    columns += [("GZIP_COMPRESSED_DATA", f"1{descriptor}B(9)")] if first.gzipped is not None else []
    columns += [("UNCOMPRESSED_DATA", f"{descriptor}{plain}")] if first.plain is not None else []
    columns += [("ZSCALE", "1D")] if first.scale is not None else []
    columns += [("ZZERO", "1D")] if first.zero is not None else []
    columns += [("ZBLANK", "1J")] if first.blank is not None else []
    data = table + b"\xdd" * gap + heap
    header: list[CardSpec] = [
        ("XTENSION", "BINTABLE"), ("BITPIX", 8), ("NAXIS", 2),
        ("NAXIS1", len(table) // len(rows)), ("NAXIS2", len(rows)),
        ("PCOUNT", gap + len(heap)), ("GCOUNT", 1), ("TFIELDS", len(columns)),
    ]  # fmt: skip
    for place, (name, form) in enumerate(columns, 1):
        header += [(f"TTYPE{place}", name), (f"TFORM{place}", form)]
    if gap:
        header.append(("THEAP", len(table) + gap))
    header += [("ZIMAGE", True), ("ZBITPIX", bitpix), ("ZNAXIS", len(naxis))]
    header += [(f"ZNAXIS{axis}", length) for axis, length in enumerate(naxis, 1)]
    header += [(f"ZTILE{axis}", length) for axis, length in enumerate(tile, 1)]
    header += [("ZCMPTYPE", method), *cards]
    return primary(None) + header_bytes(header) + data + b"\0" * (-len(data) % 2880)


def simple_file(
    stored: Values,
    tile: Sequence[int],
    method: str,
    encode: Callable[[Values], bytes],
    cards: Sequence[CardSpec] = (),
    *,
    descriptor: str = "P",
    element: str = "B",
    gap: int = 0,
) -> bytes:
    """A file whose every tile is *encode*d; the options are those of `tile_file`."""
    rows = [Row(encode(one)) for one in tiles_of(stored, tile)]
    bits = 8 * stored.dtype.itemsize
    bitpix = -bits if stored.dtype.kind == "f" else bits
    naxis = stored.shape[::-1]
    options = {"descriptor": descriptor, "element": element}
    return tile_file(rows, naxis, bitpix, tile, method, cards, **options, gap=gap)
