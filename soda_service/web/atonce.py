"""Answers that are there at once: they take less time than a task of the event loop and its layers.

A connection asks for one as soon as it has understood a request. What cannot be given without
waiting, and whatever is wrong, is answered in the usual way, by the application.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from soda_service.web.log import request_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Scope

    from soda_service.web.middleware import Cors, RequestLog
    from soda_service.web.responses import RawHeaders

AT_ONCE: Final = "soda_service.at_once"
"""In the state of the application: an `AtOnce`."""


class Answer(NamedTuple):
    """A whole answer, status 200."""

    headers: RawHeaders
    """Of the answer, its length among them."""
    pieces: Sequence[bytes | memoryview]
    """The body."""
    size: int
    """Of it, in bytes."""


class Endpoint(Protocol):
    """An ASGI application that has some of its answers at once."""

    def at_once(self, scope: Scope) -> Answer | None:
        """The answer to a GET, where that takes no waiting; otherwise None.

        Raises anything where something is wrong: the application will say what.
        """


class AtOnce:
    """The answers of one path that are there at once, with all that the middleware does."""

    def __init__(self, path: str, endpoint: Endpoint, *, log: RequestLog, cors: Cors) -> None:
        self._path = path
        self._endpoint = endpoint
        self._log = log
        self._cors = cors

    def __call__(self, scope: Scope) -> Answer | None:
        """The answer to the request, written into the log; None where it is another's."""
        if scope["method"] != "GET" or scope["path"] != scope.get("root_path", "") + self._path:
            return None
        started = time.perf_counter()
        identifier = self._log.identifier(scope)
        # What this connection says later is not of this request.
        before = request_id.set(identifier.decode("ascii"))
        try:
            answer = self._endpoint.at_once(scope)
            if answer is not None:
                answer.headers.extend(self._cors.headers(scope))
                answer.headers.append((b"x-request-id", identifier))
                self._log.note(scope, 200, answer.size, started)
        except Exception:  # noqa: BLE001 - the application meets it again, and says it in full
            return None
        finally:
            request_id.reset(before)
        return answer
