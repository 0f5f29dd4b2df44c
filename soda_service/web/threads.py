"""The threads in which blocking work is done, away from the event loop."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from soda_service.errors import SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

_WAITING_PER_THREAD: Final = 100
"""Calls that may wait for each thread before new requests are told to come back later."""

STALL_SECONDS: Final = 60.0
"""Calls that wait while none is begun for so long will wait longer: a disk hangs, say."""

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


class Threads:
    """A pool of a fixed size whose calls carry the context (the request id) of their caller."""

    def __init__(self, count: int, *, waiting_per_thread: int = _WAITING_PER_THREAD) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="soda-service")
        self._count = count
        self._limit = count * waiting_per_thread
        self._pending = 0
        self._begun = time.monotonic()
        """When a call was begun last."""

    async def call(
        self, function: Callable[_Args, _Result], *args: _Args.args, **kwargs: _Args.kwargs
    ) -> _Result:
        """What *function* gives; for the first step of a request.

        Raises SourceUnavailableError where too many are waiting already, or nothing goes on.
        """
        if self._pending >= self._limit:
            raise SourceUnavailableError("too many requests are waiting")
        if self._pending > self._count and time.monotonic() - self._begun > STALL_SECONDS:
            raise SourceUnavailableError("all threads have been at work for a minute")
        return await self.submit(function, *args, **kwargs)

    def submit(
        self, function: Callable[_Args, _Result], *args: _Args.args, **kwargs: _Args.kwargs
    ) -> asyncio.Future[_Result]:
        """The same without a limit, for what belongs to a request that is being answered.

        *function* must not raise StopIteration: no future can carry it.
        """
        if not self._pending:
            self._begun = time.monotonic()  # until now there was nothing to begin
        future = asyncio.wrap_future(
            self._pool.submit(copy_context().run, partial(self._begin, function, *args, **kwargs))
        )
        self._pending += 1
        future.add_done_callback(self._one_less)
        return future

    def _begin(
        self, function: Callable[_Args, _Result], *args: _Args.args, **kwargs: _Args.kwargs
    ) -> _Result:
        self._begun = time.monotonic()
        return function(*args, **kwargs)

    def close(self) -> None:
        """End the threads once what they do now is done."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _one_less(self, _future: asyncio.Future[_Result]) -> None:
        self._pending -= 1
