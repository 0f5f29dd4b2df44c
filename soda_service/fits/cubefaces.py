"""Images whose third axis counts the six faces of a cube around the sky (CTYPEk = 'CUBEFACE').

The faces of the quadrilateralised cubes (TSC, CSC, QSC) lie side by side in one plane, from which
wcslib projects them: face 1 in the middle, 2 to 4 beside it, 0 above and 5 below. What stands on
the third axis moves a pixel to its face in that plane, so that each plane of the image has a
celestial grid of its own. Source: FITS WCS Paper II (Calabretta & Greisen 2002) §5.6.1, and
wcslib's `wcsp2s`: the face is the intermediate coordinate of that axis, without CRVALk.

Axes and planes are 0-based, axes in FITS order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from soda_service.fits.linearpart import coupling
from soda_service.fits.wcscards import WcsError

if TYPE_CHECKING:
    from soda_service.fits.wcscards import WcsCards

_LARGEST_MISS: Final = 1e-10
"""By which a coordinate may differ from a whole number and still name a face, as in wcslib."""
_FARTHEST: Final = 1e9
"""Planes from a reference pixel."""
_APART: Final = 90.0
"""Degrees of the plane from the middle of one face to that of the next."""
_PLACES: Final = ((0, 1), (0, 0), (1, 0), (2, 0), (3, 0), (0, -1))
"""Where the faces 0 to 5 lie, in longitude and latitude of the plane."""


def face_axis(cards: WcsCards) -> int | None:
    """The axis of faces; None where there is none. Raises WcsError where there are several."""
    axes = [axis for axis in range(cards.count) if cards.text("CTYPE", axis) == "CUBEFACE"]
    if len(axes) > 1:
        named = " and ".join(f"CTYPE{axis + 1}" for axis in axes)
        raise WcsError(f"{named} = 'CUBEFACE': the faces of a cube are on one axis")
    return axes[0] if axes else None


def has_several_faces(cards: WcsCards) -> bool:
    """Whether positions on the sky depend on the pixel of an axis of faces."""
    axis = face_axis(cards)
    return axis is not None and cards.length(axis) > 1


def faces_of(cards: WcsCards) -> dict[int, int]:
    """By number of the plane, the face that it shows; empty where there is no axis of faces.

    Raises WcsError where no plane is one of the six, and where that depends on other pixels.
    """
    axis = face_axis(cards)
    if axis is None:
        return {}
    if coupled := coupling(cards, (axis,), most_pixels=0.0):
        raise WcsError(f"{coupled}: the face changes along another axis")
    unit = cards.text("CUNIT", axis)
    if unit.strip() not in {"", "deg"}:
        # wcslib takes it for an angle, and brings it to degrees.
        raise WcsError(f"CUNIT{axis + 1} = {unit!r}: a number of a face has no unit")
    first = sum(
        cards.element(axis, other) * (1 - cards.number("CRPIX", other, 0.0))
        for other in range(cards.count)
        if other == axis or cards.length(other) == 1
    )
    step = cards.element(axis, axis)
    if not step:
        raise WcsError(f"{cards.matrix_name}{axis + 1}_{axis + 1}: all planes are one face")
    for name in ("CPDIS1", "CPDIS2", "CQDIS1", "CQDIS2"):
        # wcslib's functions count from a reference pixel that is not the face's.
        if cards.texts.get(name, "LOOKUP").upper() != "LOOKUP":
            raise WcsError(f"{name}: a function that distorts the faces of a cube")
    faces = {}
    for face in range(len(_PLACES)):
        # At most six planes are faces, however many there are.
        plane = round((face - first) / step) if abs(face - first) < _FARTHEST * abs(step) else 0
        is_there = 0 <= plane < cards.length(axis)
        if is_there and abs(first + plane * step - face) <= _LARGEST_MISS:
            faces[plane] = face
    if not faces:
        raise WcsError(f"CRPIX{axis + 1}: no plane is one of the faces 0 to 5")
    return dict(sorted(faces.items()))


def put_on_face(cards: WcsCards, wcsprm: Any) -> None:
    """Move the reference pixel of *wcsprm*, which knows the axes of the sky only, to the face."""
    faces = faces_of(cards)
    if not faces:
        return
    if has_several_faces(cards):
        raise WcsError("CTYPE = 'CUBEFACE': each face has a sky of its own")
    moved = np.zeros(2)
    moved[[wcsprm.lng, wcsprm.lat]] = _PLACES[faces[0]]
    matrix = np.diag(wcsprm.get_cdelt()) @ wcsprm.get_pc()
    wcsprm.crpix = np.asarray(wcsprm.crpix) - np.linalg.solve(matrix, moved * _APART)
    wcsprm.set()
