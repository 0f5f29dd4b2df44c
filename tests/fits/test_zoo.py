"""The zoo is what its lists say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from astropy.io import fits
from support.images import (
    BROKEN_WCS_FAMILIES,
    DAMAGED_FAMILIES,
    FAMILIES,
    IMAGE_FAMILIES,
    TAIL_FAMILIES,
    write_family,
)

if TYPE_CHECKING:
    from pathlib import Path

SYMMETRIC = ("one_pixel", "one_row", "spectrum")
"""Images that cannot be lopsided."""


@pytest.mark.parametrize("name", IMAGE_FAMILIES)
def test_sound_families_are_read_by_astropy_without_a_word(name: str, tmp_path: Path) -> None:
    """Every HDU, with at least one lopsided image among them."""
    path = write_family(name, tmp_path)
    with fits.open(path, memmap=False) as hdus:
        if name not in BROKEN_WCS_FAMILIES:
            hdus.verify("exception")
        shapes = [hdu.data.shape for hdu in hdus if hdu.is_image and hdu.data is not None]
    assert shapes
    if name not in SYMMETRIC:
        assert all(shape[-1] != shape[-2] for shape in shapes)


def test_every_family_is_on_a_list() -> None:
    """So that no trap is set up and never met."""
    assert set(FAMILIES) == {*IMAGE_FAMILIES, *TAIL_FAMILIES, *DAMAGED_FAMILIES}
