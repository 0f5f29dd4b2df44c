"""Faults: how SIA 2.0 §3.2 and DataLink 1.1 §3.4 label what went wrong."""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import Final

from soda_service.errors import (
    AuthenticationError,
    AuthorizationError,
    SodaServiceError,
    SourceUnavailableError,
    UnknownDatasetError,
    UsageError,
    request_id,
)

_log = logging.getLogger(__name__)

_MOST_SHOWN: Final = 300
"""Of an identifier in the log: a client may send any."""


class Fault(StrEnum):
    """The labels that a message starts with."""

    NOT_FOUND = "NotFoundFault"
    """DataLink only: an unknown ID."""
    USAGE = "UsageFault"
    TRANSIENT = "TransientFault"
    FATAL = "FatalFault"
    DEFAULT = "DefaultFault"


_FOR_THE_OPERATOR: Final = frozenset({Fault.TRANSIENT, Fault.FATAL})
"""What no client can mend."""


def fault_of(error: Exception) -> Fault:
    """The most specific label for *error*."""
    if isinstance(error, UnknownDatasetError):
        return Fault.NOT_FOUND
    if isinstance(error, UsageError | AuthenticationError | AuthorizationError):
        return Fault.USAGE
    if isinstance(error, SourceUnavailableError):
        return Fault.TRANSIENT
    return Fault.FATAL


def explain(error: Exception, dataset: str = "") -> str:
    """Label and message, fit for a client; what a client must not see goes to the log.

    *dataset* is the identifier that it is about, where there is one.
    """
    return f"{fault_of(error)}: {told(error, dataset)}"


def told(error: Exception, dataset: str = "") -> str:
    """What a client is told of *error*, the log being told the rest.

    Whatever is not the client's own mistake carries the id of the request. The log has one
    line for what the service raised on purpose, and a traceback for what nobody planned.
    """
    asked = request_id.get()
    if not isinstance(error, SodaServiceError):
        _log.error("unexpected %s", type(error).__name__, exc_info=error)
        return f"internal error, request {asked}"
    if fault_of(error) not in _FOR_THE_OPERATOR:
        return str(error)
    log(error, dataset)
    return f"{error}, request {asked}"


def log(error: Exception, dataset: str = "", *, what: str = "") -> None:
    """Write one line: *what* happened, to which dataset, in which file, and why.

    A warning where trying again may help. Nothing of it is for a client.
    """
    path = getattr(error, "path", "")
    subject = dataset[:_MOST_SHOWN]
    if path:
        subject = f"{subject} ({path})" if subject else path
    level = logging.WARNING if fault_of(error) is Fault.TRANSIENT else logging.ERROR
    _log.log(level, "%s", ": ".join(part for part in (what, subject, str(error)) if part))
