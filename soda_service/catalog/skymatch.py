"""The exact match of shapes with footprints, after the R*Tree has named the candidates.

First the caps: footprints whose cap lies apart from a shape's are out. The rest is decided
by the exact test, for many footprints at once.
"""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from soda_service.catalog.rows import polygons_of
from soda_service.geometry.sphere import (
    Outlines,
    bounding_cap,
    intersects_many,
    unit_vector,
    unit_vectors,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from soda_service.geometry.shapes import Polygon, Shape

_SLACK: Final = 1e-9
"""Radians added before caps are held to lie apart: more than the error of the sums."""

_ROUNDING: Final = 1e-15
"""Of a scalar product."""


class SkyMatch:
    """Tells which rows' footprints meet one of some shapes."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self._shapes = tuple(dict.fromkeys(shapes))
        caps = [bounding_cap(shape) for shape in self._shapes]
        self._centres = np.array([unit_vector(cap.lon, cap.lat) for cap in caps])
        self._radii = np.radians([cap.radius for cap in caps])

    columns: Final = ("polygons", "cap_lon", "cap_lat", "cap_radius")
    """What a row ends with to be decided on; none of them null."""

    def meeting(self, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Those of *rows* that meet a shape, in their order, without `columns`."""
        packed, lon, lat, radius = zip(*[row[-4:] for row in rows], strict=True)
        near = self._near(lon, lat, radius)
        polygons: list[tuple[Polygon, ...]] = [() for _ in rows]
        for place in np.flatnonzero(near.any(axis=1)).tolist():
            polygons[place] = polygons_of(packed[place])
        meets = np.zeros(len(rows), dtype=bool)
        for shape, of_shape in zip(self._shapes, near.T, strict=True):
            owners = np.flatnonzero(of_shape & ~meets).tolist()
            if owners:
                meets[_met(shape, owners, polygons)] = True
        return [rows[place][:-4] for place in np.flatnonzero(meets).tolist()]

    def _near(
        self, lon: Sequence[float], lat: Sequence[float], radius: Sequence[float]
    ) -> NDArray[np.bool_]:
        """Of each row (first axis) and shape (second), whether their caps meet."""
        centres = unit_vectors(lon, lat).T
        reach = np.radians(radius)[:, None] + self._radii[None, :] + _SLACK
        near: NDArray[np.bool_] = (
            centres @ self._centres.T >= np.cos(np.minimum(pi, reach)) - _ROUNDING
        )
        return near


def _met(shape: Shape, owners: list[int], polygons: list[tuple[Polygon, ...]]) -> list[int]:
    """Those of *owners* one of whose polygons meets *shape*; some may be named twice."""
    owned = [(owner, polygon) for owner in owners for polygon in polygons[owner]]
    meets = intersects_many(shape, Outlines.of([polygon for _, polygon in owned]))
    return [owner for (owner, _), met in zip(owned, meets.tolist(), strict=True) if met]
