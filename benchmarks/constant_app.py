"""The service, and beside it constant bytes behind the same server and middleware."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import uvicorn
from starlette.responses import Response
from starlette.routing import Route

from soda_service.app import create_app
from soda_service.config import load_settings

if TYPE_CHECKING:
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


def main() -> None:
    """Serve on the port that the first argument names."""
    app = create_app(load_settings())
    app.router.routes.insert(0, Route("/constant/{size:int}", Constant()))
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
    )


if __name__ == "__main__":
    main()
