"""What is remembered of compressed images between two cutouts, within a budget.

Reading the header of an image takes longer than decoding a tile, and so does reading the table
of tiles. An index of its rows takes longer to make than it saves one cutout, so it is made when
cutouts have decoded as many pixels in vain as the image has, by one thread beside the requests,
for local files only: of an object in a store the whole would have to be fetched.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from soda_service.errors import SodaServiceError
from soda_service.pixels.seekindex import SeekIndex
from soda_service.pixels.tiled import TiledReader
from soda_service.pixels.tiledimage import TiledImage
from soda_service.storage.local import LocalSource
from soda_service.storage.source import open_source

if TYPE_CHECKING:
    from soda_service.fits.layout import HduLayout
    from soda_service.storage.source import FileVersion, RunSource

    Key = tuple[str, FileVersion, int]

_MOST: Final = 1024
"""Images; each takes a few kilobytes without its index."""


class TiledImages:
    """The compressed images cut last; safe to use from several threads."""

    def __init__(self, budget: int) -> None:
        """*budget* is the most bytes that tables and indexes take together."""
        self._budget = budget
        self._taken = 0
        self._images: OrderedDict[Key, TiledImage] = OrderedDict()
        self._wanted: OrderedDict[Key, TiledImage] = OrderedDict()
        self._lock = threading.Lock()
        self._maker: threading.Thread | None = None
        self._is_closed = False

    def get(self, layout: HduLayout, source: RunSource) -> TiledImage:
        """The image *layout* of the file that *source* has open; may block.

        Raises CorruptFileError where the header does not describe a compressed image,
        SourceUnavailableError.
        """
        key = (source.path, source.version, layout.index)
        with self._lock:
            image = self._images.get(key)
            if image is not None:
                self._images.move_to_end(key)
        if image is None:
            made = TiledImage(layout, source.path)
            with self._lock:
                image = self._images.setdefault(key, made)
                if len(self._images) > _MOST:
                    self._forget(self._images.popitem(last=False)[1])
        if isinstance(source, LocalSource):
            if image.all_tiles is None and image.may_keep_tiles:
                self._keep_tiles(key, image, source)
            if image.is_worth_an_index:
                self._want_index(key, image)
        return image

    def wait(self) -> None:
        """Blocks until no index is being made."""
        maker = self._maker
        if maker is not None:
            maker.join()

    def close(self) -> None:
        """Makes no more indexes; waits for the piece of one that is being made."""
        with self._lock:
            self._is_closed = True
            self._wanted.clear()
        self.wait()

    @property
    def nbytes(self) -> int:
        """Bytes that tables and indexes take now."""
        return self._taken

    def _keep_tiles(self, key: Key, image: TiledImage, source: LocalSource) -> None:
        """Reads the table of *image*, unless it is too large or wrong."""
        tiles = image.table.all_tiles(source, self._budget)
        with self._lock:
            image.may_keep_tiles = tiles is not None
            if tiles is not None and image.all_tiles is None and key in self._images:
                image.all_tiles = tiles
                self._take(tiles.nbytes)

    def _want_index(self, key: Key, image: TiledImage) -> None:
        rice = image.seekable
        rows, length = image.table.row_count, image.naxis[0]
        if rice is None or SeekIndex.bytes_for(rice, rows=rows, length=length) > self._budget:
            image.is_indexable = False
            return
        with self._lock:
            if self._is_closed:
                return
            self._wanted[key] = image
            if self._maker is None:
                self._maker = threading.Thread(
                    target=self._make_indexes, name="seek-index", daemon=True
                )
                self._maker.start()

    def _make_indexes(self) -> None:
        """What the thread does until no index is wanted."""
        while True:
            with self._lock:
                if not self._wanted:
                    self._maker = None
                    return
                key, image = self._wanted.popitem(last=False)
            index = self._made(key, image)
            with self._lock:
                # An index that cannot be made is not asked for again.
                image.is_indexable = index is not None
                if index is not None and key in self._images:
                    image.index = index
                    self._take(index.nbytes)

    def _made(self, key: Key, image: TiledImage) -> SeekIndex | None:
        path, version, _ = key
        try:
            with open_source(path) as source:
                if source.version != version:
                    return None
                return TiledReader(image, source).seek_index(lambda: self._is_closed)
        except (SodaServiceError, OSError):
            return None  # a request that meets it will say what is wrong

    def _take(self, size: int) -> None:
        """Counts *size* more bytes; images not cut for longest forget until there is room."""
        self._taken += size
        for image in self._images.values():
            if self._taken <= self._budget:
                return
            self._forget(image)

    def _forget(self, image: TiledImage) -> None:
        self._taken -= image.nbytes
        image.forget()
