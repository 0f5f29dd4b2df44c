"""The running server: sockets, worker processes, and the line that says it answers."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.supervisors import Multiprocess

from soda_service.config import settings_environment
from soda_service.web.connection import LimitedHttp

if TYPE_CHECKING:
    from collections.abc import Callable

    from soda_service.config import Settings

_START_SECONDS = 60.0
_POLL_SECONDS = 0.02
_KEEP_ALIVE_SECONDS = 75
"""Longer than the idle time of common proxies, so that they close first."""


def run(settings: Settings, *, announce: Callable[[str], None] | None = None) -> None:
    """Serve until a signal says stop; *announce* is called with the base URL before the ready line.

    The workers read their settings from the environment, which is why they are put there:
    a worker that dies is replaced by one that starts from the same settings.
    """
    os.environ.update(settings_environment(settings))
    _allow_open_files()
    config = uvicorn.Config(
        "soda_service.app:application",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop="uvloop",
        http=LimitedHttp,
        ws="none",
        lifespan="on",
        access_log=False,  # the service writes its own, with request ids
        log_config=None,
        log_level=settings.log_level,
        server_header=False,
        proxy_headers=False,  # forwarded headers are believed from configured proxies only
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )
    sock = config.bind_socket()
    port: int = sock.getsockname()[1]
    base = f"http://{_url_host(settings.host)}:{port}/"
    threading.Thread(
        target=_say_when_ready, args=(settings.host, port, base, announce), daemon=True
    ).start()
    if settings.workers > 1:
        Multiprocess(config, sockets=[sock]).run()
        return
    server = uvicorn.Server(config)
    server.run(sockets=[sock])
    if not server.started:
        raise SystemExit(1)


def _allow_open_files() -> None:
    """Raise the soft limit of descriptors to the hard one; each open data file takes two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _say_when_ready(
    host: str, port: int, base: str, announce: Callable[[str], None] | None
) -> None:
    """Print the ready line once /health answers; give up silently when it never does."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared only
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        connection = HTTPConnection(reachable, port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                break
        except (OSError, HTTPException):
            time.sleep(_POLL_SECONDS)
        finally:
            connection.close()
    else:
        return
    if announce is not None:
        announce(base)
    sys.stdout.write(f"soda-service ready at {base}\n")
    sys.stdout.flush()


def _url_host(host: str) -> str:
    """The host as it stands in a URL that works from this machine."""
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
