"""The service as it is seen over the wire: one client that looks twice at every answer."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from http.client import HTTPMessage, HTTPResponse
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import httpx2


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a request that was written byte by byte."""

    status: int
    headers: HTTPMessage
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Wire:
    """A client of a running service; every answer passes `assert_decent`."""

    base: str
    """With a slash at the end."""
    folder: Path
    """Where the service's files are: no client may learn that."""
    client: httpx2.Client = field(repr=False)

    @property
    def port(self) -> int:
        """On 127.0.0.1."""
        port = urlsplit(self.base).port
        assert port is not None
        return port

    def url(self, path: str, /, **parameters: object) -> str:
        """The URL of *path*, or *path* itself where that is a URL; lists repeat a parameter."""
        url = path if "://" in path else self.base + path
        query = urlencode(parameters, doseq=True, quote_via=quote)
        return url + (f"?{query}" if query else "")

    def get(
        self, path: str, headers: Mapping[str, str] | None = None, /, **parameters: object
    ) -> httpx2.Response:
        """The answer to a GET."""
        return self.ask("GET", path, headers, **parameters)

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        /,
        **parameters: object,
    ) -> httpx2.Response:
        """The answer to any method, the parameters being in the URL."""
        answer = self.client.request(method, self.url(path, **parameters), headers=headers)
        return self._decent(answer)

    def post(self, path: str, /, **parameters: object) -> httpx2.Response:
        """The answer to a form that is urlencoded."""
        return self._decent(self.client.post(self.url(path), data=parameters))

    def post_parts(self, path: str, /, **parameters: object) -> httpx2.Response:
        """The answer to the same form as multipart/form-data."""
        parts = [
            (name, (None, str(value)))
            for name, values in parameters.items()
            for value in (values if isinstance(values, list) else [values])
        ]
        return self._decent(self.client.post(self.url(path), files=parts))

    def post_body(self, path: str, body: bytes, content_type: str | None) -> httpx2.Response:
        """The answer to a body to the letter."""
        headers = {} if content_type is None else {"Content-Type": content_type}
        return self._decent(self.client.post(self.url(path), content=body, headers=headers))

    def raw(self, request: bytes, *, method: str = "GET") -> Answer:
        """The answer to the very bytes of *request*; *method* says whether a body follows."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(request)
            return self.answer(connection, method=method)

    def answer(self, connection: socket.socket, *, method: str = "GET") -> Answer:
        """What comes back over *connection*."""
        response = HTTPResponse(connection, method=method)
        response.begin()
        answer = Answer(response.status, response.headers, response.read())
        headers = {name.lower(): value for name, value in answer.headers.items()}
        length = None if method == "HEAD" else headers.get("content-length")
        assert_decent(answer.status, headers, answer.body, length, self.folder)
        return answer

    def target(
        self, target: str, *, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """The answer to a request line that no client has tidied."""
        lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        return self.raw("\r\n".join([*lines, "", ""]).encode("latin-1"), method=method)

    def assert_alive(self) -> None:
        """It answers, and what it does is what it is for."""
        assert self.get("health").text == "ok\n"
        assert self.get("sia/query", MAXREC=1).status_code == 200

    def _decent(self, answer: httpx2.Response) -> httpx2.Response:
        is_head = answer.request.method == "HEAD"
        length = None if is_head else answer.headers.get("content-length")
        assert_decent(answer.status_code, answer.headers, answer.content, length, self.folder)
        return answer


def assert_decent(
    status: int, headers: Mapping[str, str], body: bytes, length: str | None, folder: Path
) -> None:
    """What holds of every answer whatsoever; *length* is what was promised for this body."""
    assert headers.get("x-request-id"), "an answer has an id by which the log can be searched"
    assert headers.get("access-control-allow-origin") == "*", "a page elsewhere may read it"
    assert headers.get("content-encoding") is None, "nothing is compressed unasked"
    assert str(folder).encode() not in body, "where files are is nobody's affair"
    assert b"Traceback" not in body
    if status in {204, 304}:
        assert body == b""
        assert headers.get("content-type") is None
    elif body:
        assert headers.get("content-type")
        assert length is None or int(length) == len(body)
