"""What is asked of one cutout, in values; how it was spelt is the edge's affair."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from soda_service.cutout.form import PLAIN, CutoutForm, Packing

if TYPE_CHECKING:
    from soda_service.cutout.selection import HduName
    from soda_service.geometry.frames import PixelSection, Stamp
    from soda_service.geometry.shapes import Interval, Shape


class CutoutRequest(NamedTuple):
    """One dataset, and at most one value of each axis (SODA 1.0 §3.2).

    Of `shape`, `stamp` and `section` at most one is given.
    """

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
    stamp: Stamp | None = None
    section: PixelSection | None = None
    hdus: tuple[HduName, ...] = ()
    """HDUs of the detail; none named is all of them."""
    form: CutoutForm = PLAIN

    @property
    def is_whole_file(self) -> bool:
        """Whether nothing but the file as it is was asked for."""
        return self.shape is None and not self.limits_axes and not (
            self.detail is not None
            or self.hdus
            or self.form.checksums
            or self.form.header_only
            or self.form.masked
            or self.form.packing is not Packing.NONE
        )  # fmt: skip

    @property
    def limits_axes(self) -> bool:
        """Whether anything but a shape on the sky says which pixels are wanted."""
        return (
            self.stamp is not None
            or self.section is not None
            or self.band is not None
            or self.time is not None
            or bool(self.pol)
        )
