"""What an extension with INHERIT = T has from the primary header, to tell its axes by.

Source: FITS 4.0 §4.4.2.6 and Appendix K; what is said in the extension holds before what is
said in the primary header. The cards stay where they are: a cutout keeps its primary header.

Only what times and wavelengths are counted from is taken. The sky is told by the image's own
cards, as wcslib and everything built upon it do: an EQUINOX of the primary header would move
positions for nobody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from soda_service.errors import CorruptFileError
from soda_service.fits.cards import CARD_SIZE, Header
from soda_service.fits.spectral import is_spectral
from soda_service.fits.temporal import is_temporal

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_AXES: Final = 16
_OF_TIMES: Final = (
    ("MJDREF", "MJDREFI", "MJDREFF", "JDREF", "JDREFI", "JDREFF", "DATEREF"),
    ("TIMESYS",),
    ("TIMEUNIT",),
    ("TIMEOFFS",),
    ("TREFPOS",),
)
"""Each group is taken as a whole, and only where the extension has none of it.

Half of it would be worse than nothing: an MJDREFI goes before the extension's own MJDREF.
"""
_OF_WAVELENGTHS: Final = (
    ("SPECSYS", "VELREF"),
    ("VELOSYS",),
    ("RESTFRQ", "RESTFREQ", "RESTWAV"),
)
_NAME_THEIR_FRAME: Final = frozenset((
    "FREQ-LSR", "FREQ-HEL", "FREQ-OBS", "VELO-LSR", "VELO-HEL", "VELO-OBS", "FELO-LSR",
    "FELO-HEL", "FELO-OBS",
))  # fmt: skip
"""CTYPEs of AIPS, which need no SPECSYS."""


def with_inherited(header: Header, primary: Header) -> Header:
    """*header* of an image with what its axes have from *primary*, which is another HDU's.

    It is the same object where nothing is inherited.
    """
    if header.get("INHERIT") is not True:
        return header
    naxis = min(header.integer("NAXIS") or 0, _MOST_AXES)
    ctypes = [(header.string(f"CTYPE{axis + 1}") or "").strip() for axis in range(naxis)]
    groups: list[tuple[str, ...]] = []
    if any(map(is_temporal, ctypes)):
        groups += _OF_TIMES
    if any(map(is_spectral, ctypes)):
        is_named = not _NAME_THEIR_FRAME.isdisjoint(ctypes)
        groups += _OF_WAVELENGTHS[1:] if is_named else _OF_WAVELENGTHS
    cards = b"".join(_cards(header, primary, groups))
    return Header(header.raw + cards) if cards else header


def _cards(header: Header, primary: Header, groups: list[tuple[str, ...]]) -> Iterator[bytes]:
    for group in groups:
        if any(_says(header, keyword) for keyword in group):
            continue
        for keyword in group:
            for at in primary.positions(keyword):
                yield primary.raw[at * CARD_SIZE : (at + 1) * CARD_SIZE]


def _says(header: Header, keyword: str) -> bool:
    """Whether there is such a card with a value, legible or not."""
    try:
        return keyword in header and header[keyword] is not None
    except CorruptFileError:
        return True
