"""The invented field: every source with its true position and brightness.

Positions are ICRS degrees, fluxes are nJy (AB) unless a name says otherwise, times are MJD (UTC).
Nothing here exists: the numbers come from one seeded generator, so every archive ever written by
one version of this module shows the same sky.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CENTRE = (53.124, -27.74)
"""Right ascension and declination of the middle of the field."""

HALF_WIDTH = 0.11
"""Half the side of the square that holds all sources, degrees."""

WAVELENGTHS = {
    "g": 0.48, "r": 0.62, "i": 0.75, "z": 0.87, "y": 0.96,
    "J": 1.24, "H": 1.66, "K": 2.16, "F606W": 0.59,
}  # fmt: skip
"""Photometric bands with their middle wavelengths, micrometres."""

PROFILE = ((0.2, 0.35), (0.45, 0.8), (0.35, 1.6))
"""A galaxy is a sum of Gaussians: (share of the flux, sigma in units of the scale radius)."""

LINE_REST_FREQUENCY = 1_420_405_751.786
"""Hz; the 21 cm line of neutral hydrogen."""

FREQUENCY = 1.403e9
"""Hz; where the radio fluxes of the truth table hold."""

_SEED = 20_241_108
_FIELD_STARS = 900
_GALAXIES = 360
_STANDARDS = 26
_CLEARANCE = 12.0  # arcsec around each standard star, so that it can be measured alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Transient:
    """A point source that brightens for a week and then fades for months."""

    ra: float
    dec: float
    start: float
    """MJD before which there is nothing."""
    peak: float
    """MJD of the greatest brightness."""
    peak_flux: dict[str, float]
    """Band to nJy."""
    decline: dict[str, float]
    """Band to magnitudes a day after the peak."""

    def flux(self, band: str, mjd: float) -> float:
        """The flux in nJy, zero in bands that it does not shine in."""
        brightest = self.peak_flux.get(band, 0.0)
        if mjd <= self.start:
            return 0.0
        if mjd < self.peak:
            return brightest * (mjd - self.start) / (self.peak - self.start)
        return brightest * 10 ** (-0.4 * self.decline.get(band, 0.0) * (mjd - self.peak))


TRANSIENT = Transient(
    ra=53.124,
    dec=-27.74,
    start=60_612.0,
    peak=60_620.0,
    peak_flux={"g": 145_000.0, "r": 120_000.0},
    decline={"g": 0.055, "r": 0.036},
)
"""Lies 2.5 arcsec from the core of its host galaxy, the truth row `host`."""


@cache
def truth() -> NDArray[np.void]:
    """The sources that do not vary, one row each, read-only.

    Columns: `name`, `kind` (`standard`: a star with nothing else near it; `star`, `galaxy`,
    `host`), `ra`, `dec`, `scale` (arcsec, 0 for stars), `axis_ratio`, `position_angle` (degrees,
    north through east), `flux_<band>` for each of `WAVELENGTHS`, and for the radio sky at
    `FREQUENCY` `radio_mjy`, `spectral_index` (flux ~ frequency to that power),
    `pol_fraction`, `pol_angle` (degrees) and, for the one source with a spectral line, a Gaussian,
    `line_mjy` (its peak), `line_frequency` and `line_fwhm` (Hz).
    """
    generator = np.random.Generator(np.random.PCG64(_SEED))
    standards = _standard_offsets(generator)
    stars = _clear_of(standards, _scattered(generator, _FIELD_STARS))
    galaxies = _clear_of(standards, _scattered(generator, _GALAXIES))
    galaxies[0] = (1.6, 1.9)  # the host
    table = np.zeros(len(standards) + len(stars) + len(galaxies), dtype=_row_type())
    ends = np.cumsum([len(standards), len(stars), len(galaxies)])
    _fill_stars(table[: ends[0]], standards, generator, kind="standard")
    _fill_stars(table[ends[0] : ends[1]], stars, generator, kind="star")
    _fill_galaxies(table[ends[1] :], galaxies, generator)
    table["name"] = [f"{kind[:1].upper()}{n:04d}" for n, kind in enumerate(table["kind"], 1)]
    table.flags.writeable = False
    return table


def _row_type() -> np.dtype[np.void]:
    numbers = (
        "ra", "dec", "scale", "axis_ratio", "position_angle",
        *(f"flux_{band}" for band in WAVELENGTHS),
        "radio_mjy", "spectral_index", "pol_fraction", "pol_angle",
        "line_mjy", "line_frequency", "line_fwhm",
    )  # fmt: skip
    return np.dtype([("name", "U8"), ("kind", "U8"), *((name, "f8") for name in numbers)])


def _standard_offsets(generator: np.random.Generator) -> Floats:
    """Offsets (east, north) in arcsec: rings, so that even a small field has some in it."""
    rings = [(27.0, 5), (75.0, 6), (140.0, 7), (205.0, 8)]
    assert sum(number for _, number in rings) == _STANDARDS
    angles = np.concatenate([0.4 * r + np.arange(n) * 2 * np.pi / n for r, n in rings])
    radii = np.concatenate([np.full(n, r) for r, n in rings])
    jitter = generator.uniform(-1.5, 1.5, (len(radii), 2))
    offsets: Floats = radii[:, None] * np.column_stack((np.cos(angles), np.sin(angles))) + jitter
    return offsets


def _scattered(generator: np.random.Generator, number: int) -> Floats:
    half = HALF_WIDTH * 3600
    return generator.uniform(-half, half, (number, 2))


def _clear_of(standards: Floats, offsets: Floats) -> Floats:
    """Those *offsets* that disturb neither a standard star nor the transient."""
    lonely = np.vstack((standards, [[0.0, 0.0]]))
    distance = np.hypot(*(offsets[:, None, :] - lonely[None, :, :]).transpose(2, 0, 1))
    clear: Floats = offsets[distance.min(axis=1) > _CLEARANCE]
    return clear


def _place(table: NDArray[np.void], offsets: Floats) -> None:
    """Positions from tangent-plane offsets: exact, so that no projection is favoured."""
    east, north = np.radians(offsets.T / 3600)
    lon0, lat0 = np.radians(CENTRE)
    denominator = np.cos(lat0) - north * np.sin(lat0)
    lon = lon0 + np.arctan2(east, denominator)
    lat = np.arctan2(np.sin(lat0) + north * np.cos(lat0), np.hypot(denominator, east))
    # Rounded as they stand in the written table, so that who reads that has the very truth.
    table["ra"] = np.round(np.degrees(lon), 8)
    table["dec"] = np.round(np.degrees(lat), 8)


def _fill_fluxes(table: NDArray[np.void], magnitude_r: Floats, colour: Floats) -> None:
    for band, wavelength in WAVELENGTHS.items():
        magnitude = magnitude_r + colour * (1 / wavelength - 1 / WAVELENGTHS["r"])
        table[f"flux_{band}"] = np.round(10 ** (0.4 * (31.4 - magnitude)), 3)


def _fill_stars(
    table: NDArray[np.void], offsets: Floats, generator: np.random.Generator, *, kind: str
) -> None:
    number = len(table)
    table["kind"] = kind
    table["axis_ratio"] = 1.0
    _place(table, offsets)
    if kind == "standard":
        magnitude = generator.uniform(16.3, 18.2, number)
    else:
        magnitude = _magnitudes(generator, number, brightest=15.6, faintest=23.5)
    _fill_fluxes(table, magnitude, generator.uniform(0.2, 1.8, number))


def _fill_galaxies(
    table: NDArray[np.void], offsets: Floats, generator: np.random.Generator
) -> None:
    number = len(table)
    table["kind"] = "galaxy"
    table["kind"][0] = "host"
    _place(table, offsets)
    magnitude = _magnitudes(generator, number, brightest=17.0, faintest=23.0)
    magnitude[0] = 18.9
    table["scale"] = np.round(
        generator.uniform(0.7, 1.1, number) * 10 ** (0.1 * (22 - magnitude)), 3
    )
    table["axis_ratio"] = np.round(generator.uniform(0.35, 1.0, number), 3)
    table["position_angle"] = np.round(generator.uniform(0.0, 180.0, number), 2)
    _fill_fluxes(table, magnitude, generator.uniform(1.0, 2.6, number))
    _fill_radio(table, generator)


def _fill_radio(galaxies: NDArray[np.void], generator: np.random.Generator) -> None:
    """Continuum for the host and the galaxies around it, a line for the host alone."""
    loud = _nearest_apart(galaxies, number=10, apart=35 / 3600)
    galaxies["radio_mjy"][loud] = np.round(generator.uniform(4.0, 60.0, len(loud)), 3)
    galaxies["spectral_index"][loud] = np.round(generator.uniform(-1.0, -0.4, len(loud)), 3)
    galaxies["pol_fraction"][loud] = np.round(generator.uniform(0.02, 0.3, len(loud)), 4)
    galaxies["pol_angle"][loud] = np.round(generator.uniform(0.0, 180.0, len(loud)), 2)
    host = galaxies[:1]
    host["radio_mjy"] = 22.0
    host["line_mjy"] = 48.0
    host["line_frequency"] = 1.4029e9
    host["line_fwhm"] = 1.6e6


def _nearest_apart(galaxies: NDArray[np.void], *, number: int, apart: float) -> list[int]:
    """The galaxies nearest to the first, itself included, none nearer than *apart* to another."""
    east = (galaxies["ra"] - CENTRE[0]) * np.cos(np.radians(CENTRE[1]))
    north = galaxies["dec"] - CENTRE[1]
    chosen: list[int] = []
    for candidate in np.argsort(np.hypot(east - east[0], north - north[0])).tolist():
        distance = np.hypot(east[chosen] - east[candidate], north[chosen] - north[candidate])
        if (distance > apart).all():
            chosen.append(candidate)
        if len(chosen) == number:
            break
    return chosen


def _magnitudes(
    generator: np.random.Generator, number: int, *, brightest: float, faintest: float
) -> Floats:
    """Numbers that double with every magnitude and a bit, as they do on the sky."""
    growth = 0.28
    low, high = 10 ** (growth * brightest), 10 ** (growth * faintest)
    return np.log10(generator.uniform(low, high, number)) / growth
