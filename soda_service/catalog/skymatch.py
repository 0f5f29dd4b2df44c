"""The exact match of shapes with footprints, after the R*Tree has named the candidates.

First the caps: footprints whose cap lies apart from a shape's are out, and those whose cap
lies inside of a shape are in. Of many that are left, those with a vertex inside are in. The rest is
decided by the exact test, for many footprints at once.
"""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from soda_service.catalog.rows import polygons_of
from soda_service.geometry.skyregion import region_of
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

_MANY: Final = 32
"""Footprints from which on it pays to look at their vertices first."""


class SkyMatch:
    """Tells which rows' footprints meet one of some shapes."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self._shapes = tuple(dict.fromkeys(shapes))
        caps = [bounding_cap(shape) for shape in self._shapes]
        self._centres = np.array([unit_vector(cap.lon, cap.lat) for cap in caps])
        self._radii = np.radians([cap.radius for cap in caps])

    columns: Final = ("d.polygons", "d.cap_lon", "d.cap_lat", "d.cap_radius")
    """What a row ends with to be decided on; none of them null."""

    def meeting(self, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Those of *rows* that meet a shape, in their order."""
        packed, lon, lat, degrees = zip(*[row[-4:] for row in rows], strict=True)
        centres, radii = unit_vectors(lon, lat), np.radians(degrees)
        near = self._near(centres, radii)
        meets = np.zeros(len(rows), dtype=bool)
        least = float(radii.min())
        for number, radius in enumerate(self._radii.tolist()):
            if radius > least:
                self._mark_held(number, centres, radii, near, meets)
        left = np.flatnonzero(near.any(axis=1) & ~meets).tolist()
        if len(left) >= _MANY:
            self._mark_touched({place: packed[place] for place in left}, near, meets)
        polygons: list[tuple[Polygon, ...]] = [() for _ in rows]
        for place in np.flatnonzero(near.any(axis=1) & ~meets).tolist():
            polygons[place] = polygons_of(packed[place])
        for shape, of_shape in zip(self._shapes, near.T, strict=True):
            owners = np.flatnonzero(of_shape & ~meets).tolist()
            if owners:
                meets[_met(shape, owners, polygons)] = True
        if meets.all():
            return list(rows)
        return [rows[place] for place in np.flatnonzero(meets).tolist()]

    def _near(self, centres: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Of each row (first axis) and shape (second), whether their caps meet."""
        reach = radii[:, None] + self._radii[None, :] + _SLACK
        least = np.cos(np.minimum(pi, reach)) - _ROUNDING
        near: NDArray[np.bool_] = least <= centres.T @ self._centres.T
        return near

    def _mark_held(
        self,
        number: int,
        centres: NDArray[np.float64],
        radii: NDArray[np.float64],
        near: NDArray[np.bool_],
        meets: NDArray[np.bool_],
    ) -> None:
        """Mark in *meets* the rows whose whole cap lies inside of that shape."""
        places = np.flatnonzero(near[:, number] & ~meets)
        if len(places):
            margin = region_of(self._shapes[number]).margin(centres[:, places])
            meets[places[margin >= radii[places] + _SLACK]] = True

    def _mark_touched(
        self, packed: dict[int, bytes], near: NDArray[np.bool_], meets: NDArray[np.bool_]
    ) -> None:
        """Mark in *meets* the rows, by their places, one of whose vertices lies inside."""
        owners, vertices = _vertices_of(packed)
        for number, shape in enumerate(self._shapes):
            region = region_of(shape)
            if region.is_simple:
                asked = np.flatnonzero(near[owners, number] & ~meets[owners])
                if len(asked):
                    margin = region.margin(vertices[:, asked])
                    meets[owners[asked[margin >= _SLACK]]] = True


def _vertices_of(packed: dict[int, bytes]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The owner of each vertex of polygons as `rows.polygons_of` reads them, and the vectors."""
    starts = [4 + 4 * int.from_bytes(one[:4], "little") for one in packed.values()]
    numbers = [one[start:] for one, start in zip(packed.values(), starts, strict=True)]
    owners = np.repeat(list(packed), [len(one) // 16 for one in numbers])
    lon, lat = np.frombuffer(b"".join(numbers), "<f8").reshape(-1, 2).T
    return owners, unit_vectors(lon, lat)


def _met(shape: Shape, owners: list[int], polygons: list[tuple[Polygon, ...]]) -> list[int]:
    """Those of *owners* one of whose polygons meets *shape*; some may be named twice."""
    owned = [(owner, polygon) for owner in owners for polygon in polygons[owner]]
    meets = intersects_many(shape, Outlines.of([polygon for _, polygon in owned]))
    return [owner for (owner, _), met in zip(owned, meets.tolist(), strict=True) if met]
