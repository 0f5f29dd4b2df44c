"""What the coordinates of a dataset's images say of its place in space, time and spectrum.

Positions are ICRS degrees, pixel scales arcseconds, wavelengths metres in vacuum, times MJD
UTC. Where a file holds several images (the chips of a camera), the region is their union
and the axis lengths are those of a picture that would hold them all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, degrees, isfinite
from typing import TYPE_CHECKING, Final

import numpy as np

from soda_service.catalog.dataset import Footprint
from soda_service.fits.skyextent import extents_of
from soda_service.geometry.shapes import Circle, Polygon
from soda_service.geometry.vectors import enclosing_axis, lon_lat, unit_vector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from soda_service.fits.skyextent import SkyExtent
    from soda_service.fits.wcs import CelestialGrid, ImageWcs

_STATES: Final = (
    "I", "Q", "U", "V", "RR", "LL", "RL", "LR", "XX", "YY", "XY", "YX", "POLI", "POLA",
)  # fmt: skip
"""ObsCore 1.1 §B.6.6 gives them in this order."""

_CAP_WIDER: Final = 1 + 1e-12
_REGION_DIGITS: Final = 8
"""Decimals of a degree in `s_region`: 36 microarcseconds."""


@dataclass(frozen=True, slots=True)
class ScienceImage:
    """An image whose coordinates count, or that at least has axes."""

    naxis: tuple[int, ...]
    wcs: ImageWcs | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Columns of ObsCore that follow from the axes; None or absent is null."""

    footprint: Footprint | None
    is_cube: bool
    columns: dict[str, str | int | float | None] = field(default_factory=dict)


def cover(images: Sequence[ScienceImage]) -> Coverage:
    """What *images* cover together."""
    grids = [grid for image in images if image.wcs for grid in image.wcs.sky_grids]
    extents = zip(grids, extents_of(grids), strict=True)
    placed = [(grid, extent) for grid, extent in extents if extent is not None]
    columns: dict[str, str | int | float | None] = {}
    footprint: Footprint | None = None
    if placed:
        pieces = (Polygon(piece) for _, extent in placed for piece in extent.polygons)
        polygons = tuple(dict.fromkeys(pieces))  # images of one grid cover the same
        footprint = Footprint(polygons=polygons, cap=_cap(polygons))
        columns |= _sky_columns(placed, footprint)
    columns |= _spectral_columns(images)
    columns |= _temporal_columns(images)
    columns |= _polarization_columns(images)
    return Coverage(
        footprint=footprint, is_cube=any(_is_cube(image) for image in images), columns=columns
    )


def _cap(polygons: Sequence[Polygon]) -> Circle:
    """The smallest cap, or the whole sky where no hemisphere holds the polygons.

    A cap no wider than a hemisphere that holds the vertices holds arcs and interiors too.
    """
    vertices = _vertices(polygons)
    found = enclosing_axis(vertices)
    if found is None:
        return Circle(0.0, 0.0, 180.0)
    axis = np.array(found[0])
    # From the chord, since a cosine is blind to small angles.
    chord = float(np.linalg.norm(vertices - axis[:, None], axis=0).max())
    radius = degrees(2 * float(np.arcsin(min(1.0, chord / 2))))
    lon, lat = lon_lat(axis[:, None])
    return Circle(float(lon[0]), float(lat[0]), min(180.0, radius * _CAP_WIDER + 1e-12))


def _vertices(polygons: Sequence[Polygon]) -> NDArray[np.float64]:
    return np.array([unit_vector(*vertex) for one in polygons for vertex in one.vertices]).T


def _sky_columns(
    placed: Sequence[tuple[CelestialGrid, SkyExtent]], footprint: Footprint
) -> dict[str, str | int | float | None]:
    grid, extent = placed[0]
    scale = extent.pixel_scale if isfinite(extent.pixel_scale) else None
    if len(placed) == 1:
        lon, lat = extent.centre
        fov = extent.fov
        width, height = grid.naxis
        lengths: tuple[int, int] | None = (width, height)
    else:
        lon, lat = footprint.cap.lon, footprint.cap.lat
        fov = 2 * footprint.cap.radius
        lengths = _joint_lengths(grid, footprint, scale)
    return {
        "s_ra": lon,
        "s_dec": lat,
        "s_fov": fov,
        "s_region": format_region(footprint.polygons),
        "s_pixel_scale": scale,
        "s_xel1": lengths[0] if lengths else None,
        "s_xel2": lengths[1] if lengths else None,
    }


def format_region(polygons: Sequence[Polygon]) -> str:
    """STC-S, as ObsCore services write it: a polygon, or a union of several."""
    texts = [
        "POLYGON ICRS "
        + " ".join(f"{_rounded(lon)} {_rounded(lat)}" for lon, lat in polygon.vertices)
        for polygon in polygons
    ]
    return texts[0] if len(texts) == 1 else f"UNION ICRS ({' '.join(texts)})"


def _rounded(angle: float) -> str:
    text = f"{angle:.{_REGION_DIGITS}f}".rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def _joint_lengths(
    grid: CelestialGrid, footprint: Footprint, scale: float | None
) -> tuple[int, int] | None:
    """Axis lengths of a picture that would hold several images, on the plane that touches the sky.

    Its axes are those of *grid*, the first image's, and its pixels as large.
    """
    if scale is None or footprint.cap.radius >= 89:
        return None
    axis = np.array(unit_vector(footprint.cap.lon, footprint.cap.lat))
    x, y = ((length - 1) / 2 for length in grid.naxis)
    ends = grid.pixel_to_sky(np.array([x + 0.5, x - 0.5]), np.array([y, y]))
    along_x = ends[:, 0] - ends[:, 1]
    along_x = along_x - (along_x @ axis) * axis
    length = float(np.linalg.norm(along_x))
    if not isfinite(length) or length == 0:
        return None
    along_x /= length
    along_y = np.cross(axis, along_x)
    vertices = _vertices(footprint.polygons)
    plane = np.stack([along_x @ vertices, along_y @ vertices]) / (axis @ vertices)
    extent = np.degrees(plane.max(axis=1) - plane.min(axis=1)) * 3600 / scale
    width, height = (max(1, ceil(side - 0.5)) for side in extent.tolist())
    return width, height


def _spectral_columns(images: Sequence[ScienceImage]) -> dict[str, str | int | float | None]:
    for image in images:
        axis = image.wcs.spectral if image.wcs else None
        if axis is None or (bounds := axis.bounds) is None:
            continue
        low, high = bounds.lower, bounds.upper
        if not (0 <= low <= high and isfinite(low) and isfinite(high)):
            continue
        count = image.naxis[axis.axis]
        width = (high - low) / count
        power = (low + high) / 2 / width if width > 0 else None
        return {"em_min": low, "em_max": high, "em_xel": count, "em_res_power": power}
    return {}


def _temporal_columns(images: Sequence[ScienceImage]) -> dict[str, str | int | float | None]:
    for image in images:
        axis = image.wcs.temporal if image.wcs else None
        if axis is None or (bounds := axis.bounds) is None:
            continue
        low, high = bounds.lower, bounds.upper
        if isfinite(low) and isfinite(high) and low <= high:
            return {"t_min": low, "t_max": high, "t_xel": image.naxis[axis.axis]}
    return {}


def _polarization_columns(images: Sequence[ScienceImage]) -> dict[str, str | int | float | None]:
    found = {
        state
        for image in images
        if image.wcs and image.wcs.polarization
        for state in image.wcs.polarization.states
    }
    states = [state for state in _STATES if state in found]
    return {"pol_states": f"/{'/'.join(states)}/", "pol_xel": len(states)} if states else {}


def _is_cube(image: ScienceImage) -> bool:
    """Whether an axis beyond those on the sky has more than one pixel."""
    sky: tuple[int, ...] = (0, 1)
    if image.wcs and image.wcs.faces:
        sky = image.wcs.faces.axes
    elif image.wcs and image.wcs.celestial:
        sky = image.wcs.celestial.axes
    others = [length for axis, length in enumerate(image.naxis) if axis not in sky]
    return any(length > 1 for length in others)
