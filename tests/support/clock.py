"""A server whose connections go by a clock that a test moves."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from soda_service.web.connection import LimitedHttp

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

_MOST_SECONDS: Final = 60.0
"""By the wall, after which nothing will happen any more."""


@dataclass(eq=False, slots=True)
class _Timer:
    """A call at a time of the clock."""

    time: float
    call: Callable[[], object]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Clock:
    """Stands still until it is moved, and with it all timers of the connections of a server.

    `running(…, protocol=clock.protocol)` is a server that goes by it. To a connection it is the
    event loop: what is no matter of time the real one does.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._timers: list[_Timer] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._understood = 0
        self._changes = threading.Condition()
        self.protocol: Final = _going_by(self)

    def say(self, connection: socket.socket, *data: bytes) -> None:
        """Send *data*, and wait until the server has understood them.

        Nothing that was sent to it in another way may be under way.
        """
        whole = b"".join(data)
        with self._changes:
            end = self._understood + len(whole)
        connection.sendall(whole)
        with self._changes:
            assert self._changes.wait_for(lambda: self._understood >= end, _MOST_SECONDS)

    def move(self, seconds: float) -> None:
        """Have time go by, and all happen that is to happen in it; a client must be there."""
        with self._changes:
            assert self._changes.wait_for(lambda: self._loop is not None, _MOST_SECONDS)
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self._move(seconds), self._loop).result(_MOST_SECONDS)

    async def _move(self, seconds: float) -> None:
        end = self._now + seconds
        while due := [one for one in self._timers if one.time <= end]:
            first = min(due, key=lambda one: one.time)
            self._timers.remove(first)
            self._now = first.time
            if not first.is_cancelled:
                first.call()
                await asyncio.sleep(0)  # for what follows from it
        self._now = end

    def is_of(self, loop: asyncio.AbstractEventLoop) -> None:
        """*loop* does what is no matter of time."""
        with self._changes:
            self._loop = loop
            self._changes.notify_all()

    def understood(self, size: int) -> None:
        """So many bytes of a client's have been dealt with."""
        with self._changes:
            self._understood += size
            self._changes.notify_all()

    def time(self) -> float:
        """Seconds that have gone by, as the event loop is asked for them."""
        return self._now

    def call_later(self, seconds: float, call: Callable[..., object], *args: object) -> _Timer:
        """A call when they will have gone by, as the event loop is asked for it."""
        timer = _Timer(self._now + seconds, lambda: call(*args))
        self._timers.append(timer)
        return timer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


def _going_by(clock: Clock) -> type[LimitedHttp]:
    class Protocol(LimitedHttp):
        """Has the clock for its event loop."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
            clock.is_of(self.loop)
            self.loop = cast("asyncio.AbstractEventLoop", clock)
            super().connection_made(transport)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            clock.understood(len(data))

    return Protocol
