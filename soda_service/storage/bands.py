"""Answers in bands: pieces of a size that is cheap to send and to wait for.

Making a band may block, on a disk or in a codec, and is done in a thread while the one before
it goes out. What lies in the page cache is copied faster than a thread is woken: such a band
is at hand.
"""

from __future__ import annotations

from collections.abc import Generator
from itertools import chain
from typing import TYPE_CHECKING, Final, Protocol, Self

from soda_service.errors import SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from soda_service.storage.source import Piece, RunSource, Write

    Buffer = bytes | bytearray | memoryview

BAND_BYTES: Final = 512 * 1024
"""About the size of a band; a copy of so much takes a tenth of a millisecond."""

_WRITTEN_BYTES: Final = 2 * BAND_BYTES
"""About so much is written at once of what is not copied: asking whether it is there costs more."""

_COLD_BANDS: Final = 16
"""That are read after one that was not in memory, before the next is looked for there."""

_MOST_RUNS: Final = 16_384
"""Runs in one band: a run of few bytes costs more than its bytes."""


_READ_BYTES: Final = 256 * 1024
"""Read at once of what is read from end to end: a store reads ahead for whom goes on so."""


class Bands(Protocol):
    """The bands of one answer, for one thread at a time."""

    def __iter__(self) -> Iterator[Buffer]: ...

    def __next__(self) -> Buffer:
        """The next band; may block. Raises whatever keeps it from being made."""

    def at_hand(self, most: int = BAND_BYTES) -> Buffer | None:
        """The next band if that takes no waiting, otherwise None; not of an answer that ended.

        At most so many bytes, or a little more.
        """

    def may_be_written(self) -> bool:
        """Whether it is worth the trial to `write` the next band: not where its runs are short."""

    def write(self, write: Write) -> int:
        """Have *write* take of the next band what it can, out of the memory where it lies.

        How many bytes it took; 0, too, where the next band is the last or not in memory. What
        follows them is the next band. Raises what keeps the answer from being finished.
        """

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

    def at_hand(self, most: int = BAND_BYTES) -> None:
        """See `Bands`."""

    def may_be_written(self) -> bool:
        """See `Bands`."""
        return False

    def write(self, _write: Write) -> int:
        """See `Bands`."""
        return 0

    def close(self) -> None:
        """See `Bands`."""
        if isinstance(self._made, Generator):  # other iterators hold nothing
            self._made.close()


class CopiedBands:
    """Bands that are copied, or written, out of one file, which is opened for the first of them.

    The last of them is never written: when what was copied turns out to be worthless there must
    be something left that is not sent.

    Where one is not in the page cache, those that follow it are read in a thread for a while:
    pages that have come this moment are in the kernel's hands still, and may make who touches
    them wait.
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
        self._following = next(self._bands, None)
        self._error: SourceUnavailableError | None = None
        """What kept a band from being made; whoever opened the file is told."""
        self._cold = 0
        """Of the next bands, how many are not looked for in memory."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Buffer:
        """See `Bands`; raises what opening and `RunSource.read_runs` raise."""
        if self._next is None:
            raise StopIteration
        if self._source is None:
            self._source = self._opened.__enter__()
        try:
            return self._read(self._source, self._next)
        except SourceUnavailableError as error:
            self._error = error
            raise

    def _read(self, source: RunSource, pieces: list[Piece]) -> Buffer:
        band: Buffer | None = self._from_memory(BAND_BYTES, in_thread=True)
        if band is None:
            pieces, rest = _split(pieces, BAND_BYTES, between_runs=True)
            self._cold = self._cold - 1 if self._cold else _COLD_BANDS
            read = [one if isinstance(one, bytes) else source.read_runs(one) for one in pieces]
            band = _one(read)
            self._go_on(rest)
        return band

    def at_hand(self, most: int = BAND_BYTES) -> bytes | memoryview | None:
        """See `Bands`."""
        return self._from_memory(most)

    def _from_memory(self, most: int, *, in_thread: bool = False) -> bytes | memoryview | None:
        if self._cold or self._source is None or self._next is None:
            return None
        pieces, rest = _split(self._next, most, between_runs=True)
        found: list[bytes | memoryview] = []
        for piece in pieces:
            if isinstance(piece, bytes):
                found.append(piece)
                continue
            runs = None
            if not piece.is_scattered:
                runs = self._source.resident_runs(piece, in_thread=in_thread)
            if runs is None:
                return None
            found.append(runs)
        self._go_on(rest)
        return _one(found)

    def may_be_written(self) -> bool:
        """See `Bands`."""
        if self._next is None or self._following is None or self._source is None or self._cold:
            return False
        return all(isinstance(one, bytes) or one.may_be_named for one in self._next)

    def write(self, write: Write) -> int:
        """See `Bands`; raises what `RunSource.write_resident` raises."""
        if self._next is None or self._source is None or not self.may_be_written():
            return 0
        taken = self._source.write_resident(self._next, write)
        if taken:
            self._go_on(_split(self._next, taken)[1])
        return taken

    def close(self) -> None:
        """See `Bands`."""
        self._next = self._following = None
        source, self._source = self._source, None
        error, self._error = self._error, None
        if source is not None:
            self._opened.__exit__(None if error is None else type(error), error, None)

    def _go_on(self, rest: list[Piece]) -> None:
        """Next comes the *rest* of this band, if there is one, or another band."""
        if rest:
            self._next = rest
        else:
            self._next, self._following = self._following, next(self._bands, None)


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
    """*pieces* joined, or taken apart, to about as much each as is written at once."""
    band: list[Piece] = []
    size = 0
    for piece in chain.from_iterable(map(_parts, pieces)):
        if size and size + _size(piece) > _WRITTEN_BYTES:
            yield band
            band, size = [], 0
        band.append(piece)
        size += _size(piece)
    if size:
        yield band


def _one(pieces: list[bytes | memoryview]) -> bytes | memoryview:
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _parts(piece: Piece) -> Iterable[Piece]:
    if isinstance(piece, bytes):
        return (piece,) if piece else ()
    return piece.bands(_WRITTEN_BYTES, most_runs=_MOST_RUNS)


def _split(
    pieces: list[Piece], at: int, *, between_runs: bool = False
) -> tuple[list[Piece], list[Piece]]:
    """The first *at* bytes of *pieces* and the others.

    They are a little more than *at* where that would cut through a grid of several dimensions,
    and less where it would cut through a run that is not to be.
    """
    before: list[Piece] = []
    for number, piece in enumerate(pieces):
        if at <= 0:
            return before, pieces[number:]
        size = _size(piece)
        if at >= size or (not isinstance(piece, bytes) and len(piece.counts) > 1):
            before.append(piece)
        elif isinstance(piece, bytes):
            return [*before, piece[:at]], [piece[at:], *pieces[number + 1 :]]
        else:
            runs = at - at % piece.length
            first, last = piece.split(runs if between_runs and (runs or before) else at)
            return [*before, *first], [*last, *pieces[number + 1 :]]
        at -= size
    return before, []


def _size(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece.size
