"""Runs of bytes on a regular grid: what a box of any number of dimensions is in a file."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


LONG_RUN: Final = 8 * 1024
"""Bytes of a run from which on a call of the kernel for each costs little more than the copy."""

_MANY: Final = 1024
"""Runs; each may lie on a page that this process has not touched so far."""


class RunGrid(NamedTuple):
    """Runs of equal length that begin at regular distances; they never overlap."""

    start: int
    """First byte of the first run."""
    length: int
    """Bytes of a run."""
    counts: tuple[int, ...] = ()
    """How many runs in each dimension, the slowest first; without one there is one run."""
    steps: tuple[int, ...] = ()
    """Bytes from one run to the next in each dimension, descending."""
    itemsize: int = 1
    """Bytes of what the file counts in; it divides every other number but perhaps `start`."""

    @property
    def size(self) -> int:
        """Bytes of all runs."""
        return self.length * prod(self.counts)

    @property
    def is_scattered(self) -> bool:
        """Whether they are so many that touching them all takes milliseconds, memory or not."""
        return prod(self.counts) > _MANY

    @property
    def may_be_named(self) -> bool:
        """Whether to name each run to the kernel is no dearer than to copy it."""
        return not self.counts or (self.length >= LONG_RUN and len(self.counts) == 1)

    @property
    def end(self) -> int:
        """One past the last byte of the last run."""
        end = self.start + self.length
        for count, step in zip(self.counts, self.steps, strict=True):
            end += (count - 1) * step
        return end

    def starts(self) -> NDArray[np.int64]:
        """Where each run begins, ascending."""
        starts = np.array([self.start], np.int64)
        for count, step in zip(self.counts, self.steps, strict=True):
            starts = np.add.outer(starts, np.arange(count, dtype=np.int64) * step).ravel()
        return starts

    def split(self, at: int) -> tuple[list[RunGrid], list[RunGrid]]:
        """The first *at* bytes of the runs and the others, each as grids in their order.

        Of one dimension at most.
        """
        (count,), (step,) = self.counts or (1,), self.steps or (0,)
        whole, part = divmod(at, self.length)

        def some(first: int, last: int) -> list[RunGrid]:
            start = self.start + first * step
            if last - first < 2:
                return [RunGrid(start, self.length, itemsize=self.itemsize)][: last - first]
            return [self._replace(start=start, counts=(last - first,), steps=(step,))]

        if not part:
            return some(0, whole), some(whole, count)
        torn = self.start + whole * step
        before = RunGrid(torn, part, itemsize=1)
        after = RunGrid(torn + part, self.length - part, itemsize=1)
        return [*some(0, whole), before], [after, *some(whole + 1, count)]

    def bands(self, band_bytes: int, *, most_runs: int) -> Iterator[RunGrid]:
        """The same runs in grids of about *band_bytes* and at most *most_runs*, in their order.

        A run longer than a band is taken apart; others stay whole.
        """
        if self.length > band_bytes:
            piece = max(self.itemsize, band_bytes - band_bytes % self.itemsize)
            for start in _each_start(self.start, self.counts, self.steps):
                for at in range(0, self.length, piece):
                    length = min(piece, self.length - at)
                    yield RunGrid(start + at, length, itemsize=self.itemsize)
            return
        # Dimensions from `inner` on go whole into a band, the one before it in parts.
        most = max(1, min(band_bytes // self.length, most_runs))
        inner, runs = len(self.counts), 1
        while inner and runs * self.counts[inner - 1] <= most:
            inner -= 1
            runs *= self.counts[inner]
        if not inner:
            yield self
            return
        count, step = self.counts[inner - 1], self.steps[inner - 1]
        pieces = -(-count // (most // runs))
        edges = [count * number // pieces for number in range(pieces + 1)]
        outer = slice(0, inner - 1)
        for start in _each_start(self.start, self.counts[outer], self.steps[outer]):
            for first, last in pairwise(edges):
                yield self._replace(
                    start=start + first * step,
                    counts=(last - first, *self.counts[inner:]),
                    steps=self.steps[inner - 1 :],
                )


def _each_start(start: int, counts: tuple[int, ...], steps: tuple[int, ...]) -> Iterator[int]:
    """Where each run begins, however many they are."""
    if not counts:
        yield start
        return
    for number in range(counts[0]):
        yield from _each_start(start + number * steps[0], counts[1:], steps[1:])
