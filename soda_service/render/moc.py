"""MOCs as files: FITS tables, text and JSON. Source: MOC 2.0 §4.3, §5 and appendix."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from soda_service import __version__
from soda_service.fits.cards import render_cards
from soda_service.fits.newcards import card
from soda_service.geometry.moc import format_moc
from soda_service.render.fits import padding_size

if TYPE_CHECKING:
    from soda_service.geometry.moc import Moc

_LARGEST_32: int = 13
"""The finest order whose cells are numbered in 32 bits."""


def moc_fits(moc: Moc, *, name: str) -> bytes:
    """A FITS file with the cells as NUNIQ numbers, which every reader of MOC 1 understands too."""
    numbers = [
        np.concatenate([np.arange(low, high) for low, high in zip(first, stop, strict=True)])
        + (4 << (2 * order))
        for order, first, stop in moc.runs()
    ]
    is_short = moc.order <= _LARGEST_32
    stored = np.concatenate([np.empty(0, np.int64), *numbers]).astype(">i4" if is_short else ">i8")
    primary = render_cards(
        card("SIMPLE", True),
        card("BITPIX", 8),
        card("NAXIS", 0),
        card("EXTEND", True),
    )
    header = render_cards(
        card("XTENSION", "BINTABLE", "HEALPix Multi Order Coverage map"),
        card("BITPIX", 8),
        card("NAXIS", 2),
        card("NAXIS1", stored.itemsize),
        card("NAXIS2", stored.size),
        card("PCOUNT", 0),
        card("GCOUNT", 1),
        card("TFIELDS", 1),
        card("TFORM1", "1J" if is_short else "1K"),
        card("TTYPE1", "UNIQ", "order and index of a cell in one number"),
        card("ORDERING", "NUNIQ", "how they are in one number"),
        card("COORDSYS", "C", "ICRS"),
        card("MOCVERS", "2.0", "version of the MOC standard"),
        card("MOCDIM", "SPACE", "what is covered"),
        card("MOCORD_S", moc.order, "finest order"),
        card("MOCORDER", moc.order, "the same for readers of MOC 1"),
        card("MOCTYPE", "IMAGE", "what it was made of"),
        card("MOCTOOL", f"soda-service {__version__}", "what made it"),
        card("EXTNAME", name, "collection"),
    )
    data = stored.tobytes()
    return primary + header + data + b"\0" * padding_size(len(data))


def moc_text(moc: Moc) -> bytes:
    """The ASCII form, on a line."""
    return format_moc(moc).encode("ascii") + b"\n"


def moc_json(moc: Moc) -> bytes:
    """Lists of cells by order; the finest order is there even if it has none."""
    cells: dict[str, list[int]] = {
        str(order): [
            cell
            for low, high in zip(first.tolist(), stop.tolist(), strict=True)
            for cell in range(low, high)
        ]
        for order, first, stop in moc.runs()
    }
    cells.setdefault(str(moc.order), [])
    return json.dumps(cells, separators=(",", ":")).encode("ascii") + b"\n"
