"""The page for people: what this is, what it holds, and links that work."""

from __future__ import annotations

from functools import cache
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Final

from soda_service import __version__
from soda_service.discovery.urls import Service
from soda_service.web.coverage import DOCUMENTS
from soda_service.web.responses import send_whole
from soda_service.web.showcase import showpieces_soon

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Receive, Scope, Send

    from soda_service.catalog.summaries import CollectionSummary
    from soda_service.web.services import Services
    from soda_service.web.showcase import Showpiece
    from soda_service.web.urls import SiteUrls

_TEMPLATES: Final = Path(__file__).parent / "templates"

# The page needs nothing but itself, and no other page may frame it.
_POLICY: Final = (
    b"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    b"form-action 'self'; frame-ancestors 'none'"
)


class PageEndpoint:
    """Sends the page; an ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Make it of what the catalog holds now."""
        del receive
        services: Services = scope["state"]["services"]
        urls = services.urls.of(scope)
        shown = await showpieces_soon(services)
        text = await services.threads.call(_page, services, urls, shown)
        headers = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-security-policy", _POLICY),
            (b"referrer-policy", b"same-origin"),
            (b"x-content-type-options", b"nosniff"),
        ]
        await send_whole(scope, send, headers, text.encode("utf-8", "replace"))


def _page(services: Services, urls: SiteUrls, shown: Sequence[Showpiece]) -> str:
    settings = services.settings
    collections = services.store.collections()
    return _filled(
        "page.html",
        title=settings.title,
        version=__version__,
        contact=settings.contact or "the operator of this service",
        root=urls.root,
        base=urls.base,
        query=urls.query_endpoint,
        links=urls.links_endpoint,
        sync=urls.sync_endpoint,
        capabilities=urls.capabilities(Service.WHOLE),
        availability=urls.availability(Service.WHOLE),
        examples=urls.examples,
        caption=_caption(sum(one.count for one in collections), is_shown=bool(shown)),
        collections=_Html(_rows(collections, shown, urls)),
        snippets=_Html(_snippets(shown, urls)),
    )


def _rows(
    collections: Sequence[CollectionSummary], shown: Sequence[Showpiece], urls: SiteUrls
) -> str:
    if not collections:
        return _filled("nothing.html")
    by_name = {one.collection.name: one for one in shown}
    return "".join(_row(one, by_name.get(one.name), urls) for one in collections)


def _caption(total: int, *, is_shown: bool) -> str:
    counted = f"{total} dataset{'s' * (total != 1)}."
    return f"{counted} Every link below works as it stands." if is_shown else counted


def _row(collection: CollectionSummary, shown: Showpiece | None, urls: SiteUrls) -> str:
    tries = _filled("untried.html")
    if shown is not None:
        tries = _filled(
            "tries.html",
            title=collection.title,
            query=urls.query(shown.circle),
            links=urls.links(shown.identifier),
            cutout=urls.sync(shown.identifier, circle=shown.circle),
        )
    return _filled(
        "collection.html",
        name=_Html(_small(collection.name) if collection.title != collection.name else ""),
        title=collection.title,
        description=_Html(_small(collection.description)),
        count=str(collection.count),
        **{
            document.replace(".", "_"): urls.coverage(collection.name, document)
            for document in DOCUMENTS
        },
        tries=_Html(tries),
    )


def _snippets(shown: Sequence[Showpiece], urls: SiteUrls) -> str:
    if not shown:
        return ""
    circle = shown[0].circle
    return _filled(
        "snippets.html",
        query=urls.query_endpoint,
        place=f"({circle.lon}, {circle.lat}, {circle.radius})",
        curl=urls.sync(shown[0].identifier, circle=circle),
    )


def _small(text: str) -> str:
    """A line in small letters; nothing for no *text*."""
    return f"<small>{escape(text)}</small>" if text else ""


class _Html(str):
    """Text that is HTML already."""

    __slots__ = ()


@cache
def _template(name: str) -> Template:
    return Template((_TEMPLATES / name).read_text(encoding="utf-8"))


def _filled(template: str, /, **values: str) -> str:
    """*template* with *values*, each escaped unless it is HTML."""
    return _template(template).substitute(
        {key: one if isinstance(one, _Html) else escape(one) for key, one in values.items()}
    )
