"""Parameters out of a request: of its query string, and of the body of a POST.

Long ones are understood in a thread: they would hold up the others.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from starlette.datastructures import Headers

from soda_service.errors import UsageError
from soda_service.web.bodies import read_body, read_parts
from soda_service.web.log import RUN_ID_KEY
from soda_service.web.params import Params
from soda_service.web.urlencoded import MAX_PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import Receive, Scope

_AT_ONCE: Final = 8 * 1024
"""Bytes of parameters that are understood in less than a millisecond or two."""

_LONGEST_TYPE: Final = 1024
"""Bytes of a Content-Type; each of its parameters takes time to be understood."""

_Value = TypeVar("_Value")


def params_at_once(scope: Scope) -> Params | None:
    """Those in the query string of a GET; None where they are too long to be understood at once."""
    query: bytes = scope["query_string"]
    return _note_run(scope, Params(query)) if len(query) <= _AT_ONCE else None


async def read_params(scope: Scope, receive: Receive, *, limit: int) -> Params:
    """The parameters in the query string and, for POST, in the body.

    A body of more than *limit* bytes is Refusal 413, as soon as that is known.
    """
    query: bytes = scope["query_string"]
    params = await _noted(scope, query)
    if scope["method"] != "POST":
        return params
    body = await read_body(scope, receive, limit)
    headers = Headers(scope=scope)
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if not body:
        return params
    if content_type == "application/x-www-form-urlencoded":
        return await _noted(scope, query + b"&" + body)
    if content_type == "multipart/form-data":
        if len(headers["content-type"]) > _LONGEST_TYPE:
            raise UsageError(f"a Content-Type has at most {_LONGEST_TYPE} bytes")
        return await _noted(scope, query, await read_parts(headers, body, most=MAX_PARAMETERS))
    raise UsageError(
        "a body is application/x-www-form-urlencoded or multipart/form-data, "
        f"got {content_type[:100]!r}"
    )


async def parsed(params: Params, parse: Callable[[], _Value]) -> _Value:
    """What *parse*, a method of *params*, makes of them: in a thread where they are long."""
    return await asyncio.to_thread(parse) if params.size > _AT_ONCE else parse()


async def _noted(scope: Scope, encoded: bytes, parts: Sequence[tuple[str, str]] = ()) -> Params:
    long = len(encoded) > _AT_ONCE
    params = await asyncio.to_thread(Params, encoded, parts) if long else Params(encoded, parts)
    return _note_run(scope, params)


def _note_run(scope: Scope, params: Params) -> Params:
    """*params*; their RUNID is in *scope* before anything can be wrong with others."""
    if params.run_id is not None:
        scope[RUN_ID_KEY] = params.run_id
    return params
