"""Rows of binary tables, against astropy's reading of the same bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, strategies as st

from soda_service.fits.cards import Header, render_cards
from soda_service.fits.newcards import card
from soda_service.fits.tablerows import BinaryTable

if TYPE_CHECKING:
    from numpy.typing import NDArray


def table_hdu(count: int = 6) -> fits.BinTableHDU:
    """A table with all that tables have: scaled columns, arrays, bits, text, a heap."""
    numbers = np.arange(count)
    ragged = np.empty(count, dtype=object)
    ragged[:] = [np.arange(one, dtype=np.int16) for one in numbers]
    columns = [
        fits.Column("FLAGS", "11X", array=np.ones((count, 11), dtype=bool)),
        fits.Column("Chan", "J", array=numbers),
        fits.Column("NAME", "5A", array=[f"row {one}" for one in numbers]),
        fits.Column("X", "E", array=numbers * 1.5),
        fits.Column("WIDE", "D", array=numbers * 0.1),
        fits.Column("SCALED", "I", array=numbers),
        fits.Column("RAGGED", "PI()", array=ragged),
        fits.Column("POINTS", "3D", array=np.arange(3.0 * count).reshape(count, 3)),
    ]
    hdu = fits.BinTableHDU.from_columns(columns, name="THINGS")
    hdu.header["NCHAN"] = (count, "how many")
    hdu.add_checksum()
    return hdu


def parts_of(hdu: fits.BinTableHDU) -> tuple[Header, bytes]:
    """Header and data unit, as they stand in a file."""
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    raw = buffer.getvalue()
    with fits.open(io.BytesIO(raw)) as hdus:
        info = hdus[1].fileinfo()
        size = hdus[1].header["NAXIS1"] * hdus[1].header["NAXIS2"] + hdus[1].header["PCOUNT"]
    header = Header.parse(raw[info["hdrLoc"] : info["datLoc"]])
    header = Header(header.raw + card("TSCAL6", 0.5) + card("TZERO6", 10.0))
    return header, raw[info["datLoc"] : info["datLoc"] + size]


def read(cards: bytes, data: bytes) -> fits.BinTableHDU:
    """The same with astropy, behind an empty primary HDU."""
    empty = fits.PrimaryHDU().header.tostring().encode("ascii")
    padded = data + bytes(-len(data) % 2880)
    hdus = fits.open(io.BytesIO(empty + render_cards(cards) + padded))
    hdus.verify("exception")
    return hdus[1]


@given(st.lists(st.integers(0, 5), unique=True, min_size=1).map(sorted))
def test_rows_are_what_astropy_reads(wanted: list[int]) -> None:
    """Some or all of them, with ragged arrays that stand in the heap."""
    hdu = table_hdu()
    rows = np.array(wanted, dtype=np.intp)
    table = BinaryTable(*parts_of(hdu))
    note = card("COMMENT", None)
    numbers = rows.astype(np.float64)
    changed: dict[str, NDArray[np.float64]] = {
        "chan": np.full(len(rows), 7.0),
        "X": np.asarray(numbers * 1.5 - 2.25, dtype=np.float64),
        "SCALED": np.asarray(numbers * 0.5 + 3.0, dtype=np.float64),
    }
    made = read(*table.cut(rows, changed=changed, cards={"NCHAN": len(rows)}, provenance=note))
    assert len(made.data) == made.header["NCHAN"] == len(rows)
    assert made.header.comments["NCHAN"] == "how many"
    assert "CHECKSUM" not in made.header
    for name in ("FLAGS", "NAME", "WIDE", "POINTS"):
        assert np.array_equal(made.data[name], hdu.data[name][rows])
    for name, values in changed.items():
        assert list(made.data[name]) == list(values)
    for row, number in enumerate(wanted):
        assert list(made.data["RAGGED"][row]) == list(range(number))


def test_a_table_may_lose_all_its_rows() -> None:
    """What is left is the heap."""
    hdu = table_hdu()
    rows = np.array([], dtype=np.intp)
    cards, data = BinaryTable(*parts_of(hdu)).cut(rows, changed={}, cards={}, provenance=b"")
    assert Header(cards).integer("NAXIS2") == 0
    assert len(data) == hdu.header["PCOUNT"]


def test_numbers_are_physical() -> None:
    table = BinaryTable(*parts_of(table_hdu()))
    scaled = table.numbers("scaled")
    assert scaled is not None
    assert list(scaled) == [10.0, 10.5, 11.0, 11.5, 12.0, 12.5]
    assert table.numbers("POINTS") is None
    assert table.numbers("NAME") is None
    assert table.numbers("NOWHERE") is None


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("NAXIS2", 10_000), ("NAXIS2", -1), ("NAXIS1", 3), ("TFORM2", "nonsense"), ("TFORM2", "9J")],
)
def test_tables_that_lie_are_no_tables(keyword: str, value: object) -> None:
    """More rows than bytes, columns wider than rows."""
    header, data = parts_of(table_hdu())
    cards = [
        card(keyword, value) if one.keyword == keyword else one.raw  # type: ignore[arg-type]  # str or int
        for one in header
    ]
    with pytest.raises(ValueError, match=r"TFORM2|rows"):
        BinaryTable(Header(b"".join(cards)), data)
