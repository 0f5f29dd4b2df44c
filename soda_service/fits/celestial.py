"""The two axes of an image that are directions on the sky.

Pixel coordinates are 0-based with integers at pixel centres; x runs along the first of the
two axes in FITS order. Directions are ICRS unit vectors, one a column.
"""

from __future__ import annotations

import threading
from math import isnan
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from soda_service.fits.celestialaxes import ctype_parts, is_latitude
from soda_service.fits.linearpart import coupling
from soda_service.fits.skyframe import SkyFrame
from soda_service.fits.wcscards import WcsError
from soda_service.fits.wcslib import compile_celestial
from soda_service.geometry.skyplane import Distortion, SkyPlane

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from soda_service.fits.wcscards import WcsCards

_CONVERGED: Final = 1e-8
"""Pixels; distortions are undone to this."""
_ACCEPTED: Final = 1e-6
"""Pixels; where the iteration ends farther from its goal, the position has no pixel."""
_STEPS: Final = 25
_NEWTON_STEPS: Final = 12
_STEEPEST: Final = 1e30
"""Pixels per radian, and the other way round: products of more leave the range of numbers."""
_CUBES: Final = frozenset({"TSC", "CSC", "QSC"})
_ASIDE: Final = np.array([[1.0, 0.0], [0.0, 1.0]])
"""Pixels; no line holds a point and both of these from it."""
_AGREEMENT: Final = 1e-13
"""Radians by which the short way for TAN may differ from wcslib's, squared differences added."""


class CelestialGrid:
    """What a pair of pixel coordinates means on the sky; implements `geometry.SkyGrid`.

    Safe to use from several threads.
    """

    def __init__(self, cards: WcsCards, axes: tuple[int, int], tables: bytes = b"") -> None:
        self.axes = axes
        """The two pixel axes, 0-based, in FITS order."""
        self.naxis = (cards.length(axes[0]), cards.length(axes[1]))
        """Their lengths."""
        if coupled := coupling(cards, axes):
            raise WcsError(f"{coupled}: the position on the sky changes along another axis")
        kinds = [ctype_parts(cards, axis)[0] for axis in axes]
        self._latitude_first = is_latitude(kinds[0])
        self._frame = SkyFrame.of(cards, kinds[1 if self._latitude_first else 0])
        compiled = compile_celestial(cards, axes, tables)
        self._wcsprm, self._transform, self._distorted, has_inverse = compiled
        # wcslib 8.6 is wrong by degrees on the polar faces where all that it is asked for in one
        # call has one coordinate of the plane in common: such a call gets other points besides.
        self._is_cube = self._wcsprm.cel.prj.code in _CUBES
        self._sip_origin = np.asarray(self._transform.sip.crpix) - 1 if has_inverse else None
        """0-based pixel that the SIP polynomials count from."""
        # wcslib and the SIP code keep scratch space in their structures and let go of the GIL.
        self._lock = threading.Lock()
        self._plane: NDArray[np.float64] | None = None
        """For a gnomonic image: a matrix from (x, y, 1) of undistorted pixels to directions."""
        self._plane_inverse: NDArray[np.float64] | None = None
        self.plane: SkyPlane | None = None
        """The image as a plane, where it is gnomonic but for its `distortion`."""
        self.distortion: Distortion | None = None
        """What moves pixels before they are points of the plane, if anything does."""
        self._find_plane()

    @property
    def frame(self) -> str:
        """Name of the celestial system of the header, `FK5` say."""
        return self._frame.name

    # ------------------------------------------------------------ pixels to sky

    def pixel_to_sky(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """ICRS unit vectors, shape (3, N); NaN where a pixel has no place on the sky."""
        pixels = _columns(x, y)
        if self._plane is None:
            return self._general_pixel_to_sky(pixels)
        if self._distorted:
            with self._lock:
                pixels = self._transform._pix2foc(pixels, 0)  # noqa: SLF001 - astropy's public way checks and copies for longer than this takes
        vectors = self._plane[:, :2] @ pixels.T
        vectors += self._plane[:, 2:]
        vectors /= np.sqrt(np.einsum("ij,ij->j", vectors, vectors))
        return vectors

    def _general_pixel_to_sky(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        count = len(pixels)
        if self._is_cube and count:
            pixels = np.concatenate([pixels, pixels[:1] + _ASIDE])
        with self._lock:
            world = self._transform._all_pix2world(pixels, 0)[:count]  # noqa: SLF001 - as above
        columns = world.T[::-1] if self._latitude_first else world.T
        return self._frame.to_icrs(_vectors(columns))

    # ------------------------------------------------------------ sky to pixels

    def sky_to_pixel(
        self, vectors: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixel coordinates of ICRS directions (3, N); NaN where there is none to be found.

        Where a direction has several pixels, one of them.
        """
        if self._plane_inverse is None:
            foci = self._general_sky_to_foci(vectors)
        else:
            foci = np.full((2, vectors.shape[1]), np.nan)
            x, y, depth = self._plane_inverse @ vectors
            np.divide((x, y), depth, out=foci, where=depth > 0)
        if self._distorted:
            foci = self._undistorted(np.ascontiguousarray(foci.T)).T
        return foci[0], foci[1]

    def _general_sky_to_foci(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y, z = self._frame.from_icrs(vectors)
        lon, lat = np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))
        world = np.degrees(_columns(lat, lon) if self._latitude_first else _columns(lon, lat))
        with self._lock:
            foci: NDArray[np.float64] = self._wcsprm.s2p(world, 0)["pixcrd"].T
        return foci

    def _undistorted(self, foci: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pixels whose distorted coordinates are *foci* (N, 2), by fixed-point iteration."""
        with np.errstate(all="ignore"):
            pixels = self._first_guess(foci)
            with self._lock:
                for _ in range(_STEPS):
                    missed = foci - self._transform._pix2foc(pixels, 0)  # noqa: SLF001 - as above
                    pixels += missed
                    square = np.vdot(missed, missed)
                    if square < _CONVERGED**2:
                        return pixels
                    # Places that have no pixel (NaN) must not keep the others waiting.
                    if isnan(square) and not (np.abs(missed) > _CONVERGED).any():
                        return pixels
            astray = np.flatnonzero((np.abs(missed) > _CONVERGED).any(axis=1))
            if len(astray):  # none where many small misses added up
                pixels[astray] = self._newton(foci[astray])
        return pixels

    def _first_guess(self, foci: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pixels by the header's own inverse, if it has one, otherwise by no distortion."""
        pixels = foci.copy()
        if self._sip_origin is not None:
            with self._lock:
                guess = self._transform.sip.foc2pix(foci - self._sip_origin, 1) - 1
            np.copyto(pixels, guess, where=np.isfinite(guess))
        return pixels

    def _newton(self, foci: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same by Newton's method, for strong distortions; NaN where it does not converge."""
        pixels = foci.copy()
        for _ in range(_NEWTON_STEPS):
            missed = foci - self._distort(pixels)
            dx, dy = (
                (self._distort(pixels + half) - self._distort(pixels - half)).T
                for half in np.diag((0.5, 0.5))
            )
            determinant = dx[0] * dy[1] - dx[1] * dy[0]
            pixels[:, 0] += (missed[:, 0] * dy[1] - missed[:, 1] * dy[0]) / determinant
            pixels[:, 1] += (missed[:, 1] * dx[0] - missed[:, 0] * dx[1]) / determinant
        left = np.abs(foci - self._distort(pixels)).max(axis=1)
        pixels[~(left <= _ACCEPTED)] = np.nan
        return pixels

    def _distort(self, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        with self._lock:
            foci: NDArray[np.float64] = self._transform._pix2foc(pixels, 0)  # noqa: SLF001 - as above
        return foci

    # ------------------------------------------------------------ the short way

    def _find_plane(self) -> None:
        """Compile the gnomonic projection into one matrix, and keep it if wcslib agrees."""
        celestial = self._wcsprm.cel
        if celestial.prj.code != "TAN" or self._frame.e_terms is not None:
            return
        width, height = self.naxis
        pixels = _columns(
            np.array([0.0, width, 0, width, width / 3, -20]),
            np.array([0.0, 0, height, height, height / 2, -9]),
        )
        with np.errstate(all="ignore"):
            turn = _gnomonic(self._wcsprm, latitude_first=self._latitude_first)
            plane = self._frame.matrix @ turn
            with self._lock:
                world = self._wcsprm.p2s(pixels, 0)["world"]
            columns = world.T[::-1] if self._latitude_first else world.T
            expected = self._frame.to_icrs(_vectors(columns))
            directions = plane[:, :2] @ pixels.T + plane[:, 2:]
            directions /= np.linalg.norm(directions, axis=0)
            if not np.abs(directions - expected).max() < _AGREEMENT:
                return
        try:
            inverse = np.linalg.inv(plane).astype(np.float64)
        except np.linalg.LinAlgError:
            return
        if max(np.abs(plane).max(), np.abs(inverse).max()) < _STEEPEST:
            self._plane, self._plane_inverse = plane, inverse
            if self._distorted:
                self.distortion = self._polynomial_distortion()
            if not self._distorted or self.distortion is not None:
                self.plane = SkyPlane.of(inverse)

    def _polynomial_distortion(self) -> Distortion | None:
        """The SIP polynomials; None for lookup tables."""
        transform, sip = self._transform, self._transform.sip
        tables = (transform.cpdis1, transform.cpdis2, transform.det2im1, transform.det2im2)
        if sip is None or sip.a is None or any(table is not None for table in tables):
            return None
        origin = float(sip.crpix[0]) - 1.0, float(sip.crpix[1]) - 1.0
        size = max(len(sip.a), len(sip.b))
        x_terms, y_terms = (np.pad(terms, (0, size - len(terms))) for terms in (sip.a, sip.b))
        return Distortion(self._distort, x_terms, y_terms, origin, self.naxis)


def _gnomonic(wcsprm: Any, *, latitude_first: bool) -> NDArray[np.float64]:
    """From (x, y, 1) of 0-based pixels to directions of the header's own celestial system.

    Calabretta & Greisen (2002): §5.1.3 for the projection, equation 2 for the rotation.
    """
    matrix = np.diag(wcsprm.get_cdelt()) @ wcsprm.get_pc()
    linear = np.column_stack([matrix, -matrix @ (np.asarray(wcsprm.crpix) - 1)])
    if latitude_first:
        linear = linear[::-1]
    native = np.vstack([-linear[1], linear[0], [0, 0, np.degrees(1.0)]])
    lon, colat, phi = np.radians(wcsprm.cel.euler[:3])
    tilt = np.array(
        [
            [-np.cos(colat) * np.cos(phi), -np.cos(colat) * np.sin(phi), np.sin(colat)],
            [np.sin(phi), -np.cos(phi), 0],
            [np.sin(colat) * np.cos(phi), np.sin(colat) * np.sin(phi), np.cos(colat)],
        ]
    )
    turn = np.array([[np.cos(lon), -np.sin(lon), 0], [np.sin(lon), np.cos(lon), 0], [0, 0, 1]])
    product: NDArray[np.float64] = turn @ tilt @ native
    return product


def _columns(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Two sequences as the columns of an (N, 2) array."""
    first = np.asarray(first, dtype=np.float64)
    pairs = np.empty((first.size, 2))
    pairs[:, 0] = first
    pairs[:, 1] = second
    return pairs


def _vectors(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors (3, N) of longitudes and latitudes (2, N)."""
    lon, lat = np.radians(degrees)
    across = np.cos(lat)
    return np.stack((across * np.cos(lon), across * np.sin(lon), np.sin(lat)))
