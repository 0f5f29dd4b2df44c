"""SIA 2.0 {query}."""

from __future__ import annotations

from typing import TYPE_CHECKING

from soda_service.discovery import sia2
from soda_service.web.errors import FORM_KEY, Form
from soda_service.web.paramsource import parsed, read_params
from soda_service.web.responses import send_document

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from soda_service.web.services import Services


class QueryEndpoint:
    """Answers what images there are; an ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Search in a thread, and send rows as they come."""
        services: Services = scope["state"]["services"]
        params = await read_params(scope, receive, limit=services.settings.request_bytes)
        if params.wants_text_table:
            scope[FORM_KEY] = Form.TEXT
        asked = await parsed(params, params.query)
        chunks = await services.threads.call(
            sia2.answer,
            asked.query,
            store=services.store,
            urls=services.urls.of(scope),
            settings=services.settings,
            form=asked.form,
            maxrec=asked.maxrec,
            echo=asked.echo,
        )
        headers = [(b"content-type", asked.media_type.encode("ascii"))]
        await send_document(scope, receive, send, headers, chunks, services.threads)
