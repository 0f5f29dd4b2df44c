"""The form of an answer: what becomes of edges, of pixels that are not wanted, of headers.

None of it says which part of a dataset is wanted; that is the request's other half.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, StrEnum
from math import isfinite, nan
from typing import Final

from soda_service.errors import UsageError


class Edge(StrEnum):
    """What is done where the request reaches out of an image."""

    TRIM = "trim"
    """The answer ends with the image."""
    PAD = "pad"
    """The answer goes on, filled with a value."""
    REFUSE = "refuse"
    """The request is refused."""


class Packing(StrEnum):
    """How the bytes of the answer are packed; always without loss."""

    NONE = "none"
    TILES = "fz"
    """Each image is compressed tile by tile (FITS 4.0 §10)."""
    GZIP = "gz"
    """The file is compressed as a whole."""


class Undefined(Enum):
    """The one value that says that a pixel has none: NaN, or what the card BLANK says."""

    BLANK = "BLANK"


BLANK: Final = Undefined.BLANK

FillValue = int | float | Undefined
"""Integers of the unsigned conventions as they are meant; otherwise a stored value, to which
BSCALE and BZERO are not applied."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(\.[0-9]*)?|(\.)[0-9]+)([eE][+-]?[0-9]{1,4})?")
_MAX_TEXT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CutoutForm:
    """How the pixels and headers that were asked for are given."""

    checksums: bool = False
    """Whether CHECKSUM and DATASUM of the cut HDUs are computed anew."""
    edge: Edge = Edge.TRIM
    fill: tuple[FillValue, ...] = (BLANK,)
    """What pads and masks: for each HDU the first of these that its pixels can hold."""
    masked: bool = False
    """Whether pixels whose centre is outside of the shape are filled."""
    header_only: bool = False
    """Whether the headers are the answer, as text."""
    proof: bool | None = None
    """Whether coordinates are compared with the parent's, and the largest difference told; None
    leaves it to the service."""
    packing: Packing = Packing.NONE

    @property
    def is_computed(self) -> bool:
        """Whether the answer is more than headers and pixels, one after the other."""
        return self.checksums or self.header_only or self.packing is not Packing.NONE


PLAIN: Final = CutoutForm()
"""The form of most answers; whoever makes a form that is equal gives this one instead."""


def parse_edge(text: str) -> Edge:
    """`trim`, `pad` or `refuse`, in any case."""
    try:
        return Edge(text.strip().lower())
    except ValueError:
        raise UsageError(f"an edge is trim, pad or refuse, got {text[:100]!r}") from None


def parse_packing(text: str) -> Packing:
    """`none`, `fz` or `gz`, in any case."""
    try:
        return Packing(text.strip().lower())
    except ValueError:
        raise UsageError(f"a compression is none, fz or gz, got {text[:100]!r}") from None


def parse_fill(text: str) -> FillValue:
    """A number, `NaN` or `BLANK`; whole numbers are exact, however large."""
    stripped = text[: 2 * _MAX_TEXT].strip()
    if stripped.upper() == BLANK.value:
        return BLANK
    if stripped.lower() == "nan":
        return nan
    found = _NUMBER.fullmatch(stripped) if len(stripped) <= _MAX_TEXT else None
    if found is None or not stripped.isascii():
        raise UsageError(f"what fills pixels is a number, NaN or BLANK, got {text[:100]!r}")
    if not any(found.groups()):
        return int(stripped)
    number = float(stripped)
    if not isfinite(number):
        raise UsageError(f"what fills pixels is beyond a double, got {text[:100]!r}")
    return number


def format_fill(value: FillValue) -> str:
    """The text that `parse_fill` reads as *value*."""
    if isinstance(value, Undefined):
        return value.value
    return "NaN" if value != value else repr(value)  # noqa: PLR0124 - NaN alone is not itself
