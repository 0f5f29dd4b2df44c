"""nginx, serving one file of a given size: what a static server reaches on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import http_load

if TYPE_CHECKING:
    from pathlib import Path

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


def nginx_rate(folder: Path, size: int, seconds: float) -> http_load.Rate | None:
    """Requests per second for a file of *size* bytes; None where nginx is not installed."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        return None
    place = folder / "nginx"
    (place / "static").mkdir(parents=True, exist_ok=True)
    place.chmod(0o755)
    folder.chmod(0o755)  # the worker may run as another user
    (place / "static" / "file.fits").write_bytes(bytes(size))
    port = http_load.free_port()
    configuration = place / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(folder=place, port=port))
    with subprocess.Popen([program, "-c", str(configuration), "-p", str(place)]) as process:
        try:
            http_load.wait_for(port, "/file.fits")
            return http_load.measure(port, process.pid, ["/file.fits"], seconds)
        finally:
            process.terminate()
            process.wait(10)
