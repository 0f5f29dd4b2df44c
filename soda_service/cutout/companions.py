"""Companions: PSF cubes and their like, which go with an image but do not lie on its pixels.

They go along whole, or, where the collection says so by their role, as the one plane that
belongs to the place that is cut. Where on the image each plane belongs stands in the cube's
header as the NASA SPHEREx pipeline writes it: XCTR_n and YCTR_n, pixels of the image from 1.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from soda_service.fits.cards import CARD_SIZE, END_CARD, render_cards
from soda_service.fits.recast import MovingNumber
from soda_service.geometry.pixelbox import PixelBox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from soda_service.cutout.prepared import PreparedHdu

WHOLE_ROLE: Final = "psf"
PLANE_ROLE: Final = "psf-by-position"
"""The role of a cube of which a cutout gets one plane."""

_CARD: Final = re.compile(rb"([XY])(CTR|WID)_([1-9][0-9]{0,3}) *")


def is_companion(hdu: PreparedHdu) -> bool:
    """Whether *hdu* goes along with what is cut of other images."""
    return hdu.leader is None and hdu.hdu.role in {WHOLE_ROLE, PLANE_ROLE}


def plane_box(hdu: PreparedHdu, image: PixelBox) -> PixelBox | None:
    """The plane of *hdu* that belongs to the middle of *image*, a box of the image it goes with.

    None where the cube goes along whole: by its role, or for want of the places of its planes.
    """
    layout = hdu.hdu.layout
    if hdu.hdu.role != PLANE_ROLE or len(layout.naxis) < 3 or len(image.lower) < 2:
        return None
    axis = len(layout.naxis) - 1
    x, y = ((low + high + 1) / 2 for low, high in zip(image.lower[:2], image.upper, strict=False))
    nearest, least = 0, None
    for number in range(1, layout.naxis[axis] + 1):
        centre = layout.header.number(f"XCTR_{number}"), layout.header.number(f"YCTR_{number}")
        if centre[0] is None or centre[1] is None:
            return None
        distance = (centre[0] - x) ** 2 + (centre[1] - y) ** 2
        if least is None or distance < least:
            nearest, least = number, distance
    return PixelBox.whole(layout.naxis).replaced(axis, nearest - 1, nearest)


def header_of_plane(header: bytes, plane: int, offset: Sequence[int]) -> bytes:
    """The complete *header* of a cube of which only the plane number *plane*, from 1, is left.

    Its place moves with the image, of which *offset* are the first pixels; other planes' are
    left out.
    """
    cards = []
    for start in range(0, len(header), CARD_SIZE):
        card = header[start : start + CARD_SIZE]
        if card == END_CARD:
            break
        found = _CARD.fullmatch(card[:8])
        if found is None:
            cards.append(card)
        elif int(found[3]) == plane:
            if found[2] == b"CTR":
                card = MovingNumber(card).plus(-offset[0 if found[1] == b"X" else 1])
            cards.append((found[1] + found[2] + b"_1").ljust(8) + card[8:])
    return render_cards(*cards)
