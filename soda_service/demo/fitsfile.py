"""HDUs to the bytes of a FITS file, the same bytes whenever and wherever it is done.

astropy stamps the time into checksum comments; here every card says a fixed date.
"""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

WRITTEN = "2026-01-01T00:00:00"
"""The DATE of every file."""

Card = tuple[str, Any, str]
"""Keyword, value, comment; a keyword of more than eight characters becomes a HIERARCH card."""


def header_of(cards: Iterable[Card]) -> fits.Header:
    """A header with these cards, in this order; COMMENT and HISTORY may repeat."""
    header = fits.Header()
    for keyword, value, comment in cards:
        if keyword == "COMMENT":
            header.add_comment(value)
        elif keyword == "HISTORY":
            header.add_history(value)
        else:
            needs_hierarch = len(keyword) > 8 or "." in keyword
            header[f"HIERARCH {keyword}" if needs_hierarch else keyword] = (value, comment)
    return header


def primary_image(data: NDArray[np.generic], cards: Iterable[Card]) -> Any:
    """A primary HDU with an image in it."""
    return fits.PrimaryHDU(data, header_of(cards))


def empty_primary(cards: Iterable[Card]) -> Any:
    """A primary HDU of cards alone."""
    return fits.PrimaryHDU(header=header_of(cards))


def plain_image(data: NDArray[np.generic], cards: Iterable[Card], *, name: str) -> Any:
    """An uncompressed image extension."""
    return fits.ImageHDU(data, header_of(cards), name=name, ver=1)


def lossless_image(data: NDArray[np.generic], cards: Iterable[Card], *, name: str) -> Any:
    """A tile-compressed image HDU that gives every bit back: RICE for integers, else GZIP_2."""
    header = header_of([*cards, ("EXTVER", 1, "")])
    width = data.shape[-1]
    if data.dtype.kind == "f":
        return fits.CompImageHDU(
            data, header, name=name, compression_type="GZIP_2", quantize_level=0,
            tile_shape=(32, width),
        )  # fmt: skip
    return fits.CompImageHDU(
        data, header, name=name, compression_type="RICE_1", tile_shape=(32, width)
    )


def fits_bytes(hdus: Sequence[Any]) -> bytes:
    """The whole file, with CHECKSUM and DATASUM in every HDU."""
    first = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(first)
    return _finished(first.getvalue())


def packed_bytes(
    data: NDArray[np.int16], cards: Sequence[Card], *, scaling: Sequence[Card]
) -> bytes:
    """A file as `fpack` makes it of a single 16-bit image: an empty primary, RICE by rows.

    *scaling* are the cards BSCALE, BZERO and BLANK, which must not touch the stored values.
    """
    packed = fits.CompImageHDU(
        data, header_of(cards), compression_type="RICE_1", tile_shape=(1, data.shape[1])
    )
    for keyword, value, comment in scaling:
        packed.header[keyword] = (value, comment)
    first = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(first)
    return _finished(first.getvalue(), _as_packed_primary)


def gzipped(content: bytes) -> bytes:
    """*content* in the gzip format, without name and time."""
    return gzip.compress(content, compresslevel=6, mtime=0)


def _as_packed_primary(hdus: Any) -> None:
    """What was compressed was a primary array, so the table says so (FITS 4.0 §10.1.2)."""
    table = hdus[1].header
    table.set("ZSIMPLE", True, "the image was a primary array", before="ZTENSION")
    table.set("ZEXTEND", True, "extensions may follow", after="ZNAXIS2")
    for keyword in ("ZTENSION", "ZPCOUNT", "ZGCOUNT"):
        del table[keyword]


def _finished(content: bytes, change: Callable[[Any], None] | None = None) -> bytes:
    """The file *content* after *change*, with checksums, and free of the time of day.

    Compressed images are seen as the tables that hold them: it is those that have checksums.
    """
    buffer = bytearray(content)
    with fits.open(io.BytesIO(content), disable_image_compression=True, memmap=False) as hdus:
        for hdu in hdus:
            if hdu.header.get("ZCMPTYPE", "").startswith("GZIP"):
                _forget_times(buffer, hdu.fileinfo()["datLoc"], hdu.header)
    finished = io.BytesIO()
    with fits.open(io.BytesIO(buffer), disable_image_compression=True, memmap=False) as hdus:
        if change is not None:
            change(hdus)
        for hdu in hdus:
            hdu.add_checksum(when=WRITTEN)
        hdus.writeto(finished)
    return finished.getvalue()


def _forget_times(buffer: bytearray, start: int, header: fits.Header) -> None:
    """Set the times in the gzip streams of all tiles to zero (RFC 1952 §2.3: bytes 4 to 7).

    *start* is where the table lies in *buffer*; its one column holds a count and an offset
    into the heap for each tile.
    """
    rows, width = header["NAXIS2"], header["NAXIS1"]
    assert (header["TFIELDS"], width) == (1, 8)
    tiles = np.frombuffer(buffer, ">i4", count=2 * rows, offset=start).reshape(rows, 2)
    heap = start + header.get("THEAP", rows * width)
    for offset in tiles[:, 1].tolist():
        buffer[heap + offset + 4 : heap + offset + 8] = bytes(4)
