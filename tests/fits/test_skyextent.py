"""Middle, size and scale of images on the sky."""

from __future__ import annotations

import numpy as np
import pytest
from support.wcs import first_image

from soda_service.fits.skyextent import SkyExtent, extents_of


def test_the_extent_of_a_plain_image() -> None:
    """Middle, diameter and scale by hand: 61 x 47 pixels of 0.72 arcsec."""
    extent = SkyExtent.of(first_image("tan").grid())
    assert extent is not None
    assert extent.pixel_scale == pytest.approx(0.72, rel=1e-6)
    diagonal = np.hypot(61, 47) * 0.72 / 3600
    assert diagonal < extent.fov < diagonal + 3 * 0.72 / 3600
    # The middle is pixel (30, 23), and (CRPIX1 - 1, CRPIX2 - 1) is (26.5, 29.25).
    lon = 150.1 - 3.5 * 2e-4 / np.cos(np.radians(2.2))
    assert extent.centre == pytest.approx((lon, 2.2 - 6.25 * 2e-4), abs=1e-7)


def test_images_that_show_the_same_sky_share_an_extent() -> None:
    tan, other = first_image("tan"), first_image("galactic")
    one, two, three = extents_of([tan.grid(), other.grid(), tan.grid()])
    assert one is three
    assert one != two
