"""Connections: how much a client may say beside the body of its request."""

from __future__ import annotations

import sys
from contextlib import suppress
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import TYPE_CHECKING, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

MAX_HEAD_BYTES: Final = 1024**2
"""Of the request line, headers, trailers and what frames chunks, together: a thousand
identifiers in one query string take a tenth of it."""

STALL_SECONDS: Final = 120.0
"""A client that takes nothing of what waits for it for so long is cut off."""


class LimitedHttp(HttpToolsProtocol):
    """HTTP/1.1 by httptools, which by itself gathers headers without end.

    Who sends more than MAX_HEAD_BYTES is told so with status 400 and cut off; bodies have
    a limit of their own (`params.read_params`). Who stops reading is cut off after
    STALL_SECONDS, so that no search and no file stays open for it.
    """

    _beside_body = 0
    _watch: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Take what came, unless it is too much."""
        self._beside_body += len(data)
        super().data_received(data)
        if self._beside_body > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def pause_writing(self) -> None:
        """Watch whether the client takes anything of what waits for it."""
        super().pause_writing()
        self._look_again()

    def resume_writing(self) -> None:
        """The client takes it."""
        self._end_watch()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is there any more."""
        self._end_watch()
        super().connection_lost(exc)

    def _look_again(self) -> None:
        self._watch = self.loop.call_later(
            STALL_SECONDS, self._cut_off_unless_less, self._waiting()
        )

    def _cut_off_unless_less(self, waited: int) -> None:
        self._watch = None
        if self._waiting() < waited:
            self._look_again()
        else:
            # Closing would wait for the client; what is sent, and what it is made of, is let go.
            self.transport.abort()

    def _waiting(self) -> int:
        """Bytes that the client has not taken, those in the kernel's hands included.

        The kernel holds megabytes, and asks for more only after a good part of them has gone.
        """
        size = bytearray(4)
        with suppress(OSError):
            ioctl(self.transport.get_extra_info("socket").fileno(), TIOCOUTQ, size)
        return int.from_bytes(size, sys.byteorder) + self.transport.get_write_buffer_size()

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def on_message_begin(self) -> None:
        """Count anew."""
        self._beside_body = 0
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        """Leave what belongs to the body out of the count."""
        self._beside_body -= len(body)
        super().on_body(body)
