"""Axes of an image other than the sky: wavelength, time, polarization.

Pixel ranges are 0-based and half-open, along one axis. Wavelengths are metres in vacuum,
times MJD UTC, as SODA 1.0 §3.3 asks for them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import gcd
from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from soda_service.fits.linearpart import coupling, reference_pixel
from soda_service.fits.wcscards import WcsError
from soda_service.fits.wcslib import wcslib_reason
from soda_service.fits.wcslibheader import compose_header
from soda_service.fits.wcstables import open_tab_tables
from soda_service.geometry.shapes import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from soda_service.fits.wcscards import WcsCards

MOST_PIXELS: Final = 1_000_000
"""Longest axis whose edges are computed and kept one by one: 8 MB, and a second or two of work.

A file of some kilobytes can have an axis of any length, tile-compressed say.
"""
_MOST_PLANES: Final = 10_000
"""The same of polarization, which has no more than a few states."""
_SLIVER: Final = 1e-6
"""Part of a pixel that an interval must cover to select it, as for shapes on the sky."""
_STATES: Final[dict[int, str]] = {
    1: "I", 2: "Q", 3: "U", 4: "V",
    -1: "RR", -2: "LL", -3: "RL", -4: "LR", -5: "XX", -6: "YY", -7: "XY", -8: "YX",
    5: "POLI", 7: "POLA",
}  # fmt: skip
"""STOKES of FITS 4.0 table 29, and AIPS's numbers for linear polarization and its angle."""


@dataclass(frozen=True, slots=True, eq=False)
class AxisRange:
    """What the pixels of a spectral or a time axis cover."""

    axis: int
    """0-based, in FITS order."""
    edges: NDArray[np.float64] = field(repr=False)
    """The lower edge of each pixel and the upper edge of the last: one more than pixels.

    They rise or fall; NaN beyond the ends of a table; empty where `problem` says why they
    cannot be told.
    """
    problem: str = ""
    frame_note: str = ""
    """What is uncertain about the standard of rest; empty where nothing is."""

    @property
    def bounds(self) -> Interval | None:
        """From the lowest edge to the highest; None where they cannot be told."""
        if self.problem or not len(self.edges):
            return None
        return Interval(float(np.nanmin(self.edges)), float(np.nanmax(self.edges)))

    @property
    def nbytes(self) -> int:
        """Bytes that the edges take."""
        return self.edges.nbytes

    def box(self, interval: Interval) -> tuple[int, int] | None:
        """The pixels that meet *interval*; None where none does.

        A pixel counts where more than a millionth of it is covered; an interval shorter than
        that selects the pixel that holds it, which owns its lower edge but not its upper.
        Raises WcsError where the axis cannot be told in the units of *interval*.
        """
        if self.problem:
            raise WcsError(self.problem)
        low = np.minimum(self.edges[:-1], self.edges[1:])
        high = np.maximum(self.edges[:-1], self.edges[1:])
        with np.errstate(invalid="ignore"):
            least = np.where(np.isfinite(high), (high - low) * _SLIVER, 0)
            covered = np.minimum(high, interval.upper) - np.maximum(low, interval.lower)
            selected = covered > least
            if not selected.any():
                selected = (low <= interval.lower) & (interval.lower < high)
            if not selected.any():
                selected = (low <= interval.upper) & (interval.lower <= high)
        found = np.flatnonzero(selected)
        return (int(found[0]), int(found[-1]) + 1) if len(found) else None


@dataclass(frozen=True, slots=True)
class Polarization:
    """The polarization states along a STOKES axis."""

    axis: int
    """0-based, in FITS order."""
    planes: tuple[str | None, ...]
    """The state of each pixel, in SODA's spelling; None where a number has no name."""
    problem: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes that the planes take."""
        return getsizeof(self.planes)

    @property
    def states(self) -> tuple[str, ...]:
        """The states that exist, in the order of the pixels."""
        return tuple(dict.fromkeys(state for state in self.planes if state is not None))

    def box(
        self, states: tuple[str, ...], within: tuple[int, int] | None = None
    ) -> tuple[int, int] | None:
        """The shortest run of pixels that holds those of *states* that exist; None if none does.

        *within* are the pixels that count, all of them where it is None. Raises WcsError where
        the axis cannot be told.
        """
        if self.problem:
            raise WcsError(self.problem)
        found = self._places(states, within)
        return (found[0], found[-1] + 1) if found else None

    def step(self, states: tuple[str, ...], within: tuple[int, int] | None = None) -> int:
        """The longest step from the first of those pixels that leads through all of them."""
        found = self._places(states, within)
        return max(1, gcd(*(number - found[0] for number in found)))

    def _places(self, states: tuple[str, ...], within: tuple[int, int] | None) -> list[int]:
        low, high = within or (0, len(self.planes))
        return [
            number
            for number, state in enumerate(self.planes)
            if state in states and low <= number < high
        ]


def find_axis(cards: WcsCards, pattern: re.Pattern[str]) -> int | None:
    """The first axis whose CTYPE matches *pattern* as a whole, 0-based; None if none does."""
    axes = range(len(cards.naxis))
    return next((axis for axis in axes if pattern.fullmatch(cards.text("CTYPE", axis))), None)


def axis_problem(cards: WcsCards, axis: int, *, most_pixels: int = MOST_PIXELS) -> str:
    """Why *axis* cannot be told without the others, pixel by pixel; empty where it can."""
    name = f"axis {axis + 1} ({cards.text('CTYPE', axis)})"
    if coupled := coupling(cards, (axis,)):
        return f"{coupled}: {name} is not alone in its row of the matrix"
    if cards.length(axis) > most_pixels:
        return f"NAXIS{axis + 1}: {name} is longer than {most_pixels} pixels"
    return ""


def edge_pixels(cards: WcsCards, axis: int) -> NDArray[np.float64]:
    """Pixel coordinates of all edges of an axis, 1-based as FITS counts."""
    return np.arange(cards.length(axis) + 1, dtype=np.float64) + 0.5


def linear_values(cards: WcsCards, axis: int, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """World coordinates of a linear axis, in its own unit. *pixels* are 1-based."""
    reference = float(reference_pixel(cards, (axis,))[0])
    step = cards.element(axis, axis)
    return cards.number("CRVAL", axis, 0.0) + step * (pixels - reference)


def _reach_the_ends(wcsprm: Any, pixels: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    """Put at the edge beyond either end of a table what holds at the end.

    wcslib goes on for half a step beyond the outermost rows, which may be less than half a pixel.
    """
    inside = np.flatnonzero(np.isfinite(values))
    for last, beyond in ((inside[:1], inside[:1] - 1), (inside[-1:], inside[-1:] + 1)):
        if len(last) and 0 <= beyond[0] < len(values):
            way = np.linspace(pixels[last[0]], pixels[beyond[0]], 1001)
            found = wcsprm.p2s(way.reshape(-1, 1), 1)["world"][:, 0]
            values[beyond[0]] = found[np.flatnonzero(np.isfinite(found))[-1]]


def table_problem(cards: WcsCards, axis: int, edges: NDArray[np.float64]) -> str:
    """Why pixels between *edges* cannot be told apart on a -TAB axis; empty where they can."""
    if not cards.text("CTYPE", axis).endswith("-TAB"):
        return ""
    steps = np.diff(edges)
    if (steps > 0).any() and (steps < 0).any():
        return f"CTYPE{axis + 1}: the coordinates of its table rise and fall"
    return ""


def read_polarization(cards: WcsCards) -> Polarization | None:
    """The STOKES axis; None where there is none."""
    axis = find_axis(cards, re.compile("STOKES"))
    if axis is None:
        return None
    if problem := axis_problem(cards, axis, most_pixels=_MOST_PLANES):
        return Polarization(axis, (), problem)
    try:
        numbers = linear_values(cards, axis, np.arange(1.0, cards.length(axis) + 1))
    except WcsError as error:
        return Polarization(axis, (), str(error))
    whole = np.rint(numbers)
    planes = tuple(
        _STATES.get(int(one)) if abs(one - number) < 0.01 and abs(one) < 100 else None
        for one, number in zip(whole, numbers, strict=True)
    )
    return Polarization(axis, planes)


def wcslib_values(
    cards: WcsCards, axis: int, pixels: NDArray[np.float64], tables: bytes
) -> tuple[Any, NDArray[np.float64]]:
    """One axis described in wcslib, and its world coordinates in SI. *pixels* are 1-based.

    Raises WcsError where wcslib cannot do it.
    """
    # 0.4 s, and only cubes need it.
    from astropy import wcs as astropy_wcs

    ctype = cards.text("CTYPE", axis)
    options: dict[str, object] = {"warnings": False}
    header = compose_header(cards, (axis,), ctypes=[ctype])
    try:
        if ctype.endswith("-TAB"):
            options["hdulist"] = open_tab_tables(cards, (axis,), tables)
        wcsprm = astropy_wcs.Wcsprm(header=header, **options)
        wcsprm.fix()
        wcsprm.set()
        values = wcsprm.p2s(pixels.reshape(-1, 1), 1)["world"][:, 0]
        if ctype.endswith("-TAB"):
            _reach_the_ends(wcsprm, pixels, values)
    except WcsError:
        raise
    except Exception as error:  # noqa: BLE001 - astropy fails in many ways over a damaged table
        # The axis is the first one there, whatever its number is in the file.
        reason = re.sub(r"\b(C[A-Z]{4})1\b", rf"\g<1>{axis + 1}", wcslib_reason(error))
        raise WcsError(f"CTYPE{axis + 1} = {ctype!r}: {reason}") from None
    return wcsprm, np.asarray(values, dtype=np.float64)
