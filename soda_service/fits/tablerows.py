"""Rows of binary tables: some of them chosen, and numbers in them changed.

Everything else of a table, its heap included, stays as it is. Source: FITS 4.0 §7.3.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from soda_service.fits.cards import CARD_SIZE, Card
from soda_service.fits.recast import with_integer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from soda_service.fits.cards import Header

_FORM: Final = re.compile(r"([0-9]*)([LXBIJKAEDCMPQ])")
_SIZES: Final = {
    "L": 1, "B": 1, "A": 1, "I": 2, "J": 4, "K": 8, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16
}  # fmt: skip
_DTYPES: Final = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_MOST_COLUMNS: Final = 999
_OF_THE_OLD_ROWS: Final = frozenset(("CHECKSUM", "DATASUM"))


class _Column(NamedTuple):
    offset: int
    """Of its first byte in a row."""
    dtype: str
    scale: float
    zero: float


def lying_count_of_columns(hdus: bytes) -> str | None:
    """A card of *hdus* that claims more columns than a table can have; None where none does.

    astropy makes room for as many as it says (FITS 4.0 §7.3.1: at most 999).
    """
    for found in re.finditer(rb"TFIELDS =", hdus):
        start = found.start()
        if start % CARD_SIZE:
            continue
        one = Card(hdus[start : start + CARD_SIZE])
        try:
            count = one.value
        except ValueError:
            return one.text
        if type(count) is not int or not 0 <= count <= _MOST_COLUMNS:
            return one.text
    return None


class BinaryTable:
    """A binary table in memory."""

    def __init__(self, header: Header, data: bytes) -> None:
        """Raises ValueError where rows and columns are not what the header says."""
        if header.string("XTENSION") != "BINTABLE":
            raise ValueError("not a binary table")
        self._header = header
        self._data = data
        width, count = header.integer("NAXIS1"), header.integer("NAXIS2")
        if width is None or count is None or min(width, count) < 0 or width * count > len(data):
            raise ValueError("the table has fewer bytes than rows")
        self._end = width * count
        self.count = count
        """Number of rows."""
        self._rows = np.frombuffer(data, np.uint8, self._end).reshape(count, width)
        self._columns = self._read_columns(width)

    def _read_columns(self, width: int) -> dict[str, _Column]:
        found: dict[str, _Column] = {}
        offset = 0
        header = self._header
        for number in range(1, min(header.integer("TFIELDS") or 0, _MOST_COLUMNS) + 1):
            form = _FORM.match((header.string(f"TFORM{number}") or "").strip().upper())
            if form is None:
                raise ValueError(f"TFORM{number} cannot be read")
            repeat, code = int(form[1] or 1), form[2]
            name = (header.string(f"TTYPE{number}") or "").strip().upper()
            if repeat == 1 and code in _DTYPES:
                scale = header.number(f"TSCAL{number}") or 1.0
                zero = header.number(f"TZERO{number}") or 0.0
                found.setdefault(name, _Column(offset, _DTYPES[code], scale, zero))
            offset += -(-repeat // 8) if code == "X" else repeat * _SIZES[code]
        if offset > width:
            raise ValueError("the columns are wider than the rows")
        return found

    def numbers(self, name: str) -> NDArray[np.float64] | None:
        """The physical values of a column of single numbers; None where none is so called."""
        column = self._columns.get(name.upper())
        if column is None:
            return None
        stored = self._field(self._rows, column).astype(np.float64)
        return np.asarray(stored * column.scale + column.zero, dtype=np.float64)

    def cut(
        self,
        rows: NDArray[np.intp],
        *,
        changed: Mapping[str, NDArray[np.float64]],
        cards: Mapping[str, int],
        provenance: bytes,
    ) -> tuple[bytes, bytes]:
        """The cards of the header, without END, and the data of a table of these *rows*.

        *changed* are new physical values of columns, one for each of these rows; *cards* are new
        values of integers that the header has. *provenance* are whole cards, appended.
        """
        kept = self._rows[rows].copy()
        for name, values in changed.items():
            column = self._columns[name.upper()]
            stored = (values - column.zero) / column.scale
            if column.dtype[-2] in "iu":
                stored = np.rint(stored)
            self._field(kept, column)[...] = stored
        changes = {**cards, "NAXIS2": len(rows)}
        heap = self._header.integer("THEAP")
        if heap is not None:
            changes["THEAP"] = heap - (self._end - kept.size)
        made = [
            with_integer(one.raw, changes[one.keyword]) if one.keyword in changes else one.raw
            for one in self._header
            if one.keyword not in _OF_THE_OLD_ROWS
        ]
        return b"".join(made) + provenance, kept.tobytes() + self._data[self._end :]

    def _field(self, rows: NDArray[np.uint8], column: _Column) -> NDArray[np.float64]:
        """One column of *rows*: a view, through which it can be changed."""
        one: Any = {"names": ["it"], "formats": [column.dtype], "offsets": [column.offset],
               "itemsize": rows.shape[1]}  # fmt: skip
        field: NDArray[np.float64] = rows.reshape(-1).view(np.dtype(one))["it"]
        return field
