"""The threads behind the event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from soda_service.errors import SourceUnavailableError
from soda_service.web.log import request_id
from soda_service.web.threads import Threads


async def _with_full_queue(threads: Threads) -> None:
    release = threading.Event()
    waiting = [threads.submit(release.wait, 30) for _ in range(100)]
    try:
        with pytest.raises(SourceUnavailableError):
            await threads.call(len, "abc")
        # A request that is being answered already goes on.
        late = threads.submit(len, "abc")
    finally:
        release.set()
    await asyncio.gather(*waiting)
    assert await late == 3
    assert await threads.call(len, "abcd") == 4


def test_new_requests_are_refused_when_too_many_wait() -> None:
    """They hear 503 at once, not a timeout later; it passes."""
    threads = Threads(1)
    try:
        asyncio.run(_with_full_queue(threads))
    finally:
        threads.close()


def test_new_requests_are_refused_when_nothing_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk hangs with all threads; one that is only slow is waited for."""
    monkeypatch.setattr("soda_service.web.threads.STALL_SECONDS", 0.05)
    threads = Threads(2)
    release = threading.Event()

    async def ask() -> None:
        stuck = [threads.submit(release.wait, 30) for _ in range(2)]
        await asyncio.sleep(0.1)
        # Nobody has had to wait so far.
        waiting = asyncio.ensure_future(threads.call(len, "abc"))
        await asyncio.sleep(0.1)
        with pytest.raises(SourceUnavailableError, match="at work"):
            await threads.call(len, "abc")
        release.set()
        await asyncio.gather(*stuck)
        assert await waiting == 3
        assert await threads.call(len, "abcd") == 4

    try:
        asyncio.run(ask())
    finally:
        release.set()
        threads.close()


def test_an_idle_minute_is_no_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst after it is waited for."""
    monkeypatch.setattr("soda_service.web.threads.STALL_SECONDS", 0.05)
    threads = Threads(2)

    async def ask() -> list[int]:
        await threads.call(len, "abc")
        await asyncio.sleep(0.1)
        return await asyncio.gather(*(threads.call(len, "abcd") for _ in range(40)))

    try:
        assert asyncio.run(ask()) == [4] * 40
    finally:
        threads.close()


def test_calls_carry_the_request_id() -> None:
    """What a thread logs belongs to the request that it works for."""

    async def ask() -> str:
        request_id.set("nine")
        return await threads.call(request_id.get)

    threads = Threads(1)
    try:
        assert asyncio.run(ask()) == "nine"
    finally:
        threads.close()


def test_errors_come_back() -> None:
    """As they were raised."""

    async def ask() -> None:
        with pytest.raises(ZeroDivisionError):
            await threads.call(divmod, 1, 0)

    threads = Threads(1)
    try:
        asyncio.run(ask())
    finally:
        threads.close()
