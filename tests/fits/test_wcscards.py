"""Cards that describe coordinates, against wcslib's own reading of them."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.wcs import Wcsprm

from soda_service.fits.cards import Header
from soda_service.fits.wcscards import WcsCards


@pytest.mark.parametrize(
    "line",
    [
        *("PC01_02 = 0.5", "PC001002= 0.5", "PC1_2   = 0.5", "CRPIX01 = 3.0", "CRPIX001= 3.0"),
        *("CROTA02 = 30.0", "PC01_02A= 0.5", "CDELT01 = 4.0", "PC1_02  = 0.5", "PC0001_2= 0.5"),
    ],
)
def test_keywords_with_zeros_are_read_as_wcslib_reads_them(line: str) -> None:
    """Those of matrices are, others are not."""
    cards = ["CTYPE1  = 'X       '", "CTYPE2  = 'Y       '", line]
    raw = b"".join(one.encode().ljust(80) for one in cards)
    read = WcsCards.of(Header(raw), (4, 4))
    wcsprm = Wcsprm(header=raw, relax=True, warnings=False)
    wcsprm.set()
    matrix = np.diag(wcsprm.get_cdelt()) @ wcsprm.get_pc()
    assert [[read.element(row, column) for column in (0, 1)] for row in (0, 1)] == matrix.tolist()
    assert [read.number("CRPIX", axis, 0.0) for axis in (0, 1)] == list(wcsprm.crpix)


@pytest.mark.parametrize("number", ["1.5E1", "1.5D1", "1.5d1", " 15 "])
def test_records_may_have_either_exponent(number: str) -> None:
    """What is read of them moves with the image, so none may be left out."""
    cards = ["CTYPE1  = 'RA---TAN'", "CTYPE2  = 'DEC--TAN'", f"DP1     = 'OFFSET.1: {number}'"]
    read = WcsCards.of(Header(b"".join(one.encode().ljust(80) for one in cards)), (4, 4))
    assert read.records == {"DP1": {"OFFSET.1": 15.0}}
