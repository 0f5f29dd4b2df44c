"""Which two axes of an image are directions on the sky, and in what projection.

Axes are 0-based, in FITS order. Source: FITS WCS Paper II (Calabretta & Greisen 2002) §3.1.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from soda_service.fits.wcscards import WcsError

if TYPE_CHECKING:
    from soda_service.fits.wcscards import WcsCards

_CTYPE: Final = re.compile(r"(RA|DEC|[A-Z]L(?:ON|AT)|[A-Z]{2}L[NT])(?:-+([A-Z]{3})(-[A-Z]{3})?)?")
_LATITUDE: Final = re.compile(r"DEC|.LAT|..LT")


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
    types = [ctype_parts(cards, axis) for axis in axes]
    latitudes = [is_latitude(kind) for kind, _ in types]
    systems = {re.sub("^(RA|DEC)$", "", kind)[:2].rstrip("L") for kind, _ in types}
    if sum(latitudes) != 1 or len(systems) != 1 or types[0][1] != types[1][1]:
        raise WcsError(f"{named}: not longitude and latitude of one projection")
    return axes[0], axes[1]


def ctype_parts(cards: WcsCards, axis: int) -> tuple[str, str]:
    """Coordinate and projection of a celestial axis: `RA` and `TAN`."""
    found = _CTYPE.fullmatch(cards.text("CTYPE", axis))
    assert found is not None
    return found[1], found[2] or ""


def is_latitude(coordinate: str) -> bool:
    """Whether the coordinate of a celestial axis is a latitude, as `DEC` is."""
    return _LATITUDE.fullmatch(coordinate) is not None
