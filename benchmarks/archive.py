"""The files that the benchmarks cut: many of a survey's size, and one large one."""

from __future__ import annotations

import ctypes
import mmap
from contextlib import contextmanager
from dataclasses import dataclass
from gzip import compress
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_libc = ctypes.CDLL(None)
_libc.mlock.argtypes = (ctypes.c_void_p, ctypes.c_size_t)

AUTHORITY = "bench.invalid"
NAXIS = 2048
LARGE_NAXIS = 16_384
CARDS = 250
"""Cards of a header, as surveys have them."""
_STRUCTURE = ("SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2")
"""What a header begins with."""
SCALE = 0.2 / 3600
"""Degrees a pixel."""


@dataclass(frozen=True, slots=True)
class Field:
    """One file and where it lies on the sky."""

    path: Path
    lon: float
    lat: float
    naxis: int

    @property
    def identifier(self) -> str:
        """The DID that ingest gives it."""
        return f"ivo://{AUTHORITY}/{self.path.parent.name}?{self.path.name}"


def write_fields(
    folder: Path,
    *,
    count: int,
    naxis: int = NAXIS,
    planes: int = 0,
    depth: int = 0,
    tile: tuple[int, int] | None = None,
    gzip: bool = False,
) -> list[Field]:
    """*count* images, one half plain TAN and one half TAN-SIP, spread over the sky.

    With *planes* each file is an empty primary HDU and that many images; *depth* makes a cube
    of it; *tile* (rows, columns) compresses it by RICE, and *gzip* the whole file.
    """
    folder.mkdir(parents=True)
    chance = np.random.default_rng(1)
    shape = (depth, naxis, naxis) if depth else (naxis, naxis)
    image = chance.normal(100, 5, shape).astype(">f4")
    pixels = image.tobytes()
    compressed = _compressed(image, tile) if tile is not None else None
    fields = []
    for number in range(count):
        lon, lat = (number * 137.508) % 360, -60 + 120 * number / count
        header = _header(lon, lat, naxis, sip=bool(number % 2))
        if depth:
            header["NAXIS"] = 3
            header.set("NAXIS3", depth, after="NAXIS2")
            header["CTYPE3"], header["CRVAL3"], header["CRPIX3"] = "FREQ", 1.4e9, 1.0
            header["CDELT3"], header["CUNIT3"] = 1e6, "Hz"
        path = folder / f"field-{number:04}.fits"
        if planes:
            primary = fits.PrimaryHDU(header=fits.Header([("OBSERVER", "nobody")]))
            images = [fits.ImageHDU(image, header, name=f"PLANE{one}") for one in range(planes)]
            fits.HDUList([primary, *images]).writeto(path)
        elif compressed is not None:
            path = path.with_name(path.name + ".fz")
            table = compressed[0].copy()
            table.update(header[len(_STRUCTURE) :])
            headers = fits.PrimaryHDU().header.tostring() + table.tostring()
            path.write_bytes(headers.encode("ascii") + compressed[1])
        elif gzip:
            path = path.with_name(path.name + ".gz")
            path.write_bytes(compress(header.tostring().encode("ascii") + _padded(pixels), 1))
        else:
            path.write_bytes(header.tostring().encode("ascii") + _padded(pixels))
        fields.append(Field(path, lon, lat, naxis))
    return fields


@contextmanager
def in_memory(paths: Iterable[Path]) -> Iterator[None]:
    """Keep the pages of these files in the page cache, as far as the system lets us.

    Some machines, virtual ones above all, throw out what has not been used for seconds,
    however much memory is free; what is measured as warm would be cold now and then.
    """
    held = []
    for path in paths:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        view = np.frombuffer(mapped, np.uint8)
        if _libc.mlock(view.ctypes.data, len(view)):
            view.sum()  # not ours to lock: at least it is there now
        held.append(view)
    try:
        yield
    finally:
        held.clear()  # which unlocks them


def _compressed(image: NDArray[np.float32], tile: tuple[int, int]) -> tuple[fits.Header, bytes]:
    """Header and data of the table of tiles of *image*, which all files have in common."""
    hdu = fits.CompImageHDU(image, compression_type="RICE_1", tile_shape=tile, quantize_level=16)
    written = BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(written)
    content = written.getvalue()
    with fits.open(BytesIO(content), disable_image_compression=True) as hdus:
        return hdus[1].header.copy(), content[hdus[1].fileinfo()["datLoc"] :]


def write_large(folder: Path) -> Field:
    """One image of a little over a gigabyte; without holes, which no file of an archive has."""
    folder.mkdir(parents=True)
    path = folder / "large.fits"
    header = _header(10, 10, LARGE_NAXIS, sip=False).tostring().encode("ascii")
    row = np.random.default_rng(1).normal(100, 5, LARGE_NAXIS).astype(">f4").tobytes()
    with path.open("wb") as file:
        file.write(header)
        for _ in range(LARGE_NAXIS // 64):
            file.write(64 * row)
        file.write(bytes(-LARGE_NAXIS * len(row) % 2880))
    return Field(path, 10, 10, LARGE_NAXIS)


def _header(lon: float, lat: float, naxis: int, *, sip: bool) -> fits.Header:
    header = fits.PrimaryHDU().header
    header["BITPIX"] = -32
    header["NAXIS"] = 2
    header.set("NAXIS1", naxis, after="NAXIS")
    header.set("NAXIS2", naxis, after="NAXIS1")
    suffix = "-SIP" if sip else ""
    header["CTYPE1"], header["CTYPE2"] = f"RA---TAN{suffix}", f"DEC--TAN{suffix}"
    header["CRVAL1"], header["CRVAL2"] = lon, lat
    header["CRPIX1"], header["CRPIX2"] = naxis / 2 + 0.37, naxis / 2 - 0.21
    header["CD1_1"], header["CD1_2"] = -SCALE * 0.98, SCALE * 0.17
    header["CD2_1"], header["CD2_2"] = SCALE * 0.17, SCALE * 0.98
    header["RADESYS"] = "ICRS"
    if sip:
        header["A_ORDER"] = header["B_ORDER"] = 2
        header["A_2_0"], header["A_1_1"], header["B_0_2"] = 2e-7, -1e-7, 3e-7
    for number in range(CARDS - len(header)):
        header[f"META{number:03}"] = (number * 1.5, "of the observation")
    return header


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 2880)
