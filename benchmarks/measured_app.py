"""The service and what its benchmarks ask beside it.

That is constant bytes behind the same server and middleware, and for how long the event loop
was held.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import uvicorn
from starlette.responses import Response
from starlette.routing import Route

from soda_service.app import application
from soda_service.config import load_settings
from soda_service.server import uvicorn_config

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import Receive, Scope, Send


class Constant:
    """As many zero bytes as the path says, from one object."""

    def __init__(self) -> None:
        self._bodies: dict[int, bytes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the bytes."""
        size = int(scope["path_params"]["size"])
        body = self._bodies.setdefault(size, bytes(size))
        response = Response(body, media_type="application/fits")
        await response(scope, receive, send)


class Held:
    """When a timer of the loop was late since it was asked, and how much of that was ours.

    The answer has a line for each time, up to `_MOST`: when it was due and when it came, as
    `time.perf_counter` has it, and three numbers, all in seconds. The *whole* lateness is what a
    clock sees; it includes the time for which the loop could have run, but the kernel had given
    the core to somebody else. Without the thread's wait on a run queue (the second figure of
    `schedstat`) there remains what is ours *at least*: calls on the loop, pages that come from
    the disk, and the interpreter's lock, for none of which one waits on a run queue. But the core
    may have been given to another thread of this process, and the kernel does not say to which.
    Of the wait as much may be ours as those threads ran meanwhile: with it, it is ours *at most*.

    That is the figure for a bar. It is rather too large: on two cores a thread that ran beside
    an innocent wait counts too. When a hypervisor stopped the machine is the business of
    `standstill`.

    The timer runs from the first question on.
    """

    _TICK = 0.001
    _LATE = 0.0005
    """Less is not looked into, for looking takes some of it."""
    _MOST = 10_000

    def __init__(self) -> None:
        self._clocks: Clocks | None = None
        self._set: Moment | None = None
        self._late: list[tuple[float, float, Hold]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the numbers, and begin anew."""
        late, self._late = self._late, []
        if self._clocks is None:
            self._clocks = Clocks()
            self._wait(self._clocks)
        lines = [f"{due} {came} {' '.join(map(str, hold))}" for due, came, hold in late]
        await Response("\n".join(lines))(scope, receive, send)

    def _wait(self, clocks: Clocks) -> None:
        self._set = clocks.moment()
        asyncio.get_running_loop().call_later(self._TICK, self._look, clocks)

    def _look(self, clocks: Clocks) -> None:
        assert self._set is not None
        late = time.perf_counter() - self._set.at - self._TICK
        if late > self._LATE and len(self._late) < self._MOST:
            now = clocks.moment()
            due = self._set.at + self._TICK
            self._late.append((due, now.at, hold_between(self._set, now, self._TICK)))
        self._wait(clocks)


class Hold(NamedTuple):
    """For how long the loop did not run though something was due; seconds. See `Held`."""

    whole: float
    at_most: float
    at_least: float


class Moment(NamedTuple):
    """What the clocks say; seconds."""

    queued: float
    """For which the loop's thread has waited for a core so far."""
    at: float
    others: dict[int, float]
    """For which each other thread of the process has run so far."""


class Clocks:
    """The clocks of the thread that makes it, and of the others of its process."""

    def __init__(self) -> None:
        self._thread = threading.get_native_id()
        self._schedstat = os.open(f"/proc/self/task/{self._thread}/schedstat", os.O_RDONLY)

    def moment(self) -> Moment:
        """Now."""
        queued = int(os.pread(self._schedstat, 64, 0).split()[1]) / 1e9
        return Moment(queued, time.perf_counter(), self._others())

    def _others(self) -> dict[int, float]:
        times = {}
        with os.scandir("/proc/self/task") as threads:
            for thread in (int(one.name) for one in threads):
                # One that has ended meanwhile has no clock any more.
                with suppress(OSError):
                    times[thread] = time.clock_gettime(~thread << 3 | _OF_A_THREAD)
        times.pop(self._thread, None)
        return times


_OF_A_THREAD = 6
"""In the number of a clock: that it is the CPU time of the thread that the rest names (Linux)."""


def hold_between(before: Moment, now: Moment, tick: float) -> Hold:
    """The hold that a timer met which was set at *before* to go off after *tick*.

    A wait for a core that was over when the timer was due did no harm. It cannot be told from a
    later one, so that as much as the *tick* excuses nothing.
    """
    late = now.at - before.at - tick
    queued = max(0.0, now.queued - before.queued - tick)
    others = sum(now.others[one] - before.others.get(one, 0.0) for one in now.others)
    return Hold(late, late - queued + min(queued, others), late - queued)


def measured() -> Starlette:
    """The application that is served to everybody, with more paths.

    They come after the busiest one.
    """
    app = application()
    app.router.routes[1:1] = [Route("/constant/{size:int}", Constant()), Route("/held", Held())]
    return app


def main() -> None:
    """Serve on the port that the first argument names."""
    settings = load_settings(port=int(sys.argv[1]))
    uvicorn.Server(uvicorn_config(settings, "measured_app:measured")).run()


if __name__ == "__main__":
    main()
