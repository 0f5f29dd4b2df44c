"""Headers for wcslib: composed anew from the values that `wcscards` has checked.

Nothing is passed on from the file, for wcslib has fixed buffers and trusts what it gets. Some
values that it would use as indices are checked here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from soda_service.fits.distortionrecords import checked_records
from soda_service.fits.linearpart import reference_pixel
from soda_service.fits.wcscards import WAT_WIDTH, WcsError
from soda_service.fits.wcskeywords import PLATE, WAT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from soda_service.fits.wcscards import WcsCards

_TAB_CTYPE: Final = len("WAVE-TAB")
_TABLE: Final = (("PS", 0), ("PV", 1), ("PV", 2), ("PS", 1))
"""Which -TAB table and column an axis is looked up in."""

_LAST_OF_PLATE: Final = 13
"""Of the coefficients of a plate solution (AMDXn, AMDYn) that wcslib has a term for."""


def compose_header(cards: WcsCards, axes: Sequence[int], *, ctypes: Sequence[str]) -> bytes:
    """A header for wcslib that describes *axes* alone, numbered anew from 1.

    The distortions of pixel coordinates (SIP, tables) are left out; *ctypes* stand in the
    place of CTYPE.
    """
    composed = [_card("WCSAXES", len(axes))]
    _check_table_axes(cards, [one for one, ctype in zip(axes, ctypes, strict=True)
                              if ctype.endswith("-TAB")])  # fmt: skip
    crpix = reference_pixel(cards, axes)
    for new, axis in enumerate(axes, 1):
        composed.append(_card(f"CTYPE{new}", ctypes[new - 1]))
        composed.append(_card(f"CRPIX{new}", float(crpix[new - 1])))
        composed.append(_card(f"CRVAL{new}", cards.number("CRVAL", axis, 0.0)))
        if unit := cards.text("CUNIT", axis):
            composed.append(_card(f"CUNIT{new}", unit))
        if cards.matrix_name != "CD":
            composed.append(_card(f"CDELT{new}", cards.number("CDELT", axis, 1.0)))
    composed += _compose_matrix(cards, axes)
    composed += _compose_parameters(cards, axes)
    for keyword in ("LONPOLE", "LATPOLE", "RESTFRQ", "RESTWAV", "VELREF"):
        if keyword in cards.numbers:
            value = cards.numbers[keyword]
            composed.append(_card(keyword, int(value) if keyword == "VELREF" else value))
    return b"".join(composed)


def _check_table_axes(cards: WcsCards, axes: Sequence[int]) -> None:
    """Each table's axes (PVi_3) are 1 and so on: wcslib takes them as indices, unchecked."""
    numbers: dict[object, list[float | str]] = {}
    for axis in axes:
        if len(cards.text("CTYPE", axis)) != _TAB_CTYPE:
            # wcslib takes it for no such axis, and frees memory twice over the table's others.
            ctype = cards.text("CTYPE", axis)
            raise WcsError(f"CTYPE{axis + 1} = {ctype!r}: four characters stand before -TAB")
        table = tuple(cards.parameters.get((name, axis, at)) for name, at in _TABLE)
        numbers.setdefault(table, []).append(cards.parameters.get(("PV", axis, 3), 1.0))
    for found in numbers.values():
        if set(found) != set(range(1, len(found) + 1)):
            keywords = ", ".join(f"PV{axis + 1}_3" for axis in axes)
            raise WcsError(f"{keywords}: not all axes of the table are there")


def _compose_matrix(cards: WcsCards, axes: Sequence[int]) -> Iterator[bytes]:
    name = cards.matrix_name
    for new_row, row in enumerate(axes, 1):
        for new_column, column in enumerate(axes, 1):
            if name == "CD":
                yield _card(f"CD{new_row}_{new_column}", cards.cd_element(row, column))
            elif (name, row, column) in cards.matrix:
                value = cards.matrix[name, row, column]
                yield _card(f"PC{new_row}_{new_column}", value)
        if not cards.matrix and f"CROTA{row + 1}" in cards.numbers:
            yield _card(f"CROTA{new_row}", cards.number("CROTA", row, 0.0))


def _compose_parameters(cards: WcsCards, axes: Sequence[int]) -> Iterator[bytes]:
    for (name, axis, number), value in cards.parameters.items():
        if axis in axes:
            yield _card(f"{name}{axes.index(axis) + 1}_{number}", value)
    for keyword, value in cards.texts.items():
        if (found := WAT.fullmatch(keyword)) and int(found[1]) - 1 in axes:
            new = axes.index(int(found[1]) - 1) + 1
            # IRAF's text runs on from column 68 of one card to the next, blanks and all.
            yield _card(f"WAT{new}_{found[2]}", value.ljust(WAT_WIDTH))
    if list(axes) == [0, 1]:
        yield from _compose_functions(cards)


def _compose_functions(cards: WcsCards) -> Iterator[bytes]:
    """Distortions that wcslib computes itself, and plate solutions."""
    for name, record in (("CPDIS", "DP"), ("CQDIS", "DQ")):
        for number in (1, 2):
            kind = cards.texts.get(f"{name}{number}")
            if not kind or kind.upper() == "LOOKUP":
                continue
            yield _card(f"{name}{number}", kind)
            keyword = f"{record}{number}"
            fields = cards.records.get(keyword, {})
            for field, value in checked_records(f"{name}{number}", keyword, kind, fields).items():
                yield _card(keyword, f"{field}: {value!r}")
    for keyword, value in cards.numbers.items():
        if not PLATE.fullmatch(keyword):
            continue
        if keyword.startswith("AMD") and int(keyword[4:]) > _LAST_OF_PLATE:
            # Zero is what surveys write there; of others wcslib 8.6 crashes with its own message.
            if value:
                last = f"no terms above {keyword[:4]}{_LAST_OF_PLATE} are understood"
                raise WcsError(f"{keyword} = {value:g}: {last}")
            continue
        yield _card(keyword, value)
    if "PLTDECSN" in cards.texts:
        yield _card("PLTDECSN", cards.texts["PLTDECSN"])


def _card(keyword: str, value: float | str) -> bytes:
    """A card in free format, as wcslib reads it."""
    if isinstance(value, str):
        quoted = value.replace("'", "''")
        text = f"{keyword:8}= '{quoted:8}'"
    else:
        text = f"{keyword:8}= {value!r:>20}"
    if len(text) > 80:
        raise WcsError(f"{keyword} = {value!r:.60}: too long")
    return text.encode("ascii").ljust(80)
