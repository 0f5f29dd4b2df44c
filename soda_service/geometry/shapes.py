"""Shapes on the sky, and intervals.

Longitudes and latitudes are ICRS degrees. Shapes are closed: their edges belong to them.
A polygon's edges are great circles; a range's are two meridians and two parallels (small
circles). Source: DALI 1.1 §3.3, DALI 1.2 (PR) §3.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from .moc import Moc


@dataclass(slots=True, unsafe_hash=True)
class Circle:
    """All points within *radius* of a centre; never changed once made.

    Not frozen, because that would make it four times dearer to make.
    """

    lon: float
    lat: float
    radius: float
    """Degrees, 0 to 180; 0 is a point."""


@dataclass(frozen=True, slots=True)
class Polygon:
    """The side of a closed chain of great-circle arcs that fits into an open hemisphere.

    Winding does not matter; where the chain crosses itself the even-odd rule holds.
    """

    vertices: tuple[tuple[float, float], ...]
    """Longitude and latitude of each vertex, at least three, the first not repeated."""


@dataclass(frozen=True, slots=True)
class Range:
    """All points between two meridians and between two parallels."""

    lon1: float
    """Western edge, 0 to 360."""
    lon2: float
    """Eastern edge; below `lon1` where the range crosses longitude 0, `lon1` + 360 for all."""
    lat1: float
    lat2: float


PlainShape = Circle | Polygon | Range
Shape = PlainShape | Moc


@dataclass(frozen=True, slots=True)
class Interval:
    """All numbers from *lower* to *upper*, both included; infinite ends are open."""

    lower: float = -inf
    upper: float = inf

    def meets(self, other: Interval) -> bool:
        """Whether the two have a number in common."""
        return self.lower <= other.upper and other.lower <= self.upper
