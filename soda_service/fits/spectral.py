"""The spectral axis, as wavelengths in vacuum at the barycentre.

Source: FITS 4.0 §8.4; Greisen et al. (2006), "Paper III": §2 for the quantities, §5 for air,
§7 and its table 12 for standards of rest.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from soda_service.fits.axes import (
    AxisRange,
    axis_problem,
    edge_pixels,
    find_axis,
    table_problem,
    wcslib_values,
)
from soda_service.fits.wcscards import WcsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from soda_service.fits.wcscards import WcsCards

LIGHT: Final = 299792458.0
"""m/s."""
PLANCK: Final = 6.62607015e-34
"""J s."""
_AXIS: Final = re.compile(
    r"(FREQ|ENER|WAVN|WAVE|AWAV|VRAD|VOPT|ZOPT|VELO|BETA|FELO)(-[A-Z0-9]{3})?"
)
_SI: Final = {
    "WAVE": "m", "AWAV": "m", "FREQ": "Hz", "ENER": "J", "WAVN": "1/m",
    "VRAD": "m/s", "VOPT": "m/s", "VELO": "m/s",
}  # fmt: skip
"""Units of the quantities that have one (FITS 4.0 table 25)."""
_SPELT: Final = {
    "a": "Angstrom", "ang": "Angstrom", "angstrom": "Angstrom", "angstroms": "Angstrom",
    "um": "um", "micron": "um", "microns": "um", "micrometer": "um", "nm": "nm", "nanometer": "nm",
    "m/s": "m/s", "m/sec": "m/s", "km/s": "km/s", "km/sec": "km/s", "ev": "eV", "kev": "keV",
}  # fmt: skip
"""Units as people write them, in any case; the letters of others mean two things (MEV, MM)."""
_AT_REST: Final = frozenset(("BARYCENT", "HELIOCEN"))
"""Heliocentre and barycentre are 12 m/s apart: far below any channel."""


def is_spectral(ctype: str) -> bool:
    """Whether an axis of this CTYPE is one of wavelength."""
    return _AXIS.fullmatch(ctype) is not None


def read_spectral(
    cards: WcsCards, direction: NDArray[np.float64] | None, tables: bytes
) -> AxisRange | None:
    """The spectral axis; None where there is none.

    *direction* is the ICRS unit vector (3,) of the middle of the image, for changing the
    standard of rest; None where it is not known.
    """
    axis = find_axis(cards, _AXIS)
    if axis is None:
        return None
    none = np.empty(0)
    unit = cards.text("CUNIT", axis)
    if spelt := _SPELT.get(unit.lower()):
        cards.texts[f"CUNIT{axis + 1}"] = spelt
    if problem := axis_problem(cards, axis):
        return AxisRange(axis, none, problem)
    try:
        wcsprm, values = wcslib_values(cards, axis, edge_pixels(cards, axis), tables)
        if cards.text("CTYPE", axis).endswith("-TAB"):
            values = values * _si_units(cards, axis)
        quantity = str(wcsprm.ctype[0])[:4]
        rest = _rest_wavelength(cards)
        if rest is None and quantity in _STRETCHES:
            cards.assert_legible("RESTWAV", "RESTFRQ", "RESTFREQ")
        lengths = wavelengths(quantity, values, rest)
        cards.assert_legible("SPECSYS")
    except WcsError as error:
        return AxisRange(axis, none, str(error))
    untold = np.isnan(lengths)
    if untold.all() if cards.text("CTYPE", axis).endswith("-TAB") else untold.any():
        return AxisRange(axis, none, f"CTYPE{axis + 1}: some pixels have no wavelength")
    if problem := table_problem(cards, axis, lengths):
        return AxisRange(axis, none, problem)
    system = cards.texts.get("SPECSYS", "") or str(wcsprm.specsys)
    doppler, note = _to_barycentre(system.upper(), cards.numbers.get("VELOSYS"), direction)
    return AxisRange(axis, lengths * doppler, frame_note=note)


def _si_units(cards: WcsCards, axis: int) -> float:
    """SI units in one of CUNIT: wcslib gives the values of a table as they stand there."""
    from astropy import units

    unit = cards.text("CUNIT", axis)
    quantity = cards.text("CTYPE", axis)[:4]
    if not unit or quantity not in _SI:
        return 1.0
    try:
        return float(units.Unit(unit, format="fits").to(_SI[quantity]))
    except (ValueError, units.UnitsError) as error:
        reason = str(error).partition("\n")[0]
        raise WcsError(f"CUNIT{axis + 1} = {unit!r}: {reason}") from None


def wavelengths(
    quantity: str, values: NDArray[np.float64], rest: float | None
) -> NDArray[np.float64]:
    """Metres in vacuum for values of a spectral *quantity* in SI units.

    *rest* is the rest wavelength in metres, which velocities need: WcsError without it.
    Where frequency or energy is zero or less the wavelength is infinite.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if quantity in _LENGTHS:
            return _LENGTHS[quantity](values)
        if quantity not in _STRETCHES:
            raise WcsError(f"{quantity} is no spectral quantity")
        if rest is None:
            raise WcsError(f"RESTFRQ and RESTWAV are absent: {quantity} has no wavelength")
        return rest * _STRETCHES[quantity](values)


def refractive_index(metres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of dry air for a wavelength in it (Paper III equation 65).

    The standard's formula is that for 0 degrees Celsius; air at 15 degrees, which many
    laboratories mean, would make vacuum wavelengths 15e-6 shorter.
    """
    inverse_square = (1e-6 / metres) ** 2
    parts = 287.6155 + 1.62887 * inverse_square + 0.01360 * inverse_square**2
    return 1 + 1e-6 * parts


def _reciprocal(numerator: float, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values > 0, numerator / values, np.where(values <= 0, np.inf, np.nan))


def _doppler(beta: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt((1 + beta) / (1 - beta)), dtype=np.float64)


_LENGTHS: Final[dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]]] = {
    "WAVE": lambda values: values,
    "AWAV": lambda values: values * refractive_index(values),
    "FREQ": lambda values: _reciprocal(LIGHT, values),
    "ENER": lambda values: _reciprocal(PLANCK * LIGHT, values),
    "WAVN": lambda values: _reciprocal(1.0, values),
}
"""Wavelength of quantities that need nothing else."""
_STRETCHES: Final[dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]]] = {
    "VRAD": lambda values: _reciprocal(1.0, 1 - values / LIGHT),
    "VOPT": lambda values: 1 + values / LIGHT,
    "ZOPT": lambda values: 1 + values,
    "VELO": lambda values: _doppler(values / LIGHT),
    "BETA": _doppler,
}
"""Wavelength over rest wavelength of quantities that are relative to a line."""


def _rest_wavelength(cards: WcsCards) -> float | None:
    if cards.numbers.get("RESTWAV", 0) > 0:
        return cards.numbers["RESTWAV"]
    if cards.numbers.get("RESTFRQ", 0) > 0:
        return LIGHT / cards.numbers["RESTFRQ"]
    return None


# ---------------------------------------------------------------- standards of rest


def _direction(lon: float, lat: float) -> NDArray[np.float64]:
    lon, lat = np.radians((lon, lat))
    return np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


# Velocity of the barycentre in each frame, m/s along ICRS axes. Galactic directions were
# turned into ICRS: (l, b) = (90, 0), (53, 25), (263.85, 48.25).
_SUN_KINEMATIC: Final = 20_000.0 * _direction(270.9588, 30.0047)
"""20 km/s towards 18h +30d of 1900."""
_SUN_DYNAMIC: Final = 16_552.9 * _direction(267.4944, 28.1178)
"""(9, 12, 7) km/s along galactic axes."""
_ROTATION: Final = _direction(318.0044, 48.3296)
_FRAMES: Final = {
    "LSRK": _SUN_KINEMATIC,
    "LSRD": _SUN_DYNAMIC,
    "GALACTOC": _SUN_DYNAMIC + 220_000.0 * _ROTATION,
    "LOCALGRP": 300_000.0 * _ROTATION,
    "CMBDIPOL": 368_000.0 * _direction(167.8455, -6.8825),
}


def _to_barycentre(
    system: str, velosys: float | None, direction: NDArray[np.float64] | None
) -> tuple[float, str]:
    """Factor that turns wavelengths of a standard of rest into barycentric ones, and a note.

    VELOSYS of a topocentric axis is taken as the observer's velocity towards the source,
    relative to the barycentre (m/s).
    """
    if system in _AT_REST:
        return 1.0, ""
    if system in _FRAMES:
        if direction is None:
            return 1.0, f"SPECSYS = {system}: taken as barycentric, for want of a direction"
        towards = float(_FRAMES[system] @ direction)
        return 1 / float(_doppler(np.array(towards / LIGHT))), ""
    if system == "TOPOCENT" and velosys is not None and abs(velosys) < LIGHT:
        return float(_doppler(np.array(velosys / LIGHT))), ""
    told = f"SPECSYS = {system}" if system else "SPECSYS is absent"
    return 1.0, f"{told}: wavelengths are taken as barycentric"
