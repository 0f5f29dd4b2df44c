"""The shortcut to {sync} leads to what the router leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.service import running

from soda_service.web.shortcut import Shortcut

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


def _saying(what: bytes) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await receive()
            return
        headers = [(b"content-length", b"%d" % len(what))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": what})

    return app


class _Mounted:
    """Under a prefix, as behind a proxy that leaves it in the path."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "root_path": self._root_path}, receive, send)


@pytest.mark.parametrize("root_path", ["", "/images"])
def test_one_path_and_its_methods(root_path: str) -> None:
    """All else goes on as before."""
    short = Shortcut(_saying(b"router"), "/soda/sync", ("GET", "POST"), _saying(b"short"))
    with running(_Mounted(short, root_path)) as live:

        def said(method: str, path: str) -> bytes:
            return live.client.request(method, live.url(path)).content

        assert said("GET", f"{root_path}/soda/sync?ID=1") == b"short"
        assert said("POST", f"{root_path}/soda/sync") == b"short"
        assert said("PUT", f"{root_path}/soda/sync") == b"router"
        for path in ("/soda/sync/", "/soda", "/soda/sync2", "/x/soda/sync", "/"):
            assert said("GET", root_path + path) == b"router"
        assert said("GET", "/elsewhere/soda/sync") == b"router"


def test_it_is_in_the_service() -> None:
    """Where the middleware is, and not where refusals are answered."""
    from soda_service.app import create_app
    from soda_service.config import Settings

    kinds: list[object] = [one.cls for one in create_app(Settings()).user_middleware]
    assert kinds[-1] is Shortcut
