"""Where things lie in a FITS file: one `HduLayout` for each HDU, from headers alone.

Source: FITS 4.0 §3 (file organisation), §4.4.1 (mandatory keywords), §10 (tile compression).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from soda_service.fits.cards import Header

BLOCK_SIZE = 2880
"""Bytes of a FITS block (FITS 4.0 §3.1)."""


class HduKind(StrEnum):
    """What an HDU holds, as far as cutting is concerned."""

    EMPTY = "empty"
    """No data at all: NAXIS=0, or an axis of length zero."""
    IMAGE = "image"
    """An image in the primary array or an IMAGE extension."""
    COMPRESSED = "compressed"
    """A tile-compressed image in a binary table (ZIMAGE=T)."""
    TABLE = "table"
    """A binary or ASCII table."""
    OTHER = "other"
    """Random groups and extensions of other types: passed through, never cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HduLayout:
    """Where one HDU lies and what it holds; no pixel was read to learn it."""

    index: int
    """Position in the file, the primary HDU being 0."""
    kind: HduKind
    name: str
    """EXTNAME, or empty; of a compressed image the name of the image, never COMPRESSED_IMAGE."""
    version: int
    """EXTVER, 1 where absent."""
    bitpix: int
    """Of the image: ZBITPIX for a compressed one; 8 for tables and empty HDUs."""
    naxis: tuple[int, ...]
    """Axis lengths of the image in FITS order; empty where there is no image."""
    header: Header
    """The header as it stands in the file, END and padding left out."""
    header_offset: int
    """First byte of the header in the (inflated) file."""
    data_offset: int
    """First byte of the data in the (inflated) file."""
    data_size: int
    """Bytes of the data with the padding to whole blocks."""

    @property
    def end(self) -> int:
        """First byte after the HDU."""
        return self.data_offset + self.data_size

    @property
    def is_image(self) -> bool:
        """Whether there are pixels to cut."""
        return self.kind in (HduKind.IMAGE, HduKind.COMPRESSED)
