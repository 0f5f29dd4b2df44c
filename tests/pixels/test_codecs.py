"""Every compression of every kind of pixel: to the bit what cfitsio and astropy decode.

Each case is a file, made by astropy, by cfitsio or by hand, with the stored values that are
known to be in it where it is lossless. Boxes of it are compared with the full reads of both
libraries. Where one of them does not read a case, or reads it wrongly, the case says so; why,
docs/compression.md tells.
"""

from __future__ import annotations

import bz2
import gzip
import re
import warnings
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import fitsio
import numpy as np
import pytest
from astropy.io import fits
from support.images import noise as generic_noise, primary
from support.lzw import packed
from support.tilefiles import (
    Row,
    big_endian,
    gzip_1,
    gzip_2,
    plio,
    rice,
    simple_file,
    tile_file,
    tiles_of,
)

from soda_service.fits.layout import HduKind, scan_hdus
from soda_service.geometry.pixelbox import PixelBox
from soda_service.pixels import seekindex, tiled
from soda_service.pixels.reader import open_reader
from soda_service.pixels.tiledimages import TiledImages
from soda_service.storage.cache import InflatedCache
from soda_service.storage.local import LocalSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from support.images import CardSpec

    Values = NDArray[Any]

ASTROPY: Final = "astropy"
CFITSIO: Final = "cfitsio"
BOTH: Final = (ASTROPY, CFITSIO)

TILES_2D: Final = ((61, 1), (16, 13), (61, 47), (100, 90), (7, 47))
"""Rows, ragged rectangles, the image, larger than the image, columns; in FITS order."""


@dataclass(frozen=True, slots=True)
class Case:
    """A way to compress."""

    write: Callable[[Path], None]
    agreeing: Sequence[str] = BOTH
    """The libraries that read it, and rightly."""
    stored: Values | None = None
    """What was compressed, where nothing is lost."""


CASES: Final[dict[str, Case]] = {}


def _add(
    name: str,
    write: Callable[[Path], None] | bytes,
    *,
    stored: Values | None = None,
    agreeing: Sequence[str] = BOTH,
) -> None:
    assert name not in CASES, name
    if isinstance(write, bytes):
        write = partial(_write_bytes, write)
    CASES[name] = Case(write, agreeing, stored)


def _write_bytes(content: bytes, path: Path) -> None:
    path.write_bytes(content)


# ---------------------------------------------------------------- values


def _noise(*naxis: int, dtype: str = "f4", sigma: float = 20) -> Values:
    return generic_noise(*naxis, dtype=dtype, sigma=sigma)


def _integers(dtype: str, *naxis: int) -> Values:
    """A sloping background with noise and, here and there, the largest and smallest values."""
    limits = np.iinfo(dtype)
    values = _noise(*naxis, dtype="f8", sigma=3) % 120
    if limits.bits == 64:
        values = values * 2.0**40
    stored = values.astype(dtype)
    stored.flat[5:70:13] = limits.max
    stored.flat[9:90:17] = limits.min
    return stored


def _specials(dtype: str, *naxis: int) -> Values:
    """Floats with everything that arithmetic would not keep: payloads, signs, subnormals."""
    values = _noise(*naxis, dtype=dtype)
    words = values.view(f"u{values.dtype.itemsize}").reshape(-1)
    sign = 1 << (8 * values.dtype.itemsize - 1)
    infinity = int(np.array([np.inf], dtype).view(words.dtype)[0])
    patterns = [
        infinity,
        infinity | sign,
        infinity | 1,
        infinity | sign | 12345,
        sign,
        0,
        1,
        sign | 77,
    ]
    words[3 : 3 + 11 * len(patterns) : 11] = patterns
    return values


def _with_gaps(values: Values) -> Values:
    values = values.copy()
    values[3:9, 5:11] = np.nan
    values.flat[::37] = np.nan
    return values


# ---------------------------------------------------------------- written by astropy


def _by_astropy(stored: Values, options: dict[str, object], path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hdu = fits.CompImageHDU(stored, **options)
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)


def _add_astropy(
    name: str, stored: Values, *, agreeing: Sequence[str] = BOTH, **options: object
) -> None:
    """A case that astropy writes, without loss unless it is quantised."""
    method, tile = options["compression_type"], options.pop("tile")
    assert isinstance(tile, tuple)
    options["tile_shape"] = tile[::-1]
    _add(
        f"astropy {method} {name} tiles {tile}",
        partial(_by_astropy, stored, options),
        stored=None if options.get("quantize_level") else stored,
        agreeing=agreeing,
    )


def _add_those_of_astropy() -> None:
    for dtype, method, tile in product(
        ("u1", "i2", "i4"), ("RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "NOCOMPRESS"), TILES_2D
    ):
        stored = _integers(dtype, 61, 47)
        if method == "HCOMPRESS_1":
            if min(tile) < 4:
                continue
            # Its sums of 32 bits have no room for the largest values.
            stored = stored // 4 if dtype == "i4" else stored
        agreeing = (ASTROPY,) if method == "NOCOMPRESS" else BOTH
        _add_astropy(dtype, stored, agreeing=agreeing, compression_type=method, tile=tile)
    for tile in TILES_2D:
        stored = ((_integers("i4", 61, 47) % 4096) * (_noise(61, 47) > 1020)).astype("i4")
        _add_astropy("i4", stored, compression_type="PLIO_1", tile=tile)
    for dtype, method, tile in product(("f4", "f8"), ("GZIP_1", "GZIP_2"), TILES_2D):
        stored = _specials(dtype, 61, 47)
        _add_astropy(
            f"lossless {dtype}", stored, compression_type=method, tile=tile, quantize_level=0
        )


def _add_quantised_ones_of_astropy() -> None:
    for dtype, method, dither, gaps in product(
        ("f4", "f8"), ("RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1"), (-1, 1, 2), (False, True)
    ):
        stored = _noise(61, 47, dtype=dtype)
        stored[20:24, 30:40] = 0.0
        for tile in ((16, 13), (61, 47) if method == "HCOMPRESS_1" else (61, 1)):
            _add_astropy(
                f"quantised {dtype} dither {dither} gaps {gaps}",
                _with_gaps(stored) if gaps else stored,
                compression_type=method,
                tile=tile,
                quantize_level=8,
                quantize_method=dither,
                dither_seed=9998,
            )
    _add_astropy(
        "more pixels than there are random numbers",
        _noise(150, 120),
        compression_type="RICE_1",
        tile=(150, 120),
        quantize_level=8,
        quantize_method=1,
        dither_seed=3,
    )


def _add_those_of_other_dimensions() -> None:
    cube = _integers("i2", 13, 11, 7)
    for tile in ((5, 4, 3), (13, 11, 7), (13, 1, 2), (1, 11, 1)):
        _add_astropy("cube", cube, compression_type="RICE_1", tile=tile)
        _add_astropy("cube", cube, compression_type="GZIP_2", tile=tile)
        _add_astropy(
            "quantised cube",
            _noise(13, 11, 7),
            compression_type="RICE_1",
            tile=tile,
            quantize_level=8,
            quantize_method=1,
            dither_seed=5,
        )
    stored = _integers("i2", 17, 14, 3)
    _add_astropy("cube", stored, compression_type="HCOMPRESS_1", tile=(17, 14, 1))
    stored = _integers("i4", 9, 8, 5, 3)
    for tile4 in ((5, 4, 3, 2), (9, 1, 2, 3), (9, 8, 5, 3)):
        _add_astropy(
            "four axes", stored, agreeing=(ASTROPY,), compression_type="RICE_1", tile=tile4
        )
    _add_astropy("one axis", _integers("i4", 500), compression_type="RICE_1", tile=(77,))


_add_those_of_astropy()
_add_quantised_ones_of_astropy()
_add_those_of_other_dimensions()


# ---------------------------------------------------------------- written by cfitsio


def _by_cfitsio(values: Values, path: Path, **options: object) -> None:
    with fitsio.FITS(str(path), "rw", clobber=True) as file:
        file.write(values, **options)


def _add_those_of_cfitsio() -> None:
    for dtype in ("u1", "i1", "i2", "u2", "i4", "u4"):
        for method in ("RICE", "GZIP", "GZIP_2", "HCOMPRESS", "PLIO"):
            if method == "PLIO" and dtype == "u4":
                continue
            physical = np.abs(_noise(61, 47, dtype="f8", sigma=3) % 100).astype(dtype)
            # Only cfitsio knows how cfitsio writes unsigned integers into pixel lists.
            agreeing = (CFITSIO,) if (method, dtype) == ("PLIO", "u2") else BOTH
            _add(
                f"cfitsio {method} {dtype}",
                partial(_by_cfitsio, physical, compress=method, tile_dims=[13, 16]),
                agreeing=agreeing,
            )
    for scale in (0.5, 2, 10, -30):
        for smooth in (False, True):
            for dtype in ("i2", "i4"):
                values = _noise(64, 48, dtype="f8", sigma=200).astype(dtype)
                _add(
                    f"cfitsio HCOMPRESS {dtype} scale {scale} smooth {smooth}",
                    partial(
                        _by_cfitsio,
                        values,
                        compress="HCOMPRESS",
                        tile_dims=[16, 16],
                        hcomp_scale=scale,
                        hcomp_smooth=smooth,
                    ),
                )
    for dtype in ("f4", "f8"):
        for method in ("RICE", "GZIP", "GZIP_2", "HCOMPRESS"):
            for dither in ("NO_DITHER", "SUBTRACTIVE_DITHER_1", "SUBTRACTIVE_DITHER_2"):
                for gaps in (False, True):
                    stored = _noise(61, 47, dtype=dtype)
                    stored[20:24, 30:40] = 0.0
                    _add(
                        f"cfitsio {method} quantised {dtype} {dither} gaps {gaps}",
                        partial(
                            _by_cfitsio,
                            _with_gaps(stored) if gaps else stored,
                            compress=method,
                            tile_dims=[13, 16],
                            qlevel=4,
                            qmethod=dither,
                            dither_seed=77,
                        ),
                    )
        # Constant tiles, and tiles of noise that is too large, are not quantised.
        stored = _noise(61, 47, dtype=dtype)
        stored[:20] = 3.25
        stored[30:40, :30] *= 1e30
        stored[30:40, 10] = np.nan
        _add(
            f"cfitsio RICE {dtype} with tiles that were not quantised",
            partial(_by_cfitsio, stored, compress="RICE", tile_dims=[10, 61], qlevel=4),
            agreeing=(ASTROPY,),
        )
    _add(
        "cfitsio cube",
        partial(_by_cfitsio, _integers("i4", 13, 11, 7), compress="RICE", tile_dims=[2, 4, 5]),
        stored=_integers("i4", 13, 11, 7),
    )


_add_those_of_cfitsio()


# ---------------------------------------------------------------- made by hand

_TILE: Final = (16, 13)
_RICE: Final[list[CardSpec]] = [
    ("ZNAME1", "BLOCKSIZE"),
    ("ZVAL1", 32),
    ("ZNAME2", "BYTEPIX"),
    ("ZVAL2", 4),
]


def _rice_cards(block: int, width: int) -> list[CardSpec]:
    return [("ZNAME1", "BLOCKSIZE"), ("ZVAL1", block), ("ZNAME2", "BYTEPIX"), ("ZVAL2", width)]


def _add_lossless_ones() -> None:
    for dtype in ("u1", "i2", "i4"):
        for block in (1, 16, 32, 1000):
            stored = _integers(dtype, 61, 47)
            _add(
                f"RICE_1 {dtype} blocks of {block}",
                simple_file(
                    stored, _TILE, "RICE_1", rice(block), _rice_cards(block, stored.dtype.itemsize)
                ),
                stored=stored,
            )
        stored = _integers(dtype, 61, 47)
        width = stored.dtype.itemsize
        _add(
            f"RICE_1 {dtype} settings swapped as in early files",
            simple_file(stored, _TILE, "RICE_1", rice(16), _rice_cards(width, 16)),
            stored=stored,
            agreeing=(CFITSIO,),
        )
        _add(
            f"RICE_1 {dtype} settings in the other order",
            simple_file(
                stored,
                _TILE,
                "RICE_ONE",
                rice(16),
                [("ZNAME1", "BYTEPIX"), ("ZVAL1", width), ("ZNAME2", "BLOCKSIZE"), ("ZVAL2", 16)],
            ),
            stored=stored,
        )
        _add(
            f"RICE_1 {dtype} settings without names",
            simple_file(stored, _TILE, "RICE_1", rice(16), [("ZVAL1", 16), ("ZVAL2", width)]),
            stored=stored,
            agreeing=(CFITSIO,),
        )
    stored = _integers("u1", 61, 47)
    for bitpix in (16, 32):
        _add(
            f"RICE_1 of bytes in an image of {bitpix} bits",
            tile_file(
                [Row(rice()(one)) for one in tiles_of(stored, _TILE)],
                (61, 47),
                bitpix,
                _TILE,
                "RICE_1",
                _rice_cards(32, 1),
            ),
            stored=stored.astype(f"i{bitpix // 8}"),
        )
    for method, encode in (("GZIP_1", gzip_1), ("GZIP_2", gzip_2), ("NOCOMPRESS", big_endian)):
        stored = _integers("i8", 61, 47)
        _add(
            f"{method} of 64 bits",
            simple_file(stored, _TILE, method, encode),
            stored=stored,
            agreeing=(ASTROPY,),
        )
        stored = _specials("f8", 61, 47)
        _add(
            f"{method} of doubles",
            simple_file(stored, _TILE, method, encode, [("ZQUANTIZ", "NONE")]),
            stored=stored,
            agreeing=(ASTROPY,) if method == "NOCOMPRESS" else BOTH,
        )
        stored = _integers("i2", 61, 47)
        _add(
            f"{method} of 16 bits in an image of 32",
            tile_file(
                [Row(encode(one)) for one in tiles_of(stored, _TILE)], (61, 47), 32, _TILE, method
            ),
            stored=stored.astype("i4"),
            agreeing=(ASTROPY,) if method == "NOCOMPRESS" else BOTH,
        )
    stored = _integers("i4", 61, 47)
    _add(
        "descriptors of 64 bits",
        simple_file(stored, _TILE, "RICE_1", rice(), _RICE, descriptor="Q"),
        stored=stored,
    )
    _add(
        "a gap before the heap",
        simple_file(stored, _TILE, "RICE_1", rice(), _RICE, gap=1234),
        stored=stored,
    )
    _add(
        "gzip in two members",
        simple_file(
            stored, _TILE, "GZIP_1", lambda one: gzip_1(one.ravel()[:20]) + gzip_1(one.ravel()[20:])
        ),
        stored=stored,
        agreeing=(ASTROPY,),
    )
    stored = (_integers("i4", 61, 47) % 70000) * (_noise(61, 47) > 1010)
    _add(
        "PLIO_1 with every instruction",
        simple_file(stored.astype("i4"), _TILE, "PLIO_1", plio, element="I"),
        stored=stored.astype("i4"),
    )
    _add(
        "PLIO_1 in a column of bytes",
        simple_file(stored.astype("i4"), _TILE, "PLIO_1", plio),
        stored=stored.astype("i4"),
        agreeing=(),
    )
    stored = np.abs(_integers("i2", 61, 47)) % 9000
    _add(
        "PLIO_1 of unsigned integers as cfitsio writes them",
        tile_file(
            [Row(plio(one.astype("i4") + 32768)) for one in tiles_of(stored, _TILE)],
            (61, 47),
            16,
            _TILE,
            "PLIO_1",
            [("BZERO", 32768), ("BSCALE", 1)],
            element="I",
        ),
        stored=stored,
        agreeing=(CFITSIO,),
    )


_add_lossless_ones()


_QUANTA: Final = (_noise(61, 47, dtype="i4", sigma=900) - 1000).astype("i4")
_SCALE, _ZERO = 0.37, 5.25


def _quantised(
    method: str = "",
    seed: int | None = None,
    *,
    blanks: Callable[[int], int | None] = lambda _: None,
    cards: Sequence[CardSpec] = (),
    dtype: str = "i4",
    bitpix: int = -32,
) -> bytes:
    """Tiles each with a scale and a zero of its own; *blanks* gives the ZBLANK of a row."""
    quanta = _QUANTA.astype(dtype)
    rows = []
    for row, one in enumerate(tiles_of(quanta, _TILE)):
        blank, tile = blanks(row), one.copy()
        if blank is not None:
            tile.flat[::7] = blank
        rows.append(Row(rice()(tile), scale=_SCALE + 0.01 * row, zero=_ZERO - row, blank=blank))
    more: list[CardSpec] = [*_rice_cards(32, quanta.dtype.itemsize), *cards]
    more += [("ZQUANTIZ", method)] if method else []
    more += [("ZDITHER0", seed)] if seed is not None else []
    return tile_file(rows, (61, 47), bitpix, _TILE, "RICE_1", more)


def _add_quantised_ones() -> None:
    for bitpix in (-32, -64):
        for method in ("", "NO_DITHER", "SUBTRACTIVE_DITHER_1", "SUBTRACTIVE_DITHER_2"):
            for dtype in ("i4", "i2"):
                _add(
                    f"quantised {dtype} BITPIX {bitpix} {method}",
                    _quantised(method, 5, dtype=dtype, bitpix=bitpix),
                )
            _add(
                f"ZBLANK in a column BITPIX {bitpix} {method}",
                _quantised(method, 5, bitpix=bitpix, blanks=lambda row: 100 - row),
            )
            _add(
                f"ZBLANK in the header BITPIX {bitpix} {method}",
                _quantised(method, 5, bitpix=bitpix, cards=[("ZBLANK", int(_QUANTA[7, 8]))]),
            )
    for seed in (0, 1, 9995, 10000, 12345):
        _add(f"a seed of {seed}", _quantised("SUBTRACTIVE_DITHER_1", seed))
    _add("no seed", _quantised("SUBTRACTIVE_DITHER_1"), agreeing=(CFITSIO,))
    _add(
        "BLANK beside quantised floats means nothing",
        _quantised("NO_DITHER", cards=[("BLANK", int(_QUANTA[7, 8]))]),
        agreeing=(CFITSIO,),
    )


_add_quantised_ones()


def _add_odd_ones() -> None:
    floats = _specials("f4", 61, 47)
    floats[2, 2] = -2147483648.0
    _add(
        "ZBLANK beside floats that were not quantised means nothing",
        simple_file(
            floats, _TILE, "GZIP_1", gzip_1, [("ZQUANTIZ", "NONE"), ("ZBLANK", -2147483648)]
        ),
        stored=floats,
        agreeing=(CFITSIO,),
    )
    _add(
        "floats without ZQUANTIZ and ZSCALE",
        simple_file(floats, _TILE, "GZIP_2", gzip_2),
        stored=floats,
    )
    _add(
        "ZSCALE in the header",
        tile_file(
            [Row(gzip_1(one)) for one in tiles_of(_QUANTA, _TILE)],
            (61, 47),
            -32,
            _TILE,
            "GZIP_1",
            [("ZSCALE", _SCALE), ("ZZERO", _ZERO)],
        ),
        stored=(_QUANTA * _SCALE + _ZERO).astype("f4"),
        agreeing=(),
    )
    for kind in ("f4", "f8"):
        floats = _specials(kind, 61, 47)
        letter = "E" if kind == "f4" else "D"
        bits = -8 * floats.dtype.itemsize
        _add(
            f"every tile fell back to gzip {kind}",
            tile_file(
                [Row(b"", gzip_1(one), None, 0.0, 0.0) for one in tiles_of(floats, _TILE)],
                (61, 47),
                bits,
                _TILE,
                "RICE_1",
                _RICE,
            ),
            stored=floats,
        )
        _add(
            f"every tile stands uncompressed {kind}",
            tile_file(
                [Row(b"", None, big_endian(one), 0.0, 0.0) for one in tiles_of(floats, _TILE)],
                (61, 47),
                bits,
                _TILE,
                "RICE_1",
                _RICE,
                plain=letter,
            ),
            stored=floats,
        )
        _add(
            f"some tiles in gzip, some uncompressed {kind}",
            tile_file(
                [
                    Row(
                        b"",
                        gzip_1(one) if row % 3 else b"",
                        b"" if row % 3 else big_endian(one),
                        0.0,
                        0.0,
                    )
                    for row, one in enumerate(tiles_of(floats, _TILE))
                ],
                (61, 47),
                bits,
                _TILE,
                "RICE_1",
                _RICE,
                plain=letter,
            ),
            stored=floats,
            agreeing=(),
        )
    _add(
        "integers that stand uncompressed",
        tile_file(
            [Row(b"", None, big_endian(one)) for one in tiles_of(_QUANTA, _TILE)],
            (61, 47),
            32,
            _TILE,
            "RICE_1",
            _RICE,
            plain="J",
        ),
        stored=_QUANTA,
    )
    marked = _QUANTA.copy()
    marked[3:6, 3:9] = -9
    _add(
        "integers with a ZBLANK of each tile become BLANK",
        tile_file(
            [
                Row(rice()(np.where(one == -9, 40000 + row, one).astype("i4")), blank=40000 + row)
                for row, one in enumerate(tiles_of(marked, _TILE))
            ],
            (61, 47),
            32,
            _TILE,
            "RICE_1",
            [*_RICE, ("BLANK", -9)],
        ),
        stored=marked,
        agreeing=(ASTROPY,),
    )
    _add(
        "integers with a BLANK stay as they are",
        tile_file(
            [Row(rice()(one)) for one in tiles_of(marked, _TILE)],
            (61, 47),
            32,
            _TILE,
            "RICE_1",
            [*_RICE, ("BLANK", -9), ("BSCALE", 0.5), ("BZERO", 3.0)],
        ),
        stored=marked,
    )


_add_odd_ones()


# ---------------------------------------------------------------- oracles


def _read_by_astropy(path: Path) -> Values:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(path, do_not_scale_image_data=True, memmap=False) as hdus:
            return np.array(hdus[1].data)


def _read_by_cfitsio(path: Path) -> Values:
    """Unscaled: the cards that scale are made unknown, and put back for unsigned pixel lists."""
    content = path.read_bytes()
    unsigned = b"'PLIO_1" in content and re.search(rb"BZERO   = +32768", content)
    if not unsigned:
        for keyword in (b"BSCALE  =", b"BZERO   ="):
            content = content.replace(keyword, b"X" + keyword[1:])
    copy = path.with_suffix(".raw.fits")
    copy.write_bytes(content)
    with fitsio.FITS(str(copy)) as file:
        values = np.array(file[1].read())
    return (values.astype("i4") - 32768).astype("i2") if unsigned else values


def _bytes(values: Values) -> bytes:
    return values.astype(values.dtype.newbyteorder(">")).tobytes()


def _boxes(naxis: tuple[int, ...], seed: int) -> list[PixelBox]:
    generator = np.random.default_rng(seed)
    boxes = [PixelBox.whole(naxis), PixelBox((0,) * len(naxis), (1,) * len(naxis))]
    boxes.append(PixelBox(tuple(length - 1 for length in naxis), naxis))
    for _ in range(4):
        pairs = [sorted(generator.choice(length + 1, 2, replace=False)) for length in naxis]
        boxes.append(PixelBox(tuple(int(a) for a, _ in pairs), tuple(int(b) for _, b in pairs)))
    return boxes


@pytest.mark.parametrize("name", CASES)
def test_pixels_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What was compressed, what both libraries read, and any box of it."""
    case = CASES[name]
    path = tmp_path / "image.fits"
    case.write(path)
    with LocalSource.open(str(path)) as source:
        layout = list(scan_hdus(source.read, source.version.size))[-1]
        assert layout.kind is HduKind.COMPRESSED
        reader = open_reader(layout, source)
        whole = b"".join(reader.bands(PixelBox.whole(layout.naxis), 4096))
        if case.stored is not None:
            assert whole == _bytes(case.stored)
        if ASTROPY in case.agreeing:
            assert whole == _bytes(_read_by_astropy(path))
        if CFITSIO in case.agreeing:
            assert whole == _bytes(_read_by_cfitsio(path))
        values = np.frombuffer(whole, f"S{abs(layout.bitpix) // 8}").reshape(layout.naxis[::-1])
        monkeypatch.setattr(seekindex, "STEP", 8)  # so that rows are long
        images = TiledImages(10**6)
        images.get(layout, source).decoded_in_vain = 10**6
        indexed = open_reader(layout, source, images)
        images.wait()
        for number, box in enumerate(_boxes(layout.naxis, len(name))):
            # Slabs of one pixel, of some rows, of everything.
            monkeypatch.setattr(tiled, "_SLAB", (1, 700, 10**6)[number % 3])
            assert b"".join(reader.bands(box, 64)) == values[box.slices].tobytes()
            assert b"".join(indexed.bands(box, 64)) == values[box.slices].tobytes()


@pytest.mark.parametrize(
    ("name", "library"),
    [
        (name, library)
        for name, case in CASES.items()
        for library in BOTH
        if library not in case.agreeing
    ],
)
def test_the_libraries_still_differ(tmp_path: Path, name: str, library: str) -> None:
    """So that docs/compression.md stays true: who does not agree reads nothing, or otherwise."""
    case = CASES[name]
    path = tmp_path / "image.fits"
    case.write(path)
    with LocalSource.open(str(path)) as source:
        layout = list(scan_hdus(source.read, source.version.size))[-1]
        whole = b"".join(open_reader(layout, source).bands(PixelBox.whole(layout.naxis), 4096))
    try:
        other = _bytes((_read_by_astropy if library == ASTROPY else _read_by_cfitsio)(path))
    except Exception:  # noqa: BLE001 - a library raises what it likes
        return
    assert other != whole


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        ("gz", gzip.compress),
        ("gz", lambda content: gzip.compress(content[:5000]) + gzip.compress(content[5000:])),
        ("bz2", bz2.compress),
        ("Z", packed),
    ],
)
@pytest.mark.parametrize("name", ["plain", "RICE_1 i4 blocks of 32"])
def test_files_compressed_as_a_whole(
    tmp_path: Path, name: str, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    """Also around compressed images."""
    stored = _integers("i4", 61, 47)
    path = tmp_path / f"image.fits.{suffix}"
    if name == "plain":
        path.write_bytes(primary(stored))
    else:
        CASES[name].write(path)
    path.write_bytes(compress(path.read_bytes()))
    with InflatedCache(tmp_path / "cache", 10**9).open(str(path)) as source:
        layout = list(scan_hdus(source.read, source.version.size))[-1]
        for box in _boxes(layout.naxis, 3):
            pixels = b"".join(open_reader(layout, source).bands(box, 4096))
            assert pixels == _bytes(stored[box.slices])
