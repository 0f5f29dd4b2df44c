"""Sections as image headers write them: `[x1:x2,y1:y2]`, 1-based and closed.

A pair may run backwards: `[4096:1,1:2048]` is a flipped readout; `*` is a whole axis. Source: the
NOAO and IRAF dictionaries (DATASEC, CCDSEC, DETSEC and their kin), IRAF's image sections.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from soda_service.geometry.pixelbox import PixelBox

Section = tuple[tuple[int, int], ...]
"""First and last pixel of each axis, 1-based; the first may be the greater."""

_SECTION = re.compile(r"\s*\[([-+*0-9:,\s]{1,100})\]\s*")
_PAIR = re.compile(r"\s*([-+]?[0-9]{1,18})\s*(?::\s*([-+]?[0-9]{1,18})\s*)?")
_WHOLE = re.compile(r"\s*(-?)\*\s*")


def parse_section(text: str, axes: tuple[int, ...] = ()) -> Section | None:
    """The section; None where *text* is none of this kind (steps, say).

    A number alone is one pixel; `*` and `-*` are all pixels of an axis whose length is among
    *axes*.
    """
    found = _SECTION.fullmatch(text)
    if found is None:
        return None
    section: list[tuple[int, int]] = []
    for number, part in enumerate(found[1].split(",")):
        if pair := _PAIR.fullmatch(part):
            section.append((int(pair[1]), int(pair[2] or pair[1])))
        elif (whole := _WHOLE.fullmatch(part)) and number < len(axes):
            section.append((axes[number], 1) if whole[1] else (1, axes[number]))
        else:
            return None
    return tuple(section)


def format_section(section: Section) -> str:
    """A section that `parse_section` reads, of pairs."""
    return "[" + ",".join(f"{first}:{last}" for first, last in section) + "]"


def moved(section: Section, box: PixelBox) -> Section | None:
    """A section of an image as it lies in a box of it, clipped; None where nothing is left."""
    if len(section) > len(box.lower):
        return None
    pairs = []
    for (first, last), start, length in zip(section, box.lower, box.naxis, strict=False):
        low = max(min(first, last) - start, 1)
        high = min(max(first, last) - start, length)
        if low > high:
            return None
        pairs.append((low, high) if first <= last else (high, low))
    return tuple(pairs)


def mapped(section: Section, image: Section, box: PixelBox) -> Section | None:
    """What of *section* the box shows, where the pixels of *image* show all of it in order.

    One pixel of the image may show several (binning); None where the lengths do not go
    into one another, or nothing is left.
    """
    if not len(section) == len(image) <= len(box.lower):
        return None
    pairs = []
    for shown, pixels, start, length in zip(section, image, box.lower, box.naxis, strict=False):
        pair = _mapped_axis(shown, pixels, start, length)
        if pair is None:
            return None
        pairs.append(pair)
    return tuple(pairs)


def _mapped_axis(
    shown: tuple[int, int], pixels: tuple[int, int], start: int, length: int
) -> tuple[int, int] | None:
    backwards = pixels[0] > pixels[1]
    first_pixel, last_pixel = sorted(pixels)
    first, last = reversed(shown) if backwards else shown
    binning, rest = divmod(abs(last - first) + 1, last_pixel - first_pixel + 1)
    low = max(first_pixel, start + 1) - first_pixel
    high = min(last_pixel, start + length) - first_pixel
    if rest or not binning or low > high:
        return None
    step = 1 if last >= first else -1
    new_first = first + step * binning * low
    new_last = first + step * (binning * (high + 1) - 1)
    return (new_last, new_first) if backwards else (new_first, new_last)
