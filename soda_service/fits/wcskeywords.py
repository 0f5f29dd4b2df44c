"""Keywords of the cards that describe coordinates, in the forms that are read.

Source: FITS 4.0 §8; the older forms are those of wcslib.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from soda_service.fits.axiskeywords import matrix_element

AXIS_NUMBER: Final = re.compile(r"(CRPIX|CRVAL|CDELT|CROTA)([1-9][0-9]{0,2})")
AXIS_TEXT: Final = re.compile(r"(CTYPE|CUNIT)([1-9][0-9]{0,2})")
PARAMETER: Final = re.compile(r"(PV|PS)0*([0-9]{1,2})_([0-9]{1,3})")
SIP: Final = re.compile(r"([AB]P?)_(?:(ORDER)|([0-9])_([0-9]))")
DISTORTION: Final = re.compile(r"(CPDIS|CQDIS|D2IMDIS)([0-9])")
RECORD: Final = re.compile(r"(DP|DQ|D2IM)([0-9])")
WAT: Final = re.compile(r"WAT([1-9])_([0-9]{3})")
"""IRAF's attributes of an axis, a piece of them."""
PLATE: Final = re.compile(
    r"AMD[XY][0-9]{1,2}|PPO[1-6]|CNPIX[12]|[XY]PIXELSZ|PLTRA[HMS]|PLTDEC[DMS]"
)
"""Plate solutions, as the Digitized Sky Survey has them."""
AXES_NUMBERS: Final = frozenset((
    "RESTFRQ", "RESTFREQ", "RESTWAV", "VELOSYS", "MJDREF", "MJDREFI", "MJDREFF",
    "JDREF", "JDREFI", "JDREFF", "TIMEOFFS",
))  # fmt: skip
AXES_TEXTS: Final = frozenset(("SPECSYS", "TIMESYS", "TIMEUNIT", "DATEREF", "TREFPOS"))
"""These two kinds are for axes beside the sky alone: what is wrong with them is wrong there."""
NUMBERS: Final = frozenset(("LONPOLE", "LATPOLE", "EQUINOX", "EPOCH", "VELREF")) | AXES_NUMBERS
TEXTS: Final = frozenset(("RADESYS", "RADECSYS", "PLTDECSN")) | AXES_TEXTS
_PATTERNS: Final = (
    AXIS_NUMBER, AXIS_TEXT, PARAMETER, SIP, DISTORTION, RECORD, WAT, PLATE
)  # fmt: skip


@lru_cache(maxsize=4096)
def may_describe(name: bytes) -> bool:
    """Whether cards of this keyword, eight bytes as it stands, may belong to a description.

    Most cards of most headers do not, and the headers of an archive have the same ones.
    """
    keyword = name.rstrip(b" \0").decode("latin-1")
    return (
        keyword in NUMBERS
        or keyword in TEXTS
        or keyword == "WCSAXES"
        or matrix_element(keyword) is not None
        or any(pattern.fullmatch(keyword) for pattern in _PATTERNS)
    )
