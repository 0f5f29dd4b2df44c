"""The threads in which blocking work is done, away from the event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from soda_service.errors import SourceUnavailableError
from soda_service.storage import disks
from soda_service.storage.disks import DiskHangsError, touch_of

if TYPE_CHECKING:
    from collections.abc import Callable

_WAITING_PER_THREAD: Final = 100
"""Calls that may wait for each thread before new requests are told to come back later."""

STALL_SECONDS: Final = 60.0
"""Calls that wait while none is begun for so long will wait longer: they are refused."""

_LOOK_SECONDS: Final = 0.5
"""Between two looks at the threads, as long as any is at work."""

_PAUSE_SECONDS: Final = 3.0
"""More than that between two looks is a pause of the process."""

_MOST_SPARE: Final = 256
"""Threads that take the places of others which are lost in disks that do not answer.

One server that is gone may have answered for a dozen of disks.
"""

_CLOSE_SECONDS: Final = 10.0
"""How long the end of the work is waited for that is being done when all is closed."""

_JOIN_SECONDS: Final = 0.1

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


class Threads:
    """A fixed number of threads whose calls carry the context (the request id) of their caller.

    One that is lost in a disk which does not answer is replaced until it comes back, so that
    there are always as many for what lies elsewhere. To be used by one event loop.
    """

    def __init__(self, count: int, *, waiting_per_thread: int = _WAITING_PER_THREAD) -> None:
        self._count = count
        self._limit = count * waiting_per_thread
        self._queue: SimpleQueue[_Call | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._wanted = count
        """Threads that there may be now: those that are lost do not count."""
        self._idle = 0
        self._leaving = 0
        self._is_closed = False
        self._calls: dict[asyncio.Future[Any], _Call] = {}
        """Those that have not ended; of the event loop, as all that follows."""
        self._begun = time.monotonic()
        """When a call was begun last."""
        self._lost = 0
        """Calls that were in the hands of lost threads at the last look."""
        self._is_looking = False
        self._looked = 0.0
        """When that was last."""

    async def call(
        self, function: Callable[_Args, _Result], *args: _Args.args, **kwargs: _Args.kwargs
    ) -> _Result:
        """What *function* gives; for the first step of a request.

        Raises SourceUnavailableError where too many are waiting already, or nothing goes on, now
        or before its turn comes, and DiskHangsError as soon as a disk has given *function* no
        answer for `HANGS_SECONDS`. What it gives later is closed, if that can be done.
        """
        made = self.begin(function, *args, **kwargs)
        try:
            return await self.unless_lost(made)
        finally:
            made.cancel()  # which does nothing to one that has ended
            del made  # else an error that it ended in would hold itself, by this frame

    def begin(
        self, function: Callable[_Args, _Result], *args: _Args.args, **kwargs: _Args.kwargs
    ) -> asyncio.Future[_Result]:
        """The same for who waits with `unless_lost`, and looks after what comes later."""
        if len(self._calls) - self._lost >= self._limit:
            raise SourceUnavailableError("too many requests are waiting")
        if len(self._calls) > self._wanted and time.monotonic() - self._begun > STALL_SECONDS:
            raise _stalled()
        return self.submit(function, *args, **kwargs)

    async def unless_lost(self, made: asyncio.Future[_Result]) -> _Result:
        """What *made* gives, a call that nobody else waits for.

        Raises DiskHangsError where a disk gives it no answer for `HANGS_SECONDS`, and
        SourceUnavailableError where it is not begun because nothing goes on; it goes on.
        """
        call = self._calls.get(made)
        try:
            if call is not None:
                call.waiter = asyncio.get_running_loop().create_future()
                try:
                    await call.waiter
                finally:
                    call.waiter = None
            return await made
        finally:
            del made, call  # as above

    def submit(
        self, function: Callable[_Args, _Result], *args: _Args.args, **kwargs: _Args.kwargs
    ) -> asyncio.Future[_Result]:
        """The same without a limit, for what belongs to a request that is being answered.

        Raises SourceUnavailableError where the system gives no thread to do it.
        """
        if self._is_closed:
            raise RuntimeError("the threads have ended")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Result] = loop.create_future()
        if not self._calls:
            self._begun = time.monotonic()  # until now there was nothing to begin
        work = partial(copy_context().run, partial(function, *args, **kwargs))
        call = self._calls[future] = _Call(work, future, loop)
        if not self._is_looking:
            self._is_looking = True
            self._looked = time.monotonic()
            loop.call_later(_LOOK_SECONDS, self._look, loop)
        with self._lock:
            self._queue.put(call)
            if self._idle:
                self._idle -= 1  # one of them takes it
            elif len(self._threads) < self._wanted:
                self._start_one()
            if not self._threads:
                future.cancel()
                raise SourceUnavailableError("the system gives no more threads")
        return future

    def close(self) -> None:
        """End the threads once what they do now is done, unless that takes long; on the event loop.

        Those that are lost are not waited for: they end with the process.
        """
        with self._lock:
            self._is_closed = True
            with suppress(Empty):
                while True:
                    call = self._queue.get_nowait()
                    if call is None:
                        self._leaving -= 1
                        continue
                    with suppress(RuntimeError):  # its loop has ended
                        call.future.cancel()
                        call.end_wait()
            threads = list(self._threads)
            self._send_away(len(threads) - self._leaving)
        end = time.monotonic() + _CLOSE_SECONDS
        for thread in threads:
            while thread.is_alive() and not _is_lost(thread) and time.monotonic() < end:
                thread.join(_JOIN_SECONDS)

    def _start_one(self) -> None:
        """Under the lock."""
        # A thread that hangs must not keep the process from ending, as those of Python's pools do.
        name = f"soda-service_{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        with suppress(RuntimeError):  # the system gives no more
            thread.start()
            self._threads.add(thread)

    def _send_away(self, count: int) -> None:
        """Have so many of them end, once there is nothing else to do. Under the lock."""
        for _ in range(count):
            self._queue.put(None)
            self._leaving += 1
            self._idle -= self._idle > 0

    def _work(self) -> None:
        """What each thread does until it is sent away."""
        while True:
            try:
                call = self._queue.get_nowait()
            except Empty:
                with self._lock:
                    self._idle += 1
                call = self._queue.get()
            if call is None:
                break
            self._do(call)
            del call  # with the pixels that it made
        with self._lock:
            self._leaving -= 1
            self._threads.discard(threading.current_thread())

    def _do(self, call: _Call) -> None:
        if call.future.cancelled():
            self._tell(call, None, None)
            return
        self._begun = time.monotonic()
        call.is_begun = True
        call.thread = threading.get_ident()
        result, error = _outcome(call.work)
        call.thread = None
        self._tell(call, result, error)
        del call, error  # this frame is behind those that the error's traceback holds

    def _tell(self, call: _Call, result: object, error: BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            call.loop.call_soon_threadsafe(self._settle, call, result, error)

    def _settle(self, call: _Call, result: object, error: BaseException | None) -> None:
        """On the event loop: a call has ended."""
        self._calls.pop(call.future, None)
        if call.future.done():
            if result is not None and not self._is_closed:
                _ = self.submit(_let_go, result)
        elif error is not None:
            call.future.set_exception(error)
        else:
            call.future.set_result(result)
        call.end_wait()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """On the event loop, now and then: who is lost, and who waits for that in vain."""
        now = time.monotonic()
        # After a pause of the process, or of the machine, nobody had the time to answer.
        was_paused = now - self._looked > _PAUSE_SECONDS
        self._looked = now
        lost = 0
        for call in self._calls.values():
            waiter = call.waiter
            if waiter is not None and (waiter.done() or was_paused):
                waiter = None
            if not call.is_begun:
                if waiter and now - max(call.since, self._begun) > STALL_SECONDS:
                    waiter.set_exception(_stalled())
                continue
            touch = touch_of(call.thread) if call.thread is not None else None
            if touch is None:
                continue
            waited = now - touch.since
            lost += waited > disks.SILENT_SECONDS
            if waiter and waited > disks.HANGS_SECONDS:
                waiter.set_exception(DiskHangsError(touch.path))
        self._lost = lost
        with self._lock:
            self._wanted = self._count + min(lost, _MOST_SPARE)
            for _ in range(min(self._wanted - len(self._threads), self._queue.qsize())):
                self._start_one()
            self._send_away(len(self._threads) - self._leaving - self._wanted)
        self._is_looking = bool(self._calls)
        if self._is_looking:
            loop.call_later(_LOOK_SECONDS, self._look, loop)


class _Call:
    """What a thread is to do, and who is told."""

    __slots__ = ("future", "is_begun", "loop", "since", "thread", "waiter", "work")

    def __init__(
        self,
        work: Callable[[], object],
        future: asyncio.Future[Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.work = work
        self.future = future
        self.loop = loop
        self.since = time.monotonic()
        """When it was asked for."""
        self.is_begun = False
        self.thread: int | None = None
        """The number of that which does it now."""
        self.waiter: asyncio.Future[None] | None = None
        """Who would rather be told that it takes too long."""

    def end_wait(self) -> None:
        """Have the waiter, if there is one, look at the future."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


def _outcome(work: Callable[[], object]) -> tuple[object, BaseException | None]:
    """What *work* gives, or the error that it ends in, whose traceback holds no more than it."""
    try:
        return work(), None
    except StopIteration as stop:  # which no future can carry
        error = RuntimeError("a call raised StopIteration")
        error.__cause__ = stop
        return None, error
    except BaseException as error:  # noqa: BLE001 - whatever it is, who waits is told
        return None, error


def _stalled() -> SourceUnavailableError:
    return SourceUnavailableError("all threads have been at work for a minute")


def _is_lost(thread: threading.Thread) -> bool:
    touch = touch_of(thread.ident or 0)
    return touch is not None and time.monotonic() - touch.since > disks.SILENT_SECONDS


def _let_go(result: object) -> None:
    """Close what came too late for whoever had asked for it, or what of it can be closed."""
    for one in result if isinstance(result, tuple) else (result,):
        close = getattr(one, "close", None)
        if close is not None:
            close()
