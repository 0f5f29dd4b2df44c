"""What the bytes of a tile mean: the stored values of its pixels.

Where cfitsio and astropy differ, docs/compression.md says who is followed and why.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Final

import numpy as np

from soda_service.pixels.dither import EXACT_ZERO, dither, dithers, restored
from soda_service.pixels.tilecodecs import Gzip, Rice, decoder
from soda_service.pixels.tiletable import Form

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from soda_service.fits.layout import HduLayout
    from soda_service.pixels.tilecodecs import Extent
    from soda_service.pixels.tiletable import Tile, TileRows, TileTable

    Bytes = NDArray[np.uint8]
    Values = NDArray[np.generic]

_TYPES: Final = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_METHODS: Final = ("NO_DITHER", "SUBTRACTIVE_DITHER_1", "SUBTRACTIVE_DITHER_2")
_LOSSLESS: Final = "NONE"
_HOLD_FLOATS: Final = ("GZIP_1", "GZIP_2", "NOCOMPRESS")
_LARGEST_SEED: Final = 2**31 - 1
_UNSIGNED_ZERO: Final = 32768


class TileValues:
    """Bytes of the tiles of one image into stored values; shared by threads."""

    def __init__(self, layout: HduLayout, table: TileTable) -> None:
        """Raises CorruptFileError where the header describes no known compression."""
        header = layout.header
        self.dtype = np.dtype(_TYPES[layout.bitpix])
        """Of the stored values, big-endian."""
        self._table = table
        is_float = layout.bitpix < 0
        method = (header.string("ZQUANTIZ") or _METHODS[0]).strip().upper()
        self.is_quantised = is_float and table.is_scaled and method != _LOSSLESS
        """Whether the floats are restored from integers, all of them or most."""
        if self.is_quantised and method not in _METHODS:
            raise table.corrupt(f"ZQUANTIZ = {method!r} is no known quantisation")
        self._is_dithered = self.is_quantised and method != _METHODS[0]
        self._has_zeros = method == _METHODS[2]
        seed = header.integer("ZDITHER0") if "ZDITHER0" in header else 1
        if self._is_dithered and (seed is None or not 0 <= seed <= _LARGEST_SEED):
            raise table.corrupt("ZDITHER0 is no seed")
        self._seed = (seed or 0) - 1
        try:
            self._decode = decoder(header, is_float=is_float and not self.is_quantised)
        except ValueError as error:
            raise table.corrupt(str(error)) from None
        compression = header.string("ZCMPTYPE")
        is_said_to_be_lossless = is_float and table.is_scaled and method == _LOSSLESS
        if is_said_to_be_lossless and compression not in _HOLD_FLOATS:
            raise table.corrupt(f"{compression} of floats with ZSCALE, but ZQUANTIZ = 'NONE'")
        self._gunzip = Gzip(self.dtype.itemsize, is_float=is_float)
        self._clips = compression == "HCOMPRESS_1"
        # cfitsio compresses unsigned integers so, because PLIO knows no negative ones.
        is_shifted = compression == "PLIO_1" and layout.bitpix == 16
        self._shift = is_shifted and header.number("BZERO") == _UNSIGNED_ZERO
        blank = header.integer("BLANK")
        self._blank = header.integer("ZBLANK") if blank is None else blank

    def decoded(self, tile: Tile, data: Bytes, extent: Extent) -> Values:
        """The values that were compressed, as far as *extent* says.

        `GUARD` bytes follow *data* in its array. Damage raises what a `Decoder` raises.
        """
        if tile.form is Form.PACKED:
            return self._decode(data, extent)
        if tile.form is Form.GZIPPED:
            return self._gunzip(data, extent)
        dtype = self._table.plain_dtype
        if len(data) != prod(extent.axes) * dtype.itemsize:
            raise ValueError(f"it has {len(data)} bytes for {prod(extent.axes)} pixels")
        return data.view(dtype)

    def stored(
        self, tile: Tile, values: Values, shape: tuple[int, ...], inside: tuple[slice, ...]
    ) -> Values:
        """The stored values of the part *inside* (numpy order) of a tile of *shape*.

        *values* are what `decoded` gave. In any byte order; to be cast to `dtype`. Raises
        ValueError where they are none of this image.
        """
        start, stop, shape, inside = _run(shape, inside)
        part = values[start:stop].reshape(shape)[inside]
        if self.dtype.kind != "f":
            return self._integers(tile, part)
        if part.dtype.kind == "f" or tile.form is not Form.PACKED:
            return part
        if self.is_quantised:
            noise = None
            if self._is_dithered:
                noise = dither(max(0, tile.row + self._seed), start, stop).reshape(shape)[inside]
            floats = restored(part, tile.scale, tile.zero, noise)
            if self._has_zeros:
                floats[part == EXACT_ZERO] = 0.0
        else:
            floats = part.astype(np.float64)
        if tile.blank is not None:
            floats[part == tile.blank] = np.nan
        return floats

    @property
    def rice(self) -> Rice | None:
        """What decodes the tiles whose `Form` is PACKED, where that is RICE."""
        return self._decode if isinstance(self._decode, Rice) else None

    def stored_rows(self, tiles: TileRows, values: Values, start: int) -> Values:
        """What `stored` gives of the same pixels, from *start* on, of tiles that are rows.

        *values* are integers, a row of them for each tile; the `Form` of all is PACKED.
        """
        blanks = None if tiles.blanks is None else tiles.blanks[:, None]
        if self.dtype.kind != "f":
            values = self._fitting(values, is_packed=True)
            return values if blanks is None else self._marked(values, blanks)
        if self.is_quantised:
            noise = None
            if self._is_dithered:
                seeds = np.maximum(tiles.rows + self._seed, 0)
                noise = dithers(seeds, start, start + values.shape[1])
            floats = restored(values, tiles.scales[:, None], tiles.zeros[:, None], noise)
            if self._has_zeros:
                floats[values == EXACT_ZERO] = 0.0
        else:
            floats = values.astype(np.float64)
        if blanks is not None:
            floats[values == blanks] = np.nan
        return floats

    def _integers(self, tile: Tile, part: Values) -> Values:
        if part.dtype.kind == "f":
            raise ValueError("it holds floats, and the image is one of integers")
        part = self._fitting(part, is_packed=tile.form is Form.PACKED)
        if tile.blank is None or tile.form is not Form.PACKED:
            return part
        return self._marked(part, tile.blank)

    def _fitting(self, part: Values, *, is_packed: bool) -> Values:
        """Integers that the image can hold; ValueError where it cannot."""
        if is_packed and self._shift:
            part = part.astype(np.int64) - _UNSIGNED_ZERO
        if part.dtype.itemsize > self.dtype.itemsize or part.dtype.kind != self.dtype.kind:
            limits = np.iinfo(self.dtype)
            if self._clips:
                # A lossy compression may miss what it can hold by a little.
                return part.clip(limits.min, limits.max)
            if part.min() < limits.min or part.max() > limits.max:
                raise ValueError("it holds integers that are too large for the image")
        return part

    def _marked(self, part: Values, blanks: int | NDArray[np.int64]) -> Values:
        """Undefined pixels, which each tile marks in its own way, as the image marks them."""
        blank = self._blank
        limits = np.iinfo(self.dtype)
        if blank is None or not limits.min <= blank <= limits.max or np.all(blanks == blank):
            return part
        marked = part.astype(self.dtype)
        marked[part == blanks] = blank
        return marked


def _run(
    shape: tuple[int, ...], inside: tuple[slice, ...]
) -> tuple[int, int, tuple[int, ...], tuple[slice, ...]]:
    """What follows each other in a tile and holds the part *inside*.

    First and last pixel (one past it), the shape of that, and the part in it.
    """
    start = 0
    for number, part in enumerate(inside):
        step = prod(shape[number + 1 :])
        start += part.start * step
        if part.stop - part.start > 1 or number == len(inside) - 1:
            length = part.stop - part.start
            rest = (length, *shape[number + 1 :])
            return start, start + length * step, rest, (slice(None), *inside[number + 1 :])
    raise AssertionError("a tile without axes")
