"""From the celestial system of a header to ICRS and back.

Positions are unit vectors, one a column. Source: FITS 4.0 §8.3; the matrices are astropy's,
so that positions agree with every reader that uses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from soda_service.fits.wcscards import WcsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from soda_service.fits.wcscards import WcsCards

_J2000: Final = 2000.0
_B1950: Final = 1950.0
_FK4_UNTIL: Final = 1984.0
"""EQUINOX below which RADESYS defaults to FK4 (FITS 4.0 §8.3)."""
_EQUATORIAL: Final = frozenset(("ICRS", "FK5", "FK4", "FK4-NO-E"))


@dataclass(frozen=True, slots=True, eq=False)
class SkyFrame:
    """A celestial system fixed among the stars."""

    name: str
    matrix: NDArray[np.float64]
    """Of shape (3, 3): turns directions of this frame, E-terms taken off, into ICRS."""
    inverse: NDArray[np.float64]
    e_terms: NDArray[np.float64] | None
    """The E-terms of aberration of FK4 (3,), which make the change nonlinear; else None."""

    @classmethod
    def of(cls, cards: WcsCards, longitude: str) -> Self:
        """The frame of a longitude axis of type *longitude*: `RA`, `GLON`, `ELON`, `SLON`.

        Raises WcsError for a system that has no fixed relation to ICRS, or that is unknown.
        """
        system = cards.texts.get("RADESYS", "").upper()
        equinox = cards.numbers.get("EQUINOX")
        match longitude:
            case "RA":
                name, year = _equatorial(system, equinox)
            case "GLON":
                name, year = "galactic", 0.0
            case "SLON":
                name, year = "supergalactic", 0.0
            case "ELON":
                name, year = _ecliptic(system, equinox)
            case _:
                raise WcsError(f"CTYPE: {longitude} has no fixed relation to ICRS")
        matrix, e_terms = _rotation(name, year)
        return cls(name, matrix, np.linalg.inv(matrix).astype(np.float64), e_terms)

    def to_icrs(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Unit vectors of ICRS for unit vectors of this frame."""
        if self.e_terms is not None:
            e_terms = self.e_terms[:, None]
            vectors = vectors - e_terms + (self.e_terms @ vectors) * vectors
        return _normalised(self.matrix @ vectors)

    def from_icrs(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Unit vectors of this frame for unit vectors of ICRS."""
        vectors = _normalised(self.inverse @ vectors)
        if self.e_terms is not None:
            e_terms = self.e_terms[:, None]
            without = vectors
            for _ in range(6):
                vectors = (without + e_terms) / (1 + self.e_terms @ vectors)
            vectors = _normalised(vectors)
        return vectors


def _equatorial(system: str, equinox: float | None) -> tuple[str, float]:
    """Name and equinox of an equatorial system, with the defaults of FITS 4.0 §8.3."""
    if not system:
        if equinox is None:
            return "ICRS", _J2000
        system = "FK4" if equinox < _FK4_UNTIL else "FK5"
    if system not in _EQUATORIAL:
        raise WcsError(f"RADESYS = {system!r} has no fixed relation to ICRS, or is unknown")
    if system == "ICRS":
        return system, _J2000
    if equinox is None:
        return system, _J2000 if system == "FK5" else _B1950
    if not 1500 <= equinox <= 2500:
        raise WcsError(f"EQUINOX = {equinox:g}: no year that precession is known for")
    return system, equinox


def _ecliptic(system: str, equinox: float | None) -> tuple[str, float]:
    """The mean ecliptic of J2000; no other is unambiguous."""
    if system.startswith("FK4") or system not in _EQUATORIAL | {""}:
        raise WcsError(f"RADESYS = {system!r}: only the ecliptic of J2000 is understood")
    if equinox not in (None, _J2000):
        raise WcsError(f"EQUINOX = {equinox:g}: only the ecliptic of J2000 is understood")
    return "ecliptic", _J2000


@lru_cache(maxsize=64)
def _rotation(name: str, year: float) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Matrix to ICRS, and E-terms."""
    if name == "ICRS":
        return np.eye(3), None
    # astropy.coordinates: 0.2 s, needed by few headers.
    from astropy import coordinates
    from astropy.time import Time
    from astropy.utils import iers

    iers.conf.auto_download = False
    e_terms = None
    match name:
        case "FK5":
            frame = coordinates.FK5(equinox=Time(year, format="jyear"))
        case "FK4" | "FK4-NO-E":
            equinox = Time(year, format="byear")
            frame = coordinates.FK4NoETerms(equinox=equinox)
            e_terms = _e_terms(float(equinox.jd)) if name == "FK4" else None
        case "galactic":
            frame = coordinates.Galactic()
        case "supergalactic":
            frame = coordinates.Supergalactic()
        case _:
            frame = coordinates.BarycentricMeanEcliptic(equinox=Time(year, format="jyear"))
    basis = coordinates.CartesianRepresentation(np.eye(3))
    turned = frame.realize_frame(basis).transform_to(coordinates.ICRS()).cartesian.xyz
    return np.asarray(turned.value, dtype=np.float64), e_terms


def _e_terms(julian_date: float) -> NDArray[np.float64]:
    """E-terms of aberration: Explanatory Supplement (Seidelmann 1992) §3.53, p. 170."""
    import erfa

    centuries = (julian_date - 2433282.42345905) / 36525.0
    eccentricity = (-0.000000126 * centuries - 0.00004193) * centuries + 0.01673011
    strength = np.radians(0.0056932) * eccentricity
    perigee = np.radians(
        (((0.012 * centuries + 1.65) * centuries + 6190.67) * centuries + 1015489.951) / 3600
    )
    obliquity = float(erfa.obl80(julian_date, 0.0))
    along = -strength * np.cos(perigee)
    return np.array([
        strength * np.sin(perigee), along * np.cos(obliquity), along * np.sin(obliquity),
    ])  # fmt: skip


def _normalised(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->j", vectors, vectors))
    return vectors / lengths
