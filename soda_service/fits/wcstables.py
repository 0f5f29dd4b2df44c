"""The other HDUs that an image's coordinates refer to, as astropy and wcslib take them.

They are handed about as bytes: HDUs as they stand in the file, one after the other. Source: FITS
WCS Paper III §6 (-TAB), draft Paper IV §2 (CPDIS), astropy's reading of WCSDVARR and D2IMARR.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from soda_service.fits.tablerows import lying_count_of_columns
from soda_service.fits.wcscards import WcsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from soda_service.fits.wcscards import WcsCards


def read_lookups(
    cards: WcsCards, axes: tuple[int, int], tables: bytes
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Distortions of the pixel grid by tables: CPDISj, and D2IMDISj before them."""
    pairs = []
    for keyword, record, extname in lookup_keywords():
        pair: list[Any] = [None, None]
        for axis in (0, 1):
            kind = cards.texts.get(f"{keyword}{axis + 1}")
            if kind is None:
                continue
            if kind.upper() != "LOOKUP":
                if keyword == "D2IMDIS":
                    raise WcsError(f"D2IMDIS{axis + 1} = {kind!r}: only LOOKUP is understood")
                continue
            if axes != (0, 1):
                raise WcsError(f"{keyword}{axis + 1}: a distortion of axes that are not the sky's")
            pair[axis] = _lookup(cards, f"{record}{axis + 1}", extname, tables)
        pairs.append((pair[0], pair[1]))
    return pairs[0], pairs[1]


def lookup_keywords() -> tuple[tuple[str, str, str], ...]:
    """Keyword of a distortion, of its record-valued cards, and EXTNAME of its tables."""
    return (("CPDIS", "DP", "WCSDVARR"), ("D2IMDIS", "D2IM", "D2IMARR"))


def open_tab_tables(cards: WcsCards, axes: Sequence[int], tables: bytes) -> Any:
    """The HDUs of *tables* in which wcslib looks up -TAB axes; WcsError for what it crashes on.

    Where an index vector goes up and down, wcslib 8 refuses it and frees memory twice.
    """
    if lie := lying_count_of_columns(tables):
        named = ", ".join(f"CTYPE{axis + 1} = {cards.text('CTYPE', axis)!r}" for axis in axes)
        raise WcsError(f"{named}: its table has {lie!r}")
    hdus = _open_tables(tables)
    for axis in axes:
        column = cards.parameters.get(("PS", axis, 2))
        if column is None or not cards.text("CTYPE", axis).endswith("-TAB"):
            continue
        version = int(float(cards.parameters.get(("PV", axis, 1), 1)))
        try:
            index = np.ravel(hdus[cards.parameters["PS", axis, 0], version].data[column])
            steps = np.diff(index.astype(np.float64))
        except Exception:  # noqa: BLE001 - astropy fails in many ways over a damaged table
            named = f"CTYPE{axis + 1} = {cards.text('CTYPE', axis)!r}"
            raise WcsError(f"{named}: its index {column!r} cannot be read") from None
        if len(steps) and not (steps.any() and ((steps >= 0).all() or (steps <= 0).all())):
            raise WcsError(f"PS{axis + 1}_2 = {column!r}: the index goes up and down")
    return hdus


def _lookup(cards: WcsCards, record: str, extname: str, tables: bytes) -> Any:
    from astropy import wcs as astropy_wcs

    fields = cards.records.get(record, {})
    version = int(fields.get("EXTVER", 1))
    header, data = _read_table(tables, record, extname, version)
    if data is None or data.ndim != 2 or data.dtype.kind not in "iuf":
        raise WcsError(f"{record}: {extname},{version} is no image of two axes")
    number = record[-1]
    if f"AXIS.{number}" not in fields:
        raise WcsError(f"{record}: there is no AXIS.{number}")
    if fields[f"AXIS.{number}"] != int(number):
        data = data.T
    places = [
        tuple(_table_number(header, f"{name}{axis}", default) for axis in (1, 2))
        for name, default in (("CRPIX", 0.0), ("CRVAL", 0.0), ("CDELT", 1.0))
    ]
    if not all(places[2]):
        raise WcsError(f"{record}: CDELT of {extname},{version} is zero")
    return astropy_wcs.DistortionLookupTable(np.ascontiguousarray(data, np.float32), *places)


def _table_number(header: Any, keyword: str, default: float) -> float:
    from astropy.io.fits import VerifyError

    try:
        value = header.get(keyword, default)
    except VerifyError:
        value = "a card that cannot be read"
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        raise WcsError(f"{keyword} of a table of distortions: {value!r}")
    return float(value)


def _read_table(tables: bytes, record: str, extname: str, version: int) -> tuple[Any, Any]:
    """Header and data of an HDU among *tables*; WcsError where it is not there."""
    try:
        hdus = _open_tables(tables)
        hdu = hdus[extname, version]
        header, data = hdu.header, hdu.data
    except KeyError:
        raise WcsError(f"{record}: there is no HDU {extname},{version}") from None
    except Exception as error:  # noqa: BLE001 - astropy fails in many ways over a damaged table
        reason = " ".join(str(error).split())[:200]
        raise WcsError(f"{record}: {extname},{version} cannot be read: {reason}") from None
    return header, data


def _open_tables(tables: bytes) -> Any:
    """The HDUs of *tables* as astropy has them, behind an empty primary HDU."""
    from astropy.io import fits

    buffer = fits.PrimaryHDU().header.tostring().encode("ascii") + tables
    return fits.HDUList.fromstring(buffer)
