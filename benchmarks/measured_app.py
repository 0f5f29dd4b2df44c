"""The service and what its benchmarks ask beside it.

That is constant bytes behind the same server and middleware, and for how long the event loop
was held.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

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
    """The longest time, in milliseconds, that the loop kept a timer waiting since it was asked.

    The timer runs from the first question on.
    """

    _TICK = 0.001

    def __init__(self) -> None:
        self._longest = 0.0
        self._due: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the number, and begin anew."""
        longest, self._longest = self._longest, 0.0
        if self._due is None:
            self._wait()
        await Response(f"{longest * 1e3:.3f}")(scope, receive, send)

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._due = time.perf_counter() + self._TICK
        loop.call_later(self._TICK, self._look)

    def _look(self) -> None:
        assert self._due is not None
        self._longest = max(self._longest, time.perf_counter() - self._due)
        self._wait()


def measured() -> Starlette:
    """The application that is served to everybody, with more paths.

    They come after the busiest one, which so costs what it costs without them.
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
