"""The two axes of an image that are directions on the sky.

Pixel coordinates are 0-based with integers at pixel centres; x runs along the first of the
two axes in FITS order. Directions are ICRS unit vectors, one a column.
"""

from __future__ import annotations

import re
import threading
from math import isnan
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from soda_service.fits.cubefaces import put_on_face
from soda_service.fits.pixelpolynomial import RADIAL
from soda_service.fits.skyframe import SkyFrame
from soda_service.fits.tablerows import lying_count_of_columns
from soda_service.fits.wcscards import WcsCards, WcsError
from soda_service.geometry.skyplane import Distortion, SkyPlane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

_CTYPE: Final = re.compile(r"(RA|DEC|[A-Z]L(?:ON|AT)|[A-Z]{2}L[NT])(?:-+([A-Z]{3})(-[A-Z]{3})?)?")
_LATITUDE: Final = re.compile(r"DEC|.LAT|..LT")
_RADIAL: Final = re.compile(
    r"projp([0-9]) *= *([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[Ee][+-]?[0-9]{1,2})?)"
)
_SCAMP_PARAMETER: Final = 5
"""PVi_m of a TAN image from this number on are SCAMP's distortion, not TAN's own parameters."""
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


def celestial_axes(cards: WcsCards) -> tuple[int, int] | None:
    """The two celestial axes (0-based, ascending); None where there is none.

    Raises WcsError for a longitude without latitude and for more than one pair.
    """
    axes = [axis for axis in range(cards.count) if _CTYPE.fullmatch(cards.text("CTYPE", axis))]
    if not axes:
        return None
    named = ", ".join(f"CTYPE{axis + 1} = {cards.text('CTYPE', axis)!r}" for axis in axes)
    if len(axes) != 2:
        raise WcsError(f"{named}: not one longitude and one latitude")
    types = [_ctype_parts(cards, axis) for axis in axes]
    latitudes = [bool(_LATITUDE.fullmatch(kind)) for kind, _ in types]
    systems = {re.sub("^(RA|DEC)$", "", kind)[:2].rstrip("L") for kind, _ in types}
    if sum(latitudes) != 1 or len(systems) != 1 or types[0][1] != types[1][1]:
        raise WcsError(f"{named}: not longitude and latitude of one projection")
    return axes[0], axes[1]


def _ctype_parts(cards: WcsCards, axis: int) -> tuple[str, str]:
    """Coordinate and projection of a celestial axis: `RA` and `TAN`."""
    found = _CTYPE.fullmatch(cards.text("CTYPE", axis))
    assert found is not None
    return found[1], found[2] or ""


class CelestialGrid:
    """What a pair of pixel coordinates means on the sky; implements `geometry.SkyGrid`.

    Safe to use from several threads.
    """

    def __init__(self, cards: WcsCards, axes: tuple[int, int], tables: bytes = b"") -> None:
        self.axes = axes
        """The two pixel axes, 0-based, in FITS order."""
        self.naxis = (cards.length(axes[0]), cards.length(axes[1]))
        """Their lengths."""
        if coupled := cards.coupling(axes):
            raise WcsError(f"{coupled}: the position on the sky changes along another axis")
        kinds = [_ctype_parts(cards, axis)[0] for axis in axes]
        self._latitude_first = bool(_LATITUDE.fullmatch(kinds[0]))
        self._frame = SkyFrame.of(cards, kinds[1 if self._latitude_first else 0])
        self._wcsprm, self._transform, self._distorted, has_inverse = _compile(cards, axes, tables)
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


# ---------------------------------------------------------------- handing over to wcslib


def _compile(cards: WcsCards, axes: tuple[int, int], tables: bytes) -> tuple[Any, Any, bool, bool]:
    """The description in wcslib, and the chain of astropy around it.

    Then whether the chain distorts pixels, and whether it brings a guess of the inverse.
    """
    # 0.4 s, and only who looks at pixels needs it.
    from astropy import wcs as astropy_wcs

    ctypes = [cards.text("CTYPE", axis) for axis in axes]
    for axis in axes:
        code = _ctype_parts(cards, axis)[1]
        known = {"TPV", "TPU", "TNX", "ZPX", "NCP", "GLS", *astropy_wcs.PRJ_CODES}
        if code == "TPU":
            _check_pixel_polynomial(cards, axes, axis)
        if code and code not in known:
            raise WcsError(f"CTYPE{axis + 1} = {cards.text('CTYPE', axis)!r}: unknown projection")
    has_sip = any(cards.sip_orders.get(name, 0) > 1 for name in ("A", "B", "AP", "BP"))
    if all(one.endswith("-TAN") for one in ctypes) and _has_scamp_parameters(cards, axes):
        ctypes = [one.replace("-TAN", "-TPV") for one in ctypes]
    if all(one.endswith("-TPV") for one in ctypes):
        has_sip = False
    if has_sip and all("-TAN-SIP" in one for one in ctypes) and _has_scamp_parameters(cards, axes):
        _forget_parameters(cards, axes)
    wcsprm = _wcsprm(cards, axes, ctypes)
    sip = _sip(cards, axes) if has_sip else None
    lookups = _lookups(cards, axes, tables)
    transform = astropy_wcs.WCSBase(sip, lookups[0], wcsprm, lookups[1])
    forward = sip is not None and sip.a is not None
    distorted = forward or any(table is not None for pair in lookups for table in pair)
    return wcsprm, transform, distorted, forward and sip is not None and sip.ap is not None


def _check_pixel_polynomial(cards: WcsCards, axes: tuple[int, int], axis: int) -> None:
    """Raise WcsError where a cutout's header could not be true."""
    if axes != (0, 1):
        # As wcslib has it: they are its variables, whichever axes the sky is on.
        raise WcsError(f"CTYPE{axis + 1}: a polynomial of the pixels along axes 1 and 2")
    for number in sorted(RADIAL):
        if cards.parameters.get(("PV", axis, number)):
            raise WcsError(
                f"PV{axis + 1}_{number}: an odd power of the distance from the parent's pixel 0, "
                "which no header of a cutout can express"
            )


def _has_scamp_parameters(cards: WcsCards, axes: tuple[int, int]) -> bool:
    return any(
        name == "PV" and axis in axes and number >= _SCAMP_PARAMETER
        for name, axis, number in cards.parameters
    )


def _forget_parameters(cards: WcsCards, axes: tuple[int, int]) -> None:
    """SIP is preferred where a header brings SCAMP's parameters besides."""
    for key in [key for key in cards.parameters if key[0] == "PV" and key[1] in axes]:
        del cards.parameters[key]


def _wcsprm(cards: WcsCards, axes: tuple[int, int], ctypes: list[str]) -> Any:
    from astropy import wcs as astropy_wcs

    named = ", ".join(
        f"CTYPE{axis + 1} = {ctype!r}" for axis, ctype in zip(axes, ctypes, strict=True)
    )
    is_zpx = ctypes[0].endswith("-ZPX")
    if is_zpx:
        # wcslib 8.6 cannot read ZPX: it gets the surfaces as TNX, the projection afterwards.
        _tell_zpx_as_tnx(cards, axes)
        ctypes = [ctype.replace("-ZPX", "-TNX") for ctype in ctypes]
    header = cards.compose(axes, ctypes=ctypes)
    try:
        wcsprm = astropy_wcs.Wcsprm(header=header, warnings=False)
        if is_zpx:
            wcsprm.ctype = [ctype.replace("-TNX", "-ZPN") for ctype in ctypes]
        wcsprm.fix()
        wcsprm.set()
    except (ValueError, MemoryError) as error:
        reason = wcslib_reason(error)
        units = {f"CUNIT{axis + 1}": cards.text("CUNIT", axis) for axis in axes}
        if "unit" in reason.lower():
            named = ", ".join(f"{keyword} = {unit!r}" for keyword, unit in units.items())
        raise WcsError(f"{named}: {reason}") from None
    if wcsprm.lng < 0 or wcsprm.lat < 0:
        raise WcsError(f"{named}: not understood as longitude and latitude")
    put_on_face(cards, wcsprm)
    return wcsprm


def _tell_zpx_as_tnx(cards: WcsCards, axes: tuple[int, int]) -> None:
    """Move the radial polynomial of ZPX (`projpN`) from WATi_nnn to ZPN's PVi_m."""
    latitude = next(axis for axis in axes if _LATITUDE.fullmatch(_ctype_parts(cards, axis)[0]))
    _forget_parameters(cards, axes)
    radial: dict[int, float] = {}
    for axis in axes:
        text = "".join(cards.take_attributes(axis))
        for number, literal in _RADIAL.findall(text):
            radial[int(number)] = float(literal)
        cards.put_attributes(axis, _RADIAL.sub(" ", text).replace("wtype=zpx", "wtype=tnx"))
    for number, value in (radial or {1: 1.0}).items():
        cards.parameters["PV", latitude, number] = value


def wcslib_reason(error: Exception) -> str:
    """What wcslib says, without the places in its source where it says so."""
    text = re.sub(r"ERROR [0-9]+ in \w+\(\) at line [0-9]+ of file \S+:", " ", str(error))
    return " ".join(text.split())[:200]


def _sip(cards: WcsCards, axes: tuple[int, int]) -> Any:
    """The SIP polynomials; None where their orders say that there is nothing in them."""
    from astropy import wcs as astropy_wcs

    if axes != (0, 1):
        raise WcsError("A_ORDER: SIP belongs to the axes 1 and 2, which are not the sky's")
    pairs = [_sip_pair(cards, "A", "B"), _sip_pair(cards, "AP", "BP")]
    (a, b), (ap, bp) = pairs
    if a is None and ap is None:
        return None
    crpix = (cards.number("CRPIX", 0, 0.0), cards.number("CRPIX", 1, 0.0))
    return astropy_wcs.Sip(a, b, ap, bp, crpix)


def _sip_pair(
    cards: WcsCards, first: str, second: str
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    orders = [cards.sip_orders.get(name) for name in (first, second)]
    for name, order, other in ((first, orders[0], orders[1]), (second, orders[1], orders[0])):
        if (order or 0) > 1 and other is None:
            absent = second if name == first else first
            raise WcsError(f"{name}_ORDER stands without {absent}_ORDER")
    if min(order or 0 for order in orders) <= 1:
        return None, None
    arrays = []
    for name, order in zip((first, second), orders, strict=True):
        assert order is not None
        array = np.zeros((order + 1, order + 1))
        for (p, q), value in cards.sip.get(name, {}).items():
            if p + q <= order:
                array[p, q] = value
        arrays.append(array)
    return arrays[0], arrays[1]


def _lookups(
    cards: WcsCards, axes: tuple[int, int], tables: bytes
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Distortions of the pixel grid by tables: CPDISj, and D2IMDISj before them."""
    pairs = []
    for keyword, record, extname in lookup_keywords():
        pair: list[Any] = [None, None]
        for axis in (0, 1):
            kind = cards.texts.get(f"{keyword}{axis + 1}")
            if kind is None:
                continue
            if kind.upper() != "LOOKUP":
                if keyword == "D2IMDIS":
                    raise WcsError(f"D2IMDIS{axis + 1} = {kind!r}: only LOOKUP is understood")
                continue
            if axes != (0, 1):
                raise WcsError(f"{keyword}{axis + 1}: a distortion of axes that are not the sky's")
            pair[axis] = _lookup(cards, f"{record}{axis + 1}", extname, tables)
        pairs.append((pair[0], pair[1]))
    return pairs[0], pairs[1]


def lookup_keywords() -> tuple[tuple[str, str, str], ...]:
    """Keyword of a distortion, of its record-valued cards, and EXTNAME of its tables."""
    return (("CPDIS", "DP", "WCSDVARR"), ("D2IMDIS", "D2IM", "D2IMARR"))


def _lookup(cards: WcsCards, record: str, extname: str, tables: bytes) -> Any:
    from astropy import wcs as astropy_wcs

    fields = cards.records.get(record, {})
    version = int(fields.get("EXTVER", 1))
    header, data = read_table(tables, record, extname, version)
    if data is None or data.ndim != 2 or data.dtype.kind not in "iuf":
        raise WcsError(f"{record}: {extname},{version} is no image of two axes")
    number = record[-1]
    if f"AXIS.{number}" not in fields:
        raise WcsError(f"{record}: there is no AXIS.{number}")
    if fields[f"AXIS.{number}"] != int(number):
        data = data.T
    places = [
        tuple(_table_number(header, f"{name}{axis}", default) for axis in (1, 2))
        for name, default in (("CRPIX", 0.0), ("CRVAL", 0.0), ("CDELT", 1.0))
    ]
    if not all(places[2]):
        raise WcsError(f"{record}: CDELT of {extname},{version} is zero")
    return astropy_wcs.DistortionLookupTable(np.ascontiguousarray(data, np.float32), *places)


def _table_number(header: Any, keyword: str, default: float) -> float:
    from astropy.io.fits import VerifyError

    try:
        value = header.get(keyword, default)
    except VerifyError:
        value = "a card that cannot be read"
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        raise WcsError(f"{keyword} of a table of distortions: {value!r}")
    return float(value)


def read_table(tables: bytes, record: str, extname: str, version: int) -> tuple[Any, Any]:
    """Header and data of an HDU among *tables*; WcsError where it is not there."""
    try:
        hdus = open_tables(tables)
        hdu = hdus[extname, version]
        header, data = hdu.header, hdu.data
    except KeyError:
        raise WcsError(f"{record}: there is no HDU {extname},{version}") from None
    except Exception as error:  # noqa: BLE001 - astropy fails in many ways over a damaged table
        reason = " ".join(str(error).split())[:200]
        raise WcsError(f"{record}: {extname},{version} cannot be read: {reason}") from None
    return header, data


def open_tables(tables: bytes) -> Any:
    """The HDUs of *tables* as astropy has them, behind an empty primary HDU."""
    from astropy.io import fits

    buffer = fits.PrimaryHDU().header.tostring().encode("ascii") + tables
    return fits.HDUList.fromstring(buffer)


def open_tab_tables(cards: WcsCards, axes: Sequence[int], tables: bytes) -> Any:
    """The same for wcslib, which looks up -TAB axes in them; WcsError for what it crashes on.

    Where an index vector goes up and down, wcslib 8 refuses it and frees memory twice.
    """
    if lie := lying_count_of_columns(tables):
        named = ", ".join(f"CTYPE{axis + 1} = {cards.text('CTYPE', axis)!r}" for axis in axes)
        raise WcsError(f"{named}: its table has {lie!r}")
    hdus = open_tables(tables)
    for axis in axes:
        column = cards.parameters.get(("PS", axis, 2))
        if column is None or not cards.text("CTYPE", axis).endswith("-TAB"):
            continue
        version = int(float(cards.parameters.get(("PV", axis, 1), 1)))
        try:
            index = np.ravel(hdus[cards.parameters["PS", axis, 0], version].data[column])
            steps = np.diff(index.astype(np.float64))
        except Exception:  # noqa: BLE001 - astropy fails in many ways over a damaged table
            named = f"CTYPE{axis + 1} = {cards.text('CTYPE', axis)!r}"
            raise WcsError(f"{named}: its index {column!r} cannot be read") from None
        if len(steps) and not (steps.any() and ((steps >= 0).all() or (steps <= 0).all())):
            raise WcsError(f"PS{axis + 1}_2 = {column!r}: the index goes up and down")
    return hdus
