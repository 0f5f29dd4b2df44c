"""The line that says that a service answers."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING

from soda_service import server

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


class _Beginning(BaseHTTPRequestHandler):
    """Answers 503 three times, then 200."""

    statuses: Iterator[int]

    def do_GET(self) -> None:
        self.send_response(next(self.statuses))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_the_ready_line_comes_however_long_the_service_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each look at the clock takes an hour here; between two questions there is a pause."""
    monkeypatch.setattr(_Beginning, "statuses", iter((503, 503, 503, 200)), raising=False)
    pauses: list[float] = []
    clock = SimpleNamespace(sleep=pauses.append, monotonic=count(0, 3600).__next__)
    monkeypatch.setattr(server, "time", clock)
    announced: list[str] = []
    with HTTPServer(("127.0.0.1", 0), _Beginning) as service:
        threading.Thread(target=service.serve_forever, args=(0.01,), daemon=True).start()
        try:
            port = service.server_port
            server._say_when_ready("0.0.0.0", port, f"http://127.0.0.1:{port}/", announced.append)
        finally:
            service.shutdown()
    assert announced == [f"http://127.0.0.1:{port}/"]
    assert capsys.readouterr().out == f"soda-service ready at http://127.0.0.1:{port}/\n"
    assert len(pauses) == 3
    assert all(0 < pause <= 1 for pause in pauses)
