"""Clocks that a test puts ahead, for what happens after more or less time than a test has."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True)
class LeapingTime:
    """In the place of the module `time` of what only asks for `monotonic`."""

    ahead: float = 0.0
    """Seconds by which it is later than it is."""

    def monotonic(self) -> float:
        """Seconds, as ever, and those ahead."""
        return time.monotonic() + self.ahead


@dataclass(slots=True)
class StandingTime:
    """The same, whose time goes by only where a test says so."""

    now: float = 1000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now
