"""What is asked of one cutout, in values; how it was spelt is the edge's affair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from soda_service.geometry.shapes import Interval, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class CutoutRequest:
    """One dataset, and at most one value of each axis (SODA 1.0 §3.2)."""

    identifier: str
    shape: Shape | None = None
    band: Interval | None = None
    """Vacuum wavelength in metres, barycentric, closed; infinite ends are open."""
    time: Interval | None = None
    """MJD, UTC, closed; infinite ends are open."""
    pol: tuple[str, ...] = ()
    """Polarization states as ObsCore 1.1 spells them; all of them form one filter."""
    detail: str | None = None
    """A named set of HDUs of the collection; None is every HDU."""
    checksums: bool = False
    """Whether CHECKSUM and DATASUM of the cut HDUs are computed anew."""

    @property
    def is_whole_file(self) -> bool:
        """Whether nothing but the file as it is was asked for."""
        return (
            self.shape is None
            and self.band is None
            and self.time is None
            and not self.pol
            and self.detail is None
            and not self.checksums
        )
