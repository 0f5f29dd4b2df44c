"""Answers in bands: pieces of a size that is cheap to send and to wait for.

Making a band may block, on a disk or in a codec, and is done in a thread while the one before
it goes out. What lies in the page cache is copied faster than a thread is woken: such a band
is at hand.
"""

from __future__ import annotations

from collections.abc import Generator
from itertools import chain
from typing import TYPE_CHECKING, Final, Protocol, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from soda_service.storage.runs import RunGrid
    from soda_service.storage.source import RunSource

    Buffer = bytes | bytearray | memoryview
    Piece = bytes | RunGrid
    """Bytes that are there, or runs of a file."""

BAND_BYTES: Final = 512 * 1024
"""About the size of a band; a copy of so much takes a tenth of a millisecond."""

_MOST_RUNS: Final = 16_384
"""Runs in one band: a run of few bytes costs more than its bytes."""


_READ_BYTES: Final = 256 * 1024
"""Read at once of what is read from end to end: a store reads ahead for whom goes on so."""


class Bands(Protocol):
    """The bands of one answer, for one thread at a time."""

    def __iter__(self) -> Iterator[Buffer]: ...

    def __next__(self) -> Buffer:
        """The next band; may block. Raises whatever keeps it from being made."""

    def at_hand(self) -> Buffer | None:
        """The next band if that takes no waiting, otherwise None; not of an answer that ended."""

    def close(self) -> None:
        """Let go of what is held open; nothing comes any more."""


class MadeBands:
    """Bands that have to be made, one by one; never at hand."""

    def __init__(self, made: Iterator[Buffer]) -> None:
        self._made = made

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Buffer:
        """See `Bands`."""
        return next(self._made)

    def at_hand(self) -> None:
        """See `Bands`."""

    def close(self) -> None:
        """See `Bands`."""
        if isinstance(self._made, Generator):  # other iterators hold nothing
            self._made.close()


class CopiedBands:
    """Bands that are copied out of one file, which is opened for the first of them.

    From the first on that is not in the page cache all are read in a thread: pages that have come
    this moment are in the kernel's hands still, and may make who touches them wait.
    """

    def __init__(
        self,
        opened: AbstractContextManager[RunSource],
        pieces: Iterable[Piece],
        *,
        source: RunSource | None = None,
    ) -> None:
        """*pieces* follow each other in the answer; making them must not block.

        *opened* is entered for the first band, unless it has been and gave *source*.
        """
        self._opened = opened
        self._source = source
        self._bands = _bands(pieces)
        self._next = next(self._bands, None)
        self._is_cold = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Buffer:
        """See `Bands`; raises what opening and `RunSource.read_runs` raise."""
        pieces = self._next
        if pieces is None:
            raise StopIteration
        if self._source is None:
            self._source = self._opened.__enter__()
        source = self._source
        band: Buffer | None = self.at_hand()
        if band is None:
            self._is_cold = True
            read = [one if isinstance(one, bytes) else source.read_runs(one) for one in pieces]
            band = read[0] if len(read) == 1 else b"".join(read)
            self._next = next(self._bands, None)
        return band

    def at_hand(self) -> memoryview | None:
        """See `Bands`."""
        if self._is_cold or self._source is None or self._next is None:
            return None
        band = np.empty(sum(map(_size, self._next)), np.uint8).data
        at = 0
        for piece in self._next:
            target = band[at : at + _size(piece)]
            if isinstance(piece, bytes):
                target[:] = piece
            elif piece.is_scattered or not self._source.copy_resident(piece, target):
                return None
            at += len(target)
        self._next = next(self._bands, None)
        return band

    def close(self) -> None:
        """See `Bands`."""
        self._next = None
        source, self._source = self._source, None
        if source is not None:
            self._opened.__exit__(None, None, None)


def read_on(source: RunSource, start: int, stop: int) -> Iterator[bytes]:
    """The bytes of this half-open range in pieces; may block.

    Raises what `RunSource.read` raises, and SourceUnavailableError where the content changes.
    """
    for at in range(start, stop, _READ_BYTES):
        piece = source.read(at, min(_READ_BYTES, stop - at))
        # An error after the last byte of an answer would come too late.
        source.check_unchanged()
        yield piece


def _bands(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """*pieces* joined, or taken apart, to about a band each."""
    band: list[Piece] = []
    size = 0
    for piece in chain.from_iterable(map(_parts, pieces)):
        if size and size + _size(piece) > BAND_BYTES:
            yield band
            band, size = [], 0
        band.append(piece)
        size += _size(piece)
    if size:
        yield band


def _parts(piece: Piece) -> Iterable[Piece]:
    if isinstance(piece, bytes):
        return (piece,)
    return piece.bands(BAND_BYTES, most_runs=_MOST_RUNS)


def _size(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece.size
