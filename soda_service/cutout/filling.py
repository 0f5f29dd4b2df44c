"""What is put into pixels that an image has not, beyond its edge, and into masked ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from soda_service.cutout.form import BLANK, format_fill
from soda_service.errors import UsageError
from soda_service.fits.newcards import card, commentary
from soda_service.pixels.filled import Filling, Mask, sign_offset, stored_value

if TYPE_CHECKING:
    from soda_service.cutout.form import FillValue
    from soda_service.cutout.preparedhdu import PreparedHdu
    from soda_service.cutout.request import CutoutRequest
    from soda_service.geometry.pixelbox import PixelBox

COVERAGE: Final = "CUTCOVER"
"""Keyword of the part of a frame's pixels that the parent has."""


def coverage_card(box: PixelBox, held: PixelBox) -> bytes:
    """How much of *box* is *held*, what the image has of it."""
    coverage = held.pixel_count / box.pixel_count
    return card(COVERAGE, coverage, "part of the pixels that the parent has")


def filling_of(
    one: PreparedHdu, request: CutoutRequest, box: PixelBox, held: PixelBox
) -> tuple[Filling, bytes] | None:
    """What fills those pixels of *box* that are not *held* or are masked; None if none are.

    Then the HISTORY card that says so. Raises UsageError where the pixels can hold none of the
    values that were given.
    """
    form, shape = request.form, request.shape
    mask = None
    if form.masked and shape is not None and one.leader is not None:
        mask = Mask(shape, one.leader.sky_planes, one.sky_axes)
    if held is box and mask is None:
        return None
    value, text = _fill_value(one, form.fill)
    what = ["beyond the edge"] * (held is not box) + ["outside of the shape"] * bool(mask)
    said = commentary("HISTORY", f"  with {text} for the pixels {' and '.join(what)}")
    return Filling(box, value, mask), said


def _fill_value(one: PreparedHdu, fill: tuple[FillValue, ...]) -> tuple[bytes, str]:
    """The stored value that fills, the first of *fill* that fits, and how it is told."""
    layout, blank, header = one.hdu.layout, one.blank, one.image_header
    offset = sign_offset(layout.bitpix, header.number("BSCALE"), header.number("BZERO"))
    told = "the stored value " if offset is None else ""
    for value in fill:
        meant = None if value is BLANK else value
        stored = stored_value(meant, bitpix=layout.bitpix, blank=blank, offset=offset or 0)
        if stored is not None:
            if value is BLANK:
                return stored, "NaN" if layout.bitpix < 0 else f"BLANK ({blank})"
            as_stored = f" (stored as {int(value) - offset})" if offset else ""
            return stored, f"{told}{format_fill(value)}{as_stored}"
    kind = "floats" if layout.bitpix < 0 else "integers"
    if offset:
        kind = "signed bytes" if layout.bitpix == 8 else f"unsigned {kind}"
    said = ", ".join(map(format_fill, fill))
    hint = "" if blank is not None or layout.bitpix < 0 else " and no BLANK"
    raise UsageError(
        f"{one.called} has pixels to be filled, {abs(layout.bitpix)}-bit {kind}{hint}, "
        f"whose {'stored ' if offset is None else ''}values cannot be {said[:100]}: FILL takes "
        "one that they can be, and may be given several times, each HDU taking the first "
        "that fits"
    )
