"""What to ask a store for: runs of bytes become few ranges.

A request costs time and, in most stores, money whatever its size; a byte that nobody wants
costs time too. Runs are joined over a gap where reading the gap is cheaper than another
request. Two ranges are enough wherever they hold little more than what is wanted, however far
apart the runs are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]

WASTE: Final = 1.2
"""Bytes read for each byte wanted up to which one range, or two, are better than more."""


class Span(NamedTuple):
    """A range of bytes, half-open."""

    start: int
    stop: int


def joined(starts: Numbers, length: int, *, gap: int) -> list[Span]:
    """The ranges that hold the runs of *length* bytes at *starts*, ascending.

    Runs are joined over gaps of up to *gap* bytes, and over all gaps but the widest, or over
    all, where that reads at most `WASTE` times what is wanted.
    """
    first, last = int(starts[0]), int(starts[-1]) + length
    gaps = np.diff(starts) - length
    if not gaps.size or last - first <= WASTE * length * len(starts):
        return [Span(first, last)]
    widest = int(gaps.argmax())
    if last - first - int(gaps[widest]) <= WASTE * length * len(starts):
        breaks = np.array([widest])
    else:
        breaks = np.flatnonzero(gaps > gap)
    begins = np.concatenate((starts[:1], starts[breaks + 1]))
    ends = np.concatenate((starts[breaks] + length, [last]))
    return [Span(*both) for both in zip(begins.tolist(), ends.tolist(), strict=True)]


def pieces(spans: list[Span], *, most: int, grain: int) -> list[Span]:
    """*spans* in pieces of at most *most* bytes, taken apart at multiples of *grain*.

    *most* is a multiple of *grain*, so a range that begins at none has one piece more at times.
    """
    taken = []
    for start, stop in spans:
        at = start
        while stop - at > most:
            edge = (at + most) // grain * grain
            taken.append(Span(at, edge))
            at = edge
        taken.append(Span(at, stop))
    return taken


def blocks(span: Span, size: int) -> list[Span]:
    """*span* taken apart at every multiple of *size*."""
    edges = range(span.start // size * size + size, span.stop, size)
    return [Span(*both) for both in zip((span.start, *edges), (*edges, span.stop), strict=True)]


class Spread:
    """Puts what ranges hold of some runs where it belongs, one run after another."""

    def __init__(self, starts: Numbers, length: int, target: memoryview) -> None:
        """*target* has exactly the bytes of the runs of *length* bytes at *starts*, ascending."""
        self._starts = starts
        self._length = length
        self._target = target
        self._rows: NDArray[np.uint8] = np.frombuffer(target, np.uint8).reshape(-1, length)

    def put(self, start: int, content: memoryview) -> None:
        """Copies what *content*, the bytes from *start* on, holds of the runs."""
        stop = start + len(content)
        starts, length = self._starts, self._length
        # Runs begin..end meet the content, and all of them but the outermost lie in it.
        begin = int(np.searchsorted(starts, start - length, "right"))
        end = int(np.searchsorted(starts, stop, "left"))
        inner, outer = begin, end
        if begin < end and int(starts[begin]) < start:
            self._put_part(begin, start, content)
            inner += 1
        if inner < end and int(starts[end - 1]) + length > stop:
            self._put_part(end - 1, start, content)
            outer -= 1
        if inner < outer:
            # Row i of this view is what begins at byte i of the content.
            rows: NDArray[np.uint8] = np.ndarray(
                (len(content) - length + 1, length), np.uint8, content, 0, (1, 1)
            )
            self._rows[inner:outer] = rows[starts[inner:outer] - start]

    def _put_part(self, number: int, start: int, content: memoryview) -> None:
        run = int(self._starts[number])
        low, high = max(run, start), min(run + self._length, start + len(content))
        at = number * self._length - run
        self._target[at + low : at + high] = content[low - start : high - start]
