"""Where decoding may begin inside of rows that RICE compressed.

RICE tells a pixel by its difference from the one before, in blocks of which each says how it
is coded; so a row must be decoded from its first pixel on. An index keeps, at some of the
borders of blocks, the bit at which the block begins and the pixel before it. From there on the
rest of the row is a legal stream of its own.

A call of the decoder costs as much as some hundred pixels, and a cutout wants a little of each
of many rows. So what is wanted of them is joined, bit by bit, to one stream. Between two rows
stands a block of ours, which fills what is missing to whole words and moves the value by what
does not matter: how far a row is off is seen from the pixel before it.

Source: FITS 4.0 §10.4.1 (RICE).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from soda_service.pixels.tilecodecs import Rice

    Bytes = NDArray[np.uint8]
    Words = NDArray[np.uint64]
    Numbers = NDArray[np.int64]
    Integers = NDArray[np.signedinteger | np.unsignedinteger]

STEP: Final = 128
"""Pixels from one place to the next, about: whole blocks."""

_BITS: Final = np.dtype(np.uint32)
_WORD: Final = 64
_ALL: Final = np.uint64(2**64 - 1)
_LONGEST_BLOCK: Final = 128
"""Of longer blocks the one between two rows would cost too much."""
_LONGEST_ROW: Final = 2**20
"""Pixels of a row that are held in memory, several times, while it is learnt."""
_MOST_BITS: Final = 64
"""Of a pixel, on the average from one place to the next: all rows of a cutout get equal room."""
_LONGEST_TILE: Final = 2**28
"""Bytes of a tile whose bits are still counted."""


class SeekIndex:
    """Of the rows of one image, each of which is a tile; filled by `learn`, then shared."""

    def __init__(self, rice: Rice, *, rows: int, length: int) -> None:
        """*length* is the pixels of each row."""
        self._rice = rice
        step = rice.block * max(1, STEP // rice.block)
        self._places = np.arange(0, length + 1, step)
        if length % rice.block == 0 and length % step:
            self._places = np.append(self._places, length)
        self._length = length
        self._bits = np.zeros((rows, len(self._places)), _BITS)
        self._values = np.zeros((rows, len(self._places)), rice.dtype)
        self._is_known = np.zeros(rows, np.bool_)

    @staticmethod
    def suits(rice: Rice, length: int) -> bool:
        """Whether rows of *length* pixels are worth an index."""
        return rice.block <= _LONGEST_BLOCK and 4 * STEP <= length <= _LONGEST_ROW

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self._bits.nbytes + self._values.nbytes + self._is_known.nbytes

    def knows(self, rows: Numbers) -> NDArray[np.bool_]:
        """Which of *rows* can be decoded with it."""
        return self._is_known[rows]

    def stretch(self, rows: Numbers, start: int, stop: int) -> Stretch:
        """The pixels *start* to *stop* of *rows*, all of which it knows."""
        first = int(np.searchsorted(self._places, start, "right")) - 1
        last = int(np.searchsorted(self._places, stop, "left"))
        return self._between(rows, first, last, start, stop)

    @staticmethod
    def bytes_for(rice: Rice, *, rows: int, length: int) -> int:
        """Bytes that the index of so many rows takes, about."""
        places = length // max(rice.block, STEP) + 2
        return rows * places * (_BITS.itemsize + rice.dtype.itemsize)

    def learn(self, rows: Numbers, data: Bytes, starts: Numbers, sizes: Numbers) -> None:
        """Takes up *rows*, whose tiles begin in *data* at the bytes *starts*.

        So many bytes follow the last tile as `Rice.guard` says. Rows that cannot be decoded, or
        that come out otherwise when they are decoded by the index, are left out. A row without
        bytes is one of those.
        """
        rice = self._rice
        values: Integers = np.zeros((len(starts), self._length), rice.dtype)
        sound = (sizes > rice.dtype.itemsize) & (sizes < _LONGEST_TILE)
        view = data.data
        for number in np.flatnonzero(sound).tolist():
            start = int(starts[number])
            try:
                rice.fill(view[start : start + int(sizes[number])], values[number])
            except (ValueError, RuntimeError):
                sound[number] = False
        blocks = self._length // rice.block
        begins = _block_begins(rice, data, 8 * starts, values[:, : blocks * rice.block])
        sound &= begins[:, -1] <= 8 * (starts + sizes)
        places = self._places
        begins = begins[:, places // rice.block]
        sound &= (np.diff(begins) <= _MOST_BITS * np.diff(places)).all(axis=1)
        self._bits[rows] = begins - 8 * starts[:, None]
        self._values[rows, 1:] = values[:, places[1:] - 1]
        self._values[rows, 0] = _first_values(rice, data, starts)
        sound[sound] = self._proved(rows[sound], data, starts[sound], values[sound])
        self._is_known[rows] = sound

    def _proved(
        self, rows: Numbers, data: Bytes, starts: Numbers, values: Integers
    ) -> NDArray[np.bool_]:
        """Which of *rows* give *values* from every place on to the next, whatever row follows.

        A writer may code a pixel by a difference that is too large by a whole period of its
        type. Then the bits were counted wrongly, and this is how it is noticed: the block
        between two rows comes out as it is meant only if it is met at its first bit.
        """
        if self._is_proved(rows, data, starts, values):
            return np.ones(len(rows), np.bool_)
        if len(rows) <= 1:
            return np.zeros(len(rows), np.bool_)
        # One row spoils those after it.
        middle = len(rows) // 2
        parts = (slice(None, middle), slice(middle, None))
        halves = [self._proved(rows[one], data, starts[one], values[one]) for one in parts]
        return np.concatenate(halves)

    def _is_proved(self, rows: Numbers, data: Bytes, starts: Numbers, values: Integers) -> bool:
        ends = self._places[1:].tolist()
        if self._places[-1] < self._length:
            ends.append(self._length)
        for first, end in enumerate(ends):
            start = int(self._places[first])
            stretch = self._between(rows, first, first + 1, start, end)
            raw = gathered(data, starts + stretch.starts, stretch.width)
            try:
                found = stretch.values(raw)
            except (ValueError, RuntimeError):
                return False
            if not stretch.is_joined or not np.array_equal(found, values[:, start:end]):
                return False
        return True

    def _between(self, rows: Numbers, first: int, last: int, start: int, stop: int) -> Stretch:
        """From one place to another; *last* may be one past the last place: the row's end."""
        begins = self._bits[rows, first].astype(np.int64)
        lengths = None
        end = self._length
        if last < len(self._places):
            lengths = self._bits[rows, last] - begins
            end = int(self._places[last])
        base = int(self._places[first])
        return Stretch(
            self._rice,
            self._values[rows, first],
            begins,
            lengths,
            pixels=end - base,
            inside=slice(start - base, stop - base),
        )


class Stretch:
    """The same pixels of some rows."""

    def __init__(
        self,
        rice: Rice,
        before: Integers,
        begins: Numbers,
        lengths: Numbers | None,
        *,
        pixels: int,
        inside: slice,
    ) -> None:
        """*pixels* of each row, of which those *inside* are wanted, follow the value *before*.

        They begin at the bit *begins* of their tile and have so many bits as *lengths* says;
        None where that is not known, because they end with the row and within a block.
        """
        self.starts = begins >> 3
        """First byte in the tile for each row."""
        self._rice = rice
        self._before = before
        self._shifts = (begins & 7).astype(np.uint64)[:, None]
        self._lengths = lengths
        self._pixels = pixels
        self._inside = inside
        if lengths is None:
            bits = -(-pixels // rice.block) * rice.header_bits + pixels * 8 * rice.dtype.itemsize
        else:
            bits = int(lengths.max(initial=0)) + rice.header_bits + 1 + rice.block
        self._words = -(-bits // _WORD)
        self.width = 8 * (self._words + 1)
        """Bytes wanted of each row; those behind its end may be anything."""
        self.is_joined = True
        """After `values`: whether the block behind each row came out as it was meant."""

    def values(self, raw: Bytes) -> Integers:
        """The values of the pixels; *raw* has a row of `width` bytes for each row.

        Raises ValueError or RuntimeError where they cannot be decoded.
        """
        words = raw.view(">u8").astype(np.uint64)
        stream = words[:, :-1] << self._shifts
        # Two steps, because a shift by the whole word is none.
        stream |= words[:, 1:] >> np.uint64(1) >> (np.uint64(_WORD - 1) - self._shifts)
        if self._lengths is None:
            return self._one_by_one(stream)
        return self._joined(stream, self._lengths)

    def _joined(self, stream: Words, lengths: Numbers) -> Integers:
        rice, words = self._rice, self._words
        count = len(stream)
        self._put_blocks_between(stream, lengths)
        guard = -(-rice.guard // 8)
        joined = np.empty(1 + count * words + guard, ">u8")
        joined[0] = 0
        joined[1 : 1 + count * words].reshape(count, words)[...] = stream
        joined[1 + count * words :] = _ALL
        decoded: Integers = np.empty((count, self._pixels + rice.block), rice.dtype)
        data = joined.view(np.uint8)[8 - rice.dtype.itemsize : len(joined) * 8 - 8 * guard]
        rice.fill(data.data, decoded.reshape(-1))
        ends = np.zeros(count, rice.dtype)
        ends[1:] = decoded[:-1, -1]
        fillings = _WORD * words - lengths - rice.header_bits - rice.block
        self._look_at_blocks_between(decoded, fillings)
        part = decoded[:, self._inside]
        part += (self._before - ends)[:, None]
        return part

    def _put_blocks_between(self, stream: Words, lengths: Numbers) -> None:
        """Behind the bits of each row a block of differences, the first of any size, then zeros.

        It says that its differences are coded by as many zeros as they are, and a one.
        """
        rice, words = self._rice, self._words
        shortest = int(lengths.min(initial=words * _WORD)) // _WORD
        left = lengths[:, None] - _WORD * np.arange(shortest, words)
        kept = left.clip(0, _WORD).astype(np.uint64)
        half = kept >> np.uint64(1)
        stream[:, shortest:] &= ~(_ALL >> half >> (kept - half))
        one = lengths + (rice.header_bits - 1)
        bit = np.uint64(1) << (np.uint64(_WORD - 1) - (one % _WORD).astype(np.uint64))
        stream[np.arange(len(stream)), one // _WORD] |= bit
        whole, rest = divmod(rice.block, _WORD)
        if whole:
            stream[:, words - whole :] = _ALL
        if rest:
            stream[:, words - whole - 1] |= np.uint64(2**rest - 1)

    def _look_at_blocks_between(self, decoded: Integers, fillings: Numbers) -> None:
        between = decoded[:, self._pixels - 1 :]
        jumps = between[:, 1] - between[:, 0]
        meant = np.where(fillings & 1, ~(fillings >> 1), fillings >> 1).astype(decoded.dtype)
        self.is_joined = bool((jumps == meant).all() and (between[:, 1:] == between[:, 1:2]).all())

    def _one_by_one(self, stream: Words) -> Integers:
        """The rest of rows that end within a block: no other row can follow them."""
        rice = self._rice
        count, words = stream.shape
        guard = -(-rice.guard // 8)
        single = np.empty(1 + words + guard, ">u8")
        single[1 + words :] = _ALL
        skipped = 8 - rice.dtype.itemsize
        data = single.view(np.uint8)[skipped : (1 + words) * 8].data
        # The low bytes of a word are the last ones.
        before = self._before.view(f"u{rice.dtype.itemsize}").tolist()
        row: Integers = np.empty(self._inside.stop, rice.dtype)
        decoded: Integers = np.empty((count, self._inside.stop - self._inside.start), rice.dtype)
        for number in range(count):
            single[0] = before[number]
            single[1 : 1 + words] = stream[number]
            rice.fill(data, row)
            decoded[number] = row[self._inside]
        return decoded


def gathered(data: Bytes, starts: Numbers, width: int) -> Bytes:
    """A row of *width* bytes of *data* from each of *starts*; behind its end is anything."""
    missing = int(starts.max(initial=0)) + width - len(data)
    if missing > 0:
        data = np.pad(data, (0, missing), constant_values=255)
    # Row i of this view is what begins at byte i.
    rows: Bytes = np.ndarray((len(data) - width + 1, width), np.uint8, data, 0, (1, 1))
    return rows[starts]


def _first_values(rice: Rice, data: Bytes, starts: Numbers) -> Integers:
    """The value that each tile begins with."""
    raw = gathered(data, starts, rice.dtype.itemsize)
    return raw.view(rice.dtype.newbyteorder(">")).astype(rice.dtype).reshape(-1)


def _block_begins(rice: Rice, data: Bytes, tiles: Numbers, values: Integers) -> Numbers:
    """The bit at which each block of whole length begins, and the one behind them, in each row.

    Bits are counted from the beginning of *data*, where *tiles* says where tiles begin;
    *values* are those of whole blocks. How a block is coded, it says itself; how long that
    is, follows from the values.
    """
    block, width = rice.block, rice.dtype.itemsize
    count, blocks = len(values), values.shape[1] // rice.block
    differences = np.empty_like(values)
    differences[:, 1:] = values[:, 1:] - values[:, :-1]
    differences[:, 0] = values[:, 0] - _first_values(rice, data, tiles >> 3)
    signed = differences.view(f"i{width}")
    # Positive ones become even numbers, negative ones odd ones.
    mapped = ((signed << 1) ^ (signed >> (8 * width - 1))).view(f"u{width}")
    mapped = mapped.reshape(count, blocks, block)
    begins = np.empty((count, blocks + 1), np.int64)
    begins[:, 0] = tiles + 8 * width
    last = len(data) - 2
    for number in range(blocks):
        at = begins[:, number]
        byte = np.minimum(at >> 3, last)
        pair = (data[byte].astype(np.int64) << 8) | data[byte + 1]
        split = ((pair >> (16 - rice.header_bits - (at & 7))) & (2**rice.header_bits - 1)) - 1
        shift = split.clip(0, 8 * width - 1).astype(mapped.dtype)[:, None]
        zeros = (mapped[:, number] >> shift).sum(axis=1, dtype=np.int64)
        bits = zeros + block * (1 + split)
        bits = np.where(split < 0, 0, np.where(split == rice.plain_split, 8 * width * block, bits))
        begins[:, number + 1] = at + rice.header_bits + bits
    return begins
