"""Faults: how SIA 2.0 §3.2 and DataLink 1.1 §3.4 label what went wrong."""

from __future__ import annotations

import logging
from enum import StrEnum

from soda_service.errors import (
    CorruptFileError,
    SodaServiceError,
    SourceUnavailableError,
    UnknownDatasetError,
    UsageError,
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
    if isinstance(error, UsageError):
        return Fault.USAGE
    if isinstance(error, SourceUnavailableError):
        return Fault.TRANSIENT
    return Fault.FATAL


def explain(error: Exception) -> str:
    """Label and message, fit for a client; what a client must not see goes to the log."""
    if not isinstance(error, SodaServiceError):
        _log.error("unexpected %s while answering", type(error).__name__, exc_info=error)
        return f"{Fault.FATAL}: internal error"
    if isinstance(error, CorruptFileError | SourceUnavailableError):
        _log.warning("%s: %s", error.path or "a file", error)
    return f"{fault_of(error)}: {error}"
