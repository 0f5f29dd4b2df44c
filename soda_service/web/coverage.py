"""The part of the sky that a collection covers, as a MOC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException

from soda_service.render.moc import moc_fits, moc_json, moc_text
from soda_service.web.responses import content_disposition, names_etag, send_empty, send_whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from soda_service.catalog.skycoverage import CollectionCoverage
    from soda_service.web.responses import RawHeaders
    from soda_service.web.services import Services

DOCUMENTS: Final = ("moc.fits", "moc.txt", "moc.json")
"""What can be had below a collection; the first is also what the collection itself gives."""

_FORMS: Final[dict[str, tuple[bytes, Callable[[CollectionCoverage], bytes]]]] = {
    "moc.fits": (b"application/fits", lambda one: moc_fits(one.moc, name=one.collection)),
    "moc.txt": (b"text/plain; charset=us-ascii", lambda one: moc_text(one.moc)),
    "moc.json": (b"application/json", lambda one: moc_json(one.moc)),
}


class CoverageEndpoint:
    """Sends the MOC of a collection; an ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find the collection, and send its MOC in the form that was asked for."""
        del receive
        services: Services = scope["state"]["services"]
        parameters = scope["path_params"]
        form = parameters.get("document", DOCUMENTS[0])
        if form not in _FORMS or not scope["path"].endswith((form, parameters["collection"])):
            # The router's pattern does not see a line break at the end.
            raise HTTPException(404)
        coverage = await services.long_work.call(services.coverages.get, parameters["collection"])
        if coverage is None:
            raise HTTPException(404)
        etag = f'{coverage.etag[:-1]}-{form[4:]}"'.encode("ascii")
        headers: RawHeaders = [(b"etag", etag), (b"cache-control", b"no-cache")]
        for name, value in scope["headers"]:
            if name == b"if-none-match" and names_etag(value, etag):
                await send_empty(send, 304, headers)
                return
        media_type, written = _FORMS[form]
        body = await services.threads.call(written, coverage)
        filename = f"{coverage.collection}-{form}"
        headers.append((b"content-type", media_type))
        headers.append((b"content-disposition", content_disposition("inline", filename)))
        await send_whole(scope, send, headers, body)
