"""Keywords of coordinates that name axes, in the forms that wcslib reads.

Elements of matrices are `PC1_2`, `PC01_02` with any number of zeros, and from drafts of the
standard `PC001002`; the first two may end with the letter of an alternate. Axes are 1-based, as in
the keywords. Source: FITS 4.0 §8.2; `wcspih.l` of wcslib for the older forms.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_MATRIX: Final = re.compile("(PC|CD)(?:0*([0-9]{1,2})_0*([0-9]{1,2})([A-Z]?)|([0-9]{3})([0-9]{3}))")
_AXIS: Final = re.compile(
    "(?:CRPIX|CTYPE|CRVAL|CDELT|CUNIT|CROTA|CNAME|CRDER|CSYER)([1-9][0-9]?)([A-Z]?)"
    "|(?:PV|PS)0*([0-9]{1,2})_[0-9]{1,3}([A-Z]?)"
)


class MatrixElement(NamedTuple):
    """Which element of which matrix a card gives."""

    name: str
    """`PC` or `CD`."""
    row: int
    """The world axis."""
    column: int
    """The pixel axis."""
    alternate: str
    """A to Z, empty for the primary description."""


def matrix_element(keyword: str) -> MatrixElement | None:
    """The element that *keyword* names; None for any other keyword."""
    if not (found := _MATRIX.fullmatch(keyword)):
        return None
    row, column = int(found[2] or found[5]), int(found[3] or found[6])
    return MatrixElement(found[1], row, column, found[4] or "")


def axes_named(keyword: str) -> tuple[str, tuple[int, ...]] | None:
    """The alternate that *keyword* belongs to, and the axes that it names; None for others.

    A description has as many axes as its cards name, whatever WCSAXES says.
    """
    if element := matrix_element(keyword):
        return element.alternate, (element.row, element.column)
    if found := _AXIS.fullmatch(keyword):
        return found[2] or found[4] or "", (int(found[1] or found[3]),)
    return None
