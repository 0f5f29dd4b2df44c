"""Faults: how SIA 2.0 §3.2 and DataLink 1.1 §3.4 label what went wrong."""

from __future__ import annotations

import logging
from enum import StrEnum

from soda_service.errors import (
    AuthenticationError,
    AuthorizationError,
    CorruptFileError,
    SodaServiceError,
    SourceUnavailableError,
    UnknownDatasetError,
    UsageError,
    request_id,
)

_log = logging.getLogger(__name__)


class Fault(StrEnum):
    """The labels that a message starts with."""

    NOT_FOUND = "NotFoundFault"
    """DataLink only: an unknown ID."""
    USAGE = "UsageFault"
    TRANSIENT = "TransientFault"
    FATAL = "FatalFault"
    DEFAULT = "DefaultFault"


def fault_of(error: Exception) -> Fault:
    """The most specific label for *error*."""
    if isinstance(error, UnknownDatasetError):
        return Fault.NOT_FOUND
    if isinstance(error, UsageError | AuthenticationError | AuthorizationError):
        return Fault.USAGE
    if isinstance(error, SourceUnavailableError):
        return Fault.TRANSIENT
    return Fault.FATAL


def explain(error: Exception) -> str:
    """Label and message, fit for a client; what a client must not see goes to the log."""
    return f"{fault_of(error)}: {told(error)}"


def told(error: Exception) -> str:
    """What a client is told of *error*, the log being told the rest.

    Whatever is not the client's own mistake carries the id of the request.
    """
    asked = request_id.get()
    if not isinstance(error, SodaServiceError):
        _log.error("unexpected %s", type(error).__name__, exc_info=error)
        return f"internal error, request {asked}"
    if isinstance(error, CorruptFileError):
        _log.error("%s: %s", error.path or "a file", error, exc_info=error)
    elif isinstance(error, SourceUnavailableError):
        _log.warning("%s: %s", error.path or "a file", error)
    elif fault_of(error) is Fault.FATAL:
        _log.error("%s", error, exc_info=error)
    else:
        return str(error)
    return f"{error}, request {asked}"
