"""Coverages of the sky as sets of HEALPix cells: MOC 2.0, and its ASCII form.

A `Moc` is kept as ranges of cells of the finest order, so that each set of places has one form
only. A place on the edge between two cells is in one of them. Source: MOC 2.0 §4.3, DALI 1.2
(PR) §3.11.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from soda_service.errors import UsageError

from .healpix import MAX_ORDER, cell_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Whole = NDArray[np.int64]

MAX_CELLS: Final = 20_000
"""Cells, and words, of a MOC that a request may bring; each costs time where a box is sought."""

_MAX_TEXT: Final = 640_000
_NUMBER: Final = re.compile(r"[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Moc:
    """A set of HEALPix cells on the ICRS sphere, NESTED; it may be empty."""

    order: int
    """The finest order that it can tell apart, 0 to 29; its cells may all be coarser."""
    packed: bytes
    """See `ranges`; native 64-bit numbers."""

    @classmethod
    def of(cls, starts: Whole, ends: Whole, order: int) -> Self:
        """The cells of *order* from *starts* to before *ends*, in any order, repeated or not."""
        shift = 2 * (MAX_ORDER - order)
        by_start = np.argsort(starts, kind="stable")
        starts, ends = starts[by_start] << shift, ends[by_start] << shift
        starts, ends = starts[ends > starts], ends[ends > starts]
        reached = np.maximum.accumulate(ends) if ends.size else ends
        apart = np.ones(starts.size, dtype=bool)
        apart[1:] = starts[1:] > reached[:-1]
        last = np.append(np.flatnonzero(apart)[1:] - 1, starts.size - 1)[: np.count_nonzero(apart)]
        return cls(order, np.stack([starts[apart], reached[last]]).tobytes())

    @property
    def ranges(self) -> Whole:
        """First cells, and one past the last, of runs of cells of order 29, shape (2, N).

        Ascending, and apart from each other.
        """
        return np.frombuffer(self.packed, np.int64).reshape(2, -1)

    def runs(self) -> Iterator[tuple[int, Whole, Whole]]:
        """The fewest cells that make up the set: orders, with first cells and one past the last.

        Coarsest first; at each order the runs are ascending and apart, and no order is empty.
        """
        starts, ends = self.ranges
        for order in range(self.order + 1):
            shift = 2 * (MAX_ORDER - order)
            first, stop = (starts + ((1 << shift) - 1)) >> shift, ends >> shift
            whole = first < stop
            if not whole.any():
                continue
            yield order, first[whole], stop[whole]
            # What is left before and after, and what holds no cell as large as this.
            left = np.where(whole, first << shift, ends)
            right = np.where(whole, stop << shift, ends)
            order_of = np.argsort(np.concatenate([starts, right]), kind="stable")
            starts = np.concatenate([starts, right])[order_of]
            ends = np.concatenate([left, ends])[order_of]
            starts, ends = starts[starts < ends], ends[starts < ends]

    @property
    def cell_count(self) -> int:
        """How many cells `runs` has."""
        return sum(int((stop - first).sum()) for _, first, stop in self.runs())

    @property
    def sky_fraction(self) -> float:
        """Part of the sphere that is covered, 0 to 1."""
        starts, ends = self.ranges
        return float((ends - starts).astype(np.float64).sum()) / cell_count(MAX_ORDER)


def parse_moc(text: str) -> Moc:
    """The MOC of `order/cell cell-cell … order/…`.

    Blanks, line breaks and commas stand between cells; they may come in any order and repeat
    each other. An `s`, for space, may stand before all. Any other text raises UsageError, and
    so does one of more than `MAX_CELLS` cells.
    """
    starts: dict[int, list[int]] = {}
    ends: dict[int, list[int]] = {}
    order: int | None = None
    for word in _words(text):
        before, slash, cells = word.rpartition("/")
        if slash:
            order = _order(before, text)
            starts.setdefault(order, [])
            ends.setdefault(order, [])
            if not cells:
                continue
        if order is None:
            raise _refusal("MOC starts with an order and a slash, as 5/", text)
        first, last = _run(cells, order, text)
        starts[order].append(first)
        ends[order].append(last + 1)
    if order is None:
        raise _refusal("MOC is empty; one without cells is an order and a slash, as 5/", text)
    return _bounded(_joined(starts, ends), text)


def format_moc(moc: Moc) -> str:
    """The text that `parse_moc` reads as *moc*, in the form that MOC 2.0 §4.3.2 asks for."""
    words: list[str] = []
    finest = -1
    for order, first, stop in moc.runs():
        cells = [
            str(low) if low == high else f"{low}-{high}"
            for low, high in zip(first.tolist(), (stop - 1).tolist(), strict=True)
        ]
        words.append(f"{order}/{' '.join(cells)}")
        finest = order
    if finest < moc.order:
        words.append(f"{moc.order}/")
    return " ".join(words)


def _words(text: str) -> list[str]:
    if len(text) > _MAX_TEXT:
        raise _refusal(f"MOC is longer than {_MAX_TEXT} characters", text)
    if not text.isascii():  # str.split() would take a no-break space for a blank
        raise _refusal("MOC holds characters other than ASCII", text)
    words = text.replace(",", " ").split()
    if len(words) > MAX_CELLS:
        raise _refusal(f"MOC names {len(words)} cells and may name {MAX_CELLS}", text)
    if words and words[0][0] in "sS":
        words[0] = words[0][1:]
    return words


def _order(word: str, text: str) -> int:
    if not _NUMBER.fullmatch(word) or int(word) > MAX_ORDER:
        raise _refusal(
            f"MOC has the order {_excerpt(word)}, and orders go from 0 to {MAX_ORDER}", text
        )
    return int(word)


def _run(word: str, order: int, text: str) -> tuple[int, int]:
    """First and last cell of `cell` or `cell-cell`."""
    low, dash, high = word.partition("-")
    ends = (low, high) if dash else (low, low)
    if not all(map(_NUMBER.fullmatch, ends)):
        raise _refusal(f"MOC holds {_excerpt(word)}, which is not a cell or a range of cells", text)
    first, last = map(int, ends)
    if first > last:
        raise _refusal(f"MOC has the range {word}, which is in the wrong order", text)
    if last >= cell_count(order):
        most = cell_count(order) - 1
        raise _refusal(f"MOC has {word} at order {order}, whose cells go from 0 to {most}", text)
    return first, last


def _joined(starts: dict[int, list[int]], ends: dict[int, list[int]]) -> Moc:
    """The MOC of runs at several orders."""
    finest = max(starts)
    shifts = {order: 2 * (finest - order) for order in starts}
    return Moc.of(
        np.concatenate([np.array(cells, np.int64) << shifts[k] for k, cells in starts.items()]),
        np.concatenate([np.array(cells, np.int64) << shifts[k] for k, cells in ends.items()]),
        finest,
    )


def _bounded(moc: Moc, text: str) -> Moc:
    count = moc.cell_count
    if count > MAX_CELLS:
        raise _refusal(f"MOC has {count} cells and may have {MAX_CELLS}", text)
    return moc


def _refusal(reason: str, text: str) -> UsageError:
    return UsageError(f"{reason}, got {_excerpt(text)}")


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:100] + "…")
