"""Where things lie in a FITS file: one `HduLayout` for each HDU, from headers alone.

Source: FITS 4.0 §3 (file organisation), §4.4.1 (mandatory keywords), §10 (tile compression).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from soda_service.errors import CorruptFileError
from soda_service.fits.cards import BLOCK_SIZE, Header, find_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["BLOCK_SIZE", "HduKind", "HduLayout", "scan_hdus"]

_GULP = 10 * BLOCK_SIZE
"""Bytes of the first reading of a header: most headers need no second one."""
_LARGEST_HEADER = 16 * 1024 * 1024
_LARGEST_AXIS_COUNT = 999
_LARGEST_DATA = 2**63
_BITPIX = (8, 16, 32, 64, -32, -64)
_IMAGE_EXTENSIONS = ("IMAGE", "IUEIMAGE")
_TABLE_EXTENSIONS = ("BINTABLE", "TABLE", "A3DTABLE", "3DTABLE")
_LFS_POINTER = b"version https://git-lfs"


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
    """EXTVER, 1 where absent or absurd."""
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
    """Bytes of the data with the padding to whole blocks, as far as the file has it."""

    @property
    def end(self) -> int:
        """First byte after the HDU."""
        return self.data_offset + self.data_size

    @property
    def is_image(self) -> bool:
        """Whether there are pixels to cut."""
        return self.kind in (HduKind.IMAGE, HduKind.COMPRESSED)


def scan_hdus(read_at: Callable[[int, int], bytes], size: int) -> Iterator[HduLayout]:
    """The HDUs of a FITS file of *size* bytes, in their order; only headers are read.

    *read_at(start, length)* gives the bytes from *start*, fewer than *length* at the end of
    the file. What follows the last HDU and is no extension (special records, FITS 4.0 §3.5,
    zeros, junk) is left alone. Raises CorruptFileError, which names the HDU and the byte,
    where the file is not FITS, is truncated or contradicts itself; the HDUs before the
    damage have been given by then.
    """
    headers = _HeaderReader(read_at, size)
    offset = index = 0
    while index == 0 or headers.peek(offset, 8) == b"XTENSION":
        where = f"HDU {index} at byte {offset}"
        if index == 0:
            _check_beginning(headers.peek(0, 80))
        header, data_offset = headers.read(offset, where)
        hdu = _layout(header, index=index, offset=offset, data_offset=data_offset, where=where)
        if data_offset > size:
            raise CorruptFileError(f"the file ends inside the header of {where}")
        missing = data_offset + hdu.data_size - size
        if missing > 0:
            raise CorruptFileError(
                f"{where} is truncated: {missing} of its {hdu.data_size} bytes of data are missing"
            )
        yield _padded(hdu, size)
        offset = data_offset + hdu.data_size + -hdu.data_size % BLOCK_SIZE
        index += 1


class _HeaderReader:
    """Headers out of a file, read in gulps that serve the next header too where they reach it."""

    def __init__(self, read_at: Callable[[int, int], bytes], size: int) -> None:
        self._read_at = read_at
        self._size = size
        self._start = 0
        self._bytes = b""

    def peek(self, start: int, length: int) -> bytes:
        """The bytes from *start*, fewer at the end of the file."""
        if start >= self._size:
            return b""
        inside = start - self._start
        if inside < 0 or inside + length > len(self._bytes):
            self._start = start
            self._bytes = self._read_at(start, max(length, min(_GULP, self._size - start)))
            inside = 0
        return self._bytes[inside : inside + length]

    def read(self, start: int, where: str) -> tuple[Header, int]:
        """The header at *start* and the offset of the data after it."""
        raw = self._bytes[start - self._start :] if start >= self._start else b""
        length = max(_GULP, len(raw))
        while (end := find_end(raw, 0)) is None:
            if len(raw) >= _LARGEST_HEADER:
                raise CorruptFileError(f"the header of {where} has no END in {len(raw)} bytes")
            if start + len(raw) >= self._size:
                raise CorruptFileError(
                    f"the header of {where} has no END: the file ends at byte {self._size}"
                )
            more = self._read_at(start + len(raw), min(length, self._size - start - len(raw)))
            if not more:
                raise CorruptFileError(f"the file ends inside the header of {where}")
            raw += more
            length = len(raw)
            self._start, self._bytes = start, raw
        data_offset = start + -(-(end + 1) // BLOCK_SIZE) * BLOCK_SIZE
        return Header(raw[:end]), data_offset


def _check_beginning(beginning: bytes) -> None:
    if beginning.startswith(b"SIMPLE  ="):
        return
    if not beginning:
        raise CorruptFileError("the file is empty: it does not begin with SIMPLE")
    kind = ""
    if beginning.startswith(_LFS_POINTER):
        kind = "it is a Git LFS pointer, not the file itself: "
    elif beginning.startswith((b"\x1f\x8b", b"BZh", b"\x1f\x9d")):
        kind = "it is compressed: "
    raise CorruptFileError(f"{kind}it does not begin with SIMPLE")


def _layout(header: Header, *, index: int, offset: int, data_offset: int, where: str) -> HduLayout:
    """The layout, its data size without padding."""
    bitpix, axes = _array(header, "", where)
    extension = "" if index == 0 else (header.string("XTENSION") or "")
    groups = index == 0 and header.get("GROUPS") is True and axes[:1] == (0,)
    pcount = _count(header, "PCOUNT", 0, where) if index or groups else 0
    gcount = _count(header, "GCOUNT", 1, where) if index or groups else 1
    elements = _product(axes[1:] if groups else axes, where) if axes else 0
    data_size = abs(bitpix) // 8 * gcount * (pcount + elements)
    if data_size >= _LARGEST_DATA:
        raise CorruptFileError(f"{where} claims more data than any file can hold")

    kind = _kind(header, extension, axes, plain=pcount == 0 and gcount == 1)
    if groups:
        kind = HduKind.OTHER
    if kind is HduKind.COMPRESSED:
        bitpix, axes = _array(header, "Z", where)
        _product(axes, where)
        if not axes or 0 in axes:
            kind = HduKind.TABLE
    is_image = kind in (HduKind.IMAGE, HduKind.COMPRESSED)
    version = header.integer("EXTVER")
    return HduLayout(
        index=index,
        kind=kind,
        name=_name(header, kind),
        version=version if version is not None and abs(version) < 2**31 else 1,
        bitpix=bitpix if is_image else 8,
        naxis=axes if is_image else (),
        header=header,
        header_offset=offset,
        data_offset=data_offset,
        data_size=data_size,
    )


def _kind(header: Header, extension: str, axes: tuple[int, ...], *, plain: bool) -> HduKind:
    """*plain*: no group parameters, one group."""
    if extension in _TABLE_EXTENSIONS:
        compressed = extension == "BINTABLE" and header.get("ZIMAGE") is True
        return HduKind.COMPRESSED if compressed else HduKind.TABLE
    if extension and extension not in _IMAGE_EXTENSIONS:
        return HduKind.OTHER
    if not plain:
        return HduKind.OTHER
    return HduKind.IMAGE if axes and 0 not in axes else HduKind.EMPTY


def _array(header: Header, prefix: str, where: str) -> tuple[int, tuple[int, ...]]:
    """BITPIX and the axis lengths, of a compressed image with *prefix* Z."""
    bitpix = _integer(header, f"{prefix}BITPIX", where)
    if bitpix not in _BITPIX:
        raise CorruptFileError(f"{where}: {prefix}BITPIX = {_short(bitpix)} is not legal")
    count = _integer(header, f"{prefix}NAXIS", where)
    if not 0 <= count <= _LARGEST_AXIS_COUNT:
        raise CorruptFileError(f"{where}: {prefix}NAXIS = {_short(count)} is not legal")
    keywords = [f"{prefix}NAXIS{axis}" for axis in range(1, count + 1)]
    return bitpix, tuple(_count(header, keyword, None, where) for keyword in keywords)


def _count(header: Header, keyword: str, default: int | None, where: str) -> int:
    if default is not None and keyword not in header:
        return default
    value = _integer(header, keyword, where)
    if not 0 <= value < _LARGEST_DATA:
        raise CorruptFileError(f"{where}: {keyword} = {_short(value)} is not legal")
    return value


def _integer(header: Header, keyword: str, where: str) -> int:
    value = header.integer(keyword)
    if value is None:
        state = "is not an integer" if keyword in header else "is missing"
        raise CorruptFileError(f"{where}: {keyword} {state}")
    return value


def _product(axes: tuple[int, ...], where: str) -> int:
    if 0 in axes:
        return 0
    product = 1
    for axis in axes:
        product *= axis
        if product >= _LARGEST_DATA:
            raise CorruptFileError(f"{where}: its axes claim more than any file can hold")
    return product


def _name(header: Header, kind: HduKind) -> str:
    """EXTNAME; where several stand in a compressed image, the one that is the image's own."""
    names = [str(value).strip() for value in header.values("EXTNAME") if value is not None]
    if kind is HduKind.COMPRESSED:
        names = [name for name in names if name != "COMPRESSED_IMAGE"]
    return names[0] if names else ""


def _padded(hdu: HduLayout, size: int) -> HduLayout:
    padded = hdu.data_size + -hdu.data_size % BLOCK_SIZE
    return replace(hdu, data_size=min(padded, size - hdu.data_offset))


def _short(number: int) -> str:
    text = str(number)
    return text if len(text) <= 24 else f"{text[:20]}…"
