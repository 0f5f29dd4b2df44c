"""Requests for spans of an object, several at one time, within the room that all readings share.

A *flight* is a request that has room: what it gives counts until it is where it belongs.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from soda_service.storage.blockcache import BLOCK_BYTES
from soda_service.storage.flight import SMALL_REQUEST
from soda_service.storage.spans import pieces

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from soda_service.storage.blockcache import Part
    from soda_service.storage.objectstore import Put
    from soda_service.storage.remoteplace import RemoteLimits
    from soda_service.storage.spans import Span
    from soda_service.storage.stores import Way

    Ask = Callable[[Span], list[Part]]
    """Makes a request; gives what is still to be put where it belongs."""


class _Flight(NamedTuple):
    """A request that has room."""

    size: int
    parts: Future[list[Part]]


class Fetching:
    """The requests of readings, made some at a time; safe to use from several threads."""

    __slots__ = ("_limits", "_way")

    def __init__(self, limits: RemoteLimits, way: Way) -> None:
        """*way* is that of all sources of this process."""
        self._limits = limits
        self._way = way

    def fetch(self, wanted: list[Span], ask: Ask, put: Put, keep: Put) -> None:
        """Asks for *wanted*, some at a time, and gives *put* and *keep* what *ask* gives."""
        flights: deque[_Flight] = deque()
        if len(wanted) == 1 and wanted[0].stop - wanted[0].start <= SMALL_REQUEST:
            _land(ask(wanted[0]), put, keep)
            return
        try:
            for span in wanted:
                size = span.stop - span.start
                if self._make_room(size, flights, put, keep):
                    parts = self._way.pool.submit(ask, span)
                    flights.append(_Flight(size, parts))
                    continue
                for small in pieces([span], most=SMALL_REQUEST, grain=BLOCK_BYTES):
                    _land(ask(small), put, keep)
            while flights:
                self._land_first(flights, put, keep)
        finally:
            for flight in flights:
                flight.parts.add_done_callback(partial(self._end, flight.size))
                flight.parts.cancel()

    def _make_room(self, size: int, flights: deque[_Flight], put: Put, keep: Put) -> bool:
        """Takes room for *size* more bytes, *flights* landing first where need be.

        False where others have all of it and a small request has to do.
        """
        limits, room = self._limits, self._way.flying
        while True:
            flying = sum(flight.size for flight in flights)
            fits = flying + size <= limits.flight_bytes and len(flights) < limits.parallel
            if fits and room.take_at_once(size):
                return True
            if not flights:
                return size > SMALL_REQUEST and room.take(size)
            self._land_first(flights, put, keep)

    def _land_first(self, flights: deque[_Flight], put: Put, keep: Put) -> None:
        flight = flights[0]
        _land(flight.parts.result(), put, keep)
        flights.popleft()
        self._way.flying.give_back(flight.size)

    def _end(self, size: int, _parts: Future[list[Part]]) -> None:
        """Of a flight that nobody waits for."""
        self._way.flying.give_back(size)


def _land(parts: list[Part], put: Put, keep: Put) -> None:
    """Each part is let go of as soon as both have it."""
    parts.reverse()
    while parts:
        part = parts.pop()
        keep(part.start, part.content)
        put(part.start, part.content)
