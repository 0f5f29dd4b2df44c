"""The running server: sockets, worker processes, and the line that says it answers."""

from __future__ import annotations

import logging
import resource
import socket
import sys
import threading
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

import uvicorn

from soda_service.catalog.otherdisks import other_disks
from soda_service.catalog.store import CatalogStore
from soda_service.config import put_into_environment
from soda_service.errors import ServerError
from soda_service.storage.cache import InflatedCache
from soda_service.storage.remotesettings import block_cache
from soda_service.storage.resultcache import result_cache
from soda_service.supervisor import STARTUP_FAILURE, Supervisor, WorkerConfig, leave_on_signals
from soda_service.web.connection import LimitedHttp
from soda_service.web.log import configure_logging

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from soda_service.catalog.store import CollectionRow
    from soda_service.config import Settings

_POLL_SECONDS = 0.02
_LONGEST_POLL_SECONDS = 1.0
"""Between two questions whether the service is ready, at first and after a while."""

_KEEP_ALIVE_SECONDS = 75
"""Longer than the idle time of common proxies, so that they close first."""

_LAST_ANSWERS_SECONDS = 20
"""How long a server that was told to stop goes on with what it is answering."""

_BACKLOG = 2048
"""Connections that wait to be accepted; uvicorn asks for as many."""

_DISKS_NAMED = 20
"""In one line of the log: some machines have thousands mounted."""

_logger = logging.getLogger(__name__)


def run(settings: Settings, *, announce: Callable[[str], None] | None = None) -> None:
    """Serve until a signal says stop; *announce* is called with the base URL before the ready line.

    The workers read their settings from the environment, which is why they are put there:
    a worker that dies is replaced by one that starts from the same settings. Raises
    ConfigurationError for a catalog or a cache folder that cannot be used, and ServerError
    where the server cannot start; a signal that ends it raises SystemExit(0).
    """
    leave_on_signals()
    configure_logging(settings)
    # What every worker would stumble over is said once, and here.
    with closing(CatalogStore(settings)) as store:
        collections = store.collection_rows()
    InflatedCache(settings.cache_dir, settings.cache_bytes)
    block_cache(settings)
    result_cache(settings)
    put_into_environment(settings)
    _allow_open_files()
    config = uvicorn_config(settings, "soda_service.app:application")
    sock = _bound(settings.host, settings.port)
    port: int = sock.getsockname()[1]
    base = f"http://{_url_host(settings.host)}:{port}/"
    # Nobody waits for this: it asks disks of this machine alone, but these may hang, too.
    threading.Thread(target=_name_other_disks, args=(collections,), daemon=True).start()
    threading.Thread(
        target=_say_when_ready, args=(settings.host, port, base, announce), daemon=True
    ).start()
    started = _serve_with_workers(config, sock) if settings.workers > 1 else _serve(config, sock)
    if not started:
        raise ServerError("the server could not start; its log says why")


def refuse_busy_port(settings: Settings) -> None:
    """Raise ServerError where `run` could not listen now."""
    _bound(settings.host, settings.port).close()


def uvicorn_config(settings: Settings, factory: str) -> uvicorn.Config:
    """How uvicorn is run; *factory*, `module:function`, makes the application."""
    return WorkerConfig(
        factory,
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
        timeout_graceful_shutdown=_LAST_ANSWERS_SECONDS,
    )


def _serve(config: uvicorn.Config, sock: socket.socket) -> bool:
    """Serve in this process; whether it ever did."""
    server = uvicorn.Server(config)
    try:
        server.run(sockets=[sock])
    except SystemExit as left:
        if left.code == STARTUP_FAILURE:
            return False
        raise
    return server.started


def _serve_with_workers(config: uvicorn.Config, sock: socket.socket) -> bool:
    """Serve in processes of their own; False where one could not start."""
    workers = Supervisor(config, sockets=[sock])
    workers.run()
    return not workers.has_failed


def _bound(host: str, port: int) -> socket.socket:
    """A socket at this address, for the workers to listen on; raises ServerError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            # A port may be bound to by two and listened on by one: this is who notices.
            sock.listen(_BACKLOG)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise ServerError(
            f"cannot listen on {host} port {port}: {error.strerror}; --port says another"
        ) from None
    sock.set_inheritable(True)
    return sock


def _allow_open_files() -> None:
    """Raise the soft limit of descriptors to the hard one; each open data file takes two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _name_other_disks(collections: Sequence[CollectionRow]) -> None:
    """Tell the operator which collections cannot be answered for as fast as others, and why."""
    found = [
        f"{disk.place} ({disk.kind}; {', '.join(disk.collections)})"
        for disk in other_disks(collections)
    ]
    if more := found[_DISKS_NAMED:]:
        found = [*found[:_DISKS_NAMED], f"{len(more)} more"]
    if found:
        _logger.info(
            "files on these disks are read in threads only, never on the event loop, for another "
            "machine or program answers for them: %s",
            ", ".join(found),
        )


def _say_when_ready(
    host: str, port: int, base: str, announce: Callable[[str], None] | None
) -> None:
    """Print the ready line once /health answers, however long that takes: the process may end."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared only
    pause = _POLL_SECONDS
    while not _is_healthy(reachable, port):
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_POLL_SECONDS)
    if announce is not None:
        announce(base)
    sys.stdout.write(f"soda-service ready at {base}\n")
    sys.stdout.flush()


def _is_healthy(host: str, port: int) -> bool:
    with closing(HTTPConnection(host, port, timeout=5)) as connection:
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False


def _url_host(host: str) -> str:
    """The host as it stands in a URL that works from this machine."""
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
