"""The threads behind the event loop."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from support.leaping import StandingTime
from support.turn import until

from soda_service.errors import SourceUnavailableError
from soda_service.storage.disks import Disk, DiskHangsError
from soda_service.web.log import request_id
from soda_service.web.threads import STALL_SECONDS, Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
    clock = StandingTime()
    monkeypatch.setattr("soda_service.web.threads.time", clock)
    monkeypatch.setattr("soda_service.web.threads._LOOK_SECONDS", 10_000.0)  # nobody looks
    threads = Threads(2)
    begun, release = threading.Barrier(3), threading.Event()

    def work() -> None:
        begun.wait(60)
        assert release.wait(60)

    async def ask() -> None:
        stuck = [threads.submit(work) for _ in range(2)]
        begun.wait(60)
        clock.now += STALL_SECONDS + 1.0
        # Nobody has had to wait so far.
        waiting = asyncio.ensure_future(threads.call(len, "abc"))
        await asyncio.sleep(0)
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


def test_who_waits_is_told_when_nothing_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who came when all seemed well is not left without an answer; nor is that call begun."""
    clock = StandingTime()
    monkeypatch.setattr("soda_service.web.threads.time", clock)
    monkeypatch.setattr("soda_service.web.threads._LOOK_SECONDS", 10_000.0)  # here, by hand
    threads = Threads(1)
    begun, release = threading.Event(), threading.Event()
    done: list[str] = []

    def work() -> None:
        begun.set()
        assert release.wait(60)

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        first = threads.submit(work)
        await _until(begun.is_set)
        waiting = asyncio.ensure_future(threads.call(done.append, "waiting"))
        await asyncio.sleep(0)
        for _ in range(int(STALL_SECONDS)):
            clock.now += 1.0
            threads._look(loop)
        assert not waiting.done()
        clock.now += 1.0
        late = threads.submit(done.append, "of an answer that has begun")
        threads._look(loop)
        with pytest.raises(SourceUnavailableError, match="at work"):
            await asyncio.wait_for(waiting, 60)
        release.set()
        await asyncio.gather(first, late)

    try:
        asyncio.run(asyncio.wait_for(ask(), 60))
    finally:
        release.set()
        threads.close()
    assert done == ["of an answer that has begun"]


def test_an_idle_minute_is_no_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst after it is waited for."""
    clock = StandingTime()
    monkeypatch.setattr("soda_service.web.threads.time", clock)
    threads = Threads(2)

    async def ask() -> list[int]:
        await threads.call(len, "abc")
        clock.now += 10 * STALL_SECONDS
        return await asyncio.gather(*(threads.call(len, "abcd") for _ in range(40)))

    try:
        assert asyncio.run(ask()) == [4] * 40
    finally:
        threads.close()


class _Hanging:
    """A disk that gives no answer until it is let go of, and what somebody wants of it."""

    def __init__(self) -> None:
        self.disk = Disk(is_local=False)
        self.asked = threading.Event()
        self.answers = threading.Event()
        self.closed = threading.Event()

    def open(self, path: str = "/net/file") -> tuple[str, _Hanging]:
        with self.disk.touched(path):
            self.asked.set()
            assert self.answers.wait(60)
        return "opened", self

    def close(self) -> None:
        self.closed.set()


@pytest.fixture(name="hanging")
def _hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Hanging]:
    monkeypatch.setattr("soda_service.storage.disks.SILENT_SECONDS", 0.02)
    monkeypatch.setattr("soda_service.storage.disks.HANGS_SECONDS", 0.1)
    monkeypatch.setattr("soda_service.web.threads._LOOK_SECONDS", 0.01)
    hanging = _Hanging()
    yield hanging
    hanging.answers.set()


async def _until(condition: Callable[[], object]) -> None:
    """Until it holds, which nothing tells."""
    while not condition():  # noqa: ASYNC110 - of other threads
        await asyncio.sleep(0.01)


def test_one_that_is_lost_is_replaced_until_it_comes_back(hanging: _Hanging) -> None:
    threads = Threads(1)

    async def ask() -> None:
        lost = threads.submit(hanging.open)
        assert await threads.call(len, "abc") == 3  # by another one
        assert not lost.done()  # it is waited for by whoever asked
        hanging.answers.set()
        assert await lost == ("opened", hanging)
        await _until(lambda: len(threads._threads) == 1)
        assert await threads.call(len, "abcd") == 4

    try:
        asyncio.run(asyncio.wait_for(ask(), 60))
    finally:
        threads.close()


def test_those_that_are_lost_do_not_count_as_waiting(hanging: _Hanging) -> None:
    """However many disks hang, as many may wait for the others as ever."""
    threads = Threads(1, waiting_per_thread=3)

    async def ask() -> None:
        lost = [threads.submit(hanging.open, f"/net/{number}") for number in range(4)]
        await _until(lambda: threads._lost == len(lost))
        assert await threads.call(len, "abc") == 3
        hanging.answers.set()
        await asyncio.gather(*lost)

    try:
        asyncio.run(asyncio.wait_for(ask(), 60))
    finally:
        hanging.answers.set()
        threads.close()


def test_what_comes_too_late_is_closed(hanging: _Hanging) -> None:
    """Whoever had asked for it was told that the disk does not answer."""
    threads = Threads(1)

    async def ask() -> None:
        with pytest.raises(DiskHangsError) as caught:
            await threads.call(hanging.open)
        assert caught.value.path == "/net/file"
        assert not hanging.closed.is_set()
        hanging.answers.set()
        await _until(hanging.closed.is_set)

    try:
        asyncio.run(asyncio.wait_for(ask(), 60))
    finally:
        threads.close()


def test_the_end_does_not_wait_for_who_is_lost(
    hanging: _Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for who is at work, and nothing that waited is begun."""
    monkeypatch.setattr("soda_service.web.threads._MOST_SPARE", 0)
    monkeypatch.setattr("soda_service.web.threads._CLOSE_SECONDS", 600.0)
    threads = Threads(2)
    begun = threading.Event()
    done: list[str] = []
    never: list[asyncio.Future[None]] = []

    def work() -> None:
        begun.set()
        until(lambda: len(never) == 3 and all(one.cancelled() for one in never))
        done.append("work")

    async def ask() -> None:
        lost = threads.submit(hanging.open)
        await _until(lambda: hanging.disk.lost)
        at_work = threads.submit(work)
        await _until(begun.is_set)
        never.extend(threads.submit(done.append, "never") for _ in range(3))
        threads.close()
        assert len(threads._threads) == 1
        assert done == ["work"]
        assert all(one.cancelled() for one in never)
        assert not lost.done()
        await at_work

    asyncio.run(asyncio.wait_for(ask(), 60))
    assert not hanging.answers.is_set()


def test_calls_that_were_cancelled_are_not_begun() -> None:
    threads = Threads(1)
    release = threading.Event()
    done: list[str] = []

    async def ask() -> None:
        first = threads.submit(release.wait, 60)
        waiting = asyncio.ensure_future(threads.call(done.append, "waiting"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        release.set()
        assert await first
        await threads.call(done.append, "last")

    try:
        asyncio.run(asyncio.wait_for(ask(), 60))
    finally:
        release.set()
        threads.close()
    assert done == ["last"]


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


def _failing(made: list[weakref.ref[_Hanging]]) -> None:
    local = _Hanging()
    made.append(weakref.ref(local))
    raise ValueError("of no use")


@pytest.mark.parametrize("way", ["call", "submit"])
def test_errors_hold_nothing_once_they_are_told(way: str) -> None:
    """Not the frames of what failed, pixels and all, until a collection."""
    threads = Threads(1)
    made: list[weakref.ref[_Hanging]] = []

    async def ask() -> None:
        for _ in range(5):
            with suppress(ValueError):
                await getattr(threads, way)(_failing, made)
        await threads.call(len, "abc")  # the thread has gone on to another call

    gc.collect()
    gc.disable()
    try:
        asyncio.run(ask())
        assert [one() for one in made] == [None] * 5
    finally:
        gc.enable()
        threads.close()


def test_stop_iteration_is_an_error_like_others() -> None:
    """Though no future can carry it."""

    async def ask() -> None:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await asyncio.wait_for(threads.call(next, iter(())), 60)

    threads = Threads(1)
    try:
        asyncio.run(ask())
    finally:
        threads.close()


def test_who_waits_in_the_queue_at_the_end_is_told() -> None:
    threads = Threads(1)
    begun = threading.Event()

    def work() -> str:
        begun.set()
        until(lambda: any(one.cancelled() for one in tuple(threads._calls)))
        return "done"

    async def ask() -> None:
        first = threads.submit(work)
        await _until(begun.is_set)
        second = asyncio.ensure_future(threads.call(len, "abc"))
        await asyncio.sleep(0)
        threads.close()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(second, 60)
        assert await first == "done"

    asyncio.run(ask())


def test_a_thread_that_cannot_be_started(
    hanging: _Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is told, and started for the next; who hangs then is noticed as ever."""
    threads = Threads(1)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def ask() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(SourceUnavailableError, match="threads"):
                await threads.call(len, "abc")
            await asyncio.sleep(0.1)
        assert await threads.call(len, "abcd") == 4
        with pytest.raises(DiskHangsError):
            await asyncio.wait_for(threads.call(hanging.open), 60)
        hanging.answers.set()

    try:
        asyncio.run(ask())
    finally:
        hanging.answers.set()
        threads.close()


def test_a_pause_of_the_process_is_no_disk_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was stopped, say: nobody has had the time to answer."""
    clock = StandingTime()
    monkeypatch.setattr("soda_service.web.threads.time", clock)
    monkeypatch.setattr("soda_service.storage.disks.time", clock)
    monkeypatch.setattr("soda_service.web.threads._LOOK_SECONDS", 10_000.0)  # here, by hand
    hanging = _Hanging()
    threads = Threads(1)

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        asked = asyncio.ensure_future(threads.call(hanging.open))
        await _until(hanging.asked.is_set)
        clock.now += 1.0
        threads._look(loop)
        clock.now += 60.0
        threads._look(loop)
        await asyncio.sleep(0)
        assert not asked.done()
        clock.now += 1.0
        threads._look(loop)
        with pytest.raises(DiskHangsError):
            await asyncio.wait_for(asked, 60)
        hanging.answers.set()

    try:
        asyncio.run(ask())
    finally:
        hanging.answers.set()
        threads.close()
