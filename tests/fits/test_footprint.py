"""Footprints hold every pixel of their image, and not much more."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.images import COMPRESSED_FAMILIES, SKY_FAMILIES
from support.wcs import first_image

from soda_service.fits.footprint import footprint
from soda_service.fits.skyextent import SkyExtent
from soda_service.fits.skyplaces import vectors_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from soda_service.fits.skyplaces import Place
    from soda_service.fits.wcs import CelestialGrid

FAMILIES = [name for name in SKY_FAMILIES if name not in COMPRESSED_FAMILIES]
"""Compressed images have the coordinates of others."""
ALL_SKY = ("car_all_sky", "ait_all_sky", "mol_all_sky", "hpx_all_sky", "sfl_all_sky", "whole_zea")
_TOUCH = 1e-9
"""Radians within which a point is on an edge."""


@cache
def polygons_of(name: str) -> tuple[tuple[Place, ...], ...]:
    """The footprint of a family."""
    return footprint(first_image(name).grid())


def covered(
    polygons: tuple[tuple[Place, ...], ...], points: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which points lie in any polygon, edges included: by the angles that vertices turn through."""
    found = np.zeros(points.shape[1], dtype=bool)
    for polygon in polygons:
        vertices = vectors_of(list(polygon))
        following = np.roll(vertices, -1, axis=1)
        normals = np.cross(vertices.T, following.T)
        # Vertices as seen from each point, and the angle from one to the next.
        turn = np.zeros(points.shape[1])
        near = np.zeros(points.shape[1], dtype=bool)
        for start, end, normal in zip(vertices.T, following.T, normals, strict=True):
            cosine = start @ end - (start @ points) * (end @ points)
            turn += np.arctan2(normal @ points, cosine)
            between = (np.cross(normal, start) @ points > -_TOUCH) & (
                np.cross(end, normal) @ points > -_TOUCH
            )
            off = np.abs(normal @ points) / np.linalg.norm(normal)
            near |= between & (off < _TOUCH)
        # Seen from the other side of the sky a polygon turns round the point as well.
        inside = (np.abs(turn) > np.pi) & (vertices.mean(axis=1) @ points > 0)
        found |= near | inside
    return found


def corners(grid: CelestialGrid) -> NDArray[np.float64]:
    """Directions of the corners and centres of every pixel that are on the sky."""
    width, height = grid.naxis
    x, y = np.meshgrid(np.arange(2 * width + 1) / 2 - 0.5, np.arange(2 * height + 1) / 2 - 0.5)
    sky = grid.pixel_to_sky(x.ravel(), y.ravel())
    return sky[:, np.isfinite(sky[0])]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_pixel_is_inside(name: str) -> None:
    """Corners and centres: no false negative, over the poles and RA 0 too."""
    grid = first_image(name).grid()
    assert covered(polygons_of(name), corners(grid)).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_each_polygon_fits_into_a_hemisphere(name: str) -> None:
    """So that its inside is never in doubt."""
    for polygon in polygons_of(name):
        assert len(polygon) >= 3
        vertices = vectors_of(list(polygon))
        middle = vertices.mean(axis=1)
        assert (middle @ vertices).min() > 0.01


@pytest.mark.parametrize("name", [
    "tan", "tan_sip", "galactic", "ra_wrap", "pole_tan", "pole_zea", "car_strip", "tpv",
    "lookup_distortion", "one_pixel", "one_row", "swapped_axes", "oblique_native",
])  # fmt: skip
def test_an_outline_is_followed_to_a_pixel(name: str) -> None:
    """Points a pixel and a half outside are outside."""
    grid = first_image(name).grid()
    polygons = polygons_of(name)
    assert len(polygons) == 1
    width, height = grid.naxis
    x = np.linspace(-2.0, width + 1, 50)
    y = np.linspace(-2.0, height + 1, 50)
    around_x = np.concatenate([x, x, np.full(50, -2.0), np.full(50, width + 1.0)])
    around_y = np.concatenate([np.full(50, -2.0), np.full(50, height + 1.0), y, y])
    outside = grid.pixel_to_sky(around_x, around_y)
    assert not covered(polygons, outside).any()


@pytest.mark.parametrize("name", ALL_SKY)
def test_maps_of_the_whole_sky_are_eight_triangles(name: str) -> None:
    """And every direction lies in one."""
    extent = SkyExtent.of(first_image(name).grid())
    assert extent is not None
    assert [len(polygon) for polygon in extent.polygons] == [3] * 8
    generator = np.random.default_rng(2)
    directions = generator.normal(size=(3, 500))
    directions /= np.linalg.norm(directions, axis=0)
    assert covered(extent.polygons, directions).all()
    assert 355 < extent.fov <= 360


def test_a_limb_is_followed_loosely() -> None:
    """The far side of a hemisphere is not claimed, but for a belt of twenty degrees."""
    generator = np.random.default_rng(3)
    directions = generator.normal(size=(3, 2000))
    directions /= np.linalg.norm(directions, axis=0)
    centre = vectors_of([(20.0, 40.0)])
    far = (centre.T @ directions)[0] < np.cos(np.radians(110))
    assert far.sum() > 200
    assert not covered(polygons_of("sin_limb"), directions[:, far]).any()


def test_longitudes_run_from_0_to_360() -> None:
    """On both sides of RA 0."""
    for name in ("ra_wrap", "ra_wrap_below"):
        longitudes = [lon for polygon in polygons_of(name) for lon, _ in polygon]
        assert all(0 <= lon < 360 for lon in longitudes)
        assert min(longitudes) < 1
        assert max(longitudes) > 359
