"""Random damage done to files, headers and queries: `python tests/hostile/fuzz.py --help`.

A target takes bytes and either understands them or refuses them with the error that its room
promises; anything else is a finding: another exception, the death of the process, a hang,
memory without bound. Inputs are files of the zoo with cards and bytes changed at random. Work
is done in a process of its own that notes each input before it is tried, so that an input
that kills it is known. With atheris installed (`pip install atheris`) `--guided` lets the
coverage of the package's lines choose what to change.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from soda_service.config import CollectionsFile, Settings
    from soda_service.cutout.cutter import Cutter
    from soda_service.cutout.request import CutoutRequest
    from soda_service.fits.layout import HduLayout

_ROOT: Final = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(_ROOT), str(_ROOT / "tests")]

INPUT_SECONDS: Final = 10
"""Longest that any input may take."""
MEMORY: Final = 1_000_000_000
"""Bytes by which no single input may raise the highest memory of the process."""
_ADDRESS_SPACE: Final = 6_000_000_000
_HIGHEST: Final = re.compile(rb"VmHWM:\s+([0-9]+) kB")


@dataclass(frozen=True, slots=True)
class Target:
    """Something that takes bytes."""

    name: str
    try_one: Callable[[bytes], bool]
    """Whether the input was understood; raises what should not happen."""
    seeds: Callable[[], Sequence[bytes]]
    change: Callable[[random.Random, bytes], bytes]


# ---------------------------------------------------------------- changes

_NUMBERS: Final = (
    b"0", b"1", b"-1", b"2", b"3", b"8", b"16", b"-32", b"-64", b"99", b"999", b"1000", b"65536",
    b"2147483647", b"2147483648", b"-2147483648", b"4294967296", b"9223372036854775807",
    b"9223372036854775808", b"99999999999999999999999999", b"1E300", b"-1E300", b"1E-300", b"1D99",
    b"1E999", b"NaN", b"Inf", b"-Inf", b"0.0", b"-0.0", b"0.5", b"90.0", b"180.0", b"1.", b".",
    b"+", b"1E", b"1 2", b"0x10", b"T", b"F", b"", b"(1.0, 2.0)", b"1_000", b"\xb2", b"\x00",
)  # fmt: skip
_TEXTS: Final = (
    b"RA---TAN", b"DEC--TAN", b"RA---TPV", b"DEC--TPV", b"RA---ZPN", b"DEC--ZPN", b"GLON-CAR",
    b"GLAT-CAR", b"RA---TNX", b"DEC--ZPX", b"RA---HPX", b"RA---TAN-SIP", b"DEC--TAN-SIP", b"FREQ",
    b"WAVE-TAB", b"VOPT-F2W", b"WAVE-GRI", b"TIME", b"UTC", b"STOKES", b"CUBEFACE", b"LINEAR",
    b"deg", b"m", b"Hz", b"arcsec", b"furlong", b"m" * 67, b"LOOKUP", b"TPD", b"Polynomial",
    b"EXTVER: 1", b"NAXES: 2", b"AXIS.1: 9000", b"OFFSET.1: 1e300", b"TPD.FWD.59: 1",
    b"TERM.1.COEFF: 1", b"NTERMS: 99999", b"IMAGE", b"BINTABLE", b"TABLE", b"RICE_1", b"GZIP_1",
    b"GZIP_2", b"HCOMPRESS_1", b"PLIO_1", b"NOCOMPRESS", b"NO_DITHER", b"SUBTRACTIVE_DITHER_2",
    b"1PB(9)", b"1QI(99)", b"1D", b"PB", b"0J", b"9999999999E", b"[1:5,2:6]", b"[5:1,*]", b"[:,:]",
    b"FK4", b"FK5", b"GAPPT", b"LSRK", b"TDB", b"2000-13-45", b"2017-09-04T00:00:00", b"",
    b"a text that goes on and on and on and on and on and on and&", b"\xff\xfe", b"it''s", b"'",
    b'wtype=tnx axtype=ra lngcor = "3. 9. 9. 2. 1 1 1 1 1 1"', b"%s%n%x", b"../../etc/passwd",
)  # fmt: skip
_KEYWORDS: Final = (
    b"SIMPLE", b"XTENSION", b"BITPIX", b"NAXIS", b"NAXIS1", b"NAXIS2", b"NAXIS3", b"NAXIS999",
    b"PCOUNT", b"GCOUNT", b"GROUPS", b"EXTEND", b"EXTNAME", b"EXTVER", b"INHERIT", b"TFIELDS",
    b"THEAP", b"TFORM1", b"TTYPE1", b"TDIM1", b"ZIMAGE", b"ZBITPIX", b"ZNAXIS", b"ZNAXIS1",
    b"ZNAXIS2", b"ZTILE1", b"ZTILE2", b"ZCMPTYPE", b"ZNAME1", b"ZVAL1", b"ZVAL2", b"ZQUANTIZ",
    b"ZDITHER0", b"ZBLANK", b"ZSCALE", b"ZZERO", b"BLANK", b"BSCALE", b"BZERO", b"WCSAXES",
    b"CTYPE1", b"CTYPE2", b"CTYPE3", b"CUNIT1", b"CRPIX1", b"CRPIX2", b"CRVAL1", b"CRVAL2",
    b"CDELT1", b"CDELT2", b"CD1_1", b"CD1_2", b"PC2_1", b"PC001002", b"CROTA2", b"PV1_1", b"PV2_1",
    b"PV2_99", b"PS3_0", b"PS3_1", b"PV3_1", b"LONPOLE", b"LATPOLE", b"RADESYS", b"EQUINOX",
    b"EPOCH", b"A_ORDER", b"B_ORDER", b"A_2_0", b"A_9_9", b"AP_ORDER", b"CPDIS1", b"CPDIS2", b"DP1",
    b"DP2", b"CQDIS1", b"DQ1", b"D2IMDIS1", b"D2IM1", b"WAT1_001", b"WAT2_001", b"RESTFRQ",
    b"SPECSYS", b"VELOSYS", b"MJDREF", b"DATEREF", b"TIMESYS", b"TIMEUNIT", b"AMDX1", b"PPO3",
    b"CNPIX1", b"PLTRAH", b"LTV1", b"LTM1_1", b"DATASEC", b"CCDSEC", b"CRPIX1A", b"CTYPE1A",
    b"CONTINUE", b"COMMENT", b"HISTORY", b"HIERARCH", b"END", b"", b"DATE-OBS", b"MJD-OBS",
)  # fmt: skip

_RECORD: Final = re.compile(rb"((DP|DQ|D2IM)[1-9][A-Z ] {1,4})= '(?:([A-Z0-9_.]+): )?")
"""A record of a distortion: keyword, its family, and the field that it gives."""
_KINDS: Final = (
    b"TPD", b"TPV", b"SIP", b"DSS", b"WAT-TNX", b"WAT-ZPX", b"Polynomial", b"Polynomial*",
    b"Lookup", b"LOOKUP", b"Template", b"tpd", b"TPU", b"",
)  # fmt: skip
_FIELDS: Final = (
    b"NAXES", b"DOCORR", b"AXIS.#", b"OFFSET.#", b"SCALE.#", b"EXTVER", b"NTERMS", b"NAUX",
    b"TERM.#.COEFF", b"TERM.#.VAR.#", b"TERM.#.AUX.#", b"AUX.#.COEFF.#", b"AUX.#.POWER.#",
    b"TPD.FWD.#", b"TPD.REV.#", b"TPV.#", b"SIP.FWD.#_#", b"SIP.REV.#_#", b"DSS.AMD.#",
    b"WAT.POLY", b"WAT.CHBY.#_#", b"WAT.LEGR.#_#", b"WAT.MONO.#_#", b"WAT.XMIN", b"WAT.YMAX",
    b"TEMPLATE.#", b"ERROR.#", b".", b"TERM..VAR.#",
)  # fmt: skip
_PLACES: Final = (
    b"0", b"3", b"9", b"10", b"11", b"13", b"14", b"39", b"40", b"59", b"60", b"300", b"301",
    b"01", b"-1", b"9999", b"99999999", b"4294967297", b"",
)  # fmt: skip
_SMALL: Final = (
    b"0", b"1", b"2", b"3", b"1.0", b"0.5", b"-1", b"10", b"11", b"20", b"21", b"1e-6", b"-0.25",
)  # fmt: skip


def change_file(chance: random.Random, seed: bytes) -> bytes:
    """A file with cards changed, bytes changed, or cut short."""
    raw = bytearray(seed)
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        kind = chance.random()
        if kind < 0.6:
            _change_card(chance, raw)
        elif kind < 0.85:
            _change_bytes(chance, raw)
        elif kind < 0.93:
            del raw[chance.randrange(len(raw) + 1) :]
        else:
            raw += chance.choice((b"\0" * 2880, b"XTENSION" * 360, bytes(raw[-5760:]), b"junk"))
    return bytes(raw)


def change_data(chance: random.Random, seed: bytes) -> bytes:
    """A file whose headers stay as they are, but for a card now and then."""
    raw = bytearray(seed)
    start = raw.find(b"ZCMPTYPE") // 2880 * 2880 + 2880
    for _ in range(chance.choice((1, 2, 4, 16))):
        if chance.random() < 0.15:
            _change_card(chance, raw)
        elif len(raw) > start:
            at = chance.randrange(start, len(raw))
            _change_bytes(chance, raw, at)
    return bytes(raw)


def _change_bytes(chance: random.Random, raw: bytearray, at: int | None = None) -> None:
    if not raw:
        return
    at = chance.randrange(len(raw)) if at is None else at
    length = chance.choice((1, 1, 2, 4, 8, 80))
    match chance.randrange(4):
        case 0:
            raw[at] ^= 1 << chance.randrange(8)
        case 1:
            raw[at : at + length] = chance.randbytes(len(raw[at : at + length]))
        case 2:
            raw[at : at + length] = chance.choice((b"\0", b"\xff", b" ", b"\x7f")) * length
        case _:
            other = chance.randrange(len(raw))
            raw[at : at + length] = raw[other : other + length]


def _change_card(chance: random.Random, raw: bytearray) -> None:
    """Another value, another card, a card more or less, all within the first headers."""
    starts = [at for at in range(0, min(len(raw), 28800), 80) if raw[at + 8 : at + 10] == b"= "]
    if not starts:
        _change_bytes(chance, raw)
        return
    records = [at for at in starts if _RECORD.match(raw, at)]
    if records and chance.random() < 0.7:
        _change_record(chance, raw, chance.choice(records))
        return
    at = chance.choice(starts)
    match chance.randrange(6):
        case 0 | 1:
            raw[at + 10 : at + 80] = _value(chance)
        case 2:
            raw[at : at + 80] = _card(chance)
        case 3:
            _add_card(raw, at, _card(chance))
        case 4:
            other = chance.choice(starts)
            raw[at : at + 80], raw[other : other + 80] = raw[other : other + 80], raw[at : at + 80]
        case _:
            raw[at : at + 80] = b" " * 80


def _change_record(chance: random.Random, raw: bytearray, at: int) -> None:
    """Another number or field in a record of a distortion, a record more, or another distortion."""
    record = _RECORD.match(raw, at)
    assert record is not None
    match chance.randrange(6):
        case 0 | 1:
            field = record[3] or _field(chance)
            raw[at : at + 80] = _record(chance, record[1], field)
        case 2 | 3:
            raw[at : at + 80] = _record(chance, record[1], _field(chance))
        case 4:
            _add_card(raw, at, _record(chance, record[1], _field(chance)))
        case _:
            family = {b"DP": b"CPDIS", b"DQ": b"CQDIS"}.get(record[2], b"D2IMDIS")
            kind = raw.find(family)
            if kind >= 0 and not kind % 80:
                raw[kind + 10 : kind + 80] = _quoted(chance.choice(_KINDS))


def _record(chance: random.Random, keyword: bytes, field: bytes) -> bytes:
    """The card of a record, whose number is a small one more often than not."""
    numbers = _SMALL if chance.random() < 0.7 else _NUMBERS
    return keyword + b"= " + _quoted(field + b": " + chance.choice(numbers))


def _field(chance: random.Random) -> bytes:
    """The name of a record, with places that there are more often than not."""
    named = chance.choice(_FIELDS)
    while b"#" in named:
        places = (b"1", b"2") if chance.random() < 0.6 else _PLACES
        named = named.replace(b"#", chance.choice(places), 1)
    return named


def _add_card(raw: bytearray, at: int, card: bytes) -> None:
    """A card more, in the place of what stands before the next header or data."""
    end = raw.find(b"END" + b" " * 77, at)
    if end >= 0 and raw[end + 80 : end + 160].isspace():
        raw[end : end + 160] = card + b"END".ljust(80)


def _quoted(text: bytes) -> bytes:
    return (b"'" + text + b"'").ljust(70)[:70]


def _card(chance: random.Random) -> bytes:
    return (chance.choice(_KEYWORDS).ljust(8) + b"= " + _value(chance))[:80]


def _value(chance: random.Random) -> bytes:
    if chance.random() < 0.55:
        return chance.choice(_NUMBERS).rjust(chance.choice((1, 20))).ljust(70)[:70]
    return _quoted(chance.choice(_TEXTS))


def change_bytes(chance: random.Random, seed: bytes) -> bytes:
    """Any bytes changed."""
    raw = bytearray(seed)
    for _ in range(chance.choice((1, 2, 4))):
        _change_bytes(chance, raw)
    if chance.random() < 0.2:
        del raw[chance.randrange(len(raw) + 1) :]
    return bytes(raw)


_WORDS: Final = (
    "CIRCLE", "circle", "POLYGON", "RANGE", "BOX", "MOC", "1", "2", "-1", "0", "90", "-90", "91",
    "180", "360", "359.999999999", "1e-300", "1e300", "1e999", "NaN", "Inf", "-Inf", "+Inf", " ",
    "  ", "\t", "\n", "\0", "3/1 2 3", "29/0-99999999999", "0/0-11", "3/4-2", "[1:2,3:4]", "[*]",
    "[1:99999999999999999999]", "*", ",", ":", "é", "٣", "0x10", "1_0", "1d2", "²", "+", "%", "&",
    "=", "I", "RR", "V",
)  # fmt: skip


def change_text(chance: random.Random, seed: bytes) -> bytes:
    """Words put in, left out, doubled."""
    words = seed.decode("latin-1").split(" ")
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(words) + 1)
        match chance.randrange(4):
            case 0:
                words.insert(at, chance.choice(_WORDS))
            case 1:
                words[at : at + 1] = [chance.choice(_WORDS)]
            case 2:
                words[at : at + 1] = [repr(chance.uniform(-400, 400))]
            case _:
                words[at:at] = words * chance.choice((1, 1, 20))
        words = words[:5000]
    return " ".join(words).encode("utf-8", "replace")


# ---------------------------------------------------------------- targets


def _assert_decent(error: Exception) -> None:
    """What a client may be told: a sentence of bounded length that names no path."""
    text = str(error)
    assert text
    assert len(text) < 2000, text  # letters that are none are told as six
    assert str(_folder()) not in text, text
    assert "site-packages" not in text, text


@cache
def _zoo(*lists: str) -> tuple[bytes, ...]:
    from support import images

    names = dict.fromkeys(name for one in lists for name in getattr(images, one))
    return tuple(images.FAMILIES[name]() for name in names)


@cache
def _recorded() -> tuple[bytes, ...]:
    """Images distorted by records, so often that a few hundred inputs have many of them."""
    from support.hostile import RECORDED

    return tuple(make() for make in RECORDED.values()) * _RECORDED_TIMES


def _layouts(raw: bytes) -> list[HduLayout]:
    from soda_service.errors import CorruptFileError
    from soda_service.fits.layout import scan_hdus

    found = []
    with contextlib.suppress(CorruptFileError):
        for layout in scan_hdus(lambda start, length: raw[start : start + length], len(raw)):
            found.append(layout)
            assert layout.header_offset < layout.data_offset <= len(raw)
            assert 0 <= layout.data_size <= len(raw) - layout.data_offset
            assert all(length > 0 for length in layout.naxis)
            if len(found) > 200:
                break
    return found


def try_layout(raw: bytes) -> bool:
    """Where things lie, and what every card says."""
    from soda_service.errors import CorruptFileError
    from soda_service.fits.cards import Header
    from soda_service.fits.header import image_header

    layouts = _layouts(raw)
    headers = [one.header for one in layouts]
    with contextlib.suppress(CorruptFileError):
        headers.append(Header.parse(raw[:28800]))
    for header in headers:
        for card in header:
            header.get(card.keyword)
            header.integer(card.keyword)
            header.number(card.keyword)
            header.string(card.keyword)
            header.values(card.keyword)
            header.literal(card.keyword)
        with contextlib.suppress(ValueError):
            image_header(header)
    return bool(layouts)


def try_cutter(raw: bytes) -> bool:
    """The headers of a cutout: whole blocks that are read back as what was cut."""
    from soda_service.fits.cards import Header
    from soda_service.fits.header import HeaderCutter, empty_primary, kept_primary
    from soda_service.geometry.pixelbox import PixelBox

    made = 0
    for one in _layouts(raw):
        if one.index == 0:
            for text in (empty_primary(one.header), kept_primary(one.header, extensions=2)):
                assert not len(text) % 2880
        if not one.is_image:
            continue
        box = PixelBox(
            tuple(length // 3 for length in one.naxis),
            tuple(length // 3 + max(1, length // 4) for length in one.naxis),
        )
        text = HeaderCutter(one.header, one.kind, extensions=1).cut(box, ())
        assert not len(text) % 2880
        header = Header.parse(text)
        assert header.integer("NAXIS") == len(box.naxis)
        sizes = [header.integer(f"NAXIS{axis + 1}") for axis in range(len(box.naxis))]
        assert sizes == list(box.naxis)
        assert header.integer("BITPIX") == one.bitpix
        made += 1
    return made > 0


def try_wcs(raw: bytes) -> bool:
    """Coordinates: unit vectors or NaN, there and back, and a box around a place."""
    import numpy as np

    from soda_service.fits.header import image_header
    from soda_service.fits.wcs import ImageWcs, WcsError, needed_tables
    from soda_service.geometry.pixelbox import box_around, box_around_quickly
    from soda_service.geometry.shapes import Circle
    from soda_service.geometry.skyindex import SkyIndex

    layouts = _layouts(raw)
    placed = False
    for one in layouts:
        # What is longer takes longer, and is measured elsewhere.
        if not one.is_image or max(one.naxis) > 5000:
            continue
        header = image_header(one.header)
        try:
            wanted = {(name.upper(), version) for name, version in needed_tables(header)}
            tables = b"".join(
                raw[two.header_offset : two.end]
                for two in layouts
                if (two.name.upper(), two.version) in wanted
            )
            wcs = ImageWcs.of(header, one.naxis, tables=tables)
        except WcsError as error:
            _assert_decent(error)
            continue
        grid = wcs.celestial
        if grid is None:
            continue
        x = np.array([0.0, 1.5, grid.naxis[0] - 1, -300.0])
        y = np.array([0.0, 2.5, grid.naxis[1] - 1, 1e6])
        sky = grid.pixel_to_sky(x, y)
        norms = np.linalg.norm(sky, axis=0)
        assert (np.isnan(norms) | (np.abs(norms - 1) < 1e-9)).all()
        grid.sky_to_pixel(sky)
        if one.naxis[0] < 200:
            shape = Circle(150.1, 2.2, 0.003)
            index = SkyIndex.of(grid)
            quick = box_around_quickly(shape, grid, index)
            exact = box_around(shape, grid, index)
            if not hasattr(quick, "name"):
                assert (quick is None) == (exact is None) or _is_sliver(quick or exact)
        placed = True
    return placed


def _is_sliver(box: object) -> bool:
    """A box that one of two ways may find and the other may not: a touch of an edge."""
    naxis: tuple[int, ...] = box.naxis  # type: ignore[attr-defined]  # a PixelBox
    return min(naxis) <= 2


_RECORDED_TIMES: Final = 5
_SHARED: Final = Path("/dev/shm")
_FOLDER: Final = "FUZZ_FOLDER"
"""Variable of the environment that names the folder for files of the process at work."""


@lru_cache(maxsize=1)
def _folder() -> Path:
    return Path(os.environ.get(_FOLDER) or tempfile.mkdtemp(prefix="fuzz-"))


@cache
def _configured() -> tuple[Settings, CollectionsFile]:
    from soda_service.config import Settings, load_collections, resource_path

    folder = _folder()
    settings = Settings(
        catalog=f"sqlite:///{folder}/c.sqlite", data_dir=folder, cache_dir=folder / "cache",
        cache_bytes=200_000_000,
    )  # fmt: skip
    collections = load_collections(resource_path("config/collections.toml"))
    return settings, collections.model_copy(update={"collections": {}})


def _subject(raw: bytes) -> tuple[Cutter, str]:
    from soda_service.catalog.ingest import index_file
    from soda_service.catalog.resolver import FixedResolver
    from soda_service.cutout.cutter import Cutter

    settings, collections = _configured()
    path = _folder() / "input.fits"
    path.write_bytes(raw)
    dataset = index_file(path, settings, collections)
    return Cutter(FixedResolver(dataset), settings), dataset.publisher_did


_ASKED: Final = (
    "CIRCLE=150.1 2.2 0.002", "POS=RANGE 0 360 -90 90", "BAND=-Inf Inf", "PIXELS=[2:9,*]&PROOF=1",
    "STAMP=150.1 2.2 9&EDGE=pad&MASK=1", "CIRCLE=150.1 2.2 0.002&COMPRESS=fz&CHECKSUM=1",
    "PIXELS=[3:7]&HEADERONLY=1",
)  # fmt: skip
_MOST_SENT: Final = 50_000_000


def try_file(raw: bytes) -> bool:
    """A whole file: read, and cut in several ways; errors say nothing of where it lies."""
    from soda_service.errors import SodaServiceError
    from soda_service.web.params import Params

    made = 0
    try:
        cutter, identifier = _subject(raw)
    except SodaServiceError as error:
        _assert_decent(error)
        return False
    try:
        for asked in _ASKED:
            query = urlencode([("ID", identifier), *parse_qsl(asked)]).encode()
            try:
                made += _cut(cutter, Params(query).cutout().request)
            except SodaServiceError as error:
                _assert_decent(error)
    finally:
        cutter.close()
    return made > 0


def _cut(cutter: Cutter, request: CutoutRequest) -> bool:
    """Whether there was something to cut: whole blocks, as many as were promised."""
    plan = cutter.plan(request)
    if plan is None or plan.size > _MOST_SENT:
        return False
    sent = sum(len(chunk) for chunk in cutter.cut(plan))
    if not request.form.header_only:
        assert not sent % 2880 or not plan.hdus
        assert sent == plan.size or request.form.packing != "none"
    return True


def try_inflate(raw: bytes) -> bool:
    """Compressed files, in pieces."""
    from soda_service.errors import SodaServiceError
    from soda_service.storage.inflate import inflated_pieces
    from soda_service.storage.local import LocalSource

    path = _folder() / "input.gz"
    path.write_bytes(raw)
    size = 0
    with LocalSource.open(str(path)) as source:
        try:
            for piece in inflated_pieces(source):
                size += len(piece)
                if size > 100_000_000:
                    break
        except SodaServiceError:
            return False
    return True


def try_text(raw: bytes) -> bool:
    """Every parser of text."""
    from soda_service.errors import UsageError
    from soda_service.geometry import dali, moc

    text = raw.decode("utf-8", "surrogateescape")[:20_000]
    understood = 0
    for module in (dali, moc):
        for name, parse in inspect.getmembers(module, inspect.isfunction):
            if not name.startswith("parse_") or parse.__module__ != module.__name__:
                continue
            try:
                value = parse(text)
            except UsageError as error:
                _assert_decent(error)
                continue
            understood += 1
            form = getattr(module, name.replace("parse_", "format_"), None)
            if form is not None:
                assert parse(form(value)) == value, (name, value)
    return understood > 0


def try_query(raw: bytes) -> bool:
    """A query string to each of the three services."""
    from soda_service.errors import UsageError
    from soda_service.web.params import Params

    understood = 0
    for reading in (Params.cutout, Params.query, Params.links):
        with contextlib.suppress(UsageError):
            reading(Params(raw))
            understood += 1
    return understood > 0


def _compressed_seeds() -> tuple[bytes, ...]:
    return _zoo("COMPRESSED_FAMILIES")


def _file_seeds() -> tuple[bytes, ...]:
    return (*_image_seeds(), *_zoo("DAMAGED_FAMILIES"), *_zoo("TAIL_FAMILIES"))


def _image_seeds() -> tuple[bytes, ...]:
    return (*_zoo("IMAGE_FAMILIES"), *_recorded())


def _inflate_seeds() -> tuple[bytes, ...]:
    import bz2
    import gzip

    raw = _zoo("SKY_FAMILIES")[0]
    one, two = gzip.compress(raw, mtime=0), gzip.compress(b"and more", mtime=0)
    return one, one + two, one + b"\0" * 600, bz2.compress(raw), gzip.compress(one, mtime=0), two


_TEXT_SEEDS: Final = (
    b"150.1 2.2 0.01", b"CIRCLE 150.1 2.2 0.01", b"12 34 14 34 14 36 12 36", b"RANGE 0 360 89 90",
    b"POLYGON 12 34 14 34 14 36 12 36", b"359 1 -1 1", b"-Inf +Inf", b"1e-7 2e-7", b"I", b"3",
    b"150.1 2.2 32 48", b"[10:20,30:40,*]", b"1/1 2 4 2/12-14 21 23 25 8/", b"150.1 2.2 0.5 0.25",
)  # fmt: skip
_QUERY_SEEDS: Final = (
    b"ID=ivo://a/b?c&CIRCLE=150.1 2.2 0.01", b"ID=a&BOX=1 2 3 4",
    b"POS=CIRCLE+1+2+3&BAND=1+2&MAXREC=3&FORMAT=image/fits",
    b"ID=a&ID=b&POL=I&TIME=1 2&RESPONSEFORMAT=votable", b"id=%00%ff&circle=%20",
    b"ID=a&STAMP=1 2 30&EDGE=pad&FILL=NaN&MASK=1", b"ID=a&PIXELS=[1:2,3:4]&HDU=1&HDU=SCI,2",
)  # fmt: skip

TARGETS: Final[dict[str, Target]] = {
    target.name: target
    for target in (
        Target("layout", try_layout, _file_seeds, change_file),
        Target("cutter", try_cutter, _file_seeds, change_file),
        Target("wcs", try_wcs, _image_seeds, change_file),
        Target("file", try_file, _file_seeds, change_file),
        Target("tiles", try_file, _compressed_seeds, change_data),
        Target("inflate", try_inflate, _inflate_seeds, change_bytes),
        Target("text", try_text, lambda: _TEXT_SEEDS, change_text),
        Target("query", try_query, lambda: _QUERY_SEEDS, change_text),
    )
}


def try_itself(raw: bytes) -> bool:
    """Goes wrong in every way that the watch must notice; tried only when named."""
    match raw[:1]:
        case b"r":
            raise ZeroDivisionError("by zero")
        case b"l":
            time.sleep(INPUT_SECONDS + 1)
        case b"m":
            # The process may have taken more than it has now, before this.
            bytearray(MEMORY + _highest_memory())
        case b"d":
            os.kill(os.getpid(), signal.SIGSEGV)
        case _:
            return True
    return False


ITSELF: Final = Target(
    "itself", try_itself, lambda: (b"sound",), lambda chance, _: chance.choice((b"r", b"d", b"s"))
)

# ---------------------------------------------------------------- one process at work


class TooLongError(Exception):
    """An input took longer than any may."""


def _too_long(_signal: int, _frame: FrameType | None) -> None:
    raise TooLongError


def work(target: Target, *, seed: int, count: int, seconds: float, noted: Path) -> None:
    """Try inputs, saying on standard output what is found; *noted* holds the one at work."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    signal.signal(signal.SIGALRM, _too_long)
    _quiet()
    seeds = target.seeds()
    for raw in seeds[:3]:  # what is imported late is no input's memory
        target.try_one(raw)
    end = time.monotonic() + seconds
    tried = understood = 0
    told: set[str] = set()
    with noted.open("w+b") as note:
        for number in range(seed, seed + count):
            if time.monotonic() > end:
                break
            chance = random.Random(number)
            raw = target.change(chance, chance.choice(seeds))
            note.seek(0)
            note.write(raw)
            note.truncate()
            note.flush()
            tried += 1
            finding, was_understood = judged(target, raw)
            understood += was_understood
            if finding and finding not in told:
                told.add(finding)
                sys.stdout.write(f"FOUND {number} {finding}\n")
            if tried % 200 == 0:
                sys.stdout.write(f"AT {number + 1} {tried} {understood}\n")
                sys.stdout.flush()
    sys.stdout.write(f"DONE {tried} {understood}\n")


def judged(target: Target, raw: bytes) -> tuple[str, bool]:
    """What is wrong with what became of an input, empty if nothing; whether it was understood."""
    before = _highest_memory()
    signal.alarm(INPUT_SECONDS)
    try:
        understood = target.try_one(raw)
    except TooLongError:
        return f"took over {INPUT_SECONDS} s: {_place(sys.exc_info()[2])}", False
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        where = _place(error.__traceback__)
        return f"{type(error).__name__}: {str(error)[:120]!r} {where}", False
    finally:
        signal.alarm(0)
    more = _highest_memory() - before
    return (f"took {more} bytes" if more > MEMORY else ""), understood


def _highest_memory() -> int:
    """Bytes that this process has had at most.

    `getrusage` tells those of the process that started it, where that one had more.
    """
    found = _HIGHEST.search(Path("/proc/self/status").read_bytes())
    assert found is not None
    return int(found[1]) * 1024


def _place(trace: object) -> str:
    frames = traceback.extract_tb(trace)  # type: ignore[arg-type]  # a traceback, or None
    own = [one for one in frames if "soda_service" in one.filename] or list(frames)[-1:]
    return " < ".join(f"{Path(one.filename).name}:{one.lineno}" for one in reversed(own[-2:]))


def _quiet() -> None:
    import logging

    logging.disable(logging.CRITICAL)
    import numpy as np

    np.seterr(all="ignore")


# ---------------------------------------------------------------- and the one that watches


@dataclass
class Outcome:
    """What became of one target."""

    tried: int = 0
    understood: int = 0
    findings: list[str] | None = None


def run(target: str, *, seed: int, count: int, seconds: float, keep: Path | None = None) -> Outcome:
    """Try *count* inputs or as many as *seconds* allow; what kills the process is a finding.

    Inputs that do are written into the folder *keep*.
    """
    outcome = Outcome(findings=[])
    assert outcome.findings is not None
    end = time.monotonic() + seconds
    next_seed, left = seed, count
    while left > 0 and (rest := end - time.monotonic()) > 1:
        shared = _SHARED if _SHARED.is_dir() else None
        with tempfile.TemporaryDirectory(prefix="fuzz-", dir=shared) as folder:
            noted = Path(folder) / "input"
            process = subprocess.run(
                [sys.executable, __file__, "--work", target, "--seed", str(next_seed),
                 "--count", str(left), "--seconds", str(rest), "--noted", noted],
                capture_output=True, text=True, check=False, timeout=seconds + 300,
                env={**os.environ, _FOLDER: folder},
            )  # fmt: skip
            lines = process.stdout.splitlines()
            outcome.findings += [line for line in lines if line.startswith("FOUND")]
            told = [line.split() for line in lines if line.startswith(("AT", "DONE"))]
            tried = int(told[-1][-2]) if told else 0
            outcome.tried += tried
            outcome.understood += int(told[-1][-1]) if told else 0
            if process.returncode == 0:
                break
            raw = noted.read_bytes() if noted.exists() else b""
            last = [line for line in process.stderr.splitlines() if line.strip()][-1:]
            outcome.findings.append(
                f"DIED with {process.returncode} of {len(raw)} bytes: {' '.join(last)[:200]}"
            )
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{target}-{next_seed}-{len(outcome.findings)}").write_bytes(raw)
            if tried == 0 and not told:
                tried = 200
            next_seed, left = next_seed + tried + 200, left - tried - 200
    return outcome


def guided(target: Target, arguments: list[str]) -> None:
    """Let atheris choose the changes by the lines that they reach; its options are libFuzzer's."""
    atheris = importlib.import_module("atheris")

    with atheris.instrument_imports(include=["soda_service"]):
        for raw in target.seeds()[:3]:
            target.try_one(raw)
    warnings.simplefilter("ignore")
    _quiet()
    corpus = Path(tempfile.mkdtemp(prefix=f"corpus-{target.name}-"))
    for number, raw in enumerate(target.seeds()):
        (corpus / str(number)).write_bytes(raw)

    def mutate(raw: bytes, most: int, seed: int) -> bytes:
        chance = random.Random(seed)
        if chance.random() < 0.3:
            return bytes(atheris.Mutate(raw, most))
        return target.change(chance, raw)[:most]

    options = [
        f"-max_len={max(map(len, target.seeds())) + 6000}",
        "-timeout=60",
        "-rss_limit_mb=3000",
    ]
    atheris.Setup([sys.argv[0], *options, *arguments, str(corpus)], target.try_one,
                  custom_mutator=mutate)  # fmt: skip
    atheris.Fuzz()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--count", type=int, default=10**9, help="inputs for each target")
    parser.add_argument("--seed", type=int, default=1, help="number of the first input")
    parser.add_argument("--keep", type=Path, help="folder for inputs that kill the process")
    parser.add_argument("--show", type=int, help="try the input of this number, and write it")
    parser.add_argument("--guided", action="store_true", help="by atheris; the rest is libFuzzer's")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--noted", type=Path, help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args()
    if options.work:
        work({**TARGETS, "itself": ITSELF}[options.work], seed=options.seed, count=options.count,
             seconds=options.seconds, noted=options.noted)  # fmt: skip
        return
    if options.guided:
        guided(TARGETS[options.targets[0]], rest)
        return
    if options.show is not None:
        show(TARGETS[options.targets[0]], options.show, options.keep)
        return
    bad = 0
    for name in options.targets or TARGETS:
        outcome = run(name, seed=options.seed, count=options.count, seconds=options.seconds,
                      keep=options.keep)  # fmt: skip
        findings = outcome.findings or []
        _say(f"{name}: {outcome.tried} tried, {outcome.understood} understood, "
             f"{len(findings)} findings")  # fmt: skip
        for finding in findings:
            _say(f"    {finding}")
        bad += len(findings)
    sys.exit(bad > 0)


def show(target: Target, number: int, folder: Path | None) -> None:
    """The input of a number again: written where it can be looked at, and tried."""
    chance = random.Random(number)
    raw = target.change(chance, chance.choice(target.seeds()))
    path = (folder or Path()) / f"{target.name}-{number}"
    path.write_bytes(raw)
    _say(f"{path}: {len(raw)} bytes")
    _quiet()
    _say("understood" if target.try_one(raw) else "refused")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
