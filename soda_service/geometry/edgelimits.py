"""How far an edge reaches in pixels by samples of it, and the box that follows.

Limits are the least x and y, the greatest x and y, and the doubt about them, in pixels. Between
samples the edge is smooth; how far it strays there, and so the doubt, is told by differences of
second order, for circles by what is left when an ellipse is taken away.
"""

from __future__ import annotations

from math import floor, hypot, isfinite
from typing import TYPE_CHECKING, Final

import numpy as np

from .edgesamples import BESIDE, ELLIPSE, ELLIPSE_BACK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Found = tuple[tuple[int, int], tuple[int, int]]
    """First pixel of a box, and one past the last."""

DOUBT: Final = 1e-5
"""Pixels: an edge of the box that comes closer to an edge between pixels is in doubt, whatever
else makes it doubtful."""


def circle_limits(pixels: Floats) -> list[float] | None:
    """The limits of the curve through the samples, which is an ellipse and a little more."""
    ellipse = pixels @ ELLIPSE
    rest = np.maximum.reduce(np.abs(pixels - ellipse @ ELLIPSE_BACK), axis=1).tolist()
    (x, x_cos, x_sin), (y, y_cos, y_sin) = ellipse.tolist()
    half_x, half_y = hypot(x_cos, x_sin), hypot(y_cos, y_sin)
    if not isfinite(half_x + half_y):
        return None
    if max(rest) <= DOUBT:
        # Between samples a smooth rest hardly grows.
        return [x - half_x, y - half_y, x + half_x, y + half_y, 2.0 * max(rest)]
    if rest[0] > 0.01 * half_x or rest[1] > 0.01 * half_y:
        return None  # the greatest sample might not be next to the greatest point
    # Through a greatest sample and its neighbours passes one wave of the circle's own length.
    lows, highs = pixels.argmin(axis=1).tolist(), pixels.argmax(axis=1).tolist()
    rows = pixels.tolist()
    extremes = [
        _crest(row, at, side)
        for side, places in ((-1.0, lows), (1.0, highs))
        for row, at in zip(rows, places, strict=True)
    ]
    return [*extremes, 2e-3 * max(rest)]


def _crest(samples: list[float], at: int, side: float) -> float:
    before, here, after = samples[at - 1], samples[at], samples[(at + 1) % len(samples)]
    along = (2.0 * here - before - after) / (2.0 * (1.0 - BESIDE[0]))
    across = (after - before) / (2.0 * BESIDE[1])
    return here - along + side * hypot(along, across)


def chain_limits(pixels: Floats, parts: int) -> list[float]:
    """The limits of a closed chain; the doubt is how far it may bulge between samples."""
    steps = pixels[:, 1:] - pixels[:, :-1]
    bends = steps[:, 1:] - steps[:, :-1]
    # At the corners there is no bend but a turn; all others count.
    bends[:, parts - 1 :: parts] = 0.0
    # An eighth would do if each side were a parabola.
    bulge = 0.25 * max(float(bends.max()), -float(bends.min()))
    least, most = np.minimum.reduce(pixels, axis=1), np.maximum.reduce(pixels, axis=1)
    return [*least.tolist(), *most.tolist(), bulge]


def is_inside(limits: list[float], naxis: tuple[int, int]) -> bool:
    """Whether the limits, but for their doubt, lie inside the image; not where one is NaN."""
    least_x, least_y, most_x, most_y, _ = limits
    columns, rows = naxis
    return least_x > -0.5 and least_y > -0.5 and most_x < columns - 0.5 and most_y < rows - 0.5


def box_of(limits: list[float], naxis: tuple[int, int]) -> Found | None:
    """The box of the limits; None where they are in doubt."""
    least_x, least_y, most_x, most_y, doubt = limits
    sure = 0.5 - doubt
    if not sure >= 0.25:  # nor where it is NaN
        return None
    x, y, end_x, end_y = (
        floor(least_x + 0.5), floor(least_y + 0.5), floor(most_x + 1.5), floor(most_y + 1.5)
    )  # fmt: skip
    # Each edge lies in one pixel with all its doubt.
    if (
        abs(least_x - x) <= sure
        and abs(least_y - y) <= sure
        and abs(most_x + 1.0 - end_x) <= sure
        and abs(most_y + 1.0 - end_y) <= sure
        and x >= 0 <= y
        and end_x <= naxis[0]
        and end_y <= naxis[1]
    ):
        return (x, y), (end_x, end_y)
    return None
