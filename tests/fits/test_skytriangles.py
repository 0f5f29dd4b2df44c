"""What triangles are chosen by: `test_footprint` has what they hold."""

from __future__ import annotations

import numpy as np
from support.wcs import first_image

from soda_service.fits.skytriangles import _merged


def test_a_map_of_one_place_is_a_few_small_triangles() -> None:
    """As TPV is without its polynomials: a few points stand for thousands of alike."""
    grid = first_image("tan").grid()
    alike = np.repeat(grid.pixel_to_sky([30.0], [20.0]), 5000, axis=1)
    merged, reach = _merged(alike, np.full(5000, 1e-9), 1e-10)
    assert merged.shape == (3, 1)
    assert reach[0] >= 1e-9
    spread = np.random.default_rng(4).normal(size=(3, 5000))
    spread /= np.linalg.norm(spread, axis=0)
    merged, reach = _merged(spread, np.full(5000, 0.01), 0.2)
    assert merged.shape[1] < 1000
    apart = np.linalg.norm(spread[:, :, None] - merged[:, None, :], axis=0)
    assert ((apart + 0.01) <= reach + 1e-12).any(axis=1).all()
