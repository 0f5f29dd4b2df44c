"""The compressions of tiles: the bytes of one tile in, the values that were compressed out.

The decoders written in C believe what a tile says of its own size, and read on where its
bytes are at an end. So what a tile says is looked at first, and bytes that stop them lie
behind its own. Source: FITS 4.0 §10.4.
"""

from __future__ import annotations

import struct
import threading
import zlib
from math import prod
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from soda_service.fits.cards import Header, Value

    Bytes = NDArray[np.uint8]
    Values = NDArray[np.generic]

GUARD: Final = 1024
"""Bytes that follow those of a tile in the same array, all of them 255."""

_LARGEST_INTEGER: Final = 2**31 - 1
_GZIP_WRAPPED: Final = 16 + zlib.MAX_WBITS
_GZIP_MAGIC: Final = b"\x1f\x8b"

_RICE_BYTES_OF_A_PIXEL: Final = 8
"""More than the decoder ever takes for one pixel out of bytes that are 255."""
_RICE_BLOCKS: Final = {1: (3, 6), 2: (4, 14), 4: (5, 25)}
"""For each BYTEPIX the bits that a block begins with, and the split that means none."""

_HCOMPRESS_LOCK: Final = threading.Lock()
"""The decoder keeps its place in variables of the whole process and lets other threads run."""
_HCOMPRESS_MAGIC: Final = b"\xdd\x99"
_HCOMPRESS_FORMAT: Final = ">2siiiq3B"
"""Magic, axis lengths, scale, sum of the pixels, bit planes of the quadrants."""
_HCOMPRESS_HEADER: Final = struct.calcsize(_HCOMPRESS_FORMAT)
_MOST_BIT_PLANES: Final = 63
_HUFFMAN_BITS: Final = 6
"""Of the longest code."""

_PLIO_FORMAT: Final = ">5h"
"""The words of a line list that say how long it is and where it begins."""
_PLIO_HEADER: Final = struct.calcsize(_PLIO_FORMAT)


class Extent(NamedTuple):
    """How much of a tile is wanted."""

    axes: tuple[int, ...]
    """Axis lengths of the whole tile, in FITS order."""
    wanted: int
    """So many pixels from its first one on."""
    room: int
    """So many at least shall the array of its values have; those not wanted may be anything."""


class Decoder(Protocol):
    """One compression with its settings; shared by threads."""

    def __call__(self, data: Bytes, extent: Extent) -> Values:
        """The values of a tile. `GUARD` bytes follow *data* in its array.

        Damage raises ValueError, RuntimeError or zlib.error.
        """


def decoder(header: Header, *, is_float: bool) -> Decoder | Rice:
    """What decodes the tiles of an image with this (compressed) header.

    *is_float* where what was compressed are floats, not integers that stand for them.
    ValueError where it is no known compression, or its settings are none.
    """
    method = header.string("ZCMPTYPE")
    if method in ("RICE_1", "RICE_ONE"):
        return _rice(header)
    if method in ("GZIP_1", "GZIP_2"):
        bits = abs(header.integer("ZBITPIX") or 0)
        is_quantised = not is_float and (header.integer("ZBITPIX") or 0) < 0
        itemsize = 4 if is_quantised else bits // 8
        return Gzip(itemsize, is_float=is_float, is_shuffled=method == "GZIP_2")
    if method == "HCOMPRESS_1":
        return _Hcompress(is_smooth=bool(_setting(header, "SMOOTH", 2, 0)))
    if method == "PLIO_1":
        return _plio
    if method == "NOCOMPRESS":
        return _Stored(is_float=is_float)
    raise ValueError(f"ZCMPTYPE = {method!r} is no known compression")


def _setting(header: Header, name: str, place: int, default: int) -> Value:
    """What ZNAMEn and ZVALn say of *name*; without names they have their *place*, from 1."""
    number = 1
    while (given := header.string(f"ZNAME{number}")) is not None:
        if given.strip().upper() == name:
            return header.get(f"ZVAL{number}")
        number += 1
    return default if number > 1 else header.get(f"ZVAL{place}", default)


# ---------------------------------------------------------------- RICE


def _rice(header: Header) -> Rice:
    block, width = _setting(header, "BLOCKSIZE", 1, 32), _setting(header, "BYTEPIX", 2, 4)
    if width in (16, 32) and block in (1, 2, 4):
        # Early files have the two the wrong way round, and cfitsio knows it.
        block, width = width, block
    if type(block) is not int or not 0 < block <= _LARGEST_INTEGER:
        raise ValueError(f"RICE with BLOCKSIZE = {block!r}")
    if type(width) is not int or width not in (1, 2, 4):
        raise ValueError(f"RICE with BYTEPIX = {width!r}")
    return Rice(block, np.dtype("u1" if width == 1 else f"i{width}"))


class Rice:
    """Source: FITS 4.0 §10.4.1. A tile is decoded up to the last wanted pixel and no further."""

    def __init__(self, block: int, dtype: np.dtype[np.generic]) -> None:
        """*block* is in pixels; *dtype* that of the values, in the order of the machine."""
        import imagecodecs  # the first tile in RICE comes later

        # It takes any bytes, whatever its types say.
        self._decode: Callable[..., object] = imagecodecs.rcomp_decode
        self.block = block
        self.dtype = dtype
        self.header_bits, self.plain_split = _RICE_BLOCKS[dtype.itemsize]
        """Bits that a block begins with; one more than the number of split bits stands there,
        and for this number its differences are not coded at all."""
        self.guard = block * _RICE_BYTES_OF_A_PIXEL
        """Bytes of 255 that must follow those of a tile."""

    def __call__(self, data: Bytes, extent: Extent) -> Values:
        """See `Decoder`."""
        # The decoder looks for the end of its bytes once in a block.
        data = _guarded(data, min(self.block, extent.wanted) * _RICE_BYTES_OF_A_PIXEL)
        values: Values = np.empty(extent.room, self.dtype)
        self.fill(data.data, values[: extent.wanted])
        return values

    def fill(self, data: memoryview, values: Values) -> None:
        """Decodes as many pixels as *values* has room for; `guard` bytes must follow *data*."""
        self._decode(data, nblock=min(self.block, len(values)), out=values)


def _guarded(data: Bytes, length: int) -> Bytes:
    """*data* with at least *length* bytes of 255 behind it."""
    if length <= GUARD:
        return data
    guarded = np.full(len(data) + length, 255, np.uint8)
    guarded[: len(data)] = data
    return guarded[: len(data)]


# ---------------------------------------------------------------- GZIP and none


class Gzip:
    """GZIP_1 and GZIP_2 (FITS 4.0 §10.4.2)."""

    def __init__(self, itemsize: int, *, is_float: bool, is_shuffled: bool = False) -> None:
        """*itemsize*: bytes that a value most likely has; *is_float*: floats were compressed."""
        import imagecodecs  # the first tile comes later

        # It takes any bytes and fills any array, whatever its types say.
        self._decode: Callable[..., Any] = imagecodecs.gzip_decode
        self._itemsize = itemsize
        self._is_float = is_float
        self._is_shuffled = is_shuffled

    def __call__(self, data: Bytes, extent: Extent) -> Values:
        """See `Decoder`."""
        count = prod(extent.axes)
        values: Values | None = self._inflated_at_once(data, self._itemsize * count)
        if values is None:
            values = np.frombuffer(_inflated(data, 8 * count), np.uint8)
        dtype = _dtype_of(len(values), count, is_float=self._is_float)
        if self._is_shuffled:
            # The first bytes of all the values, then the second ones …
            planes = values.reshape(dtype.itemsize, count)[:, : extent.room]
            values = np.ascontiguousarray(planes.T).ravel()
        return values.view(dtype)

    def _inflated_at_once(self, data: Bytes, size: int) -> Bytes | None:
        """What *data* holds, twice as fast, where it says at its end that it holds *size* bytes.

        None where it says otherwise, or that is not true.
        """
        if int.from_bytes(data[-4:].tobytes(), "little") != size:
            return None
        try:
            inflated: Bytes = self._decode(data.data, out=np.empty(size, np.uint8))
        except (RuntimeError, ValueError):
            return None
        return inflated if len(inflated) == size else None


class _Stored:
    """NOCOMPRESS: the values as they are."""

    def __init__(self, *, is_float: bool) -> None:
        self._is_float = is_float

    def __call__(self, data: Bytes, extent: Extent) -> Values:
        return data.view(_dtype_of(len(data), prod(extent.axes), is_float=self._is_float))


def _inflated(data: Bytes, most: int) -> bytes:
    """What *data* holds in gzip, its check sum verified; ValueError for more than *most* bytes."""
    inflated = b""
    rest: memoryview | bytes = data.data
    while True:
        stream = zlib.decompressobj(_GZIP_WRAPPED)
        inflated += stream.decompress(rest, most - len(inflated) + 1)
        if len(inflated) > most:
            raise ValueError("it inflates to more than a tile has")
        if not stream.eof:
            raise ValueError("it is truncated")
        rest = stream.unused_data
        if not rest.startswith(_GZIP_MAGIC):
            return inflated


def _dtype_of(size: int, count: int, *, is_float: bool) -> np.dtype[np.generic]:
    """Of *count* values in *size* bytes; a writer chooses how wide its integers are."""
    itemsize = size // count
    if size != itemsize * count or itemsize not in (1, 2, 4, 8):
        raise ValueError(f"it has {size} bytes for {count} pixels")
    if is_float and itemsize >= 4:
        return np.dtype(f">f{itemsize}")
    return np.dtype(f">i{itemsize}" if itemsize > 1 else "u1")


# ---------------------------------------------------------------- HCOMPRESS


class _Hcompress:
    """Source: FITS 4.0 §10.4.4."""

    def __init__(self, *, is_smooth: bool) -> None:
        from astropy.io.fits.hdu.compressed import _compression  # 0.4 s, and seldom wanted

        self._decode = _compression.decompress_hcompress_1_c
        self._error = _compression.CfitsioException
        self._is_smooth = is_smooth

    def __call__(self, data: Bytes, extent: Extent) -> Values:
        if len(data) < _HCOMPRESS_HEADER:
            raise ValueError("it is truncated")
        magic, slow, fast, scale, _, *planes = struct.unpack(
            _HCOMPRESS_FORMAT, data[:_HCOMPRESS_HEADER].tobytes()
        )
        deep = [length for length in extent.axes if length > 1]
        is_same = [fast, slow] == deep if len(deep) == 2 else slow > 0 and slow * fast == prod(deep)
        if magic != _HCOMPRESS_MAGIC or len(deep) not in (1, 2) or not is_same:
            raise ValueError("it is not as large as the header says")
        if max(planes) > _MOST_BIT_PLANES:
            raise ValueError("it has impossible bit planes")
        longest = _hcompress_longest(slow, fast, planes)
        # No decoder reads more than the longest stream there can be: what is missing is zero.
        stream = data.tobytes() + bytes(max(0, longest - len(data)) + GUARD)
        with _HCOMPRESS_LOCK:
            try:
                decoded = self._decode(stream, slow, fast, scale, int(self._is_smooth), 8)
            except self._error as error:
                raise ValueError(str(error)) from None
        values: Values = np.frombuffer(decoded, np.int32)
        return values


def _hcompress_longest(slow: int, fast: int, planes: list[int]) -> int:
    """Bytes of the longest stream of a tile with these bit planes."""
    slow, fast = (slow + 1) // 2, (fast + 1) // 2
    codes = 0
    level = (slow, fast)
    while level != (1, 1):
        level = ((level[0] + 1) // 2, (level[1] + 1) // 2)
        codes += level[0] * level[1]
    quadrants = planes[0] + 2 * planes[1] + planes[2]
    bits = quadrants * ((codes + 1) * _HUFFMAN_BITS + 8)
    signs = 4 * slow * fast
    return _HCOMPRESS_HEADER + (bits + signs) // 8


# ---------------------------------------------------------------- PLIO


def _plio(data: Bytes, extent: Extent) -> Values:
    """Source: FITS 4.0 §10.4.3, IRAF's line lists.

    A list is a row of instructions, words of which the upper four bits say what to do: 0, 4
    and 5 are runs of pixels, 6 and 7 are single pixels, 1 to 3 and 6, 7 change the value.
    """
    codes, numbers, levels = _plio_instructions(_plio_words(data))
    runs = np.select([(codes == 0) | (codes == 4) | (codes == 5), codes >= 6], [numbers, 1], 0)
    # What lies behind the last wanted pixel is never spread out.
    used = int(np.searchsorted(np.cumsum(runs), extent.wanted)) + 1
    codes, runs, levels = codes[:used], runs[:used], levels[:used]
    # The last pixel of a 5 has the value, those before it are zero.
    lasts = (codes == 5) & (runs > 0)
    parts = np.stack([np.where(codes >= 4, levels, 0) * (codes != 5), levels], axis=1)
    lengths = np.stack([runs - lasts, lasts], axis=1)
    values = np.repeat(parts.astype(np.int32).ravel(), lengths.ravel())
    # Where the list ends early, zeros are left.
    missing = max(0, extent.room - len(values))
    return np.pad(values, (0, missing)) if missing else values


def _plio_words(data: Bytes) -> NDArray[np.int64]:
    """The instructions of a list; ValueError where it claims to be longer than it is."""
    if len(data) < _PLIO_HEADER:
        raise ValueError("it is truncated")
    _, first, length, low, high = struct.unpack(_PLIO_FORMAT, data[:_PLIO_HEADER].tobytes())
    if length > 0:
        # The older form: three words of header, the length in one of them.
        first = 3
    else:
        length = (high << 15) + low
    if not (0 <= first <= length <= len(data) // 2 and low >= 0 and high >= 0):
        raise ValueError("it is longer than the table says")
    words: NDArray[np.int64] = data[2 * first : 2 * length].view(">i2").astype(np.int64)
    return words


def _plio_instructions(
    words: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Of each word its code, its number, and the value of pixels from it on.

    The word after a 1 is no instruction but the upper bits of a value; it gets the code -1.
    """
    # Divided as C does it, towards zero; no legal word is negative.
    codes = np.where(words < 0, -(-words >> 12), words >> 12)
    numbers = words & 4095
    changes = np.select([(codes == 2) | (codes == 6), (codes == 3) | (codes == 7)], [1, -1], 0)
    changes *= numbers
    skipped = -1
    settings = []
    for place in np.flatnonzero(codes == 1).tolist():
        if place != skipped and place + 1 < len(words):
            skipped = place + 1
            settings.append(place)
            changes[skipped] = 0
            codes[skipped] = -1
    sums = 1 + np.cumsum(changes)
    # A 1 sets the value: what had been added up to there counts no longer.
    at = np.array(settings, np.int64)
    corrections = np.zeros(len(words) + 1, np.int64)
    levels_set = (words[at + 1] << 12) + numbers[at] - sums[at]
    corrections[at] = np.diff(levels_set, prepend=0)
    return codes, numbers, sums + np.cumsum(corrections[:-1])
