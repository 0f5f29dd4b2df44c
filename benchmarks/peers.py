"""nginx, serving one file of a given size: what a static server reaches on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import http_load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PIECE = 16 * 1024 * 1024

_CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 100000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; root {folder}/static; }}
}}
"""


@contextmanager
def nginx(place: Path, size: int) -> Iterator[tuple[int, int] | None]:
    """Port and process of an nginx with `/file.fits` of *size* bytes; None where there is none."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        yield None
        return
    (place / "static").mkdir(parents=True)
    for folder in (place, place.parent, place.parent.parent):
        folder.chmod(0o755)  # the worker may run as another user
    with (place / "static" / "file.fits").open("wb") as file:
        for start in range(0, size, _PIECE):
            file.write(bytes(min(_PIECE, size - start)))
    port = http_load.free_port()
    configuration = place / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(folder=place, port=port))
    with subprocess.Popen([program, "-c", str(configuration), "-p", str(place)]) as process:
        try:
            http_load.wait_for(port, "/file.fits")
            yield port, process.pid
        finally:
            process.terminate()
            process.wait(10)
