"""The log: lines of text or of JSON, each with the id of the request it belongs to."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import TYPE_CHECKING, Final

from soda_service.errors import request_id

if TYPE_CHECKING:
    from soda_service.config import Settings

__all__ = ["RUN_ID_KEY", "AccessLog", "ToldError", "configure_logging", "request_id"]

RUN_ID_KEY: Final = "soda_service.run_id"
"""In the scope of a request whose client gave a RUNID."""


class ToldError(Exception):
    """The log has been told already why the connection is broken off by this."""


def configure_logging(settings: Settings) -> None:
    """Send every record of the process to standard error, as *settings* say."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if settings.log_format == "json" else _TextLines())
    handler.addFilter(_is_news)
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # its steps are of no interest
    logging.logMultiprocessing = False  # nothing here prints it, and it costs time to find


class AccessLog:
    """One line for each request, in the form of the other lines.

    It goes past the logging package, whose records cost several times as much as all else
    that is done around a small cutout.
    """

    def __init__(self, settings: Settings) -> None:
        self.is_open = settings.log_requests and settings.log_level in {"debug", "info"}
        self._is_json = settings.log_format == "json"
        self._second = -1
        self._second_text = ""

    def write(
        self,
        *,
        client: str,
        method: str,
        target: str,
        status: int,
        size: int,
        milliseconds: float,
        run_id: str | None,
    ) -> None:
        """Write the line; *target* is the path with its query, *size* that of the body."""
        if not self._is_json:
            run = "" if run_id is None else f" run {_one_line(run_id)}"
            sys.stderr.write(
                f"{self._now()} INFO soda_service.access [{request_id.get()}] {client} {method} "
                f"{_one_line(target)} {status} {size} bytes {milliseconds:.2f} ms{run}\n"
            )
            return
        facts: dict[str, object] = {
            "time": self._now(),
            "level": "info",
            "logger": "soda_service.access",
            "request_id": request_id.get(),
            "message": "request",
            "client": client,
            "method": method,
            "target": target,
            "status": status,
            "bytes": size,
            "milliseconds": round(milliseconds, 2),
        }
        if run_id is not None:
            facts["run_id"] = run_id
        sys.stderr.write(json.dumps(facts) + "\n")

    def _now(self) -> str:
        """The instant; its seconds are spelt once a second."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{int((now - second) * 1000):03d}Z"


def _is_news(record: logging.LogRecord) -> bool:
    """Whether this is more than the server's own traceback of a ToldError."""
    return not (record.exc_info and isinstance(record.exc_info[1], ToldError))


class _TextLines(logging.Formatter):
    """`time LEVEL logger [request id] message`, times in UTC."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        record.request_id = request_id.get()
        # A line break in a message would let a client write lines of its own.
        record.msg, record.args = _one_line(record.getMessage()), None
        return super().format(record)


class _JsonLines(logging.Formatter):
    """One JSON object in each line."""

    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, object] = {
            "time": _instant(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "request_id": request_id.get(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            facts["exception"] = self.formatException(record.exc_info)
        return json.dumps(facts)


def _instant(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"


def _one_line(text: str) -> str:
    return (
        text
        if text.isprintable()
        else "".join(
            one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
        )
    )
