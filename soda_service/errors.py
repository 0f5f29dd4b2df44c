"""What can go wrong, in the service's own words.

::

    SodaServiceError
    ├── UsageError                    the request is wrong; the client can mend it
    │   └── MultiValuedParamNotSupported   different values where one is taken
    ├── UnknownDatasetError           no dataset has this identifier, or its file is gone
    ├── AuthenticationError           credentials are needed
    ├── AuthorizationError            these credentials are not enough
    ├── SourceUnavailableError        the bytes cannot be reached now; trying again may help
    ├── CorruptFileError              the file contradicts itself; trying again will not help
    │   └── NoImageError                  it does not, but there is nothing in it to cut
    ├── UntrueHeaderError             the coordinates of a cutout are not its parent's: our fault
    ├── ConfigurationError            the operator's settings are wrong
    └── ServerError                   the server cannot start: its port is in use, say

That a shape does not overlap the data is not an error: it is the value None.
No message names a path of the server: `CorruptFileError` and `SourceUnavailableError`
carry it apart, in `path`, for the log. `web/errors.py` is the only table that knows HTTP.
"""

from contextvars import ContextVar
from typing import Final

request_id: Final[ContextVar[str]] = ContextVar("request_id", default="-")
"""Of the request that the current task, or the thread working for it, serves: what the log is
searched by, and what a client is told where it cannot be told more."""


class SodaServiceError(Exception):
    """The root of every error that the service raises on purpose."""


class UsageError(SodaServiceError):
    """The request is wrong; the message says what was wrong and what came."""


class MultiValuedParamNotSupported(UsageError):  # noqa: N818 - the label of SODA 1.0 §5.2
    """Different values came for a parameter that takes one."""


class UnknownDatasetError(SodaServiceError):
    """No dataset has this identifier, or its file is gone."""

    def __init__(self, identifier: str, reason: str = "no such dataset", *, hint: str = "") -> None:
        told = f"{reason}: {identifier[:200]!r}"
        super().__init__(f"{told}; {hint}" if hint else told)
        self.identifier = identifier


class AuthenticationError(SodaServiceError):
    """The dataset needs credentials and none came."""


class AuthorizationError(SodaServiceError):
    """The credentials that came do not give access."""


class _FileError(SodaServiceError):
    """An error of one file; its path is for the log, never for the client."""

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class SourceUnavailableError(_FileError):
    """The bytes of a file cannot be reached now; trying again may help."""


class CorruptFileError(_FileError):
    """A file contradicts itself: truncated, lying about its size, not FITS, or no file at all."""


class NoImageError(CorruptFileError):
    """A file is whole, and there is nothing in it to cut: it holds tables, say."""


class UntrueHeaderError(SodaServiceError):
    """The coordinates of a cutout are not its parent's: a fault of this service, found in time."""


class ConfigurationError(SodaServiceError):
    """A setting is unknown, malformed or contradicts another."""


class ServerError(SodaServiceError):
    """The server cannot start: its port is in use, say."""
