"""The linear part of a description: what the matrix of PC or CD does to some axes and to others.

Axes are 0-based, in FITS order. Source: FITS 4.0 §8.1, steps from pixels to intermediate
coordinates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from soda_service.fits.wcscards import WcsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from soda_service.fits.wcscards import WcsCards

NEGLIGIBLE_PIXELS: Final = 1e-7
"""By which a pixel may be moved: a tenth of what an interval or a shape must cover to select it."""


def coupling(
    cards: WcsCards, axes: Sequence[int], *, most_pixels: float = NEGLIGIBLE_PIXELS
) -> str | None:
    """The element that makes *axes* depend on an axis of more than one pixel beside them.

    None where all such elements together move pixels of *axes* by no more than *most_pixels*
    from one end of the other axes to the other: the intermediate coordinates by |m_ik| N_k,
    and pixels by the inverse of the matrix of *axes* times that.
    """
    found: dict[str, NDArray[np.float64]] = {}
    for (name, row, column), value in cards.matrix.items():
        if row in axes and column not in axes and value and cards.length(column) > 1:
            moved = np.zeros(len(axes))
            moved[axes.index(row)] = abs(cards.element(row, column)) * cards.length(column)
            found[f"{name}{row + 1}_{column + 1}"] = moved
    if not found:
        return None
    matrix = np.array([[cards.element(row, column) for column in axes] for row in axes])
    # Rows are scaled: their units differ by many powers of ten.
    scale = np.abs(matrix).max(axis=1, initial=0)
    with np.errstate(all="ignore"):
        try:
            inverse = np.abs(np.linalg.inv(matrix / scale[:, None]))
        except np.linalg.LinAlgError:
            return next(iter(found))
        pixels = {name: inverse @ (moved / scale) for name, moved in found.items()}
        if np.sum(list(pixels.values()), axis=0).max() <= most_pixels:
            return None
    return max(pixels, key=lambda name: pixels[name].max())


def reference_pixel(cards: WcsCards, axes: Sequence[int]) -> NDArray[np.float64]:
    """CRPIX of *axes* alone, the only pixel of any other axis taken into account.

    1-based. Raises WcsError where the matrix of *axes* is singular.
    """
    matrix = np.array([[cards.element(row, column) for column in axes] for row in axes])
    scale = np.abs(matrix).max(axis=1, initial=0)
    if not scale.all() or abs(np.linalg.det(matrix / scale[:, None])) < 1e-12:
        keyword = "CD" if cards.matrix_name == "CD" else "CDELT"
        named = ", ".join(f"{keyword}{axis + 1}" + "_j" * (keyword == "CD") for axis in axes)
        raise WcsError(f"{named}: the matrix is singular")
    crpix = np.array([cards.number("CRPIX", axis, 0.0) for axis in axes])
    others = [axis for axis in range(cards.count) if axis not in axes]
    shift = np.array(
        [
            sum(cards.element(row, k) * (1 - cards.number("CRPIX", k, 0.0)) for k in others)
            for row in axes
        ]
    )
    if not shift.any():
        return crpix
    # Rows are scaled as above: their units differ by many powers of ten.
    steps = np.linalg.solve(matrix / scale[:, None], shift / scale)
    return np.asarray(crpix - steps, dtype=np.float64)
