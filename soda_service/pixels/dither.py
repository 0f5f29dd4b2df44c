"""Quantised floats restored: integers times a scale, less the dither that was added to them.

Computed in double precision and in the order of the standard, so that the values are those
of other readers to the bit. Source: FITS 4.0 §10.2 (quantisation of floating-point data) and
appendix I (the random numbers).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

EXACT_ZERO: Final = -2_147_483_646
"""What stands for 0.0 itself where the method is SUBTRACTIVE_DITHER_2."""

_COUNT: Final = 10_000
"""Random numbers, used over and over again."""
_MULTIPLIER: Final = 16_807
_MODULUS: Final = 2**31 - 1
_SPREAD: Final = np.float32(500)
"""A tile begins at one of the first so many random numbers."""


def restored(
    stored: NDArray[np.generic],
    scale: Floats | float,
    zero: Floats | float,
    dither: Floats | None,
) -> Floats:
    """The floats of the integers *stored*; undefined pixels are treated like others.

    Who calls it sees to it that numpy does not warn.
    """
    values: Floats = stored.astype(np.float64)
    if dither is not None:
        values -= dither
        values += 0.5
    values *= scale
    values += zero
    return values


def dither(seed: int, start: int, stop: int) -> Floats:
    """The random numbers of the pixels *start* to *stop* of a tile; not to be written to.

    *seed* is the tile's: its row (from 0) and ZDITHER0 (from 1), added, less one.
    """
    numbers, beginnings = _random_numbers()
    seed %= _COUNT
    pieces = []
    while stop > 0:
        beginning = beginnings[seed]
        length = _COUNT - beginning
        if start < length:
            pieces.append(numbers[beginning + max(start, 0) : beginning + min(stop, length)])
        # At their end the tile goes on with the numbers that the next seed begins at.
        start -= length
        stop -= length
        seed = (seed + 1) % _COUNT
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def dithers(seeds: NDArray[np.int64], start: int, stop: int) -> Floats:
    """What `dither` gives for each of *seeds*, a row of it each."""
    numbers, beginnings = _random_numbers()
    length = stop - start
    places = np.array(beginnings)[seeds % _COUNT] + start
    if length > _COUNT:
        return np.stack([dither(seed, start, stop) for seed in seeds.tolist()])
    # Row i of this view is what begins at number i.
    runs: Floats = np.ndarray((_COUNT - length + 1, length), float, numbers, 0, (8, 8))
    noise: Floats = runs[np.minimum(places, _COUNT - length)]
    for row in np.flatnonzero(places > _COUNT - length).tolist():
        noise[row] = dither(int(seeds[row]), start, stop)
    return noise


@cache
def _random_numbers() -> tuple[Floats, list[int]]:
    """All of them, and for each seed the place of the first one that its tile uses."""
    numbers = np.empty(_COUNT, np.float32)
    seed = 1
    for number in range(_COUNT):
        seed = seed * _MULTIPLIER % _MODULUS
        numbers[number] = seed / _MODULUS
    return numbers.astype(np.float64), (numbers * _SPREAD).astype(int).tolist()
