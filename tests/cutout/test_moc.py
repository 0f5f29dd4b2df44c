"""The box of a cutout by a MOC, against astropy's place of every pixel and mocpy's cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.mocs import held, random_moc
from support.wcs import first_image

from soda_service.geometry.moc import format_moc, parse_moc

if TYPE_CHECKING:
    from support.cutouts import Workbench

FAMILIES = (
    "tan",
    "tan_sip",
    "swapped_axes",
    "galactic",
    "ra_wrap",
    "pole_tan",
    "lookup_distortion",
)
PART = 5
"""Points along a pixel, from one edge to the other."""


@pytest.mark.parametrize("name", FAMILIES)
def test_the_box_holds_the_cells(bench: Workbench, name: str) -> None:
    """Every pixel that has a sample inside; that there are no others, the grids' own tests say."""
    subject = bench.family(name)
    image = first_image(name)
    (index,) = subject.sky_images()
    grid = subject.grid(index)
    width, height = (image.naxis[axis] for axis in grid.axes)
    within = (np.arange(PART) - PART // 2) / PART
    x, y = (
        (np.arange(length)[:, None] + within).ravel().astype(float) for length in (width, height)
    )
    x, y = (part.ravel() for part in np.meshgrid(x, y))
    sky = image.astropy_sky(x, y)
    checked = 0
    for seed in range(12):
        moc = random_moc(np.random.default_rng(seed), grid)
        inside = held(moc, sky)
        plan = subject.plan(moc)
        if not inside.any():
            continue
        assert plan is not None, format_moc(moc)
        box = next(one.box for one in plan.hdus if one.box)
        for axis, place in zip(grid.axes, (x, y), strict=True):
            seen = np.floor(place[inside] + 0.5)
            assert box.lower[axis] <= seen.min(), format_moc(moc)
            assert box.upper[axis] > seen.max(), format_moc(moc)
        checked += 1
    assert checked >= 4


def test_the_whole_sky_is_the_whole_image_and_elsewhere_is_nothing(bench: Workbench) -> None:
    subject = bench.family("tan")
    (index,) = subject.sky_images()
    plan = subject.plan(parse_moc("0/0-11"))
    assert plan is not None
    box = next(one.box for one in plan.hdus if one.box)
    assert box.naxis == subject.grid(index).naxis
    assert subject.plan(parse_moc("5/")) is None
