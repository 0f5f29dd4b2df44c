"""Pixels of a tile-compressed image: only the tiles that a box touches, each decoded once.

Values come out as they were before they were compressed and are never scaled: integers as
stored, with BSCALE, BZERO and BLANK left to the header; quantised floats restored, with NaN
where they were undefined. Source: FITS 4.0 §10 (tile compression).
"""

from __future__ import annotations

import zlib
from math import prod
from operator import sub
from typing import TYPE_CHECKING, Final

import numpy as np

from soda_service.pixels.seekindex import STEP, SeekIndex, gathered
from soda_service.pixels.tilecodecs import GUARD, Extent
from soda_service.pixels.tiletable import FORMS, Form

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from soda_service.errors import CorruptFileError
    from soda_service.geometry.pixelbox import PixelBox
    from soda_service.pixels.tiledimage import TiledImage
    from soda_service.pixels.tiletable import Tile, TileRows
    from soda_service.storage.source import RunSource

    Bytes = NDArray[np.uint8]
    Numbers = NDArray[np.int64]
    Values = NDArray[np.generic]
    Slices = tuple[slice, ...]
    _Along = tuple[int, slice, slice, bool]

_SLAB: Final = 32 * 1024 * 1024
"""Bytes of pixels that are put together before the first of them is given."""
_PACKED_PIXEL: Final = 16
"""More bytes than a pixel has in any compression, on the average of a tile."""
_SMALL: Final = 64 * 1024
"""Bytes that a tile may have however few its pixels are."""
_BATCH: Final = 128 * 1024
"""Pixels of rows that are put together at once."""
_MARGIN: Final = 2 * STEP
"""Pixels beside the wanted ones that an index decodes of each row, at most about."""
_SPAN: Final = 4 * 1024 * 1024
"""Most bytes read at once for the sake of several tiles."""
_GAP: Final = 64 * 1024
"""Bytes between two tiles that are read faster than another read is begun."""
_LEARNED: Final = 1024 * 1024
"""Pixels whose places are put into an index at once."""
_LONG_ROW: Final = 16 * 1024
"""Bytes of a row from which on a little of it is read faster by itself."""
_PACKED: Final = FORMS.index(Form.PACKED)


class TiledReader:
    """Reads boxes of one compressed image; safe to use from several threads."""

    def __init__(self, image: TiledImage, source: RunSource) -> None:
        """*source* holds the very image that *image* was made of."""
        self._image = image
        self._naxis = image.naxis
        self._tile = image.tile
        self._source = source
        self._table = image.table
        self._values = image.values

    def bands(self, box: PixelBox, band_bytes: int) -> Iterator[memoryview]:
        """The stored values of *box*, big-endian and in FITS order; may block.

        Memory holds 32 MiB of the box, about as much of tiles that are wanted again, and one
        tile. Raises CorruptFileError, SourceUnavailableError.
        """
        naxis = self._naxis
        if len(box.naxis) != len(naxis) or any(
            high > length for high, length in zip(box.upper, naxis, strict=False)
        ):
            raise ValueError(f"{box.section} reaches out of an image of axes {naxis}")
        kept = _KeptTiles()
        for part in self._parts(box, len(naxis) - 1, max(band_bytes, _SLAB)):
            pixels = self._pixels(part, box, kept).view(np.uint8).data
            self._source.check_unchanged()
            for at in range(0, len(pixels), band_bytes):
                yield pixels[at : at + band_bytes]

    def seek_index(self, stopped: Callable[[], bool]) -> SeekIndex | None:
        """An index of all rows, of an image that is seekable; blocks.

        None soon after *stopped* has become true. Raises CorruptFileError,
        SourceUnavailableError.
        """
        rice, length, count = self._image.seekable, self._naxis[0], self._table.row_count
        assert rice is not None
        index = SeekIndex(rice, rows=count, length=length)
        piece = max(1, _LEARNED // length)
        for first in range(0, count, piece):
            rows = np.arange(first, min(count, first + piece))
            for tiles in self._table.tiles(rows, self._source):
                sizes = np.where(tiles.forms == _PACKED, tiles.sizes, 0)
                for group, data, first_byte in self._groups(tiles):
                    starts = tiles.starts[group] - first_byte
                    index.learn(tiles.rows[group], data, starts, sizes[group])
            if stopped():
                return None
        self._source.check_unchanged()
        return index

    def _pixels(self, part: PixelBox, box: PixelBox, kept: _KeptTiles) -> Values:
        """The stored values of *part*, which is one of those that *box* is taken in."""
        if self._has_rows(part, box):
            return self._pixels_of_rows(part)
        pixels: Values = np.empty(part.shape, self._values.dtype)
        places = _Places(self._image, part, box)
        # Values that a float32 cannot hold are infinite, as everywhere.
        with np.errstate(all="ignore"):
            for tile, data in self._with_bytes(part, kept):
                shape, inside, outside, is_last = places.of(tile.row)
                try:
                    values = kept.get(tile.row)
                    if values is None:
                        # Of a tile that a later part wants too, all is decoded and kept for it.
                        wanted = inside if is_last else None
                        values = self._decoded(tile, data, shape[::-1], wanted)
                    pixels[outside] = self._values.stored(tile, values, shape, inside)
                except (ValueError, RuntimeError, zlib.error) as error:
                    raise self._unreadable(tile.row, error) from error
                kept.keep(tile.row, None if is_last else values)
        return pixels.reshape(-1)

    def _has_rows(self, part: PixelBox, box: PixelBox) -> bool:
        """Whether tiles are rows, and *part* has of each that it touches what *box* has."""
        low, high, tile = box.lower[0], box.upper[0], self._tile[0]
        return (
            self._image.has_rows
            and low // tile == (high - 1) // tile
            and (part.lower[0], part.upper[0]) == (low, high)
        )

    def _pixels_of_rows(self, part: PixelBox) -> Values:
        """What `_pixels` gives, sooner: what many rows hold becomes stored values together."""
        # All the tiles lie between the same columns of the image.
        left = part.lower[0] // self._tile[0] * self._tile[0]
        length = min(self._tile[0], self._naxis[0] - left)
        inside = slice(part.lower[0] - left, part.upper[0] - left)
        width = inside.stop - inside.start
        pixels: Values = np.empty((part.pixel_count // width, width), self._values.dtype)
        batch = max(1, _BATCH // (width + _MARGIN))
        done = 0
        for tiles in self._tiles(part):
            for first in range(0, len(tiles.rows), batch):
                some = tiles.part(slice(first, first + batch))
                count = len(some.rows)
                self._fill_rows(pixels[done : done + count], some, length, inside)
                done += count
        return pixels.reshape(-1)

    def _fill_rows(self, pixels: Values, tiles: TileRows, length: int, inside: slice) -> None:
        """Fills *pixels* with the part *inside* of *tiles*, rows of *length* pixels."""
        integers = np.zeros(pixels.shape, np.int32)
        packed = tiles.forms == _PACKED
        left = self._seek(integers, tiles, packed, inside)
        others: list[tuple[int, Values]] = []
        if left.any():
            others = self._decode_rows(integers, tiles, left, length, inside)
            for place, _ in others:
                packed[place] = False
        with np.errstate(all="ignore"):
            try:
                if packed.all():
                    pixels[...] = self._values.stored_rows(tiles, integers, inside.start)
                elif packed.any():
                    some = tiles.part(packed)
                    pixels[packed] = self._values.stored_rows(some, integers[packed], inside.start)
            except ValueError as error:
                raise self._unreadable(self._first_wrong(tiles, integers), error) from error
            for place, stored in others:
                pixels[place] = stored

    def _seek(
        self, integers: Values, tiles: TileRows, packed: NDArray[np.bool_], inside: slice
    ) -> NDArray[np.bool_]:
        """Decodes what the index knows; gives which of *tiles* are left."""
        index = self._image.index
        left: NDArray[np.bool_] = np.ones(len(packed), np.bool_)
        if index is None:
            return left
        known = packed & index.knows(tiles.rows)
        if known.any():
            found = self._sought(index, tiles.part(known), inside)
            if found is not None:
                integers[known] = found
                return ~known
        return left

    def _sought(self, index: SeekIndex, tiles: TileRows, inside: slice) -> Values | None:
        """The values *inside* of rows that *index* knows; None where that fails after all."""
        stretch = index.stretch(tiles.rows, inside.start, inside.stop)
        raw = self._gathered(tiles.starts + stretch.starts, stretch.width)
        try:
            return stretch.values(raw)
        except (ValueError, RuntimeError):
            return None  # who decodes it from the start will say what is wrong

    def _gathered(self, starts: Numbers, width: int) -> Bytes:
        """A row of *width* bytes of the file from each of *starts*; anything behind its end."""
        first, end = int(starts.min()), int(starts.max()) + width
        end_of_file = self._source.version.size
        if end - first > _SPAN or end - first > len(starts) * _LONG_ROW:
            raw = np.empty((len(starts), width), np.uint8)
            for row, start in zip(raw, starts.tolist(), strict=True):
                self._source.read_into(start, row.data[: end_of_file - start])
            return raw
        data = np.empty(min(end, end_of_file) - first, np.uint8)
        self._source.read_into(first, data.data)
        return gathered(data, starts - first, width)

    def _decode_rows(
        self,
        integers: Values,
        tiles: TileRows,
        left: NDArray[np.bool_],
        length: int,
        inside: slice,
    ) -> list[tuple[int, Values]]:
        """Decodes those of *tiles* that are *left*, from their first pixel on.

        Gives the place and the stored values of those that are no integers of 32 bits.
        """
        others = []
        rice = self._values.rice
        row: Values = np.empty(inside.stop, rice.dtype if rice is not None else np.uint8)
        wanted = row[inside]
        places = iter(np.flatnonzero(left).tolist())
        some = tiles if left.all() else tiles.part(left)
        each = list(some.each())
        for group, data, first in self._groups(some):
            bytes_of = data.data
            for tile in each[group]:
                place = next(places)
                start = tile.start - first
                try:
                    if rice is not None and tile.form is Form.PACKED and rice.guard <= GUARD:
                        rice.fill(bytes_of[start : start + tile.size], row)
                        integers[place] = wanted
                        continue
                    packed = data[start : start + tile.size]
                    values = self._decoded(tile, packed, (length,), (inside,))
                    if (
                        tile.form is Form.PACKED
                        and values.dtype.kind in "iu"
                        and values.itemsize <= 4
                    ):
                        integers[place] = values[inside]
                    else:
                        stored = self._values.stored(tile, values, (length,), (inside,))
                        others.append((place, stored))
                except (ValueError, RuntimeError, zlib.error) as error:
                    raise self._unreadable(tile.row, error) from error
        if self._image.index is None:
            self._image.decoded_in_vain += len(tiles.rows) * inside.start
        return others

    def _first_wrong(self, tiles: TileRows, integers: Values) -> int:
        """The row of the first tile whose values are none of the image."""
        for tile, values in zip(tiles.each(), integers, strict=True):
            try:
                self._values.stored(tile, values, values.shape, (slice(0, len(values)),))
            except ValueError:
                return tile.row
        raise AssertionError("all of them are right by themselves")

    def _decoded(
        self, tile: Tile, data: Bytes, axes: tuple[int, ...], inside: tuple[slice, ...] | None
    ) -> Values:
        """The values of a tile, all of them or as far as the part *inside* needs them."""
        room = wanted = prod(axes)
        if inside is not None:
            shape = axes[::-1]
            wanted = 0
            for part, length in zip(inside, shape, strict=True):
                wanted = wanted * length + part.stop - 1
            wanted += 1
            step = prod(shape[1:])
            room = -(-wanted // step) * step
        return self._values.decoded(tile, data, Extent(axes, wanted, room))

    def _tiles(self, part: PixelBox) -> Iterator[TileRows]:
        """The tiles that *part* touches, as the table describes them."""
        known = self._image.all_tiles
        for rows in self._image.rows(part):
            if known is not None:
                yield known.part(rows)
            else:
                yield from self._table.tiles(rows, self._source)

    def _with_bytes(self, part: PixelBox, kept: _KeptTiles) -> Iterator[tuple[Tile, Bytes]]:
        """Each tile that *part* touches with its bytes, none where it is kept."""
        for tiles in self._tiles(part):
            some = tiles
            if kept.has_any:
                here = np.array([kept.get(row) is not None for row in tiles.rows.tolist()])
                for tile in tiles.part(here).each():
                    yield tile, np.empty(0, np.uint8)
                some = tiles.part(~here)
            each = list(some.each())
            for group, data, first in self._groups(some):
                for tile in each[group]:
                    start = tile.start - first
                    yield tile, data[start : start + tile.size]

    def _groups(self, tiles: TileRows) -> Iterator[tuple[slice, Bytes, int]]:
        """Neighbours among *tiles*, their bytes read together, and the first of those in the file.

        `GUARD` bytes follow the last one.
        """
        self._check_sizes(tiles)
        starts, ends = tiles.starts, tiles.starts + tiles.sizes
        apart = starts[1:] - ends[:-1]
        breaks = np.flatnonzero((apart < 0) | (apart > _GAP)) + 1
        if len(breaks) and self._source.gulp_bytes:
            # One by one they would each wait for the one before.
            first_ones, last_ones = [0, *breaks], [*(breaks - 1), -1]
            spans = zip(starts[first_ones].tolist(), ends[last_ones].tolist(), strict=True)
            self._source.prefetch(sorted(spans))
        begin = 0
        for stop in [*breaks.tolist(), len(starts)]:
            while begin < stop:
                first = int(starts[begin])
                end = stop
                if int(ends[stop - 1]) - first > _SPAN:
                    within = int(np.searchsorted(starts[begin:stop], first + _SPAN, "left"))
                    end = begin + max(1, within)
                size = int(ends[end - 1]) - first
                data = np.empty(size + GUARD, np.uint8)
                data[size:] = 255
                self._source.read_into(first, data.data[:size])
                yield slice(begin, end), data, first
                begin = end

    def _check_sizes(self, tiles: TileRows) -> None:
        if int(tiles.sizes.max(initial=0)) <= _SMALL:
            return
        for place in np.flatnonzero(tiles.sizes > _SMALL).tolist():
            row, size = int(tiles.rows[place]), int(tiles.sizes[place])
            lower, upper = self._image.limits(row)
            pixels = prod(map(sub, upper, lower))
            if size > _SMALL + pixels * _PACKED_PIXEL:
                raise self._table.corrupt_tile(
                    row, f"has {size} bytes, too many for its {pixels} pixels"
                )

    def _unreadable(self, row: int, error: Exception) -> CorruptFileError:
        return self._table.corrupt_tile(row, f"cannot be read: {error}")

    def _parts(self, box: PixelBox, axis: int, most: int) -> Iterator[PixelBox]:
        """*box* in parts of *most* bytes that follow each other in FITS order.

        They end where tiles end, if that many bytes reach so far. Axes slower than *axis* have
        one pixel.
        """
        low, high, tile = box.lower[axis], box.upper[axis], self._tile[axis]
        single = box.pixel_count // (high - low) * self._values.dtype.itemsize
        if single > most and axis > 0:
            for at in range(low, high):
                yield from self._parts(box.replaced(axis, at, at + 1), axis - 1, most)
            return
        step = max(1, most // single)
        start = low
        while start < high:
            next_tile = (start // tile + 1) * tile
            end = start + step
            if end >= next_tile:
                end -= (end - next_tile) % tile
            yield box.replaced(axis, start, min(high, end))
            start = end


class _KeptTiles:
    """Decoded tiles that more than one part of a box wants; those that came first stay."""

    def __init__(self) -> None:
        self._tiles: dict[int, Values] = {}
        self._size = 0

    @property
    def has_any(self) -> bool:
        return bool(self._tiles)

    def get(self, row: int) -> Values | None:
        return self._tiles.get(row)

    def keep(self, row: int, values: Values | None) -> None:
        """Keeps *values* where there is room; None lets go of what was kept."""
        if values is None:
            values = self._tiles.pop(row, None)
            if values is not None:
                self._size -= values.nbytes
        elif row not in self._tiles and (not self._tiles or self._size + values.nbytes <= _SLAB):
            self._tiles[row] = values
            self._size += values.nbytes


class _Places:
    """Where the tiles that a part of a box touches lie in it."""

    def __init__(self, image: TiledImage, part: PixelBox, box: PixelBox) -> None:
        self._axes: list[tuple[int, int, list[_Along]]] = []
        axes = zip(
            image.counts,
            image.tile,
            image.naxis,
            part.lower,
            part.upper,
            box.upper,
            strict=True,
        )
        for count, tile, length, low, high, end in axes:
            first = low // tile
            along = []
            for lower in range(first * tile, high, tile):
                upper = min(lower + tile, length)
                start, stop = max(lower, low), min(upper, high)
                inside, outside = slice(start - lower, stop - lower), slice(start - low, stop - low)
                along.append((upper - lower, inside, outside, min(upper, end) <= high))
            self._axes.append((count, first, along))

    def of(self, row: int) -> tuple[tuple[int, ...], Slices, Slices, bool]:
        """Shape of the tile in *row*, what the part has of it, and where; all in numpy order.

        And whether no later part of the box has any of it.
        """
        found = []
        for count, first, along in self._axes:
            row, place = divmod(row, count)
            found.append(along[place - first])
        shape, inside, outside, is_last = zip(*reversed(found), strict=True)
        return shape, inside, outside, all(is_last)
