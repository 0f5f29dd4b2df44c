"""Samples along the edge of a shape, and the weights that make them.

A circle's are made of a centre and two half axes, those of a chain (a polygon, or a range with its
parallels) of its vertices: on the sky, or on a plane.
"""

from __future__ import annotations

from functools import lru_cache
from math import cos, pi, radians, sin
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from .shapes import Circle, Polygon, Range
from .skyregion import range_width
from .vectors import east_and_north, unit_vector

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .shapes import PlainShape as Shape
    from .vectors import Vector

    Floats = NDArray[np.float64]

MAX_VERTICES: Final = 64
"""Of a polygon whose edge is worth sampling."""

_ON_CIRCLE: Final = 32
_TURN: Final = np.arange(_ON_CIRCLE) * (2.0 * pi / _ON_CIRCLE)
_WAVES: Final = np.stack([np.cos(_TURN), np.sin(_TURN)])
ELLIPSE: Final = np.stack([np.full(_ON_CIRCLE, 0.5), *_WAVES], axis=1) * (2.0 / _ON_CIRCLE)
"""Samples times this: centre, cosine part and sine part of the ellipse through them."""
ELLIPSE_BACK: Final = np.concatenate([np.ones((1, _ON_CIRCLE)), _WAVES])
"""Those three times this: the samples."""
BESIDE: Final = cos(2.0 * pi / _ON_CIRCLE), sin(2.0 * pi / _ON_CIRCLE)
"""Cosine and sine of the way from one sample to the next."""

_RANGE_PARTS: Final = 16
_WAY: Final = np.arange(_RANGE_PARTS) / _RANGE_PARTS
_AROUND_LON: Final = np.concatenate(
    [_WAY, np.ones(_RANGE_PARTS), 1.0 - _WAY, np.zeros(_RANGE_PARTS + 1)]
)
_AROUND_LAT: Final = np.concatenate(
    [np.zeros(_RANGE_PARTS), _WAY, np.ones(_RANGE_PARTS), 1.0 - _WAY, np.zeros(1)]
)


class Edge(NamedTuple):
    """Samples along the edge of a shape."""

    vectors: Floats
    parts: int
    """Samples to a smooth side of a closed chain; 0 for a circle's whole edge."""


def edge_of(shape: Shape, axis: Vector, radius: float) -> Edge:
    """The edge on the sky; *axis* and *radius* (radians) are those of a circle."""
    match shape:
        case Circle():
            return Edge(_circle_edge(axis, radius), 0)
        case Polygon():
            return _polygon_edge(shape)
        case Range():
            return Edge(_range_edge(shape), _RANGE_PARTS)


def _circle_edge(axis: Vector, radius: float) -> Floats:
    x, y, z = axis
    east, north = east_and_north(axis)
    size, depth = sin(radius), cos(radius)
    centre_and_waves = np.array(
        [
            (depth * x, size * east[0], size * north[0]),
            (depth * y, size * east[1], size * north[1]),
            (depth * z, size * east[2], size * north[2]),
        ]
    )
    edge: Floats = centre_and_waves @ ELLIPSE_BACK
    return edge


def _polygon_edge(polygon: Polygon) -> Edge:
    corners = np.array([unit_vector(lon, lat) for lon, lat in polygon.vertices]).T
    weights, parts = chain(len(polygon.vertices))
    edge: Floats = corners @ weights
    edge /= np.sqrt(np.add.reduce(edge * edge, axis=0))
    return Edge(edge, parts)


def _range_edge(sky_range: Range) -> Floats:
    lon = radians(sky_range.lon1) + radians(range_width(sky_range)) * _AROUND_LON
    lat = radians(sky_range.lat1) + radians(sky_range.lat2 - sky_range.lat1) * _AROUND_LAT
    across = np.cos(lat)
    return np.stack((across * np.cos(lon), across * np.sin(lon), np.sin(lat)))


@lru_cache(maxsize=MAX_VERTICES)
def chain(vertices: int) -> tuple[Floats, int]:
    """Weights that make samples of the vertices of a closed chain, and samples per arc."""
    parts = 8 if vertices <= 8 else 4
    weights = np.zeros((vertices, vertices * parts + 1))
    for vertex in range(vertices):
        for part in range(parts):
            weights[vertex, vertex * parts + part] += 1.0 - part / parts
            weights[(vertex + 1) % vertices, vertex * parts + part] += part / parts
    weights[0, -1] = 1.0  # closed, so that each arc has both its ends in one row
    return weights, parts
