"""Proof that a cutout's coordinates are its parent's: a grid of pixels goes through both.

The parent's description and that in the bytes of the cutout are each read for themselves, as
`wcscards` reads any header; nothing of the one is used for the other. All descriptions are
compared, the primary one and the alternates A to Z (FITS 4.0 §8.2.1), each as far as wcslib
understands it; where it does not, as the linear map that the cards spell out.

Pixel coordinates are 0-based here, with integers at pixel centres; axes are 0-based, in FITS
order.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from soda_service.errors import UntrueHeaderError
from soda_service.fits.cards import CARD_SIZE, Header, render_cards
from soda_service.fits.celestial import CelestialGrid
from soda_service.fits.celestialaxes import celestial_axes
from soda_service.fits.cubefaces import face_axis, has_several_faces
from soda_service.fits.linearpart import coupling
from soda_service.fits.newcards import card
from soda_service.fits.wcscards import WcsCards, WcsError
from soda_service.fits.wcslibheader import compose_header
from soda_service.fits.wcstables import open_tab_tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MOST_MAS: Final = 0.1
"""Milliarcseconds on the sky by which a cutout may be wrong."""
MOST_PIXELS: Final = 1e-3
"""The same for other axes, in pixels."""

_SKY_KEYWORD: Final = "CUTWCSER"
_AXIS_KEYWORD: Final = "CUTAXSER"
_POINTS_KEYWORD: Final = "CUTWCSNP"
PROOF_KEYWORDS: Final = (_SKY_KEYWORD, _AXIS_KEYWORD, _POINTS_KEYWORD)
"""What `with_proof_cards` writes."""

_ALTERNATE: Final = re.compile(
    rb"((?:CTYPE|CUNIT|CRPIX|CRVAL|CDELT|CROTA|CPDIS|CQDIS|DP|DQ)[1-9][0-9]?"
    rb"|(?:PC|CD|PV|PS)[0-9]+_[0-9]+"
    rb"|WCSAXES|LONPOLE|LATPOLE|RADESYS|EQUINOX|SPECSYS|SSYSOBS|RESTFRQ|RESTWAV|VELOSYS)"
    rb"([A-Z])"
)
"""A keyword of an alternate description, and its letter."""
_OF_THE_PRIMARY: Final = re.compile(
    rb"(?:CTYPE|CUNIT|CRPIX|CRVAL|CDELT|CROTA|CPDIS|CQDIS|DP|DQ|D2IM|D2IMDIS)[1-9][0-9]?"
    rb"|(?:PC|CD)(?:[0-9]+_[0-9]+|[0-9]{6})|(?:PV|PS)[0-9]+_[0-9]+"
    rb"|[AB]P?_(?:ORDER|[0-9]_[0-9])|WAT[0-9]_[0-9]{3}|AMD[XY][0-9]{1,2}|PPO[1-6]|PLT.*"
    rb"|WCSAXES|LONPOLE|LATPOLE|RADESYS|RADECSYS|EQUINOX|EPOCH|SPECSYS|SSYSOBS|REST(?:FRQ|FREQ|WAV)"
    rb"|VELOSYS|VELREF"
)
"""What an alternate has for itself, or has not at all."""

_ACROSS: Final = 9
"""Points along each axis of the sky."""
_MOST_POINTS: Final = 2000
"""Of a grid over all axes of a description."""
_ROUNDING: Final = 4
"""Units in the last place of a coordinate that are no difference."""
_MOST_LONG_AXES: Final = 10
"""Axes that a grid goes along."""
_MAS: Final = 3.6e6
"""In a degree."""


@dataclass(frozen=True, slots=True)
class Proof:
    """How far the coordinates of one cut image are from its parent's."""

    largest_mas: float | None
    """On the sky; None where no position was compared."""
    largest_pixels: float | None
    """Along other axes, in pixels of theirs; None where none was compared."""
    points: int
    """Pixel positions that went through both, all descriptions together."""


class Prover:
    """The coordinates of a parent, against which its cutouts are held; for several threads."""

    def __init__(self, header: Header, naxis: tuple[int, ...], *, tables: bytes = b"") -> None:
        """*header* is that of the image (`image_header` of a compressed one).

        *tables* are the HDUs that `referred_tables` names, as they stand in the file, headers
        and padded data, one after the other. A description that cannot be read is left out:
        there is nothing that a cutout of it could keep.
        """
        self._descriptions: dict[str, _Description] = {}
        self._lock = threading.Lock()
        for letter, own in _descriptions(header).items():
            try:
                self._descriptions[letter] = _Description(own, naxis, tables)
            except WcsError:
                continue

    def prove(
        self,
        cutout: bytes,
        offset: Sequence[int],
        *,
        step: Sequence[int] | None = None,
        tables: bytes = b"",
        most_mas: float = MOST_MAS,
        most_pixels: float = MOST_PIXELS,
    ) -> Proof:
        """The largest differences over a grid of pixels of the cutout.

        *cutout* is its header as it goes out, *tables* are the HDUs that it refers to, as
        they go out with it. Its pixel q is the parent's offset + step * q; *offset* may be
        negative (padding), *step* is one on each axis where it is None. Raises
        UntrueHeaderError beyond the limits, and where the cutout lacks a description or has
        one that cannot be read.
        """
        header = Header.parse(cutout)
        mine = _descriptions(header)
        moved = _Moved(tuple(offset), tuple(step) if step is not None else (1,) * len(offset))
        all_found: list[_Differences] = []
        for letter, its in self._descriptions.items():
            name = f"the description {letter!r}" if letter else "the description"
            if letter not in mine:
                raise UntrueHeaderError(f"{name} of the coordinates is not in the cutout")
            try:
                description = _Description(mine[letter], _naxis(header), tables)
                with self._lock:  # wcslib keeps scratch space in its structures
                    found = _compared(its, description, moved)
            except WcsError as error:
                raise UntrueHeaderError(
                    f"{name} in the cutout is not to be used: {error}"
                ) from None
            _refuse(name, found, most_mas=most_mas, most_pixels=most_pixels)
            all_found.append(found)
        return Proof(
            max((one.mas for one in all_found if one.mas is not None), default=None),
            max((one.pixels for one in all_found if one.pixels is not None), default=None),
            sum(one.points for one in all_found),
        )


def proof_cards(proof: Proof) -> bytes:
    """Cards that tell of *proof*; the number of points alone where there was nothing else."""
    cards = []
    if proof.largest_mas is not None:
        told = float(f"{proof.largest_mas:.2e}")
        cards.append(card(_SKY_KEYWORD, told, "[mas] largest error of positions here"))
    if proof.largest_pixels is not None:
        told = float(f"{proof.largest_pixels:.2e}")
        cards.append(card(_AXIS_KEYWORD, told, "[pixel] the same of other axes"))
    what = "pixels put through parent and cutout" if proof.points else "no coordinates to compare"
    cards.append(card(_POINTS_KEYWORD, proof.points, what))
    return b"".join(cards)


def with_proof_cards(header: bytes, proof: Proof) -> bytes:
    """A complete header with the cards of *proof* as its last ones, in place of older ones."""
    kept = [one.raw for one in Header.parse(header) if one.keyword not in PROOF_KEYWORDS]
    return render_cards(*kept, proof_cards(proof))


def _refuse(name: str, found: _Differences, *, most_mas: float, most_pixels: float) -> None:
    for largest, most, unit in (
        (found.mas, most_mas, "mas"),
        (found.pixels, most_pixels, "pixels"),
    ):
        if largest is not None and not largest <= most:
            raise UntrueHeaderError(f"{name} of the coordinates is wrong by {largest:.3g} {unit}")


def _naxis(header: Header) -> tuple[int, ...]:
    count = header.integer("NAXIS") or 0
    return tuple(header.integer(f"NAXIS{axis}") or 1 for axis in range(1, count + 1))


# ---------------------------------------------------------------- descriptions


def _descriptions(header: Header) -> dict[str, Header]:
    """By letter, empty for the primary one: the header as if it had this description alone."""
    alternates: dict[str, list[bytes]] = {}
    shared: list[bytes] = []
    for one in header:
        keyword = one.raw[:8].rstrip()
        if found := _ALTERNATE.fullmatch(keyword):
            letter = found[2].decode("ascii")
            alternates.setdefault(letter, []).append(found[1].ljust(8) + one.raw[8:])
        elif not _OF_THE_PRIMARY.fullmatch(keyword):
            shared.append(one.raw)
    found_all = {"": header} | {
        letter: Header(b"".join([*shared, *cards])) for letter, cards in sorted(alternates.items())
    }
    return {letter: one for letter, one in found_all.items() if _is_described(one)}


_SAYS_SOMETHING: Final = re.compile(
    rb"(?:CTYPE|CRPIX|CRVAL|CDELT)[1-9][0-9]?|(?:PC|CD)(?:[0-9]+_[0-9]+|[0-9]{6})|PLTRAH"
)


def _is_described(header: Header) -> bool:
    raw = header.raw
    starts = range(0, len(raw), CARD_SIZE)
    return any(_SAYS_SOMETHING.fullmatch(raw[at : at + 8].rstrip()) for at in starts)


class _Description:
    """One description of an image's coordinates."""

    def __init__(self, header: Header, naxis: tuple[int, ...], tables: bytes) -> None:
        """Raises WcsError where the cards themselves are out of bounds."""
        self.cards = WcsCards.of(header, naxis)
        self.count = self.cards.count
        """Number of axes that the description has; pixels may have more."""
        if header.integer("WCSAXES") is not None:
            self.count = WcsCards.of(header, ()).count
        self.grid: CelestialGrid | None = None
        """The sky with all its distortions; None where it cannot be told by two axes."""
        is_understood = True
        try:
            sky = celestial_axes(self.cards)
            if has_several_faces(self.cards):
                sky = None  # wcslib takes the three axes together
            if (
                sky is not None
                and sky[1] < len(naxis)
                and not coupling(self.cards, sky, most_pixels=0.0)
            ):
                self.grid = CelestialGrid(self.cards, sky, tables)
        except WcsError:
            # Half of a description would prove half of it: its matrix is left.
            is_understood = False
        axes = range(self.count)
        wcsprm = _understood(self.cards, axes, tables) if is_understood else None
        self.axes = _Axes(self.cards, axes, wcsprm)


class _Axes:
    """All axes of a description together, distortions of the pixel grid left out."""

    def __init__(self, cards: WcsCards, axes: Sequence[int], wcsprm: Any) -> None:
        self._matrix = np.array([[cards.element(row, column) for column in axes] for row in axes])
        self._crpix = np.array([cards.number("CRPIX", axis, 0.0) for axis in axes]) - 1
        self._crval = np.array([cards.number("CRVAL", axis, 0.0) for axis in axes])
        self._wcsprm = wcsprm

    @property
    def is_understood(self) -> bool:
        """Whether wcslib takes the description."""
        return self._wcsprm is not None

    @property
    def sky(self) -> tuple[int, int] | None:
        """Numbers of longitude and latitude among the coordinates, where wcslib sees them."""
        if self._wcsprm is None or self._wcsprm.lng < 0 or self._wcsprm.lat < 0:
            return None
        return self._wcsprm.lng, self._wcsprm.lat

    def world(self, pixels: Floats, *, linear: bool) -> Floats:
        """World coordinates (N, axes) of pixel coordinates (N, axes); NaN where there are none.

        *linear* takes the matrix alone, as is done where wcslib does not take the description.
        """
        if linear:
            straight: Floats = self._crval + (pixels - self._crpix) @ self._matrix.T
            return straight
        world: Floats = self._wcsprm.p2s(pixels, 0)["world"]
        return world

    def pixel_sizes(self, pixels: Floats, *, linear: bool) -> Floats:
        """World coordinates per pixel (N, axes) there, along the pixel axis that has the most."""
        most = np.zeros(pixels.shape)
        here = self.world(pixels, linear=linear)
        for half in np.eye(pixels.shape[1]) / 2:
            before, after = (self.world(pixels + one, linear=linear) for one in (-half, half))
            # A table may end on one side.
            for step in (after - before, 2 * (after - here), 2 * (here - before)):
                most = np.fmax(most, np.abs(step))
        return np.where(most > 0, most, np.abs(self._matrix).max(axis=1))


def _understood(cards: WcsCards, axes: Sequence[int], tables: bytes) -> Any:
    """The description in wcslib; None where it does not take it."""
    # 0.4 s, and only proofs need it.
    from astropy import wcs as astropy_wcs

    ctypes = [cards.text("CTYPE", axis) for axis in axes]
    options: dict[str, object] = {"warnings": False}
    try:
        if any(ctype.endswith("-TAB") for ctype in ctypes):
            options["hdulist"] = open_tab_tables(cards, axes, tables)
        wcsprm = astropy_wcs.Wcsprm(header=compose_header(cards, axes, ctypes=ctypes), **options)
        wcsprm.fix()
        wcsprm.set()
        # It may take what no pixel can be put through.
        wcsprm.p2s(np.zeros((1, len(axes))), 0)
    except Exception:  # noqa: BLE001 - astropy fails in many ways over a damaged table
        return None
    return wcsprm


# ---------------------------------------------------------------- comparison


@dataclass(frozen=True, slots=True)
class _Moved:
    """Where the cutout's pixels are in the parent."""

    offset: tuple[int, ...]
    step: tuple[int, ...]

    def __call__(self, pixels: Floats, axes: Iterable[int]) -> Floats:
        """Pixel coordinates (N, axes) of the parent; axes without pixels stay where they are."""
        moved = pixels.copy()
        for column, axis in enumerate(axes):
            if axis < len(self.offset):
                moved[:, column] = self.offset[axis] + self.step[axis] * pixels[:, column]
        return moved


@dataclass(slots=True)
class _Differences:
    """The largest ones between two descriptions; None where there was nothing to compare."""

    mas: float | None = None
    pixels: float | None = None
    points: int = 0


def _compared(parent: _Description, cutout: _Description, moved: _Moved) -> _Differences:
    """Raises WcsError where the cutout's description is not of the same axes."""
    found = _Differences()
    count = parent.count
    if cutout.count != count:
        raise WcsError(f"it has {cutout.count} axes, the parent's {count}")
    sky: tuple[int, ...] = ()
    if parent.grid is not None:
        sky = parent.grid.axes
        if cutout.grid is None or cutout.grid.axes != sky:
            raise WcsError("the positions on the sky cannot be told any more")
        pixels = _pixel_grid(cutout.grid.naxis)
        its = parent.grid.pixel_to_sky(*moved(pixels, sky).T)
        found.mas = _largest_angle(its, cutout.grid.pixel_to_sky(*pixels.T))
        found.points = len(pixels)
    if len(sky) < count:
        _compare_axes(parent, cutout, moved, sky, found)
    return found


def _compare_axes(
    parent: _Description,
    cutout: _Description,
    moved: _Moved,
    sky: tuple[int, ...],
    found: _Differences,
) -> None:
    """All axes but those of the *sky*, which have been compared already."""
    axes = range(parent.count)
    linear = not (parent.axes.is_understood and cutout.axes.is_understood)
    pixels = _pixel_grid([cutout.cards.length(axis) for axis in axes])
    if not linear and (faces := face_axis(cutout.cards)) is not None:
        # Between two faces there is nothing.
        last = cutout.cards.length(faces) - 1
        pixels[:, faces] = np.clip(np.round(pixels[:, faces]), 0, last)
    at = moved(pixels, axes)
    its, mine = (
        description.axes.world(where, linear=linear)
        for description, where in ((parent, at), (cutout, pixels))
    )
    found.points += len(pixels)
    others = set(axes) - set(sky)
    pair = None if linear else parent.axes.sky
    if pair is not None and others.issuperset(pair):
        # The sky turns with another axis, and has no grid of its own.
        found.mas = _largest_angle(*(_vectors(*world[:, pair].T) for world in (its, mine)))
        others -= set(pair)
    if others:
        columns = sorted(others)
        sizes = parent.axes.pixel_sizes(at, linear=linear)[:, columns]
        apart = np.abs(its - mine)[:, columns]
        apart[apart <= _ROUNDING * np.spacing(np.abs(its[:, columns]))] = 0
        with np.errstate(divide="ignore", invalid="ignore"):
            steps = np.where(apart == 0, 0, apart / sizes)
        found.pixels = _largest(steps, its[:, columns], mine[:, columns])


def _pixel_grid(lengths: Sequence[int]) -> Floats:
    """Pixels (N, axes) from edge to edge along every axis, corners included."""
    long = sum(length > 1 for length in lengths)
    across = _ACROSS
    while across > 2 and across**long > _MOST_POINTS:
        across -= 1
    columns = [
        np.linspace(-0.5, length - 0.5, across)
        # With so many axes that even corners are too many, the last ones keep their first pixel.
        if length > 1 and sum(other > 1 for other in lengths[:axis]) < _MOST_LONG_AXES
        else np.zeros(1)
        for axis, length in enumerate(lengths)
    ]
    mesh = np.meshgrid(*columns, indexing="ij")
    return np.stack([one.ravel() for one in mesh], axis=1)


def _vectors(lon: Floats, lat: Floats) -> Floats:
    """Unit vectors (3, N) of degrees."""
    lon, lat = np.radians(lon), np.radians(lat)
    return np.stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))


def _largest_angle(its: Floats, mine: Floats) -> float:
    """Milliarcseconds between directions (3, N)."""
    chord = np.linalg.norm(its - mine, axis=0)
    angles = 2 * np.degrees(np.arcsin(np.minimum(chord / 2, 1))) * _MAS
    return _largest(angles, its[0], mine[0])


def _largest(differences: Floats, its: Floats, mine: Floats) -> float:
    """The largest of what both define; infinite where only one of them does."""
    defined = np.isfinite(its)
    if (defined != np.isfinite(mine)).any():
        return float("inf")
    return float(np.max(differences, where=defined, initial=0.0))
