"""Polynomials in pixel coordinates (TPU) in cutouts: wcslib's positions stay where they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings, strategies as st
from support.images import CardSpec, header_bytes

from soda_service.fits.cards import Header
from soda_service.fits.header import HeaderCutter
from soda_service.fits.layout import HduKind
from soda_service.fits.pixelpolynomial import POWERS, RADIAL
from soda_service.fits.wcs import counts_in_the_parents_pixels
from soda_service.geometry.frames import Frame

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SHOWN = (30, 20)
"""Pixels of a cutout."""


def header_of(
    rng: np.random.Generator, naxis: tuple[int, ...], *, swapped: bool, letter: str = ""
) -> bytes:
    """A header with a polynomial of up to the seventh degree, of some pixels at the edges."""
    cards: list[CardSpec] = [("SIMPLE", True), ("BITPIX", -32), ("NAXIS", len(naxis))]
    cards += [(f"NAXIS{axis}", length) for axis, length in enumerate(naxis, 1)]
    sky = [("RA---TPU", 150.0), ("DEC--TPU", 20.0)]
    for axis, (ctype, value) in enumerate(sky[::-1] if swapped else sky, 1):
        cards += [
            (f"CTYPE{axis}{letter}", ctype), (f"CRVAL{axis}{letter}", value),
            (f"CRPIX{axis}{letter}", naxis[axis - 1] / 2 + 0.25), (f"CDELT{axis}{letter}", 1e-4),
        ]  # fmt: skip
        identity = 2 if swapped else 1
        for number, powers in POWERS.items():
            if number == identity or rng.random() < 0.6:
                term = float(rng.normal() * 3 / max(naxis) ** sum(powers))
                cards.append((f"PV{axis}_{number}{letter}", term + (number == identity)))
    return header_bytes(cards)


def cut(header: bytes, lower: tuple[int, ...], upper: tuple[int, ...]) -> bytes:
    cutter = HeaderCutter(Header.parse(header), HduKind.IMAGE, first=True)
    return cutter.cut(Frame(lower, upper), ())


def places(header: bytes, x: Floats, y: Floats, letter: str = " ") -> Floats:
    """Degrees by wcslib, the second axis' and all others' first pixel."""
    wcs = WCS(fits.Header.fromstring(header.decode("ascii")), key=letter)
    return np.array(wcs.all_pix2world(x, y, *[0 * x] * (wcs.naxis - 2), 0))[:2]


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), swapped=st.booleans(), size=st.sampled_from([150, 12_000]))
def test_every_pixel_stays_where_it_was(seed: int, swapped: bool, size: int) -> None:
    """Cut once, and cut again, beyond the edges too, to a ten-thousandth of a milliarcsecond."""
    rng = np.random.default_rng(seed)
    parent = header_of(rng, (size, size // 2), swapped=swapped)
    x, y = (one.ravel().astype(float) for one in np.indices(SHOWN))
    low = (int(rng.integers(-40, size)), int(rng.integers(-40, size // 2)))
    child = cut(parent, low, (low[0] + 60, low[1] + 50))
    expected = places(parent, x + low[0] + 7, y + low[1] + 9)
    np.testing.assert_allclose(places(child, x + 7, y + 9) * 3.6e6, expected * 3.6e6, atol=1e-4)
    grandchild = cut(child, (7, 9), (7 + SHOWN[0], 9 + SHOWN[1]))
    np.testing.assert_allclose(places(grandchild, x, y) * 3.6e6, expected * 3.6e6, atol=1e-4)


def test_an_alternate_description_and_an_axis_beside_the_sky() -> None:
    rng = np.random.default_rng(3)
    parent = header_of(rng, (150, 80, 3), swapped=False, letter="K")
    child = cut(parent, (31, 17, 0), (31 + SHOWN[0], 17 + SHOWN[1], 3))
    x, y = (one.ravel().astype(float) for one in np.indices(SHOWN))
    np.testing.assert_allclose(
        places(child, x, y, "K") * 3.6e6, places(parent, x + 31, y + 17, "K") * 3.6e6, atol=1e-4
    )


def test_a_box_from_the_first_pixel_leaves_the_cards_alone() -> None:
    parent = header_of(np.random.default_rng(4), (150, 80), swapped=False)
    child = fits.Header.fromstring(cut(parent, (0, 0), SHOWN).decode("ascii"))
    whole = fits.Header.fromstring(parent.decode("ascii"))
    assert [str(one) for one in child["PV*"].cards] == [str(one) for one in whole["PV*"].cards]


@pytest.mark.parametrize("number", sorted(RADIAL))
def test_odd_powers_of_the_distance_stay_and_are_told(number: int) -> None:
    """A zero is none."""
    cards: list[CardSpec] = [
        ("SIMPLE", True), ("BITPIX", -32), ("NAXIS", 2), ("NAXIS1", 90), ("NAXIS2", 70),
        ("CTYPE1", "RA---TPU"), ("CTYPE2", "DEC--TPU"), ("PV1_1", 1.0), ("PV2_1", 1.25),
    ]  # fmt: skip
    for value, cannot in ((0.0, False), (1e-9, True)):
        parent = header_bytes([*cards, (f"PV2_{number}", value)])
        assert counts_in_the_parents_pixels(Header.parse(parent)) == cannot
        child = fits.Header.fromstring(cut(parent, (5, 6), (20, 20)).decode("ascii"))
        assert child[f"PV2_{number}"] == value
        assert ("PV2_0" in child) == (not cannot)
