"""DataLink 1.1 {links}."""

from __future__ import annotations

from typing import TYPE_CHECKING

from soda_service.discovery import datalink
from soda_service.discovery.obscore import LINKS_MEDIA_TYPE
from soda_service.votable.document import MEDIA_TYPE
from soda_service.web.paramsource import parsed, read_params
from soda_service.web.responses import send_document

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from starlette.types import Receive, Scope, Send

    from soda_service.discovery.urls import Urls
    from soda_service.web.services import Services


class LinksEndpoint:
    """Answers what goes with datasets; an ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find the links in a thread, and send them.

        Where a file has changed, and must be read anew, that is long work.
        """
        services: Services = scope["state"]["services"]
        params = await read_params(scope, receive, limit=services.settings.request_bytes)
        asked = await parsed(params, params.links)
        urls = services.urls.of(scope)
        chunks = await services.threads.call(_answer_soon, services, urls, asked.identifiers)
        if chunks is None:
            chunks = await services.long_work.call(_answer, services, urls, asked.identifiers)
        # The asked type may gain a parameter (DALI 1.1 §3.4.3); text/xml has none of ours.
        name, semicolon, parameters = (asked.media_type or MEDIA_TYPE).partition(";")
        media_type = (LINKS_MEDIA_TYPE if name == MEDIA_TYPE else name) + semicolon + parameters
        headers = [(b"content-type", media_type.encode("ascii"))]
        await send_document(scope, receive, send, headers, chunks, services.threads)


def _answer_soon(
    services: Services, urls: Urls, identifiers: Sequence[str]
) -> Iterator[bytes] | None:
    """The document, or None where that takes long."""
    if services.resolver.has_changed(identifiers[: services.settings.links_limit]):
        return None
    return _answer(services, urls, identifiers)


def _answer(services: Services, urls: Urls, identifiers: Sequence[str]) -> Iterator[bytes]:
    return datalink.answer(
        identifiers,
        resolver=services.resolver,
        store=services.store,
        urls=urls,
        settings=services.settings,
    )
