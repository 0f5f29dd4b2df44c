"""Compressed files in the eyes of others: astropy, cfitsio, funpack."""

from __future__ import annotations

import gzip
import io
import re
import subprocess
import warnings
from typing import TYPE_CHECKING, Any

import fitsio
import numpy as np
from astropy.io import fits
from support.images import FAMILIES
from support.programs import require_program

from soda_service.fits.layout import scan_hdus
from soda_service.render.fits import FitsPart

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from soda_service.fits.layout import HduLayout

    Stored = NDArray[np.generic]


def inflated(name: str) -> bytes:
    """The bytes of a family of the zoo."""
    raw = FAMILIES[name]()
    return gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw


def layouts_of(raw: bytes) -> list[HduLayout]:
    """The HDUs of a file of these bytes."""
    return list(scan_hdus(lambda start, length: raw[start : start + length], len(raw)))


def parts_of(raw: bytes, *, piece: int = 1000) -> list[FitsPart]:
    """A whole file as the parts of an answer, its data in pieces of so many bytes."""
    return [
        FitsPart(
            header=layout.header.render(),
            data=[
                raw[at : min(at + piece, layout.end)]
                for at in range(layout.data_offset, layout.end, piece)
            ],
            data_size=layout.data_size,
        )
        for layout in layouts_of(raw)
    ]


def images_by_astropy(raw: bytes) -> dict[str, Stored]:
    """The stored values of every image, big-endian, by EXTNAME and EXTVER."""
    with warnings.catch_warnings():
        # Astropy complains of what the zoo does on purpose.
        warnings.simplefilter("ignore")
        with fits.open(io.BytesIO(raw), do_not_scale_image_data=True, memmap=False) as hdus:
            return {
                f"{hdu.header.get('EXTNAME', '')},{hdu.ver}": _big_endian(hdu.data)
                for hdu in hdus
                if hdu.is_image and hdu.data is not None
            }


def image_by_cfitsio(path: Path, hdu: int) -> Stored:
    """The stored values of an image without BSCALE and BZERO, big-endian."""
    with fitsio.FITS(str(path), ignore_empty=False) as file:
        image = file[hdu]
        header = image.read_header()
        assert not {"BZERO", "BSCALE"} & set(header)  # fitsio scales what it reads
        # Of more than three axes cfitsio gives sections only, were they the whole.
        whole = image[(slice(None),) * len(image.get_dims())] if len(image.get_dims()) > 3 else None
        return _big_endian(image.read() if whole is None else whole)


def unpacked(path: Path) -> bytes:
    """What funpack makes of a file; the test is skipped where it is not installed."""
    target = path.with_suffix(".unpacked")
    target.unlink(missing_ok=True)
    command = [require_program("funpack"), "-O", str(target), str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return target.read_bytes()


def complaints_about(path: Path) -> set[str]:
    """What fitsverify says of a file, numbers of cards left out; skipped without the program."""
    command = [require_program("fitsverify"), "-l", str(path)]
    told = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    lines = [line.strip() for line in told.splitlines() if line.startswith("*** ")]
    return {re.sub(r"#[0-9]+", "#", line) for line in lines}


def _big_endian(data: Any) -> Stored:
    array = np.asarray(data)
    return array.astype(array.dtype.newbyteorder(">"))
