"""The web application: routes, middleware, and the services behind them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from soda_service.config import load_settings
from soda_service.discovery.urls import Service
from soda_service.errors import ConfigurationError
from soda_service.loading import begin_loading
from soda_service.web import urls
from soda_service.web.atonce import AT_ONCE, AtOnce
from soda_service.web.coverage import CoverageEndpoint
from soda_service.web.datalink import LinksEndpoint
from soda_service.web.errors import REFUSE_KEY, error_response, refuse
from soda_service.web.files import FilesEndpoint
from soda_service.web.log import AccessLog, configure_logging
from soda_service.web.middleware import Cors, Failures, RequestLog
from soda_service.web.page import PageEndpoint
from soda_service.web.services import Services
from soda_service.web.showcase import warm_up
from soda_service.web.sia import QueryEndpoint
from soda_service.web.soda import SyncEndpoint
from soda_service.web.vosi import (
    AvailabilityEndpoint,
    CapabilitiesEndpoint,
    ExamplesEndpoint,
    HealthEndpoint,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from soda_service.config import Settings

_SWITCH_SECONDS = 0.0002
"""After which a thread that computes hands the interpreter over; Python's own is 25 times that.

Each callback of uvloop takes the interpreter for itself, so that one turn of the loop waits for
it several times.
"""

_READ = ("GET", "HEAD")
_ASK = ("GET", "HEAD", "POST")


def application() -> Starlette:
    """The application as the environment describes it, in a process that is set up for it.

    For servers that start workers of their own: `uvicorn --factory soda_service.app:application`.
    """
    settings = load_settings()
    configure_logging(settings)
    _end_with_parent()
    sys.setswitchinterval(_SWITCH_SECONDS)
    begin_loading()
    return create_app(settings, make_services=_following_services)


def create_app(
    settings: Settings,
    *,
    routes: Sequence[BaseRoute] = (),
    make_services: Callable[[Settings], Services] = Services.of,
) -> Starlette:
    """The application; its services are made when it starts and closed when it stops.

    *routes* are served beside its own, behind the same middleware.
    """

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, object]]:
        services = make_services(settings)
        warming = services.threads.submit(warm_up, services)
        try:
            yield {
                "services": services,
                REFUSE_KEY: _within(middleware, refuse),
                AT_ONCE: at_once,
            }
        finally:
            warming.cancel()
            services.close()

    sync = SyncEndpoint()
    log = partial(
        RequestLog, proxies=urls.Proxies(settings.proxy_networks), log=AccessLog(settings)
    )
    cors = partial(Cors, origins=settings.cors_origins)
    middleware = [Middleware(log), Middleware(cors), Middleware(Failures)]
    at_once = AtOnce(urls.SYNC, sync, log=log(sync), cors=cors(sync))
    app = _Application(
        routes=[*_routes(sync), *routes],
        middleware=middleware,
        # All else is answered by `Failures`: Starlette would make a second error of one that
        # comes when the answer has begun.
        exception_handlers={HTTPException: _answer_error},
        lifespan=lifespan,
    )
    # A redirect from `…/` would name the host that the request claims; such a path is unknown.
    app.router.redirect_slashes = False
    return app


def _following_services(settings: Settings) -> Services:
    """Those of a process that makes no catalog, and goes over to one that is new.

    Raises ConfigurationError, also where there is no catalog or an old one.
    """
    # A worker that made one would serve nothing, beside others that serve what was there.
    services = Services.of(settings, make=False)
    services.store.follow()
    return services


class _Application(Starlette):
    """Says in a line what is wrong with the settings or the catalog when it is to start."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As Starlette's own, which tells the server of such an error by a traceback."""
        if scope["type"] == "lifespan":
            send = partial(_send_lifespan, send)
        await super().__call__(scope, receive, send)


async def _send_lifespan(send: Send, message: Message) -> None:
    if message["type"] == "lifespan.startup.failed":
        error = sys.exc_info()[1]  # it is being handled by who sends this
        if isinstance(error, ConfigurationError):
            message = {**message, "message": str(error)}
    await send(message)


def _end_with_parent() -> None:
    """Have a worker end when whoever started it is gone: killed, say, and with it the port's owner.

    Otherwise it would go on serving, and nobody would replace or stop it.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _within(middleware: Sequence[Middleware], app: ASGIApp) -> ASGIApp:
    """*app* within *middleware*, the outermost first, as Starlette puts it around the router."""
    for kind, args, kwargs in reversed(middleware):
        app = kind(app, *args, **kwargs)
    return app


def _routes(sync: SyncEndpoint) -> list[BaseRoute]:
    """Every path, the busiest first."""
    return [
        Route(urls.SYNC, sync, methods=_ASK),
        Route(urls.LINKS, LinksEndpoint(), methods=_ASK),
        Route(urls.QUERY, QueryEndpoint(), methods=_ASK),
        Route(urls.FILES + "{path:path}", FilesEndpoint(), methods=_READ),
        Route(urls.COVERAGE + "{collection}", CoverageEndpoint(), methods=_READ),
        Route(urls.COVERAGE + "{collection}/{document}", CoverageEndpoint(), methods=_READ),
        Route(urls.HEALTH, HealthEndpoint(), methods=_READ),
        Route(urls.EXAMPLES, ExamplesEndpoint(), methods=_READ),
        *(
            Route(urls.CAPABILITIES[one], CapabilitiesEndpoint(one), methods=_READ)
            for one in Service
        ),
        *(Route(urls.AVAILABILITY[one], AvailabilityEndpoint(), methods=_READ) for one in Service),
        Route("/", PageEndpoint(), methods=_READ),
    ]


async def _answer_error(request: Request, error: Exception) -> Response:
    return error_response(error, request.scope)
