"""A tile-compressed image as its header describes it: which tiles there are, and what they mean.

Source: FITS 4.0 §10.1 (tile compression).
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import TYPE_CHECKING, Final

import numpy as np

from soda_service.pixels.seekindex import SeekIndex
from soda_service.pixels.tiletable import TileTable
from soda_service.pixels.tilevalues import TileValues

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from soda_service.fits.layout import HduLayout
    from soda_service.geometry.pixelbox import PixelBox
    from soda_service.pixels.tilecodecs import Rice
    from soda_service.pixels.tiletable import TileRows

_LARGEST_TILE: Final = 1024 * 1024 * 1024
"""Bytes of a tile that are still decompressed: a header may claim anything."""
_MOST_TILES: Final = 4096
"""Tiles that are looked up at once."""


class TiledImage:
    """One compressed image, no byte of it read; shared by readers and threads."""

    def __init__(self, layout: HduLayout, path: str) -> None:
        """*path* is the file's, for errors.

        Raises CorruptFileError where the header does not describe a compressed image.
        """
        self.naxis = layout.naxis
        self.table = TileTable(layout, path)
        self.values = TileValues(layout, self.table)
        self.tile = self._tile_axes(layout)
        """Axis lengths of a tile in FITS order."""
        self.all_tiles: TileRows | None = None
        """The whole table, where it is kept."""
        self.may_keep_tiles = True
        """Whether it may still be kept; false where it is too large, or wrong."""
        self.index: SeekIndex | None = None
        """Where decoding may begin within rows, once that is known."""
        self.decoded_in_vain = 0
        """Pixels so far that an index would have left out."""
        self.is_indexable = True
        """Whether an index may still be made; false where that was tried and cannot be."""
        if prod(self.tile) * self.values.dtype.itemsize > _LARGEST_TILE:
            raise self.table.corrupt(f"its tiles of {self.tile} pixels are too large")
        self._pixel_count = prod(layout.naxis)
        pairs = zip(layout.naxis, self.tile, strict=True)
        self.counts = tuple(-(-length // tile) for length, tile in pairs)
        """Tiles along each axis, in FITS order."""
        if prod(self.counts) != self.table.row_count:
            raise self.table.corrupt(
                f"its table has {self.table.row_count} rows for {prod(self.counts)} tiles"
            )

    @property
    def is_worth_an_index(self) -> bool:
        """Whether cutouts have decoded as many pixels in vain as the image has."""
        return (
            self.decoded_in_vain >= self._pixel_count and self.index is None and self.is_indexable
        )

    @property
    def nbytes(self) -> int:
        """Bytes of what `forget` lets go of."""
        tiles, index = self.all_tiles, self.index
        return (tiles.nbytes if tiles else 0) + (index.nbytes if index else 0)

    def forget(self) -> None:
        """Lets go of table and index; they can be made again."""
        self.all_tiles = self.index = None
        self.decoded_in_vain = 0

    @property
    def has_rows(self) -> bool:
        """Whether its tiles are rows, or parts of rows."""
        return set(self.tile[1:]) <= {1}

    @property
    def seekable(self) -> Rice | None:
        """What decodes its rows, where an index of them can be made and is worth it."""
        rice = self.values.rice
        is_whole = self.has_rows and self.counts[0] == 1
        return rice if is_whole and rice and SeekIndex.suits(rice, self.naxis[0]) else None

    def rows(self, part: PixelBox) -> Iterator[NDArray[np.int64]]:
        """Rows of the tiles that *part* touches, ascending, not too many at once."""
        touched = [
            range(low // tile, (high - 1) // tile + 1)
            for low, high, tile in zip(part.lower, part.upper, self.tile, strict=True)
        ]
        steps = [prod(self.counts[:axis]) for axis in range(len(touched))]
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

    def limits(self, row: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """First pixel and one past the last one of the tile in *row*, in FITS order."""
        lower, upper = [], []
        for count, tile, length in zip(self.counts, self.tile, self.naxis, strict=True):
            row, place = divmod(row, count)
            lower.append(place * tile)
            upper.append(min(length, (place + 1) * tile))
        return tuple(lower), tuple(upper)

    def _tile_axes(self, layout: HduLayout) -> tuple[int, ...]:
        """Axis lengths of a tile in FITS order; rows where the header says nothing."""
        header = layout.header
        tile = []
        for axis, length in enumerate(layout.naxis, 1):
            default = length if axis == 1 else 1
            given = header.integer(f"ZTILE{axis}") if f"ZTILE{axis}" in header else default
            if given is None or given < 1:
                raise self.table.corrupt(f"ZTILE{axis} is not a positive integer")
            tile.append(min(given, length))
        return tuple(tile)
