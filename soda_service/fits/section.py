"""Sections as image headers write them: `[x1:x2,y1:y2]`, 1-based and closed.

A pair may run backwards: `[4096:1,1:2048]` is a flipped readout. Source: the NOAO and IRAF
dictionaries (DATASEC, CCDSEC, DETSEC and their kin).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from soda_service.geometry.pixelbox import PixelBox

Section = tuple[tuple[int, int], ...]
"""First and last pixel of each axis, 1-based; the first may be the greater."""

_SECTION = re.compile(r"\s*\[\s*([-+0-9:,\s]{3,100})\]\s*")
_PAIR = re.compile(r"\s*([-+]?[0-9]{1,18})\s*:\s*([-+]?[0-9]{1,18})\s*")


def parse_section(text: str) -> Section | None:
    """The section; None where *text* is none of this simple kind (steps, `*`)."""
    found = _SECTION.fullmatch(text)
    if found is None:
        return None
    pairs = [_PAIR.fullmatch(pair) for pair in found[1].split(",")]
    return tuple((int(pair[1]), int(pair[2])) for pair in pairs if pair) if all(pairs) else None


def format_section(section: Section) -> str:
    """The inverse of `parse_section`."""
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
