"""The service, and beside it constant bytes behind the same server and middleware."""

from __future__ import annotations

import sys
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


def with_constant_bytes() -> Starlette:
    """The application that is served to everybody, with one more path, which is tried first."""
    app = application()
    app.router.routes.insert(0, Route("/constant/{size:int}", Constant()))
    return app


def main() -> None:
    """Serve on the port that the first argument names."""
    settings = load_settings(port=int(sys.argv[1]))
    uvicorn.Server(uvicorn_config(settings, "constant_app:with_constant_bytes")).run()


if __name__ == "__main__":
    main()
