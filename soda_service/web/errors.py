"""Errors on the wire: the only table that knows which status and label each of them has.

SODA answers in text (SODA 1.0 §5.2), SIA and DataLink in VOTable (SIA 2.0 §3.2,
DataLink 1.1 §3.4); what the router refuses below a protocol's path takes that protocol's form.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from soda_service.discovery.faults import Fault, fault_of, told
from soda_service.errors import (
    AuthenticationError,
    AuthorizationError,
    CorruptFileError,
    MultiValuedParamNotSupported,
    SourceUnavailableError,
    UnknownDatasetError,
    UsageError,
)
from soda_service.votable.document import MEDIA_TYPE as VOTABLE, error_document
from soda_service.web.bodies import REFUSAL_KEY, LastResponse, Refusal

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_RETRY_AFTER: Final = ("retry-after", "10")
"""Seconds after which a store may be back."""


class Form(Enum):
    """How an error is written."""

    TEXT = "text"
    VOTABLE = "votable"


FORM_KEY: Final = "soda_service.error_form"
"""In the scope of a request whose errors take another form than its path tells."""

DATASET_KEY: Final = "soda_service.dataset"
"""In the scope of a request that failed: the identifier of the dataset that it is about."""

REFUSE_KEY: Final = "refuse"
"""In the state of the application: `refuse` within the same middleware as all else."""


@dataclass(frozen=True, slots=True)
class _Row:
    status: int
    label: str
    """SODA 1.0 §5.2; those of SIA and DataLink are in `discovery.faults`."""
    headers: tuple[tuple[str, str], ...] = ()


_TABLE: Final[dict[type[BaseException], _Row]] = {
    UsageError: _Row(400, "UsageError"),
    MultiValuedParamNotSupported: _Row(400, "MultiValuedParamNotSupported"),
    UnknownDatasetError: _Row(404, "UsageError"),
    AuthenticationError: _Row(401, "AuthenticationError", (("www-authenticate", "Bearer"),)),
    AuthorizationError: _Row(403, "AuthorizationError"),
    SourceUnavailableError: _Row(503, "ServiceUnavailable", (_RETRY_AFTER,)),
    CorruptFileError: _Row(500, "Error"),
    Exception: _Row(500, "Error"),
}

_VOTABLE_BELOW: Final = ("/sia/", "/datalink/")


def error_response(error: Exception, scope: Scope) -> Response:
    """What the client is told of *error*; what only the operator may know goes to the log."""
    if isinstance(error, HTTPException):
        kind = LastResponse if isinstance(error, Refusal) else Response
        message = _router_message(error, scope)
        return _written(_of_router(error), Fault.USAGE, message, scope, kind)
    row = next(_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE)
    return _written(row, fault_of(error), told(error, scope.get(DATASET_KEY, "")), scope)


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request that never became one, with the Refusal in its scope.

    An ASGI application of its own, for no path leads to it.
    """
    await error_response(scope[REFUSAL_KEY], scope)(scope, receive, send)


def _of_router(error: HTTPException) -> _Row:
    headers = tuple((error.headers or {}).items())
    return _Row(error.status_code, "UsageError", headers)


def _router_message(error: HTTPException, scope: Scope) -> str:
    path = ascii(scope["path"][:200])
    match error.status_code:
        case 404:
            return f"there is nothing at {path}"
        case 405:
            return f"{path} does not answer {scope['method'][:20]!a}"
        case _:
            return error.detail or HTTPStatus(error.status_code).phrase


def _written(
    row: _Row, fault: Fault, message: str, scope: Scope, kind: type[Response] = Response
) -> Response:
    if _form(scope) is Form.VOTABLE:
        body, media_type = error_document(fault, message), VOTABLE
    else:
        # As text or not, SIA 2.0 §3.2 and DataLink 1.1 §3.4 speak of faults.
        label = fault if scope["path"].startswith(_VOTABLE_BELOW) else row.label
        text = f"{label}: {message}\n"
        body, media_type = text.encode("utf-8", "backslashreplace"), "text/plain"
    return kind(body, row.status, dict(row.headers), media_type)


def _form(scope: Scope) -> Form:
    if FORM_KEY in scope:
        form: Form = scope[FORM_KEY]
        return form
    return Form.VOTABLE if scope["path"].startswith(_VOTABLE_BELOW) else Form.TEXT
