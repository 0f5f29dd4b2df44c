"""Cutouts in the eyes of an outsider: astropy, wcslib and fitsverify hold them against the parent.

Nothing here asks the service what it did: which pixels an HDU holds is read from the HISTORY
that stands in it, and everything else is compared with the parent's bytes under that section.
"""

from __future__ import annotations

import gzip
import io
import re
import subprocess
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from support.images import write_family
from support.realdata import real_file

from soda_service.catalog.ingest import index_file
from soda_service.catalog.resolver import FixedResolver
from soda_service.config import CollectionsFile, Settings, load_collections, resource_path
from soda_service.cutout.cutter import Cutter
from soda_service.cutout.request import CutoutRequest
from soda_service.geometry.shapes import Circle, Polygon, Range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from soda_service.catalog.dataset import Dataset
    from soda_service.cutout.plan import CutoutPlan
    from soda_service.geometry.shapes import Shape

    Floats = NDArray[np.float64]
    Section = tuple[tuple[int, int], ...]

MAS: Final = 3.6e6
"""Milliarcseconds in a degree."""

# ---------------------------------------------------------------- what is cut


@dataclass(eq=False)
class Subject:
    """One file with all that is needed to cut it and to judge the cutouts."""

    name: str
    path: Path
    dataset: Dataset
    cutter: Cutter
    folder: Path
    """For files that come and go."""
    complaints: set[str] | None = None
    """What fitsverify says of the file, once it has been asked."""

    @cached_property
    def raw(self) -> bytes:
        """The file, inflated."""
        raw = self.path.read_bytes()
        return gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw

    @cached_property
    def parent(self) -> File:
        """The file as astropy sees it."""
        return File(self.raw)

    def plan(self, shape: Shape | None = None, **asked: Any) -> CutoutPlan | None:
        """The plan of a request for this file."""
        return self.cutter.plan(self.request(shape, **asked))

    def request(self, shape: Shape | None = None, **asked: Any) -> CutoutRequest:
        """A request for this file."""
        return CutoutRequest(identifier=self.dataset.publisher_did, shape=shape, **asked)

    def cut(self, shape: Shape | None = None, **asked: Any) -> bytes | None:
        """The bytes of a cutout, as many as were promised; None where nothing overlaps."""
        plan = self.plan(shape, **asked)
        return None if plan is None else self.made(plan)

    def made(self, plan: CutoutPlan) -> bytes:
        """The bytes of a plan, as many as were promised, by whichever way they come."""
        contents = b"".join(self.cutter.cut(plan))
        assert len(contents) == plan.size
        resident = self.cutter.cut_resident(plan)
        assert resident is None or b"".join(resident) == contents
        return contents

    def sky_images(self) -> Iterator[int]:
        """Numbers of the HDUs that a shape may be taken from: one for each grid of pixels."""
        for one in self.cutter._prepared.get(self.dataset).hdus:
            if one.is_cuttable and one.leader is one:
                yield one.hdu.layout.index

    def grid(self, index: int) -> Any:
        """The sky of an HDU, for choosing places in it; the judgement is astropy's.

        Of the faces of a cube that of the second, in the middle.
        """
        planes = self.cutter._prepared.get(self.dataset).hdus[index].sky_planes
        return dict(planes).get(1, planes[0][1]) if planes else None


class Workbench:
    """Makes subjects, each once, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(
            authority="archive.example",
            catalog=f"sqlite:///{folder}/catalog.sqlite",
            data_dir=folder,
            cache_dir=folder / "cache",
            spool_dir=folder / "spool",
        )
        self.collections = load_collections(resource_path("config/collections.toml")).model_copy(
            update={"collections": {}}
        )
        self._subjects: dict[str, Subject] = {}

    def family(self, name: str) -> Subject:
        """A file of the zoo."""
        return self._once(name, lambda: write_family(name, self.folder))

    def real(self, name: str) -> Subject:
        """A real file; the test is skipped where it is absent."""
        return self._once(name, lambda: real_file(name))

    def of(self, path: Path, collections: CollectionsFile | None = None) -> Subject:
        """A file of one test's own."""
        dataset = index_file(path, self.settings, collections or self.collections)
        cutter = Cutter(FixedResolver(dataset), self.settings)
        return Subject(path.name, path, dataset, cutter, self.folder)

    def close(self) -> None:
        """Let go of all files."""
        for subject in self._subjects.values():
            subject.cutter.close()

    def _once(self, name: str, make: Callable[[], Path]) -> Subject:
        if name not in self._subjects:
            self._subjects[name] = self.of(make())
        return self._subjects[name]


# ---------------------------------------------------------------- shapes to cut


@dataclass(frozen=True, slots=True)
class Place:
    """A shape with the name of what is special about it."""

    name: str
    shape: Shape


def places_on(grid: Any) -> list[Place]:
    """Shapes all over an image, those first that surely meet it."""
    width, height = grid.naxis
    x, y = _middle(grid)
    scale = _pixel_size(grid, x, y)
    centre = _lon_lat(grid, x, y)
    places = [
        Place("centre", Circle(*centre, min(6.3 * scale, 90.0))),
        Place("tiny", Circle(*_lon_lat(grid, x + 0.3, y - 0.2), 1e-3 * min(scale, 1.0))),
    ]
    corners = [(0.0, 0.0), (width - 1.0, height - 1.0)]
    for number, (corner_x, corner_y) in enumerate(corners):
        found = _lon_lat(grid, corner_x, corner_y)
        if np.isfinite(found).all():
            places.append(Place(f"corner {number}", Circle(*found, min(4.4 * scale, 90.0))))
    patch = [
        _lon_lat(grid, x + dx * min(width, 24) / 2, y + dy * min(height, 24) / 2)
        for dx, dy in ((-0.9, -0.5), (0.8, -0.7), (0.6, 0.9), (-0.2, 0.4))
    ]
    if np.isfinite(patch).all() and scale < 2:
        places.append(Place("polygon", Polygon(tuple(patch))))
    outside = [_lon_lat(grid, *at) for at in ((-7.0, 4.0), (9.0, 6.0), (3.0, -5.0))]
    if np.isfinite(outside).all() and scale < 2:
        places.append(Place("polygon partly outside", Polygon(tuple(outside))))
    lon, lat = centre
    low, high = max(lat - 5 * scale, -90.0), min(lat + 3 * scale, 90.0)
    half = min(4 * scale / max(np.cos(np.radians(lat)), 1e-3), 170.0)
    places.append(Place("range", Range((lon - half) % 360, (lon + half) % 360, low, high)))
    return places


def _middle(grid: Any) -> tuple[float, float]:
    """A pixel near the middle that lies on the sky."""
    width, height = grid.naxis
    x, y = np.meshgrid(np.unique(np.linspace(0, width - 1, 41).round()),
                       np.unique(np.linspace(0, height - 1, 41).round()))  # fmt: skip
    x, y = x.ravel(), y.ravel()
    on_sky = np.isfinite(grid.pixel_to_sky(x, y)[0]) & np.isfinite(
        grid.pixel_to_sky(x + 1, y + 1)[0]
    )
    x, y = x[on_sky], y[on_sky]
    nearest = np.argmin(np.hypot(x - (width - 1) / 2, y - (height - 1) / 2))
    return float(x[nearest]), float(y[nearest])


def _pixel_size(grid: Any, x: float, y: float) -> float:
    """Degrees on the sky from a pixel to the next but one corner."""
    here, there = grid.pixel_to_sky(np.array([x, x + 1.0]), np.array([y, y + 1.0])).T
    return float(np.degrees(np.linalg.norm(here - there)) / np.sqrt(2))


def _lon_lat(grid: Any, x: float, y: float) -> tuple[float, float]:
    vector = grid.pixel_to_sky(np.array([x]), np.array([y]))[:, 0]
    lon, lat = np.degrees([np.arctan2(vector[1], vector[0]), np.arctan2(
        vector[2], np.hypot(vector[0], vector[1]))])  # fmt: skip
    return float(lon % 360), float(lat)


# ---------------------------------------------------------------- files as astropy sees them


@dataclass(eq=False)
class Hdu:
    """One HDU, opened by astropy."""

    index: int
    header: Any
    """As astropy reads it; of a compressed image that of the image."""
    raw_header: bytes
    """The cards as they stand in the file, END and padding left out."""
    raw_data: bytes
    """The data unit with its padding."""
    is_compressed: bool
    hdu: Any

    @property
    def key(self) -> tuple[str, int]:
        """EXTNAME and EXTVER."""
        return self.hdu.name, self.hdu.ver

    @property
    def is_image(self) -> bool:
        """Whether it has pixels."""
        return bool(self.hdu.is_image) and self.stored is not None

    @cached_property
    def stored(self) -> NDArray[np.generic] | None:
        """Stored values in numpy order and big-endian; None where there are none."""
        if not self.hdu.is_image:
            return None
        naxis = [self.header[f"NAXIS{axis + 1}"] for axis in range(self.header["NAXIS"])]
        if not naxis or 0 in naxis:
            return None
        bitpix = self.header["BITPIX"]
        dtype = np.dtype(f">{'f' if bitpix < 0 else 'u' if bitpix == 8 else 'i'}{abs(bitpix) // 8}")
        if self.is_compressed:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                data: NDArray[np.generic] = self.hdu.data
            return data.astype(dtype, casting="equiv")
        count = int(np.prod(naxis))
        return np.frombuffer(self.raw_data, dtype, count).reshape(naxis[::-1])

    @property
    def cards(self) -> list[bytes]:
        """The cards."""
        return [self.raw_header[at : at + 80] for at in range(0, len(self.raw_header), 80)]

    @property
    def section(self) -> tuple[int, Section] | None:
        """The last box that HISTORY names: number of the parent's HDU, pixels from 1, closed."""
        said = " ".join(
            card[8:].decode("latin-1").rstrip() for card in self.cards if card[:8] == b"HISTORY "
        )
        found = re.findall(r"  HDU (\d+)(?: \([^)]*\))? section \[([-0-9:,]+)\]", said)
        if not found:
            return None
        pairs = [pair.split(":") for pair in found[-1][1].split(",")]
        return int(found[-1][0]), tuple((int(low), int(high)) for low, high in pairs)

    @property
    def mentions(self) -> int:
        """How many boxes HISTORY names."""
        return self.raw_header.count(b" section [")


class File:
    """A whole file, its HDUs opened by astropy without scaling anything."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._wcs: dict[tuple[int, str], Any] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what astropy thinks of the parent is the parent's
            self.opened = fits.open(io.BytesIO(raw), do_not_scale_image_data=True)
            bare = self.opened
            if any(isinstance(one, fits.CompImageHDU) for one in bare):
                bare = fits.open(
                    io.BytesIO(raw), do_not_scale_image_data=True, disable_image_compression=True
                )
            self.hdus = [self._hdu(number, bare[number]) for number in range(len(self.opened))]

    def _hdu(self, number: int, bare: Any) -> Hdu:
        where = bare.fileinfo()
        header = self.raw[where["hdrLoc"] : where["datLoc"]]
        end = next(at for at in range(0, len(header), 80) if header[at : at + 8] == b"END     ")
        one = self.opened[number]
        return Hdu(
            index=number,
            header=one.header,
            raw_header=header[:end],
            raw_data=self.raw[where["datLoc"] : where["datLoc"] + where["datSpan"]],
            is_compressed=isinstance(one, fits.CompImageHDU),
            hdu=one,
        )

    def world(self, index: int, key: str, pixels: Floats) -> Floats | str:
        """World coordinates of pixels (axes, N), from 1; or the kind of astropy's refusal."""
        found = self.wcs(index, key)
        if isinstance(found, str):
            return found
        rows = np.ones((found.naxis, pixels.shape[1]))
        count = min(found.naxis, pixels.shape[0])
        rows[:count] = pixels[:count]
        # astropy applies distortions of the primary system to the alternates, too.
        pixel_to_world = found.wcs_pix2world if key else found.all_pix2world
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return np.array(pixel_to_world(*rows, 1))
            except Exception as error:  # noqa: BLE001 - any refusal counts, if it is the same twice
                return type(error).__name__

    def wcs(self, index: int, key: str) -> Any:
        """The coordinates by astropy of an HDU, the tables of the file at hand."""
        if (index, key) not in self._wcs:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    found = WCS(self.hdus[index].header, self.opened, key=key or " ")
                except Exception as error:  # noqa: BLE001 - likewise
                    found = type(error).__name__
            self._wcs[index, key] = found
        return self._wcs[index, key]

    def systems(self, index: int) -> list[str]:
        """The coordinate systems that a header describes: blank and the letters."""
        header = self.hdus[index].header
        found = {""} if "AMDX1" in header else set()
        for keyword in header:
            if match := re.fullmatch(r"(?:CTYPE|CRVAL|CDELT|CRPIX)\d([A-Z]?)", keyword):
                found.add(match[1])
        return sorted(found)


# ---------------------------------------------------------------- comparisons


@dataclass
class Figures:
    """What was compared, and the worst that was seen."""

    hdus: int = 0
    """HDUs with pixels that were cut."""
    cutouts: int = 0
    pixels: int = 0
    """Values compared to the bit."""
    places: int = 0
    """Pixels whose world coordinates were compared, each system counted."""
    sky_mas: float = 0.0
    """Largest distance on the sky between a pixel of the cutout and the same one of the parent."""
    other_axes: float = 0.0
    """The same of axes that are not of the sky, as a part of the coordinate."""
    values: float = 0.0
    """Largest difference of stored values."""
    lost: set[str] = field(default_factory=set)
    """Keywords that the rules leave alone and that are not in the cutout as they were."""
    left_out: set[str] = field(default_factory=set)
    """Keywords that the rules leave out."""
    complaints: set[str] = field(default_factory=set)
    """What fitsverify says of a cutout and not of the parent."""

    def add(self, other: Figures) -> None:
        """What *other* saw, too."""
        self.cutouts += other.cutouts
        self.pixels += other.pixels
        self.places += other.places
        self.sky_mas = max(self.sky_mas, other.sky_mas)
        self.other_axes = max(self.other_axes, other.other_axes)
        self.values = max(self.values, other.values)
        self.hdus = max(self.hdus, other.hdus)
        self.lost |= other.lost
        self.left_out |= other.left_out
        self.complaints |= other.complaints


def compare(subject: Subject, contents: bytes, *, coordinates: bool = True) -> Figures:
    """Hold a cutout against its parent, and fail where they differ.

    *coordinates* False leaves out what astropy would crash on or does not understand.
    """
    child, parent = File(contents), subject.parent
    figures = Figures(cutouts=1)
    last = -1
    for one in child.hdus:
        cut = one.section
        if cut is None:
            last = max(last, _compare_uncut(one, last, parent, figures))
            continue
        number, section = cut
        mother = parent.hdus[number]
        assert mother.index > last, "the HDUs are not in the parent's order"
        last = mother.index
        assert one.mentions == mother.mentions + 1
        _compare_values(one, mother, section, figures)
        _compare_cards(one, mother, figures)
        if coordinates:
            _compare_coordinates(child, one, parent, mother, section, figures)
        figures.hdus += 1
    return figures


def _compare_uncut(one: Hdu, last: int, parent: File, figures: Figures) -> int:
    """An HDU that came whole, or the copy of a table, or a header that lost its image.

    *last* is the number of the parent's HDU before it; gives that of this one's.
    """
    if one.index == 0:
        mother = parent.hdus[0]
        assert one.raw_data in (mother.raw_data, b"")
        if not one.raw_data and mother.raw_data:
            return 0
    else:
        later = [other for other in parent.hdus[last + 1 :] if other.key == one.key]
        # A copy of a table has another EXTVER, and stands at the end.
        copied = [other for other in parent.hdus if other.key[0] == one.key[0]]
        mother = next(other for other in [*later, *copied] if other.raw_data == one.raw_data)
    _compare_cards(one, mother, figures)
    return mother.index


def slices_of(section: Section) -> tuple[slice, ...]:
    """A section as indices of numpy."""
    return tuple(slice(low - 1, high) for low, high in section)[::-1]


def _compare_values(one: Hdu, mother: Hdu, section: Section, figures: Figures) -> None:
    assert one.stored is not None
    assert mother.stored is not None
    expected = mother.stored[slices_of(section)]
    assert one.stored.dtype == expected.dtype
    assert one.stored.shape == expected.shape
    assert one.header["BITPIX"] == mother.header["BITPIX"]
    assert one.stored.tobytes() == expected.tobytes()
    assert not any(one.raw_data[one.stored.nbytes :])
    if one.stored.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # NaNs and infinities, which are equal to the bit
            apart = np.abs(one.stored.astype("f8") - expected.astype("f8"))
        apart = apart[np.isfinite(apart)]
    else:
        apart = np.asarray(one.stored != expected, "f8")
    figures.values = max(figures.values, float(apart.max(initial=0)))
    figures.pixels += one.stored.size


# What docs/headers.md lets change, and what it lets go.
_MOVES: Final = re.compile(
    r"NAXIS\d*|CRPIX\d+[A-Z]?|CRVAL\d[A-Z]?|LTV\d|CNPIX\d|ALTRPIX|LBOUND\d|SUBS(TRT|IZE)\d"
    r"|IMAGE[WH]|NPIX\d|\w*SEC\w?\w?|DP\d[A-Z]?|D2IM\d|EXTVER|EXTEND|NEXTEND|AR_HDU"
)
_MOVES_IN_IMAGES: Final = re.compile(
    r"NAXIS\d*|CRPIX\d+[A-Z]?|CRVAL[12]A|LTV\d|CNPIX\d|ALTRPIX|LBOUND\d|SUBS(TRT|IZE)\d"
    r"|IMAGE[WH]|NPIX\d|\w*SEC\w?\w?|DP\d[A-Z]?|D2IM\d|EXTEND|NEXTEND"
)
_GOES: Final = re.compile(
    r"CHECKSUM|DATASUM|DATAM(IN|AX)|S_REGION|COR\dRA1|COR\dDEC1|CENRA1|CENDEC1|CORN\d(RA|DEC)"
    r"|CENT(RA|DEC)|RAC\d|DECC\d|\w*SEC\w?\w?"
    r"|INDXADDR|INDXSIZE|JSONADDR|JSONSIZE|FMTVER|DATAMODL"
)
_OF_THE_COMPRESSION: Final = re.compile(
    r"Z(IMAGE|TENSION|SIMPLE|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|CMPTYPE|TILE\d|NAME\d|VAL\d"
    r"|QUANTIZ|DITHER0|BLANK|HECKSUM|DATASUM|SCALE|ZERO|BLOCKED)"
    r"|T(TYPE|FORM|DISP|UNIT|NULL|SCAL|ZERO|DIM)\d|TFIELDS|THEAP"
    r"|SIMPLE|XTENSION|BITPIX|PCOUNT|GCOUNT|EXTEND|EXTNAME|BLANK"
)


def keyword_of(card: bytes) -> str:
    """The keyword of a card with a value; empty for commentary and HIERARCH."""
    return card[:8].decode("latin-1").strip() if card[8:10] == b"= " else ""


def _compare_cards(one: Hdu, mother: Hdu, figures: Figures) -> None:
    """Every card of the parent is there, in its order, unless a rule says otherwise."""
    cut = one.mentions > mother.mentions
    moves = _MOVES_IN_IMAGES if cut else _MOVES
    if cut and str(mother.header.get("CTYPE1")).endswith("-TPU"):
        moves = re.compile(rf"{moves.pattern}|PV\d_\d+[A-Z]?")
    mine = iter(one.cards)
    keywords = {keyword_of(card) for card in one.cards}
    waiting = mother.cards
    seen: list[bytes] = []
    for at, card in enumerate(waiting):
        keyword = keyword_of(card)
        if mother.is_compressed and cut and _OF_THE_COMPRESSION.fullmatch(keyword):
            continue
        if keyword and moves.fullmatch(keyword):
            if keyword not in keywords:
                (figures.left_out if _GOES.fullmatch(keyword) else figures.lost).add(keyword)
            continue
        if keyword and _GOES.fullmatch(keyword) and card not in one.cards:
            figures.left_out.add(keyword)
            continue
        if card.startswith(b"CONTINUE") and card not in one.cards:
            owner = next(keyword_of(c) for c in reversed(waiting[:at]) if c[:8] != b"CONTINUE")
            if owner in figures.left_out:
                continue
        seen.append(card)
    for card in seen:
        if not any(card == other for other in mine):
            figures.lost.add(keyword_of(card) or card.decode("latin-1").strip()[:30])
            break
    if cut:
        assert one.hdu.name == _name(mother)
        assert one.hdu.ver == mother.hdu.ver
        assert one.hdu.level == mother.hdu.level


def _name(mother: Hdu) -> str:
    """The parent's EXTNAME; that of compression itself is no name of an image."""
    name = str(mother.hdu.name)
    return "" if mother.is_compressed and name == "COMPRESSED_IMAGE" else name


def _compare_coordinates(
    child: File, one: Hdu, parent: File, mother: Hdu, section: Section, figures: Figures
) -> None:
    shape = [high - low + 1 for low, high in section]
    grid: Floats = np.indices(shape, dtype=np.float64).reshape(len(shape), -1) + 1.0
    shift = np.array([low - 1 for low, _ in section])[:, np.newaxis]
    assert child.systems(one.index) == parent.systems(mother.index)
    for key in parent.systems(mother.index):
        before = parent.world(mother.index, key, grid + shift)
        after = child.world(one.index, key, grid)
        if isinstance(before, str) or isinstance(after, str):
            assert before == after
            continue
        assert before.shape == after.shape
        # Axes beyond WCSAXES have no coordinates; astropy counts their pixels instead.
        described = mother.header.get(f"WCSAXES{key}")
        wcs = parent.wcs(mother.index, key)
        sky = (wcs.wcs.lng, wcs.wcs.lat) if wcs.wcs.lng >= 0 and wcs.wcs.lat >= 0 else ()
        assert np.array_equal(np.isfinite(before[:described]), np.isfinite(after[:described]))
        if sky:
            apart = separation(before[list(sky)], after[list(sky)])
            figures.sky_mas = max(figures.sky_mas, float(np.nanmax(apart, initial=0)) * MAS)
        for axis in range(before.shape[0])[:described]:
            if axis not in sky:
                scale = np.maximum(np.abs(before[axis]), np.finfo("f8").tiny)
                apart = np.abs(after[axis] - before[axis]) / scale
                figures.other_axes = max(figures.other_axes, float(np.nanmax(apart, initial=0)))
        figures.places += grid.shape[1]


def separation(one: Floats, other: Floats) -> Floats:
    """Degrees between places given as rows of longitude and latitude in degrees."""
    lon, lat = np.radians(one)
    other_lon, other_lat = np.radians(other)
    # Haversines: exact for the smallest angles.
    half = (
        np.sin((other_lat - lat) / 2) ** 2
        + np.cos(lat) * np.cos(other_lat) * np.sin((other_lon - lon) / 2) ** 2
    )
    angles: Floats = np.degrees(2 * np.arcsin(np.sqrt(np.clip(half, 0, 1))))
    return angles


def measured(subject: Subject, program: str | None, *, coordinates: bool = True) -> Figures:
    """Cut a file all over, compare every cutout, and give the worst of it.

    *program* is fitsverify, None where there is none. *coordinates* as in `compare`.
    """
    figures = Figures()
    verified: list[bytes] = []
    for number, index in enumerate(subject.sky_images()):
        places = places_on(subject.grid(index))
        for place in places if number == 0 else places[:1]:
            plan = subject.plan(place.shape)
            assert plan is not None, f"{place.name} of HDU {index} gives no pixel"
            assert [one.hdu.layout.index for one in plan.hdus if one.box]
            contents = subject.made(plan)
            figures.add(compare(subject, contents, coordinates=coordinates))
            if place.name in VERIFIED:
                verified.append(contents)
    if program is not None and verified:
        folder = subject.folder
        figures.complaints = new_complaints(program, subject, verified, folder)
    return figures


VERIFIED: Final = ("centre", "corner 0")
"""Places whose cutouts fitsverify sees."""


# ---------------------------------------------------------------- fitsverify


def complaints(program: str, *paths: Path) -> set[str]:
    """What fitsverify says of files, without the numbers of cards."""
    run = subprocess.run([program, "-l", *paths], capture_output=True, text=True, check=False)
    lines = (run.stdout + run.stderr).splitlines()  # warnings in the one, errors in the other
    found = [line for line in lines if line.startswith("*** ")]
    return {re.sub(r"(Keyword|card) #\d+", r"\1", line) for line in found}


def new_complaints(
    program: str, subject: Subject, contents: Sequence[bytes], folder: Path
) -> set[str]:
    """What fitsverify says of cutouts and not of their parent."""
    paths = [folder / f"verified{number}.fits" for number in range(len(contents))]
    for path, one in zip(paths, contents, strict=True):
        path.write_bytes(one)
    said = complaints(program, *paths)
    if said and subject.complaints is None:
        paths[0].write_bytes(subject.raw)
        subject.complaints = complaints(program, paths[0])
    return said - (subject.complaints or set())
