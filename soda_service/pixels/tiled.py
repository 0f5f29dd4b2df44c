"""Pixels of a tile-compressed image: only the tiles that a box touches, each decoded once.

Values come out as they were before they were compressed and are never scaled: integers as
stored, with BSCALE, BZERO and BLANK left to the header; quantised floats restored, with NaN
where they were undefined. Source: FITS 4.0 §10 (tile compression).
"""

from __future__ import annotations

import zlib
from itertools import islice, product
from math import prod
from operator import le, sub
from typing import TYPE_CHECKING, Final

import numpy as np

from soda_service.pixels.tilecodecs import GUARD, Extent
from soda_service.pixels.tiletable import Form, TileTable
from soda_service.pixels.tilevalues import TileValues

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from soda_service.fits.layout import HduLayout
    from soda_service.geometry.pixelbox import PixelBox
    from soda_service.pixels.tiletable import Tile
    from soda_service.storage.local import LocalSource

    Bytes = NDArray[np.uint8]
    Values = NDArray[np.generic]

_SLAB: Final = 32 * 1024 * 1024
"""Bytes of pixels that are put together before the first of them is given."""
_LARGEST_TILE: Final = 1024 * 1024 * 1024
"""Bytes of a tile that are still decompressed: a header may claim anything."""
_PACKED_PIXEL: Final = 16
"""More bytes than a pixel has in any compression, on the average of a tile."""
_SMALL: Final = 64 * 1024
"""Bytes that a tile may have however few its pixels are."""
_BATCH: Final = 64 * 1024
"""Pixels of tiles of one row that are put together at once."""
_MOST_TILES: Final = 4096
"""Tiles that are looked up at once."""
_SPAN: Final = 4 * 1024 * 1024
"""Most bytes read at once for the sake of several tiles."""
_GAP: Final = 64 * 1024
"""Bytes between two tiles that are read faster than another read is begun."""


class TiledReader:
    """Reads boxes of one compressed image; safe to use from several threads."""

    def __init__(self, layout: HduLayout, source: LocalSource) -> None:
        """Raises CorruptFileError where the header does not describe a compressed image."""
        self._naxis = layout.naxis
        self._source = source
        self._table = TileTable(layout, source)
        self._values = TileValues(layout, self._table)
        self._tile = self._tile_axes(layout)
        if prod(self._tile) * self._values.dtype.itemsize > _LARGEST_TILE:
            raise self._table.corrupt(f"its tiles of {self._tile} pixels are too large")
        pairs = zip(layout.naxis, self._tile, strict=True)
        self._counts = tuple(-(-length // tile) for length, tile in pairs)
        if prod(self._counts) != self._table.row_count:
            raise self._table.corrupt(
                f"its table has {self._table.row_count} rows for {prod(self._counts)} tiles"
            )

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

    def _pixels(self, part: PixelBox, box: PixelBox, kept: _KeptTiles) -> Values:
        """The stored values of *part*, which is one of those that *box* is taken in."""
        if self._has_rows(part, box):
            return self._pixels_of_rows(part)
        pixels: Values = np.empty(part.shape, self._values.dtype)
        tiles = (tile for rows in self._rows(part) for tile in self._table.tiles(rows))
        for tile, data in self._with_bytes(tiles, kept):
            lower, upper = self._limits(tile.row)
            low = tuple(map(max, lower, part.lower))
            high = tuple(map(min, upper, part.upper))
            inside, outside = _slices(low, high, lower), _slices(low, high, part.lower)
            # Of a tile that a later part wants too, all is decoded and kept for it.
            is_last = all(map(le, map(min, upper, box.upper), part.upper))
            axes = tuple(map(sub, upper, lower))
            try:
                values = kept.get(tile.row)
                if values is None:
                    values = self._decoded(tile, data, axes, inside if is_last else None)
                # Values that a float32 cannot hold are infinite, as everywhere.
                with np.errstate(over="ignore"):
                    pixels[outside] = self._values.stored(tile, values, axes[::-1], inside)
            except (ValueError, RuntimeError, zlib.error) as error:
                raise self._table.corrupt_tile(tile.row, f"cannot be read: {error}") from error
            kept.keep(tile.row, None if is_last else values)
        return pixels.reshape(-1)

    def _has_rows(self, part: PixelBox, box: PixelBox) -> bool:
        """Whether tiles are rows, and *part* has of each that it touches what *box* has."""
        low, high, tile = box.lower[0], box.upper[0], self._tile[0]
        return (
            set(self._tile[1:]) <= {1}
            and low // tile == (high - 1) // tile
            and (part.lower[0], part.upper[0]) == (low, high)
        )

    def _pixels_of_rows(self, part: PixelBox) -> Values:
        """What `_pixels` gives, sooner: quantised floats of many rows are restored together."""
        # All the tiles lie between the same columns of the image.
        left = part.lower[0] // self._tile[0] * self._tile[0]
        axes = (min(self._tile[0], self._naxis[0] - left),)
        inside = slice(part.lower[0] - left, part.upper[0] - left)
        length = inside.stop - inside.start
        pixels: Values = np.empty((part.pixel_count // length, length), self._values.dtype)
        is_quantised = self._values.is_quantised
        batch = max(1, _BATCH // length)
        quanta = np.empty((min(batch, len(pixels)), length), np.int32)
        tiles = (tile for rows in self._rows(part) for tile in self._table.tiles(rows))
        rows_with_bytes = self._with_bytes(tiles, _KeptTiles())
        for first in range(0, len(pixels), batch):
            described: list[Tile] = []
            others: list[tuple[int, Values]] = []
            for tile, data in islice(rows_with_bytes, batch):
                try:
                    values = self._decoded(tile, data, axes, (inside,))
                    if is_quantised and tile.form is Form.PACKED and values.itemsize <= 4:
                        quanta[len(described)] = values[inside]
                    else:
                        stored = self._values.stored(tile, values, axes, (inside,))
                        others.append((first + len(described), stored))
                except (ValueError, RuntimeError, zlib.error) as error:
                    raise self._table.corrupt_tile(tile.row, f"cannot be read: {error}") from error
                described.append(tile)
            with np.errstate(over="ignore"):
                if is_quantised:
                    restored = self._values.restored_rows(
                        described, quanta[: len(described)], inside.start
                    )
                    pixels[first : first + batch] = restored
                for place, stored in others:
                    pixels[place] = stored
        return pixels.reshape(-1)

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

    def _with_bytes(self, tiles: Iterable[Tile], kept: _KeptTiles) -> Iterator[tuple[Tile, Bytes]]:
        """Each tile with its bytes, none where it is kept; neighbours are read together."""
        group: list[Tile] = []
        start = end = 0
        for tile in tiles:
            if kept.get(tile.row) is not None:
                yield tile, np.empty(0, np.uint8)
                continue
            if tile.size > _SMALL:
                self._check_size(tile)
            if group and not (end <= tile.start <= end + _GAP and tile.start - start < _SPAN):
                yield from self._read(group, start, end)
                group = []
            start = start if group else tile.start
            end = tile.start + tile.size
            group.append(tile)
        if group:
            yield from self._read(group, start, end)

    def _read(self, group: list[Tile], start: int, end: int) -> Iterator[tuple[Tile, Bytes]]:
        data = np.empty(end - start + GUARD, np.uint8)
        data[end - start :] = 255
        self._source.read_into(start, data.data[: end - start])
        for tile in group:
            at = tile.start - start
            yield tile, data[at : at + tile.size]

    def _check_size(self, tile: Tile) -> None:
        lower, upper = self._limits(tile.row)
        pixels = prod(map(sub, upper, lower))
        if tile.size > _SMALL + pixels * _PACKED_PIXEL:
            raise self._table.corrupt_tile(
                tile.row, f"has {tile.size} bytes, too many for its {pixels} pixels"
            )

    def _rows(self, part: PixelBox) -> Iterator[NDArray[np.int64]]:
        """Rows of the tiles that *part* touches, ascending, not too many at once."""
        touched = [
            range(low // tile, (high - 1) // tile + 1)
            for low, high, tile in zip(part.lower, part.upper, self._tile, strict=True)
        ]
        steps = [prod(self._counts[:axis]) for axis in range(len(touched))]
        run = np.arange(touched[0].start, touched[0].stop)
        if prod(map(len, touched)) <= _MOST_TILES:
            for axis, step in zip(touched[1:], steps[1:], strict=True):
                run = np.add.outer(np.arange(axis.start, axis.stop) * step, run).reshape(-1)
            yield run
            return
        rows: list[NDArray[np.int64]] = []
        for places in product(*reversed(touched[1:])):
            pairs = zip(places, reversed(steps[1:]), strict=True)
            rows.append(run + sum(place * step for place, step in pairs))
            if len(rows) * len(run) >= _MOST_TILES:
                yield np.concatenate(rows)
                rows = []
        if rows:
            yield np.concatenate(rows)

    def _limits(self, row: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """First pixel and one past the last one of the tile in *row*, in FITS order."""
        lower, upper = [], []
        for count, tile, length in zip(self._counts, self._tile, self._naxis, strict=True):
            row, place = divmod(row, count)
            lower.append(place * tile)
            upper.append(min(length, (place + 1) * tile))
        return tuple(lower), tuple(upper)

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

    def _tile_axes(self, layout: HduLayout) -> tuple[int, ...]:
        """Axis lengths of a tile in FITS order; rows where the header says nothing."""
        header = layout.header
        tile = []
        for axis, length in enumerate(layout.naxis, 1):
            default = length if axis == 1 else 1
            given = header.integer(f"ZTILE{axis}") if f"ZTILE{axis}" in header else default
            if given is None or given < 1:
                raise self._table.corrupt(f"ZTILE{axis} is not a positive integer")
            tile.append(min(given, length))
        return tuple(tile)


class _KeptTiles:
    """Decoded tiles that more than one part of a box wants; those that came first stay."""

    def __init__(self) -> None:
        self._tiles: dict[int, Values] = {}
        self._size = 0

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


def _slices(
    low: tuple[int, ...], high: tuple[int, ...], origin: tuple[int, ...]
) -> tuple[slice, ...]:
    """From *low* to *high*, seen from *origin*; in numpy order."""
    triples = zip(low, high, origin, strict=True)
    return tuple(slice(start - first, end - first) for start, end, first in triples)[::-1]
