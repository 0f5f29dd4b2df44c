"""VOSI 1.1 documents, the DALI examples, and the liveness check."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from soda_service.discovery import vosi
from soda_service.errors import SodaServiceError
from soda_service.web.querystrings import cutout_parameters
from soda_service.web.responses import http_date, send_whole
from soda_service.web.showcase import showpieces_soon

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Receive, Scope, Send

    from soda_service.catalog.store import CatalogStore
    from soda_service.discovery.urls import Service
    from soda_service.web.services import Services
    from soda_service.web.showcase import Showpiece
    from soda_service.web.urls import SiteUrls

_SYNC_CAPABILITY: Final = "ivo://ivoa.net/std/SODA#sync-1.0"

_log = logging.getLogger(__name__)


class CapabilitiesEndpoint:
    """Says what a service can do; an ASGI application."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the document; it last changed when this process read its templates."""
        del receive
        services: Services = scope["state"]["services"]
        body = vosi.capabilities(self._service, services.urls.of(scope))
        since = int(services.up_since.timestamp()) * 1_000_000_000
        headers = [
            (b"content-type", vosi.MEDIA_TYPE.encode("ascii")),
            (b"last-modified", http_date(since)),
        ]
        await send_whole(scope, send, headers, body)


class AvailabilityEndpoint:
    """Says whether the service works, having tried it; an ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask the catalog something, and send the document."""
        del receive
        services: Services = scope["state"]["services"]
        try:
            fault, count = await services.threads.call(_asked, services.store)
        except Exception as error:  # noqa: BLE001 - VOSI 1.1 §3.2: whatever is wrong is the answer
            is_ours = isinstance(error, SodaServiceError)
            _log.warning("the catalog does not answer: %s", error, exc_info=not is_ours)
            is_available, note = False, "The catalog does not answer."
        else:
            plural = "s" if count != 1 else ""
            is_available, note = True, f"{count} dataset{plural} can be found."
            if not count:
                # It answers every request as it should; there is nothing to answer with.
                note = "The catalog is empty: nothing can be found or cut before an ingest."
            if fault is not None:
                is_available, note = False, f"{fault} What was open of it is still served."
        body = vosi.availability(
            is_available=is_available, up_since=services.up_since, notes=[note]
        )
        headers = [(b"content-type", vosi.MEDIA_TYPE.encode("ascii"))]
        await send_whole(scope, send, headers, body)


class ExamplesEndpoint:
    """Sends examples of cutouts that work; an ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Make them of what the catalog holds now."""
        del receive
        services: Services = scope["state"]["services"]
        urls = services.urls.of(scope)
        shown = await showpieces_soon(services)
        body = await services.threads.call(_examples, services, urls, shown)
        headers = [(b"content-type", vosi.EXAMPLES_MEDIA_TYPE.encode("ascii"))]
        await send_whole(scope, send, headers, body)


class HealthEndpoint:
    """Says that this process answers, and asks nothing of anybody; an ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send two letters."""
        del receive
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
        await send_whole(scope, send, headers, b"ok\n")


def _asked(store: CatalogStore) -> tuple[str | None, int]:
    """What is wrong with the catalog's file, and how many datasets it has; blocks."""
    return store.fault(), store.count()


def _examples(services: Services, urls: SiteUrls, shown: Sequence[Showpiece]) -> bytes:
    examples = [
        vosi.Example(
            id=f"cutout-{number}",
            name=f"A circle out of {one.collection.title}",
            description=(
                f"Every image of one dataset of the collection {one.collection.name}, "
                f"cut to what lies within {one.circle.radius} degrees of a place in it."
            ),
            capability=_SYNC_CAPABILITY,
            parameters=cutout_parameters(one.identifier, circle=one.circle, detail=None),
            url=urls.sync(one.identifier, circle=one.circle),
        )
        for number, one in enumerate(shown, start=1)
    ]
    return vosi.examples(examples, urls=urls, settings=services.settings)
