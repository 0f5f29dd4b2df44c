"""The celestial axes of an image as wcslib and astropy are told of them.

They get no header but what `wcscards` has checked, put into a form that they understand: SCAMP's
parameters, ZPX and the faces of a cube need some help. Axes are 0-based, in FITS order.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from soda_service.fits.celestialaxes import ctype_parts, is_latitude
from soda_service.fits.cubefaces import put_on_face
from soda_service.fits.pixelpolynomial import RADIAL
from soda_service.fits.wcscards import WcsError
from soda_service.fits.wcslibheader import compose_header
from soda_service.fits.wcstables import read_lookups

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from soda_service.fits.wcscards import WcsCards

_RADIAL: Final = re.compile(
    r"projp([0-9]) *= *([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[Ee][+-]?[0-9]{1,2})?)"
)
_SCAMP_PARAMETER: Final = 5
"""PVi_m of a TAN image from this number on are SCAMP's distortion, not TAN's own parameters."""


class CompiledSky(NamedTuple):
    """The celestial axes as wcslib and astropy have them."""

    wcsprm: Any
    """The description in wcslib."""
    transform: Any
    """The chain of astropy around it."""
    is_distorted: bool
    """Whether the chain distorts pixels."""
    has_inverse: bool
    """Whether it brings a guess of the inverse."""


def compile_celestial(cards: WcsCards, axes: tuple[int, int], tables: bytes) -> CompiledSky:
    """The axes *axes* of the sky; WcsError where they cannot be used.

    *tables* are the HDUs that they refer to.
    """
    # 0.4 s, and only who looks at pixels needs it.
    from astropy import wcs as astropy_wcs

    ctypes = [cards.text("CTYPE", axis) for axis in axes]
    for axis in axes:
        code = ctype_parts(cards, axis)[1]
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
    lookups = read_lookups(cards, axes, tables)
    transform = astropy_wcs.WCSBase(sip, lookups[0], wcsprm, lookups[1])
    forward = sip is not None and sip.a is not None
    is_distorted = forward or any(table is not None for pair in lookups for table in pair)
    has_inverse = forward and sip is not None and sip.ap is not None
    return CompiledSky(wcsprm, transform, is_distorted, has_inverse)


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
    header = compose_header(cards, axes, ctypes=ctypes)
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
    latitude = next(axis for axis in axes if is_latitude(ctype_parts(cards, axis)[0]))
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
