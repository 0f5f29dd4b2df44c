"""Readers: a box of pixels becomes the bytes of a FITS data unit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from soda_service.fits.layout import HduKind
from soda_service.pixels.plain import PlainReader
from soda_service.pixels.tiled import TiledReader
from soda_service.pixels.tiledimage import TiledImage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from soda_service.fits.layout import HduLayout
    from soda_service.geometry.pixelbox import PixelBox
    from soda_service.pixels.tiledimages import TiledImages
    from soda_service.storage.source import RunSource


class PixelReader(Protocol):
    """Boxes out of one image HDU; every method may be called from several threads at once."""

    def bands(self, box: PixelBox, band_bytes: int) -> Iterator[memoryview]:
        """The stored values of *box*, big-endian and in FITS order, without padding; may block.

        No band is longer than *band_bytes*, a multiple of eight. Memory holds a few bands,
        and of a compressed image the tiles that one band touches. Raises ValueError for a
        box that is not of this image, CorruptFileError, SourceUnavailableError.
        """


def open_reader(
    layout: HduLayout, source: RunSource, images: TiledImages | None = None
) -> PixelReader:
    """The reader of the image *layout*; *source* is the (inflated) file that holds it.

    Cheap: at most the table of a compressed image is read, for *images*, which remember it.
    The source must stay open as long as the reader is used. Raises CorruptFileError where the
    file cannot hold the image, SourceUnavailableError.
    """
    if layout.kind is HduKind.COMPRESSED:
        known = images.get(layout, source) if images else TiledImage(layout, source.path)
        return TiledReader(known, source)
    if layout.kind is HduKind.IMAGE:
        return PlainReader(layout, source)
    raise ValueError(f"HDU {layout.index} is no image but {layout.kind}")
