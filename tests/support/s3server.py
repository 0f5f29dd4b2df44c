"""A real S3 server, moto's, in a process of its own; it says what it was asked for.

It listens on a free port of the loopback and ends with the `with` block, and with this process
whatever happens to it. Run as a program, this file is that server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote
from urllib.request import Request, urlopen

import obstore
from obstore.store import S3Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment

_ASKED = "/-/asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedOfS3:
    """A request that came."""

    method: str
    path: str
    """Decoded, with the bucket."""
    query: str
    range: str | None
    if_match: str | None
    user: str
    """The access key that signed it, if one did."""
    status: int
    size: int
    """Bytes of the body."""

    @property
    def kind(self) -> str:
        """GET, HEAD, PUT or LIST."""
        return "LIST" if "list-type" in self.query else self.method


@dataclass(frozen=True, slots=True)
class S3Server:
    """The server at *endpoint*."""

    endpoint: str

    def make_bucket(self, name: str) -> S3Store:
        """An empty bucket, and a way to it that is not the one under test."""
        with urlopen(Request(f"{self.endpoint}/{name}", method="PUT"), timeout=30):
            return S3Store(
                name,
                config={
                    "endpoint": self.endpoint,
                    "access_key_id": "writer",
                    "secret_access_key": "secret",
                    "region": "us-east-1",
                },
                client_options={"allow_http": True, "timeout": timedelta(seconds=30)},
            )

    def make_public(self, bucket: str, key: str) -> None:
        """Let everybody read this object."""
        url = f"{self.endpoint}/{bucket}/{quote(key)}?acl"
        # That there is a signature is enough for this server.
        public = {
            "x-amz-acl": "public-read",
            "Authorization": "AWS4-HMAC-SHA256 Credential=writer/20260101/us-east-1/s3/aws4_request"
            ", SignedHeaders=host, Signature=00",
        }
        with urlopen(Request(url, method="PUT", headers=public), timeout=30):
            pass

    def asked(self) -> list[AskedOfS3]:
        """What was asked for since the last time."""
        with urlopen(self.endpoint + _ASKED, timeout=30) as answer:
            return [AskedOfS3(**one) for one in json.load(answer)]


def put(bucket: S3Store, key: str, content: bytes) -> str:
    """Puts *content* into *bucket*; its entity tag."""
    return obstore.put(bucket, key, content)["e_tag"] or ""


@contextmanager
def s3_server(*, trusting: int | None = None) -> Iterator[S3Server]:
    """A server without buckets.

    It looks at no credentials, or at those of all requests but the first *trusting*; nobody has
    any that are good.
    """
    watching = {} if trusting is None else {"INITIAL_NO_AUTH_ACTION_COUNT": str(trusting)}
    with subprocess.Popen(
        [sys.executable, __file__],
        env={**os.environ, **watching},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parent,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            yield S3Server(f"http://127.0.0.1:{port}")
        finally:
            # It ends when nobody holds the other end of its input.
            process.stdin.close()
            process.wait(30)


def _serve() -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    dispatch = DomainDispatcherApplication(create_backend_app)
    asked: list[dict[str, object]] = []
    lock = threading.Lock()

    def application(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == _ASKED:
            with lock:
                body = json.dumps(asked).encode()
                asked.clear()
            start("200 OK", [("Content-Length", str(len(body)))])
            return [body]
        status = ""

        def note(line: str, headers: list[tuple[str, str]], *more: object) -> object:
            nonlocal status
            status = line
            return start(line, headers, *more)  # type: ignore[arg-type] # as it came

        body = b"".join(dispatch(environ, note))
        with lock:
            asked.append(
                {
                    "method": environ["REQUEST_METHOD"],
                    "path": environ["PATH_INFO"].encode("latin-1").decode(),
                    "query": environ.get("QUERY_STRING", ""),
                    "range": environ.get("HTTP_RANGE"),
                    "if_match": environ.get("HTTP_IF_MATCH"),
                    "user": _user(environ.get("HTTP_AUTHORIZATION", "")),
                    "status": int(status[:3]),
                    "size": 0 if environ["REQUEST_METHOD"] == "HEAD" else len(body),
                }
            )
        return [body]

    server = make_server("127.0.0.1", 0, application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)  # noqa: T201 - whoever started it reads it
    sys.stdin.read()


def _user(authorization: str) -> str:
    return authorization.partition("Credential=")[2].partition("/")[0]


if __name__ == "__main__":
    _serve()
