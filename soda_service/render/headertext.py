"""Headers as text: one card a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from soda_service.fits.cards import CARD_SIZE, END_CARD

if TYPE_CHECKING:
    from collections.abc import Iterable

MEDIA_TYPE: Final = "text/plain;charset=us-ascii"

_PRINTABLE: Final = bytes(byte if 0x20 <= byte <= 0x7E else ord("?") for byte in range(256))
"""FITS 4.0 §4.1.2.1 allows nothing else; a line feed in a card would be taken for its end."""


def header_text(headers: Iterable[bytes]) -> bytes:
    """The cards of complete headers, END among them, an empty line between two headers.

    Each line has the eighty characters of its card, so that a blank card is no empty line.
    Bytes that have no place in a header are given as `?`.
    """
    return b"\n".join(_lines(header) for header in headers)


def _lines(header: bytes) -> bytes:
    text = header.translate(_PRINTABLE)
    lines = []
    for start in range(0, len(text), CARD_SIZE):
        line = text[start : start + CARD_SIZE]
        lines.append(line + b"\n")
        if line == END_CARD:
            break
    return b"".join(lines)
