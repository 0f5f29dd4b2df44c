"""The bound on what one search may cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from soda_service.errors import UsageError

if TYPE_CHECKING:
    from .skyregion import SkyRegion

_MOST: Final = 12_000_000
"""Samples after which a search is given up: half a microsecond each for most maps, several for
distorted ones."""


class Effort:
    """Counts samples of the map that are compared with a region."""

    def __init__(self, region: SkyRegion) -> None:
        self._dearness = region.dearness
        self._left = float(_MOST)

    def spend(self, samples: int) -> None:
        """Count some more; raises UsageError where they are too many."""
        self._left -= samples * self._dearness
        if self._left < 0.0:
            raise UsageError(
                "the shape is too intricate for this image: finding its pixels was given up; "
                "a simpler or a larger one may be found"
            )
