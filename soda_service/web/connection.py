"""Connections: how much a client may say beside the body of its request."""

from __future__ import annotations

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 1024**2
"""Of the request line, headers, trailers and what frames chunks, together: a thousand
identifiers in one query string take a tenth of it."""


class LimitedHttp(HttpToolsProtocol):
    """HTTP/1.1 by httptools, which by itself gathers headers without end.

    Who sends more than MAX_HEAD_BYTES is told so with status 400 and cut off; bodies have
    a limit of their own (`params.read_params`).
    """

    _beside_body = 0

    def data_received(self, data: bytes) -> None:
        """Take what came, unless it is too much."""
        self._beside_body += len(data)
        super().data_received(data)
        if self._beside_body > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        """Count anew."""
        self._beside_body = 0
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        """Leave what belongs to the body out of the count."""
        self._beside_body -= len(body)
        super().on_body(body)
