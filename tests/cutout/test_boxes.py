"""The box of a cutout against brute force: astropy's place of every pixel, and plain formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.cutouts import places_on
from support.images import primary, ramp, sky_cards
from support.wcs import first_image

from soda_service.geometry.shapes import Circle, Polygon, Range

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from support.cutouts import Workbench

    from soda_service.geometry.shapes import Shape

    Floats = NDArray[np.float64]

FAMILIES = (
    *("tan", "tan_sip", "tpv", "tnx", "swapped_axes", "galactic", "fk4", "ecliptic", "ra_wrap"),
    *("pole_tan", "pole_zea", "sin_limb", "ncp", "car_all_sky", "ait_all_sky", "car_strip"),
    *("projection_bon", "lookup_distortion", "cube_spectral_first", "compressed_tiles"),
)
PART = 5
"""Points along a pixel, from one edge to the other."""


def holds(shape: Shape, sky: Floats) -> NDArray[np.bool_]:
    """Which of these unit vectors (3, N) lie in a shape; False for what is not on the sky."""
    lon = np.degrees(np.arctan2(sky[1], sky[0])) % 360
    lat = np.degrees(np.arctan2(sky[2], np.hypot(sky[0], sky[1])))
    with np.errstate(invalid="ignore"):
        match shape:
            case Circle():
                centre = _vector(shape.lon, shape.lat)
                apart = 2 * np.degrees(
                    np.arcsin(np.minimum(np.linalg.norm(sky - centre[:, None], axis=0) / 2, 1))
                )
                return np.asarray(apart <= shape.radius)
            case Range():
                width = (shape.lon2 - shape.lon1) % 360
                inside = (lon - shape.lon1) % 360 <= width
                return np.asarray(inside & (lat >= shape.lat1) & (lat <= shape.lat2))
            case Polygon():
                return _in_polygon(shape, sky)
            case _:
                raise AssertionError(shape)


def _vector(lon: float, lat: float) -> Floats:
    lon, lat = np.radians([lon, lat])
    return np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def _in_polygon(shape: Polygon, sky: Floats) -> NDArray[np.bool_]:
    """Even-odd rule in the plane that touches the sphere at the middle of the vertices."""
    corners = np.array([_vector(*vertex) for vertex in shape.vertices]).T
    up = corners.sum(axis=1)
    up /= np.linalg.norm(up)
    east = np.cross([0.0, 0.0, 1.0], up)
    east /= np.linalg.norm(east)
    plane = np.array([east, np.cross(up, east)])
    x, y = plane @ sky / (up @ sky)
    inside = np.zeros(sky.shape[1], dtype=bool)
    across, along = plane @ corners / (up @ corners)
    for number in range(len(across)):
        x1, y1, x2, y2 = across[number - 1], along[number - 1], across[number], along[number]
        meets = (y1 > y) != (y2 > y)
        inside ^= meets & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1 if y2 != y1 else 1.0))
    return np.asarray(inside & (up @ sky > 0))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_box_holds_the_shape_and_little_more(bench: Workbench, name: str) -> None:
    """Every pixel whose centre is inside, and at no side more than one pixel too many."""
    subject = bench.family(name)
    image = first_image(name)
    (index,) = subject.sky_images()
    axes = subject.grid(index).axes
    width, height = (image.naxis[axis] for axis in axes)
    x, y = (part.ravel() for part in np.meshgrid(np.arange(width), np.arange(height)))
    centres = image.astropy_sky(x.astype(float), y.astype(float))
    within = np.linspace(-0.5, 0.5, PART)
    fine_x = (x[:, None, None] + within[None, :, None] + 0 * within).ravel()
    fine_y = (y[:, None, None] + within[None, None, :] + 0 * within[:, None]).ravel()
    points = image.astropy_sky(fine_x, fine_y)
    pixel_x, pixel_y = np.repeat(x, PART**2), np.repeat(y, PART**2)
    checked = 0
    for place in places_on(subject.grid(index)):
        plan = subject.plan(place.shape)
        assert plan is not None
        box = next(one.box for one in plan.hdus if one.box)
        low_x, low_y = (box.lower[axis] for axis in axes)
        high_x, high_y = (box.upper[axis] - 1 for axis in axes)
        inside = holds(place.shape, centres)
        assert np.all((low_x <= x[inside]) & (x[inside] <= high_x)), place
        assert np.all((low_y <= y[inside]) & (y[inside] <= high_y)), place
        touched = holds(place.shape, points)
        if touched.any():
            seen_x, seen_y = pixel_x[touched], pixel_y[touched]
            assert low_x >= seen_x.min() - 1, place
            assert low_y >= seen_y.min() - 1, place
            assert high_x <= seen_x.max() + 1, place
            assert high_y <= seen_y.max() + 1, place
            checked += 1
        else:
            assert (high_x - low_x, high_y - low_y) <= (1, 1), place
    assert checked >= 2


@pytest.mark.parametrize("name", ["tan", "tan_sip", "galactic", "cube_radio", "mef"])
def test_a_shape_smaller_than_a_pixel_gives_the_pixel(bench: Workbench, name: str) -> None:
    """The one that holds it."""
    subject = bench.family(name)
    index = next(subject.sky_images())
    grid = subject.grid(index)
    x, y = grid.naxis[0] // 3, grid.naxis[1] // 2
    sky = grid.pixel_to_sky(np.array([x + 0.3]), np.array([y - 0.4]))[:, 0]
    lon, lat = np.degrees(np.arctan2(sky[1], sky[0])) % 360, np.degrees(np.arcsin(sky[2]))
    plan = subject.plan(Circle(float(lon), float(lat), 1e-9))
    assert plan is not None
    box = next(one.box for one in plan.hdus if one.box)
    assert [box.lower[axis] for axis in grid.axes] == [x, y]
    assert [box.upper[axis] for axis in grid.axes] == [x + 1, y + 1]


def test_a_map_of_the_whole_sky_with_fine_empty_corners(bench: Workbench, tmp_path: Path) -> None:
    """In which cells of the sky's index of one size all turn out to be empty."""
    cards = sky_cards(
        "AIT", ctypes=("GLON", "GLAT"), crval=(0.0, 0.0), crpix=(240.5, 120.5),
        cdelt=(-0.675, 0.675), radesys=None,
    )  # fmt: skip
    path = tmp_path / "whole.fits"
    path.write_bytes(primary(ramp(480, 240), cards))
    subject = bench.of(path)
    plan = subject.plan(Circle(266.40499, -28.93617, 2.0))
    assert plan is not None
    assert plan.hdus[0].box is not None
    assert plan.hdus[0].box.section == "[238:243,118:123]"
    subject.cutter.close()
