"""What the axes of an image mean: sky, wavelength, time, polarization.

Only the primary description of a header is used, and wcslib sees only what
`wcscards` has checked. Axes are 0-based, in FITS order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Self

import numpy as np

from soda_service.fits.axes import AxisRange, Polarization, read_polarization
from soda_service.fits.celestial import CelestialGrid
from soda_service.fits.celestialaxes import celestial_axes
from soda_service.fits.cubefaces import face_axis, faces_of, has_several_faces
from soda_service.fits.pixelpolynomial import pixel_polynomials
from soda_service.fits.spectral import read_spectral
from soda_service.fits.temporal import read_temporal
from soda_service.fits.wcscards import WcsCards, WcsError
from soda_service.fits.wcstables import lookup_keywords

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from soda_service.fits.cards import Header

__all__ = [
    "MOST_TABLE_BYTES",
    "AxisRange",
    "CelestialGrid",
    "CubeFaces",
    "ImageWcs",
    "Polarization",
    "WcsError",
    "needed_tables",
]

MOST_TABLE_BYTES: Final = 64 * 1024 * 1024
"""Most bytes of tables, headers included, that are read to understand one image's coordinates."""


class CubeFaces(NamedTuple):
    """The planes of an image that are faces of a cube."""

    axes: tuple[int, int, int]
    """The two axes of a face, ascending, then that of the faces."""
    planes: tuple[tuple[int, CelestialGrid], ...]
    """The number of every plane that is a face, ascending, with its grid."""


class ImageWcs:
    """The coordinates of one image. Safe to use from several threads; can be pickled."""

    def __init__(self, header: Header, naxis: tuple[int, ...], tables: bytes) -> None:
        self._made_from = (header, naxis, tables)
        cards = WcsCards.of(header, naxis)
        axes = celestial_axes(cards)
        if axes is not None and axes[1] >= len(naxis):
            axes = None
        self.celestial: CelestialGrid | None = None
        """The sky; None where the image has no two axes of it."""
        self.faces: CubeFaces | None = None
        """The sky where a third axis counts faces of a cube; there is no `celestial` then."""
        if axes is not None and has_several_faces(cards):
            self.faces = _cube_faces(cards, axes, tables)
        elif axes is not None:
            self.celestial = CelestialGrid(cards, axes, tables)
        self.spectral = read_spectral(cards, self._direction(), tables)
        """Wavelengths in metres, vacuum, barycentric; None without a spectral axis."""
        self.temporal = read_temporal(cards, tables)
        """Times in MJD UTC; None without a time axis."""
        self.polarization = read_polarization(cards)
        """States of polarization; None without a STOKES axis."""

    @classmethod
    def of(cls, header: Header, naxis: tuple[int, ...], *, tables: bytes = b"") -> Self:
        """The coordinates that *header* describes for an image of these axis lengths.

        *tables* are the HDUs that `needed_tables` names, as they stand in the file, headers
        and padded data, one after the other. Raises WcsError, naming the card, where a
        celestial description cannot be used; an axis beside the sky that cannot be told has
        a `problem` instead.
        """
        return cls(header, naxis, tables)

    @property
    def sky_grids(self) -> tuple[CelestialGrid, ...]:
        """All that the image shows of the sky: one grid, one for each face of a cube, or none."""
        if self.faces is not None:
            return tuple(grid for _, grid in self.faces.planes)
        return () if self.celestial is None else (self.celestial,)

    @property
    def nbytes(self) -> int:
        """Bytes of its tables, and of what is known of each pixel of the axes beside the sky."""
        axes = (self.spectral, self.temporal, self.polarization)
        _, _, tables = self._made_from
        return len(tables) + sum(axis.nbytes for axis in axes if axis is not None)

    def __reduce__(self) -> tuple[type[Self], tuple[Header, tuple[int, ...], bytes]]:
        return type(self), self._made_from

    def _direction(self) -> NDArray[np.float64] | None:
        """Direction of the middle of the image; None where it is not on the sky."""
        if self.celestial is None:
            return None
        width, height = self.celestial.naxis
        middle = np.array([(width - 1) / 2]), np.array([(height - 1) / 2])
        direction = self.celestial.pixel_to_sky(*middle)[:, 0]
        return None if np.isnan(direction).any() else direction


def _cube_faces(cards: WcsCards, axes: tuple[int, int], tables: bytes) -> CubeFaces:
    axis = face_axis(cards)
    assert axis is not None
    planes = tuple(
        (plane, CelestialGrid(cards.at_pixel(axis, plane), axes, tables))
        for plane in faces_of(cards)
    )
    return CubeFaces((*axes, axis), planes)


def counts_in_the_parents_pixels(header: Header) -> bool:
    """Whether positions depend on where the parent's pixel 1 is, and cannot be made to follow.

    So it is with wcslib's TPU, a polynomial of pixel coordinates, where it has odd powers of the
    distance from pixel 0.
    """
    return any(one.obstacle for one in pixel_polynomials(header))


def needed_tables(header: Header) -> tuple[tuple[str, int], ...]:
    """EXTNAME and EXTVER of the HDUs of the file that the coordinates refer to.

    Empty for all but a few images. Raises WcsError as `ImageWcs.of` does.
    """
    cards = WcsCards.of(header, ())
    needed: dict[tuple[str, int], None] = {}
    for keyword, record, extname in lookup_keywords():
        for number in (1, 2):
            if cards.texts.get(f"{keyword}{number}", "").upper() == "LOOKUP":
                version = cards.records.get(f"{record}{number}", {}).get("EXTVER", 1)
                needed[extname, int(version)] = None
    for axis in range(cards.count):
        name = cards.parameters.get(("PS", axis, 0))
        if cards.text("CTYPE", axis).endswith("-TAB") and isinstance(name, str):
            needed[name, int(float(cards.parameters.get(("PV", axis, 1), 1)))] = None
    return tuple(needed)
