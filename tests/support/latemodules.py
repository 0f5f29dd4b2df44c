"""A worker that also tells what it has loaded since it was ready; run as a program.

Its argument is the descriptor of the socket that it listens on. Nothing is planned at the start,
so that requests alone load modules.
"""

from __future__ import annotations

import gc
import socket
import sys
import threading
from typing import TYPE_CHECKING

import uvicorn
from starlette.responses import JSONResponse
from starlette.routing import Route

import soda_service.app
from soda_service.config import load_settings
from soda_service.server import uvicorn_config

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request

_before: set[str] = set()


def worker() -> Starlette:
    """The application, once it has loaded all that it loads by itself."""
    app = soda_service.app.application()
    for thread in threading.enumerate():
        if thread.name == "loading":
            thread.join()
    app.router.routes[:0] = [Route("/begin", _begin), Route("/loaded", _loaded)]
    return app


async def _begin(_request: Request) -> JSONResponse:
    _before.update(sys.modules)
    return JSONResponse({"collects": gc.isenabled(), "frozen": gc.get_freeze_count()})


async def _loaded(_request: Request) -> JSONResponse:
    return JSONResponse(sorted(sys.modules.keys() - _before))


def main() -> None:
    """Serve."""
    vars(soda_service.app)["warm_up"] = lambda _services: None
    listener = socket.socket(fileno=int(sys.argv[1]))
    config = uvicorn_config(load_settings(), __name__ + ":worker")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
